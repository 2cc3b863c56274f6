//! What rollouts went through. A run must have exercised what it claims: each list here is an exhaustive match, so a new
//! variant of the machine does not compile until somebody says whether the simulation reaches it.

use std::collections::BTreeSet;

use hot_rollout::{Cause, HoldEnd, Missing, Outcome, PhaseName, Reason, Rollout, Waiting};

/// What was reached, by kind and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    reached: BTreeSet<(Kind, &'static str)>,
}

/// What a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Where a rollout stood.
    Phase,
    /// Why one went back.
    Reason,
    /// Why an instance ended, or a node took its candidate back, where that became a reason.
    Cause,
    /// What a rollout waited for.
    Waiting,
    /// What a verdict lacked.
    Missing,
    /// What comes of a wait for a verdict.
    HoldEnd,
    /// How one ended.
    Outcome,
}

/// What the simulation does not reach, and why.
pub const OUT_OF_REACH: [(Kind, &str, &str); 1] = [(
    Kind::Reason,
    "foreign",
    "only a snapshot that a newer version wrote has a reason that this one does not know",
)];

/// All that there is: each kind with its names.
pub const ALL: [(Kind, &[&str]); 7] = [
    (
        Kind::Phase,
        &[
            "preparing",
            "starting",
            "baking",
            "paused",
            "promoting",
            "done",
            "rolling_back",
            "rolled_back",
            "failed",
            "superseded",
            "incomplete",
        ],
    ),
    (
        Kind::Reason,
        &[
            "fast",
            "error_rate",
            "slow",
            "unanswered",
            "prepare_failed",
            "too_many_failed",
            "deadline",
            "aborted",
            "superseded",
            "rollback",
            "foreign",
        ],
    ),
    (
        Kind::Cause,
        &[
            "load_failed",
            "start_timeout",
            "crashed",
            "exited",
            "hung",
            "failing_health",
            "over_memory",
            "over_processes",
            "denied",
            "forged",
            "refused",
            "errors",
            "unanswered",
            "expired",
            "by_hand",
            "foreign",
        ],
    ),
    (Kind::Waiting, &["prepare", "start", "apply", "bake", "verdict", "person", "nodes", "back", "follow"]),
    (
        Kind::Missing,
        &["samples", "candidate_traffic", "requests", "stable_requests", "answers", "both_sick", "clarity"],
    ),
    (Kind::HoldEnd, &["goes_on", "goes_back"]),
    (Kind::Outcome, &["done", "incomplete", "rolled_back", "failed", "superseded"]),
];

impl Coverage {
    /// Takes in what another run reached.
    pub fn merge(&mut self, other: &Self) {
        self.reached.extend(&other.reached);
    }

    /// What is neither reached nor known to be out of reach.
    #[must_use]
    pub fn missing(&self) -> Vec<(Kind, &'static str)> {
        let all = ALL.iter().flat_map(|(kind, names)| names.iter().map(|name| (*kind, *name)));
        all.filter(|(kind, name)| {
            let out_of_reach = OUT_OF_REACH.iter().any(|(of, known, _)| (of, known) == (kind, name));
            !out_of_reach && !self.reached.contains(&(*kind, *name))
        })
        .collect()
    }

    /// What is called out of reach, and was reached.
    #[must_use]
    pub fn surprising(&self) -> Vec<(Kind, &'static str)> {
        OUT_OF_REACH
            .iter()
            .map(|(kind, name, _)| (*kind, *name))
            .filter(|reached| self.reached.contains(reached))
            .collect()
    }

    /// Where the rollout stands.
    pub(crate) fn phase(&mut self, machine: &Rollout) {
        self.reached.insert((Kind::Phase, phase(machine.phase_name())));
        if let Some(reason) = machine.phase().reason() {
            self.reason(reason);
        }
    }

    /// Why all, or one node, went back.
    pub(crate) fn reason(&mut self, reason: &Reason) {
        self.reached.insert((Kind::Reason, name_of(reason)));
        match reason {
            Reason::Fast { cause: of, .. } => drop(self.reached.insert((Kind::Cause, cause(of)))),
            Reason::TooManyFailed { last, .. } => self.reason(last),
            Reason::ErrorRate { .. }
            | Reason::Slow { .. }
            | Reason::Unanswered { .. }
            | Reason::PrepareFailed { .. }
            | Reason::Deadline { .. }
            | Reason::Aborted { .. }
            | Reason::Superseded { .. }
            | Reason::Rollback { .. }
            | Reason::Foreign(_) => {}
        }
    }

    /// What it waits for.
    pub(crate) fn waiting(&mut self, on: &Waiting) {
        self.reached.insert((Kind::Waiting, waiting(on)));
        if let Waiting::Verdict { missing: lacks, end } = on {
            self.reached.insert((Kind::Missing, missing(lacks)));
            self.reached.insert((Kind::HoldEnd, hold_end(*end)));
        }
    }

    /// How it ended.
    pub(crate) fn outcome(&mut self, of: &Outcome) {
        self.reached.insert((Kind::Outcome, outcome(of)));
    }
}

fn phase(of: PhaseName) -> &'static str {
    match of {
        PhaseName::Preparing => "preparing",
        PhaseName::Starting => "starting",
        PhaseName::Baking => "baking",
        PhaseName::Paused => "paused",
        PhaseName::Promoting => "promoting",
        PhaseName::Done => "done",
        PhaseName::RollingBack => "rolling_back",
        PhaseName::RolledBack => "rolled_back",
        PhaseName::Failed => "failed",
        PhaseName::Superseded => "superseded",
        PhaseName::Incomplete => "incomplete",
    }
}

fn name_of(of: &Reason) -> &'static str {
    match of {
        Reason::Fast { .. } => "fast",
        Reason::ErrorRate { .. } => "error_rate",
        Reason::Slow { .. } => "slow",
        Reason::Unanswered { .. } => "unanswered",
        Reason::PrepareFailed { .. } => "prepare_failed",
        Reason::TooManyFailed { .. } => "too_many_failed",
        Reason::Deadline { .. } => "deadline",
        Reason::Aborted { .. } => "aborted",
        Reason::Superseded { .. } => "superseded",
        Reason::Rollback { .. } => "rollback",
        Reason::Foreign(_) => "foreign",
    }
}

fn cause(of: &Cause) -> &'static str {
    match of {
        Cause::LoadFailed { .. } => "load_failed",
        Cause::StartTimeout { .. } => "start_timeout",
        Cause::Crashed { .. } => "crashed",
        Cause::Exited { .. } => "exited",
        Cause::Hung { .. } => "hung",
        Cause::FailingHealth { .. } => "failing_health",
        Cause::OverMemory { .. } => "over_memory",
        Cause::OverProcesses { .. } => "over_processes",
        Cause::Denied { .. } => "denied",
        Cause::Forged { .. } => "forged",
        Cause::Refused { .. } => "refused",
        Cause::Errors { .. } => "errors",
        Cause::Unanswered { .. } => "unanswered",
        Cause::Expired { .. } => "expired",
        Cause::ByHand { .. } => "by_hand",
        Cause::Foreign(_) => "foreign",
    }
}

fn waiting(of: &Waiting) -> &'static str {
    match of {
        Waiting::Prepare { .. } => "prepare",
        Waiting::Start { .. } => "start",
        Waiting::Apply { .. } => "apply",
        Waiting::Bake { .. } => "bake",
        Waiting::Verdict { .. } => "verdict",
        Waiting::Person { .. } => "person",
        Waiting::Nodes { .. } => "nodes",
        Waiting::Back { .. } => "back",
        Waiting::Follow { .. } => "follow",
    }
}

fn missing(of: &Missing) -> &'static str {
    match of {
        Missing::Samples { .. } => "samples",
        Missing::CandidateTraffic { .. } => "candidate_traffic",
        Missing::Requests { .. } => "requests",
        Missing::StableRequests { .. } => "stable_requests",
        Missing::Answers { .. } => "answers",
        Missing::BothSick { .. } => "both_sick",
        Missing::Clarity { .. } => "clarity",
    }
}

fn hold_end(of: HoldEnd) -> &'static str {
    match of {
        HoldEnd::GoesOn { .. } => "goes_on",
        HoldEnd::GoesBack { .. } => "goes_back",
    }
}

fn outcome(of: &Outcome) -> &'static str {
    match of {
        Outcome::Done => "done",
        Outcome::Incomplete { .. } => "incomplete",
        Outcome::RolledBack { .. } => "rolled_back",
        Outcome::Failed { .. } => "failed",
        Outcome::Superseded { .. } => "superseded",
    }
}
