//! A folder, modules and pushes for tests.

use std::path::Path;
use std::time::Duration;

use hot_artifact::{ModuleName, Sha256, Target};
use serde_json::Value;
use tempfile::TempDir;

use crate::store::{
    Begun, CommitError, Committed, NewRelease, Options, Recovered, RolloutRecord, Spooled, Store, Urgency,
    VersionRecord,
};

/// Small bounds, and no waiting between two attempts at the index.
pub(super) fn options() -> Options {
    Options {
        keep: 2,
        max_artifact: 1024 * 1024,
        max_uploads: 4,
        max_spool: 3 * 1024 * 1024,
        upload_age: Duration::from_secs(3600),
        max_events: 3000,
        max_ended_rollouts: 20,
        index_retry: Duration::ZERO,
    }
}

/// A folder in memory, where there is a file system for that: for tests that are about the order of steps, in which the
/// disk's own time would only be waited for.
pub(super) fn fast_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

pub(super) fn open(folder: &Path) -> (Store, Recovered) {
    Store::open(folder, options()).unwrap()
}

/// Has the node obey `assignment` of a module.
pub(super) fn assign(store: &Store, module: &str, assignment: Value, urgency: Urgency) {
    store.update_module(&name(module), urgency, |record| record.assignment = Some(assignment)).unwrap();
}

pub(super) fn name(text: &str) -> ModuleName {
    text.parse().unwrap()
}

/// Bytes that differ for each seed.
pub(super) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(|| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    })
    .flatten()
    .take(len)
    .collect()
}

pub(super) fn record(module: &str, version: &str, bytes: &[u8], at: u64) -> VersionRecord {
    VersionRecord {
        module: name(module),
        version: version.parse().unwrap(),
        target: Target::native(),
        digest: Sha256::of(bytes),
        size: bytes.len() as u64,
        metadata: format!("name = \"{module}\"\nversion = \"{version}\"\n"),
        principal: "ops@example.org".to_owned(),
        signature: "-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n".to_owned(),
        at,
        by: "ops".to_owned(),
    }
}

pub(super) fn upload(store: &Store, bytes: &[u8]) -> Spooled {
    let Begun::Upload(upload) = store.begin_upload(Sha256::of(bytes), bytes.len() as u64).unwrap() else {
        panic!("it is there already")
    };
    let from = usize::try_from(upload.offset()).unwrap();
    for (n, piece) in bytes[from..].chunks(8 * 1024).enumerate() {
        upload.write((from + n * 8 * 1024) as u64, piece).unwrap();
    }
    upload.finish().unwrap()
}

pub(super) fn push(
    store: &Store,
    module: &str,
    version: &str,
    bytes: &[u8],
    at: u64,
) -> Result<Committed, CommitError> {
    store.commit(&upload(store, bytes), record(module, version, bytes, at))
}

pub(super) fn new_release(version: &str, bytes: &[u8], config: Option<&[u8]>) -> NewRelease {
    NewRelease {
        version: version.parse().unwrap(),
        digest: Sha256::of(bytes),
        config: config.map(<[u8]>::to_vec),
        at: 1,
        by: "ops".to_owned(),
        message: "because".to_owned(),
        on: std::collections::BTreeMap::new(),
    }
}

pub(super) fn rollout(id: &str, request: Option<&str>, step: u64) -> RolloutRecord {
    RolloutRecord {
        id: id.parse().unwrap(),
        request: request.map(|request| request.parse().unwrap()),
        snapshot: serde_json::json!({ "format": 1, "step": step, "why": "x".repeat(9000) }),
    }
}
