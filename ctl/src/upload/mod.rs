//! Sending one file to a node, from where the last attempt stopped. Reads the file in chunks; it is never whole in
//! memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hot_proto::MAX_CHUNK;
use hot_proto::v1::{BeginRequest, UploadHeader, UploadRequest, UploadResponse, upload_request::Part};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::failure::Failure;
use crate::follow::is_lost;
use crate::node::Client;
use crate::words;

/// Attempts in a row that bring no byte further before it is given up.
const FRUITLESS_ATTEMPTS: u32 = 5;

/// How long an upload waits before it tries again or gives up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Before the second attempt; doubled for each that follows.
    first_pause: Duration,
    /// The most that it is doubled to.
    longest_pause: Duration,
    /// An upload of which nothing moves for this long is broken off.
    stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(3),
            // At the end the node hashes, checks and syncs up to 256 MiB, which a slow disk does in this time.
            stall: Duration::from_secs(60),
        }
    }
}

/// Between two reports of progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// Chunks that are read ahead of the network.
const READ_AHEAD: usize = 4;

/// A file to send.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its name, for messages.
    pub path: PathBuf,
    pub file: Arc<File>,
    /// sha256 in hexadecimal.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// The armoured SSHSIG, or empty.
    pub signature: Vec<u8>,
    /// Of this push, for the node's log.
    pub request_id: String,
}

/// Why a file did not get to the node.
#[derive(Debug, Error)]
pub(crate) enum UploadError {
    /// The node said no, or could not be reached often enough.
    #[error("{0}")]
    Node(Status),
    /// The file can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// Nothing moved for so long.
    #[error("the node took nothing for {}", words::span(*.0))]
    Stalled(Duration),
    /// The answer is not what the contract says.
    #[error(
        "the node answered an upload without naming the artifact; check that hotd and hotctl are of one version"
    )]
    Answer,
}

impl From<UploadError> for Failure {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Node(status) => Self::of_offer(&status),
            UploadError::Read { .. } => Self::failed("file", error),
            UploadError::Stalled(_) => {
                Self::failed("stalled", format!("{error}; try again, it goes on where it stopped"))
            }
            UploadError::Answer => Self::failed("protocol", error),
        }
    }
}

impl UploadError {
    /// Another attempt may do better.
    fn is_worth_another(&self) -> bool {
        match self {
            Self::Node(status) => is_lost(status) || is_offset_mismatch(status),
            Self::Stalled(_) => true,
            Self::Read { .. } | Self::Answer => false,
        }
    }
}

/// Someone else sends the same bytes at the same time, or the node dropped what it had.
fn is_offset_mismatch(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition
        && hot_proto::status::detail(status).is_some_and(|detail| detail.code.ends_with("offset_mismatch"))
}

/// Sends `source` and gets it committed. `report` is told the bytes that the node has or that are on their way.
pub(crate) async fn upload(
    client: &Client,
    source: &Source,
    patience: Patience,
    mut report: impl FnMut(u64),
) -> Result<UploadResponse, UploadError> {
    let mut furthest = 0;
    let mut fruitless = 0;
    let mut pause = patience.first_pause;
    loop {
        let mut start = furthest;
        let error = match attempt(client, source, patience.stall, &mut start, &mut report).await {
            Ok(answer) if answer.artifact.is_some() => return Ok(answer),
            Ok(_) => return Err(UploadError::Answer),
            Err(error) => error,
        };
        if start > furthest {
            furthest = start;
            fruitless = 0;
            pause = patience.first_pause;
        }
        fruitless += 1;
        if fruitless >= FRUITLESS_ATTEMPTS || !error.is_worth_another() {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(patience.longest_pause);
    }
}

/// One attempt. `start` becomes the offset that the node asked for.
async fn attempt(
    client: &Client,
    source: &Source,
    stall: Duration,
    start: &mut u64,
    report: &mut impl FnMut(u64),
) -> Result<UploadResponse, UploadError> {
    let begin = BeginRequest { digest: source.digest.clone(), size: source.size };
    let begin = client.answer(client.artifacts().begin(begin)).await.map_err(UploadError::Node)?;
    let offset = begin.offset.min(source.size);
    *start = offset;
    let chunk = usize::try_from(begin.max_chunk).unwrap_or(MAX_CHUNK).clamp(1, MAX_CHUNK);

    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let (failed, mut failure) = oneshot::channel();
    // Not waited for: it ends by itself at its next chunk when nobody receives any more.
    drop(tokio::task::spawn_blocking({
        let (file, size) = (Arc::clone(&source.file), source.size);
        move || {
            if let Err(error) = read_chunks(&file, offset, size, chunk, &sender) {
                // Before the sender goes: whoever sees the upload end early can find the cause.
                drop(failed.send(error));
            }
        }
    }));
    let taken = Arc::new(AtomicU64::new(offset));
    let header = UploadHeader {
        digest: source.digest.clone(),
        size: source.size,
        offset,
        signature: source.signature.clone(),
        request_id: source.request_id.clone(),
    };
    let counter = Arc::clone(&taken);
    let chunks = ReceiverStream::new(receiver).map(move |bytes: bytes::Bytes| {
        counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        UploadRequest { part: Some(Part::Chunk(bytes)) }
    });
    let messages = tokio_stream::once(UploadRequest { part: Some(Part::Header(header)) }).chain(chunks);

    let mut artifacts = client.artifacts();
    let sent = watched(artifacts.upload(messages), &taken, stall, report).await;
    // A file that can't be read is the cause of whatever the node said about an upload that ended early.
    if let Ok(error) = failure.try_recv() {
        return Err(UploadError::Read { path: source.path.clone(), source: error });
    }
    Ok(sent?.into_inner())
}

/// Waits for `call`, reports `taken` as it grows, and gives up when it has not for `stall`.
async fn watched<T>(
    call: impl Future<Output = Result<T, Status>>,
    taken: &AtomicU64,
    stall: Duration,
    report: &mut impl FnMut(u64),
) -> Result<T, UploadError> {
    let mut call = std::pin::pin!(call);
    let mut tick = tokio::time::interval(REPORT_INTERVAL);
    let mut last = (taken.load(Ordering::Relaxed), tokio::time::Instant::now());
    loop {
        tokio::select! {
            result = &mut call => {
                report(taken.load(Ordering::Relaxed));
                return result.map_err(UploadError::Node);
            }
            now = tick.tick() => {
                let bytes = taken.load(Ordering::Relaxed);
                report(bytes);
                if bytes != last.0 {
                    last = (bytes, now);
                } else if now.duration_since(last.1) > stall {
                    return Err(UploadError::Stalled(stall));
                }
            }
        }
    }
}

/// Reads `file` from `offset` to `size` into `sender`. Ends early, without an error, when nobody receives any more.
fn read_chunks(
    file: &File,
    mut offset: u64,
    size: u64,
    chunk: usize,
    sender: &mpsc::Sender<bytes::Bytes>,
) -> io::Result<()> {
    while offset < size {
        let length = usize::try_from(size - offset).map_or(chunk, |left| left.min(chunk));
        let mut buffer = vec![0; length];
        file.read_exact_at(&mut buffer, offset)?;
        if sender.blocking_send(buffer.into()).is_err() {
            break;
        }
        offset += length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
