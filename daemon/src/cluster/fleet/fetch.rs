//! Artifacts, from the nodes that have them, by digest. What comes is what the digest says and what this node's own
//! signers have signed, or it is thrown away; from where it came does not matter.
//!
//! A transfer that breaks goes on where it was, from the next node that has it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hot_artifact::{Checks, ModuleName, Sha256, Verified, VerifyError, Version};
use hot_proto::v1::FetchRequest;
use hot_proto::v1::artifact_service_client::ArtifactServiceClient;
use hot_rollout::Node;

use super::peers::{PeerError, Peers};
use super::values::VersionValue;
use super::{Fleet, FleetError, State};
use crate::cluster::etcd::{Folder, Key};
use crate::ledger::{Ledger, runs_here};
use crate::store::{Begun, CommitError, Spooled, Upload, UploadError, VersionRecord};
use crate::trust::{Frozen, TrustFiles};

/// How long a peer may take to answer, and between two pieces.
const PATIENCE: Duration = Duration::from_secs(10);
/// Rounds through all who have it, before whoever wants it is told.
const ROUNDS: usize = 3;
/// How long a version that was shared by another node may take to be heard of here.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
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
    max_artifact: u64,
    /// What the fleet was told that this node has.
    told: Mutex<BTreeSet<Sha256>>,
    /// One transfer at a time: another one of the same bytes waits and then finds them.
    fetching: tokio::sync::Mutex<()>,
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
            Self::Refused(_) | Self::Commit(_) | Self::Fleet(FleetError::Differs { .. }) => true,
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

/// What became of one try with one node.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("{}", .0.message())]
    Status(#[from] tonic::Status),
    #[error("it sent nothing for {} s", PATIENCE.as_secs())]
    Slow,
    #[error("it ended after {there} of {total} bytes")]
    Short { there: u64, total: u64 },
    #[error(transparent)]
    Upload(#[from] UploadError),
}

impl Fetcher {
    /// Gets artifacts into this ledger's store.
    #[must_use]
    pub fn new(ledger: Ledger, trust: TrustFiles, peers: Peers, max_artifact: u64) -> Self {
        Self(Arc::new(Inner {
            ledger,
            trust,
            peers,
            max_artifact,
            told: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }))
    }

    pub(super) fn peers(&self) -> &Peers {
        &self.0.peers
    }

    /// Every artifact that is here; the fleet is told of all of them.
    pub(super) fn here(&self) -> Vec<Sha256> {
        let all: BTreeSet<Sha256> = self.stored();
        *self.told() = all.clone();
        all.into_iter().collect()
    }

    /// What is known of them.
    pub(super) fn records(&self) -> Vec<VersionRecord> {
        let store = self.0.ledger.store();
        let known = self.stored().into_iter().filter_map(|digest| store.artifact(&digest));
        known.map(|record| (*record).clone()).collect()
    }

    /// The artifacts that came since the fleet was told.
    pub(super) fn new_here(&self) -> Vec<Sha256> {
        let (all, mut told) = (self.stored(), self.told());
        let new: Vec<Sha256> = all.difference(&told).copied().collect();
        told.extend(&new);
        new
    }

    /// The fleet was not told of this one.
    pub(super) fn untold(&self, digest: Sha256) {
        self.told().remove(&digest);
    }

    fn told(&self) -> MutexGuard<'_, BTreeSet<Sha256>> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stored(&self) -> BTreeSet<Sha256> {
        let modules = self.0.ledger.modules();
        let stored = |record: &crate::store::ModuleRecord| {
            let targets = record.versions().values().flat_map(|targets| targets.values());
            targets.map(|stored| stored.digest).collect::<Vec<_>>()
        };
        modules.iter().flat_map(|(_, record)| stored(record)).collect()
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
        let digest = record.releases().get(&release).map(|release| release.digest).ok_or_else(unknown)?;
        if self.0.ledger.store().sound_artifact(&digest).is_some() {
            return Ok(());
        }
        let _one_at_a_time = self.0.fetching.lock().await;
        if self.0.ledger.store().sound_artifact(&digest).is_some() {
            return Ok(());
        }
        let named =
            |state: &State| state.versions.values().find(|value| value.record.digest == digest).cloned();
        let version = fleet.heard(named).await.ok_or_else(unknown)?;
        self.bring(fleet, version).await
    }

    /// Has a version here when it returns, if the fleet has it for this node. It may have been shared a moment ago, by
    /// another node.
    pub(super) async fn fetch_version(
        &self,
        fleet: &Fleet,
        module: &ModuleName,
        version: &Version,
    ) -> Result<(), FetchError> {
        if self.0.ledger.module(module).is_some_and(|record| runs_here(&record, version).is_some()) {
            return Ok(());
        }
        let value = fleet.heard(|state| state.best(module, version).cloned()).await;
        // Who asks for a version that is nowhere hears of that from the checks of a rollout.
        let Some(value) = value else { return Ok(()) };
        let _one_at_a_time = self.0.fetching.lock().await;
        if self.0.ledger.store().sound_artifact(&value.record.digest).is_some() {
            return Ok(());
        }
        self.bring(fleet, value).await
    }

    async fn bring(&self, fleet: &Fleet, version: VersionValue) -> Result<(), FetchError> {
        let VersionRecord { digest, size, .. } = version.record;
        let mut why = Vec::new();
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            why.clear();
            for (node, url) in fleet.holders(&version).await? {
                let spooled = match self.ask_peer((&node, &url), digest, size).await {
                    Ok(spooled) => spooled,
                    Err(Failure::Upload(error)) => return Err(error.into()),
                    Err(error) => {
                        why.push(format!("{node}: {}", crate::describe(&error)));
                        continue;
                    }
                };
                match self.commit(spooled, version.record.clone()).await {
                    // What came is thrown away, and the next one is asked from the start.
                    Err(FetchError::Refused(error)) if matches!(*error, VerifyError::OtherDigest { .. }) => {
                        tracing::warn!(%node, %digest, "a node has sent other bytes than it was asked for");
                        why.push(format!("{node}: {error}"));
                    }
                    done => return done,
                }
            }
        }
        if why.is_empty() {
            why.push("no node that is there has it".to_owned());
        }
        Err(FetchError::NoPeer { digest, why: why.join("; ") })
    }

    async fn ask_peer(
        &self,
        (node, url): (&Node, &str),
        digest: Sha256,
        size: u64,
    ) -> Result<Spooled, Failure> {
        let mut client = ArtifactServiceClient::new(self.0.peers.channel(node, url).await?)
            .max_decoding_message_size(2 * hot_proto::MAX_CHUNK);
        let store = self.0.ledger.store().clone();
        let begun = crate::blocking(move || store.begin_upload(digest, size)).await?;
        let Begun::Upload(upload) = begun else {
            return Err(Failure::Short { there: size, total: size });
        };
        let offset = upload.offset();
        let request = FetchRequest { digest: digest.to_string(), offset };
        let pieces = tokio::time::timeout(PATIENCE, client.fetch(request)).await;
        let mut pieces = pieces.map_err(|_elapsed| Failure::Slow)??.into_inner();
        let (upload, mut at) = (Arc::new(upload), offset);
        loop {
            let piece = tokio::time::timeout(PATIENCE, pieces.message()).await;
            let Some(piece) = piece.map_err(|_elapsed| Failure::Slow)?? else { break };
            let writer = Arc::clone(&upload);
            at = crate::blocking(move || writer.write(at, &piece.chunk)).await?;
        }
        finish(upload, size)
    }

    /// Verifies what came, as what is uploaded is, and makes a version of it.
    async fn commit(&self, spooled: Spooled, record: VersionRecord) -> Result<(), FetchError> {
        let trust = self.0.trust.admitting().await.map_err(FetchError::Frozen)?;
        let (ledger, max_size) = (self.0.ledger.clone(), self.0.max_artifact);
        crate::blocking(move || {
            let file = spooled.open().map_err(VerifyError::Read)?;
            let checks = Checks { trust: &trust, node: ledger.machine(), max_size };
            let signature = record.signature.as_bytes();
            let verified = Verified::admit_as(spooled.digest(), file, signature, &checks, SystemTime::now());
            let verified = match verified {
                Ok(verified) => verified,
                Err(error) => {
                    // Whoever sent it: it is not what was announced, or not for this node.
                    spooled.throw_away();
                    return Err(FetchError::from(error));
                }
            };
            let record = VersionRecord {
                module: verified.metadata().name.clone(),
                version: verified.metadata().version.clone(),
                target: verified.target(),
                size: verified.size(),
                metadata: verified.metadata_text().to_owned(),
                principal: verified.principal().to_owned(),
                ..record
            };
            ledger.store().commit(&spooled, record)?;
            ledger.hold(verified);
            Ok(())
        })
        .await
    }
}

fn finish(upload: Arc<Upload>, total: u64) -> Result<Spooled, Failure> {
    let there = upload.offset();
    match Arc::try_unwrap(upload) {
        Ok(upload) if there == total => Ok(upload.finish()?),
        // What came stays for the next try.
        Ok(_) | Err(_) => Err(Failure::Short { there, total }),
    }
}

impl Fleet {
    /// What another node has shared, maybe a moment ago: watches are not told all at once.
    async fn heard<T>(&self, find: impl Fn(&State) -> Option<T>) -> Option<T> {
        let mut states = self.states();
        let heard = states.wait_for(|state| find(state).is_some());
        let heard = tokio::time::timeout(HEARD_WITHIN, heard).await;
        heard.ok()?.ok().and_then(|state| find(&state))
    }

    /// Who is there and has an artifact, and where each is called: in an order of its own, so that not all ask the same.
    async fn holders(&self, version: &VersionValue) -> Result<Vec<(Node, String)>, FleetError> {
        let state = self.state();
        let folder = Folder::Holders(version.record.digest);
        let listed = self.list(&folder).await?;
        let holds = listed.iter().filter_map(|found| match self.keys().parse(&found.key)? {
            Key::Holder(_, node) => Some(node),
            _ => None,
        });
        let mut nodes: BTreeSet<Node> = holds.collect();
        nodes.insert(version.node.clone());
        let mut urls: Vec<(Node, String)> = nodes
            .into_iter()
            .filter(|node| node != self.node() && state.is_up(node))
            .filter_map(|node| Some((node.clone(), state.nodes.get(&node)?.grpc.clone())))
            .collect();
        urls.sort_by_cached_key(|_| rand::random::<u64>());
        Ok(urls)
    }

    /// Tells the fleet of a version that was let in here.
    ///
    /// # Errors
    /// It is there with another digest, or etcd can't be reached: then it is a version of this node alone.
    pub async fn share_version(&self, record: VersionRecord) -> Result<(), FleetError> {
        let key = Key::Version(record.module.clone(), record.version.clone(), record.target);
        let name = self.keys().of(&key);
        let digest = record.digest;
        let value = super::values::encode(&VersionValue { record, node: self.node().clone() });
        let created = self.connection().create(&name, value).await?;
        match created {
            None => Ok(()),
            Some(found) => match super::values::parse::<VersionValue>(&found.key, &found.value) {
                Ok(there) if there.record.digest == digest => Ok(()),
                Ok(_) | Err(_) => Err(super::WriteError::Exists { key: name }.into()),
            },
        }
    }
}
