//! The one task that owns the rollout machines of this node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hot_rollout::{Action, Command, Event, Module, RolloutId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::record::{Meta, Record};
use super::undone::Undone;
use super::{Ask, NewRollout, Parts, Refusal, Views, at, now};

/// Ended rollouts that are kept in memory for those who watch them end. Older ones are in the ledger.
const REMEMBERED: usize = 64;

/// Between two tries of what could not be done.
const RETRY: Duration = Duration::from_secs(1);

/// Replies to a call that begins a rollout.
pub(super) type BeginReply = oneshot::Sender<Result<(RolloutId, bool), Refusal>>;

#[derive(Debug)]
pub(super) struct Actor {
    pub(super) parts: Parts,
    pub(super) running: BTreeMap<RolloutId, Record>,
    /// Rollouts that begin when those that they supersede have gone back.
    pub(super) waiting: Vec<(NewRollout, RolloutId, BeginReply)>,
    /// What could not be done yet, of rollouts where there is something.
    pub(super) undone: BTreeMap<RolloutId, Undone>,
    views: watch::Sender<Arc<Views>>,
}

impl Actor {
    pub(super) fn new(parts: Parts, views: watch::Sender<Arc<Views>>) -> Self {
        Self { parts, running: BTreeMap::new(), waiting: Vec::new(), undone: BTreeMap::new(), views }
    }

    /// Takes up the rollouts that ran when the last `hotd` ended.
    pub(super) async fn recover(&mut self) {
        let ledger = self.parts.ledger.clone();
        let stored = ledger.running_rollouts();
        for (id, value) in stored {
            match Record::decode(value) {
                Ok(mut record) => {
                    let actions = record.machine.resume(now());
                    self.running.insert(id.clone(), record);
                    // It says so itself, and is tried again.
                    drop(self.perform(&id, actions).await);
                }
                // It stays as it is: its candidate ends by its expiry, and a newer hotd can take it on.
                Err(error) => {
                    tracing::error!(rollout = %id, error = %crate::grpc::chain(&error), "a rollout is left alone")
                }
            }
        }
    }

    pub(super) async fn run(
        mut self,
        mut asks: mpsc::Receiver<Ask>,
        mut reports: mpsc::Receiver<Event>,
        stopped: CancellationToken,
    ) {
        let mut retry = None;
        loop {
            // Fixed when it is first needed: reports come more often than the pause is long.
            let held = !self.undone.is_empty();
            retry = if held { retry.or_else(|| Some(Instant::now() + RETRY)) } else { None };
            let due = self.running.values().filter_map(|record| record.machine.next_timeout()).min().map(at);
            let due = due.into_iter().chain(retry).min();
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stopped.cancelled() => return,
                Some(ask) = asks.recv() => self.answer(ask).await,
                () = timer => {
                    if retry.is_some_and(|retry| retry <= Instant::now()) {
                        retry = None;
                        self.retry().await;
                    }
                    self.all(|_| Some(Event::Timeout)).await;
                }
                // Last: there is always another one soon, and none may keep a deadline from being seen.
                Some(event) = reports.recv() => self.report(event).await,
            }
            self.begin_waiting().await;
        }
    }

    async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Begin(new, reply) => self.begin(new, reply).await,
            Ask::Command { id, command, message, reply } => {
                let answer = self.command(&id, command, message).await;
                drop(reply.send(answer));
            }
            Ask::GoBack(back, reply) => {
                let answer = self.go_back(back).await;
                drop(reply.send(answer));
            }
        }
    }

    async fn command(&mut self, id: &RolloutId, command: Command, message: String) -> Result<(), Refusal> {
        let Some(record) = self.running.get_mut(id) else {
            let known = self.views.borrow().contains_key(id);
            return Err(if known { Refusal::Over(id.clone()) } else { Refusal::NoRollout(id.to_string()) });
        };
        if !message.is_empty() {
            record.meta.message = if record.meta.message.is_empty() {
                message
            } else {
                format!("{}; {message}", record.meta.message)
            };
        }
        self.feed(id, Event::Command(command)).await.map_err(|error| not_durable(id, error))
    }

    /// An agent's report concerns every rollout of its module, and at most one of them runs.
    async fn report(&mut self, event: Event) {
        let module = module_of(&event).cloned();
        self.all(|record| {
            let concerned =
                module.as_ref().is_none_or(|module| record.machine.spec().moves.contains_key(module));
            concerned.then(|| event.clone())
        })
        .await;
    }

    async fn all(&mut self, event: impl Fn(&Record) -> Option<Event>) {
        let events: Vec<(RolloutId, Event)> =
            self.running.iter().filter_map(|(id, record)| Some((id.clone(), event(record)?))).collect();
        for (id, event) in events {
            drop(self.feed(&id, event).await);
        }
    }

    pub(super) async fn feed(&mut self, id: &RolloutId, event: Event) -> Result<(), Refusal> {
        let Some(record) = self.running.get_mut(id) else { return Ok(()) };
        let actions = record.machine.handle(event, now());
        self.perform(id, actions).await
    }

    /// Takes a rollout that has just begun.
    pub(super) async fn adopt(&mut self, record: Record, actions: Vec<Action>) -> Result<(), Refusal> {
        let id = record.id().clone();
        self.running.insert(id.clone(), record);
        self.perform(&id, actions).await
    }

    /// Lets everybody see what is so.
    pub(super) fn show(&self) {
        let fresh: Views =
            self.running.iter().map(|(id, record)| (id.clone(), Arc::new(record.view()))).collect();
        self.views.send_if_modified(|views| {
            let changed = fresh.iter().any(|(id, view)| views.get(id) != Some(view));
            if changed {
                let mut next: Views = (**views).clone();
                next.extend(fresh);
                while next.len() > REMEMBERED + self.running.len() {
                    let Some(oldest) = next.keys().find(|id| !self.running.contains_key(*id)).cloned() else {
                        break;
                    };
                    next.remove(&oldest);
                }
                *views = Arc::new(next);
            }
            changed
        });
    }

    async fn retry(&mut self) {
        let waiting: Vec<RolloutId> = self.undone.keys().cloned().collect();
        for id in waiting {
            if let Err(error) = self.catch_up(&id).await {
                tracing::debug!(rollout = %id, %error, "its state still can't be written");
            }
        }
    }
}

impl Meta {
    pub(super) fn new(request: String, asked: String, message: String) -> Self {
        Self { request, asked, message, updated: now(), ended: None, outcome: None }
    }
}

/// It has taken effect here, and can't be acknowledged.
pub(super) fn not_durable(id: &RolloutId, error: Refusal) -> Refusal {
    match error {
        Refusal::Store { why, full } => Refusal::NotDurable { rollout: id.clone(), why, full },
        other => other,
    }
}

fn module_of(event: &Event) -> Option<&Module> {
    match event {
        Event::Prepared { module, .. }
        | Event::PrepareFailed { module, .. }
        | Event::Instance { module, .. }
        | Event::Applied { module, .. }
        | Event::TookBack { module, .. } => Some(module),
        Event::Sample(sample) => Some(&sample.module),
        Event::NodeUp { .. }
        | Event::NodeDown { .. }
        | Event::NodeLeft { .. }
        | Event::Command(_)
        | Event::Timeout => None,
    }
}
