//! The policy of a rollout: which steps, how long each is watched, and how much worse than stable a candidate may be.
//!
//! A [`PolicySpec`] is what people write; a [`Policy`] is one that was checked, and nothing checks it again.

mod mistake;

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::units::{Millis, Ratio, Share};

pub use self::mistake::{PolicyError, PolicyMistake};

/// A share with its bake time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The part of the fleet's traffic that the candidates get.
    pub share: Share,
    /// How long the step is watched, from the moment all its nodes serve at their weights.
    pub bake: Millis,
}

/// A policy as it is written. Turn it into a [`Policy`] with [`Policy::new`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicySpec {
    /// Shares must rise and the last must be 100%.
    pub steps: Vec<Step>,
    /// By how much the candidate's error rate may exceed stable's, as a part of all requests.
    pub error_rate: Share,
    /// How many times stable's p99 the candidate's may be.
    pub p99_ratio: Ratio,
    /// By how much the candidate's p99 must exceed stable's to count at all: below it a high ratio is noise.
    pub p99_floor: Millis,
    /// The least number of requests on the candidate for a judgement.
    pub min_requests: u64,
    /// How long a step that is over but has too few requests, or unclear figures, is held for more before it goes on
    /// with what there is. No request at all on the candidate while stable has some is held until the deadline.
    pub patience: Millis,
    /// From the command to start an instance to its being ready.
    pub start_deadline: Millis,
    /// Between two health checks of an instance.
    pub health_interval: Millis,
    /// Failed health checks in a row that end a step.
    pub health_threshold: u32,
    /// How long the former stable stays running with weight 0 after a promotion.
    pub standby: Millis,
    /// From start to promotion; what is not promoted by then goes back.
    pub deadline: Millis,
    /// How long a node goes on with a candidate without word from the driver. Renewed at a third of it.
    pub expiry: Millis,
    /// The share of errors at which a node takes a candidate back by itself, without comparing.
    pub error_cap: Share,
    /// Put the share on every node instead of on few.
    pub spread: bool,
    /// The label of nodes whose values are failure domains, e.g. `zone`: a step's nodes are as evenly over them as can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread_over: Option<String>,
    /// At most so many nodes start the candidate at once within a step; `None`: all that carry it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<NonZeroU32>,
    /// Nodes that may fail in one rollout, each going back alone, before all go back.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_failing: u32,
}

impl Default for PolicySpec {
    /// 10%, 50%, 100% with 30 s each: a push takes a minute and a half, and 30 s at 10% of 10 requests/s are 30
    /// requests, enough for a candidate that is plainly broken.
    fn default() -> Self {
        let step = |percent| Step { share: Share::percent(percent), bake: Millis::seconds(30) };
        Self {
            steps: vec![step(10), step(50), step(100)],
            error_rate: Share::percent(1),
            // Two equal runs on a small shared machine differ by up to 2 times in p99.
            p99_ratio: Ratio(20_000),
            p99_floor: Millis(50),
            min_requests: 20,
            patience: Millis::minutes(5),
            start_deadline: Millis::seconds(30),
            health_interval: Millis::seconds(1),
            health_threshold: 3,
            standby: Millis::minutes(30),
            deadline: Millis::minutes(60),
            expiry: Millis::seconds(60),
            error_cap: Share::percent(50),
            spread: false,
            spread_over: None,
            max_parallel: None,
            max_failing: 0,
        }
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// More steps than this are a mistake, not a plan.
pub const MAX_STEPS: usize = 100;
/// Below this, two lost renewals would take a good candidate back.
pub const MIN_EXPIRY: Millis = Millis(3000);
/// A month: longer than anybody watches a push, and far from any overflow.
pub const MAX_SPAN: Millis = Millis(31 * 24 * 3_600_000);

/// A label's name is short: it is in every snapshot.
pub const MAX_LABEL: usize = 63;

/// A checked policy. The default is that of [`PolicySpec`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PolicySpec", into = "PolicySpec")]
pub struct Policy(PolicySpec);

impl Policy {
    /// Checks `spec`.
    ///
    /// # Errors
    /// All mistakes at once, each with its field.
    pub fn new(spec: PolicySpec) -> Result<Self, PolicyError> {
        Self::checked(spec, |bakes, deadline| bakes < deadline)
    }

    fn checked(spec: PolicySpec, fit: impl Fn(Millis, Millis) -> bool) -> Result<Self, PolicyError> {
        let mut mistakes = Vec::new();
        check_steps(&spec, &mut mistakes);
        check_limits(&spec, &mut mistakes);
        check_waves(&spec, &mut mistakes);
        check_spans(&spec, fit, &mut mistakes);
        if mistakes.is_empty() { Ok(Self(spec)) } else { Err(PolicyError { mistakes }) }
    }

    /// The values, all checked.
    #[must_use]
    pub fn spec(&self) -> &PolicySpec {
        &self.0
    }

    /// The same policy with other shares, each with the bake time of the step that it replaces, or of the last step.
    ///
    /// # Errors
    /// As [`Policy::new`].
    pub fn with_shares(&self, shares: &[Share]) -> Result<Self, PolicyError> {
        let last = self.0.steps.last().map_or(Millis(0), |step| step.bake);
        let steps = shares
            .iter()
            .enumerate()
            .map(|(index, &share)| Step {
                share,
                bake: self.0.steps.get(index).map_or(last, |step| step.bake),
            })
            .collect();
        Self::new(PolicySpec { steps, ..self.0.clone() })
    }

    /// The same policy with one bake time for all steps.
    ///
    /// # Errors
    /// As [`Policy::new`].
    pub fn with_bake(&self, bake: Millis) -> Result<Self, PolicyError> {
        let steps = self.0.steps.iter().map(|step| Step { bake, ..*step }).collect();
        Self::new(PolicySpec { steps, ..self.0.clone() })
    }

    /// How often assignments with a candidate are renewed: a third of the expiry, so that two may be lost.
    #[must_use]
    pub fn renewal(&self) -> Millis {
        Millis(self.0.expiry.0 / 3)
    }

    /// The policy in words, on one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let spec = &self.0;
        let steps: Vec<String> =
            spec.steps.iter().map(|step| format!("{} for {}", step.share, step.bake)).collect();
        format!(
            "{}; back if errors are more than {} above stable or p99 is more than {} stable's (and {} longer), judged \
             from {} requests on; back after {}{}",
            steps.join(", "),
            spec.error_rate,
            spec.p99_ratio,
            spec.p99_floor,
            spec.min_requests,
            spec.deadline,
            self.waves(),
        )
    }

    /// How it goes over the nodes where that is not as usual, each after a semicolon.
    fn waves(&self) -> String {
        let mut text = String::new();
        if self.0.spread {
            text.push_str("; on every node");
        }
        if let Some(label) = &self.0.spread_over {
            text.push_str(&format!("; spread over {label}"));
        }
        match self.0.max_parallel.map(NonZeroU32::get) {
            None => {}
            Some(1) => text.push_str("; 1 node starts at a time"),
            Some(most) => text.push_str(&format!("; at most {most} nodes start at once")),
        }
        match self.0.max_failing {
            0 => {}
            1 => text.push_str("; back if more than 1 node fails"),
            most => text.push_str(&format!("; back if more than {most} nodes fail")),
        }
        text
    }
}

impl TryFrom<PolicySpec> for Policy {
    type Error = PolicyError;

    fn try_from(spec: PolicySpec) -> Result<Self, PolicyError> {
        // Rollouts that began with bakes that come to just the deadline are read all the same.
        Self::checked(spec, |bakes, deadline| bakes <= deadline)
    }
}

impl From<Policy> for PolicySpec {
    fn from(policy: Policy) -> Self {
        policy.0
    }
}

fn check_steps(spec: &PolicySpec, mistakes: &mut Vec<PolicyMistake>) {
    let Some(last) = spec.steps.last() else {
        mistakes.push(PolicyMistake::NoSteps);
        return;
    };
    if spec.steps.len() > MAX_STEPS {
        mistakes.push(PolicyMistake::TooManySteps(spec.steps.len()));
        return;
    }
    let mut before = Share::ZERO;
    for (index, step) in spec.steps.iter().enumerate() {
        if step.share == Share::ZERO {
            mistakes.push(PolicyMistake::ZeroShare(index + 1));
        } else if step.share <= before {
            mistakes.push(PolicyMistake::NotRising { step: index + 1, share: step.share, before });
        }
        before = step.share;
    }
    if last.share != Share::WHOLE {
        mistakes.push(PolicyMistake::NotWhole(last.share));
    }
}

fn check_limits(spec: &PolicySpec, mistakes: &mut Vec<PolicyMistake>) {
    if spec.p99_ratio < Ratio(10_000) {
        mistakes.push(PolicyMistake::RatioBelowOne(spec.p99_ratio));
    }
    for (field, value) in [
        ("min_requests", spec.min_requests),
        ("start_deadline", spec.start_deadline.0),
        ("health_interval", spec.health_interval.0),
        ("health_threshold", u64::from(spec.health_threshold)),
        ("deadline", spec.deadline.0),
        ("error_cap", u64::from(spec.error_cap.basis_points())),
    ] {
        if value == 0 {
            mistakes.push(PolicyMistake::Zero { field });
        }
    }
}

fn check_waves(spec: &PolicySpec, mistakes: &mut Vec<PolicyMistake>) {
    if let Some(found) = &spec.spread_over {
        let part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        if found.is_empty() || found.len() > MAX_LABEL || !found.bytes().all(part) {
            mistakes.push(PolicyMistake::NoLabel { field: "spread_over", found: found.clone() });
        }
    }
}

fn check_spans(spec: &PolicySpec, fit: impl Fn(Millis, Millis) -> bool, mistakes: &mut Vec<PolicyMistake>) {
    for (field, found) in [
        ("deadline", spec.deadline),
        ("standby", spec.standby),
        ("patience", spec.patience),
        ("health_interval", spec.health_interval),
        ("p99_floor", spec.p99_floor),
        ("expiry", spec.expiry),
    ] {
        if found > MAX_SPAN {
            mistakes.push(PolicyMistake::TooLong { field, found });
        }
    }
    let bakes = spec.steps.iter().fold(Millis(0), |sum, step| sum.plus(step.bake));
    let deadline = spec.deadline;
    if !fit(bakes, deadline) && deadline.0 > 0 {
        let steps = spec.steps.len();
        mistakes.push(PolicyMistake::BakesBeyondDeadline { steps, found: bakes, deadline });
    }
    if spec.start_deadline > deadline && deadline.0 > 0 {
        let (field, found) = ("start_deadline", spec.start_deadline);
        mistakes.push(PolicyMistake::BeyondDeadline { field, found, deadline });
    }
    if spec.expiry < MIN_EXPIRY {
        mistakes.push(PolicyMistake::ExpiryTooShort(spec.expiry));
    }
}

#[cfg(test)]
mod tests;
