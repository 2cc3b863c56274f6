//! Whose signatures this node accepts, read anew when the operator changes a file: that of the allowed signers or that of
//! the revoked keys.
//!
//! Knows when to read; how is the config's, and what the file means is `hot-artifact`'s. `seen` notices changes, `frozen`
//! says what is wrong, `kept` has the copies that a start needs while a file is wrong, and `judged` remembers whose
//! signatures were found to count.
//!
//! A change that can't be read, or has mistakes, freezes trust: what that file said before counts on for what was let in
//! with it, so that a slip of the editor stands in the way of no rollback and no restart; but nothing new is let in,
//! because who may still sign is not known: the line with the slip may be the one that takes a key away.
//!
//! A file may lie where reading it takes for ever. So one look at a time, on a thread of its own; whoever must not wait
//! takes what the last one found ([`TrustFiles::latest`]), or waits for no longer than a moment ([`TrustFiles::fresh`]).

mod frozen;
mod judged;
mod kept;
mod seen;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use hot_artifact::trust::{AllowedSigners, Trust};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::frozen::{Frozen, Untrusted};
pub(crate) use self::judged::Judged;
use self::kept::{Kept, Which};
use self::seen::{SETTLE, Seen, stamps};
use crate::config::{self, TrustError};
use crate::journal::{Entry, Journal};

/// The stable word for that both files count again.
const RESTORED: &str = "trust.restored";

/// Between two looks at the files while nobody asks.
const LOOK: Duration = Duration::from_millis(500);

/// The longest wait for a look of whoever goes on without one: a load, or the way back.
const MOMENT: Duration = Duration::from_millis(250);

/// The longest wait for a look of whoever is refused without one.
const PATIENCE: Duration = Duration::from_secs(5);

/// The files of allowed signers and of revoked keys with the rules for modules; clones are the same.
#[derive(Clone, Debug)]
pub struct TrustFiles {
    config: Arc<config::Trust>,
    kept: Arc<Kept>,
    known: Arc<Mutex<Known>>,
    /// What each file said when it was last read without a mistake.
    latest: Arc<ArcSwap<Trust>>,
    frozen: watch::Sender<Option<Arc<Frozen>>>,
    /// Held by whoever looks.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What whoever looks knows of the two files.
#[derive(Debug)]
struct Known {
    signers: Seen,
    revoked: Seen,
}

impl Known {
    fn frozen(&self) -> Option<Frozen> {
        let wrong: Vec<&TrustError> = self.signers.wrong.iter().chain(&self.revoked.wrong).collect();
        Frozen::new(&wrong, self.signers.from_copy || self.revoked.from_copy, SystemTime::now())
    }

    const fn is_settling(&self) -> bool {
        self.signers.is_settling() || self.revoked.is_settling()
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
    pub fn open(config: config::Trust, data_dir: &std::path::Path) -> Result<Self, Untrusted> {
        let kept = Kept::new(data_dir);
        let copy = kept.instead_of(&config);
        // Before the bytes: a change in between is then noticed at the next look.
        let (signers, revoked) = stamps(&config);
        let signers = Seen::first(signers, &config, &copy, config::Trust::read_signers);
        let revoked = Seen::first(revoked, &config, &copy, config::Trust::read_revoked);
        let (known, trust) = match (signers, revoked) {
            (Ok((signers, of_signers)), Ok((revoked, of_revoked))) => {
                tell_notes(&of_signers);
                let modules = config.modules.clone();
                (Known { signers, revoked }, Trust { signers: of_signers, revoked: of_revoked, modules })
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
            latest: Arc::new(ArcSwap::from_pointee(trust)),
            frozen: watch::Sender::new(frozen),
            turn: Arc::default(),
        })
    }

    /// What counts for artifacts that were let in before, as of the last look: what each file said when it was last read
    /// without a mistake. Waits for nothing.
    #[must_use]
    pub fn latest(&self) -> Arc<Trust> {
        self.latest.load_full()
    }

    /// As [`latest`](Self::latest), with a look before it unless that takes more than a moment.
    pub async fn fresh(&self) -> Arc<Trust> {
        if !self.look_within(MOMENT).await {
            tracing::debug!("the files of trust could not be looked at in time; what they said last counts");
        }
        self.latest()
    }

    /// What counts for artifacts that are to be let in. Waits for a file that is just being written.
    ///
    /// # Errors
    /// While a file has mistakes or can't be read, also not in time.
    pub async fn admitting(&self) -> Result<Arc<Trust>, Arc<Frozen>> {
        let until = Instant::now() + PATIENCE;
        loop {
            if !self.look_within(until.saturating_duration_since(Instant::now())).await {
                return Err(Arc::new(Frozen::for_now("the files of trust can't be read in time")));
            }
            if let Some(frozen) = self.frozen() {
                return Err(frozen);
            }
            if !self.lock().is_settling() {
                return Ok(self.latest());
            }
            if Instant::now() + SETTLE >= until {
                return Err(Arc::new(Frozen::for_now("the files of trust are being written")));
            }
            tokio::time::sleep(SETTLE).await;
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
        // What was frozen when the last hotd ended, and is not now, was mended in between.
        let last = journal.latest(&[Frozen::CODE, RESTORED]).await;
        let mut mended = last.is_some_and(|event| event.kind == Frozen::CODE);
        loop {
            self.look_in_turn().await;
            let files = self.clone();
            crate::blocking(move || files.keep()).await;
            let now = changes.borrow_and_update().clone();
            if now != told || mended && now.is_none() {
                journal.write(entry(now.as_deref())).await;
                told = now;
            }
            mended = false;
            tokio::select! {
                () = stopped.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
                // The sender is here.
                _ = changes.changed() => {}
            }
        }
    }

    /// Looks when it is its turn. Whoever gives up waiting leaves the turn to the look: one that hangs keeps one thread.
    async fn look_in_turn(&self) {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let files = self.clone();
        crate::blocking(move || {
            files.look();
            drop(turn);
        })
        .await;
    }

    async fn look_within(&self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.look_in_turn()).await.is_ok()
    }

    /// Reads each file anew that has changed, and takes it over if it has no mistake, whatever is wrong with the other.
    fn look(&self) {
        let mut known = self.lock();
        let (signers, revoked) = stamps(&self.config);
        if let Some(signers) = known.signers.look(signers, || self.config.read_signers()) {
            tracing::info!("the allowed signers were read anew");
            tell_notes(&signers);
            self.latest.store(Arc::new(Trust { signers, ..(*self.latest()).clone() }));
        }
        if let Some(revoked) = known.revoked.look(revoked, || self.config.read_revoked()) {
            tracing::info!("the revoked keys were read anew");
            self.latest.store(Arc::new(Trust { revoked, ..(*self.latest()).clone() }));
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
                tracing::error!(%frozen, "a file of trust can't be taken over");
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

fn entry(frozen: Option<&Frozen>) -> Entry {
    let (kind, text) = match frozen {
        Some(frozen) => {
            (Frozen::CODE, format!("a file of trust can't be taken over: {frozen}. {}", Frozen::ADVICE))
        }
        None => (RESTORED, "the files of trust count again as they are".to_owned()),
    };
    Entry { kind, text, ..Entry::default() }
}

/// Says which lines have no effect.
fn tell_notes(signers: &AllowedSigners) {
    for note in signers.notes() {
        let file = signers.file().display();
        tracing::warn!(%file, ?note, "a line of the file of allowed signers does not count");
    }
}

#[cfg(test)]
mod tests;
