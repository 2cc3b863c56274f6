//! Whose signatures this node accepts, read anew when the operator changes a file.
//!
//! Knows when to read; how is the config's, and what the file means is `hot-artifact`'s.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use hot_artifact::trust::Trust;

use crate::config;

/// What was read, at one moment.
#[derive(Debug)]
pub struct Trusted {
    trust: Trust,
    stamps: Stamps,
}

impl Trusted {
    /// What artifacts are checked against.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.trust
    }
}

/// By what a change of the file is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    size: u64,
    inode: u64,
}

/// Of the allowed signers, and of the revoked keys.
type Stamps = [Option<Stamp>; 2];

/// The files of allowed signers and of revoked keys with the rules for modules; clones are the same.
#[derive(Clone, Debug)]
pub struct TrustFiles {
    config: Arc<config::Trust>,
    current: Arc<Mutex<Arc<Trusted>>>,
}

impl TrustFiles {
    /// Reads the files for the first time: a node does not start with one that it can't read.
    pub fn open(config: config::Trust) -> Result<Self, config::TrustError> {
        let trusted = read(&config)?;
        Ok(Self { config: Arc::new(config), current: Arc::new(Mutex::new(Arc::new(trusted))) })
    }

    /// What is trusted now. When a file has changed and can't be read or has mistakes, what was trusted before stays,
    /// and the log says so: a slip of the editor must neither open the door nor lock everybody out.
    #[must_use]
    pub fn current(&self) -> Arc<Trusted> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if stamps(&self.config) != current.stamps {
            match read(&self.config) {
                Ok(trusted) => {
                    tracing::info!("the allowed signers and the revoked keys were read anew");
                    *current = Arc::new(trusted);
                }
                Err(error) => {
                    let error = crate::describe(&error);
                    tracing::error!(%error, "the signers that were allowed before stay allowed");
                }
            }
        }
        Arc::clone(&current)
    }
}

fn stamps(config: &config::Trust) -> Stamps {
    [stamp(&config.allowed_signers), config.revoked.as_deref().and_then(stamp)]
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = path.metadata().ok()?;
    Some(Stamp { modified: metadata.modified().ok()?, size: metadata.size(), inode: metadata.ino() })
}

fn read(config: &config::Trust) -> Result<Trusted, config::TrustError> {
    // Before the bytes: a change in between is then noticed at the next look.
    let stamps = stamps(config);
    let trust = config.load()?;
    for note in trust.signers.notes() {
        let file = config.allowed_signers.display();
        tracing::warn!(%file, ?note, "a line of the file of allowed signers does not count");
    }
    Ok(Trusted { trust, stamps })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hot_artifact::signature::{MODULE_NAMESPACE, PublicKey, generate_key};
    use hot_artifact::trust::ModuleRules;

    fn line(who: &str) -> String {
        format!("{who} namespaces=\"hot-module\" {}\n", generate_key(who).unwrap().public)
    }

    /// As an editor does it: another file takes the name, so that no two changes look alike.
    fn replace(path: &Path, text: &str) {
        let fresh = path.with_extension("fresh");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(&fresh, path).unwrap();
    }

    #[test]
    fn a_change_counts_and_a_mistake_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("allowed_signers");
        replace(&path, &line("ada"));
        let config = config::Trust {
            allowed_signers: path.clone(),
            revoked: None,
            libraries: None,
            modules: ModuleRules::default(),
        };
        let files = TrustFiles::open(config).unwrap();
        let keys = || files.current().trust().signers.keys(MODULE_NAMESPACE).len();
        assert_eq!(keys(), 1);
        replace(&path, &format!("{}{}", line("ada"), line("grace")));
        assert_eq!(keys(), 2);
        replace(&path, "ada this is no key\n");
        assert_eq!(keys(), 2, "what was trusted stays");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(keys(), 2);
        replace(&path, &line("grace"));
        assert_eq!(keys(), 1);
    }

    #[test]
    fn revoked_keys_are_read_anew_and_must_be_understood() {
        let dir = tempfile::tempdir().unwrap();
        let (signers, revoked) = (dir.path().join("allowed_signers"), dir.path().join("revoked"));
        let ada = line("ada");
        let public = ada.split_once("\" ").unwrap().1;
        let key = PublicKey::from_openssh(public).unwrap();
        replace(&signers, &ada);
        let config = config::Trust {
            allowed_signers: signers,
            revoked: Some(revoked.clone()),
            libraries: None,
            modules: ModuleRules::default(),
        };
        let missing = TrustFiles::open(config.clone()).unwrap_err();
        assert!(crate::describe(&missing).contains("take `revoked` out of [trust]"), "{missing}");
        replace(&revoked, "nonsense\n");
        assert!(TrustFiles::open(config.clone()).unwrap_err().to_string().contains("revoked:1: found"));
        replace(&revoked, "# none yet\n");
        let files = TrustFiles::open(config).unwrap();
        let is_revoked = || files.current().trust().revoked.key(&key).is_some();
        assert!(!is_revoked());
        replace(&revoked, public);
        assert!(is_revoked());
        replace(&revoked, "nonsense\n");
        assert!(is_revoked(), "what was revoked stays so");
        replace(&revoked, "");
        assert!(!is_revoked());
    }
}
