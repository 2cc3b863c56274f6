//! From this daemon's words to the contract's. Decides nothing.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use hot_artifact::ModuleName;
use hot_proto::v1;
use hot_rollout::{Figures, Kind, Module, Outcome, PhaseName, Reason, ReleaseNumber, Status, Time, Waiting};
use prost_types::Timestamp;

use crate::agent::{Agent, Run, RunState, Slot, call_name};
use crate::driver::View;
use crate::ledger::Ledger;
use crate::store::Release;
use crate::supervisor::Denials;

pub(super) fn timestamp(millis: u64) -> Timestamp {
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    at.into()
}

pub(super) fn time(time: Time) -> Option<Timestamp> {
    Some(timestamp(time.0))
}

pub(super) fn duration(span: hot_rollout::Millis) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(Duration::from(span)).ok()
}

pub(super) fn phase(phase: PhaseName) -> v1::Phase {
    match phase {
        PhaseName::Preparing => v1::Phase::Preparing,
        PhaseName::Starting => v1::Phase::Starting,
        PhaseName::Baking => v1::Phase::Baking,
        PhaseName::Paused => v1::Phase::Paused,
        PhaseName::Promoting => v1::Phase::Promoting,
        PhaseName::Done => v1::Phase::Done,
        PhaseName::RollingBack => v1::Phase::RollingBack,
        PhaseName::RolledBack => v1::Phase::RolledBack,
        PhaseName::Failed => v1::Phase::Failed,
        PhaseName::Superseded => v1::Phase::Superseded,
        PhaseName::Incomplete => v1::Phase::Incomplete,
    }
}

pub(super) fn outcome(of: Option<&Outcome>) -> v1::Outcome {
    match of {
        None => v1::Outcome::Unspecified,
        Some(Outcome::Done) => v1::Outcome::Done,
        Some(Outcome::Failed { .. }) => v1::Outcome::Failed,
        Some(Outcome::RolledBack { reason: Reason::Aborted { .. }, .. }) => v1::Outcome::Aborted,
        Some(Outcome::RolledBack { reason, .. }) if reason.by_person() => v1::Outcome::Aborted,
        Some(Outcome::RolledBack { .. }) => v1::Outcome::RolledBack,
        Some(Outcome::Superseded { .. }) => v1::Outcome::Superseded,
        Some(Outcome::Incomplete { .. }) => v1::Outcome::Incomplete,
    }
}

/// A release as others name it. Without its record, as when it was collected, only its number is known.
pub(super) fn release(ledger: &Ledger, module: &Module, number: ReleaseNumber) -> v1::ReleaseRef {
    let name: Option<ModuleName> = module.as_str().parse().ok();
    let found = name.and_then(|name| ledger.store().release(&name, number.0).ok().flatten());
    found.map_or_else(
        || v1::ReleaseRef { release: number.0, ..v1::ReleaseRef::default() },
        |release| release_ref(&release),
    )
}

pub(super) fn release_ref(release: &Release) -> v1::ReleaseRef {
    v1::ReleaseRef {
        release: release.number,
        version: release.version.to_string(),
        digest: release.digest.to_string(),
        on: release.on.clone().into_iter().collect(),
    }
}

fn figures(of: &Figures) -> v1::Figures {
    let milliseconds = |percent| of.latency.percentile(percent).map_or(0.0, in_milliseconds);
    v1::Figures {
        requests: of.requests,
        errors: of.errors,
        p50_ms: milliseconds(50),
        p99_ms: milliseconds(99),
    }
}

/// Microseconds as the contract has times.
pub(super) fn in_milliseconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64() * 1000.0
}

/// A rollout at one moment.
pub(super) fn rollout(ledger: &Ledger, view: &View) -> v1::Rollout {
    let Status { phase: at, step, reason, waiting_on, started, deadline, modules, .. } = &view.status;
    let share = modules.iter().map(|module| u32::from(module.share.basis_points())).max().unwrap_or(0);
    let bake_left = match waiting_on {
        Some(Waiting::Bake { left, .. }) => duration(*left),
        _ => None,
    };
    v1::Rollout {
        id: view.status.id.to_string(),
        modules: view
            .spec
            .moves
            .iter()
            .map(|(module, releases)| {
                let status = modules.iter().find(|status| status.module == *module);
                v1::RolloutModule {
                    module: module.to_string(),
                    stable: releases.stable.map(|stable| release(ledger, module, stable)),
                    candidate: Some(release(ledger, module, releases.candidate)),
                    stable_figures: status.map(|status| figures(&status.stable_figures)),
                    candidate_figures: status.map(|status| figures(&status.candidate_figures)),
                    unserved: String::new(),
                }
            })
            .collect(),
        phase: phase(*at).into(),
        paused_in: view.paused_in.map_or(v1::Phase::Unspecified, phase).into(),
        step: u32::try_from(step_from_zero(*at, *step, view.steps.len())).unwrap_or(u32::MAX),
        steps: view
            .steps
            .iter()
            .map(|step| v1::Step { share: u32::from(step.share.basis_points()), bake: duration(step.bake) })
            .collect(),
        share,
        reason: reason.as_ref().map(ToString::to_string).unwrap_or_default(),
        waiting_on: waiting_on.as_ref().map(ToString::to_string).unwrap_or_default(),
        outcome: outcome(view.meta.outcome.as_ref()).into(),
        bake_left,
        started: time(*started),
        updated: time(view.meta.updated),
        ended: view.meta.ended.and_then(time),
        deadline: time(*deadline),
        principal: view.status.by.clone(),
        message: view.meta.message.clone(),
        nodes: view.spec.nodes.iter().map(ToString::to_string).collect(),
        rollback: view.status.kind == Kind::Rollback,
        failed: failed(&view.status),
        carriers: carriers(&view.status),
    }
}

/// The nodes that were given a candidate in this step.
fn carriers(status: &Status) -> Vec<String> {
    let nodes = status.modules.iter().filter(|module| module.candidate.is_some()).flat_map(|of| &of.nodes);
    let names: BTreeSet<String> =
        nodes.filter(|node| node.weight.is_some()).map(|node| node.node.to_string()).collect();
    names.into_iter().collect()
}

/// The nodes that failed in a rollout.
pub(super) fn failed(status: &Status) -> Vec<v1::FailedNode> {
    let failed = status.failed.iter();
    failed
        .map(|(node, reason)| v1::FailedNode {
            node: node.to_string(),
            code: reason.code().to_owned(),
            reason: reason.to_string(),
        })
        .collect()
}

/// The machine counts steps from 1, and has none when all are behind it.
fn step_from_zero(at: PhaseName, step: Option<usize>, steps: usize) -> usize {
    match (at, step) {
        (_, Some(step)) => step.saturating_sub(1),
        (PhaseName::Promoting | PhaseName::Done | PhaseName::Incomplete, None) => steps.saturating_sub(1),
        (_, None) => 0,
    }
}

/// One instance with what the gateway counted for it.
pub(super) fn instance(agent: &Agent, module: &Module, slot: &Slot, run: &Run) -> v1::Instance {
    let counters = agent.counters(run.id);
    let milliseconds = |quantile: f64| match counters.finished {
        0 => 0.0,
        _ => in_milliseconds(counters.latency.value_at_quantile(quantile)),
    };
    let role = match slot.role(run.release) {
        None => v1::Role::Unspecified,
        Some(_) if run.state == RunState::Ended => v1::Role::Unspecified,
        Some(hot_rollout::Role::Stable) => v1::Role::Stable,
        Some(hot_rollout::Role::Candidate) => v1::Role::Candidate,
        Some(hot_rollout::Role::Standby) => v1::Role::Standby,
    };
    let serves = run.state == RunState::Ready && slot.run_of(run.release).is_some_and(|of| of.id == run.id);
    v1::Instance {
        id: run.id.0,
        release: run.release.0,
        version: run.version.to_string(),
        digest: run.digest.to_string(),
        role: role.into(),
        weight: if serves { u32::from(slot.weight(run.release).basis_points()) } else { 0 },
        state: match run.state {
            RunState::Starting => v1::InstanceState::Starting,
            RunState::Ready => v1::InstanceState::Ready,
            RunState::Stopping => v1::InstanceState::Stopping,
            RunState::Ended => v1::InstanceState::Ended,
        }
        .into(),
        reason: run.reason.clone(),
        requests: counters.ended(),
        errors: counters.failed(),
        in_flight: counters.in_flight,
        p50_ms: milliseconds(0.5),
        p99_ms: milliseconds(0.99),
        started: Some(run.started.into()),
        pid: run.instance.as_ref().map_or(0, crate::supervisor::Instance::pid),
        start_ms: run.start_took.map(|took| took.as_secs_f64() * 1e3),
        streams: counters.streams,
        streams_failed: counters.streams_failed,
        denied: denied(&run.denied.sums),
        last_lines: if run.reason.is_empty() { Vec::new() } else { last_lines(run) },
        missing: agent.missing(module, run).names().map(str::to_owned).collect(),
        user: run.user(),
    }
}

/// The refused calls that were made most often.
fn denied(sums: &Denials) -> Vec<v1::DeniedCall> {
    /// As many as a person reads.
    const MOST: usize = 16;
    let mut calls: Vec<(u32, u64)> = sums.calls().collect();
    calls.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    calls.truncate(MOST);
    let one = |(call, times)| v1::DeniedCall { call: call_name(call), times };
    calls.into_iter().map(one).collect()
}

/// The last lines that it printed, and that say something.
fn last_lines(run: &Run) -> Vec<String> {
    const MOST: usize = 5;
    let running = run.instance.as_ref().map(crate::supervisor::Instance::output_tail);
    let lines = running.as_ref().unwrap_or(&run.lines);
    let says = lines.iter().map(|line| line.text.trim_end()).filter(|text| !text.is_empty());
    let mut last: Vec<String> = says.rev().take(MOST).map(cut).collect();
    last.reverse();
    last
}

/// A line of bounded length.
fn cut(line: &str) -> String {
    const LONGEST: usize = 400;
    if line.len() <= LONGEST {
        return line.to_owned();
    }
    format!("{} ...", &line[..line.floor_char_boundary(LONGEST)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_count_from_zero_and_end_at_the_last() {
        assert_eq!(step_from_zero(PhaseName::Preparing, None, 3), 0);
        assert_eq!(step_from_zero(PhaseName::Baking, Some(1), 3), 0);
        assert_eq!(step_from_zero(PhaseName::Paused, Some(3), 3), 2);
        assert_eq!(step_from_zero(PhaseName::Done, None, 3), 2);
        assert_eq!(step_from_zero(PhaseName::RolledBack, None, 3), 0);
    }

    #[test]
    fn a_failed_first_release_is_not_called_rolled_back() {
        assert_eq!(phase(PhaseName::Failed), v1::Phase::Failed);
        assert_eq!(phase(PhaseName::RolledBack), v1::Phase::RolledBack);
    }
}
