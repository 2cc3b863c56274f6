//! A node's place: alone, or in the fleet that its config names. Decides nothing: it puts together what takes part.

use std::net::SocketAddr;
use std::time::SystemTime;

use hot_rollout::{Event, Node};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::cluster::fleet::values::NodeValue;
use crate::cluster::fleet::{Away, Fetcher, FetcherParts, Member, MemberParts, Peers, Rate};
use crate::cluster::{Cluster, Fleet, Local, etcd};
use crate::config::{self, Config};
use crate::grpc::About;
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::tls::TlsFiles;
use crate::trust::TrustFiles;

/// Where a node belongs.
#[derive(Debug)]
pub(crate) enum Place {
    Alone(Local),
    In(Fleet, config::Cluster),
}

impl Place {
    /// As the config says. `mutual` is what other nodes are shown.
    pub(crate) fn of(
        config: &Config,
        (agent, ledger, journal): (&Agent, &Ledger, &Journal),
        trust: &TrustFiles,
        mutual: Option<&TlsFiles>,
    ) -> Self {
        let node = Node(config.node.clone());
        let Some(cluster) = &config.cluster else {
            return Self::Alone(Local::new(node, agent.clone(), ledger.clone()));
        };
        let identity = cluster.identity.clone();
        let files = |authority| etcd::Files { authority, identity };
        let settings = etcd::Settings {
            endpoints: cluster.etcd.clone(),
            tls: cluster.authority.clone().map(files),
            user: cluster.user.clone(),
        };
        let (connection, keys) = (etcd::Connection::new(settings), etcd::Keys::new(&cluster.prefix));
        let fetcher = Fetcher::new(FetcherParts {
            ledger: ledger.clone(),
            trust: trust.clone(),
            peers: Peers::new(mutual.cloned()),
            journal: journal.clone(),
            max_artifact: config.store.max_artifact,
            takes: Rate::new(cluster.fetch_rate),
            gives: Rate::new(cluster.give_rate),
        });
        Self::In(Fleet::new(node, connection, keys, ledger.clone(), fetcher), cluster.clone())
    }

    /// Where the driver's word goes.
    pub(crate) fn cluster(&self) -> Cluster {
        match self {
            Self::Alone(local) => Cluster::Local(local.clone()),
            Self::In(fleet, _) => Cluster::Fleet(fleet.clone()),
        }
    }

    /// The fleet, if it is in one.
    pub(crate) fn fleet(&self) -> Option<Fleet> {
        match self {
            Self::Alone(_) => None,
            Self::In(fleet, _) => Some(fleet.clone()),
        }
    }

    /// Begins to take part until `stopped`; other nodes call it where it `listens`. What the agent reports goes to the fleet then, and to the driver of a node that
    /// is alone.
    pub(crate) fn take_part(
        &self,
        config: &Config,
        (about, listens): (&About, &[SocketAddr]),
        (agent, journal, away): (&Agent, &Journal, Option<Away>),
        reports: mpsc::Receiver<Event>,
        stopped: &CancellationToken,
    ) -> (mpsc::Receiver<Event>, Option<JoinHandle<()>>) {
        let (Self::In(fleet, cluster), Some(away)) = (self, away) else { return (reports, None) };
        let parts = MemberParts {
            fleet: fleet.clone(),
            about: said(config, cluster, about, listens),
            home: home(config),
            agent: agent.clone(),
            away,
            journal: journal.clone(),
            lease: cluster.lease,
        };
        let (_nobody, nothing) = mpsc::channel(1);
        (nothing, Some(tokio::spawn(Member::run(parts, reports, stopped.clone()))))
    }
}

/// Names the data folder and its machine, so that two nodes by one name can be told from one that begins anew. A machine
/// without an id is told apart by its folder alone.
fn home(config: &Config) -> String {
    let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
    let folder = config.data_dir.canonicalize().unwrap_or_else(|_| config.data_dir.clone());
    let all = [machine.trim_ascii(), b" ", folder.as_os_str().as_encoded_bytes()].concat();
    hot_artifact::Sha256::of(&all).to_string().chars().take(16).collect()
}

/// What the node says of itself to its fleet.
fn said(config: &Config, cluster: &config::Cluster, about: &About, listens: &[SocketAddr]) -> NodeValue {
    let since = about.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Every address is none that others could call.
    let by_tls = listens.iter().find(|address| !address.ip().is_unspecified());
    let own = || match by_tls {
        Some(address) => format!("https://{address}"),
        None => format!("unix:{}", config.grpc.socket.display()),
    };
    NodeValue {
        target: hot_artifact::Target::native(),
        labels: cluster.labels.clone(),
        grpc: cluster.call.clone().unwrap_or_else(own),
        http: about.http.clone(),
        hotd: env!("CARGO_PKG_VERSION").to_owned(),
        since: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
    }
}
