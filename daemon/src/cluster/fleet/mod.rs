//! The cluster of nodes that share an etcd.
//!
//! | room | what it is for |
//! |---|---|
//! | `values`, `state` | what is under the keys, and what this node has heard of it: pure |
//! | `reports` | what nodes say, on its way to the leader: pure |
//! | `leader`, `prune` | the driver's verbs, which only the leader has; what etcd keeps no longer: pure |
//! | `cordons` | the nodes that people keep out of rollouts, or take out of the fleet |
//! | `versions`, `removed` | the versions that the fleet has, and those that people take out of it |
//! | `replica` | what the fleet knows of modules, kept in this node's ledger |
//! | `member` | this node in its fleet: its lease, elections, obeying, reporting |
//! | `fetch` | artifacts, from the nodes that have them |
//! | `peers` | how other nodes are called |
//! | `rate` | how fast artifacts travel |
//! | `feed` | what nodes say, told to the driver of the leader |
//!
//! Does not decide what a node runs, nor trusts what it reads: see `docs/decisions/0018`.

mod cordons;
mod feed;
mod fetch;
mod leader;
mod member;
mod peers;
mod prune;
mod rate;
mod removed;
mod replica;
mod reports;
mod state;
pub mod values;
mod versions;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use hot_artifact::ModuleName;
use hot_rollout::{Module, Node};
use tokio::sync::watch;

pub use self::cordons::Cordoned;
pub use self::fetch::{FetchError, Fetcher, FetcherParts};
pub use self::leader::Kept;
use self::leader::{Asked, Written};
pub use self::member::{Away, Member, MemberParts};
pub use self::peers::{PeerError, Peers};
pub use self::rate::Rate;
pub use self::state::{Change, State};
use self::values::Malformed;
use crate::cluster::etcd::{Connection, EtcdError, Folder, Found, Keys, Term, Write, WriteError};
use crate::ledger::{Ledger, LedgerError};

/// Tries of a leader's write that an earlier one of its own overtakes.
const MAX_WRITES: u32 = 3;

/// A handle to this node's place in its fleet; clones are the same.
#[derive(Clone, Debug)]
pub struct Fleet(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: Node,
    /// Held from a look at a node's cordon until the next one is written: of two calls at once neither loses the other's word.
    cordoning: tokio::sync::Mutex<()>,
    connection: Connection,
    keys: Keys,
    ledger: Ledger,
    fetcher: Fetcher,
    state: watch::Sender<Arc<State>>,
    standing: watch::Sender<Standing>,
    written: Mutex<Written>,
    asked: watch::Sender<Asked>,
    /// Held from a look at what the fleet knows of modules until that is kept here: what was looked at later comes later.
    keeping: tokio::sync::Mutex<()>,
}

/// How this node stands to its fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The term in which it leads.
    pub term: Option<Term>,
    /// All that there is has been heard once since its start.
    pub heard: bool,
    /// Since when etcd can't be heard, and why.
    pub stale: Option<(SystemTime, String)>,
    /// Since when it leaves it to others to lead, as it could not.
    pub rests: Option<Instant>,
    /// Since when another hotd has its name in the fleet.
    pub taken: Option<SystemTime>,
    /// What of each module it was told to do and can't do yet, and tries again.
    pub waits: BTreeMap<ModuleName, String>,
    /// The last of its terms of which etcd refused a write, as it was over: its epoch.
    pub fenced: Option<i64>,
}

/// Why the fleet can't answer or write.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// etcd can't be reached, or refuses.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// A leader's write was not made.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// This node does not lead.
    #[error("this node does not lead its fleet")]
    NotLeader,
    /// This node's own record can't be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A release in etcd has a config, which nobody has signed.
    #[error(
        "release {number} of {module} has a config in etcd: this hotd knows of no signature over configs, and runs none that \
         comes from there"
    )]
    UnsignedConfig {
        /// The module.
        module: ModuleName,
        /// The release.
        number: u64,
    },
    /// The fleet does not know a version.
    #[error("{module} {version} is on this node alone: its fleet could not be told of it; push it again")]
    NotShared {
        /// The module.
        module: ModuleName,
        /// The version.
        version: hot_artifact::Version,
    },
    /// Somebody has removed a version from the fleet.
    #[error("{module} {version} was removed from this fleet by {by}: push it under a new version")]
    Removed {
        /// The module.
        module: ModuleName,
        /// The version.
        version: hot_artifact::Version,
        /// Who.
        by: String,
    },
    /// This node has another release of that number.
    #[error(
        "release {number} of {module} is another one on this node than in its fleet, as of a time when it was alone: stop its \
         hotd, and let it begin with an empty data folder"
    )]
    Differs {
        /// The module.
        module: ModuleName,
        /// The number.
        number: u64,
    },
    /// The fleet has no such node.
    #[error("the fleet has no node `{}`", node.as_str().escape_debug())]
    NoNode {
        /// The name that was given.
        node: Node,
    },
    /// A node that is there would be back at once.
    #[error("{node} is there, and would be back in the fleet at once")]
    NodeUp {
        /// Which.
        node: Node,
    },
    /// This node has not heard what it must know to lead.
    #[error("this node does not hear etcd well enough to lead")]
    Behind,
    /// So many numbers were taken that something else is wrong.
    #[error("no number for a release of {module} is free in etcd")]
    NoNumber {
        /// The module.
        module: ModuleName,
    },
}

impl FleetError {
    /// Whether etcd can't be asked now, or not by this node, which does not lead.
    #[must_use]
    pub fn is_out_of_reach(&self) -> bool {
        match self {
            Self::Etcd(error) | Self::Write(WriteError::Etcd(error)) => error.is_out_of_reach(),
            Self::NotLeader | Self::Behind | Self::Write(WriteError::Deposed { .. }) => true,
            Self::Write(WriteError::Exists { .. } | WriteError::Overtaken)
            | Self::Ledger(_)
            | Self::UnsignedConfig { .. }
            | Self::NotShared { .. }
            | Self::Removed { .. }
            | Self::Differs { .. }
            | Self::NoNode { .. }
            | Self::NodeUp { .. }
            | Self::NoNumber { .. } => false,
        }
    }
}

impl Fleet {
    /// The place of `node` in the fleet that these keys are of. Nothing is heard until its [`Member`] runs.
    #[must_use]
    pub fn new(node: Node, connection: Connection, keys: Keys, ledger: Ledger, fetcher: Fetcher) -> Self {
        Self(Arc::new(Inner {
            node,
            cordoning: tokio::sync::Mutex::default(),
            connection,
            keys,
            ledger,
            fetcher,
            state: watch::Sender::new(Arc::default()),
            standing: watch::Sender::new(Standing::default()),
            written: Mutex::default(),
            asked: watch::Sender::default(),
            keeping: tokio::sync::Mutex::default(),
        }))
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.0.node
    }

    /// What is known of the fleet.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.0.state.borrow())
    }

    /// Changes when [`Self::state`] does.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<Arc<State>> {
        self.0.state.subscribe()
    }

    /// How this node stands, and when that changes.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.0.standing.subscribe()
    }

    /// Why etcd can't be heard, where it can't.
    #[must_use]
    pub fn unheard(&self) -> Option<String> {
        self.0.standing.borrow().stale.clone().map(|(_, why)| why)
    }

    /// How the other nodes are called.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        self.0.fetcher.peers()
    }

    /// How fast artifacts are given to other nodes.
    #[must_use]
    pub fn gives(&self) -> &Rate {
        self.0.fetcher.gives()
    }

    /// Has a version here, as far as the fleet has it for this node.
    ///
    /// # Errors
    /// Nobody gave it, or it is refused here.
    pub async fn fetch_version(
        &self,
        module: &ModuleName,
        version: &hot_artifact::Version,
    ) -> Result<(), FetchError> {
        self.0.fetcher.fetch_version(self, module, version).await
    }

    fn fetcher(&self) -> &Fetcher {
        &self.0.fetcher
    }

    fn connection(&self) -> &Connection {
        &self.0.connection
    }

    fn keys(&self) -> &Keys {
        &self.0.keys
    }

    fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.0.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn term(&self) -> Result<Term, FleetError> {
        self.0.standing.borrow().term.clone().ok_or(FleetError::NotLeader)
    }

    fn epoch(&self) -> Result<i64, FleetError> {
        Ok(self.term()?.epoch())
    }

    /// Makes writes as the leader. One that is not the leader any more knows it from then on.
    async fn lead(&self, writes: Vec<Write>) -> Result<(), FleetError> {
        let term = self.term()?;
        let mut tries = 1;
        loop {
            match self.try_to_write(&term, writes.clone()).await {
                Ok(_revision) => return Ok(()),
                Err(WriteError::Overtaken) if tries < MAX_WRITES => tries += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes in a term, once. What etcd says is heard also where nobody waits for it any more, as the term is over by our own
    /// clock.
    async fn try_to_write(&self, term: &Term, writes: Vec<Write>) -> Result<i64, WriteError> {
        let (fleet, term) = (self.clone(), term.clone());
        crate::to_its_end(async move {
            let Inner { connection, keys, standing, .. } = &*fleet.0;
            let written = term.write(connection, keys, writes).await;
            if let Err(WriteError::Deposed { epoch }) = written {
                standing.send_modify(|standing| standing.fenced = Some(epoch));
                fleet.depose(&term);
            }
            written
        })
        .await
    }

    /// Gives leadership up that is of no use, and leaves it to others for a while.
    pub async fn give_up(&self, term: &Term) {
        self.0.standing.send_modify(|standing| standing.rests = Some(Instant::now()));
        self.depose(term);
        if let Err(error) = term.clone().resign(&self.0.connection).await {
            tracing::warn!(error = %crate::describe(&error), "this node leads until etcd can be told otherwise");
        }
    }

    /// That term is over.
    fn depose(&self, term: &Term) {
        self.0.standing.send_if_modified(|standing| {
            let is_it = standing.term.as_ref() == Some(term);
            if is_it {
                standing.term = None;
                tracing::warn!(epoch = term.epoch(), "this node does not lead its fleet any more");
            }
            is_it
        });
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Found>, FleetError> {
        Ok(self.0.connection.list(&self.0.keys.folder(folder)).await?.found)
    }

    fn alarm(&self, malformed: &Malformed) {
        tracing::error!(error = %crate::describe(malformed), "a value in etcd is ignored");
    }
}

/// A module's name as etcd has it.
fn named(module: &Module) -> Result<ModuleName, LedgerError> {
    module.as_str().parse().map_err(|_no_name| LedgerError::NoModule(module.clone()))
}
