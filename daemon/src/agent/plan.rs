//! From an assignment and what runs to what is next: pure, one module at a time.
//!
//! An assignment never leaves a gap: what served goes on serving until all that is to have traffic is ready. The one
//! exception is the candidate: it gets traffic only when it is ready, and stable serves alone until then.

use std::collections::{BTreeMap, BTreeSet};

use hot_rollout::{Assignment, ReleaseNumber, Role, Weight};

/// A release's part in the traffic of a module on this node.
pub(crate) type Serving = (ReleaseNumber, Role, Weight);

/// Where the instance of a release is, as far as a plan cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its host starts.
    Starting,
    /// It can be given traffic.
    Ready,
    /// It ended or is ending, and is not to be started again before some time has passed.
    Resting,
    /// It was told to stop and finishes what it has.
    Stopping,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Releases to start.
    pub start: Vec<ReleaseNumber>,
    /// Who is to have traffic from now on. Weights sum up to 10,000 or the list is empty of weight.
    pub serve: Vec<Serving>,
    /// Releases to drain and stop.
    pub stop: Vec<ReleaseNumber>,
    /// The assignment is true: all that has weight is ready and has it.
    pub applied: bool,
}

/// What is next for `wanted`, given the stage of each release that has an instance and what serves now. `expired`
/// standbys are no longer wanted.
pub(crate) fn plan(
    wanted: &Assignment,
    stages: &BTreeMap<ReleaseNumber, Stage>,
    serving: &[Serving],
    standby_expired: bool,
) -> Plan {
    let wanted: Vec<Serving> = wanted
        .weights()
        .into_iter()
        .filter(|(_, role, _)| *role != Role::Standby || !standby_expired)
        .collect();
    let ready = |release: &ReleaseNumber| stages.get(release) == Some(&Stage::Ready);
    let unready_weight = |serving: &[Serving]| {
        serving.iter().filter(|(release, _, weight)| *weight > Weight::ZERO && !ready(release)).count()
    };
    let serve = if unready_weight(&wanted) == 0 {
        wanted.clone()
    } else {
        let without_candidate = all_to_stable(&wanted, ready);
        let stable_ready =
            without_candidate.iter().any(|(release, role, _)| *role == Role::Stable && ready(release));
        if stable_ready {
            without_candidate
        } else {
            what_served(serving, &wanted, ready).unwrap_or(without_candidate)
        }
    };
    let applied = serve == wanted
        && wanted.iter().all(|(release, _, weight)| *weight == Weight::ZERO || ready(release));
    let kept: BTreeSet<ReleaseNumber> = wanted
        .iter()
        .map(|(release, ..)| *release)
        .chain(serve.iter().map(|(release, ..)| *release))
        .collect();
    Plan {
        start: wanted
            .iter()
            .map(|(release, ..)| *release)
            .filter(|release| !stages.contains_key(release))
            .collect(),
        stop: stages
            .iter()
            .filter(|(release, stage)| !kept.contains(release) && **stage != Stage::Stopping)
            .map(|(release, _)| *release)
            .collect(),
        serve,
        applied,
    }
}

/// The same releases with a candidate that is not ready at weight 0 and stable at the whole.
fn all_to_stable(wanted: &[Serving], ready: impl Fn(&ReleaseNumber) -> bool) -> Vec<Serving> {
    let candidate_ready = wanted
        .iter()
        .all(|(release, role, weight)| *role != Role::Candidate || *weight == Weight::ZERO || ready(release));
    wanted
        .iter()
        .map(|(release, role, weight)| match role {
            Role::Stable if !candidate_ready => (*release, *role, Weight::WHOLE),
            Role::Candidate if !candidate_ready => (*release, *role, Weight::ZERO),
            Role::Stable | Role::Candidate | Role::Standby => (*release, *role, *weight),
        })
        .collect()
}

/// What served before, where all of it is still ready, and the wanted releases beside it without traffic. A candidate
/// that is no longer wanted gives its weight to what served as stable: no plan keeps traffic on it.
fn what_served(
    serving: &[Serving],
    wanted: &[Serving],
    ready: impl Fn(&ReleaseNumber) -> bool,
) -> Option<Vec<Serving>> {
    let former = serving
        .iter()
        .find(|(release, role, weight)| *role == Role::Stable && *weight > Weight::ZERO && ready(release))
        .or_else(|| serving.iter().find(|(release, _, weight)| *weight == Weight::WHOLE && ready(release)))?;
    let mut kept = vec![(former.0, Role::Stable, Weight::WHOLE)];
    kept.extend(wanted.iter().filter(|(release, ..)| *release != former.0).map(|(release, role, _)| {
        (*release, if *role == Role::Stable { Role::Standby } else { *role }, Weight::ZERO)
    }));
    Some(kept)
}
