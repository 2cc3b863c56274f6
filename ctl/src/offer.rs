//! A module's file as it is offered to a node: opened once, and inspected by reading it. No code of it runs.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use hot_artifact::{FileReader, InspectError, Inspection, inspect};

use crate::exit::Exit;
use crate::failure::Failure;

/// A file that is a module.
#[derive(Debug)]
pub(crate) struct Offer {
    pub path: PathBuf,
    pub reader: FileReader,
    pub inspection: Inspection,
}

impl Offer {
    /// Opens and inspects the file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let reader = FileReader::open(path).map_err(|error| unreadable(path, &error))?;
        let inspection = inspect(&reader).map_err(|error| match error {
            InspectError::Io(error) => unreadable(path, &error),
            error => named(path, error.refusal().into()),
        })?;
        Ok(Self { path: path.to_owned(), reader, inspection })
    }

    /// Name of the module.
    pub(crate) fn module(&self) -> String {
        self.inspection.metadata.name.to_string()
    }

    /// Its version.
    pub(crate) fn version(&self) -> String {
        self.inspection.metadata.version.to_string()
    }

    /// sha256 in hexadecimal.
    pub(crate) fn digest(&self) -> String {
        self.inspection.digest.to_string()
    }

    /// Another handle of the open file.
    pub(crate) fn file(&self) -> Result<File, Failure> {
        self.reader.file().try_clone().map_err(|error| unreadable(&self.path, &error))
    }
}

/// A failure about the file at `path`, with the name in front.
pub(crate) fn named(path: &Path, mut failure: Failure) -> Failure {
    failure.sentence = format!("{}: {}", path.display(), failure.sentence);
    failure
}

/// The file at `path` can't be read.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let text = format!("{} can't be read: {error}; check the name and the permissions", path.display());
    Failure::new(Exit::Failed, "file.unreadable", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_a_failure_and_no_module_a_refusal() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.so");
        let failure = Offer::open(&path).expect_err("no file");
        assert_eq!(failure.exit.code(), 1);
        assert!(failure.sentence.contains("a.so can't be read"), "{}", failure.sentence);
        std::fs::write(&path, "hello").expect("writes");
        let failure = Offer::open(&path).expect_err("no module");
        assert_eq!(failure.exit.code(), 4);
        assert!(failure.sentence.contains("a.so: "), "{}", failure.sentence);
        assert!(failure.detail.is_some());
    }
}
