//! The records that dev nodes leave for `hotctl`.
//!
//! `hotd --dev` writes one when it serves and removes it when it ends: the file `dev-PID.json` in the folder `hot` of the
//! user's run-time folder (see [`record_folders`]), mode 0600 in a folder of mode 0700, a JSON object:
//!
//! ```json
//! {"http":"127.0.0.1:8080","grpc":"127.0.0.1:7001","socket":"/tmp/x/hotd.sock","data_dir":"/tmp/x","pid":4711}
//! ```
//!
//! The node holds a lock on its record for as long as it lives, so that one which was killed does not count, whatever its
//! process number stands for by now. Unknown keys are ignored, so that it can grow. A record of another user is not read:
//! its data folder names the key that pushes are signed with.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

/// How the name of a record begins and ends in its folder.
const RECORD: (&str, &str) = ("dev-", ".json");

/// A record is a few hundred bytes. More is something else.
const MAX_RECORD: u64 = 64 * 1024;

/// A dev node, as it recorded itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct DevNode {
    /// Address of its gateway, `ADDR:PORT`.
    pub http: String,
    /// Address of its gRPC, `ADDR:PORT`.
    pub grpc: String,
    /// Its control socket.
    pub socket: PathBuf,
    /// Its data folder: `token`, `dev-key`, `allowed_signers` and `revoked_keys` are in it.
    pub data_dir: PathBuf,
    /// Its process.
    pub pid: u32,
}

/// Why a record is not used.
#[derive(Debug, Error)]
pub(crate) enum RecordError {
    /// It can't be read.
    #[error("can't be read: {0}")]
    Read(#[from] io::Error),
    /// It is another user's.
    #[error("belongs to user {found}, not to you (user {expected})")]
    Owner {
        /// Its owner.
        found: u32,
        /// Who asks.
        expected: u32,
    },
    /// It does not parse.
    #[error("is no record of a dev node: {0}")]
    Parse(#[from] serde_json::Error),
    /// Its node is gone.
    #[error("is of a dev node that no longer runs")]
    Ended,
}

impl DevNode {
    /// Its key, for signing.
    pub(crate) fn key(&self) -> PathBuf {
        self.data_dir.join("dev-key")
    }

    /// The signers that it trusts.
    pub(crate) fn allowed_signers(&self) -> PathBuf {
        self.data_dir.join("allowed_signers")
    }

    /// The keys that count no more for it.
    pub(crate) fn revoked_keys(&self) -> PathBuf {
        self.data_dir.join("revoked_keys")
    }

    /// What its gRPC asks for, without the end of line.
    pub(crate) fn token(&self) -> io::Result<String> {
        Ok(std::fs::read_to_string(self.data_dir.join("token"))?.trim_end().to_owned())
    }
}

/// Folders where a record may be, in the order of search: `$XDG_RUNTIME_DIR/hot`, or without that variable
/// `/run/user/UID/hot`, then `/tmp/hot-UID` (where there is no run-time folder at all).
pub(crate) fn record_folders(runtime_dir: Option<&OsStr>, uid: u32) -> Vec<PathBuf> {
    match runtime_dir.filter(|dir| !dir.is_empty()) {
        Some(dir) => vec![Path::new(dir).join("hot")],
        None => vec![PathBuf::from(format!("/run/user/{uid}/hot")), PathBuf::from(format!("/tmp/hot-{uid}"))],
    }
}

/// The records in `folder` by their names, and why those that are not used are not. None where there is no folder.
pub(crate) fn read_records(folder: &Path, uid: u32) -> Vec<(PathBuf, Result<DevNode, RecordError>)> {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut records: Vec<PathBuf> = names.filter(|path| is_record(path)).collect();
    records.sort();
    records.into_iter().map(|path| (path.clone(), read_record(&path, uid))).collect()
}

fn is_record(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.starts_with(RECORD.0) && name.ends_with(RECORD.1)
}

fn read_record(path: &Path, uid: u32) -> Result<DevNode, RecordError> {
    let file = File::open(path)?;
    let owner = file.metadata()?.uid();
    if owner != uid {
        return Err(RecordError::Owner { found: owner, expected: uid });
    }
    // Shared, so that of two that look at once none takes the other for the node.
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        Ok(()) => return Err(RecordError::Ended),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    let mut text = String::new();
    file.take(MAX_RECORD).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn own_uid(folder: &Path) -> u32 {
        std::fs::metadata(folder).expect("exists").uid()
    }

    /// Leaves the record of a node that runs for as long as the file is held.
    pub(crate) fn record(folder: &Path, pid: u32, data_dir: &str) -> File {
        let text = format!(
            r#"{{"http":"127.0.0.1:1","grpc":"127.0.0.1:{pid}","socket":"{data_dir}/hotd.sock","data_dir":"{data_dir}","pid":{pid},"new":true}}"#
        );
        let path = folder.join(format!("dev-{pid}.json"));
        std::fs::write(&path, text).expect("writes");
        let file = File::open(path).expect("opens");
        file.try_lock().expect("nobody else's");
        file
    }

    #[test]
    fn records_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let uid = own_uid(folder.path());
        assert!(read_records(&folder.path().join("none"), uid).is_empty(), "none yet");
        let _nodes = [record(folder.path(), 3, "/d"), record(folder.path(), 4, "/e")];
        std::fs::write(folder.path().join("dev-5.json.new"), "half").expect("writes");
        let read = read_records(folder.path(), uid);
        let nodes: Vec<DevNode> = read.into_iter().map(|(_, node)| node.expect("reads")).collect();
        assert_eq!(nodes.iter().map(|node| node.pid).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(nodes[0].grpc, "127.0.0.1:3");
        assert_eq!(nodes[0].key(), Path::new("/d/dev-key"));
        assert_eq!(nodes[1].allowed_signers(), Path::new("/e/allowed_signers"));
    }

    #[test]
    fn a_record_that_must_not_be_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let uid = own_uid(folder.path());
        let node = record(folder.path(), 3, "/d");
        let path = folder.path().join("dev-3.json");
        assert!(matches!(read_record(&path, uid + 1), Err(RecordError::Owner { .. })));
        std::fs::write(&path, "{").expect("writes");
        assert!(matches!(read_record(&path, uid), Err(RecordError::Parse(_))));
        drop(node);
        // This process runs, and is no node.
        assert!(matches!(read_record(&path, uid), Err(RecordError::Ended)));
        std::fs::remove_file(&path).expect("removes");
        assert!(matches!(read_record(&path, uid), Err(RecordError::Read(_))));
    }

    #[test]
    fn folders_follow_the_variable() {
        assert_eq!(record_folders(Some(OsStr::new("/run/x")), 7), [Path::new("/run/x/hot")]);
        let fallback = [Path::new("/run/user/7/hot"), Path::new("/tmp/hot-7")];
        assert_eq!(record_folders(None, 7), fallback);
        assert_eq!(record_folders(Some(OsStr::new("")), 7), fallback);
    }
}
