//! The lines of the fault list: bad files and bad signatures, and what each comes to at every entry.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use hot_tests::{Artifact, Marker, Module};

use crate::cases;
use crate::signers::{SIGNATURES, Sign, Signers};

/// Name of the modules that are built; each line has one of the same length.
pub(crate) const PATTERN: &str = "probe-000";
/// The version that is refused.
pub(crate) const VERSION: &str = "1.0.0";

/// Where a file comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Upload,
    Boot,
    Rollback,
    Promote,
}

impl Entry {
    /// As the page says it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Boot => "boot",
            Self::Rollback => "rollback",
            Self::Promote => "promote",
        }
    }

    /// The name of the marker that says that code of the module of this name has run. Each test has its own.
    pub(crate) fn marker(self, module: &str) -> String {
        format!("{}{module}", self.marker_start())
    }

    fn marker_start(self) -> String {
        format!("constructed-{}-", &self.name()[..1])
    }

    /// What is built has this in the place of [`Entry::marker_start`], so that it is built once for all.
    const MARKER_START: &'static str = "constructed-x-";

    fn marker_as_built() -> PathBuf {
        Marker::path(&format!("{}{PATTERN}", Self::MARKER_START))
    }
}

/// What a line comes to at an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Refused,
    CountsOn,
    /// It can't be tried there.
    Never,
}

impl Outcome {
    /// As the page says it.
    pub(crate) const fn cell(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::CountsOn => "counts on",
            Self::Never => "-",
        }
    }
}

/// What is wrong.
enum Fault {
    /// The file, well signed.
    File(Vec<u8>),
    /// The signature of a good file.
    Signature(Sign),
    /// What is in the store, and what is said of it.
    Store(Forge, &'static str),
}

/// Makes the artifact of a module of this name something else than what is on record of it.
type Forge = fn(&Built, &str, Artifact) -> Result<Artifact>;

/// One line of the fault list.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    /// The stable code.
    pub(crate) code: &'static str,
    fault: Fault,
    number: usize,
}

impl Line {
    /// Every line.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let marker = Entry::marker_as_built();
        let files =
            cases::all(&marker)?.into_iter().map(|case| (case.name, case.code, Fault::File(case.bytes)));
        let signatures = SIGNATURES.map(|(name, code, sign)| (name, code, Fault::Signature(sign)));
        let store: [(_, _, Fault); 3] = [
            ("other bytes than those on record", "file.other_digest", Fault::Store(other_bytes, OTHER_BYTES)),
            (
                "another module's file, well signed",
                "file.other_module",
                Fault::Store(other_module, OTHER_MODULE),
            ),
            (
                "another version's file, well signed",
                "file.other_module",
                Fault::Store(other_version, OTHER_VERSION),
            ),
        ];
        let lines = files.chain(signatures).chain(store);
        let lines = (1..).zip(lines).map(|(number, (name, code, fault))| Self { name, code, fault, number });
        Ok(lines.collect())
    }

    /// Whether it is about the file and not about its signature.
    pub(crate) const fn is_file(&self) -> bool {
        matches!(self.fault, Fault::File(_))
    }

    /// What it comes to at an entry.
    pub(crate) fn outcome(&self, at: Entry) -> Outcome {
        match (&self.fault, at) {
            (Fault::Store(..), Entry::Upload) => Outcome::Never,
            (_, Entry::Upload) => Outcome::Refused,
            _ if matches!(self.code, "signer.not_yet_valid" | "signer.expired") => Outcome::CountsOn,
            _ => Outcome::Refused,
        }
    }

    /// What is said of it where that can't be found out at the upload.
    pub(crate) const fn said(&self) -> Option<&'static str> {
        match self.fault {
            Fault::Store(_, said) => Some(said),
            Fault::File(_) | Fault::Signature(_) => None,
        }
    }

    /// The name of its module.
    pub(crate) fn module(&self) -> String {
        format!("probe-{:03}", self.number)
    }

    /// What its module has as [`VERSION`].
    pub(crate) fn artifact(&self, built: &Built) -> Result<Artifact> {
        let module = self.module();
        let bytes = match &self.fault {
            Fault::File(bytes) => built.named(bytes, &module)?,
            Fault::Signature(_) | Fault::Store(..) => built.named(&built.marked(VERSION)?, &module)?,
        };
        let file = built.file(&bytes)?;
        let signature = match self.fault {
            Fault::Signature(sign) => sign(&built.signers, &file)?,
            Fault::File(_) | Fault::Store(..) => built.signers.sign(&built.signers.ada, &file)?,
        };
        let artifact = Artifact::new(bytes, signature);
        match self.fault {
            Fault::Store(forge, _) => forge(built, &module, artifact),
            Fault::File(_) | Fault::Signature(_) => Ok(artifact),
        }
    }

    /// A good artifact of its module in another version, which leaves no marker.
    pub(crate) fn good(&self, built: &Built, version: &str) -> Result<Artifact> {
        let plain = Module::new("good").name(PATTERN).version(version).build()?;
        built.sign(built.named(&fs::read(plain)?, &self.module())?)
    }
}

const OTHER_BYTES: &str = "digest: found DIGEST, expected DIGEST; the stored file was damaged or changed; push the \
                           version again";
const OTHER_MODULE: &str = "metadata: found `neighbour 1.0.0`, expected `MODULE 1.0.0`, as on record; the node's \
                            records were changed; push the version again";
const OTHER_VERSION: &str = "metadata: found `MODULE 0.0.1`, expected `MODULE 1.0.0`, as on record; the node's \
                             records were changed; push the version again";

/// A module as good as the first, but not the bytes that are on record.
fn other_bytes(built: &Built, _module: &str, artifact: Artifact) -> Result<Artifact> {
    let mut bytes = artifact.bytes;
    *bytes.last_mut().context("a byte")? ^= 1;
    let other = built.sign(bytes)?;
    ensure!(other.digest != artifact.digest, "they are the same bytes");
    Ok(Artifact { digest: artifact.digest, ..other })
}

fn other_module(built: &Built, _module: &str, _artifact: Artifact) -> Result<Artifact> {
    // Not the bytes of the module that serves: they are on record already.
    let neighbour = Module::new("good").name("neighbour").number("START_MS", 1);
    built.sign(fs::read(neighbour.build()?)?)
}

fn other_version(built: &Built, module: &str, _artifact: Artifact) -> Result<Artifact> {
    built.sign(built.named(&built.marked("0.0.1")?, module)?)
}

/// What files are made of, for the test of one entry.
pub(crate) struct Built {
    pub(crate) signers: Signers,
    entry: Entry,
    folder: tempfile::TempDir,
}

impl Built {
    pub(crate) fn new(entry: Entry) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for files")?;
        Ok(Self { signers: Signers::new()?, entry, folder })
    }

    /// The good module that makes a marker.
    fn marked(&self, version: &str) -> Result<Vec<u8>> {
        let marker = Entry::marker_as_built();
        Ok(fs::read(cases::marked("good", &marker).version(version).build()?)?)
    }

    /// As if it had been built under this name, for this entry.
    fn named(&self, bytes: &[u8], module: &str) -> Result<Vec<u8>> {
        ensure!(module.len() == PATTERN.len(), "{module:?} has another length than {PATTERN:?}");
        let bytes = replaced(bytes, PATTERN, module);
        Ok(replaced(&bytes, Entry::MARKER_START, &self.entry.marker_start()))
    }

    fn sign(&self, bytes: Vec<u8>) -> Result<Artifact> {
        let signature = self.signers.sign(&self.signers.ada, &self.file(&bytes)?)?;
        Ok(Artifact::new(bytes, signature))
    }

    /// A file with these bytes, until the next one.
    pub(crate) fn file(&self, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.folder.path().join("module.so");
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(from.len()).position(|window| window == from.as_bytes()) {
        at += found;
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        at += to.len();
    }
    bytes
}
