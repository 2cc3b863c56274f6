//! Shapes of rollouts.

use hot_proto::v1;
use serde::Serialize;

use super::{ReleaseJson, rounded, time};
use crate::words;

/// A rollout at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct RolloutJson {
    id: String,
    modules: Vec<RolloutModuleJson>,
    phase: &'static str,
    /// The phase it was paused in, else null.
    paused_in: Option<&'static str>,
    /// Counted from 0.
    step: u32,
    steps: Vec<StepJson>,
    /// Basis points.
    share: u32,
    reason: String,
    waiting_on: String,
    /// Null while it runs.
    outcome: Option<&'static str>,
    /// Seconds, null outside of a bake.
    bake_left_s: Option<f64>,
    started: Option<String>,
    updated: Option<String>,
    ended: Option<String>,
    deadline: Option<String>,
    principal: String,
    message: String,
    nodes: Vec<String>,
    failed: Vec<FailedNodeJson>,
    /// Nodes that were given the candidates in this step.
    carriers: Vec<String>,
    rollback: bool,
}

#[derive(Debug, Serialize)]
struct RolloutModuleJson {
    name: String,
    stable: Option<ReleaseJson>,
    candidate: Option<ReleaseJson>,
    stable_figures: Option<FiguresJson>,
    candidate_figures: Option<FiguresJson>,
    /// Why stable has no instance that serves; empty: it serves, or there is none.
    unserved: String,
}

#[derive(Debug, Serialize)]
struct StepJson {
    /// Basis points.
    share: u32,
    /// Seconds.
    bake_s: Option<f64>,
}

/// A node that failed in a rollout.
#[derive(Debug, Serialize)]
pub(super) struct FailedNodeJson {
    node: String,
    code: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct FiguresJson {
    requests: u64,
    errors: u64,
    p50_ms: f64,
    p99_ms: f64,
}

impl From<v1::Figures> for FiguresJson {
    fn from(figures: v1::Figures) -> Self {
        Self {
            requests: figures.requests,
            errors: figures.errors,
            p50_ms: rounded(figures.p50_ms),
            p99_ms: rounded(figures.p99_ms),
        }
    }
}

impl From<v1::FailedNode> for FailedNodeJson {
    fn from(failed: v1::FailedNode) -> Self {
        Self { node: failed.node, code: failed.code, reason: failed.reason }
    }
}

impl From<v1::RolloutModule> for RolloutModuleJson {
    fn from(module: v1::RolloutModule) -> Self {
        Self {
            name: module.module,
            stable: module.stable.map(ReleaseJson::from),
            candidate: module.candidate.map(ReleaseJson::from),
            stable_figures: module.stable_figures.map(FiguresJson::from),
            candidate_figures: module.candidate_figures.map(FiguresJson::from),
            unserved: module.unserved,
        }
    }
}

impl From<v1::Rollout> for RolloutJson {
    fn from(rollout: v1::Rollout) -> Self {
        let paused = rollout.phase() == v1::Phase::Paused;
        Self {
            phase: words::phase(rollout.phase),
            paused_in: paused.then(|| words::phase(rollout.paused_in)),
            outcome: words::outcome(rollout.outcome),
            id: rollout.id,
            modules: rollout.modules.into_iter().map(RolloutModuleJson::from).collect(),
            step: rollout.step,
            steps: rollout
                .steps
                .into_iter()
                .map(|step| StepJson { share: step.share, bake_s: step.bake.map(words::seconds) })
                .collect(),
            share: rollout.share,
            reason: rollout.reason,
            waiting_on: rollout.waiting_on,
            bake_left_s: rollout.bake_left.map(words::seconds),
            started: time(rollout.started),
            updated: time(rollout.updated),
            ended: time(rollout.ended),
            deadline: time(rollout.deadline),
            principal: rollout.principal,
            message: rollout.message,
            nodes: rollout.nodes,
            failed: rollout.failed.into_iter().map(FailedNodeJson::from).collect(),
            carriers: rollout.carriers,
            rollback: rollout.rollback,
        }
    }
}

/// What `rollback` and `abort` print.
#[derive(Debug, Serialize)]
pub(crate) struct RollbackJson {
    module: String,
    /// It aborted a running rollout.
    aborted: bool,
    from: Option<ReleaseJson>,
    to: Option<ReleaseJson>,
    /// When the node received the command.
    received: Option<String>,
    /// Microseconds from received to the new weights.
    flip_us: Option<u64>,
    /// Microseconds from received to the last pick of the release that was left; null when none was picked after.
    last_pick_us: Option<u64>,
    rollout: Option<RolloutJson>,
    /// Its fleet could not be told, and the node went back alone; else null.
    alone: Option<LocalRollbackJson>,
}

/// A person went back on one node while its fleet could not be told.
#[derive(Debug, Serialize)]
pub(crate) struct LocalRollbackJson {
    node: String,
    from: Option<ReleaseJson>,
    /// `from` was only being tried.
    tried: bool,
    to: Option<ReleaseJson>,
    principal: String,
    at: Option<String>,
    message: String,
    /// Why the fleet could not be told; empty but in the answer to `rollback` and `abort`.
    why: String,
    /// Why what it went to does not serve; empty: it does, or that is not said here.
    unserved: String,
}

impl From<v1::LocalRollback> for LocalRollbackJson {
    fn from(of: v1::LocalRollback) -> Self {
        Self {
            node: of.node,
            from: of.from.map(ReleaseJson::from),
            tried: of.tried,
            to: of.to.map(ReleaseJson::from),
            principal: of.principal,
            at: time(of.at),
            message: of.message,
            why: of.why,
            unserved: of.unserved,
        }
    }
}

/// What `rollback --lift` prints.
#[derive(Debug, Serialize)]
pub(crate) struct LiftJson {
    module: String,
    lifted: Vec<LocalRollbackJson>,
    /// Nodes that were rolled back alone and do not answer.
    silent: Vec<String>,
}

impl LiftJson {
    pub(crate) fn new(module: &str, answer: v1::LiftResponse) -> Self {
        let lifted = answer.lifted.into_iter().map(LocalRollbackJson::from).collect();
        Self { module: module.to_owned(), lifted, silent: answer.silent }
    }
}

impl RollbackJson {
    /// What a node answered to `rollback MODULE`.
    pub(crate) fn of_rollback(module: &str, answer: v1::RollbackResponse) -> Self {
        Self {
            aborted: answer.aborted,
            from: answer.from.map(ReleaseJson::from),
            to: answer.to.map(ReleaseJson::from),
            ..Self::of(module, answer.rollout, answer.timing, answer.alone)
        }
    }

    /// What a node answered to `abort MODULE`.
    pub(crate) fn of_abort(module: &str, answer: v1::AbortResponse) -> Self {
        let moved = answer
            .rollout
            .as_ref()
            .and_then(|rollout| rollout.modules.iter().find(|moved| moved.module == module).cloned())
            .unwrap_or_default();
        let (from, to) = match &answer.alone {
            Some(alone) => (alone.from.clone(), alone.to.clone()),
            None => (moved.candidate, moved.stable),
        };
        Self {
            aborted: true,
            from: from.map(ReleaseJson::from),
            to: to.map(ReleaseJson::from),
            ..Self::of(module, answer.rollout, answer.timing, answer.alone)
        }
    }

    fn of(
        module: &str,
        rollout: Option<v1::Rollout>,
        timing: Option<v1::RollbackTiming>,
        alone: Option<v1::LocalRollback>,
    ) -> Self {
        Self {
            module: module.to_owned(),
            aborted: false,
            from: None,
            to: None,
            received: timing.and_then(|timing| time(timing.received)),
            flip_us: timing.map(|timing| timing.flip_us),
            last_pick_us: timing.and_then(|timing| timing.last_pick_us),
            rollout: rollout.map(RolloutJson::from),
            alone: alone.map(LocalRollbackJson::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::examples;

    #[test]
    fn a_rollout_holds_still() {
        let json = serde_json::to_string_pretty(&RolloutJson::from(examples::baking())).expect("serialises");
        assert_eq!(json, include_str!("../../tests/shapes/rollout.json").trim_end());
    }

    #[test]
    fn a_rollback_holds_still() {
        let answer = v1::RollbackResponse {
            rollout: None,
            aborted: false,
            from: Some(v1::ReleaseRef {
                release: 2,
                version: "1.1.0".to_owned(),
                digest: "bb".repeat(32),
                ..v1::ReleaseRef::default()
            }),
            to: Some(v1::ReleaseRef {
                release: 1,
                version: "1.0.0".to_owned(),
                digest: "aa".repeat(32),
                ..v1::ReleaseRef::default()
            }),
            timing: Some(v1::RollbackTiming {
                received: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
                flip_us: 80,
                last_pick_us: Some(75),
            }),
            alone: None,
        };
        let json =
            serde_json::to_string_pretty(&RollbackJson::of_rollback("greeter", answer)).expect("serialises");
        assert_eq!(json, include_str!("../../tests/shapes/rollback.json").trim_end());
    }

    #[test]
    fn nodes_that_failed_are_named() {
        let mut rollout = examples::baking();
        rollout.failed = vec![examples::failed("n3")];
        let json = serde_json::to_value(RolloutJson::from(rollout)).expect("serialises");
        let reason = "greeter release 2 on n3: crashed with SIGSEGV, 0 crashes are allowed";
        assert_eq!(
            json["failed"],
            serde_json::json!([{ "node": "n3", "code": "crashed", "reason": reason }])
        );
    }

    #[test]
    fn an_outcome_is_null_while_it_runs() {
        let running = serde_json::to_value(RolloutJson::from(examples::baking())).expect("serialises");
        assert!(running["outcome"].is_null() && running["paused_in"].is_null());
        let mut ended = examples::baking();
        ended.set_phase(v1::Phase::RolledBack);
        ended.set_outcome(v1::Outcome::Aborted);
        let ended = serde_json::to_value(RolloutJson::from(ended)).expect("serialises");
        assert_eq!(
            (ended["phase"].as_str(), ended["outcome"].as_str()),
            (Some("rolled_back"), Some("aborted"))
        );
    }
}
