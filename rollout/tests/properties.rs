//! What always holds, whatever happens in whatever order: random events over several nodes and modules, on time, late,
//! twice, and made up.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use hot_rollout::{
    Action, Assignment, Cause, Command, Event, Figures, InstanceState, Kind, Labels, Latency, Left, Millis,
    Module, Move, Node, NoteKind, Phase, Policy, PolicySpec, Reason, ReleaseNumber, Revision, Rollout,
    Sample, Share, Spec, Step, Time, Waiting, Weight,
};
use proptest::prelude::*;

const NODES: usize = 5;
const OLD: u64 = 10;

/// What may happen next. Numbers pick a node, a module, a revision.
#[derive(Clone, Debug)]
enum Happening {
    /// The whole fleet does what it was told, once.
    Obey,
    /// Good figures come from every node.
    Good,
    Event(Event),
    Pass(u64),
    Restart,
}

/// What the nodes were told, and what must hold of it.
#[derive(Clone)]
struct World {
    rollout: Rollout,
    now: Time,
    told: BTreeMap<(Node, Module), Assignment>,
    /// The step of the last note that said which one starts.
    started: Option<usize>,
    /// How often one was placed anew.
    anew: usize,
    /// Who was told to start a candidate, and neither was ready since nor had it taken away.
    starting: BTreeSet<(Node, Module)>,
    stable: BTreeMap<Module, Option<ReleaseNumber>>,
    counting: u64,
}

fn node(index: usize) -> Node {
    Node(format!("n{}", index % (NODES + 1)))
}

/// Of three zones, and none.
fn zone(index: usize) -> Labels {
    let zone = Some(index % 4).filter(|zone| *zone > 0);
    zone.map(|zone| ("zone".to_owned(), zone.to_string())).into_iter().collect()
}

fn module(index: usize) -> Module {
    ["auth", "greeter", "other"][index % 3].into()
}

/// `first` of the two modules have no stable release.
fn spec(first: usize, waves: PolicySpec, shares: &[u16]) -> Spec {
    let step = |share: &u16| Step { share: Share::new(*share).unwrap(), bake: Millis::seconds(30) };
    let policy = Policy::new(PolicySpec { steps: shares.iter().map(step).collect(), ..waves });
    let releases =
        |stable: Option<u64>| Move { stable: stable.map(ReleaseNumber), candidate: ReleaseNumber(OLD + 1) };
    Spec {
        id: "ro-1".into(),
        by: "ada".to_owned(),
        moves: [
            (module(0), releases((first < 2).then_some(OLD))),
            (module(1), releases((first < 1).then_some(OLD))),
        ]
        .into(),
        nodes: (0..NODES).map(node).collect(),
        labels: (0..NODES).map(|index| (node(index), zone(index))).collect(),
        on: Labels::new(),
        policy: policy.unwrap(),
        revision: Revision(100),
    }
}

impl World {
    fn new(spec: Spec, kind: Kind) -> Self {
        let begin = if kind == Kind::Push { Rollout::start } else { Rollout::rollback };
        let stable = spec.moves.iter().map(|(module, releases)| (module.clone(), releases.stable)).collect();
        let (rollout, actions) = begin(spec, Time(1000));
        let now = Time(1000);
        let mut world = Self {
            rollout,
            now,
            told: BTreeMap::new(),
            started: None,
            anew: 0,
            starting: BTreeSet::new(),
            stable,
            counting: 0,
        };
        world.act(&actions);
        world
    }

    /// Goes on from a snapshot each time: what it holds is all that there is.
    fn happen(&mut self, happening: &Happening) {
        let restored = Rollout::decode(&self.rollout.encode().unwrap()).unwrap();
        assert_eq!(restored, self.rollout);
        self.rollout = restored;
        match happening {
            Happening::Obey => {
                for event in self.obedience() {
                    self.feed(event);
                }
            }
            Happening::Good => {
                self.counting += 1;
                let told: Vec<Assignment> = self.told.values().cloned().collect();
                let nodes: Vec<Node> = self.told.keys().map(|(node, _)| node.clone()).collect();
                for (node, assignment) in nodes.into_iter().zip(told) {
                    let figures = Figures {
                        requests: 200,
                        latency: Latency::from_counts([(5000, 200)]),
                        ..Figures::default()
                    };
                    self.feed(Event::Sample(Sample {
                        node,
                        module: assignment.module,
                        revision: assignment.revision,
                        since: Time(self.counting),
                        until: Time(self.counting + 1),
                        candidate: figures.clone(),
                        stable: figures,
                    }));
                }
            }
            Happening::Event(event) => {
                self.feed(event.clone());
                if let Event::NodeLeft { node, .. } = event {
                    self.told.retain(|(of, _), assignment| {
                        assert!(of != node || assignment.candidate.is_none(), "it left with {assignment:?}");
                        of != node
                    });
                }
            }
            Happening::Pass(millis) => {
                self.now = self.now.plus(Millis(*millis));
                self.feed(Event::Timeout);
            }
            Happening::Restart => {
                self.rollout = Rollout::decode(&self.rollout.encode().unwrap()).unwrap();
                let actions = self.rollout.resume(self.now);
                self.act(&actions);
            }
        }
    }

    /// What every node says that does at once what it was told.
    fn obedience(&self) -> Vec<Event> {
        let spec = self.rollout.spec();
        let prepared = spec.nodes.iter().flat_map(|node| {
            spec.moves.keys().map(|module| Event::Prepared { node: node.clone(), module: module.clone() })
        });
        let told = self.told.iter().flat_map(|((node, module), assignment)| {
            let (node, module) = (node.clone(), module.clone());
            let release = spec.moves[&module].candidate;
            [
                Event::Instance {
                    node: node.clone(),
                    module: module.clone(),
                    release,
                    state: InstanceState::Ready,
                },
                Event::Applied { node, module, revision: assignment.revision, serves: true },
            ]
        });
        prepared.chain(told).collect()
    }

    /// Feeds an event and checks that saying it twice changes nothing.
    fn feed(&mut self, event: Event) {
        if let Event::Instance { node, module, release, state: InstanceState::Ready } = &event
            && *release == ReleaseNumber(OLD + 1)
        {
            self.starting.remove(&(node.clone(), module.clone()));
        }
        let actions = self.rollout.handle(event.clone(), self.now);
        self.act(&actions);
        let promotes = matches!(event, Event::Command(Command::Promote { .. }));
        if !promotes {
            let mut other = self.rollout.clone();
            let again = other.handle(event.clone(), self.now);
            assert_eq!(other, self.rollout, "{event:?} twice");
            let assigned = again.iter().all(|action| match action {
                Action::Assign { node, assignment, .. } => {
                    self.told.get(&(node.clone(), assignment.module.clone())) == Some(assignment)
                }
                Action::SetStable { .. } | Action::Quarantine { .. } | Action::Finished(_) => false,
                Action::Prepare { .. } | Action::Renew { .. } | Action::Note(_) => true,
            });
            assert!(assigned, "{event:?} twice gives {again:?}");
        }
    }

    /// Takes over what was told, and checks all that must hold at any time.
    fn act(&mut self, actions: &[Action]) {
        let onward = actions.iter().position(|action| !action.toward_stable()).unwrap_or(actions.len());
        assert!(
            actions[onward..].iter().all(|action| !action.toward_stable()),
            "toward stable first: {actions:?}"
        );
        for action in actions {
            match action {
                Action::Assign { node, assignment, .. } => self.assign(node, assignment),
                Action::SetStable { module, release, .. } => {
                    self.stable.insert(module.clone(), *release);
                }
                Action::Note(note) => {
                    if let NoteKind::Starting { step } = note.kind {
                        let anew = Some(step) == self.started && note.text.contains(" anew: ");
                        let next = step == self.started.map_or(0, |before| before + 1);
                        assert!(
                            anew || next,
                            "steps are never skipped: {} after {:?}",
                            note.text,
                            self.started
                        );
                        self.started = Some(step);
                        self.anew += usize::from(anew);
                    }
                }
                Action::Quarantine { reason, .. } => {
                    assert_eq!(self.rollout.phase().reason(), Some(reason), "it is why all go back");
                }
                Action::Prepare { .. } | Action::Renew { .. } | Action::Finished(_) => {}
            }
        }
        self.check();
    }

    fn assign(&mut self, node: &Node, assignment: &Assignment) {
        let key = (node.clone(), assignment.module.clone());
        if let Some(before) = self.told.get(&key) {
            assert!(assignment.revision >= before.revision, "{before:?} then {assignment:?}");
            if assignment.revision == before.revision {
                assert_eq!(assignment, before, "one revision, one content");
            }
        }
        let sum: u32 =
            assignment.weights().iter().map(|(_, _, weight)| u32::from(weight.basis_points())).sum();
        let serves = assignment.stable.is_some()
            || assignment.candidate.as_ref().is_some_and(|candidate| candidate.weight > Weight::ZERO);
        assert_eq!(sum, if serves { 10_000 } else { 0 }, "{assignment:?}");
        let held = self.told.get(&key).is_some_and(|held| held.candidate.is_some());
        match assignment.candidate {
            Some(_) if held => {}
            Some(_) => drop(self.starting.insert(key.clone())),
            None => drop(self.starting.remove(&key)),
        }
        self.told.insert(key, assignment.clone());
    }

    /// Of the nodes that can be reached no more start than may.
    fn check_starts(&self) {
        let Some(most) = self.rollout.spec().policy.spec().max_parallel else { return };
        let status = self.rollout.status();
        let modules = status.modules.iter();
        let up: BTreeSet<&Node> =
            modules.flat_map(|module| &module.nodes).filter(|node| node.up).map(|node| &node.node).collect();
        let starting: BTreeSet<&Node> =
            self.starting.iter().map(|(node, _)| node).filter(|node| up.contains(node)).collect();
        assert!(starting.len() <= most.get() as usize, "{starting:?} start at once, at most {most} may");
    }

    fn check(&self) {
        self.check_starts();
        let phase = self.rollout.phase();
        assert!(self.rollout.next_timeout().is_none_or(|due| due > self.now));
        let moved_by = self.rollout.next_timeout().is_some() || self.rollout.waiting_on().is_some();
        assert!(moved_by || phase.is_final(), "nothing moves it");
        let candidates: Vec<(&Node, &Assignment)> = self
            .told
            .iter()
            .filter(|(_, assignment)| assignment.candidate.is_some())
            .map(|((node, _), assignment)| (node, assignment))
            .collect();
        let failed = self.rollout.status().failed;
        assert!(
            candidates.iter().all(|(node, _)| !failed.contains_key(node)),
            "{failed:?} with {candidates:?}"
        );
        let may = self.rollout.spec().policy.spec().max_failing as usize;
        let under_way = phase.step().is_some() || matches!(phase, Phase::Preparing | Phase::Promoting { .. });
        assert!(!under_way || failed.len() <= may, "{failed:?} in {phase:?}");
        let Some(step) = phase.step() else {
            assert!(candidates.is_empty(), "{phase:?} with {candidates:?}");
            return;
        };
        let policy = self.rollout.spec().policy.spec();
        let share = policy.steps[step].share.basis_points();
        let most = if policy.spread { share } else { share.max(5000) };
        for (module, releases) in &self.rollout.spec().moves {
            let weights: Vec<u16> = candidates
                .iter()
                .filter(|(_, assignment)| assignment.module == *module)
                .filter_map(|(_, assignment)| Some(assignment.candidate.as_ref()?.weight.basis_points()))
                .collect();
            if releases.stable.is_some() {
                assert!(weights.iter().all(|weight| *weight <= most), "{weights:?} at {share}");
                let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
                assert!(sum <= u64::from(share) * (NODES as u64 + 1), "{weights:?} at {share}");
            } else {
                assert!(weights.iter().all(|weight| *weight == 0 || *weight == 10_000), "{weights:?}");
            }
        }
    }

    /// Time alone, with no node saying anything.
    fn wait(&mut self) -> Millis {
        let begun = self.now;
        for _ in 0..10_000 {
            let Some(due) = self.rollout.next_timeout() else { return self.now.since(begun) };
            self.now = due;
            self.feed(Event::Timeout);
        }
        panic!("it never ends: {:?}", self.rollout.phase());
    }

    fn back_on_stable(&self) {
        for (module, releases) in &self.rollout.spec().moves {
            assert_eq!(self.stable[module], releases.stable);
            for ((node, _), assignment) in self.told.iter().filter(|((_, of), _)| of == module) {
                assert_eq!(assignment.stable, releases.stable, "{node}");
                assert_eq!(assignment.candidate, None, "{node}");
            }
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    let place = || (0..=NODES, 0..3_usize).prop_map(|(at, of)| (node(at), module(of)));
    let revision = || (95..130_u64).prop_map(Revision);
    let release = prop_oneof![9 => Just(ReleaseNumber(OLD + 1)), 1 => Just(ReleaseNumber(OLD))];
    let cause = prop_oneof![
        Just(Cause::Crashed { signal: 11, text: String::new() }),
        Just(Cause::Expired { after: Millis::seconds(60) }),
        Just(Cause::ByHand { by: "bob".to_owned() }),
    ];
    let state = prop_oneof![
        4 => Just(InstanceState::Ready),
        2 => Just(InstanceState::Starting),
        2 => Just(InstanceState::Ended),
        1 => cause.clone().prop_map(InstanceState::Failed),
    ];
    let counts = (0..300_u64, 0..4_u64).prop_map(|(requests, part)| Figures {
        requests,
        errors: if part == 0 { requests / 2 } else { 0 },
        latency: Latency::from_counts([(5000, requests)]),
        open: Latency::from_counts([(2_000_000, part * requests / 9)]),
    });
    let sample = (place(), revision(), 0..5_u64, 0..9_u64, counts.clone(), counts).prop_map(
        |((node, module), revision, since, until, candidate, stable)| {
            let (since, until) = (Time(since), Time(until));
            Event::Sample(Sample { node, module, revision, since, until, candidate, stable })
        },
    );
    prop_oneof![
        3 => (0..=NODES, 0..9_usize).prop_map(|(at, of)| {
            Event::NodeUp { node: node(at), labels: zone(of) }
        }),
        2 => (0..=NODES).prop_map(|at| Event::NodeDown { node: node(at) }),
        1 => (0..=NODES).prop_map(|at| Event::NodeLeft { node: node(at), why: Left::Fleet }),
        1 => place().prop_map(|(node, module)| Event::LocalRollback { node, module, by: "bob".to_owned() }),
        2 => place().prop_map(|(node, module)| Event::Prepared { node, module }),
        1 => place().prop_map(|(node, module)| Event::PrepareFailed { node, module, text: String::new() }),
        4 => (place(), release, state).prop_map(|((node, module), release, state)| {
            Event::Instance { node, module, release, state }
        }),
        3 => sample,
        3 => (place(), revision(), any::<bool>()).prop_map(|((node, module), revision, serves)| {
            Event::Applied { node, module, revision, serves }
        }),
        1 => (place(), revision(), cause).prop_map(|((node, module), revision, cause)| {
            Event::TookBack { node, module, revision, cause }
        }),
        2 => command().prop_map(Event::Command),
        1 => Just(Event::Timeout),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let by = || "bob".to_owned();
    prop_oneof![
        3 => any::<bool>().prop_map(move |full| Command::Promote { by: by(), full }),
        2 => Just(Command::Pause { by: by() }),
        3 => Just(Command::Resume { by: by() }),
        1 => Just(Command::Abort { by: by() }),
        1 => Just(Command::Supersede { by: "ro-2".into() }),
    ]
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let happening = prop_oneof![
        8 => Just(Happening::Obey),
        5 => Just(Happening::Good),
        6 => event().prop_map(Happening::Event),
        6 => (0..40_000_u64).prop_map(Happening::Pass),
        1 => (0..4_000_000_u64).prop_map(Happening::Pass),
        1 => Just(Happening::Restart),
    ];
    prop::collection::vec(happening, 0..60)
}

/// What happens to the nodes of a wave, and nothing that would end it.
fn wave_happenings() -> impl Strategy<Value = Vec<Happening>> {
    let place = || (0..=NODES, 0..2_usize).prop_map(|(at, of)| (node(at), module(of)));
    let instance = |state: InstanceState| {
        place().prop_map(move |(node, module)| {
            let (release, state) = (ReleaseNumber(OLD + 1), state.clone());
            Event::Instance { node, module, release, state }
        })
    };
    let event = prop_oneof![
        10 => instance(InstanceState::Ready),
        1 => instance(InstanceState::Ended),
        1 => instance(InstanceState::Failed(Cause::Exited { code: 1, text: String::new() })),
        3 => (0..=NODES).prop_map(|at| Event::NodeDown { node: node(at) }),
        4 => (0..=NODES, 0..9_usize).prop_map(|(at, of)| Event::NodeUp { node: node(at), labels: zone(of) }),
        1 => (0..=NODES).prop_map(|at| Event::NodeLeft { node: node(at), why: Left::Fleet }),
    ];
    let happening = prop_oneof![
        20 => event.prop_map(Happening::Event),
        1 => Just(Happening::Obey),
        1 => Just(Happening::Good),
        1 => (0..40_000_u64).prop_map(Happening::Pass),
        1 => Just(Happening::Restart),
    ];
    prop::collection::vec(happening, 0..80)
}

fn specs() -> impl Strategy<Value = Spec> {
    let shares = prop_oneof![
        Just(vec![1000, 5000, 10_000]),
        Just(vec![10_000]),
        Just(vec![1, 3333, 6000, 9999, 10_000]),
        Just(vec![2500, 10_000]),
    ];
    (0..=2_usize, waves(), shares).prop_map(|(first, waves, shares)| spec(first, waves, &shares))
}

/// How a step goes over its nodes.
fn waves() -> impl Strategy<Value = PolicySpec> {
    let failing = prop_oneof![2 => Just(0), 2 => Just(1), 1 => Just(2), 1 => Just(9)];
    (any::<bool>(), any::<bool>(), 0..4_u32, failing).prop_map(|(spread, over, parallel, failing)| {
        PolicySpec {
            spread,
            spread_over: over.then(|| "zone".to_owned()),
            max_parallel: NonZeroU32::new(parallel),
            max_failing: failing,
            ..PolicySpec::default()
        }
    })
}

fn played(spec: Spec, kind: Kind, happenings: &[Happening]) -> World {
    let mut world = World::new(spec, kind);
    for happening in happenings {
        world.happen(happening);
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_happens_breaks_a_push(spec in specs(), happenings in happenings()) {
        let world = played(spec, Kind::Push, &happenings);
        match world.rollout.phase() {
            Phase::RolledBack { .. } | Phase::Failed { .. } => world.back_on_stable(),
            Phase::Done => {
                let all = world.rollout.spec().moves.keys();
                prop_assert!(all.clone().all(|module| world.stable[module] == Some(ReleaseNumber(OLD + 1))));
            }
            _ => {}
        }
    }

    #[test]
    fn a_wave_keeps_its_bounds(spec in specs(), happenings in wave_happenings()) {
        let mut world = World::new(spec, Kind::Push);
        world.happen(&Happening::Obey);
        for happening in &happenings {
            world.happen(happening);
        }
    }

    #[test]
    fn nothing_that_happens_breaks_a_rollback(waves in waves(), happenings in happenings()) {
        let world = played(spec(0, waves, &[10_000]), Kind::Rollback, &happenings);
        if let Phase::Failed { .. } = world.rollout.phase() {
            world.back_on_stable();
        }
    }

    #[test]
    fn an_abort_always_ends_on_stable(spec in specs(), happenings in happenings(), obeyed in any::<bool>()) {
        let mut world = World::new(spec, Kind::Push);
        for happening in &happenings {
            let before = world.clone();
            world.happen(happening);
            if world.rollout.phase().is_final() {
                world = before;
                break;
            }
        }
        for _ in 0..2 {
            world.happen(&Happening::Event(Event::Command(Command::Abort { by: "bob".to_owned() })));
        }
        world.back_on_stable();
        if obeyed {
            world.happen(&Happening::Obey);
        }
        let took = world.wait();
        prop_assert!(took <= world.rollout.spec().policy.spec().expiry);
        prop_assert!(world.rollout.phase().is_final(), "{:?}", world.rollout.phase());
        world.back_on_stable();
    }

    #[test]
    fn the_deadline_always_ends_it(spec in specs(), happenings in happenings()) {
        let mut world = played(spec, Kind::Push, &happenings);
        world.wait();
        let phase = world.rollout.phase();
        prop_assert!(phase.is_final() || *phase == Phase::Incomplete, "{phase:?}");
        let spec = world.rollout.spec().policy.spec();
        let passed: u64 = happenings.iter().map(|h| if let Happening::Pass(millis) = h { *millis } else { 0 }).sum();
        let longest = spec.deadline.plus(spec.expiry).plus(spec.start_deadline).plus(Millis(passed + 10_000));
        prop_assert!(world.now <= Time(1000).plus(longest));
    }
}

/// The generator reaches what it claims to test: without this, properties could hold of rollouts that never move.
#[test]
fn random_rollouts_reach_every_phase() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut reached = BTreeSet::new();
    for _ in 0..400 {
        let spec = specs().new_tree(&mut runner).unwrap().current();
        let happenings = happenings().new_tree(&mut runner).unwrap().current();
        let mut world = World::new(spec, Kind::Push);
        for happening in &happenings {
            let anew = world.anew;
            world.happen(happening);
            let status = world.rollout.status();
            reached.insert(status.phase.as_str());
            if status.step.is_some() && !status.failed.is_empty() {
                reached.insert("a node failed alone");
            }
            if matches!(status.waiting_on, Some(Waiting::Start { more: 1.., .. })) {
                reached.insert("nodes wait for their turn");
            }
            if world.anew > anew {
                reached.insert("a step is placed anew");
            }
            if matches!(status.reason, Some(Reason::TooManyFailed { .. })) {
                reached.insert("too many failed");
            }
        }
    }
    let all = [
        "a node failed alone",
        "a step is placed anew",
        "baking",
        "done",
        "failed",
        "incomplete",
        "nodes wait for their turn",
        "paused",
        "preparing",
        "promoting",
        "rolled_back",
        "rolling_back",
        "starting",
        "superseded",
        "too many failed",
    ];
    let missing: Vec<&str> = all.into_iter().filter(|phase| !reached.contains(phase)).collect();
    assert!(missing.is_empty(), "never reached: {missing:?}");
}
