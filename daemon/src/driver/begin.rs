//! How a rollout begins: what is asked for is checked, releases get their numbers, and what runs already makes room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hot_artifact::ModuleName;
use hot_rollout::machine::Spec;
use hot_rollout::{
    Command, Direction, Event, Labels, Module, Move, Node, ReleaseNumber, Revision, Rollout, RolloutId, Time,
};
use tokio::sync::oneshot;

use super::actor::{Actor, not_durable};
use super::check::{Tried, check, digest_of, way_back};
use super::perform::{Failure, write};
use super::record::{Meta, Record};
use super::{GoBack, NewRollout, Push, Refusal, To, on, stored, unkept};
use crate::clock::{self, now};
use crate::journal::Entry;
use crate::ledger::Ledger;
use crate::store::NewRelease;
use crate::trust::Frozen;

/// The last time that a name can have, milliseconds: in the year 2527.
const LATEST: u64 = 0xfff_ffff_ffff;

/// Rollouts that may wait for the one that they supersede, and calls that may wait for one of them.
const WAITING: usize = 16;

/// Rollouts that were refused and may be written. Beyond, the oldest goes, of which some later one takes the place.
const MAX_DOUBTFUL: usize = 256;

/// Replies to a call that begins a rollout; true: an earlier call began it.
pub(super) type BeginReply = oneshot::Sender<Result<(RolloutId, bool), Refusal>>;
/// Replies to a call that goes back: from which release to which.
pub(super) type BackReply = oneshot::Sender<Result<(RolloutId, ReleaseNumber, ReleaseNumber), Refusal>>;

/// A rollout that begins when those that it supersedes have ended.
#[derive(Debug)]
pub(super) struct Waiting {
    id: RolloutId,
    modules: BTreeSet<Module>,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    /// The first reply is to the call that began it.
    Push(NewRollout, Vec<BeginReply>),
    Back(GoBack, BackReply),
}

impl Waiting {
    pub(super) fn id(&self) -> &RolloutId {
        &self.id
    }

    pub(super) fn is_of(&self, module: &Module) -> bool {
        self.modules.contains(module)
    }

    pub(super) fn refuse(self, refusal: &Refusal) {
        match self.wanted {
            Wanted::Push(_, replies) => {
                replies.into_iter().for_each(|reply| drop(reply.send(Err(refusal.clone()))));
            }
            Wanted::Back(_, reply) => drop(reply.send(Err(refusal.clone()))),
        }
    }
}

impl Actor {
    /// Begins a rollout, or lets it wait until those that it supersedes have gone back.
    pub(super) async fn begin(
        &mut self,
        new: NewRollout,
        admitted: Result<(), Arc<Frozen>>,
        reply: BeginReply,
    ) {
        let earlier = match self.earlier(&new.request, &new.asked()).await {
            Ok(None) => return self.begin_new(new, admitted, reply).await,
            Ok(Some(id)) => Ok((id, true)),
            Err(refusal) => Err(refusal),
        };
        drop(reply.send(earlier));
    }

    async fn begin_new(&mut self, new: NewRollout, admitted: Result<(), Arc<Frozen>>, reply: BeginReply) {
        for waiting in &mut self.waiting {
            if let Wanted::Push(other, replies) = &mut waiting.wanted
                && other.request == new.request
                && !new.request.is_empty()
            {
                let refusal = if other.asked() != new.asked() {
                    Refusal::RequestReused(new.request)
                } else if replies.len() >= WAITING {
                    Refusal::TooManyWait
                } else {
                    return replies.push(reply);
                };
                return drop(reply.send(Err(refusal)));
            }
        }
        if let Err(refusal) = self.admit(admitted, &new) {
            return drop(reply.send(Err(refusal)));
        }
        let modules = new.pushes.iter().map(|push| Module(push.module.to_string())).collect();
        self.make_room(Waiting { id: self.fresh_id(), modules, wanted: Wanted::Push(new, vec![reply]) })
            .await;
    }

    /// Begins a rollback, or lets it wait until the rollout that has begun meanwhile has ended.
    pub(super) async fn go_back(&mut self, back: GoBack, reply: BackReply) {
        // Here and not only by the caller: two may call at once.
        match self.earlier(&back.request, &back.asked()).await {
            Ok(None) => {}
            Ok(Some(id)) => return drop(reply.send(Err(Refusal::Begun(id)))),
            Err(refusal) => return drop(reply.send(Err(refusal))),
        }
        let modules = BTreeSet::from([Module(back.module.to_string())]);
        self.make_room(Waiting { id: self.fresh_id(), modules, wanted: Wanted::Back(back, reply) }).await;
    }

    /// The rollout that an earlier call with this request name began.
    async fn earlier(&self, request: &str, asked: &str) -> Result<Option<RolloutId>, Refusal> {
        if request.is_empty() {
            return Ok(None);
        }
        // In a fleet one that runs is not in this node's ledger.
        let running = self.running.values().find(|record| record.meta.request == request);
        if let Some(record) = running {
            let same = record.meta.asked == asked;
            return if same {
                Ok(Some(record.id().clone()))
            } else {
                Err(Refusal::RequestReused(request.to_owned()))
            };
        }
        let (ledger, name) = (self.parts.ledger.clone(), request.to_owned());
        let found = crate::blocking(move || {
            let Some(id) = ledger.rollout_of_request(&name)? else { return Ok(None) };
            let value = ledger.rollout(&id)?;
            Ok::<_, crate::ledger::LedgerError>(Some((id, value)))
        });
        let Some((id, value)) = found.await.map_err(|error| stored(&error))? else { return Ok(None) };
        // One that can't be read was begun by a newer hotd: it is that call's all the same.
        let known = value.and_then(|value| Record::decode(value).ok()).map(|record| record.meta.asked);
        if known.is_some_and(|known| known != asked) {
            return Err(Refusal::RequestReused(request.to_owned()));
        }
        Ok(Some(id))
    }

    async fn make_room(&mut self, waiting: Waiting) {
        // One that waits already has not begun: the newer word takes its place.
        let (overtaken, kept): (Vec<Waiting>, Vec<Waiting>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|other| !other.modules.is_disjoint(&waiting.modules));
        self.waiting = kept;
        for other in overtaken {
            let refusal = Refusal::Overtaken { by: waiting.id.clone() };
            other.refuse(&refusal);
        }
        if self.waiting.len() >= WAITING {
            return waiting.refuse(&Refusal::TooManyWait);
        }
        for other in self.in_the_way(&waiting.modules) {
            // Should it not be durable yet, its end waits for that, and so does the one that supersedes it.
            drop(self.feed(&other, Event::Command(Command::Supersede { by: waiting.id.clone() })).await);
        }
        // The task's loop begins it as soon as nothing is in its way.
        self.waiting.push(waiting);
    }

    pub(super) fn in_the_way(&self, modules: &BTreeSet<Module>) -> Vec<RolloutId> {
        let overlaps =
            |record: &Record| record.machine.spec().moves.keys().any(|module| modules.contains(module));
        self.running.iter().filter(|(_, record)| overlaps(record)).map(|(id, _)| id.clone()).collect()
    }

    /// What is tried now, whether or not a node was told.
    fn tried(&self) -> Vec<Tried> {
        let moves = self.running.values().flat_map(|record| &record.machine.spec().moves);
        moves.map(|(module, releases)| (module.clone(), releases.candidate)).collect()
    }

    /// Begins what has waited, where nothing is in its way any more.
    pub(super) async fn begin_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            if !self.in_the_way(&waiting.modules).is_empty() {
                self.waiting.push(waiting);
                continue;
            }
            match waiting.wanted {
                Wanted::Push(new, replies) => {
                    let answer = self.begin_now(new, waiting.id).await;
                    for (n, reply) in replies.into_iter().enumerate() {
                        drop(reply.send(answer.clone().map(|id| (id, n > 0))));
                    }
                }
                Wanted::Back(back, reply) => drop(reply.send(self.go_back_now(back, waiting.id).await)),
            }
        }
    }

    async fn begin_now(&mut self, new: NewRollout, id: RolloutId) -> Result<RolloutId, Refusal> {
        // Again: while it waited, trust may have been frozen, a version have gone, or a route been taken.
        self.admit(self.parts.trust.frozen().map_or(Ok(()), Err), &new)?;
        self.lift_quarantines(&new).await?;
        let mut moves = BTreeMap::new();
        let on = self.on(&new);
        let (nodes, on_nodes) = on::nodes(&self.parts.cluster, on.clone())?;
        for push in &new.pushes {
            let candidate = self.release(push, &new, on.clone()).await?;
            let record = self.parts.ledger.module(&push.module);
            let record = record.ok_or_else(|| Refusal::NoModule(push.module.clone()))?;
            let stable = Ledger::stable(&record);
            moves.insert(Module(push.module.to_string()), Move { stable, candidate });
        }
        let spec = self.spec(id.clone(), &new.by, moves, (nodes, on_nodes), new.policy.clone());
        let meta = Meta::new(new.request.clone(), new.asked(), new.message);
        self.set_clock();
        let (machine, actions) = Rollout::start(spec, now());
        let record = Record { meta, machine };
        // Nothing of it goes toward stable, so one that can't be written never was.
        if let Err(error) = write(&self.parts.cluster, &record, Direction::Onward).await {
            self.doubt(id);
            return Err(match &error {
                Failure::Cluster(error) => unkept(error),
                Failure::Form(_) => stored(&error),
            });
        }
        let undone = self.undone.entry(id.clone()).or_default();
        undone.want(actions);
        undone.saved();
        self.running.insert(id.clone(), record);
        drop(self.catch_up(&id).await);
        self.tell_absences(&id).await;
        Ok(id)
    }

    /// One is refused as it could not be written. Should it have been all the same, nobody is to go on with it.
    fn doubt(&mut self, id: RolloutId) {
        self.doubtful.insert(id);
        if self.doubtful.len() > MAX_DOUBTFUL {
            self.doubtful.pop_first();
        }
    }

    /// Whether these pushes may begin. A version that was uploaded before is new all the same: as long as who may sign
    /// is not known, nothing tries it.
    fn admit(&self, admitted: Result<(), Arc<Frozen>>, new: &NewRollout) -> Result<(), Refusal> {
        admitted.map_err(Refusal::Frozen)?;
        if let Some(absence) = self.parts.agent.absence() {
            return Err(Refusal::NoSpawn(absence));
        }
        check(&self.parts.ledger, &self.tried(), &new.pushes, new.retry)?;
        on::check(&self.parts.cluster, new.on.as_ref())?;
        on::check_domains(&self.parts.cluster, &new.policy)?;
        on::nodes(&self.parts.cluster, self.on(new)).map(drop)
    }

    /// What the releases of a push are for. A rollout moves one module.
    fn on(&self, new: &NewRollout) -> Labels {
        let module = new.pushes.first().map(|push| &push.module);
        module.map(|module| on::meant(&self.parts.ledger, module, new.on.as_ref())).unwrap_or_default()
    }

    /// Lets what failed before be tried again, where that is asked for: these bytes and no others.
    async fn lift_quarantines(&self, new: &NewRollout) -> Result<(), Refusal> {
        for push in new.pushes.iter().filter(|_| new.retry) {
            let (ledger, module) = (self.parts.ledger.clone(), push.module.clone());
            let record = ledger.module(&module).ok_or_else(|| Refusal::NoModule(module.clone()))?;
            let digest = digest_of(&record, push)?;
            let lifted = self.parts.cluster.lift_quarantine(module, digest).await;
            let Some(reason) = lifted.map_err(|error| unkept(&error))? else { continue };
            let Push { module, version, .. } = push;
            let text = format!(
                "{} has {module} {version} ({digest}) tried again, which was quarantined: {reason}",
                new.by
            );
            let (kind, module, by) = ("quarantine.lifted", module.to_string(), new.by.clone());
            self.parts.journal.write(Entry { kind, module, by, text, ..Entry::default() }).await;
        }
        Ok(())
    }

    async fn go_back_now(
        &mut self,
        back: GoBack,
        id: RolloutId,
    ) -> Result<(RolloutId, ReleaseNumber, ReleaseNumber), Refusal> {
        // Only now is it certain what is stable.
        let (from, to) = way_back(&self.parts.ledger, &self.tried(), &back.module, &back.to)?;
        let on = self.parts.ledger.module(&back.module).map(|record| on::of(&record, to));
        let nodes = on::nodes(&self.parts.cluster, on.unwrap_or_default())?;
        let asked = back.asked();
        let GoBack { module, by, message, request, .. } = back;
        let moves =
            BTreeMap::from([(Module(module.to_string()), Move { stable: Some(from), candidate: to })]);
        let spec = self.spec(id.clone(), &by, moves, nodes, self.parts.policy.clone());
        self.set_clock();
        let (machine, actions) = Rollout::rollback(spec, now());
        let meta = Meta::new(request, asked, message);
        self.running.insert(id.clone(), Record { meta, machine });
        self.perform(&id, actions).await.map_err(|error| not_durable(&id, error))?;
        self.tell_absences(&id).await;
        Ok((id, from, to))
    }

    /// Tells a rollout that begins of which of its nodes nothing can be expected.
    async fn tell_absences(&mut self, id: &RolloutId) {
        for event in self.parts.cluster.absences() {
            // It says so itself where that can't be written, and is tried again.
            drop(self.feed(id, event).await);
        }
    }

    /// Goes by the machine's clock again, where no rollout could be confused by that.
    fn set_clock(&self) {
        if self.running.is_empty() {
            clock::set();
        }
    }

    fn spec(
        &self,
        id: RolloutId,
        by: &str,
        moves: BTreeMap<Module, Move>,
        (nodes, on): (BTreeSet<Node>, Labels),
        policy: hot_rollout::Policy,
    ) -> Spec {
        let given = moves.keys().filter_map(|module| self.parts.cluster.revision(module)).max();
        Spec {
            id,
            by: by.to_owned(),
            moves,
            nodes,
            labels: self.parts.cluster.labels(),
            on,
            policy,
            revision: given.unwrap_or(Revision(0)),
        }
    }

    /// The clocks of two leaders may differ by an hour: what the last one began comes before this all the same.
    fn fresh_id(&self) -> RolloutId {
        let views = self.views.borrow();
        let waiting = self.waiting.iter().map(|waiting| &waiting.id);
        fresh_id(now(), waiting.chain(views.last_id()).max())
    }

    /// Numbers the release of a push.
    async fn release(&self, push: &Push, new: &NewRollout, on: Labels) -> Result<ReleaseNumber, Refusal> {
        let (ledger, module) = (self.parts.ledger.clone(), push.module.clone());
        let record = ledger.module(&module).ok_or_else(|| Refusal::NoModule(module.clone()))?;
        let (digest, at) = (digest_of(&record, push)?, clock::of_day().0);
        let (version, by, message) = (push.version.clone(), new.by.clone(), new.message.clone());
        let of = module.clone();
        let config =
            crate::blocking(move || ledger.stable_config(&of)).await.map_err(|error| stored(&error))?;
        let new = NewRelease { version, digest, config, at, by, message, on };
        self.parts.cluster.number(module, new).await.map_err(|error| unkept(&error))
    }
}

impl NewRollout {
    /// What was asked for in one line: another call under the same request name must ask for the same.
    fn asked(&self) -> String {
        let pushes: Vec<String> =
            self.pushes.iter().map(|push| format!("{} {}", push.module, push.version)).collect();
        let retry = if self.retry { ", again" } else { "" };
        let on = match &self.on {
            Some(on) if on.is_empty() => ", on all".to_owned(),
            Some(on) => format!(", on {}", on::said(on)),
            None => String::new(),
        };
        format!("{}: {}{retry}{on}", pushes.join(", "), self.policy.summary())
    }
}

impl GoBack {
    fn asked(&self) -> String {
        asked_back(&self.module, &self.to)
    }
}

/// What a rollback asks for in one line.
pub(super) fn asked_back(module: &ModuleName, to: &To) -> String {
    match to {
        To::Preceding => format!("{module} back"),
        To::Release(release) => format!("{module} back to release {release}"),
        To::Version(version) => format!("{module} back to version {version}"),
    }
}

/// A name after those of all rollouts before, of which `last` is the last. Names sort by their time, and are short enough to
/// be typed.
fn fresh_id(now: Time, last: Option<&RolloutId>) -> RolloutId {
    let last = last.and_then(|last| u64::from_str_radix(last.as_str().get(1..12)?, 16).ok());
    let time = now.0.max(last.map_or(0, |last| last + 1)).min(LATEST);
    RolloutId(format!("r{time:011x}{:03x}", rand::random::<u16>() & 0xfff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_tells_rollbacks_apart() {
        let module: ModuleName = "greeter".parse().unwrap();
        let asked = [
            To::Preceding,
            To::Release(ReleaseNumber(1)),
            To::Release(ReleaseNumber(2)),
            To::Version("1.0.0".parse().unwrap()),
        ]
        .map(|to| asked_back(&module, &to));
        let different: BTreeSet<&String> = asked.iter().collect();
        assert_eq!(different.len(), asked.len(), "{asked:?}");
    }

    #[test]
    fn ids_are_in_the_order_of_their_time() {
        let first = fresh_id(Time(1000), None);
        assert!(first.as_str().len() == 15 && first.as_str().starts_with("r000000003e8"), "{first}");
        let later = fresh_id(Time(2000), Some(&first));
        assert!(later.as_str().starts_with("r000000007d0"), "{later}");
        // By a clock that is behind.
        let behind = fresh_id(Time(10), Some(&later));
        assert!(behind > later && behind.as_str().len() == 15, "{behind}");
        let last = RolloutId("rfffffffffff000".to_owned());
        assert!(fresh_id(Time(10), Some(&last)) >= last);
        assert!(fresh_id(Time(1000), Some(&RolloutId("r1".to_owned()))) < later, "no name of ours");
    }
}
