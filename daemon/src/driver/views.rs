//! What everybody sees of rollouts: those that run, the latest of each module and those that ended last, in memory, so
//! that asking how modules are costs no look into the history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hot_rollout::{Kind, Module, RolloutId};

use super::WentBack;
use super::record::{Record, View};
use crate::ledger::{Ledger, LedgerError};

/// Ended rollouts that are kept in memory for those who watch them end, besides the latest of each module.
const REMEMBERED: usize = 64;
/// Ended rollouts that are looked through for one that is asked for: as many as the store keeps.
const LOOKED_THROUGH: usize = 1000;

/// Rollouts by id, which sort by time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Views {
    all: BTreeMap<RolloutId, Arc<View>>,
}

impl Views {
    /// The latest rollout of each module, from the history.
    pub(super) fn load(ledger: &Ledger) -> Result<Self, LedgerError> {
        let (mut views, mut seen) = (Self::default(), BTreeSet::new());
        for id in ledger.ended_ids(LOOKED_THROUGH)? {
            let Some(view) = read(ledger, &id)? else { continue };
            let new = view.spec.moves.keys().filter(|module| seen.insert((*module).clone())).count() > 0;
            if new {
                views.all.insert(id, Arc::new(view));
            }
        }
        Ok(views)
    }

    pub(crate) fn get(&self, id: &RolloutId) -> Option<Arc<View>> {
        self.all.get(id).cloned()
    }

    /// The last one of all modules.
    pub(super) fn last_id(&self) -> Option<&RolloutId> {
        self.all.keys().next_back()
    }

    /// The running rollout of a module, else its latest one.
    pub(crate) fn latest(&self, module: &Module) -> Option<Arc<View>> {
        let mut of = self.all.values().rev().filter(|view| view.spec.moves.contains_key(module)).peekable();
        let newest = of.peek().copied();
        of.find(|view| !view.status.phase.is_final()).or(newest).cloned()
    }

    /// Those that have not ended.
    pub(super) fn running(&self) -> impl Iterator<Item = &View> {
        self.all.values().map(|view| &**view).filter(|view| !view.status.phase.is_final())
    }

    /// The same as [`Self::latest`] for all modules at once.
    pub(crate) fn latest_of_all(&self) -> BTreeMap<&Module, &Arc<View>> {
        let mut latest: BTreeMap<&Module, &Arc<View>> = BTreeMap::new();
        for view in self.all.values() {
            for module in view.spec.moves.keys() {
                let kept = latest.get(module).is_some_and(|kept| !kept.status.phase.is_final());
                if !kept || !view.status.phase.is_final() {
                    latest.insert(module, view);
                }
            }
        }
        latest
    }

    /// What a rollback with this request name did, where it aborted a rollout.
    pub(super) fn aborted_by(&self, module: &Module, request: &str) -> Option<WentBack> {
        let view = self
            .all
            .values()
            .rev()
            .find(|view| view.meta.aborting_request == request && view.spec.moves.contains_key(module))?;
        let releases = view.spec.moves.get(module)?;
        let rollout = view.status.id.clone();
        Some(WentBack { rollout, aborted: true, from: releases.candidate, to: releases.stable?, flip: None })
    }

    /// Takes what the rollouts that run look like now; `None` if that is nothing new.
    pub(super) fn with(&self, fresh: Vec<View>) -> Option<Self> {
        if fresh.iter().all(|view| self.all.get(&view.status.id).is_some_and(|known| **known == *view)) {
            return None;
        }
        let mut next = self.clone();
        let before = next.all.len();
        for view in fresh {
            next.all.insert(view.status.id.clone(), Arc::new(view));
        }
        if next.all.len() > before {
            next.forget_old();
        }
        Some(next)
    }

    fn forget_old(&mut self) {
        let latest: BTreeSet<RolloutId> =
            self.latest_of_all().values().map(|view| view.status.id.clone()).collect();
        let old = self.all.iter().rev().filter(|(id, view)| {
            view.status.phase.is_final() && view.meta.ended.is_some() && !latest.contains(*id)
        });
        let forgotten: Vec<RolloutId> = old.skip(REMEMBERED).map(|(id, _)| id.clone()).collect();
        for id in forgotten {
            self.all.remove(&id);
        }
    }

    /// Those for which `wanted` holds, newest first, from memory and the history.
    pub(super) fn list(
        &self,
        ledger: &Ledger,
        limit: usize,
        wanted: impl Fn(&View) -> bool,
    ) -> Result<Vec<Arc<View>>, LedgerError> {
        let ids: BTreeSet<RolloutId> =
            self.all.keys().cloned().chain(ledger.ended_ids(LOOKED_THROUGH)?).collect();
        let mut found = Vec::new();
        for id in ids.into_iter().rev() {
            if found.len() >= limit {
                break;
            }
            let view = match self.get(&id) {
                Some(view) => Some(view),
                None => read(ledger, &id)?.map(Arc::new),
            };
            found.extend(view.filter(|view| wanted(view)));
        }
        Ok(found)
    }

    /// At most two ids that begin with `prefix`.
    pub(super) fn named(&self, ledger: &Ledger, prefix: &str) -> Result<Vec<RolloutId>, LedgerError> {
        let whole = RolloutId(prefix.to_owned());
        if self.all.contains_key(&whole) {
            return Ok(vec![whole]);
        }
        let ids: BTreeSet<RolloutId> =
            self.all.keys().cloned().chain(ledger.ended_ids(LOOKED_THROUGH)?).collect();
        Ok(ids.into_iter().filter(|id| id.as_str().starts_with(prefix)).take(2).collect())
    }
}

/// An ended rollout; none if it is gone or this version can't read it.
fn read(ledger: &Ledger, id: &RolloutId) -> Result<Option<View>, LedgerError> {
    let Some(value) = ledger.rollout(id)? else { return Ok(None) };
    match Record::decode(value) {
        Ok(record) => Ok(Some(record.view())),
        Err(error) => {
            tracing::debug!(rollout = %id, error = %crate::describe(&error), "an old rollout is left out");
            Ok(None)
        }
    }
}

impl View {
    /// A push that can still be taken back.
    pub(super) fn is_push_under_way(&self) -> bool {
        self.status.kind == Kind::Push && !self.status.phase.is_final()
    }

    /// What it does as a rollback of `module`, if it is one.
    pub(super) fn way_back(&self, module: &Module) -> Option<WentBack> {
        let releases = self.spec.moves.get(module).filter(|_| self.status.kind == Kind::Rollback)?;
        let rollout = self.status.id.clone();
        Some(WentBack { rollout, aborted: false, from: releases.stable?, to: releases.candidate, flip: None })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hot_rollout::machine::Spec;
    use hot_rollout::{
        Command, Event, Move, Node, Policy, PolicySpec, ReleaseNumber, Revision, Rollout, Time,
    };

    use super::super::record::Meta;
    use super::*;

    fn record(n: usize, module: &str) -> Record {
        let releases = Move { stable: Some(ReleaseNumber(1)), candidate: ReleaseNumber(2) };
        let spec = Spec {
            id: RolloutId(format!("r{n:04}")),
            by: "ann".to_owned(),
            moves: BTreeMap::from([(Module(module.to_owned()), releases)]),
            nodes: BTreeSet::from([Node("n1".to_owned())]),
            labels: BTreeMap::new(),
            on: BTreeMap::new(),
            policy: Policy::new(PolicySpec::default()).unwrap(),
            revision: Revision(0),
        };
        let (machine, _) = Rollout::start(spec, Time(1));
        Record { meta: Meta::new(String::new(), String::new(), String::new()), machine }
    }

    fn ended(n: usize, module: &str) -> View {
        let mut record = record(n, module);
        drop(record.machine.handle(Event::Command(Command::Abort { by: "ann".to_owned() }), Time(2)));
        record.meta.ended = Some(Time(2));
        let view = record.view();
        assert!(view.status.phase.is_final(), "nothing was given out, so it is over at once");
        view
    }

    #[test]
    fn the_latest_of_each_module_stays_and_the_rest_is_bounded() {
        let mut views = Views::default();
        views = views.with(vec![ended(0, "quiet")]).unwrap();
        for n in 1..500 {
            views = views.with(vec![ended(n, "busy")]).unwrap();
        }
        let last = ended(500, "busy");
        views = views.with(vec![last.clone()]).unwrap();
        assert_eq!(views.all.len(), REMEMBERED + 2);
        let latest =
            |module: &str| views.latest(&Module(module.to_owned())).map(|view| view.status.id.0.clone());
        assert_eq!(latest("quiet").as_deref(), Some("r0000"));
        assert_eq!(latest("busy").as_deref(), Some("r0500"));
        assert_eq!(latest("other"), None);
        assert_eq!(views.latest_of_all().len(), 2);
        assert!(views.with(vec![last]).is_none(), "nothing new");
    }

    #[test]
    fn one_that_runs_is_never_forgotten_and_comes_before_later_ones() {
        let mut views = Views::default().with(vec![record(0, "busy").view()]).unwrap();
        for n in 1..=100 {
            views = views.with(vec![ended(n, "busy")]).unwrap();
        }
        assert_eq!(views.latest(&Module("busy".to_owned())).unwrap().status.id.0, "r0000");
    }

    #[test]
    fn a_request_that_aborted_a_rollout_is_found_again() {
        let mut of = record(1, "greeter");
        of.meta.aborting_request = "req".to_owned();
        let views = Views::default().with(vec![of.view()]).unwrap();
        let done = views.aborted_by(&Module("greeter".to_owned()), "req").unwrap();
        assert!(done.aborted && done.from == ReleaseNumber(2) && done.to == ReleaseNumber(1));
        assert!(views.aborted_by(&Module("other".to_owned()), "req").is_none());
    }
}
