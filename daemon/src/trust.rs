//! Whose signatures this node accepts, read anew when the operator changes the file.
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
    stamp: Option<Stamp>,
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

/// The file of allowed signers with the rules for modules; clones are the same.
#[derive(Clone, Debug)]
pub struct TrustFiles {
    config: Arc<config::Trust>,
    current: Arc<Mutex<Arc<Trusted>>>,
}

impl TrustFiles {
    /// Reads the file for the first time: a node does not start with one that it can't read.
    pub fn open(config: config::Trust) -> Result<Self, config::TrustError> {
        let trusted = read(&config)?;
        Ok(Self { config: Arc::new(config), current: Arc::new(Mutex::new(Arc::new(trusted))) })
    }

    /// What is trusted now. When the file has changed and can't be read or has mistakes, what was trusted before stays,
    /// and the log says so: a slip of the editor must neither open the door nor lock everybody out.
    #[must_use]
    pub fn current(&self) -> Arc<Trusted> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let path = &self.config.allowed_signers;
        if stamp(path) != current.stamp {
            match read(&self.config) {
                Ok(trusted) => {
                    tracing::info!(file = %path.display(), "the file of allowed signers was read anew");
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

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = path.metadata().ok()?;
    Some(Stamp { modified: metadata.modified().ok()?, size: metadata.size(), inode: metadata.ino() })
}

fn read(config: &config::Trust) -> Result<Trusted, config::TrustError> {
    // Before the bytes: a change in between is then noticed at the next look.
    let stamp = stamp(&config.allowed_signers);
    let trust = config.load()?;
    for note in trust.signers.notes() {
        let file = config.allowed_signers.display();
        tracing::warn!(%file, ?note, "a line of the file of allowed signers does not count");
    }
    Ok(Trusted { trust, stamp })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hot_artifact::signature::{MODULE_NAMESPACE, generate_key};
    use hot_artifact::trust::ModuleRules;

    fn line(who: &str) -> String {
        format!("{who} namespaces=\"hot-module\" {}\n", generate_key(who).unwrap().public)
    }

    #[test]
    fn a_change_counts_and_a_mistake_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("allowed_signers");
        let replace = |text: &str| {
            // As an editor does it: another file takes the name, so that no two changes look alike.
            let fresh = dir.path().join("fresh");
            std::fs::write(&fresh, text).unwrap();
            std::fs::rename(&fresh, &path).unwrap();
        };
        replace(&line("ada"));
        let config = config::Trust { allowed_signers: path.clone(), modules: ModuleRules::default() };
        let files = TrustFiles::open(config).unwrap();
        let keys = || files.current().trust().signers.keys(MODULE_NAMESPACE).len();
        assert_eq!(keys(), 1);
        replace(&format!("{}{}", line("ada"), line("grace")));
        assert_eq!(keys(), 2);
        replace("ada this is no key\n");
        assert_eq!(keys(), 2, "what was trusted stays");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(keys(), 2);
        replace(&line("grace"));
        assert_eq!(keys(), 1);
    }
}
