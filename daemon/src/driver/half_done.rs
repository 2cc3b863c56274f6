//! Ways back that moved traffic and were not written down as rollouts: `hotd` ended between the two. Reads what is in memory
//! and changes nothing.

use std::collections::BTreeMap;

use hot_rollout::{Module, ReleaseNumber, RolloutId};

use super::record::Record;
use crate::ledger::Ledger;

/// A module that went back on this node, and the record does not say so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HalfDone {
    pub module: Module,
    /// Stable by the record.
    pub from: ReleaseNumber,
    /// Stable by what the node obeys.
    pub to: ReleaseNumber,
}

/// Modules that no rollout moves and whose node obeys an earlier stable than the one on record. Only a person's word does
/// that: what becomes stable by a rollout is on record before the rollout ends.
pub(super) fn half_done(running: &BTreeMap<RolloutId, Record>, ledger: &Ledger) -> Vec<HalfDone> {
    let moves =
        |module: &Module| running.values().any(|record| record.machine.spec().moves.contains_key(module));
    let of = |(name, record): (hot_artifact::ModuleName, std::sync::Arc<crate::store::ModuleRecord>)| {
        let module = Module(name.to_string());
        let (from, to) = (Ledger::stable(&record)?, Ledger::obeyed_stable(&record)?);
        let went_back = to != from && record.served().contains(&to.0) && !moves(&module);
        went_back.then_some(HalfDone { module, from, to })
    };
    ledger.modules().into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use hot_rollout::machine::Spec;
    use hot_rollout::{Assignment, Direction, Move, Node, Policy, Revision, Rollout, Time};

    use super::super::record::Meta;
    use super::*;
    use crate::ledger::Obeyed;
    use crate::store::{Options, Store};

    const R1: ReleaseNumber = ReleaseNumber(1);
    const R2: ReleaseNumber = ReleaseNumber(2);

    /// A node on which releases 1 and 2 of `greeter` became stable, one after the other.
    struct Case {
        _folder: tempfile::TempDir,
        ledger: Ledger,
        module: Module,
    }

    impl Case {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (store, _) = Store::open(&folder.path().join("data"), Options::default()).unwrap();
            let ledger = Ledger::new(store, Arc::new(hot_artifact::Node::native()));
            let module = Module::from("greeter");
            for release in [R1, R2] {
                ledger.set_stable(&module, Some(release), Direction::Onward).unwrap();
            }
            Self { _folder: folder, ledger, module }
        }

        fn obeys(&self, stable: ReleaseNumber) {
            let assignment = Assignment {
                module: self.module.clone(),
                revision: Revision(8),
                rollout: "r2".into(),
                stable: Some(stable),
                candidate: None,
                standby: None,
            };
            self.ledger.obey(&Obeyed::whole(assignment), Direction::TowardStable).unwrap();
        }

        fn half_done(&self) -> Vec<HalfDone> {
            half_done(&BTreeMap::new(), &self.ledger)
        }
    }

    #[test]
    fn a_way_back_that_is_not_on_record_is_found_until_it_is() {
        let case = Case::new();
        assert_eq!(case.half_done(), [], "the node obeys nothing");
        case.obeys(R2);
        assert_eq!(case.half_done(), []);
        case.obeys(R1);
        assert_eq!(case.half_done(), [HalfDone { module: case.module.clone(), from: R2, to: R1 }]);
        case.ledger.set_stable(&case.module, Some(R1), Direction::TowardStable).unwrap();
        assert_eq!(case.half_done(), []);
    }

    #[test]
    fn what_never_was_stable_is_no_way_back() {
        let case = Case::new();
        case.obeys(ReleaseNumber(3));
        assert_eq!(case.half_done(), []);
    }

    #[test]
    fn a_rollout_that_runs_says_itself_what_is_stable() {
        let case = Case::new();
        case.obeys(R1);
        let spec = Spec {
            id: "r3".into(),
            by: "ann".to_owned(),
            moves: [(case.module.clone(), Move { stable: Some(R2), candidate: R1 })].into(),
            nodes: BTreeSet::from([Node::from("n1")]),
            labels: BTreeMap::new(),
            on: BTreeMap::new(),
            policy: Policy::default(),
            revision: Revision(8),
        };
        let (machine, _) = Rollout::rollback(spec, Time(1));
        let meta = Meta::new(String::new(), String::new(), String::new());
        let running = BTreeMap::from([("r3".into(), Record { meta, machine })]);
        assert_eq!(half_done(&running, &case.ledger), []);
    }
}
