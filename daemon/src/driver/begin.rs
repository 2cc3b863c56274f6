//! How a rollout begins: what is asked for is checked, releases get their numbers, and what runs already makes room.

use std::collections::{BTreeMap, BTreeSet};

use hot_artifact::{ModuleName, Version};
use hot_rollout::machine::Spec;
use hot_rollout::{Command, Direction, Event, Module, Move, ReleaseNumber, Revision, Rollout, RolloutId};

use super::actor::{Actor, BeginReply, not_durable};
use super::perform::write;
use super::record::{Meta, Record};
use super::{NewRollout, Push, Refusal, To, now, stored};
use crate::ledger::{Ledger, runs_here};
use crate::store::{ModuleRecord, NewRelease};

/// Rollouts that may wait for the one that they supersede.
const WAITING: usize = 16;

/// A rollback to begin.
#[derive(Debug)]
pub(super) struct Back {
    pub module: ModuleName,
    /// The release that is stable.
    pub from: ReleaseNumber,
    pub to: ReleaseNumber,
    pub by: String,
    pub message: String,
    pub request: String,
}

impl Actor {
    /// Begins a rollout, or lets it wait until those that it supersedes have gone back.
    pub(super) async fn begin(&mut self, new: NewRollout, reply: BeginReply) {
        let answer = match self.earlier(&new) {
            Ok(Some(id)) => Ok((id, true)),
            Ok(None) => match check(&self.parts.ledger, &new.pushes) {
                Ok(()) => return self.make_room(new, reply).await,
                Err(refusal) => Err(refusal),
            },
            Err(refusal) => Err(refusal),
        };
        drop(reply.send(answer));
    }

    /// The rollout that an earlier call with this request name began.
    fn earlier(&self, new: &NewRollout) -> Result<Option<RolloutId>, Refusal> {
        if new.request.is_empty() {
            return Ok(None);
        }
        let Some(id) = self.parts.ledger.rollout_of_request(&new.request).map_err(|error| stored(&error))?
        else {
            return Ok(None);
        };
        let known = self.running.get(&id).map(|record| record.meta.asked.clone());
        let asked = match known {
            Some(asked) => Some(asked),
            None => {
                let value = self.parts.ledger.rollout(&id).map_err(|error| stored(&error))?;
                value.and_then(|value| Record::decode(value).ok()).map(|record| record.meta.asked)
            }
        };
        if asked.is_some_and(|asked| asked != new.asked()) {
            return Err(Refusal::RequestReused(new.request.clone()));
        }
        Ok(Some(id))
    }

    async fn make_room(&mut self, new: NewRollout, reply: BeginReply) {
        let id = fresh_id();
        let modules: BTreeSet<Module> =
            new.pushes.iter().map(|push| Module(push.module.to_string())).collect();
        // One that waits already has not begun: the newer push takes its place.
        let mut overtaken = Vec::new();
        for (waiting, other, reply) in std::mem::take(&mut self.waiting) {
            if waiting.pushes.iter().any(|push| modules.contains(&Module(push.module.to_string()))) {
                overtaken.push((other, reply));
            } else {
                self.waiting.push((waiting, other, reply));
            }
        }
        for (other, reply) in overtaken {
            drop(reply.send(Err(Refusal::Over(other))));
        }
        if self.waiting.len() >= WAITING {
            let refusal = Refusal::TooManyWait;
            drop(reply.send(Err(refusal)));
            return;
        }
        for other in self.in_the_way(&modules) {
            drop(self.feed(&other, Event::Command(Command::Supersede { by: id.clone() })).await);
        }
        // The task's loop begins it as soon as nothing is in its way.
        self.waiting.push((new, id, reply));
    }

    fn in_the_way(&self, modules: &BTreeSet<Module>) -> Vec<RolloutId> {
        let overlaps =
            |record: &Record| record.machine.spec().moves.keys().any(|module| modules.contains(module));
        self.running.iter().filter(|(_, record)| overlaps(record)).map(|(id, _)| id.clone()).collect()
    }

    /// Begins what has waited, where nothing is in its way any more.
    pub(super) async fn begin_waiting(&mut self) {
        for (new, id, reply) in std::mem::take(&mut self.waiting) {
            let modules = new.pushes.iter().map(|push| Module(push.module.to_string())).collect();
            if !self.in_the_way(&modules).is_empty() {
                self.waiting.push((new, id, reply));
                continue;
            }
            let answer = self.begin_now(new, id).await;
            drop(reply.send(answer.map(|id| (id, false))));
        }
    }

    async fn begin_now(&mut self, new: NewRollout, id: RolloutId) -> Result<RolloutId, Refusal> {
        // Again: a version may have gone, or a route been taken, while it waited.
        check(&self.parts.ledger, &new.pushes)?;
        let mut moves = BTreeMap::new();
        for push in &new.pushes {
            let candidate = self.release(push, &new).await?;
            let record = self
                .parts
                .ledger
                .module(&push.module)
                .ok_or_else(|| Refusal::NoModule(push.module.clone()))?;
            moves
                .insert(Module(push.module.to_string()), Move { stable: Ledger::stable(&record), candidate });
        }
        let spec = self.spec(id.clone(), &new.by, moves, new.policy.clone());
        let meta = Meta::new(new.request.clone(), new.asked(), new.message);
        let (machine, actions) = Rollout::start(spec, now());
        let record = Record { meta, machine };
        // Nothing of it goes toward stable, so one that can't be written never was.
        write(&self.parts.ledger, &record, Direction::Onward).await?;
        let undone = self.undone.entry(id.clone()).or_default();
        undone.want(actions);
        undone.saved();
        self.running.insert(id.clone(), record);
        drop(self.catch_up(&id).await);
        Ok(id)
    }

    /// Begins a rollback of a module that no rollout is moving. One that has begun meanwhile is superseded.
    pub(super) async fn go_back(&mut self, back: Back) -> Result<RolloutId, Refusal> {
        let Back { module, from, to, by, message, request } = back;
        let name = Module(module.to_string());
        let id = fresh_id();
        for other in self.in_the_way(&BTreeSet::from([name.clone()])) {
            drop(self.feed(&other, Event::Command(Command::Supersede { by: id.clone() })).await);
        }
        let moves = BTreeMap::from([(name, Move { stable: Some(from), candidate: to })]);
        let spec = self.spec(id.clone(), &by, moves, self.parts.policy.clone());
        let (machine, actions) = Rollout::rollback(spec, now());
        let meta = Meta::new(request, String::new(), message);
        let adopted = self.adopt(Record { meta, machine }, actions).await;
        adopted.map_err(|error| not_durable(&id, error))?;
        Ok(id)
    }

    fn spec(
        &self,
        id: RolloutId,
        by: &str,
        moves: BTreeMap<Module, Move>,
        policy: hot_rollout::Policy,
    ) -> Spec {
        let given = moves.keys().filter_map(|module| self.parts.cluster.revision(module)).max();
        Spec {
            id,
            by: by.to_owned(),
            moves,
            nodes: self.parts.cluster.nodes(),
            policy,
            revision: given.unwrap_or(Revision(0)),
        }
    }

    /// Numbers the release of a push.
    async fn release(&self, push: &Push, new: &NewRollout) -> Result<ReleaseNumber, Refusal> {
        let (ledger, module) = (self.parts.ledger.clone(), push.module.clone());
        let record = ledger.module(&module).ok_or_else(|| Refusal::NoModule(module.clone()))?;
        let digest = digest_of(&record, push)?;
        let config = ledger.stable_config(&module).map_err(|error| stored(&error))?;
        let release = NewRelease {
            version: push.version.clone(),
            digest,
            config,
            at: now().0,
            by: new.by.clone(),
            message: new.message.clone(),
        };
        let number = crate::blocking(move || ledger.allocate_release(&module, release)).await;
        number.map_err(|error| stored(&error))
    }
}

impl NewRollout {
    /// What was asked for in one line: another call under the same request name must ask for the same.
    fn asked(&self) -> String {
        let pushes: Vec<String> =
            self.pushes.iter().map(|push| format!("{} {}", push.module, push.version)).collect();
        format!("{}: {}", pushes.join(", "), self.policy.summary())
    }
}

/// Whether these pushes can be rolled out on this node at all.
fn check(ledger: &Ledger, pushes: &[Push]) -> Result<(), Refusal> {
    for push in pushes {
        let record = ledger.module(&push.module).ok_or_else(|| Refusal::NoModule(push.module.clone()))?;
        let digest = digest_of(&record, push)?;
        if let Some(quarantine) = record.quarantine.get(&digest) {
            return Err(Refusal::Quarantined {
                module: push.module.clone(),
                version: push.version.clone(),
                reason: quarantine.reason.clone(),
            });
        }
    }
    conflicts(ledger, pushes)
}

/// The digest of the version that this node can run.
fn digest_of(record: &ModuleRecord, push: &Push) -> Result<hot_artifact::Sha256, Refusal> {
    let (module, version) = (push.module.clone(), push.version.clone());
    if record.tombstones().contains_key(&version) {
        return Err(Refusal::Removed { module, version });
    }
    let Some(digest) = runs_here(record, &version) else {
        return Err(Refusal::NoVersion { module, version });
    };
    match push.digests.first() {
        Some(meant) if !push.digests.contains(&digest) => {
            Err(Refusal::OtherDigest { module, version, digest: *meant })
        }
        Some(_) | None => Ok(digest),
    }
}

/// Two modules must not claim one route: those of these pushes, and of what other modules serve or try.
fn conflicts(ledger: &Ledger, pushes: &[Push]) -> Result<(), Refusal> {
    let mut routes: Vec<(String, String)> = Vec::new();
    for (module, record) in ledger.modules() {
        for release in Ledger::stable(&record).into_iter().chain(Ledger::candidate(&record)) {
            if let Ok(runnable) = ledger.runnable(&Module(module.to_string()), release) {
                routes.extend(runnable.routes.into_iter().map(|route| (module.to_string(), route)));
            }
        }
    }
    for push in pushes {
        let record = ledger.module(&push.module);
        let digest = record.and_then(|record| runs_here(&record, &push.version));
        let of = digest.and_then(|digest| ledger.routes(&digest).ok()).unwrap_or_default();
        routes.extend(of.into_iter().map(|route| (push.module.to_string(), route)));
    }
    let pairs = routes.iter().map(|(module, route)| (module.as_str(), route.as_str()));
    match crate::gateway::conflicts(pairs).into_iter().next() {
        Some(conflict) => Err(conflict.into()),
        None => Ok(()),
    }
}

/// The release that serves and the one to go back to: one that was stable before it and was not taken back.
pub(super) fn way_back(
    ledger: &Ledger,
    module: &ModuleName,
    to: &To,
) -> Result<(ReleaseNumber, ReleaseNumber), Refusal> {
    let record = ledger.module(module).ok_or_else(|| Refusal::NoModule(module.clone()))?;
    let nothing = |why: String| Refusal::NothingToReturnTo { module: module.clone(), why };
    let Some((&stable, before)) = record.served().split_last() else {
        return Err(nothing("nothing of it was ever promoted".to_owned()));
    };
    let version_of = |release: &u64| record.releases().get(release).map(|release| &release.version);
    let versioned =
        |wanted: &Version| before.iter().rev().find(|release| version_of(release) == Some(wanted));
    let found = match to {
        To::Preceding => before.last(),
        To::Release(release) => before.iter().find(|number| **number == release.0),
        To::Version(version) => versioned(version),
    };
    match (found, to) {
        (Some(found), _) => Ok((ReleaseNumber(stable), ReleaseNumber(*found))),
        (None, To::Preceding) => Err(nothing(format!("release {stable} is the only one that was stable"))),
        (None, To::Release(wanted)) => Err(nothing(format!(
            "release {wanted} was not stable before release {stable}, or was taken back"
        ))),
        (None, To::Version(wanted)) => Err(nothing(format!(
            "no release of version {wanted} was stable before release {stable} and is still here"
        ))),
    }
}

/// Ids sort by their time, and are short enough to be typed.
fn fresh_id() -> RolloutId {
    RolloutId(format!("r{:011x}{:03x}", now().0, rand::random::<u16>() & 0xfff))
}
