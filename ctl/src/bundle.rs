//! What a push consists of: files of one module, opened, inspected and signed. Knows nothing of how they get anywhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hot_artifact::signature::{FileHashes, Hash, Signature};
use hot_artifact::{FileReader, ReadAt as _};
use hot_proto::v1::{NeededLibrary, PlannedFile, StartModule};

use crate::failure::Failure;
use crate::offer::{Offer, unreadable};
use crate::output::{Out, OutputError, Tone, paint};
use crate::signing::{Means, Unsigned};
use crate::words;

/// The files of a push.
#[derive(Debug)]
pub(crate) struct Bundle {
    offers: Vec<Offer>,
    /// What they are to the node.
    pub modules: Vec<StartModule>,
}

/// A file with its signature.
#[derive(Debug)]
pub(crate) struct Signed {
    pub offer: Offer,
    /// The armoured SSHSIG, or empty.
    pub signature: Vec<u8>,
    /// sha512 in hexadecimal, where the signature is over that.
    sha512: String,
}

impl Bundle {
    /// Opens and inspects the files, which must be those of one version of one module, one for each target.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self, Failure> {
        let offers = paths.iter().map(|path| Offer::open(path)).collect::<Result<Vec<_>, _>>()?;
        let modules = modules(&offers)?;
        one_module(&modules)?;
        Ok(Self { offers, modules })
    }

    /// Tells what the files are.
    pub(crate) fn announce(&self, out: &mut Out) -> Result<(), OutputError> {
        for offer in &self.offers {
            let (digest, size) = (offer.digest(), words::size(offer.reader.size()));
            let name = paint(&format!("{} {}", offer.module(), offer.version()), Tone::Strong, out.colour());
            let target = offer.inspection.target;
            out.tell(&format!("{name} for {target}, {size}, sha256 {}", words::short_digest(&digest)))?;
        }
        Ok(())
    }

    /// Gives each file its signature.
    pub(crate) async fn sign(self, means: Means) -> Result<Vec<Signed>, Failure> {
        let mut files = Vec::new();
        for offer in &self.offers {
            let reader = FileReader::new(offer.file()?).map_err(|error| unreadable(&offer.path, &error))?;
            files.push(Unsigned { path: offer.path.clone(), reader, digest: offer.inspection.digest });
        }
        // Beside the connection, not in its way: an agent may wait for a person.
        let signatures = tokio::task::spawn_blocking(move || {
            let signatures = means.signatures(&files)?;
            let signed = files.iter().zip(signatures).map(|(file, signature)| {
                let sha512 =
                    sha512(&file.reader, &signature).map_err(|error| unreadable(&file.path, &error))?;
                Ok((signature, sha512))
            });
            signed.collect::<Result<Vec<_>, Failure>>()
        });
        let signatures = signatures.await.map_err(|error| Failure::failed("internal", error))??;
        let signed = self.offers.into_iter().zip(signatures);
        Ok(signed.map(|(offer, (signature, sha512))| Signed { offer, signature, sha512 }).collect())
    }
}

impl Signed {
    /// What is said of it to a node that has not got its bytes.
    pub(crate) fn planned(&self) -> PlannedFile {
        let inspection = &self.offer.inspection;
        let library = |of: &hot_artifact::NeededLibrary| NeededLibrary {
            name: of.name.clone(),
            versions: of.versions.clone(),
        };
        PlannedFile {
            digest: self.offer.digest(),
            sha512: self.sha512.clone(),
            size: inspection.size,
            target: inspection.target.to_string(),
            metadata: inspection.metadata_text.clone(),
            signature: self.signature.clone(),
            needed: inspection.needed.iter().map(library).collect(),
            entry_abi: Some(inspection.entry.abi),
        }
    }
}

/// The sha512 of a file where its signature is over that; nothing where it is over the sha256, which is known, or can't
/// be read, which the node says.
fn sha512(reader: &FileReader, signature: &[u8]) -> std::io::Result<String> {
    match Signature::parse(signature) {
        Ok(signature) if signature.hash() == Hash::Sha512 => {
            Ok(FileHashes::of(reader)?.sha512.iter().map(|byte| format!("{byte:02x}")).collect())
        }
        _ => Ok(String::new()),
    }
}

/// What the files are to the node: files of one version are its targets.
fn modules(offers: &[Offer]) -> Result<Vec<StartModule>, Failure> {
    let mut modules: BTreeMap<String, (StartModule, BTreeMap<String, &Path>)> = BTreeMap::new();
    for offer in offers {
        let (name, version) = (offer.module(), offer.version());
        let (module, targets) = modules.entry(name.clone()).or_insert_with(|| {
            let module = StartModule { module: name.clone(), version: version.clone(), digests: Vec::new() };
            (module, BTreeMap::new())
        });
        if module.version != version {
            return Err(Failure::usage(format!(
                "{name} is there in versions {} and {version}: expected one version of a module in a push",
                module.version
            )));
        }
        let target = offer.inspection.target.to_string();
        if let Some(other) = targets.insert(target.clone(), &offer.path) {
            return Err(Failure::usage(format!(
                "{} and {} are both {name} {version} for {target}: expected one file for each target",
                other.display(),
                offer.path.display()
            )));
        }
        module.digests.push(offer.digest());
    }
    Ok(modules.into_values().map(|(module, _)| module).collect())
}

/// A rollout of this version moves one module; said before anything is sent.
fn one_module(modules: &[StartModule]) -> Result<(), Failure> {
    if modules.len() <= 1 {
        return Ok(());
    }
    let names: Vec<&str> = modules.iter().map(|module| module.module.as_str()).collect();
    Err(Failure::refused(
        "several_modules",
        format!(
            "these files are of {} modules ({}), and a rollout moves one in this version; push them one after the \
             other, nothing was sent",
            names.len(),
            names.join(", ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_moves_one_module() {
        let module = |name: &str| StartModule { module: name.to_owned(), ..StartModule::default() };
        assert!(one_module(&[module("a")]).is_ok());
        let failure = one_module(&[module("a"), module("b")]).expect_err("two");
        assert_eq!((failure.exit.code(), failure.code.as_str()), (4, "several_modules"));
        assert!(failure.sentence.contains("2 modules (a, b)"), "{}", failure.sentence);
    }

    #[test]
    fn a_sha512_is_made_where_the_signature_is_over_it() {
        use hot_artifact::signature::{MODULE_NAMESPACE, Signer, generate_key, sign_with};
        let folder = tempfile::tempdir().expect("a folder");
        let (file, key) = (folder.path().join("a.so"), folder.path().join("key"));
        std::fs::write(&file, b"abc").expect("writes");
        std::fs::write(&key, generate_key("test").expect("a key").private).expect("writes");
        let reader = FileReader::open(&file).expect("opens");
        let mut signer = Signer::from_file(&key).expect("a signer");
        let mut made = |hash| {
            let signature = sign_with(&reader, MODULE_NAMESPACE, hash, &mut signer).expect("signs");
            sha512(&reader, signature.as_bytes()).expect("reads")
        };
        assert_eq!(made(Hash::Sha256), "");
        let sha512_of = made(Hash::Sha512);
        // FIPS 180-4, the example "abc".
        assert!(
            sha512_of.starts_with("ddaf35a193617abacc417349ae204131") && sha512_of.len() == 128,
            "{sha512_of}"
        );
        assert_eq!(sha512(&reader, b"").expect("reads"), "");
    }
}
