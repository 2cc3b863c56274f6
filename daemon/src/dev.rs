//! What `hotd --dev` needs and makes by itself: a data folder with a signing key, the file that trusts it, a token for
//! its loopback port, and the record by which `hotctl` finds the node.
//!
//! Does not know what the node does with any of them. Layout, all inside the data folder (mode 0700):
//! `dev-key` (OpenSSH private key, 0600), `allowed_signers`, `revoked_keys`, `token` (0600), `hotd.sock`, `spawn.sock`.
//! The record is `hot/dev-PID.json` in the user's run-time folder: `docs/cli.md` describes it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hot_artifact::signature::{MODULE_NAMESPACE, generate_key};
use serde::Serialize;

use crate::store::{FolderError, prepare_folder};

/// The principal that the dev node's own key counts as.
pub const PRINCIPAL: &str = "dev";

/// Bytes of randomness in a token: as many as in a 256-bit key.
const TOKEN_BYTES: usize = 32;

/// Why a dev node can't be prepared.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// A file or folder can't be made or read.
    #[error("{path}: {action} failed: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The data folder can't be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The records' folder is another user's: they would be theirs to replace.
    #[error(
        "{path}, where hotctl looks for dev nodes, belongs to user {found}, expected user {expected}, who runs hotd; \
         remove it, or set XDG_RUNTIME_DIR to a folder of your own",
        path = path.display()
    )]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        found: u32,
        /// Who runs this process.
        expected: u32,
    },
}

/// The files of a dev node.
#[derive(Debug, Clone)]
pub struct DevFolder {
    dir: PathBuf,
    token: String,
}

impl DevFolder {
    /// Makes whatever of it is missing in `dir` and reads the rest.
    pub fn prepare(dir: &Path) -> Result<Self, DevError> {
        prepare_folder(dir)?;
        let key_path = dir.join("dev-key");
        let signers = dir.join("allowed_signers");
        if !key_path.exists() {
            let failed = |source| DevError::Io { path: key_path.clone(), action: "making a key", source };
            let key = generate_key(PRINCIPAL).map_err(failed)?;
            // The key last: where it is, the rest is whole.
            let line = format!("{PRINCIPAL} namespaces=\"{MODULE_NAMESPACE}\" {}\n", key.public);
            write_private(&signers, line.as_bytes())?;
            write_private(&key_path, key.private.as_bytes())?;
        }
        let revoked = dir.join("revoked_keys");
        if !revoked.exists() {
            write_private(&revoked, b"")?;
        }
        let token = token(&dir.join("token"))?;
        Ok(Self { dir: dir.to_owned(), token })
    }

    /// Where the node listens for `hotctl` on this machine.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("hotd.sock")
    }

    /// Where its `hot-spawn` listens.
    #[must_use]
    pub fn spawn_socket(&self) -> PathBuf {
        self.dir.join("spawn.sock")
    }

    /// What a caller on the loopback port must show.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn private_folder(dir: &Path) -> Result<(), DevError> {
    let failed = |action| move |source| DevError::Io { path: dir.to_owned(), action, source };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("creating the folder"))?;
    let found = dir.metadata().map_err(failed("reading the folder"))?.uid();
    let expected = uid();
    if found == expected { Ok(()) } else { Err(DevError::Owner { path: dir.to_owned(), found, expected }) }
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), DevError> {
    let failed = |action| move |source| DevError::Io { path: path.to_owned(), action, source };
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(failed("creating the file"))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("writing"))
}

fn token(path: &Path) -> Result<String, DevError> {
    let failed = |action| move |source| DevError::Io { path: path.to_owned(), action, source };
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().len() == 2 * TOKEN_BYTES => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("reading")(error)),
    }
    let mut random = [0_u8; TOKEN_BYTES];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(failed("drawing a token"))?;
    let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    write_private(path, format!("{token}\n").as_bytes())?;
    Ok(token)
}

/// How `hotctl` finds this node; removed when dropped.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    /// Its lock says that the node lives: it goes with the process, however that ends.
    _lock: File,
}

#[derive(Debug, Serialize)]
struct RecordFile<'a> {
    http: String,
    grpc: String,
    socket: &'a Path,
    data_dir: &'a Path,
    pid: u32,
}

impl Record {
    /// Writes it, and removes those of nodes that were killed. With it come the records of other dev nodes that run:
    /// from here on `hotctl` must be told which one is meant.
    pub fn write(folder: &DevFolder, http: String, grpc: String) -> Result<(Self, Vec<PathBuf>), DevError> {
        Self::write_in(&record_folder(), folder, http, grpc)
    }

    fn write_in(
        dir: &Path,
        folder: &DevFolder,
        http: String,
        grpc: String,
    ) -> Result<(Self, Vec<PathBuf>), DevError> {
        private_folder(dir)?;
        let pid = std::process::id();
        let path = dir.join(format!("dev-{pid}.json"));
        let failed = |action| {
            let path = path.clone();
            move |source| DevError::Io { path, action, source }
        };
        let others = sweep(dir);
        let record = RecordFile { http, grpc, socket: &folder.socket(), data_dir: &folder.dir, pid };
        let text = serde_json::to_vec(&record).map_err(|error| failed("writing")(error.into()))?;
        // A reader sees no record or a whole one whose node lives, never half of one.
        let fresh = dir.join(format!("dev-{pid}.json.new"));
        write_private(&fresh, &text)?;
        let lock = File::open(&fresh).map_err(failed("opening"))?;
        lock.lock().map_err(failed("locking"))?;
        std::fs::rename(&fresh, &path).map_err(failed("renaming"))?;
        Ok((Self { path, _lock: lock }, others))
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the record of this dev node stays behind");
        }
    }
}

/// Removes the records of nodes that run no more; gives those of nodes that do.
fn sweep(dir: &Path) -> Vec<PathBuf> {
    let mut living = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_record = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with("dev-") && name.ends_with(".json"));
        if !is_record {
            continue;
        }
        let lives = File::open(&path)
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)));
        if lives {
            living.push(path);
        } else if let Err(error) = std::fs::remove_file(&path) {
            tracing::debug!(path = %path.display(), %error, "the record of a dev node that ended stays behind");
        }
    }
    living
}

fn record_folder() -> PathBuf {
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        return PathBuf::from(dir).join("hot");
    }
    let run = PathBuf::from(format!("/run/user/{}", uid()));
    if run.is_dir() { run.join("hot") } else { std::env::temp_dir().join(format!("hot-{}", uid())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preparing_twice_keeps_key_and_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node");
        let first = DevFolder::prepare(&path).unwrap();
        let key = std::fs::read(path.join("dev-key")).unwrap();
        let second = DevFolder::prepare(&path).unwrap();
        assert_eq!(first.token(), second.token());
        assert_eq!(first.token().len(), 2 * TOKEN_BYTES);
        assert_eq!(std::fs::read(path.join("dev-key")).unwrap(), key);
        let mode = |name: &str| path.join(name).metadata().unwrap().mode() & 0o777;
        assert_eq!((mode("dev-key"), mode("token"), mode(".")), (0o600, 0o600, 0o700));
        assert_eq!(std::fs::read(path.join("revoked_keys")).unwrap(), b"");
        let signers = std::fs::read_to_string(path.join("allowed_signers")).unwrap();
        assert!(signers.starts_with("dev namespaces=\"hot-module\" ssh-ed25519 "), "{signers}");
    }

    #[test]
    fn a_record_lives_as_long_as_its_node_and_takes_no_others_place() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let folder = DevFolder::prepare(&dir.path().join("node")).unwrap();
        std::fs::create_dir(&run).unwrap();
        let [killed, other] = [run.join("dev-1.json"), run.join("dev-2.json")];
        write_private(&killed, b"{}").unwrap();
        write_private(&other, b"{}").unwrap();
        let running = File::open(&other).unwrap();
        running.lock().unwrap();
        let (record, others) =
            Record::write_in(&run, &folder, "127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()).unwrap();
        assert_eq!(others, [other.as_path()]);
        assert!(!killed.exists(), "it says nothing true any more");
        let path = record.path.clone();
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"grpc\":\"127.0.0.1:2\""));
        assert_eq!(sweep(&run).len(), 2);
        drop(record);
        assert!(!path.exists() && other.exists());
    }
}
