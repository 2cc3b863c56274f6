//! Uploads as a hostile world makes them: one whose messages are sent one by one, as slowly and as wrongly as a test wants,
//! and many that nobody means to finish; and calls whose caller leaves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use hot_proto::v1::artifact_service_client::ArtifactServiceClient;
use hot_proto::v1::module_service_client::ModuleServiceClient;
use hot_proto::v1::upload_request::Part;
use hot_proto::v1::{RemoveRequest, UploadHeader, UploadRequest, UploadResponse};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{Door, sha256};

/// An upload under way, alone on its connection. Dropping it cuts the connection off.
#[derive(Debug)]
pub struct Sending {
    runtime: Runtime,
    parts: mpsc::Sender<UploadRequest>,
    answer: JoinHandle<Result<UploadResponse, Status>>,
}

impl Sending {
    /// Begins one with this header.
    ///
    /// # Errors
    /// When the node can't be reached.
    pub fn begin(door: &Door, header: UploadHeader) -> Result<Self> {
        let runtime = executor()?;
        let (parts, receiver) = mpsc::channel(1);
        let channel = runtime.block_on(door.connect())?;
        let request = door.request(ReceiverStream::new(receiver))?;
        let answer = runtime.spawn(async move {
            Ok(ArtifactServiceClient::new(channel).upload(request).await?.into_inner())
        });
        let sending = Self { runtime, parts, answer };
        sending.send(Part::Header(header));
        Ok(sending)
    }

    /// Sends the next chunk, if the node still listens.
    pub fn chunk(&self, bytes: &[u8]) {
        self.send(Part::Chunk(bytes.to_vec().into()));
    }

    /// Sends a message, if the node still listens: its answer says why it does not.
    pub fn send(&self, part: Part) {
        drop(self.runtime.block_on(self.parts.send(UploadRequest { part: Some(part) })));
    }

    /// Whether the node has answered already.
    pub fn is_answered(&self) -> bool {
        self.answer.is_finished()
    }

    /// Says that this was all, and cuts the connection off once it is `time`, or at the answer if that comes before.
    pub fn leave(self, time: impl Fn() -> bool) {
        let Self { runtime, parts, answer } = self;
        drop(parts);
        while !time() && !answer.is_finished() {
            std::thread::yield_now();
        }
        runtime.shutdown_background();
    }

    /// Says that this was all, and waits for the answer.
    ///
    /// # Errors
    /// What the node says against it.
    pub fn finish(self) -> Result<UploadResponse, Status> {
        let Self { runtime, parts, answer } = self;
        drop(parts);
        runtime.block_on(answer).unwrap_or_else(|error| Err(Status::internal(error.to_string())))
    }
}

/// Asks to remove a module, and cuts the connection off once it is `time`, or at the answer if that comes before.
///
/// # Errors
/// When the node can't be reached.
pub fn remove_and_leave(door: &Door, module: &str, time: impl Fn() -> bool) -> Result<()> {
    let runtime = executor()?;
    let mut client = ModuleServiceClient::new(runtime.block_on(door.connect())?);
    let request = door.request(RemoveRequest { module: module.to_owned(), ..RemoveRequest::default() })?;
    let answer = runtime.spawn(async move { client.remove(request).await });
    while !time() && !answer.is_finished() {
        std::thread::yield_now();
    }
    runtime.shutdown_background();
    Ok(())
}

fn executor() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().context("an executor")
}

/// Uploads that are under way side by side, and none of which is ever finished. Dropping it cuts all of them off at once.
#[derive(Debug)]
pub struct Crowd {
    runtime: Option<Runtime>,
    /// How many were answered with which code.
    answers: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Crowd {
    /// Begins so many connections with `each` uploads on it, each of another file of `size` bytes, and sends the first
    /// `sent` of each.
    ///
    /// # Errors
    /// When the node can't be reached.
    pub fn begin(
        door: &Door,
        signature: &[u8],
        (connections, each): (u64, u64),
        size: u64,
        sent: usize,
    ) -> Result<Self> {
        let runtime = executor()?;
        let answers = Arc::new(Mutex::new(BTreeMap::new()));
        // Of files that no crowd before began: those are known, and go on where they stopped.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        for _ in 0..connections {
            let client = ArtifactServiceClient::new(runtime.block_on(door.connect())?);
            let first = NEXT.fetch_add(each, Ordering::Relaxed);
            for number in first..first + each {
                let header = UploadHeader {
                    digest: sha256(&number.to_be_bytes()),
                    size,
                    signature: signature.to_owned(),
                    ..UploadHeader::default()
                };
                let parts = [Part::Header(header), Part::Chunk(vec![7; sent].into())];
                let parts = parts.map(|part| UploadRequest { part: Some(part) });
                // It goes on for ever, as far as the node can tell.
                let parts = tokio_stream::iter(parts).chain(tokio_stream::pending());
                let (request, mut client, answers) =
                    (door.request(parts)?, client.clone(), Arc::clone(&answers));
                runtime.spawn(async move {
                    let code = match client.upload(request).await {
                        Ok(_) => "taken".to_owned(),
                        Err(status) => hot_proto::status::detail(&status)
                            .map_or_else(|| status.to_string(), |detail| detail.code),
                    };
                    *answers.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
                });
            }
        }
        Ok(Self { runtime: Some(runtime), answers })
    }

    /// How many the node has answered so far, with which code.
    pub fn answers(&self) -> BTreeMap<String, u64> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Its tasks end where they are, and their connections with them.
            runtime.shutdown_background();
        }
    }
}

/// Begins so many uploads, each of another file of `size` bytes, sends the first `sent` of them and ends there. Eight are
/// under way at a time. How many ended with which code.
///
/// # Errors
/// When the node can't be reached, or takes one.
pub fn abandon(
    door: &Door,
    signature: &[u8],
    count: u64,
    size: u64,
    sent: usize,
) -> Result<BTreeMap<String, u64>> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("an executor")?;
    runtime.block_on(async {
        let client = ArtifactServiceClient::new(door.connect().await?);
        let lane = async |lane: u64| -> Result<BTreeMap<String, u64>> {
            let (mut client, mut codes) = (client.clone(), BTreeMap::new());
            for number in (lane..count).step_by(8) {
                let digest = sha256(&number.to_le_bytes());
                let header =
                    UploadHeader { digest, size, signature: signature.to_owned(), ..UploadHeader::default() };
                let parts = [Part::Header(header), Part::Chunk(vec![7; sent].into())];
                let parts = parts.map(|part| UploadRequest { part: Some(part) });
                let answer = client.upload(door.request(tokio_stream::iter(parts))?).await;
                let status = answer.err().context("the node took half a file")?;
                let detail = hot_proto::status::detail(&status);
                *codes.entry(detail.map_or_else(|| status.to_string(), |detail| detail.code)).or_default() +=
                    1;
            }
            Ok(codes)
        };
        let (a, b, c, d, e, f, g, h) =
            tokio::try_join!(lane(0), lane(1), lane(2), lane(3), lane(4), lane(5), lane(6), lane(7))?;
        let mut all = BTreeMap::new();
        for (code, count) in [a, b, c, d, e, f, g, h].into_iter().flatten() {
            *all.entry(code).or_default() += count;
        }
        Ok(all)
    })
}
