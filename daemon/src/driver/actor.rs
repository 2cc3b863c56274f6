//! The one task that owns the rollout machines of this node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hot_rollout::{Action, Command, Direction, Event, Kind, Node, Note, NoteKind, Phase, Rollout, RolloutId};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::begin::Waiting;
use super::half_done::{HalfDone, half_done};
use super::record::{Meta, Record, RecordError};
use super::undone::Undone;
use super::views::Views;
use super::{Ask, Held, Order, Parts, Refusal, overtaken};
use crate::clock::{self, at, now};
use crate::cluster::{Cluster, Fleet, FleetError};
use crate::journal::Entry;

/// Bytes of all that callers said about one rollout.
const MAX_MESSAGES: usize = 16 * 1024;

/// Between two tries of what could not be done.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Actor {
    pub(super) parts: Parts,
    pub(super) running: BTreeMap<RolloutId, Record>,
    /// Rollouts that begin when those that they supersede have gone back.
    pub(super) waiting: Vec<Waiting>,
    /// What could not be done yet, of rollouts where there is something.
    pub(super) undone: BTreeMap<RolloutId, Undone>,
    /// Rollouts that were refused and may have been written all the same.
    pub(super) doubtful: BTreeSet<RolloutId>,
    /// Nodes that came and were not told yet what is stable.
    pub(super) behind: BTreeSet<Node>,
    pub(super) views: watch::Sender<Arc<Views>>,
    held: watch::Sender<BTreeMap<RolloutId, Held>>,
}

impl Actor {
    pub(super) fn new(
        parts: Parts,
        views: watch::Sender<Arc<Views>>,
        held: watch::Sender<BTreeMap<RolloutId, Held>>,
    ) -> Self {
        let (running, undone) = (BTreeMap::new(), BTreeMap::new());
        let (doubtful, behind) = (BTreeSet::new(), BTreeSet::new());
        Self { parts, running, waiting: Vec::new(), undone, doubtful, behind, views, held }
    }

    /// Takes up the rollouts that the last leader of the fleet left.
    pub(super) async fn take_over(&mut self, fleet: &Fleet) -> Result<(), FleetError> {
        let kept = fleet.take_over().await?;
        let running = kept.iter().filter(|kept| !kept.ended);
        self.load(running.map(|kept| (kept.id.clone(), kept.snapshot.clone())).collect()).await;
        let overtaken = overtaken::in_fleet(&self.running, &kept);
        self.resume(&overtaken).await;
        self.let_go_of_those_that_left().await;
        Ok(())
    }

    /// What the last leader did not live to tell its rollouts: who is kept out of them by now, or has left.
    async fn let_go_of_those_that_left(&mut self) {
        let usable = self.parts.cluster.nodes();
        let left = |(id, record): (&RolloutId, &Record)| {
            let nodes = record.machine.nodes().filter(|node| !usable.contains(*node));
            nodes.map(|node| (id.clone(), node.clone())).collect::<Vec<_>>()
        };
        let left: Vec<(RolloutId, Node)> = self.running.iter().flat_map(left).collect();
        for (id, node) in left {
            let why = self.parts.cluster.why_left(&node);
            drop(self.feed(&id, Event::NodeLeft { node, why }).await);
        }
    }

    /// Another node leads: what runs is its own from here on.
    pub(super) fn step_down(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            waiting.refuse(&Refusal::not_leader(&self.parts.cluster));
        }
        self.running.clear();
        self.undone.clear();
        self.doubtful.clear();
        self.behind.clear();
        self.show_held();
        self.views.send_replace(Arc::default());
    }

    /// Takes up the rollouts that ran when the last `hotd` ended.
    pub(super) async fn recover(&mut self, running: Vec<(RolloutId, Value)>) {
        self.load(running).await;
        let overtaken = overtaken::on_node(&self.running, &self.parts.ledger);
        self.resume(&overtaken).await;
        for half in half_done(&self.running, &self.parts.ledger) {
            self.finish_way_back(half).await;
        }
    }

    async fn load(&mut self, running: Vec<(RolloutId, Value)>) {
        let ledger = self.parts.ledger.clone();
        match crate::blocking(move || Views::load(&ledger)).await {
            Ok(views) => drop(self.views.send_replace(Arc::new(views))),
            Err(error) => {
                tracing::warn!(error = %crate::describe(&error), "how rollouts ended is not known now")
            }
        }
        for (id, value) in running {
            match Record::decode(value) {
                Ok(record) => drop(self.running.insert(id, record)),
                // It stays as it is: its candidate ends by its expiry, and a newer hotd can take it on.
                Err(error) => self.leave_alone(&id, &error).await,
            }
        }
    }

    /// Goes on with what was loaded, but for those that another one has overtaken.
    async fn resume(&mut self, overtaken: &BTreeMap<RolloutId, RolloutId>) {
        let machines = || self.running.values().map(|record| &record.machine);
        match &self.parts.cluster {
            Cluster::Local(_) => machines().for_each(|machine| clock::not_before(machine.now())),
            Cluster::Fleet(_) => {
                // By the clock of whoever led. One that only waits for nodes may have its time from long ago.
                let last = machines().filter(|machine| machine.outcome().is_none()).map(Rollout::now).max();
                last.into_iter().for_each(clock::go_on_from);
            }
        }
        let ids: Vec<RolloutId> = self.running.keys().cloned().collect();
        for id in ids {
            let Some(record) = self.running.get_mut(&id) else { continue };
            let actions = match overtaken.get(&id) {
                Some(by) => record.machine.overtaken(by.clone(), now()),
                None => record.machine.resume(now()),
            };
            // It says so itself, and is tried again.
            drop(self.perform(&id, actions).await);
        }
    }

    /// Writes down what is stable since a rollback that moved traffic and had not begun as a rollout.
    async fn finish_way_back(&self, HalfDone { module, from, to }: HalfDone) {
        if let Err(error) = self.set_stable(&module, Some(to), Direction::TowardStable).await {
            let error = crate::describe(&error);
            tracing::error!(%module, %to, %error, "a release that serves again is not on record as stable");
            return;
        }
        let text = format!(
            "{module} had gone back from release {from} to {to} when hotd ended, and the rollback was not written down: \
             release {to} is stable now"
        );
        let module = module.to_string();
        self.parts
            .journal
            .write(Entry { kind: "rollback.recovered", module, text, ..Entry::default() })
            .await;
    }

    async fn leave_alone(&self, id: &RolloutId, error: &RecordError) {
        let text = format!(
            "rollout {id} is left alone, its candidate goes back by its expiry: {}. A hotd that can read it, as a newer \
             one, goes on with it, unless another rollout of its modules has begun by then",
            crate::describe(error)
        );
        let entry = Entry { kind: "rollout.left_alone", rollout: id.to_string(), text, ..Entry::default() };
        self.parts.journal.write(entry).await;
    }

    pub(super) async fn run(
        &mut self,
        asks: &mut mpsc::Receiver<Ask>,
        reports: &mut mpsc::Receiver<Event>,
        stopped: &CancellationToken,
    ) {
        let mut retry = None;
        loop {
            // Fixed when it is first needed: reports come more often than the pause is long.
            let held = !(self.undone.is_empty() && self.behind.is_empty() && self.doubtful.is_empty());
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
                    // What was said before that counts first: it may be that a candidate was taken back.
                    for _ in 0..reports.len() {
                        if let Ok(event) = reports.try_recv() {
                            self.report(event).await;
                        }
                    }
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
            self.show_held();
        }
    }

    async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Begin(new, admitted, reply) => self.begin(new, admitted, reply).await,
            Ask::Command(order, reply) => {
                let answer = self.command(order).await;
                drop(reply.send(answer));
            }
            Ask::GoBack(back, reply) => self.go_back(back, reply).await,
            Ask::Withdraw(module, reply) => drop(reply.send(self.withdraw(&module).await)),
        }
    }

    async fn command(&mut self, order: Order) -> Result<(), Refusal> {
        let Order { id, command, message, request } = order;
        // Whoever gives a command has seen it; and one whose end is only not written yet is over, too.
        let running = self.running.get_mut(&id).filter(|record| !record.machine.phase().is_final());
        let Some(record) = running else { return Err(Refusal::Over(id)) };
        let again = is_so_already(&command, &record.machine);
        let (actions, ignored) = without_ignored(record.machine.handle(Event::Command(command), now()));
        if ignored {
            let phase = record.machine.phase_name().to_string();
            // What was due by the time is to be done, whatever the command meant. It says so itself where it can't be.
            drop(self.perform(&id, actions).await);
            return if again { Ok(()) } else { Err(Refusal::TooLate { rollout: id, phase }) };
        }
        record.meta.note(&message);
        if !request.is_empty() {
            record.meta.aborting_request = request;
        }
        self.perform(&id, actions).await.map_err(|error| not_durable(&id, error))
    }

    /// An agent's report concerns every rollout of its module, and at most one of them runs.
    async fn report(&mut self, event: Event) {
        let module = event.module().cloned();
        let came = if let Event::NodeUp { node, .. } = &event { Some(node.clone()) } else { None };
        self.all(|record| {
            let concerned =
                module.as_ref().is_none_or(|module| record.machine.spec().moves.contains_key(module));
            concerned.then(|| event.clone())
        })
        .await;
        if let Some(node) = came {
            self.behind.insert(node);
            self.bring_up().await;
        }
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

    /// Lets everybody see what is so.
    pub(super) fn show(&self) {
        let fresh = self.running.values().map(Record::view).collect();
        self.views.send_if_modified(|views| match views.with(fresh) {
            Some(next) => {
                *views = Arc::new(next);
                true
            }
            None => false,
        });
    }

    fn show_held(&self) {
        let held = |(id, undone): (&RolloutId, &Undone)| Some((id.clone(), undone.failing.held()?));
        let held: BTreeMap<RolloutId, Held> = self.undone.iter().filter_map(held).collect();
        self.held.send_if_modified(|known| {
            let news = *known != held;
            *known = held;
            news
        });
    }

    async fn retry(&mut self) {
        self.bring_up().await;
        for id in self.doubtful.clone() {
            match self.parts.cluster.unwrite_rollout(id.clone()).await {
                Ok(()) => drop(self.doubtful.remove(&id)),
                Err(error) => {
                    let error = crate::describe(&error);
                    tracing::debug!(rollout = %id, %error, "one that was refused may be written still");
                    break;
                }
            }
        }
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
        let aborting_request = String::new();
        Self { request, asked, aborting_request, message, updated: now(), ended: None, outcome: None }
    }

    /// Adds why a command was given, as far as there is room: there may be any number of commands.
    fn note(&mut self, message: &str) {
        if message.is_empty() || self.message.len() + message.len() > MAX_MESSAGES {
            return;
        }
        if !self.message.is_empty() {
            self.message.push_str("; ");
        }
        self.message.push_str(message);
    }
}

/// The actions without the note that a command was ignored, of which its caller hears; and whether there was one.
fn without_ignored(mut actions: Vec<Action>) -> (Vec<Action>, bool) {
    let ignored = |action: &Action| matches!(action, Action::Note(Note { kind: NoteKind::Ignored(_), .. }));
    let all = actions.len();
    actions.retain(|action| !ignored(action));
    let ignored = actions.len() < all;
    (actions, ignored)
}

/// Whether the command asks for what is so already, which is no error.
fn is_so_already(command: &Command, machine: &Rollout) -> bool {
    match command {
        Command::Pause { .. } => machine.paused().is_some(),
        Command::Resume { .. } => {
            machine.paused().is_none()
                && matches!(machine.phase(), Phase::Preparing | Phase::Starting { .. } | Phase::Baking { .. })
        }
        Command::Promote { .. } => matches!(machine.phase(), Phase::Promoting { .. } | Phase::Incomplete),
        Command::Abort { .. } => {
            machine.kind() == Kind::Push && matches!(machine.phase(), Phase::RollingBack { .. })
        }
        Command::Supersede { .. } => false,
    }
}

/// It has taken effect here, and can't be acknowledged.
pub(super) fn not_durable(id: &RolloutId, error: Refusal) -> Refusal {
    match error {
        Refusal::Store { why, full } => Refusal::NotDurable { rollout: id.clone(), why, full },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use hot_rollout::machine::Spec;
    use hot_rollout::{Module, Move, Node, Policy, ReleaseNumber, Revision, Time};

    use super::*;

    #[test]
    fn a_command_that_is_ignored_takes_nothing_along_that_was_due() {
        let releases = Move { stable: Some(ReleaseNumber(1)), candidate: ReleaseNumber(2) };
        let spec = Spec {
            id: "r1".into(),
            by: "ann".to_owned(),
            moves: [(Module("greeter".to_owned()), releases)].into(),
            nodes: [Node("n1".to_owned())].into(),
            labels: BTreeMap::new(),
            on: BTreeMap::new(),
            policy: Policy::default(),
            revision: Revision(0),
        };
        let (mut machine, _) = Rollout::start(spec, Time(1));
        let resume = || Event::Command(Command::Resume { by: "ann".to_owned() });
        let (actions, ignored) = without_ignored(machine.handle(resume(), Time(2)));
        assert!(ignored && actions.is_empty(), "nothing is paused, and nothing is due: {actions:?}");
        let deadline = machine.status().deadline;
        let (actions, ignored) = without_ignored(machine.handle(resume(), deadline));
        assert!(ignored && machine.phase().is_final());
        assert!(actions.iter().any(|action| matches!(action, Action::Finished(_))), "{actions:?}");
        let pause = Event::Command(Command::Pause { by: "ann".to_owned() });
        assert!(without_ignored(machine.handle(pause, deadline)).1, "it is over");
    }
}
