//! The files of a node's store, changed behind its back as somebody with write access to the disk would.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::Key;

/// sha256 in lower-case hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An artifact of a node that does not run, by the digest that its records have.
#[derive(Clone, Debug)]
pub struct StoredArtifact {
    data: PathBuf,
    digest: String,
}

impl StoredArtifact {
    /// The artifact of this digest in this data folder.
    ///
    /// # Errors
    /// When it is not there.
    pub fn find(data: &Path, digest: &str) -> Result<Self> {
        let stored = Self { data: data.to_owned(), digest: digest.to_owned() };
        ensure!(stored.path("so").is_file(), "{} was not found", stored.path("so").display());
        Ok(stored)
    }

    /// Puts other bytes under its name; every record stays.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn replace(&self, bytes: &[u8]) -> Result<()> {
        fs::write(self.path("so"), bytes).context("another file in the artifact's place")
    }

    /// Puts other bytes in its place and makes every record name them, with a signature over them and good checksums:
    /// all that can be forged by somebody who has the key and the disk.
    ///
    /// # Errors
    /// When a file can't be read or written.
    pub fn forge(&self, bytes: &[u8], key: &Key) -> Result<()> {
        let other = Self { data: self.data.clone(), digest: sha256(bytes) };
        fs::write(other.path("so"), bytes).context("the forged artifact")?;
        let signature = self.data.join("forged.sig");
        key.sign("hot-module", &other.path("so"), &signature)?;
        let signature = fs::read_to_string(signature).context("its signature")?;
        fs::rename(self.path("json"), other.path("json")).context("its record")?;
        for folder in ["artifacts", "modules", "rollouts"] {
            for entry in fs::read_dir(self.data.join(folder)).context("a folder of records")? {
                let path = entry.context("a record")?.path();
                if path.extension().is_some_and(|extension| extension == "json") {
                    let size = (path == other.path("json")).then_some((&*signature, bytes.len()));
                    self.rewrite(&path, &other.digest, size)?;
                }
            }
        }
        fs::remove_file(self.path("so")).context("the artifact that was there")
    }

    /// One record: a line with its kind and its checksum, then the record itself.
    fn rewrite(&self, path: &Path, digest: &str, artifact: Option<(&str, usize)>) -> Result<()> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let (head, record) = text.split_once('\n').context("a record has two lines")?;
        let mut head: serde_json::Value = serde_json::from_str(head).context("the head of a record")?;
        let mut record = record.trim_end().replace(&self.digest, digest);
        if let Some((signature, size)) = artifact {
            let mut fields: serde_json::Value =
                serde_json::from_str(&record).context("an artifact's record")?;
            fields["signature"] = signature.into();
            fields["size"] = size.into();
            record = fields.to_string();
        }
        let field = |name: &str| head[name].as_str().map_or_else(|| head[name].to_string(), str::to_owned);
        let summed = format!("{}\n{}\n{}\n{record}", field("format"), field("kind"), field("generation"));
        head["sha256"] = sha256(summed.as_bytes()).into();
        fs::write(path, format!("{head}\n{record}\n")).with_context(|| path.display().to_string())
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.data.join("artifacts").join(&self.digest).with_extension(extension)
    }
}
