//! Which rollouts on record another one has overtaken: one began with its modules before it ended, and to go on with it now
//! would undo what is newer. Only where one was left alone, as by an older `hotd` that could not read it, and in a fleet
//! where the answer to its first write was lost, so that its caller heard that it did not begin. Reads what is in memory and
//! changes nothing.

use std::collections::BTreeMap;

use hot_rollout::{Assignment, Module, RolloutId, Spec};

use super::record::Record;
use crate::cluster::fleet::Kept;
use crate::ledger::Ledger;

/// The rollouts of a fleet that must not be gone on with, each with the one that has begun since. `kept` are all that etcd
/// has, in whose order nothing depends on clocks.
pub(super) fn in_fleet(
    running: &BTreeMap<RolloutId, Record>,
    kept: &[Kept],
) -> BTreeMap<RolloutId, RolloutId> {
    if running.is_empty() {
        return BTreeMap::new();
    }
    let known = |kept: &Kept| match running.get(&kept.id) {
        Some(record) => Some(modules(record)),
        None => Record::decode(kept.snapshot.clone()).ok().as_ref().map(modules),
    };
    let known = kept.iter().filter_map(|kept| Some((&kept.id, kept.begun, known(kept)?)));
    let known: Vec<(&RolloutId, i64, Vec<Module>)> = known.collect();
    let later = |(id, record): (&RolloutId, &Record)| {
        let moves = &record.machine.spec().moves;
        let shares = |modules: &[Module]| modules.iter().any(|module| moves.contains_key(module));
        let newest =
            known.iter().filter(|(_, _, modules)| shares(modules)).max_by_key(|(_, begun, _)| *begun);
        newest.filter(|(newest, ..)| *newest != id).map(|(newest, ..)| (id.clone(), (*newest).clone()))
    };
    running.iter().filter_map(later).collect()
}

fn modules(record: &Record) -> Vec<Module> {
    record.machine.spec().moves.keys().cloned().collect()
}

/// The rollouts of a node that is alone that must not be gone on with, each with the one that has begun since.
pub(super) fn on_node(
    running: &BTreeMap<RolloutId, Record>,
    ledger: &Ledger,
) -> BTreeMap<RolloutId, RolloutId> {
    let later = |id: &RolloutId, spec: &Spec| {
        let shares = |other: &Record| other.machine.spec().moves.keys().any(|it| spec.moves.contains_key(it));
        let newest = running.iter().rev().find(|(_, other)| shares(other))?.0;
        (newest != id).then(|| newest.clone())
    };
    let of = |(id, record): (&RolloutId, &Record)| {
        let spec = record.machine.spec();
        Some((id.clone(), later(id, spec).or_else(|| obeyed_since(spec, running, ledger))?))
    };
    running.iter().filter_map(of).collect()
}

/// The rollout whose assignment the node obeys by now for a module of this one. Between two that run their ids decide.
fn obeyed_since(spec: &Spec, running: &BTreeMap<RolloutId, Record>, ledger: &Ledger) -> Option<RolloutId> {
    ledger.obeyed().into_iter().find_map(|kept| {
        let Assignment { module, rollout, revision, .. } = kept.assignment;
        let releases = spec.moves.get(&module).filter(|_| !running.contains_key(&rollout))?;
        let record = ledger.module(&module.as_str().parse().ok()?)?;
        let known = [releases.stable, Some(releases.candidate)];
        // A record that was lost, or put back to an older day, does not say that anything is newer.
        let moved_on =
            rollout > spec.id && Ledger::stable(&record).is_some_and(|it| !known.contains(&Some(it)));
        // A rollout of several modules begins above the revisions of all of them, so that the next one of a single
        // module may be below it.
        let given_since = revision > spec.revision;
        (given_since || moved_on).then_some(rollout)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use hot_rollout::{Direction, Module, Move, Node, Policy, ReleaseNumber, Revision, Rollout, Time};
    use serde_json::{Value, json};

    use super::*;
    use crate::ledger::Obeyed;
    use crate::store::{Options, Store};

    /// A node that tries release 2 of each module since revision 8, by rollout `r1`, which is only on record.
    struct Case {
        _folder: tempfile::TempDir,
        ledger: Ledger,
    }

    impl Case {
        fn new(modules: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (store, _) = Store::open(&folder.path().join("data"), Options::default()).unwrap();
            let case =
                Self { _folder: folder, ledger: Ledger::new(store, Arc::new(hot_artifact::Node::native())) };
            case.puts("r1", modules, 1, 2);
            for module in modules {
                case.promotes(module, 1);
                case.gives(module, "r1", 8);
            }
            case
        }

        /// The stored bytes of a rollout that runs.
        fn puts(&self, id: &str, modules: &[&str], stable: u64, candidate: u64) {
            let releases = Move { stable: Some(ReleaseNumber(stable)), candidate: ReleaseNumber(candidate) };
            let spec = Spec {
                id: id.into(),
                by: "ann".to_owned(),
                moves: modules.iter().map(|module| (Module::from(*module), releases)).collect(),
                nodes: BTreeSet::from([Node::from("n1")]),
                labels: BTreeMap::new(),
                on: BTreeMap::new(),
                policy: Policy::default(),
                revision: Revision(7),
            };
            let (machine, _) = Rollout::start(spec, Time(1));
            let machine: Value = serde_json::from_slice(&machine.encode().unwrap()).unwrap();
            let stored = json!({ "meta": { "updated": 1 }, "machine": machine });
            self.ledger.put_rollout(&id.into(), "", stored, Direction::Onward).unwrap();
        }

        fn gives(&self, module: &str, rollout: &str, revision: u64) {
            let assignment = Assignment {
                module: module.into(),
                revision: Revision(revision),
                rollout: rollout.into(),
                stable: Some(ReleaseNumber(1)),
                candidate: None,
                standby: None,
            };
            self.ledger.obey(&Obeyed::whole(assignment), Direction::Onward).unwrap();
        }

        fn promotes(&self, module: &str, release: u64) {
            let release = Some(ReleaseNumber(release));
            self.ledger.set_stable(&module.into(), release, Direction::Onward).unwrap();
        }

        /// The same where etcd has, besides those that run, these: with what they move and when they began.
        fn overtaken_in_fleet(&self, kept: &[(&str, bool, &str, i64)]) -> Vec<(String, String)> {
            for (id, _, module, _) in kept {
                self.puts(id, &[module], 1, 3);
            }
            let all: BTreeMap<RolloutId, Value> = self.ledger.running_rollouts().into_iter().collect();
            let of = |(id, ended, _, begun): &(&str, bool, &str, i64)| {
                let id = RolloutId::from(*id);
                Kept { snapshot: all[&id].clone(), id, ended: *ended, begun: *begun }
            };
            let kept: Vec<Kept> = kept.iter().map(of).collect();
            let running = kept.iter().filter(|kept| !kept.ended);
            let running = running
                .map(|kept| (kept.id.clone(), Record::decode(kept.snapshot.clone()).unwrap()))
                .collect();
            in_fleet(&running, &kept).into_iter().map(|(one, by)| (one.0, by.0)).collect()
        }

        /// As pairs of the overtaken one and the other.
        fn overtaken(&self) -> Vec<(String, String)> {
            let stored = self.ledger.running_rollouts().into_iter();
            let running = stored.map(|(id, value)| (id, Record::decode(value).unwrap())).collect();
            on_node(&running, &self.ledger).into_iter().map(|(one, by)| (one.0, by.0)).collect()
        }
    }

    fn r1_by(other: &str) -> Vec<(String, String)> {
        vec![("r1".to_owned(), other.to_owned())]
    }

    #[test]
    fn what_only_crashed_goes_on() {
        let case = Case::new(&["greeter"]);
        assert_eq!(case.overtaken(), []);
        case.promotes("greeter", 2);
        assert_eq!(case.overtaken(), [], "it was promoting");
        case.gives("greeter", "r0", 7);
        assert_eq!(case.overtaken(), [], "what it was told is lost with the process");
    }

    #[test]
    fn a_record_of_an_older_day_is_no_sign_of_anything_newer() {
        let case = Case::new(&["greeter"]);
        case.gives("greeter", "r0", 3);
        case.promotes("greeter", 9);
        assert_eq!(case.overtaken(), []);
    }

    #[test]
    fn what_another_rollout_made_stable_meanwhile_is_not_undone() {
        let case = Case::new(&["greeter"]);
        case.gives("greeter", "r2", 11);
        case.promotes("greeter", 3);
        assert_eq!(case.overtaken(), r1_by("r2"));
    }

    #[test]
    fn one_that_went_back_meanwhile_overtook_it_too() {
        let case = Case::new(&["greeter"]);
        case.gives("greeter", "r2", 11);
        assert_eq!(case.overtaken(), r1_by("r2"));
    }

    #[test]
    fn one_module_of_several_is_enough_however_its_revisions_go() {
        let case = Case::new(&["auth", "greeter"]);
        case.gives("greeter", "r2", 5);
        assert_eq!(case.overtaken(), [], "it left nothing behind");
        case.promotes("greeter", 3);
        assert_eq!(case.overtaken(), r1_by("r2"));
    }

    #[test]
    fn of_two_that_run_the_later_one_goes_on() {
        let case = Case::new(&["auth", "greeter"]);
        case.puts("r3", &["greeter"], 1, 3);
        case.puts("r4", &["other"], 1, 2);
        assert_eq!(case.overtaken(), r1_by("r3"));
    }

    #[test]
    fn of_a_fleet_the_one_that_began_last_goes_on_whatever_its_id() {
        let case = Case::new(&["greeter", "other"]);
        // By a leader whose clock was ahead.
        assert_eq!(case.overtaken_in_fleet(&[("r9", true, "greeter", 10), ("r1", false, "greeter", 11)]), []);
        assert_eq!(
            case.overtaken_in_fleet(&[("r1", false, "greeter", 10), ("r0", true, "greeter", 11)]),
            r1_by("r0")
        );
        assert_eq!(
            case.overtaken_in_fleet(&[("r1", false, "greeter", 10), ("r2", false, "greeter", 11)]),
            r1_by("r2")
        );
        assert_eq!(case.overtaken_in_fleet(&[("r1", false, "greeter", 10), ("r2", true, "other", 11)]), []);
    }
}
