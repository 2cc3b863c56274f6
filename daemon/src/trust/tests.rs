use std::io;
use std::path::{Path, PathBuf};

use super::*;
use hot_artifact::signature::{MODULE_NAMESPACE, PublicKey, generate_key};
use hot_artifact::trust::ModuleRules;

use crate::config::Reading;
use crate::stamp::stamp;

impl TrustFiles {
    /// What counts after a look, however long that takes.
    async fn looked(&self) -> Arc<Trust> {
        self.look_in_turn().await;
        self.latest()
    }
}

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

    async fn keys(&self) -> usize {
        self.files.looked().await.signers.keys(MODULE_NAMESPACE).len()
    }
}

fn line(who: &str) -> String {
    format!("{who} namespaces=\"hot-module\" {}\n", generate_key(who).unwrap().public)
}

#[tokio::test]
async fn a_change_counts_and_a_mistake_lets_nothing_new_in() {
    let edited = Edited::new(&line("ada"));
    assert_eq!(edited.keys().await, 1);
    edited.replace(&format!("{}{}", line("ada"), line("grace")));
    assert_eq!(edited.keys().await, 2);
    assert!(edited.files.admitting().await.is_ok());
    edited.replace("# keys\nada this is no key\nada nor this one\n");
    assert_eq!(edited.keys().await, 2, "what was trusted stays for what was let in");
    let frozen = edited.files.admitting().await.unwrap_err();
    let text = frozen.to_string();
    assert!(text.starts_with(&format!("{}:2: ", edited.path().display())), "{text}");
    assert!(text.ends_with(" (and one more mistake)"), "{text}");
    std::fs::remove_file(edited.path()).unwrap();
    assert_eq!(edited.keys().await, 2);
    let text = edited.files.admitting().await.unwrap_err().to_string();
    assert!(text.contains("can't read the allowed signers"), "{text}");
    edited.replace(&line("grace"));
    assert_eq!(edited.files.admitting().await.unwrap().signers.keys(MODULE_NAMESPACE).len(), 1);
    assert_eq!(edited.files.frozen(), None);
}

#[tokio::test]
async fn the_same_mistake_again_began_when_it_began() {
    let edited = Edited::new("");
    edited.replace("ada no key\n");
    let first = edited.files.admitting().await.unwrap_err();
    edited.replace("ada no key\n# and a thought\n");
    let second = edited.files.admitting().await.unwrap_err();
    assert!(Arc::ptr_eq(&first, &second), "{first:?} {second:?}");
    edited.replace("\nada no key\n");
    assert_ne!(edited.files.admitting().await.unwrap_err(), first, "it is in another line now");
}

#[tokio::test]
async fn revoked_keys_are_read_anew_and_must_be_understood() {
    let ada = line("ada");
    let public = ada.split_once("\" ").unwrap().1;
    let key = PublicKey::from_openssh(public).unwrap();
    let edited = Edited::new(&ada);
    let revoked = edited.revoked();
    let replace = |text: &str| edited.replace_file(&revoked, text);
    let is_revoked = async || edited.files.looked().await.revoked.key(&key).is_some();
    assert!(!is_revoked().await);
    replace(public);
    assert!(is_revoked().await);
    assert!(edited.files.admitting().await.is_ok());
    replace("# nobody\nno key\n");
    assert!(is_revoked().await, "what was revoked stays");
    let text = edited.files.admitting().await.unwrap_err().to_string();
    assert!(text.contains("revoked:2: "), "{text}");
    std::fs::remove_file(&revoked).unwrap();
    assert!(is_revoked().await && edited.files.admitting().await.is_err());
    replace("");
    assert!(!is_revoked().await && edited.files.admitting().await.is_ok());
    edited.replace("ada no key\n");
    assert!(edited.files.admitting().await.is_err() && !is_revoked().await);
    replace(public);
    assert!(
        is_revoked().await && edited.files.admitting().await.is_err(),
        "while the signers have a mistake, too"
    );
}

#[test]
fn what_could_not_be_read_is_read_again_though_the_file_stays_as_it_is() {
    let edited = Edited::new("");
    let (first, second) = (stamp(&edited.path()), stamp(&edited.revoked()));
    let fails = |kind: io::ErrorKind| {
        move || {
            Err::<Reading<u8>, _>(TrustError::Read { path: PathBuf::from("signers"), source: kind.into() })
        }
    };
    let mut seen = Seen::good(first, None);
    assert_eq!(seen.look(second, fails(io::ErrorKind::TimedOut)), None);
    assert!(seen.wrong.is_some());
    assert_eq!(seen.look(second, || Ok((None, 7))), Some(7));
    assert!(seen.wrong.is_none());
    // What is wrong with the file itself does not pass.
    assert_eq!(seen.look(first, fails(io::ErrorKind::FileTooLarge)), None);
    assert_eq!(seen.look(first, || unreachable!("nothing has changed")), None::<u8>);
}

#[test]
fn a_file_that_is_changed_in_place_counts_when_it_has_settled() {
    let edited = Edited::new("# first");
    let before = stamp(&edited.path());
    let mut seen = Seen::good(before, None);
    std::fs::write(edited.path(), "").unwrap();
    let (cut, at) = (stamp(&edited.path()), Instant::now());
    assert!(seen.settles(cut, at) && seen.is_settling());
    assert!(seen.settles(cut, at + SETTLE / 2), "it may still be written");
    std::fs::write(edited.path(), "whole again").unwrap();
    let whole = stamp(&edited.path());
    assert!(seen.settles(whole, at + SETTLE), "it was written again");
    assert!(!seen.settles(whole, at + SETTLE * 2));
    edited.replace("another file");
    assert!(!seen.settles(stamp(&edited.path()), at), "one that takes its place is whole");
}

#[tokio::test]
async fn nothing_is_let_in_while_a_file_is_being_written() {
    let edited = Edited::new(&line("ada"));
    std::fs::write(edited.path(), line("grace") + &line("bob")).unwrap();
    assert_eq!(edited.keys().await, 1, "what was trusted counts for what was let in");
    let admitting = edited.files.admitting().await.unwrap();
    assert_eq!(admitting.signers.keys(MODULE_NAMESPACE).len(), 2, "it waited for the end of the writing");
}

#[tokio::test]
async fn a_start_with_a_mistake_goes_by_what_counted_before() {
    let (ada, bob) = (line("ada"), line("bob"));
    let public = |line: &str| line.split_once("\" ").unwrap().1.to_owned();
    let key = |line: &str| PublicKey::from_openssh(&public(line)).unwrap();
    let edited = Edited::new(&ada);
    edited.replace("ada no key\n");
    let refused = edited.again().unwrap_err().to_string();
    assert!(refused.contains("allowed_signers:1: "), "nothing was kept yet: {refused}");
    edited.replace(&ada);
    edited.replace_file(&edited.revoked(), &public(&ada));
    assert!(edited.files.admitting().await.is_ok());
    edited.files.keep();

    edited.replace("ada no key\nnor here\n");
    let again = edited.again().unwrap();
    let text = again.frozen().unwrap().to_string();
    assert!(text.contains("allowed_signers:1: ") && text.contains("one more mistake"), "{text}");
    assert!(text.ends_with("with its copy of what the file said before"), "{text}");
    assert!(again.admitting().await.is_err());
    assert_eq!(again.looked().await.signers.keys(MODULE_NAMESPACE).len(), 1);
    again.keep();
    assert!(edited.again().is_ok(), "what is wrong is never kept");

    // What is revoked now counts, and is kept while the signers are wrong.
    edited.replace_file(&edited.revoked(), &public(&bob));
    let again = edited.again().unwrap();
    assert!(again.looked().await.revoked.key(&key(&bob)).is_some());
    assert!(again.looked().await.revoked.key(&key(&ada)).is_none());
    again.keep();
    std::fs::remove_file(edited.revoked()).unwrap();
    let again = edited.again().unwrap();
    assert!(again.looked().await.revoked.key(&key(&bob)).is_some(), "what was revoked stays");

    edited.replace(&bob);
    edited.replace_file(&edited.revoked(), "");
    assert_eq!(again.admitting().await.unwrap().signers.keys(MODULE_NAMESPACE).len(), 1);
    assert_eq!(again.frozen(), None);
}

#[tokio::test]
async fn the_copies_are_for_hotd_alone_and_a_bad_one_is_none() {
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

#[tokio::test]
async fn a_copy_that_can_not_be_written_is_tried_again() {
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
    let (store, _) = crate::store::Store::open(&edited.dir.path().join("store"), Default::default()).unwrap();
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

#[tokio::test]
async fn a_mistake_that_was_mended_between_two_starts_is_told_at_the_second() {
    let edited = Edited::new(&line("ada"));
    edited.files.keep();
    let (store, _) = crate::store::Store::open(&edited.dir.path().join("store"), Default::default()).unwrap();
    let journal = Journal::new(store);
    let mut told = journal.follow();
    let mut run = async |files: TrustFiles| {
        let stopped = CancellationToken::new();
        let watching = tokio::spawn(files.watch(journal.clone(), stopped.clone()));
        let first = tokio::time::timeout(LOOK * 2, told.recv()).await;
        stopped.cancel();
        watching.await.unwrap();
        first.ok().map(|told| told.unwrap().event.kind)
    };
    assert_eq!(run(edited.again().unwrap()).await, None, "nothing was wrong");
    edited.replace("ada no key\n");
    assert_eq!(run(edited.again().unwrap()).await.as_deref(), Some("trust.frozen"));
    edited.replace(&line("ada"));
    assert_eq!(run(edited.again().unwrap()).await.as_deref(), Some("trust.restored"));
    assert_eq!(run(edited.again().unwrap()).await, None, "it is told once");
}
