//! What nodes run of the modules that no rollout moves: those that came, and all of them where a rollout ended that was not
//! for every node.

use std::collections::BTreeSet;

use hot_rollout::placement::is_for;
use hot_rollout::{Module, Node, RolloutId};

use super::actor::Actor;
use super::record::Record;
use super::{Refusal, on, stored};
use crate::cluster::{Cluster, ClusterError};
use crate::ledger::Ledger;

impl Actor {
    /// Has nodes that came serve what is stable of the modules that no rollout moves now.
    pub(super) async fn bring_up(&mut self) {
        // One that is kept out of rollouts, or has left, is told nothing; it comes again when that is over.
        let usable = self.parts.cluster.nodes();
        for node in std::mem::take(&mut self.behind).into_iter().filter(|node| usable.contains(node)) {
            match self.bring_up_one(&node).await {
                Ok(true) => {}
                Ok(false) => drop(self.behind.insert(node)),
                Err(error) => {
                    tracing::warn!(%node, error = %crate::describe(&error), "a node that came does not serve what is stable yet");
                    self.behind.insert(node);
                }
            }
        }
    }

    /// Has nodes get or lose what a rollout moved, where that is not for every node.
    pub(super) fn level(&mut self, record: &Record) {
        let ledger = &self.parts.ledger;
        let for_some = |(module, of): (&Module, &hot_rollout::Move)| {
            let known = module.as_str().parse().ok().and_then(|name| ledger.module(&name));
            let releases = of.stable.into_iter().chain([of.candidate]);
            known.is_some_and(|known| releases.into_iter().any(|it| !on::of(&known, it).is_empty()))
        };
        if record.machine.spec().moves.iter().any(for_some) {
            self.behind.extend(self.parts.cluster.nodes());
        }
    }

    /// Whether a rollout decides what the node runs of the module. Of one that has only to wait for nodes to follow, those
    /// that it is not for know already what they run; but as long as none has followed, they are all that serve.
    fn moves(&self, module: &Module, node: &Node) -> bool {
        self.running.values().map(|record| &record.machine).any(|machine| {
            machine.spec().moves.contains_key(module) && (machine.has(node) || !machine.is_followed())
        })
    }

    /// False: of some module a rollout runs, and the node is looked at again when that has ended.
    async fn bring_up_one(&self, node: &Node) -> Result<bool, ClusterError> {
        let mut all = true;
        let labels = self.parts.cluster.labels().remove(node).unwrap_or_default();
        for (name, _) in self.parts.ledger.modules() {
            let module = Module(name.to_string());
            // As it is now: the module before this one may have taken long, and it may have been removed since.
            let Some(record) = self.parts.ledger.module(&name) else { continue };
            let moved = self.moves(&module, node);
            all &= !moved;
            let Some(stable) = Ledger::stable(&record).filter(|_| !moved) else { continue };
            let rollout = self.latest(&module);
            if is_for(&on::of(&record, stable), &labels) {
                self.parts.cluster.catch_up(node, &module, stable, &rollout).await?;
            } else {
                self.parts.cluster.withdraw(node, &module, &rollout).await?;
            }
        }
        Ok(all)
    }

    /// Has no node run anything of a module. Here, so that none that comes meanwhile is told what was stable.
    pub(super) async fn withdraw(&self, module: &Module) -> Result<(), Refusal> {
        let Cluster::Fleet(fleet) = &self.parts.cluster else { return Ok(()) };
        let modules = BTreeSet::from([module.clone()]);
        let waits = self.waiting.iter().find(|waiting| waiting.is_of(module)).map(|waiting| waiting.id());
        if let Some(id) = self.in_the_way(&modules).first().or(waits) {
            return Err(Refusal::StillRuns(id.clone()));
        }
        fleet.withdraw_everywhere(module, &self.latest(module)).await.map_err(|error| stored(&error))
    }

    /// The rollout that moved a module last.
    fn latest(&self, module: &Module) -> RolloutId {
        let latest = self.views.borrow().latest(module).map(|view| view.status.id.clone());
        latest.unwrap_or_else(|| RolloutId("r0".to_owned()))
    }
}
