//! Artifacts, from the nodes that have them, by digest. What comes is what the digest says and what this node's own
//! signers have signed, or it is thrown away; from where it came does not matter.
//!
//! | room | what it is for |
//! |---|---|
//! | `transfer` | one transfer: several peers at once, and what is known of it from one try to the next |
//! | `ask` | one question to one peer |
//! | `alone` | what came is verified; who lied is found by asking one at a time |
//! | `admit` | how what came becomes a version |
//! | `holders` | who has it, as etcd says |
//! | `here` | what this node has, and what of that the fleet was told |
//! | `pieces` | which bytes are here, asked for, and missing: pure |
//! | `pace` | when a peer is too slow: pure |
//! | `origin` | who gave which bytes: pure, but for comparing two files |
//! | `dropped` | who is not asked for a while: pure |
//!
//! A transfer that breaks goes on where it was, from those that have it by then.

mod admit;
mod alone;
mod ask;
mod dropped;
mod here;
mod holders;
mod origin;
mod pace;
mod pieces;
mod transfer;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hot_artifact::{ModuleName, Sha256, VerifyError, Version};

use self::dropped::Dropped;
pub(super) use self::here::Held;
use self::transfer::{Besides, Transfer, UnderWay};
use super::peers::Peers;
use super::rate::Rate;
use super::values::VersionValue;
use super::{Fleet, FleetError, State};
use crate::journal::Journal;
use crate::ledger::{Ledger, runs_here};
use crate::store::{CommitError, UploadError};
use crate::trust::{Frozen, TrustFiles};

/// Rounds through all who have it in which nothing came, before whoever wants it is told.
const ROUNDS: usize = 3;
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(500);

/// Gets artifacts that this node lacks.
#[derive(Clone, Debug)]
pub struct Fetcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ledger: Ledger,
    trust: TrustFiles,
    peers: Peers,
    journal: Journal,
    max_artifact: u64,
    takes: Arc<Rate>,
    gives: Rate,
    /// What the fleet was told that this node has.
    told: Mutex<BTreeSet<Sha256>>,
    dropped: Mutex<Dropped>,
    /// One transfer at a time: another one of the same bytes waits and then finds them. What came of one that broke is kept
    /// for the next try, in the spool and, as far as it came ahead of its turn, in here.
    fetching: tokio::sync::Mutex<Option<UnderWay>>,
    /// How many transfers wait for that: one that hardly goes on gives way to them.
    waiting: AtomicUsize,
}

/// What a [`Fetcher`] works with.
#[derive(Debug)]
pub struct FetcherParts {
    /// Where artifacts are kept.
    pub ledger: Ledger,
    /// Whose signatures count.
    pub trust: TrustFiles,
    /// How other nodes are called.
    pub peers: Peers,
    /// Where people read what happened.
    pub journal: Journal,
    /// Largest artifact, bytes.
    pub max_artifact: u64,
    /// How fast artifacts are taken from other nodes.
    pub takes: Rate,
    /// How fast they are given to them.
    pub gives: Rate,
}

/// Why this node does not have an artifact.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No version in etcd has this artifact.
    #[error("release {release} of {module} has no artifact in etcd that this node could fetch")]
    Unknown {
        /// The module.
        module: ModuleName,
        /// The release.
        release: u64,
    },
    /// The fleet can't be asked.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// Nobody could give it.
    #[error("no node gave {digest}: {why}")]
    NoPeer {
        /// Which artifact.
        digest: Sha256,
        /// What became of each node that has it.
        why: String,
    },
    /// It can't be spooled.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// Who may sign is not known now.
    #[error("nothing new is let in now: {0}")]
    Frozen(Arc<Frozen>),
    /// It is refused by this node.
    #[error("the artifact is refused")]
    Refused(#[source] Box<VerifyError>),
    /// It can't be kept.
    #[error(transparent)]
    Commit(Box<CommitError>),
}

impl FetchError {
    /// Whether this node does not want it, which another try would not change.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(error) => !matches!(**error, VerifyError::Read { .. }),
            Self::Commit(error) => error.is_refusal(),
            Self::Fleet(FleetError::Differs { .. }) => true,
            Self::Unknown { .. }
            | Self::Fleet(_)
            | Self::NoPeer { .. }
            | Self::Upload(_)
            | Self::Frozen(_) => false,
        }
    }
}

impl From<VerifyError> for FetchError {
    fn from(error: VerifyError) -> Self {
        Self::Refused(Box::new(error))
    }
}

impl From<CommitError> for FetchError {
    fn from(error: CommitError) -> Self {
        Self::Commit(Box::new(error))
    }
}

/// One that waits, counted until it does no more.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Fetcher {
    /// Gets artifacts into this ledger's store.
    #[must_use]
    pub fn new(parts: FetcherParts) -> Self {
        let FetcherParts { ledger, trust, peers, journal, max_artifact, takes, gives } = parts;
        Self(Arc::new(Inner {
            ledger,
            trust,
            peers,
            journal,
            max_artifact,
            takes: Arc::new(takes),
            gives,
            told: Mutex::default(),
            dropped: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            waiting: AtomicUsize::new(0),
        }))
    }

    pub(super) fn peers(&self) -> &Peers {
        &self.0.peers
    }

    pub(super) fn gives(&self) -> &Rate {
        &self.0.gives
    }

    /// Waits until no other transfer is under way.
    async fn turn(&self) -> tokio::sync::MutexGuard<'_, Option<UnderWay>> {
        let _waits = Waits::begin(&self.0.waiting);
        self.0.fetching.lock().await
    }

    /// Whether others wait for this transfer to end.
    fn is_waited_for(&self) -> bool {
        self.0.waiting.load(Ordering::Relaxed) > 0
    }

    fn dropped(&self) -> MutexGuard<'_, Dropped> {
        self.0.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the artifact of a release here when it returns.
    pub(super) async fn fetch(
        &self,
        fleet: &Fleet,
        module: &ModuleName,
        release: u64,
    ) -> Result<(), FetchError> {
        let unknown = || FetchError::Unknown { module: module.clone(), release };
        let record = self.0.ledger.module(module).ok_or_else(unknown)?;
        let (digest, of) = record
            .releases()
            .get(&release)
            .map(|release| (release.digest, release.version.clone()))
            .ok_or_else(unknown)?;
        if self.0.ledger.store().sound_artifact(&digest).is_some() {
            return Ok(());
        }
        let mut kept = self.turn().await;
        if self.0.ledger.store().sound_artifact(&digest).is_some() {
            return Ok(());
        }
        // Anybody who writes to etcd can name the digest under another version, with another size or signature.
        let named = |state: &State| state.named(module, &of, digest).cloned();
        let version = match named(&fleet.state()) {
            Some(version) => version,
            None => named(&fleet.shared(module, Some(&of)).await?).ok_or_else(unknown)?,
        };
        self.bring(fleet, &version, &mut kept).await
    }

    /// Has a version here when it returns, if the fleet has it for this node.
    pub(super) async fn fetch_version(
        &self,
        fleet: &Fleet,
        module: &ModuleName,
        version: &Version,
    ) -> Result<(), FetchError> {
        if self.0.ledger.module(module).is_some_and(|record| runs_here(&record, version).is_some()) {
            return Ok(());
        }
        let shared = fleet.shared(module, Some(version)).await?;
        // Who asks for a version that is nowhere hears of that from the checks of a rollout.
        let Some(value) = shared.best(module, version) else { return Ok(()) };
        let mut kept = self.turn().await;
        if self.0.ledger.store().sound_artifact(&value.record.digest).is_some() {
            return Ok(());
        }
        self.bring(fleet, value, &mut kept).await
    }

    /// From several peers at once, in rounds, as long as anything comes.
    async fn bring(
        &self,
        fleet: &Fleet,
        version: &VersionValue,
        kept: &mut Option<UnderWay>,
    ) -> Result<(), FetchError> {
        let (digest, size) = (version.record.digest, version.record.size);
        let mut transfer = Transfer::new(self, fleet, version, UnderWay::of(kept, digest, size));
        let mut rounds = 0;
        while rounds < ROUNDS {
            if rounds > 0 {
                if self.is_waited_for() {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
            let Some(upload) = self.begin(digest, size).await? else { return Ok(()) };
            let before = transfer.under_way.pieces.here();
            let crew = transfer.crew(rounds > 0).await?;
            if transfer.run(&upload, crew, Besides::Joining).await? {
                let settled = transfer.settle(upload).await;
                // Nothing of it waits in memory any more, whatever came of it.
                *kept = None;
                return settled;
            }
            rounds = if transfer.under_way.pieces.here() > before { 1 } else { rounds + 1 };
        }
        Err(transfer.nobody())
    }
}
