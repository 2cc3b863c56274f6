//! What a person does on this node alone, while its fleet can't be told: goes back, and lifts that.

use std::collections::BTreeMap;
use std::time::Instant;

use hot_rollout::{Assignment, Cause, Direction, Millis, Module, ReleaseNumber, RolloutId};

use super::orders::Orders;
use super::slot::Slot;
use super::{Agent, Flip};
use crate::ledger::{LedgerError, LocalRollback};

/// That this node went back alone.
#[derive(Debug)]
pub(crate) struct WentBack {
    before: Orders,
    /// Where what it went to was ready.
    pub(crate) flip: Option<Flip>,
}

/// The node took the candidate of a rollout back by itself.
#[derive(Clone, Debug)]
pub(crate) struct TakenBack {
    pub(crate) rollout: RolloutId,
    pub(crate) cause: Cause,
}

impl Agent {
    /// Goes back on this node, whatever its fleet wants, until that goes the same way or [`Agent::lift`] is called: at once,
    /// then on disk. What it left is kept as standby for so long. `None`: it was told nothing of this module yet.
    pub(crate) async fn go_back_alone(
        &self,
        module: &Module,
        local: LocalRollback,
        keep: Millis,
    ) -> Option<(WentBack, Result<(), LedgerError>)> {
        let went = {
            let mut slots = self.lock();
            let (before, flip) = slots.get_mut(module)?.go_back_alone(local, keep, Instant::now())?;
            self.reconcile(&mut slots, module);
            WentBack { before, flip: flip.map(|flip| Flip { at: Instant::now(), ..flip }) }
        };
        self.shared.note_change();
        Some((went, self.keep(module, Direction::TowardStable).await))
    }

    /// Has the node do what it did before, since what it went to does not serve.
    pub(crate) async fn put_back(
        &self,
        module: &Module,
        went: WentBack,
        local: &LocalRollback,
    ) -> Result<(), LedgerError> {
        {
            let mut slots = self.lock();
            if let Some(slot) = slots.get_mut(module) {
                slot.put_back(went.before, local);
            }
            self.reconcile(&mut slots, module);
        }
        self.shared.note_change();
        self.keep(module, Direction::TowardStable).await
    }

    /// Has this node take its fleet's word of `module` again: on disk, then in effect. What stood, if anything did.
    pub(crate) async fn lift(
        &self,
        module: &Module,
        keep: Millis,
    ) -> Result<Option<LocalRollback>, LedgerError> {
        // What was left may be signed by nobody who counts by now.
        let trust = self.shared.parts.trust.fresh().await;
        let _in_order = self.shared.keeping.lock().await;
        let next = self.slots(|slots| {
            let mut next = slots.get(module)?.orders.clone();
            next.lift(true, keep, Instant::now())?;
            next.obeyed()
        });
        let Some(next) = next else { return Ok(None) };
        self.write(next, Direction::Onward).await?;
        let lifted = {
            let mut slots = self.lock();
            let lifted = slots.get_mut(module).and_then(|slot| slot.lift(keep, Instant::now()));
            self.review(&mut slots, module, &trust);
            self.reconcile(&mut slots, module);
            lifted
        };
        self.shared.note_change();
        Ok(lifted)
    }

    /// Where a person went back on this node alone.
    pub(crate) fn local_rollbacks(&self) -> BTreeMap<Module, LocalRollback> {
        let local = |(module, slot): (&Module, &Slot)| Some((module.clone(), slot.orders.local.clone()?));
        self.slots(|slots| slots.iter().filter_map(local).collect())
    }

    /// What was decided on this node alone for a module: by a person, and by the node itself.
    pub(crate) fn decided_here(&self, module: &Module) -> (Option<LocalRollback>, Option<TakenBack>) {
        let of = |slot: &Slot| {
            let orders = &slot.orders;
            let rollout = orders.assignment.as_ref().map(|assignment| assignment.rollout.clone());
            let taken = rollout.zip(orders.took_back.clone());
            (orders.local.clone(), taken.map(|(rollout, taken)| TakenBack { rollout, cause: taken.cause }))
        };
        self.slots(|slots| slots.get(module).map(of).unwrap_or_default())
    }

    /// Whether an assignment is not taken, since a person went another way on this node alone.
    pub(crate) fn passes_over(&self, assignment: &Assignment) -> bool {
        let may_take = |slot: &Slot| slot.orders.may_take(assignment);
        self.slots(|slots| !slots.get(&assignment.module).is_none_or(may_take))
    }

    /// The revision of etcd that wrote what this node obeys of `module`.
    pub(crate) fn written(&self, module: &Module) -> Option<i64> {
        self.slots(|slots| slots.get(module)?.orders.written)
    }

    /// The release that this node tries of `module`, or tried until it took it back by itself, and what is stable beside it.
    pub(crate) fn trial(&self, module: &Module) -> Option<(ReleaseNumber, Option<ReleaseNumber>)> {
        self.slots(|slots| {
            let orders = &slots.get(module)?.orders;
            Some((orders.trial()?, orders.stable()))
        })
    }

    /// The release that this node obeys as stable.
    pub(crate) fn stable(&self, module: &Module) -> Option<ReleaseNumber> {
        self.slots(|slots| slots.get(module)?.orders.stable())
    }

    /// The one module of which this node tries a candidate by the rollout whose id begins so.
    pub(crate) fn tried_by(&self, rollout: &str) -> Option<Module> {
        let tries = |slot: &Slot| {
            let by = slot.orders.assignment.as_ref().filter(|_| slot.orders.trial().is_some());
            !rollout.is_empty() && by.is_some_and(|of| of.rollout.as_str().starts_with(rollout))
        };
        self.slots(|slots| {
            let mut found = slots.iter().filter(|(_, slot)| tries(slot)).map(|(module, _)| module.clone());
            found.next().filter(|_| found.next().is_none())
        })
    }

    /// Whether what is stable of `module` serves; or why it does not, once a try of it failed.
    pub(crate) fn stable_serves(&self, module: &Module) -> Result<bool, String> {
        self.slots(|slots| {
            let Some(slot) = slots.get(module) else { return Ok(false) };
            let Some(stable) = slot.orders.stable() else { return Ok(true) };
            let failed = slot.run_of(stable).is_none() && slot.failed_last(stable).is_some();
            match slot.unserved(Instant::now()) {
                None => Ok(true),
                Some(why) if failed || slot.unlaunched.contains_key(&stable) => Err(why),
                Some(_) => Ok(false),
            }
        })
    }
}
