//! One question to one peer: some bytes of an artifact, told piece by piece as they come.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hot_artifact::Sha256;
use hot_proto::v1::FetchRequest;
use hot_proto::v1::artifact_service_client::ArtifactServiceClient;
use hot_rollout::Node;
use tokio::sync::mpsc;
use tonic::Code;

use super::pace::{Pace, Slow};
use super::pieces::{FIRST, size_after};
use crate::cluster::fleet::peers::{PeerError, Peers};
use crate::cluster::fleet::rate::Rate;

/// Bytes that are told at once: a peer that sends them one by one costs no more memory than another.
const TOLD: usize = 64 << 10;
/// Between two looks at whether others could give the same by now.
const LOOK: Duration = Duration::from_secs(1);

/// A node that has the artifact, as it says.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) node: Node,
    pub(super) url: String,
    pace: Pace,
    /// How much to ask it for.
    pub(super) piece: u64,
}

/// What is asked.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) peers: Peers,
    pub(super) rate: Arc<Rate>,
    pub(super) digest: Sha256,
    pub(super) peer: Peer,
    /// What is missing of it.
    pub(super) range: Range<u64>,
    /// Whether others could give the same.
    pub(super) others: Arc<AtomicBool>,
    pub(super) words: mpsc::Sender<Word>,
}

/// What comes of it.
#[derive(Debug)]
pub(super) enum Word {
    /// The next bytes.
    Bytes { node: Node, at: u64, bytes: Bytes },
    /// That was all, or it is over.
    Ended { peer: Peer, rest: Range<u64>, result: Result<(), Failure> },
    /// It can be asked, or why not.
    Answers { peer: Peer, result: Result<(), Failure> },
    /// Who has it by now, and where each is called.
    Holders(Vec<(Node, String)>),
}

/// Why a peer did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("{}", .0.message())]
    Status(#[from] tonic::Status),
    #[error(transparent)]
    Slow(#[from] Slow),
    #[error("it ended {missing} bytes before the end of what it was asked for")]
    Short { missing: u64 },
}

impl Failure {
    /// Whether the peer itself is at fault, and not the line: it is not asked any more, and people hear of it.
    pub(super) fn is_fault(&self) -> bool {
        match self {
            Self::Slow(_) | Self::Short { .. } => true,
            Self::Peer(error) => match error {
                PeerError::OtherNode { .. }
                | PeerError::OtherUser { .. }
                | PeerError::Unknown { .. }
                | PeerError::Unnamed { .. }
                | PeerError::NoAddress { .. } => true,
                PeerError::NoCertificate { .. }
                | PeerError::Late { .. }
                | PeerError::Unreachable { .. }
                | PeerError::Transport { .. } => false,
            },
            Self::Status(status) => status.code() == Code::OutOfRange,
        }
    }
}

impl Peer {
    pub(super) fn new(node: Node, url: String) -> Self {
        Self { node, url, pace: Pace::default(), piece: FIRST }
    }
}

impl Ask {
    /// Asks, and tells what comes.
    pub(super) async fn run(mut self) {
        let result = self.ask().await;
        let Self { peer, range: rest, words, .. } = self;
        // Nobody listens any more where the transfer is over.
        drop(words.send(Word::Ended { peer, rest, result }).await);
    }

    async fn ask(&mut self) -> Result<(), Failure> {
        let length = self.range.end - self.range.start;
        self.rate.take(length).await;
        let channel = self.peers.channel(&self.peer.node, &self.peer.url).await?;
        let mut client =
            ArtifactServiceClient::new(channel).max_decoding_message_size(2 * hot_proto::MAX_CHUNK);
        let request = FetchRequest { digest: self.digest.to_string(), offset: self.range.start, length };
        let mut waited = Duration::ZERO;
        let mut pieces = self.wait(client.fetch(request), &mut waited).await??.into_inner();
        let mut gathered = BytesMut::new();
        while self.range.start + (gathered.len() as u64) < self.range.end {
            let piece = match self.wait(pieces.message(), &mut waited).await {
                Ok(Ok(Some(piece))) => piece.chunk,
                ended => {
                    // What came counts, however it ended.
                    self.tell(&mut gathered).await;
                    ended??;
                    return Err(Failure::Short { missing: self.range.end - self.range.start });
                }
            };
            let missing = self.range.end - self.range.start - gathered.len() as u64;
            // A node of an older version gives all to the end.
            let wanted = usize::try_from(missing).map_or(piece.len(), |missing| missing.min(piece.len()));
            gathered.extend_from_slice(&piece[..wanted]);
            self.peer.pace.came(wanted as u64);
            let judged = self.judge();
            if gathered.len() >= TOLD || judged.is_err() {
                self.tell(&mut gathered).await;
            }
            judged?;
        }
        self.tell(&mut gathered).await;
        self.peer.piece = size_after(length, waited);
        Ok(())
    }

    /// Waits for the peer as long as it may take.
    async fn wait<T>(
        &mut self,
        coming: impl Future<Output = T>,
        waited: &mut Duration,
    ) -> Result<T, Failure> {
        let mut coming = pin!(coming);
        loop {
            let (begun, patience) = (Instant::now(), self.peer.pace.patience(self.have_others()));
            let came = tokio::time::timeout(patience.min(LOOK), coming.as_mut()).await;
            *waited += begun.elapsed();
            self.peer.pace.waited(begun.elapsed());
            match came {
                // It is judged with what it brought.
                Ok(came) => return Ok(came),
                Err(_elapsed) => self.judge()?,
            }
        }
    }

    fn judge(&mut self) -> Result<(), Slow> {
        let others = self.have_others();
        self.peer.pace.judge(others)
    }

    async fn tell(&mut self, gathered: &mut BytesMut) {
        if gathered.is_empty() {
            return;
        }
        let (at, bytes) = (self.range.start, gathered.split().freeze());
        self.range.start += bytes.len() as u64;
        let node = self.peer.node.clone();
        drop(self.words.send(Word::Bytes { node, at, bytes }).await);
    }

    fn have_others(&self) -> bool {
        self.others.load(Ordering::Relaxed)
    }
}
