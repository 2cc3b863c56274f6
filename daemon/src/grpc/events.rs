//! What happened, from the store's history and as it happens.

use std::pin::Pin;

use futures_util::Stream;
use hot_artifact::ModuleName;
use hot_proto::v1::{self, event_service_server::EventService};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::Api;
use super::convert::timestamp;
use super::rollouts::module_name;
use super::status::{Refused, internal, refused};
use crate::store::{EventQuery, Sequenced};

/// How many events a call gives when the caller does not say, and at the most.
const LIMIT: (usize, usize) = (100, 1000);

/// `hot.v1.EventService`.
#[derive(Clone, Debug)]
pub(super) struct Events(pub Api);

#[tonic::async_trait]
impl EventService for Events {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<v1::FollowEventsResponse, Status>> + Send>>;

    async fn list(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let v1::ListEventsRequest { module, after, limit } = request.into_inner();
        let module = wanted(&module)?;
        let limit = match usize::try_from(limit).unwrap_or(usize::MAX) {
            0 => LIMIT.0,
            limit => limit.min(LIMIT.1),
        };
        let events = self.read(module, after, limit).await?;
        Ok(Response::new(v1::ListEventsResponse {
            events: events.into_iter().map(|of| self.event(of)).collect(),
        }))
    }

    async fn follow(
        &self,
        request: Request<v1::FollowEventsRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let v1::FollowEventsRequest { module, after, tail } = request.into_inner();
        let module = wanted(&module)?;
        // Before the past is read: nothing may fall between the two.
        let follower = self.0.journal.follow();
        let tail = usize::try_from(tail).unwrap_or(usize::MAX).min(LIMIT.1);
        let past = match (after, tail) {
            (0, 0) => Vec::new(),
            (0, tail) => self.read(module.clone(), 0, tail).await?,
            (after, _) => self.read(module.clone(), after, LIMIT.1).await?,
        };
        let paged = after > 0;
        let (sender, receiver) = mpsc::channel(16);
        let (service, stopped) = (self.clone(), self.0.stopped.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = service.feed(past, paged, follower, module, sender) => {}
                () = stopped.cancelled() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl Events {
    /// Events after `after`, oldest first; the latest ones when `after` is 0.
    async fn read(
        &self,
        module: Option<ModuleName>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Sequenced>, Status> {
        let store = self.0.ledger.store().clone();
        let newest = after == 0;
        let after = (!newest).then_some(after);
        let query = EventQuery { after, module, limit, newest, ..EventQuery::default() };
        crate::blocking(move || store.events(&query)).await.map_err(|error| internal(&error))
    }

    async fn feed(
        self,
        past: Vec<Sequenced>,
        paged: bool,
        mut follower: tokio::sync::broadcast::Receiver<Sequenced>,
        module: Option<ModuleName>,
        sender: mpsc::Sender<Result<v1::FollowEventsResponse, Status>>,
    ) {
        let (mut last, mut page) = (0, past);
        loop {
            let more = paged && page.len() >= LIMIT.1;
            for event in page {
                last = event.seq;
                let message = v1::FollowEventsResponse { event: Some(self.event(event)) };
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
            }
            if !more {
                break;
            }
            page = match self.read(module.clone(), last, LIMIT.1).await {
                Ok(page) => page,
                Err(status) => return drop(sender.send(Err(status)).await),
            };
        }
        loop {
            let event = tokio::select! {
                event = follower.recv() => event,
                () = sender.closed() => return,
            };
            let message = match event {
                Ok(event) if event.seq <= last => continue,
                Ok(event) if module.is_some() && event.event.module != module => continue,
                Ok(event) => Ok(v1::FollowEventsResponse { event: Some(self.event(event)) }),
                Err(RecvError::Lagged(missed)) => Err(too_slow(missed)),
                Err(RecvError::Closed) => return,
            };
            let failed = message.is_err();
            if sender.send(message).await.is_err() || failed {
                return;
            }
        }
    }

    fn event(&self, Sequenced { seq, event }: Sequenced) -> v1::Event {
        let swap = super::swaps::of_event(&event, &self.0.about.node);
        let by = event.fields.get("by").and_then(|by| by.as_str()).unwrap_or_default();
        v1::Event {
            sequence: seq,
            time: Some(timestamp(event.at)),
            kind: event.kind,
            node: self.0.about.node.clone(),
            module: event.module.map(|module| module.to_string()).unwrap_or_default(),
            rollout: event.rollout.map(|rollout| rollout.as_str().to_owned()).unwrap_or_default(),
            principal: by.to_owned(),
            text: event.text,
            swap,
        }
    }
}

fn too_slow(missed: u64) -> Status {
    refused(Refused {
        grpc: Code::ResourceExhausted,
        code: "too_slow",
        field: "",
        found: format!("{missed} events came faster than they were read"),
        expected: String::new(),
        advice: "Go on with `after` the last one that you have.".to_owned(),
    })
}

fn wanted(module: &str) -> Result<Option<ModuleName>, Status> {
    if module.is_empty() { Ok(None) } else { module_name(module).map(Some) }
}
