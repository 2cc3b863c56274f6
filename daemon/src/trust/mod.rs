//! Whose signatures this node accepts, read anew when the operator changes a file: that of the allowed signers or that of
//! the revoked keys.
//!
//! Knows when to read; how is the config's, and what the file means is `hot-artifact`'s. `kept` has the copies that a
//! start needs while a file is wrong.
//!
//! A change that can't be read, or has mistakes, freezes trust: what that file said before counts on for what was let in
//! with it, so that a slip of the editor stands in the way of no rollback and no restart; but nothing new is let in,
//! because who may still sign is not known: the line with the slip may be the one that takes a key away.

mod kept;

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hot_artifact::trust::{AllowedSigners, Trust};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::kept::{Kept, Which};
use crate::config::{self, Reading, TrustError};
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

/// Why the files as they are now do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// When that was noticed.
    pub since: SystemTime,
    /// The first thing that is wrong, with its line where it has one.
    first: String,
    /// How many more there are.
    more: usize,
    /// The node has started with a copy of what a file said before.
    from_copy: bool,
}

/// `FILE:LINE: PROBLEM (and N more)`.
impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first)?;
        match self.more {
            0 => {}
            1 => f.write_str(" (and one more mistake)")?,
            more => write!(f, " (and {more} more mistakes)")?,
        }
        if self.from_copy {
            f.write_str("; the node has started with its copy of what the file said before")?;
        }
        Ok(())
    }
}

impl Frozen {
    /// Its stable word.
    pub const CODE: &str = "trust.frozen";
    /// What to do.
    pub const ADVICE: &str = "Mend the file; it is read anew at once. Until then nothing new is let in, and what is \
                              stored can still be gone back to.";

    fn new(errors: &[&TrustError], from_copy: bool, since: SystemTime) -> Option<Self> {
        let mut mistakes = errors.iter().flat_map(|error| match error {
            TrustError::Invalid(mistakes) => mistakes.to_string().lines().map(str::to_owned).collect(),
            TrustError::Read { .. } | TrustError::ReadRevoked { .. } | TrustError::Revoked(_) => {
                vec![crate::describe(*error)]
            }
        });
        let first = mistakes.next()?;
        Some(Self { since, first, more: mistakes.count(), from_copy })
    }

    /// Whether both say the same, whenever it began.
    fn says(&self, other: &Self) -> bool {
        Self { since: other.since, ..self.clone() } == *other
    }
}

/// Why a node does not start: it never knew whom to trust.
#[derive(Debug, Error)]
#[error("{}", of.iter().map(|error| crate::describe(error)).collect::<Vec<_>>().join("\n"))]
pub struct Untrusted {
    /// What is wrong with each file: at least one.
    of: Vec<TrustError>,
}

/// The files of allowed signers and of revoked keys with the rules for modules; clones are the same.
#[derive(Clone, Debug)]
pub struct TrustFiles {
    config: Arc<config::Trust>,
    kept: Arc<Kept>,
    known: Arc<Mutex<Known>>,
    frozen: watch::Sender<Option<Arc<Frozen>>>,
}

#[derive(Debug)]
struct Known {
    /// What each file said when it was last read without a mistake.
    trust: Arc<Trust>,
    signers: Seen,
    revoked: Seen,
}

/// What is known of a file besides what it says.
#[derive(Debug)]
struct Seen {
    /// By what the next change is noticed; `None`: it is to be read again in any case.
    stamp: Option<Option<Stamp>>,
    /// Why it does not count as it is.
    wrong: Option<TrustError>,
    /// What counts is the copy of what it said before this start.
    from_copy: bool,
    /// What the copy does not say yet.
    unkept: Option<Unkept>,
}

/// What is to be kept of a file.
#[derive(Debug)]
struct Unkept {
    /// `None`: that there is no such file any more.
    bytes: Option<Vec<u8>>,
    /// That it can't be written was said.
    told: bool,
}

impl Seen {
    fn good(stamp: Option<Stamp>, bytes: Option<Vec<u8>>) -> Self {
        let unkept = Some(Unkept { bytes, told: false });
        Self { stamp: Some(stamp), wrong: None, from_copy: false, unkept }
    }

    /// Reads the file for the first time, else its copy.
    fn first<T>(
        stamp: Option<Stamp>,
        own: &config::Trust,
        copy: &config::Trust,
        read: impl Fn(&config::Trust) -> Result<Reading<T>, TrustError>,
    ) -> Result<(Self, T), TrustError> {
        match read(own) {
            Ok((bytes, says)) => Ok((Self::good(stamp, bytes), says)),
            Err(error) => match read(copy) {
                Ok((_, says)) => {
                    let stamp = (!error.is_unread()).then_some(stamp);
                    Ok((Self { stamp, wrong: Some(error), from_copy: true, unkept: None }, says))
                }
                Err(of_copy) => {
                    tracing::info!(error = %crate::describe(&of_copy), "there is no copy to start with");
                    Err(error)
                }
            },
        }
    }

    /// Reads the file anew where it has changed, or could not be read. Gives what it says, if that counts.
    fn look<T>(
        &mut self,
        stamp: Option<Stamp>,
        read: impl FnOnce() -> Result<Reading<T>, TrustError>,
    ) -> Option<T> {
        if self.stamp == Some(stamp) {
            return None;
        }
        match read() {
            Ok((bytes, says)) => {
                *self = Self::good(stamp, bytes);
                Some(says)
            }
            Err(error) => {
                // What could not be read may be readable at any time, and nothing about the file would tell.
                self.stamp = (!error.is_unread()).then_some(stamp);
                self.wrong = Some(error);
                None
            }
        }
    }
}

impl Known {
    fn frozen(&self) -> Option<Frozen> {
        let wrong: Vec<&TrustError> = self.signers.wrong.iter().chain(&self.revoked.wrong).collect();
        Frozen::new(&wrong, self.signers.from_copy || self.revoked.from_copy, SystemTime::now())
    }

    fn seen(&mut self, which: Which) -> &mut Seen {
        match which {
            Which::Signers => &mut self.signers,
            Which::Revoked => &mut self.revoked,
        }
    }
}

impl TrustFiles {
    /// Reads the files for the first time. In the place of one that can't be read or has mistakes stands its copy in
    /// `data_dir`, and trust is frozen. Writes nothing.
    ///
    /// # Errors
    /// Without such a copy: whom to trust is not known.
    pub fn open(config: config::Trust, data_dir: &Path) -> Result<Self, Untrusted> {
        let kept = Kept::new(data_dir);
        let copy = kept.instead_of(&config);
        // Before the bytes: a change in between is then noticed at the next look.
        let (signers, revoked) = stamps(&config);
        let signers = Seen::first(signers, &config, &copy, config::Trust::read_signers);
        let revoked = Seen::first(revoked, &config, &copy, config::Trust::read_revoked);
        let known = match (signers, revoked) {
            (Ok((signers, of_signers)), Ok((revoked, of_revoked))) => {
                tell_notes(&of_signers);
                let modules = config.modules.clone();
                let trust = Arc::new(Trust { signers: of_signers, revoked: of_revoked, modules });
                Known { trust, signers, revoked }
            }
            (signers, revoked) => {
                return Err(Untrusted { of: signers.err().into_iter().chain(revoked.err()).collect() });
            }
        };
        let frozen = known.frozen().map(Arc::new);
        if let Some(frozen) = &frozen {
            tracing::error!(%frozen, "nothing new is let in");
        }
        Ok(Self {
            config: Arc::new(config),
            kept: Arc::new(kept),
            known: Arc::new(Mutex::new(known)),
            frozen: watch::Sender::new(frozen),
        })
    }

    /// What counts for artifacts that were let in before: what each file said when it was last read without a mistake.
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

    /// Looks after the files, keeps copies of what counts, and tells the journal when a file begins and ends to be
    /// wrong, until `stopped`.
    pub async fn watch(self, journal: Journal, stopped: CancellationToken) {
        let mut changes = self.frozen.subscribe();
        let mut told: Option<Arc<Frozen>> = None;
        loop {
            let files = self.clone();
            crate::blocking(move || {
                files.look();
                files.keep();
            })
            .await;
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

    /// Reads each file anew that has changed, and takes it over if it has no mistake, whatever is wrong with the other:
    /// what is revoked counts at once.
    fn look(&self) {
        let mut known = self.lock();
        let (signers, revoked) = stamps(&self.config);
        if let Some(signers) = known.signers.look(signers, || self.config.read_signers()) {
            tracing::info!("the allowed signers were read anew");
            tell_notes(&signers);
            Arc::make_mut(&mut known.trust).signers = signers;
        }
        if let Some(revoked) = known.revoked.look(revoked, || self.config.read_revoked()) {
            tracing::info!("the revoked keys were read anew");
            Arc::make_mut(&mut known.trust).revoked = revoked;
        }
        let frozen = known.frozen();
        // Under the lock: two who look at once must not tell in the wrong order.
        self.frozen.send_if_modified(|known| {
            let unchanged = match (known.as_deref(), &frozen) {
                (None, None) => true,
                // The same mistake after another edit began when it began.
                (Some(known), Some(now)) => known.says(now),
                _ => false,
            };
            if unchanged {
                return false;
            }
            if let Some(frozen) = &frozen {
                tracing::error!(%frozen, "the signers can't be taken over");
            }
            *known = frozen.map(Arc::new);
            true
        });
    }

    /// Puts what counts into the copies that lack it. What can't be written is tried again at the next call.
    pub fn keep(&self) {
        // What is revoked first: of both it is the one that must not be lost.
        for which in [Which::Revoked, Which::Signers] {
            let Some(mut unkept) = self.lock().seen(which).unkept.take() else { continue };
            if let Err(error) = self.kept.keep(which, unkept.bytes.as_deref()) {
                if !std::mem::replace(&mut unkept.told, true) {
                    tracing::warn!(%error, file = ?which, "a file of trust has no copy for the next start yet");
                }
                // Unless it has changed meanwhile.
                self.lock().seen(which).unkept.get_or_insert(unkept);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of the allowed signers, and of the revoked keys.
fn stamps(config: &config::Trust) -> (Option<Stamp>, Option<Stamp>) {
    (stamp(&config.allowed_signers), config.revoked.as_deref().and_then(stamp))
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

/// Says which lines have no effect.
fn tell_notes(signers: &AllowedSigners) {
    for note in signers.notes() {
        let file = signers.file().display();
        tracing::warn!(%file, ?note, "a line of the file of allowed signers does not count");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::PathBuf;

    use super::*;
    use hot_artifact::signature::{MODULE_NAMESPACE, PublicKey, generate_key};
    use hot_artifact::trust::ModuleRules;

    /// A file of allowed signers that is edited.
    struct Edited {
        dir: tempfile::TempDir,
        config: config::Trust,
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
            Self { files: TrustFiles::open(config.clone(), dir.path()).unwrap(), config, dir }
        }

        /// As after a restart.
        fn again(&self) -> Result<TrustFiles, Untrusted> {
            TrustFiles::open(self.config.clone(), self.dir.path())
        }

        fn revoked(&self) -> PathBuf {
            self.dir.path().join("revoked")
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("allowed_signers")
        }

        /// As an editor does it: another file takes the name, so that no two changes look alike.
        fn replace(&self, text: &str) {
            self.replace_file(&self.path(), text);
        }

        fn replace_file(&self, path: &Path, text: &str) {
            let fresh = self.dir.path().join("fresh");
            std::fs::write(&fresh, text).unwrap();
            std::fs::rename(&fresh, path).unwrap();
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
        let revoked = edited.revoked();
        let replace = |text: &str| edited.replace_file(&revoked, text);
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

    /// The kernel's name of this thread is a regular file whose content changes while nothing else about it does, as
    /// with a file that is read while descriptors are short, and again when they are not.
    #[test]
    fn what_could_not_be_read_is_read_again_though_the_file_stays_as_it_is() {
        let name = Path::new("/proc/thread-self/comm");
        let call_it = |bytes: &[u8]| {
            std::fs::OpenOptions::new().write(true).open(name).unwrap().write_all(bytes).unwrap();
        };
        let edited = Edited::new(&line("ada"));
        call_it(b"\xff");
        std::fs::remove_file(edited.path()).unwrap();
        std::os::unix::fs::symlink(name, edited.path()).unwrap();
        let first = edited.files.admitting().unwrap_err();
        assert!(first.to_string().contains("can't read the allowed signers"), "{first}");
        let unread = stamp(&edited.path()).unwrap();
        call_it(b"\xfe");
        assert!(Arc::ptr_eq(&first, &edited.files.admitting().unwrap_err()), "it is told once");
        call_it(b"# nobody");
        assert_eq!(stamp(&edited.path()), Some(unread), "it shows no change");
        assert!(edited.files.admitting().is_ok());
        assert_eq!(edited.keys(), 0);
    }

    #[test]
    fn a_start_with_a_mistake_goes_by_what_counted_before() {
        let (ada, bob) = (line("ada"), line("bob"));
        let public = |line: &str| line.split_once("\" ").unwrap().1.to_owned();
        let key = |line: &str| PublicKey::from_openssh(&public(line)).unwrap();
        let edited = Edited::new(&ada);
        edited.replace("ada no key\n");
        let refused = edited.again().unwrap_err().to_string();
        assert!(refused.contains("allowed_signers:1: "), "nothing was kept yet: {refused}");
        edited.replace(&ada);
        edited.replace_file(&edited.revoked(), &public(&ada));
        assert!(edited.files.admitting().is_ok());
        edited.files.keep();

        edited.replace("ada no key\nnor here\n");
        let again = edited.again().unwrap();
        let text = again.frozen().unwrap().to_string();
        assert!(text.contains("allowed_signers:1: ") && text.contains("one more mistake"), "{text}");
        assert!(text.ends_with("with its copy of what the file said before"), "{text}");
        assert!(again.admitting().is_err());
        assert_eq!(again.current().signers.keys(MODULE_NAMESPACE).len(), 1);
        again.keep();
        assert!(edited.again().is_ok(), "what is wrong is never kept");

        // What is revoked now counts, and is kept while the signers are wrong.
        edited.replace_file(&edited.revoked(), &public(&bob));
        let again = edited.again().unwrap();
        assert!(again.current().revoked.key(&key(&bob)).is_some());
        assert!(again.current().revoked.key(&key(&ada)).is_none());
        again.keep();
        std::fs::remove_file(edited.revoked()).unwrap();
        let again = edited.again().unwrap();
        assert!(again.current().revoked.key(&key(&bob)).is_some(), "what was revoked stays");

        edited.replace(&bob);
        edited.replace_file(&edited.revoked(), "");
        assert_eq!(again.admitting().unwrap().signers.keys(MODULE_NAMESPACE).len(), 1);
        assert_eq!(again.frozen(), None);
    }

    #[test]
    fn the_copies_are_for_hotd_alone_and_a_bad_one_is_none() {
        use std::os::unix::fs::PermissionsExt as _;
        let edited = Edited::new(&line("ada"));
        edited.files.keep();
        let copies = edited.dir.path().join("trust");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&copies), 0o700);
        for name in ["allowed_signers", "revoked"] {
            assert_eq!(mode(&copies.join(name)), 0o600, "{name}");
        }
        std::fs::write(copies.join("allowed_signers"), "cut sho").unwrap();
        edited.replace("ada no key\n");
        assert!(edited.again().is_err());
        // A node without a list of revoked keys has no copy of one that a later config could fall back on.
        let config = config::Trust { revoked: None, ..edited.config.clone() };
        edited.replace(&line("ada"));
        TrustFiles::open(config, edited.dir.path()).unwrap().keep();
        assert!(!copies.join("revoked").exists());
        std::fs::remove_file(edited.revoked()).unwrap();
        assert!(edited.again().is_err());
    }

    #[test]
    fn a_copy_that_can_not_be_written_is_tried_again() {
        let edited = Edited::new(&line("ada"));
        let copies = edited.dir.path().join("trust");
        std::fs::write(&copies, "in the way").unwrap();
        edited.files.keep();
        std::fs::remove_file(&copies).unwrap();
        edited.files.keep();
        edited.replace("ada no key\n");
        assert!(edited.again().is_ok());
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
