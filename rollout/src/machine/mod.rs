//! The state machine of one rollout.
//!
//! Owns where a rollout stands and decides what happens next; does nothing itself. [`Rollout::handle`] works in two
//! halves: `record` writes down what an event says, and `settle` moves on from what is known by now. Since the second
//! half looks at facts and never at the event, late, repeated and reordered events do no harm.
//!
//! | room | what it is for |
//! |---|---|
//! | `event`, `action`, `phase`, `waiting`, `status` | the words spoken with the outside |
//! | `facts`, `queries` | what is known of each node |
//! | `record` | an event changes what is known |
//! | `settle`, `ending` | from what is known to the next phase, and to the end |
//! | `judgement` | what the figures of a step say |
//! | `waves` | the assignments that a decision gives out |
//! | `starts` | how many nodes start at once |
//! | `failures` | nodes that fail alone, and when all go back |
//! | `alarms`, `why` | what is due, and what is waited for |

mod action;
mod alarms;
mod ending;
mod event;
mod facts;
mod failures;
mod judgement;
mod phase;
mod queries;
mod record;
mod settle;
mod starts;
mod status;
mod waiting;
mod waves;
mod why;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use action::{Action, Direction, Note, NoteKind, Outcome};
pub use event::{Command, Event, InstanceState, Left, Sample};
pub use phase::{Phase, PhaseName};
pub use status::{ModuleStatus, NodeStatus, Status};
pub use waiting::{HoldEnd, Waiting};

use crate::figures::Figures;
use crate::ident::{Labels, Module, Node, ReleaseNumber, Revision, RolloutId};
use crate::placement;
use crate::policy::{Policy, Step};
use crate::reason::Reason;
use crate::units::{Millis, Share, Time, Weight};
use crate::verdict::Missing;
use facts::NodeFacts;
use judgement::Slow;

/// What a rollout is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Its name, for ever.
    pub id: RolloutId,
    /// Who asked for it.
    pub by: String,
    /// The modules that move together: all go on or all go back.
    pub moves: BTreeMap<Module, Move>,
    /// Every node that the candidates are for. All count as up until [`Event::NodeDown`] says otherwise.
    pub nodes: BTreeSet<Node>,
    /// What they are labelled with. The rollout keeps of it what [`crate::PolicySpec::spread_over`] asks for, each node's
    /// failure domain, and nothing of it is in [`Rollout::spec`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Node, Labels>,
    /// The labels that a node must have to take part: all of them. Empty: every node does.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub on: Labels,
    /// By which rules.
    pub policy: Policy,
    /// The highest revision in any assignment of these modules so far; the rollout numbers its own from there on.
    pub revision: Revision,
}

/// From which release to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// What the fleet serves now; `None` if this is the module's first release.
    pub stable: Option<ReleaseNumber>,
    /// What is tried; for a rollback, the preceding stable.
    pub candidate: ReleaseNumber,
}

/// What kind of rollout it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// From stable to a candidate, step by step.
    Push,
    /// From stable to the preceding stable, at once, because a person wants it.
    Rollback,
}

/// One rollout. Everything in it is plain data; a snapshot of it is the whole truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    spec: Spec,
    kind: Kind,
    /// The steps that this rollout takes: the policy's, or a single one where no module has a stable release.
    plan: Vec<Step>,
    phase: Phase,
    /// Who paused it.
    paused: Option<String>,
    /// Steps below this one do not wait for their bake, because a person promoted.
    hurried: usize,
    started: Time,
    /// The latest time that it was told; time never runs backwards here.
    now: Time,
    /// When the assignments were last renewed.
    renewed: Time,
    /// The highest revision given out.
    revision: Revision,
    nodes: BTreeMap<Node, NodeFacts>,
    /// Who carries this step's share, and how much.
    weights: BTreeMap<Node, Weight>,
    /// The nodes that were ready when the step was computed; a module without stable runs on all of them.
    targets: BTreeSet<Node>,
    /// Stable's figures of the last step in which it served beside the candidate.
    baselines: BTreeMap<Module, Figures>,
    /// Candidates that the last sample called slow.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    slow: BTreeMap<Module, Slow>,
    /// Nodes that failed and why, those among them that left the fleet since: what fails does not fail less by that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    failed: BTreeMap<Node, Reason>,
    /// The candidates have been named stable.
    promoted: bool,
    /// What the last note about holding said, so that it is said once.
    held: Option<Missing>,
}

/// A node's own report of a failed start carries the cause; the rollout gives it this long beyond the start deadline
/// before it says "not ready in time" itself.
const REPORT_GRACE: Millis = Millis::seconds(5);
/// How far [`Rollout::resume`] jumps ahead of the revisions in its snapshot. What is done toward stable before it is
/// persisted can be lost with the process; one call of `handle` gives out five revisions at the most.
const LEAP: u64 = 16;

impl Rollout {
    /// Begins a push.
    #[must_use]
    pub fn start(spec: Spec, now: Time) -> (Self, Vec<Action>) {
        let mut rollout = Self::new(spec, Kind::Push, Phase::Preparing, now);
        let mut out = Vec::new();
        rollout.note(&mut out, NoteKind::Started, rollout.opening());
        for node in rollout.nodes.keys() {
            rollout.prepare(node, &mut out);
        }
        rollout.settle(&mut out);
        (rollout, ordered(out))
    }

    /// Begins a rollback: from each module's stable release to the preceding one, which `spec` has in the candidate's
    /// place, on all nodes at once. For a module with a rollout under way, abort that one instead.
    #[must_use]
    pub fn rollback(spec: Spec, now: Time) -> (Self, Vec<Action>) {
        let reason = Reason::Rollback { by: spec.by.clone() };
        let phase = Phase::RollingBack { reason, since: now };
        let mut rollout = Self::new(spec, Kind::Rollback, phase, now);
        let mut out = Vec::new();
        rollout.note(&mut out, NoteKind::Started, rollout.opening());
        rollout.move_all(Direction::TowardStable, &mut out);
        rollout.settle(&mut out);
        (rollout, ordered(out))
    }

    fn new(mut spec: Spec, kind: Kind, phase: Phase, now: Time) -> Self {
        let labels = std::mem::take(&mut spec.labels);
        let domains = placement::domains(&spec.nodes, &labels, spec.policy.spec().spread_over.as_deref());
        let fresh = NodeFacts::new(&spec.moves);
        let known = |(node, domain)| (node, NodeFacts { domain, ..fresh.clone() });
        let first_releases = spec.moves.values().all(|releases| releases.stable.is_none());
        let plan = if first_releases {
            vec![Step { share: Share::WHOLE, bake: Millis(0) }]
        } else {
            spec.policy.spec().steps.clone()
        };
        Self {
            kind,
            plan,
            phase,
            paused: None,
            hurried: 0,
            started: now,
            now,
            renewed: now,
            revision: spec.revision,
            nodes: domains.into_iter().map(known).collect(),
            weights: BTreeMap::new(),
            targets: BTreeSet::new(),
            baselines: BTreeMap::new(),
            slow: BTreeMap::new(),
            failed: BTreeMap::new(),
            promoted: false,
            held: None,
            spec,
        }
    }

    /// Takes in one event at `now` and says what to do; see [`Action`] for the order in which.
    ///
    /// Afterwards ask [`Self::next_timeout`] again. An event that changes nothing gives no actions.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: Time) -> Vec<Action> {
        self.now = self.now.max(now);
        let mut out = Vec::new();
        if !self.phase.is_final() {
            self.record(event, &mut out);
            self.settle(&mut out);
        } else if let Event::Command(command) = event {
            self.ignore(command, &mut out);
        }
        ordered(out)
    }

    /// To be called once after a snapshot was read back: says again all that may not have been done, with revisions
    /// above any that were given out and not persisted.
    ///
    /// The time in which nobody watched does not count: a bake takes that much longer, and what was being waited for
    /// has its whole time again. Only the rollout's own deadline goes on. Which instances are ready is forgotten: feed
    /// afterwards what the nodes say of them now.
    #[must_use]
    pub fn resume(&mut self, now: Time) -> Vec<Action> {
        let unwatched = now.since(self.now);
        self.now = self.now.max(now);
        // How it ended, or stands, may have been lost with the process, and somebody waits for it. It is said after what it
        // rests on, which may not have been done either.
        let ended = self.outcome().map(Action::Finished);
        let mut out = Vec::new();
        if self.phase.is_final() {
            // What is stable after one that was superseded may be the other one's word by now.
            if !matches!(self.phase, Phase::Superseded { .. }) {
                self.record_again(&mut out);
            }
            out.extend(ended);
            return ordered(out);
        }
        self.revision = self.revision.after(LEAP);
        self.forgive(unwatched);
        self.repeat(&mut out);
        out.extend(ended);
        self.settle(&mut out);
        ordered(out)
    }

    /// To be called instead of [`Self::resume`] where another rollout has begun with a module of this one since the
    /// snapshot was written, as while no daemon could read it: ends it, and tells no node anything. What nodes have by
    /// now is that one's, and a candidate of this one that still runs somewhere ends by its expiry.
    #[must_use]
    pub fn overtaken(&mut self, by: RolloutId, now: Time) -> Vec<Action> {
        self.now = self.now.max(now);
        let mut out = Vec::new();
        if let Some(outcome) = self.outcome().filter(|_| self.phase.is_final()) {
            return vec![Action::Finished(outcome)];
        }
        self.paused = None;
        self.phase = Phase::Superseded { reason: Reason::Superseded { by: by.clone() } };
        let text = format!(
            "superseded by rollout {by}, which began while nobody went on with this one: no node is told anything"
        );
        self.note(&mut out, NoteKind::Finished, text);
        out.extend(self.outcome().map(Action::Finished));
        out
    }

    /// When [`Event::Timeout`] must be fed at the latest. `None`: only an event moves it on.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.alarms().into_iter().filter(|alarm| *alarm > self.now).min()
    }

    /// What was asked for.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The steps that it takes: the policy's, or a single one where no module has a stable release.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.plan
    }

    /// Push or rollback.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The latest time that it was told.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// Where it stands. A pause is not in it: see [`Self::paused`].
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Who paused it.
    #[must_use]
    pub fn paused(&self) -> Option<&str> {
        self.paused.as_deref()
    }

    /// The highest revision that it has given out: what the next rollout's [`Spec::revision`] must not be below.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The moment at which it goes back if it is not promoted by then.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.started.plus(self.spec.policy.spec().deadline)
    }

    fn note(&self, out: &mut Vec<Action>, kind: NoteKind, text: String) {
        out.push(Action::Note(Note { kind, text }));
    }

    fn ignore(&self, command: Command, out: &mut Vec<Action>) {
        let name = self.phase_name();
        self.note(out, NoteKind::Ignored(command), format!("the rollout is {name} already; nothing changes"));
    }

    fn opening(&self) -> String {
        let moves: Vec<String> = self
            .spec
            .moves
            .iter()
            .map(|(module, releases)| match releases.stable {
                Some(stable) => format!("{module} from release {stable} to {}", releases.candidate),
                None => format!("{module} release {}, its first", releases.candidate),
            })
            .collect();
        let moves = moves.join(", ");
        match self.kind {
            Kind::Push => {
                let shares: Vec<String> = self.plan.iter().map(|step| step.share.to_string()).collect();
                format!("{} pushes {moves}: {}", self.spec.by, shares.join(", "))
            }
            Kind::Rollback => format!("{} rolls back {moves}", self.spec.by),
        }
    }
}

/// Actions toward stable first; beyond that the order in which they were decided.
fn ordered(mut actions: Vec<Action>) -> Vec<Action> {
    actions.sort_by_key(|action| !action.toward_stable());
    actions
}
