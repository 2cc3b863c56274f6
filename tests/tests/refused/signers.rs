//! Who signs in these tests, what the node makes of them, and the signatures that are no good.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hot_tests::Key;

/// The keys, in a folder that goes with them.
#[derive(Debug)]
pub(crate) struct Signers {
    folder: tempfile::TempDir,
    /// May sign.
    pub(crate) ada: Key,
    /// Stands nowhere.
    pub(crate) stranger: Key,
    /// May sign other things than modules.
    pub(crate) other: Key,
    /// May sign, but none of these modules.
    pub(crate) mallory: Key,
    /// May sign by its second line alone, and the first counts.
    pub(crate) twice: Key,
    /// Revoked.
    pub(crate) lost: Key,
    /// Not yet valid.
    pub(crate) early: Key,
    /// Expired.
    pub(crate) late: Key,
    authority: Key,
    /// Has a certificate by the authority, with an option that nobody knows.
    optional: Key,
}

/// How a bad signature of a file is made.
pub(crate) type Sign = fn(&Signers, &Path) -> Result<String>;

impl Signers {
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for keys")?;
        let key = |name: &str| Key::generate(folder.path().join(name));
        let signers = Self {
            ada: key("ada")?,
            stranger: key("stranger")?,
            other: key("other")?,
            mallory: key("mallory")?,
            twice: key("twice")?,
            lost: key("lost")?,
            early: key("early")?,
            late: key("late")?,
            authority: key("authority")?,
            optional: key("optional")?,
            folder,
        };
        let options = ["-O", "critical:nobody@example.com=knows"];
        signers.authority.certify(&signers.optional, "ada@example.com", &options)?;
        Ok(signers)
    }

    /// The text of the allowed signers.
    pub(crate) fn allowed(&self) -> Result<String> {
        let mut text = String::new();
        for (who, options, key) in [
            ("ada@example.com", "namespaces=\"hot-module\"", &self.ada),
            ("ada@example.com", "namespaces=\"file\"", &self.other),
            ("mallory@example.com", "namespaces=\"hot-module\"", &self.mallory),
            ("mallory@example.com", "namespaces=\"hot-module\"", &self.twice),
            ("ada@example.com", "namespaces=\"hot-module\"", &self.twice),
            ("ada@example.com", "namespaces=\"hot-module\"", &self.lost),
            ("ada@example.com", "namespaces=\"hot-module\",valid-after=\"20990101Z\"", &self.early),
            ("ada@example.com", "namespaces=\"hot-module\",valid-before=\"20200101Z\"", &self.late),
            ("*@example.com", "cert-authority,namespaces=\"hot-module\"", &self.authority),
        ] {
            text += &format!("{who} {options} {}\n", key.public()?);
        }
        Ok(text)
    }

    /// The text of the revoked keys.
    pub(crate) fn revoked(&self) -> Result<String> {
        Ok(self.lost.public()? + "\n")
    }

    /// A signature of a file, for modules.
    pub(crate) fn sign(&self, key: &Key, file: &Path) -> Result<String> {
        self.sign_for("hot-module", key, file)
    }

    fn sign_for(&self, namespace: &str, key: &Key, file: &Path) -> Result<String> {
        let signature = self.scratch("signature");
        key.sign(namespace, file, &signature)?;
        fs::read_to_string(signature).context("a signature")
    }

    fn scratch(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A good one, changed.
    fn changed(&self, file: &Path, change: impl FnOnce(&str) -> String) -> Result<String> {
        let good = self.sign(&self.ada, file)?;
        let changed = change(&good);
        ensure!(changed != good, "nothing was changed in {good}");
        Ok(changed)
    }

    /// A good one of other bytes.
    fn of(&self, bytes: &[u8]) -> Result<String> {
        let other = self.scratch("other-bytes");
        fs::write(&other, bytes).context("other bytes")?;
        self.sign(&self.ada, &other)
    }
}

/// Each line of the fault list about signatures, with the code that it is refused with. Those about time are none once a
/// file was let in.
pub(crate) const SIGNATURES: [(&str, &str, Sign); 19] = [
    ("none", "signature.missing", |_, _| Ok(String::new())),
    ("empty", "signature.malformed", |of, file| {
        of.changed(file, |good| {
            let lines: Vec<&str> = good.lines().collect();
            format!("{}\n{}\n", lines[0], lines[lines.len() - 1])
        })
    }),
    ("truncated", "signature.malformed", |of, file| {
        of.changed(file, |good| good[..good.len() / 2].to_owned())
    }),
    ("trailing bytes", "signature.malformed", |of, file| {
        of.changed(file, |good| format!("{good}and more\n"))
    }),
    ("two armours", "signature.malformed", |of, file| of.changed(file, |good| good.repeat(2))),
    ("CRLF", "signature.malformed", |of, file| of.changed(file, |good| good.replace('\n', "\r\n"))),
    ("an unknown version", "signature.version", |of, file| {
        // The version is the fourth of the bytes behind the magic ones, which make eight letters.
        of.changed(file, |good| good.replacen("U1NIU0lHAAAAAQ", "U1NIU0lHAAAAAg", 1))
    }),
    ("an unknown hash", "signature.hash", |of, file| {
        // `sha512` and `sha999`: for this kind of key the name begins at a multiple of three bytes.
        of.changed(file, |good| good.replacen("c2hhNTEy", "c2hhOTk5", 1))
    }),
    ("an unknown option, of its certificate", "signer.certificate", |of, file| {
        of.sign(&Key::at(of.optional.path().with_file_name("optional-cert.pub")), file)
    }),
    ("wrong key", "signer.not_allowed", |of, file| of.sign(&of.stranger, file)),
    ("wrong namespace", "signature.namespace", |of, file| of.sign_for("file", &of.ada, file)),
    ("a key for another namespace", "signer.not_for_namespace", |of, file| of.sign(&of.other, file)),
    ("wrong principal", "signer.not_for_module", |of, file| of.sign(&of.mallory, file)),
    ("wrong data", "signature.other_bytes", |of, file| {
        let mut bytes = fs::read(file).context("the file")?;
        *bytes.last_mut().context("a byte")? ^= 1;
        of.of(&bytes)
    }),
    ("of another module's file", "signature.other_bytes", |of, _| {
        of.of(&fs::read(hot_tests::Module::new("good").name("neighbour").build()?)?)
    }),
    ("the same key listed twice", "signer.not_for_module", |of, file| of.sign(&of.twice, file)),
    ("revoked", "signer.revoked", |of, file| of.sign(&of.lost, file)),
    ("not yet valid", "signer.not_yet_valid", |of, file| of.sign(&of.early, file)),
    ("expired", "signer.expired", |of, file| of.sign(&of.late, file)),
];
