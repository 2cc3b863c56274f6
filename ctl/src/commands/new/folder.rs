//! Writes a folder whole or not at all: into one beside it, which then takes its name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::template::File;

/// Why a folder was not written. Nothing is left of the attempt.
#[derive(Debug, Error)]
pub(super) enum FolderError {
    /// There is something of that name that is not an empty folder.
    #[error("{} is there already; choose another name, or another place to run this in", .0.display())]
    Taken(PathBuf),
    /// The system refused.
    #[error("{} can't be written: {source}", .path.display())]
    Io {
        /// What was to be written.
        path: PathBuf,
        source: io::Error,
    },
}

impl FolderError {
    /// The word for programs.
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Taken(_) => "folder.taken",
            Self::Io { .. } => "folder.not_written",
        }
    }
}

/// Removes a folder unless it was moved away.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What can't be removed could not be told to anybody who can do more.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Writes `files` into `folder`, which is not there or is empty.
pub(super) fn write(folder: &Path, files: &[File]) -> Result<(), FolderError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| FolderError::Io { path, source }
    };
    if !is_free(folder).map_err(fail(folder))? {
        return Err(FolderError::Taken(folder.to_owned()));
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(folder.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    let unfinished = folder.with_file_name(name);
    fs::create_dir(&unfinished).map_err(fail(&unfinished))?;
    let unfinished = Unfinished(unfinished);
    for file in files {
        let path = unfinished.0.join(file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(fail(parent))?;
        }
        fs::write(&path, &file.text).map_err(fail(&path))?;
    }
    // Takes the place of an empty folder, and of nothing else that may have come meanwhile.
    fs::rename(&unfinished.0, folder).map_err(|source| match source.kind() {
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            FolderError::Taken(folder.to_owned())
        }
        _ => FolderError::Io { path: folder.to_owned(), source },
    })
}

/// Nothing is there, or an empty folder.
fn is_free(folder: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(folder) {
        Ok(found) if found.is_dir() => Ok(fs::read_dir(folder)?.next().is_none()),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> [File; 2] {
        [File { path: "a", text: "one".to_owned() }, File { path: "b/c/d", text: "two".to_owned() }]
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .expect("reads")
            .map(|entry| entry.expect("reads").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn all_files_or_none() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("x");
        write(&folder, &files()).expect("writes");
        assert_eq!(fs::read_to_string(folder.join("b/c/d")).expect("reads"), "two");
        // The second file needs a folder where the first is a file.
        let broken = [File { path: "a", text: String::new() }, File { path: "a/b", text: String::new() }];
        assert!(matches!(write(&root.path().join("y"), &broken), Err(FolderError::Io { .. })));
        assert_eq!(names(root.path()), ["x"]);
    }

    #[test]
    fn an_empty_folder_is_taken_and_anything_else_is_left_alone() {
        let root = tempfile::tempdir().expect("a folder");
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("empty")).expect("a folder");
        write(&at("empty"), &files()).expect("writes");
        assert!(matches!(write(&at("empty"), &files()), Err(FolderError::Taken(_))));
        fs::write(at("file"), "mine").expect("writes");
        std::os::unix::fs::symlink("nowhere", at("link")).expect("a link");
        for taken in ["file", "link"] {
            assert!(matches!(write(&at(taken), &files()), Err(FolderError::Taken(_))), "{taken}");
        }
        assert_eq!(fs::read_to_string(at("file")).expect("reads"), "mine");
        assert_eq!(names(root.path()), ["empty", "file", "link"]);
    }
}
