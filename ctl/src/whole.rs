//! Putting a text in the place of a file, whole.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Puts a text in the place of a file, whole or not at all, with the file's permissions.
pub(crate) fn replace(file: &Path, text: &str) -> Result<(), Failure> {
    put(file, text).map_err(|error| {
        let sentence = format!("{} can't be written: {error}; it is as it was", file.display());
        Failure::failed("file.not_written", sentence)
    })
}

fn put(file: &Path, text: &str) -> io::Result<()> {
    // A symbolic link stays one: what it leads to is replaced.
    let file = fs::canonicalize(file).unwrap_or_else(|_missing| file.to_owned());
    let folder =
        file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = Unfinished(folder.join(name));
    let mut written = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&fresh.0)?;
    if let Ok(metadata) = fs::metadata(&file) {
        written.set_permissions(Permissions::from_mode(metadata.permissions().mode()))?;
    }
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    fs::rename(&fresh.0, &file)?;
    File::open(folder)?.sync_all()
}

/// A file that goes away unless it got its name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Once it has its name there is nothing here any more.
        drop(fs::remove_file(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_permissions() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("signers"), folder.path().join("link"));
        replace(&file, "one\n").expect("writes");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("sets");
        std::os::unix::fs::symlink(&file, &link).expect("links");
        replace(&link, "two\n").expect("writes");
        assert_eq!(fs::read_to_string(&file).expect("reads"), "two\n");
        assert_eq!(fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).expect("is there").is_symlink());
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 2, "nothing else is left");
        assert!(replace(Path::new("/nonexistent/signers"), "x").is_err());
    }
}
