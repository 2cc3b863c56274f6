//! What only the leader does: the driver's verbs, each a fenced write to etcd and then the same in this node's ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hot_artifact::{ModuleName, Sha256};
use hot_rollout::{Assignment, Direction, Module, Node, ReleaseNumber, Revision, RolloutId};
use serde_json::Value;
use tokio::sync::watch;

use super::values::{
    AssignmentValue, Given, ModuleValue, ReleaseValue, RenewalValue, RolloutValue, encode, parse,
};
use super::{Fleet, FleetError, State, prune};
use crate::clock;
use crate::cluster::etcd::{Folder, Key, MAX_OPERATIONS, Write, WriteError};
use crate::ledger::Ledger;
use crate::store::{ModuleRecord, NewRelease};

/// Numbers that are tried for a release: another one is taken only where the answer to an earlier try was lost.
const MAX_NUMBERS: u64 = 16;
/// How long a new leader may take to hear that it is elected.
const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// Revisions from here on are nobody's: a million decisions a second for thirty years would come to them. A rollout begins
/// below, and nodes obey it all the same.
const MAX_FOUND: Revision = Revision(1 << 50);
/// Ended rollouts that etcd keeps for nodes that were away, besides what each node has in its own history.
const MAX_ENDED: usize = 100;

/// What the leader has written, so that it need not read it again.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) assignments: BTreeMap<(Node, ModuleName), AssignmentValue>,
    /// Rollouts that are over and still in etcd.
    ended: BTreeSet<RolloutId>,
    /// The highest revisions that nodes had which left: one that comes back obeys none below.
    pub(super) left: BTreeMap<ModuleName, Revision>,
}

/// The release that each node was last asked to get ready for, of each module.
pub(super) type Asked = BTreeMap<(Node, ModuleName), ReleaseNumber>;

/// A rollout as the last leader left it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its id.
    pub id: RolloutId,
    /// Its snapshot.
    pub snapshot: Value,
    /// Whether it is over.
    pub ended: bool,
    /// The revision at which it began: whatever the clocks of leaders say, one that began later has a higher one.
    pub begun: i64,
}

impl Fleet {
    /// Reads what the last leader wrote: the rollouts that run, and those that ended last. To be called once in a term,
    /// before anything else here.
    ///
    /// # Errors
    /// etcd can't be read.
    pub async fn take_over(&self) -> Result<Vec<Kept>, FleetError> {
        self.catch_up_with_fleet().await?;
        let epoch = self.epoch()?;
        let (mut written, mut kept) = (Written::default(), Vec::new());
        for found in self.list(&Folder::AllAssignments).await? {
            let Some(Key::Assignment(node, module)) = self.keys().parse(&found.key) else { continue };
            match parse::<AssignmentValue>(&found.key, &found.value) {
                Ok(value) if value.epoch > epoch => {
                    tracing::error!(%node, %module, "an assignment in etcd is of no leader before this one, and is ignored");
                }
                Ok(value) => drop(written.assignments.insert((node, module), value)),
                Err(malformed) => self.alarm(&malformed),
            }
        }
        for found in self.list(&Folder::Rollouts).await? {
            let Some(Key::Rollout(id)) = self.keys().parse(&found.key) else { continue };
            match parse::<RolloutValue>(&found.key, &found.value) {
                Ok(value) => {
                    let (ended, begun, snapshot) = (value.ended, found.created, value.snapshot.clone());
                    if ended {
                        self.keep_ended(id.clone(), value).await;
                        written.ended.insert(id.clone());
                    }
                    kept.push(Kept { id, snapshot, ended, begun });
                }
                Err(malformed) => self.alarm(&malformed),
            }
        }
        let asked = written.assignments.iter().filter_map(|(of, value)| Some((of.clone(), value.prepare?)));
        drop(self.0.asked.send_replace(asked.collect()));
        *self.written() = written;
        Ok(kept)
    }

    /// Has all that the last leader wrote of modules in this node's ledger: what this one writes begins with that.
    async fn catch_up_with_fleet(&self) -> Result<(), FleetError> {
        let epoch = self.epoch()?;
        let mut states = self.states();
        let ours = |state: &Arc<State>| state.leader.as_ref().is_some_and(|(_, seen)| *seen >= epoch);
        // What was written before we were elected is told before that we were.
        let heard = tokio::time::timeout(HEARD_WITHIN, states.wait_for(ours)).await.is_ok();
        if !heard {
            return Err(FleetError::Behind);
        }
        let state = self.state();
        for ((module, number), value) in &state.releases {
            if let Err(error) = self.adopt_release(module, *number, value).await {
                tracing::warn!(%module, number, error = %crate::describe(&error), "a release is not on this node");
            }
        }
        for (module, value) in &state.modules {
            self.adopt_module(module, value.clone()).await?;
        }
        Ok(())
    }

    /// Has `node` get ready for these releases.
    pub async fn prepare(&self, node: &Node, modules: &[(Module, ReleaseNumber)]) -> Result<(), FleetError> {
        for (module, release) in modules {
            // Before it can hear of that: its answer may come before etcd's.
            let of = (node.clone(), super::named(module)?);
            self.0.asked.send_if_modified(|asked| asked.insert(of, *release) != Some(*release));
            let value = |value: &mut AssignmentValue| value.prepare = Some(*release);
            self.tell(node, module, value).await?;
        }
        Ok(())
    }

    /// Gives `node` an assignment.
    pub async fn assign(
        &self,
        node: &Node,
        assignment: Assignment,
        direction: Direction,
    ) -> Result<(), FleetError> {
        let module = assignment.module.clone();
        let given = Given { assignment, direction };
        self.tell(node, &module, |value| value.given = Some(given)).await
    }

    /// Has `node`, which is in no rollout of `module`, serve what is stable, unless it was told so.
    pub async fn catch_up(
        &self,
        node: &Node,
        module: &Module,
        stable: ReleaseNumber,
        rollout: &RolloutId,
    ) -> Result<(), FleetError> {
        let known = self.told(node, module).and_then(|value| value.given).map(|given| given.assignment);
        if known.is_some_and(|known| known.stable == Some(stable) && known.candidate.is_none()) {
            return Ok(());
        }
        let revision = self.revision(module).unwrap_or(Revision(0)).after(1);
        let assignment = Assignment {
            module: module.clone(),
            revision,
            rollout: rollout.clone(),
            stable: Some(stable),
            candidate: None,
            standby: None,
        };
        self.assign(node, assignment, Direction::Onward).await
    }

    /// Has `node` run nothing of `module`, which is not for it, unless it was told so or nothing at all.
    pub async fn withdraw(
        &self,
        node: &Node,
        module: &Module,
        rollout: &RolloutId,
    ) -> Result<(), FleetError> {
        let known = self.told(node, module).and_then(|value| value.given).map(|given| given.assignment);
        let Some(known) = known.filter(|known| known.stable.is_some() || known.candidate.is_some()) else {
            return Ok(());
        };
        // No more than is needed: a rollout in which the node takes part again goes on from what it gave.
        let revision = known.revision.after(1);
        let (module, rollout) = (module.clone(), rollout.clone());
        let nothing = Assignment { module, revision, rollout, stable: None, candidate: None, standby: None };
        self.assign(node, nothing, Direction::Onward).await
    }

    /// Starts the expiry of a rollout's assignments anew, on all nodes.
    pub async fn renew(
        &self,
        id: &RolloutId,
        modules: Vec<Module>,
        revision: Revision,
    ) -> Result<(), FleetError> {
        let value = encode(&RenewalValue { modules, revision });
        self.lead(vec![Write::Put(Key::Renewal(id.clone()), value)]).await
    }

    /// The highest revision that an assignment of `module` has, wherever.
    #[must_use]
    pub fn revision(&self, module: &Module) -> Option<Revision> {
        let written = self.written();
        let given = written.assignments.iter().filter(|((_, of), _)| of.as_str() == module.as_str());
        let given = given.map(|(_, value)| value.revision());
        let left = written.left.iter().filter(|(of, _)| of.as_str() == module.as_str());
        let all = given.chain(left.map(|(_, revision)| *revision));
        all.filter(|revision| *revision < MAX_FOUND).max()
    }

    /// What nodes were asked to get ready for, and when that changes.
    pub(super) fn asked(&self) -> watch::Receiver<Asked> {
        self.0.asked.subscribe()
    }

    /// Numbers a release: of this version, for all targets that it has.
    pub async fn number(&self, module: ModuleName, new: NewRelease) -> Result<ReleaseNumber, FleetError> {
        let NewRelease { version, digest, config, at, by, message, on } = new;
        let digests = self.shared(&module, Some(&version)).await?.targets(&module, &version);
        if !digests.values().any(|shared| *shared == digest) {
            return Err(FleetError::NotShared { module, version });
        }
        let value =
            ReleaseValue { version, digests, config: config.as_deref().map(Sha256::of), at, by, message, on };
        let first = self.last_release(&module) + 1;
        if value.config.is_some() {
            return Err(FleetError::UnsignedConfig { module, number: first });
        }
        for number in first..first + MAX_NUMBERS {
            let key = Key::Release(module.clone(), number);
            match self.lead(vec![Write::Create(key.clone(), encode(&value))]).await {
                Ok(()) => {}
                Err(FleetError::Write(WriteError::Exists { .. })) if self.is_there(&key, &value).await? => {}
                Err(FleetError::Write(WriteError::Exists { .. })) => continue,
                Err(error) => return Err(error),
            }
            self.adopt_release(&module, number, &value).await?;
            if let Err(error) = self.prune(&module).await {
                tracing::warn!(%module, error = %crate::describe(&error), "old releases stay in etcd until the next one");
            }
            return Ok(ReleaseNumber(number));
        }
        Err(FleetError::NoNumber { module })
    }

    /// Has etcd keep no more of a module than is of use.
    async fn prune(&self, module: &ModuleName) -> Result<(), FleetError> {
        // The last releases may not be heard of yet, and name versions that are old.
        let mut state = State { releases: BTreeMap::new(), ..State::clone(&self.state()) };
        for found in self.list(&Folder::Releases(module.clone())).await? {
            state.put(self.keys(), &found);
        }
        let mut old = prune::beyond(&state, module, clock::of_day(), MAX_OPERATIONS / 2);
        for (key, digest) in prune::versions(&state, &old) {
            // A node that has its file could be given no other one under that name.
            if !self.list(&Folder::Holders(digest)).await?.is_empty() {
                old.retain(|of| *of != key);
            }
        }
        if old.is_empty() { Ok(()) } else { self.lead(old.into_iter().map(Write::Delete).collect()).await }
    }

    /// Names what is stable.
    pub async fn set_stable(
        &self,
        module: &Module,
        release: Option<ReleaseNumber>,
    ) -> Result<(), FleetError> {
        self.change(module, |record| record.set_stable(release.map(|it| it.0))).await
    }

    /// Has the bytes of a release not run again, unless it is stable.
    pub async fn quarantine(
        &self,
        module: &Module,
        release: ReleaseNumber,
        reason: &str,
        at: u64,
    ) -> Result<(), FleetError> {
        self.change(module, |record| Ledger::quarantine_in(record, release, reason, at)).await
    }

    /// Lets bytes that were quarantined run again; gives why they were.
    pub async fn lift_quarantine(
        &self,
        module: &ModuleName,
        digest: &Sha256,
    ) -> Result<Option<String>, FleetError> {
        let mut lifted = None;
        let of = Module(module.to_string());
        self.change(&of, |record| lifted = record.quarantine.remove(digest)).await?;
        Ok(lifted.map(|quarantine| quarantine.reason))
    }

    /// Keeps the snapshot of a rollout that runs.
    pub async fn put_rollout(
        &self,
        id: RolloutId,
        request: String,
        snapshot: Value,
    ) -> Result<(), FleetError> {
        let value = encode(&RolloutValue { request, ended: false, snapshot });
        self.lead(vec![Write::Put(Key::Rollout(id), value)]).await
    }

    /// Forgets a rollout of which nobody knows whether it was written: its caller heard that it did not begin.
    pub async fn unwrite_rollout(&self, id: RolloutId) -> Result<(), FleetError> {
        self.lead(vec![Write::Delete(Key::Rollout(id))]).await
    }

    /// Keeps a rollout that ended, as history, and lets go of the oldest.
    pub async fn end_rollout(
        &self,
        id: RolloutId,
        request: String,
        snapshot: Value,
    ) -> Result<(), FleetError> {
        let value = RolloutValue { request, ended: true, snapshot };
        let mut writes = vec![
            Write::Put(Key::Rollout(id.clone()), encode(&value)),
            Write::Delete(Key::Renewal(id.clone())),
        ];
        let old: Vec<RolloutId> = {
            let mut written = self.written();
            written.ended.insert(id.clone());
            let over = written.ended.len().saturating_sub(MAX_ENDED).min(MAX_OPERATIONS / 2);
            written.ended.iter().filter(|old| **old != id).take(over).cloned().collect()
        };
        writes.extend(old.iter().cloned().map(|id| Write::Delete(Key::Rollout(id))));
        self.lead(writes).await?;
        self.written().ended.retain(|id| !old.contains(id));
        self.keep_ended(id, value).await;
        Ok(())
    }

    fn told(&self, node: &Node, module: &Module) -> Option<AssignmentValue> {
        let name = module.as_str().parse().ok()?;
        self.written().assignments.get(&(node.clone(), name)).cloned()
    }

    /// Changes what a node is told of a module.
    async fn tell(
        &self,
        node: &Node,
        module: &Module,
        change: impl FnOnce(&mut AssignmentValue),
    ) -> Result<(), FleetError> {
        let name: ModuleName = super::named(module)?;
        let mut value = self.told(node, module).unwrap_or_default();
        change(&mut value);
        value.epoch = self.epoch()?;
        let key = Key::Assignment(node.clone(), name.clone());
        self.lead(vec![Write::Put(key, encode(&value))]).await?;
        self.written().assignments.insert((node.clone(), name), value);
        Ok(())
    }

    /// Changes what the fleet knows of a module, there and then here.
    async fn change(
        &self,
        module: &Module,
        change: impl FnOnce(&mut ModuleRecord),
    ) -> Result<(), FleetError> {
        let name: ModuleName = super::named(module)?;
        let mut record = self.ledger().module(&name).map(|it| (*it).clone()).unwrap_or_default();
        change(&mut record);
        let value = ModuleValue {
            served: record.served().to_vec(),
            quarantine: record.quarantine,
            floor: record.floor,
        };
        self.lead(vec![Write::Put(Key::Module(name.clone()), encode(&value))]).await?;
        self.adopt_module(&name, value).await
    }

    fn last_release(&self, module: &ModuleName) -> u64 {
        let here = self.ledger().module(module).map_or(0, |record| record.last_release());
        let state = self.state();
        let there = state.releases.keys().filter(|(of, _)| of == module).map(|(_, number)| *number).max();
        here.max(there.unwrap_or(0))
    }

    async fn is_there(&self, key: &Key, value: &ReleaseValue) -> Result<bool, FleetError> {
        let found = self.connection().get(&self.keys().of(key)).await?;
        Ok(found.is_some_and(|found| {
            parse::<ReleaseValue>(&found.key, &found.value).is_ok_and(|it| it == *value)
        }))
    }
}
