//! Whose signatures this node accepts, read anew when the operator changes a file: that of the allowed signers or that of
//! the revoked keys.
//!
//! Knows when to read; how is the config's, and what the file means is `hot-artifact`'s.
//!
//! A change that can't be read, or has mistakes, freezes trust: what was trusted before counts on for what was let in
//! with it, so that a slip of the editor stands in the way of no rollback; but nothing new is let in, because who may
//! still sign is not known: the line with the slip may be the one that takes a key away.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hot_artifact::trust::Trust;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{self, TrustError};
use crate::journal::{Entry, Journal};

/// Between two looks at the file while nobody asks.
const LOOK: Duration = Duration::from_secs(1);

/// By what a change of the file is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    /// Of its inode: a change of permissions, or one that sets the time of modification back.
    changed: (i64, i64),
    size: u64,
    inode: u64,
}

/// Of the allowed signers, and of the revoked keys.
type Stamps = [Option<Stamp>; 2];

/// Why the files as they are now do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// When that was noticed.
    pub since: SystemTime,
    /// The first thing that is wrong, with its line where it has one.
    first: String,
    /// How many more there are.
    more: usize,
}

/// `FILE:LINE: PROBLEM (and N more)`.
impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first)?;
        match self.more {
            0 => Ok(()),
            1 => f.write_str(" (and one more mistake)"),
            more => write!(f, " (and {more} more mistakes)"),
        }
    }
}

impl Frozen {
    /// Its stable word.
    pub const CODE: &str = "trust.frozen";
    /// What to do.
    pub const ADVICE: &str = "Mend the file; it is read anew at once. Until then nothing new is let in, and what is \
                              stored can still be gone back to.";

    fn new(error: &TrustError, since: SystemTime) -> Self {
        let (first, more) = match error {
            TrustError::Invalid(mistakes) => {
                let text = mistakes.to_string();
                let first = text.lines().next().unwrap_or_default().to_owned();
                (first, mistakes.problems.len().saturating_sub(1))
            }
            TrustError::Read { .. } | TrustError::ReadRevoked { .. } | TrustError::Revoked(_) => {
                (crate::describe(error), 0)
            }
        };
        Self { since, first, more }
    }
}

/// The files of allowed signers and of revoked keys with the rules for modules; clones are the same.
#[derive(Clone, Debug)]
pub struct TrustFiles {
    config: Arc<config::Trust>,
    read: Arc<Mutex<Read>>,
    frozen: watch::Sender<Option<Arc<Frozen>>>,
}

#[derive(Debug)]
struct Read {
    trust: Arc<Trust>,
    /// Of the files when they were last read, well or not.
    stamps: Stamps,
}

impl TrustFiles {
    /// Reads the files for the first time: a node does not start with one that it can't read.
    pub fn open(config: config::Trust) -> Result<Self, TrustError> {
        // Before the bytes: a change in between is then noticed at the next look.
        let stamps = stamps(&config);
        let read = Read { trust: Arc::new(load(&config)?), stamps };
        Ok(Self {
            config: Arc::new(config),
            read: Arc::new(Mutex::new(read)),
            frozen: watch::Sender::new(None),
        })
    }

    /// What counts for artifacts that were let in before: the files as they were last read without a mistake.
    #[must_use]
    pub fn current(&self) -> Arc<Trust> {
        self.look();
        Arc::clone(&self.lock().trust)
    }

    /// What counts for artifacts that are to be let in.
    ///
    /// # Errors
    /// While a file has mistakes or can't be read.
    pub fn admitting(&self) -> Result<Arc<Trust>, Arc<Frozen>> {
        self.look();
        match self.frozen() {
            None => Ok(Arc::clone(&self.lock().trust)),
            Some(frozen) => Err(frozen),
        }
    }

    /// Why the files do not count, as of the last look.
    #[must_use]
    pub fn frozen(&self) -> Option<Arc<Frozen>> {
        self.frozen.borrow().clone()
    }

    /// Looks after the files and tells the journal when one begins and ends to be wrong, until `stopped`.
    pub async fn watch(self, journal: Journal, stopped: CancellationToken) {
        let mut changes = self.frozen.subscribe();
        let mut told: Option<Arc<Frozen>> = None;
        loop {
            let files = self.clone();
            crate::blocking(move || files.look()).await;
            let now = changes.borrow_and_update().clone();
            if now != told {
                journal.write(self.entry(now.as_deref())).await;
                told = now;
            }
            tokio::select! {
                () = stopped.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
                // The sender is here.
                _ = changes.changed() => {}
            }
        }
    }

    fn entry(&self, frozen: Option<&Frozen>) -> Entry {
        let (kind, text) = match frozen {
            Some(frozen) => {
                (Frozen::CODE, format!("the signers can't be taken over: {frozen}. {}", Frozen::ADVICE))
            }
            None => {
                let file = self.config.allowed_signers.display();
                ("trust.restored", format!("the signers in {file} count again"))
            }
        };
        Entry { kind, text, ..Entry::default() }
    }

    /// Reads the files anew where one has changed.
    fn look(&self) {
        let mut read = self.lock();
        let stamps = stamps(&self.config);
        if stamps == read.stamps {
            return;
        }
        read.stamps = stamps;
        let frozen = match load(&self.config) {
            Ok(trust) => {
                tracing::info!("the allowed signers and the revoked keys were read anew");
                read.trust = Arc::new(trust);
                None
            }
            Err(error) => {
                tracing::error!(error = %crate::describe(&error), "the signers can't be taken over");
                // What is revoked counts at once, whatever is wrong with the file of signers.
                if let Ok(revoked) = self.config.load_revoked() {
                    read.trust = Arc::new(Trust { revoked, ..(*read.trust).clone() });
                }
                Some(Frozen::new(&error, SystemTime::now()))
            }
        };
        // Under the lock: two who look at once must not tell in the wrong order.
        self.frozen.send_if_modified(|known| {
            let same = |known: &Frozen, now: &Frozen| known.first == now.first && known.more == now.more;
            let unchanged = match (known.as_deref(), &frozen) {
                (None, None) => true,
                // The same mistake after another edit began when it began.
                (Some(known), Some(now)) => same(known, now),
                _ => false,
            };
            if !unchanged {
                *known = frozen.map(Arc::new);
            }
            !unchanged
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamps(config: &config::Trust) -> Stamps {
    [stamp(&config.allowed_signers), config.revoked.as_deref().and_then(stamp)]
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = path.metadata().ok()?;
    Some(Stamp {
        modified: metadata.modified().ok()?,
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        size: metadata.size(),
        inode: metadata.ino(),
    })
}

fn load(config: &config::Trust) -> Result<Trust, TrustError> {
    let trust = config.load()?;
    for note in trust.signers.notes() {
        let file = config.allowed_signers.display();
        tracing::warn!(%file, ?note, "a line of the file of allowed signers does not count");
    }
    Ok(trust)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use hot_artifact::signature::{MODULE_NAMESPACE, PublicKey, generate_key};
    use hot_artifact::trust::ModuleRules;

    /// A file of allowed signers that is edited.
    struct Edited {
        dir: tempfile::TempDir,
        files: TrustFiles,
    }

    impl Edited {
        fn new(text: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("allowed_signers");
            std::fs::write(&path, text).unwrap();
            std::fs::write(dir.path().join("revoked"), "").unwrap();
            let config = config::Trust {
                allowed_signers: path,
                revoked: Some(dir.path().join("revoked")),
                libraries: None,
                modules: ModuleRules::default(),
            };
            Self { files: TrustFiles::open(config).unwrap(), dir }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("allowed_signers")
        }

        /// As an editor does it: another file takes the name, so that no two changes look alike.
        fn replace(&self, text: &str) {
            let fresh = self.dir.path().join("fresh");
            std::fs::write(&fresh, text).unwrap();
            std::fs::rename(&fresh, self.path()).unwrap();
        }

        fn keys(&self) -> usize {
            self.files.current().signers.keys(MODULE_NAMESPACE).len()
        }
    }

    fn line(who: &str) -> String {
        format!("{who} namespaces=\"hot-module\" {}\n", generate_key(who).unwrap().public)
    }

    #[test]
    fn a_change_counts_and_a_mistake_lets_nothing_new_in() {
        let edited = Edited::new(&line("ada"));
        assert_eq!(edited.keys(), 1);
        edited.replace(&format!("{}{}", line("ada"), line("grace")));
        assert_eq!(edited.keys(), 2);
        assert!(edited.files.admitting().is_ok());
        edited.replace("# keys\nada this is no key\nada nor this one\n");
        assert_eq!(edited.keys(), 2, "what was trusted stays for what was let in");
        let frozen = edited.files.admitting().unwrap_err();
        let text = frozen.to_string();
        assert!(text.starts_with(&format!("{}:2: ", edited.path().display())), "{text}");
        assert!(text.ends_with(" (and one more mistake)"), "{text}");
        std::fs::remove_file(edited.path()).unwrap();
        assert_eq!(edited.keys(), 2);
        let text = edited.files.admitting().unwrap_err().to_string();
        assert!(text.contains("can't read the allowed signers"), "{text}");
        edited.replace(&line("grace"));
        assert_eq!(edited.files.admitting().unwrap().signers.keys(MODULE_NAMESPACE).len(), 1);
        assert_eq!(edited.files.frozen(), None);
    }

    #[test]
    fn the_same_mistake_again_began_when_it_began() {
        let edited = Edited::new("");
        edited.replace("ada no key\n");
        let first = edited.files.admitting().unwrap_err();
        edited.replace("ada no key\n# and a thought\n");
        let second = edited.files.admitting().unwrap_err();
        assert!(Arc::ptr_eq(&first, &second), "{first:?} {second:?}");
        edited.replace("\nada no key\n");
        assert_ne!(edited.files.admitting().unwrap_err(), first, "it is in another line now");
    }

    #[test]
    fn revoked_keys_are_read_anew_and_must_be_understood() {
        let ada = line("ada");
        let public = ada.split_once("\" ").unwrap().1;
        let key = PublicKey::from_openssh(public).unwrap();
        let edited = Edited::new(&ada);
        let revoked = edited.dir.path().join("revoked");
        let replace = |text: &str| {
            let fresh = edited.dir.path().join("fresh");
            std::fs::write(&fresh, text).unwrap();
            std::fs::rename(&fresh, &revoked).unwrap();
        };
        let is_revoked = || edited.files.current().revoked.key(&key).is_some();
        assert!(!is_revoked());
        replace(public);
        assert!(is_revoked());
        assert!(edited.files.admitting().is_ok());
        replace("# nobody\nno key\n");
        assert!(is_revoked(), "what was revoked stays");
        let text = edited.files.admitting().unwrap_err().to_string();
        assert!(text.contains("revoked:2: "), "{text}");
        std::fs::remove_file(&revoked).unwrap();
        assert!(is_revoked() && edited.files.admitting().is_err());
        replace("");
        assert!(!is_revoked() && edited.files.admitting().is_ok());
        edited.replace("ada no key\n");
        assert!(edited.files.admitting().is_err() && !is_revoked());
        replace(public);
        assert!(is_revoked() && edited.files.admitting().is_err(), "while the signers have a mistake, too");
    }

    #[tokio::test]
    async fn what_begins_and_ends_is_told_once() {
        let edited = Edited::new("");
        let (store, _) =
            crate::store::Store::open(&edited.dir.path().join("store"), Default::default()).unwrap();
        let journal = Journal::new(store);
        let mut told = journal.follow();
        let stopped = CancellationToken::new();
        let watching = tokio::spawn(edited.files.clone().watch(journal, stopped.clone()));
        edited.replace("ada no key\n");
        let event = told.recv().await.unwrap().event;
        assert_eq!(event.kind, "trust.frozen");
        assert!(event.text.contains("allowed_signers:1: "), "{}", event.text);
        edited.replace("# mended\n");
        assert_eq!(told.recv().await.unwrap().event.kind, "trust.restored");
        stopped.cancel();
        watching.await.unwrap();
        assert!(told.try_recv().is_err(), "and nothing else");
    }
}
