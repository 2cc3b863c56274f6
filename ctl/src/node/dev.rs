//! The record that a dev node leaves for `hotctl`.
//!
//! `hotd --dev` writes it when it serves and removes it when it ends; the last one started wins. It is the file
//! `hot/dev.json` in the user's run-time folder (see [`record_folders`]), mode 0600 in a folder of mode 0700, a JSON
//! object:
//!
//! ```json
//! {"http":"127.0.0.1:8080","grpc":"127.0.0.1:7001","socket":"/tmp/x/hotd.sock","data_dir":"/tmp/x","pid":4711}
//! ```
//!
//! Unknown keys are ignored, so that it can grow. A record of another user is not read: its data folder names the key
//! that pushes are signed with.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

/// Name of the record in its folder.
const RECORD: &str = "dev.json";

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
    /// Its process is gone.
    #[error("is of process {0}, which no longer runs")]
    Ended(u32),
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

/// Reads the record in `folder`. `None`: there is none.
pub(crate) fn read_record(folder: &Path, uid: u32) -> Result<Option<DevNode>, RecordError> {
    let file = match File::open(folder.join(RECORD)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let owner = file.metadata()?.uid();
    if owner != uid {
        return Err(RecordError::Owner { found: owner, expected: uid });
    }
    let mut text = String::new();
    file.take(MAX_RECORD).read_to_string(&mut text)?;
    let node: DevNode = serde_json::from_str(&text)?;
    if !Path::new("/proc").join(node.pid.to_string()).exists() {
        return Err(RecordError::Ended(node.pid));
    }
    Ok(Some(node))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_uid(folder: &Path) -> u32 {
        std::fs::metadata(folder).expect("exists").uid()
    }

    fn record(folder: &Path, pid: u32) {
        let text = format!(
            r#"{{"http":"127.0.0.1:1","grpc":"127.0.0.1:2","socket":"/s","data_dir":"/d","pid":{pid},"new":true}}"#
        );
        std::fs::write(folder.join(RECORD), text).expect("writes");
    }

    #[test]
    fn a_record_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let uid = own_uid(folder.path());
        assert!(matches!(read_record(folder.path(), uid), Ok(None)), "none yet");
        record(folder.path(), std::process::id());
        let node = read_record(folder.path(), uid).expect("reads").expect("is there");
        assert_eq!(node.grpc, "127.0.0.1:2");
        assert_eq!(node.key(), Path::new("/d/dev-key"));
        assert_eq!(node.allowed_signers(), Path::new("/d/allowed_signers"));
    }

    #[test]
    fn a_record_that_must_not_be_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let uid = own_uid(folder.path());
        record(folder.path(), std::process::id());
        assert!(matches!(read_record(folder.path(), uid + 1), Err(RecordError::Owner { .. })));
        // Above the kernel's largest pid.
        record(folder.path(), 5_000_000);
        assert!(matches!(read_record(folder.path(), uid), Err(RecordError::Ended(5_000_000))));
        std::fs::write(folder.path().join(RECORD), "{").expect("writes");
        assert!(matches!(read_record(folder.path(), uid), Err(RecordError::Parse(_))));
    }

    #[test]
    fn folders_follow_the_variable() {
        assert_eq!(record_folders(Some(OsStr::new("/run/x")), 7), [Path::new("/run/x/hot")]);
        let fallback = [Path::new("/run/user/7/hot"), Path::new("/tmp/hot-7")];
        assert_eq!(record_folders(None, 7), fallback);
        assert_eq!(record_folders(Some(OsStr::new("")), 7), fallback);
    }
}
