//! One transfer: an artifact, from several peers at once, until all of it is here or nobody is left to ask.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hot_artifact::Sha256;
use hot_rollout::Node;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::ask::{Ask, Failure, Peer, Word};
use super::origin::Origin;
use super::pieces::Pieces;
use super::{FetchError, Fetcher};
use crate::cluster::fleet::peers::Peers;
use crate::cluster::fleet::values::VersionValue;
use crate::cluster::fleet::{Fleet, FleetError};
use crate::journal::Entry;
use crate::store::{Upload, UploadError, VersionRecord};

/// The stable word of a peer that is not asked any more.
const DROPPED: &str = "transfer.dropped";
/// Peers that are asked at once.
pub(super) const AT_ONCE: usize = 4;
/// Between two looks at who has it by now, and whether those who could not be reached can be.
const LOOK: Duration = Duration::from_secs(5);
/// What peers tell that waits to be written.
const WORDS: usize = 8;

/// What is known of an artifact that is not whole yet; kept from one try to the next.
#[derive(Debug)]
pub(super) struct UnderWay {
    digest: Sha256,
    pub(super) size: u64,
    pub(super) pieces: Pieces,
    pub(super) origin: Origin,
}

/// Who there is besides those who are asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Besides {
    /// Whoever has the artifact later joins them.
    Joining,
    /// Nobody joins; others would be asked instead.
    Instead,
    /// Nobody.
    Nobody,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Transfer<'a> {
    pub(super) fetcher: &'a Fetcher,
    fleet: &'a Fleet,
    pub(super) version: &'a VersionValue,
    pub(super) under_way: &'a mut UnderWay,
    /// Why each node did not give it, as far as it is known.
    pub(super) why: BTreeMap<Node, String>,
}

/// Who is asked.
struct Crew {
    /// All of those below.
    nodes: BTreeSet<Node>,
    /// Those who may be asked when there is a place.
    waiting: VecDeque<Peer>,
    /// How many are being called.
    called: usize,
    /// Those who answer and have nothing to do.
    idle: VecDeque<Peer>,
    /// How many are asked for something.
    busy: usize,
    /// The tasks that ask, which end with this.
    asks: JoinSet<()>,
    /// Whether one could take the place of another, or another transfer that of this one.
    others: Arc<AtomicBool>,
    besides: Besides,
    sender: mpsc::Sender<Word>,
}

impl UnderWay {
    /// What was kept of this artifact, or nothing of it yet.
    pub(super) fn of(kept: &mut Option<Self>, digest: Sha256, size: u64) -> &mut Self {
        if kept.as_ref().is_some_and(|kept| kept.digest != digest || kept.size != size) {
            *kept = None;
        }
        kept.get_or_insert_with(|| Self {
            digest,
            size,
            pieces: Pieces::new(size),
            origin: Origin::default(),
        })
    }

    /// Goes on at what the spool has.
    pub(super) fn resume(&mut self, front: u64) {
        if self.pieces.resume(front) {
            self.origin = Origin::default();
        }
    }
}

impl<'a> Transfer<'a> {
    pub(super) fn new(
        fetcher: &'a Fetcher,
        fleet: &'a Fleet,
        version: &'a VersionValue,
        under_way: &'a mut UnderWay,
    ) -> Self {
        Self { fetcher, fleet, version, under_way, why: BTreeMap::new() }
    }

    /// Asks these peers, at most [`AT_ONCE`] at a time, until nobody is left of them or of those who join. Whether all bytes
    /// are here.
    pub(super) async fn run(
        &mut self,
        upload: &Arc<Upload>,
        crew: Vec<Peer>,
        besides: Besides,
    ) -> Result<bool, FetchError> {
        self.under_way.resume(upload.offset());
        let (sender, mut words) = mpsc::channel(WORDS);
        let mut crew = Crew::new(crew, besides, sender);
        if besides == Besides::Joining {
            crew.asks.spawn(look_for_more(self.fleet.clone(), self.version.clone(), crew.sender.clone()));
        }
        loop {
            self.write(upload).await?;
            if self.under_way.pieces.is_whole() {
                return Ok(true);
            }
            crew.call(&self.fetcher.0.peers);
            self.set_going(&mut crew);
            if crew.busy + crew.called == 0 {
                return Ok(false);
            }
            // Whoever asks tells at its end, within the patience that it has, and the crew itself keeps a sender.
            if let Some(word) = words.recv().await {
                self.hear(&mut crew, word).await;
            }
        }
    }

    /// Who is there and has it, without those who lied. Those who were too slow a moment ago come last, and only where there
    /// is nobody else or `all` are wanted.
    pub(super) async fn crew(&mut self, all: bool) -> Result<Vec<Peer>, FleetError> {
        let holders = self.fleet.holders(self.version).await?;
        let mut peers = self.choose(holders);
        let (dropped, now) = (self.fetcher.dropped(), Instant::now());
        let good = peers.iter().filter(|peer| !dropped.is_slow(&peer.node, now)).count();
        if good > 0 && !all {
            peers.truncate(good);
        }
        Ok(peers)
    }

    fn choose(&mut self, holders: Vec<(Node, String)>) -> Vec<Peer> {
        let (digest, now) = (self.version.record.digest, Instant::now());
        let dropped = self.fetcher.dropped();
        let (liars, mut good): (Vec<_>, Vec<_>) =
            holders.into_iter().partition(|(node, _)| dropped.is_liar(node, digest, now));
        for (node, _) in liars {
            let text = "it has sent other bytes than these, and is not asked for a while".to_owned();
            self.why.entry(node).or_insert(text);
        }
        good.sort_by_key(|(node, _)| dropped.is_slow(node, now));
        good.into_iter().map(|(node, url)| Peer::new(node, url)).collect()
    }

    /// Gives whoever is free something to do.
    fn set_going(&mut self, crew: &mut Crew) {
        while crew.busy < AT_ONCE
            && let Some(peer) = crew.idle.pop_front()
        {
            let Some(range) = self.under_way.pieces.next(peer.piece) else {
                crew.idle.push_front(peer);
                break;
            };
            let inner = &self.fetcher.0;
            let ask = Ask {
                peers: inner.peers.clone(),
                rate: Arc::clone(&inner.takes),
                digest: self.version.record.digest,
                peer,
                range,
                others: Arc::clone(&crew.others),
                words: crew.sender.clone(),
            };
            crew.busy += 1;
            crew.asks.spawn(ask.run());
        }
        let several = crew.busy + crew.idle.len() > 1;
        let others = several || crew.besides == Besides::Instead || self.fetcher.is_waited_for();
        crew.others.store(others, Ordering::Relaxed);
    }

    async fn hear(&mut self, crew: &mut Crew, word: Word) {
        // Those that have ended, as most have that tell of it.
        while crew.asks.try_join_next().is_some() {}
        match word {
            Word::Bytes { node, at, bytes } => {
                self.under_way.origin.note(&node, at..at + bytes.len() as u64);
                self.under_way.pieces.came(at, bytes);
            }
            Word::Ended { peer, rest, result } => {
                crew.busy -= 1;
                self.under_way.pieces.give_back(&rest);
                match result {
                    Ok(()) => crew.idle.push_front(peer),
                    Err(failure) => {
                        crew.nodes.remove(&peer.node);
                        self.part_with(&peer.node, &failure).await;
                    }
                }
            }
            Word::Answers { peer, result } => {
                crew.called -= 1;
                match result {
                    Ok(()) => crew.idle.push_back(peer),
                    Err(failure) => {
                        crew.nodes.remove(&peer.node);
                        self.part_with(&peer.node, &failure).await;
                    }
                }
            }
            Word::Holders(holders) => {
                let mut peers = self.choose(holders);
                let (dropped, now) = (self.fetcher.dropped(), Instant::now());
                peers.retain(|peer| !crew.nodes.contains(&peer.node) && !dropped.is_slow(&peer.node, now));
                crew.nodes.extend(peers.iter().map(|peer| peer.node.clone()));
                crew.waiting.extend(peers);
            }
        }
    }

    /// A peer is not asked any more, in this round at least.
    async fn part_with(&mut self, node: &Node, failure: &Failure) {
        let why = crate::describe(failure);
        tracing::debug!(%node, why, "a node does not give what it was asked for");
        if failure.is_fault() && self.fetcher.dropped().was_slow(node, Instant::now()) {
            self.tell(node, &why).await;
        }
        self.why.insert(node.clone(), why);
    }

    /// It has sent other bytes than those of the digest.
    pub(super) async fn lied(&mut self, node: &Node) {
        let why = "it sent other bytes than those of this digest";
        if self.fetcher.dropped().lied(node, self.version.record.digest, Instant::now()) {
            self.tell(node, why).await;
        }
        self.why.insert(node.clone(), why.to_owned());
    }

    async fn tell(&self, node: &Node, why: &str) {
        let VersionRecord { module, version, digest, .. } = &self.version.record;
        let text = format!(
            "{node} is not asked for {module} {version} ({}) any more: {why}. Others are, as far as there are any; see what \
             is wrong with {node}",
            digest.short()
        );
        let fields = [("peer", node.to_string()), ("digest", digest.to_string())];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect();
        let entry = Entry { kind: DROPPED, module: module.to_string(), text, fields, ..Entry::default() };
        self.fetcher.0.journal.write(entry).await;
    }

    /// Writes what continues what is there.
    async fn write(&mut self, upload: &Arc<Upload>) -> Result<(), UploadError> {
        while let Some((at, bytes)) = self.under_way.pieces.ready() {
            let writer = Arc::clone(upload);
            crate::blocking(move || writer.write(at, &bytes)).await?;
        }
        Ok(())
    }
}

/// Tells who has it, from time to time: those who could not be reached, and those who have it by now.
async fn look_for_more(fleet: Fleet, version: VersionValue, sender: mpsc::Sender<Word>) {
    loop {
        tokio::time::sleep(LOOK).await;
        // Without etcd the transfer goes on with those who are known.
        let Ok(holders) = fleet.holders(&version).await else { continue };
        if sender.send(Word::Holders(holders)).await.is_err() {
            return;
        }
    }
}

/// Calls a peer before it is asked for anything: one that is not there would else hold up what others are asked for.
async fn call(peers: Peers, peer: Peer, sender: mpsc::Sender<Word>) {
    let result = peers.channel(&peer.node, &peer.url).await.map(drop).map_err(Failure::from);
    // Nobody listens any more where the transfer is over.
    drop(sender.send(Word::Answers { peer, result }).await);
}

impl Crew {
    /// Calls those for whom there is a place.
    fn call(&mut self, peers: &Peers) {
        while self.called + self.idle.len() + self.busy < AT_ONCE
            && let Some(peer) = self.waiting.pop_front()
        {
            self.called += 1;
            self.asks.spawn(call(peers.clone(), peer, self.sender.clone()));
        }
    }

    fn new(peers: Vec<Peer>, besides: Besides, sender: mpsc::Sender<Word>) -> Self {
        let nodes = peers.iter().map(|peer| peer.node.clone()).collect();
        let (waiting, idle) = (peers.into(), VecDeque::new());
        Self {
            nodes,
            waiting,
            called: 0,
            idle,
            busy: 0,
            asks: JoinSet::new(),
            others: Arc::default(),
            besides,
            sender,
        }
    }
}
