//! Versions of one module without a compiler: the same file with another version of the same length in it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::Module;

/// Versions `1.0.100` to `1.0.999` of the module `probe`.
#[derive(Debug)]
pub struct Series {
    bytes: Vec<u8>,
    file: PathBuf,
}

impl Series {
    const FIRST: &'static str = "1.0.100";

    /// Builds the first one; each is written into `folder` in its turn.
    ///
    /// # Errors
    /// When it does not compile.
    pub fn new(folder: &Path) -> Result<Self> {
        let bytes = fs::read(Module::new("good").version(Self::FIRST).build()?)?;
        Ok(Self { bytes, file: folder.join("series.so") })
    }

    /// The file that holds the one that was written last.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Writes the file in version `1.0.NUMBER`, which it gives.
    ///
    /// # Errors
    /// When the number has not three digits, or the file can't be written.
    pub fn write(&self, number: usize) -> Result<String> {
        ensure!((100..1000).contains(&number), "found {number}, expected three digits");
        let version = format!("1.0.{number}");
        let mut bytes = self.bytes.clone();
        let first = Self::FIRST.as_bytes();
        for at in 0..=bytes.len() - first.len() {
            if bytes[at..].starts_with(first) {
                bytes[at..at + first.len()].copy_from_slice(version.as_bytes());
            }
        }
        fs::write(&self.file, bytes)?;
        Ok(version)
    }
}
