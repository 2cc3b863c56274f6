//! Artifacts, given to other nodes: to few at once, each piece by piece, and no faster than the node's fleet allows.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use hot_artifact::Sha256;
use hot_proto::v1::FetchResponse;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::Api;
use super::status::{Refused, internal, not_found, refused};
use crate::store::Opened;

/// Those who are given something at once: each holds some 500 KiB, here and in the library.
const AT_ONCE: usize = 16;
/// What each of them can have in a second, where the node's rate is bounded: twice what others take for too slow.
const EACH: NonZeroU64 = NonZeroU64::new(128 * 1024).unwrap();
/// How long one more may wait for its turn. Less than other nodes wait for a byte.
const TURN_WITHIN: Duration = Duration::from_secs(3);
/// Bytes that travel as one message: small enough that a slow line brings one in the time in which it is judged.
const PIECE: usize = 64 * 1024;
/// Pieces that wait for a slow peer.
const WAITING: usize = 2;
/// How long a peer may take nothing.
const STALL: Duration = Duration::from_secs(30);
/// How long the last word of a node that goes down may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// What a peer is sent.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = Result<FetchResponse, Status>> + Send>>;

/// Gives artifacts; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Giving {
    api: Api,
    places: Arc<Semaphore>,
    /// How many there are.
    at_once: usize,
}

/// What one peer is given.
struct Gift {
    file: Arc<File>,
    at: u64,
    end: u64,
    pieces: mpsc::Sender<Result<FetchResponse, Status>>,
    _place: OwnedSemaphorePermit,
}

impl Giving {
    pub(super) fn new(api: Api) -> Self {
        let shares = api.fleet.as_ref().and_then(|fleet| fleet.gives().shares(EACH));
        let at_once = shares
            .map_or(AT_ONCE, |shares| usize::try_from(shares).map_or(AT_ONCE, |it| it.clamp(1, AT_ONCE)));
        Self { api, places: Arc::new(Semaphore::new(at_once)), at_once }
    }

    /// So many bytes of an artifact from an offset on; 0: all of them to the end.
    pub(super) async fn give(&self, digest: Sha256, offset: u64, length: u64) -> Result<Pieces, Status> {
        let place = tokio::time::timeout(TURN_WITHIN, Arc::clone(&self.places).acquire_owned()).await;
        // It is never closed, which would be the other error.
        let Ok(Ok(place)) = place else { return Err(busy(self.at_once)) };
        let store = self.api.ledger.store().clone();
        let opened = crate::blocking(move || store.open_artifact(&digest)).await;
        let Opened { file, record, .. } = opened.map_err(|error| {
            not_found("digest", crate::describe(&error), "`hotctl versions` lists what a node has.")
        })?;
        let end = if length == 0 { record.size } else { offset.saturating_add(length).min(record.size) };
        let (sender, pieces) = mpsc::channel(WAITING);
        let goodbye = sender.clone();
        let gift = Gift { file: Arc::new(file), at: offset, end, pieces: sender, _place: place };
        let (stopped, api) = (self.api.stopped.clone(), self.api.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = gift.send(&api) => {}
                // Without it the peer would take what it has for a node that breaks its word.
                () = stopped.cancelled() => {
                    drop(goodbye.send_timeout(Err(Status::unavailable("this node goes down")), GOODBYE).await);
                }
            }
        });
        Ok(Box::pin(ReceiverStream::new(pieces)))
    }
}

impl Gift {
    /// Sends all of it, unless the peer goes away or takes nothing for long.
    async fn send(mut self, api: &Api) {
        while self.at < self.end {
            let length = usize::try_from(self.end - self.at).unwrap_or(PIECE).min(PIECE);
            if let Some(fleet) = &api.fleet {
                fleet.gives().take(length as u64).await;
            }
            let piece = match self.read(length).await {
                Ok(piece) => Ok(FetchResponse { chunk: piece.into() }),
                Err(error) => Err(internal(&error)),
            };
            let is_last = piece.is_err();
            if self.pieces.send_timeout(piece, STALL).await.is_err() || is_last {
                return;
            }
            self.at += length as u64;
        }
    }

    async fn read(&self, length: usize) -> io::Result<Vec<u8>> {
        let (file, at) = (Arc::clone(&self.file), self.at);
        crate::blocking(move || {
            let mut piece = vec![0; length];
            file.read_exact_at(&mut piece, at)?;
            Ok(piece)
        })
        .await
    }
}

fn busy(at_once: usize) -> Status {
    refused(Refused {
        grpc: Code::ResourceExhausted,
        code: "busy",
        field: "",
        found: format!("this node gives artifacts to {at_once} others already"),
        expected: String::new(),
        advice: "Ask another node, or this one again in some seconds.".to_owned(),
    })
}
