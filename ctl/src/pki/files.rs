//! Writing certificates and keys: each file whole or not at all, and no key for others to read at any time.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::PkiError;

/// Of a certificate, which is for everybody.
const CERTIFICATE: u32 = 0o644;

/// Of a key.
const KEY: u32 = 0o600;

/// What a key keeps of the permissions of the one before: a group that may read it is somebody's choice.
const KEPT: u32 = 0o640;

/// A folder that is its user's alone, where there is none yet.
pub(crate) fn new_folder(folder: &Path) -> Result<(), PkiError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| PkiError::Write { path: folder.to_owned(), source })
}

/// Fails where one of the files is there.
pub(crate) fn must_be_free(paths: &[&Path], advice: &'static str) -> Result<(), PkiError> {
    match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(PkiError::Exists { path: path.to_path_buf(), advice }),
        None => Ok(()),
    }
}

/// Writes a certificate and its key where no file is.
pub(crate) fn write_new(
    [certificate, key]: [(&Path, &str); 2],
    advice: &'static str,
) -> Result<(), PkiError> {
    must_be_free(&[certificate.0, key.0], advice)?;
    let all = [
        Fresh::write(key.0, key.1, KEY, None)?,
        Fresh::write(certificate.0, certificate.1, CERTIFICATE, None)?,
    ];
    all.into_iter().try_for_each(|fresh| fresh.take_free_place(advice))
}

/// Writes a certificate and its key in the place of those that are there. Both are on the disk before either is in place, so
/// that a program which reads them anew finds two of different pairs for a moment at most.
pub(crate) fn write_over([certificate, key]: [(&Path, &str); 2]) -> Result<(), PkiError> {
    // A symbolic link stays one: what it leads to is replaced.
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_missing| path.to_owned());
    let ([at, key_at], [text, key_text]) = ([real(certificate.0), real(key.0)], [certificate.1, key.1]);
    let mode = |path: &Path| fs::metadata(path).ok().map(|found| found.permissions().mode());
    let key_mode = mode(&key_at).map_or(KEY, |mode| mode & KEPT | KEY);
    let certificate_mode = mode(&at).map_or(CERTIFICATE, |mode| mode & 0o777);
    let new_key = Fresh::write(&key_at, key_text, key_mode, owner(&key_at))?;
    let new = Fresh::write(&at, text, certificate_mode, owner(&at))?;
    new_key.replace()?;
    new.replace()
}

fn owner(path: &Path) -> Option<(u32, u32)> {
    fs::metadata(path).ok().map(|found| (found.uid(), found.gid()))
}

/// A file that is written, beside its place. It goes away unless it gets there.
struct Fresh {
    path: PathBuf,
    place: PathBuf,
}

impl Fresh {
    fn write(place: &Path, text: &str, mode: u32, owner: Option<(u32, u32)>) -> Result<Self, PkiError> {
        let failed = |source| PkiError::Write { path: place.to_owned(), source };
        let mut name = place.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let path = place.with_file_name(name);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(KEY).open(&path).map_err(failed)?;
        let fresh = Self { path, place: place.to_owned() };
        if let Some((uid, gid)) = owner {
            let own = file.metadata().map_err(failed)?;
            if (own.uid(), own.gid()) != (uid, gid) {
                let given = std::os::unix::fs::fchown(&file, Some(uid), Some(gid));
                given.map_err(|source| PkiError::Owner { path: place.to_owned(), source })?;
            }
        }
        file.set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(fresh)
    }

    /// Gets its name, which nobody has; also where somebody takes it at the same time.
    fn take_free_place(self, advice: &'static str) -> Result<(), PkiError> {
        match fs::hard_link(&self.path, &self.place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(PkiError::Exists { path: self.place.clone(), advice })
            }
            placed => self.written(placed),
        }
    }

    fn replace(self) -> Result<(), PkiError> {
        let placed = fs::rename(&self.path, &self.place);
        self.written(placed)
    }

    fn written(&self, placed: io::Result<()>) -> Result<(), PkiError> {
        let folder = self.place.parent().filter(|folder| !folder.as_os_str().is_empty());
        let synced = placed.and_then(|()| File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all());
        synced.map_err(|source| PkiError::Write { path: self.place.clone(), source })
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Once it was renamed there is nothing here any more.
        drop(fs::remove_file(&self.path));
    }
}
