//! What happened, from the store's history and as it happens: on this node, and on all of its fleet.

use std::future::ready;
use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use hot_artifact::ModuleName;
use hot_proto::v1::event_service_client::EventServiceClient;
use hot_proto::v1::{self, event_service_server::EventService};
use hot_rollout::Node;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::Api;
use super::convert::timestamp;
use super::everywhere::{Piece, Said, Since, Telling, Told, by_time, is_own, latest, place_to_follow, tell};
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
        let own = is_own(&request) || is_of_one(&request.get_ref().on, request.get_ref().after);
        let request = request.into_inner();
        wanted(&request.module)?;
        let whose = if own { None } else { self.0.whose(&request.on).map_err(|status| *status)? };
        let Some(whose) = whose else {
            let events = self.own(&request).await?;
            return Ok(Response::new(v1::ListEventsResponse { events, heard: None }));
        };
        let limit = limit(request.limit);
        let (lists, heard) = self.0.ask_each(whose, |node| self.list_of(node, request.clone())).await;
        let events = by_time(lists, FleetEvents::time);
        // A page after a sequence begins there, and is of one node.
        let events = if request.after > 0 { events } else { latest(events, limit) };
        Ok(Response::new(v1::ListEventsResponse { events, heard: Some(heard) }))
    }

    async fn follow(
        &self,
        request: Request<v1::FollowEventsRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let own = is_own(&request) || is_of_one(&request.get_ref().on, request.get_ref().after);
        let request = request.into_inner();
        wanted(&request.module)?;
        let whose = if own { None } else { self.0.whose(&request.on).map_err(|status| *status)? };
        let Some(whose) = whose else {
            return Ok(Response::new(Box::pin(self.own_follow(request).await?)));
        };
        let place = place_to_follow().map_err(|status| *status)?;
        let tail = usize::try_from(request.tail).unwrap_or(usize::MAX).min(LIMIT.1);
        let (sender, receiver) = mpsc::channel(16);
        let (telling, stopped) = (FleetEvents { of: self.clone(), request }, self.0.stopped.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = tell(&telling.of.0, &telling, whose, tail, true, sender) => {}
                () = stopped.cancelled() => {}
            }
            drop(place);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Events of a fleet, as they are followed.
#[derive(Clone, Debug)]
struct FleetEvents {
    of: Events,
    request: v1::FollowEventsRequest,
}

impl Telling for FleetEvents {
    type Item = v1::Event;
    type Message = v1::FollowEventsResponse;

    async fn open(&self, node: &Node, since: Since<'_, v1::Event>) -> Option<Told<v1::Event>> {
        let v1::FollowEventsRequest { module, after, tail, .. } = self.request.clone();
        let mut past = Vec::new();
        let (after, tail) = match since {
            Since::After(event) => (event.sequence, 0),
            Since::Now => (0, 0),
            Since::Past if after > 0 => (after, 0),
            Since::Past => {
                // One at least, to go on from there: nothing may fall between the two calls.
                let (limit, on) = (tail.max(1), String::new());
                let request = v1::ListEventsRequest { module: module.clone(), after: 0, limit, on };
                past = self.of.list_of(node.clone(), request).await?;
                past.last().map_or((0, u32::MAX), |last| (last.sequence, 0))
            }
        };
        let request = v1::FollowEventsRequest { module, after, tail, on: String::new() };
        let next = if self.of.0.is_this(node) {
            self.of.own_follow(request).await.ok()?.boxed()
        } else {
            let mut client = EventServiceClient::new(self.of.0.reach(node).await?);
            client.follow(self.of.0.asking(request)).await.ok()?.into_inner().boxed()
        };
        // An error is the end: it is gone on after the last one.
        let next =
            next.take_while(|message| ready(message.is_ok())).filter_map(|message| ready(message.ok()));
        let piece =
            |of: v1::FollowEventsResponse| Piece { items: of.event.into_iter().collect(), dropped: 0 };
        Some(Told { past, next: next.map(piece).boxed() })
    }

    fn time(event: &v1::Event) -> (i64, i32) {
        event.time.map(|at| (at.seconds, at.nanos)).unwrap_or_default()
    }

    fn messages(said: Said<v1::Event>) -> Vec<v1::FollowEventsResponse> {
        match said {
            Said::Heard(heard) => vec![v1::FollowEventsResponse { event: None, heard: Some(heard) }],
            Said::Piece(Piece { items, .. }) => {
                let message = |event| v1::FollowEventsResponse { event: Some(event), heard: None };
                items.into_iter().map(message).collect()
            }
        }
    }

    fn keep(event: &v1::Event) -> v1::Event {
        v1::Event { sequence: event.sequence, ..v1::Event::default() }
    }
}

impl Events {
    /// What a node says of its own, oldest first. None where it does not answer.
    async fn list_of(&self, node: Node, request: v1::ListEventsRequest) -> Option<Vec<v1::Event>> {
        if self.0.is_this(&node) {
            return self.own(&request).await.ok();
        }
        let request = v1::ListEventsRequest { on: String::new(), ..request };
        let mut client = EventServiceClient::new(self.0.reach(&node).await?);
        Some(client.list(self.0.asking(request)).await.ok()?.into_inner().events)
    }

    /// This node's own, oldest first.
    async fn own(&self, request: &v1::ListEventsRequest) -> Result<Vec<v1::Event>, Status> {
        let events = self.read(wanted(&request.module)?, request.after, limit(request.limit)).await?;
        Ok(events.into_iter().map(|of| self.event(of)).collect())
    }

    /// This node's own, as they happen.
    async fn own_follow(
        &self,
        request: v1::FollowEventsRequest,
    ) -> Result<ReceiverStream<Result<v1::FollowEventsResponse, Status>>, Status> {
        let v1::FollowEventsRequest { module, after, tail, .. } = request;
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
        Ok(ReceiverStream::new(receiver))
    }

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
                let message = v1::FollowEventsResponse { event: Some(self.event(event)), heard: None };
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
                Ok(event) => Ok(v1::FollowEventsResponse { event: Some(self.event(event)), heard: None }),
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

/// Whether a caller pages through the events of the node that it asks: a sequence means nothing to another one.
const fn is_of_one(on: &str, after: u64) -> bool {
    on.is_empty() && after > 0
}

fn limit(asked: u32) -> usize {
    match usize::try_from(asked).unwrap_or(usize::MAX) {
        0 => LIMIT.0,
        limit => limit.min(LIMIT.1),
    }
}
