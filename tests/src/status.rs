//! The documented shapes of `hotctl -o json`, as far as the tests look at them. A key that is missing fails the test.

use serde::Deserialize;

/// What `status -o json` prints.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// Every module, by name.
    pub modules: Vec<ModuleStatus>,
    /// What is wrong with nodes.
    pub problems: Vec<Problem>,
}

/// What is wrong with a node.
#[derive(Clone, Debug, Deserialize)]
pub struct Problem {
    /// Name of the node.
    pub node: String,
    /// Stable dotted word.
    pub code: String,
    /// What is wrong and what to do.
    pub text: String,
    /// Since when, RFC 3339.
    pub since: Option<String>,
}

impl Status {
    /// The problem of this code.
    pub fn problem(&self, code: &str) -> Option<&Problem> {
        self.problems.iter().find(|problem| problem.code == code)
    }

    /// The module of this name.
    pub fn module(&self, name: &str) -> Option<&ModuleStatus> {
        self.modules.iter().find(|module| module.name == name)
    }
}

/// A module at one moment.
#[derive(Clone, Debug, Deserialize)]
pub struct ModuleStatus {
    /// Its name.
    pub name: String,
    /// What is served.
    pub stable: Option<Release>,
    /// What a running rollout tries.
    pub candidate: Option<Release>,
    /// Phase of the running rollout, else of the latest one.
    pub phase: String,
    /// The candidate's share, basis points.
    pub share: u32,
    /// Why it is where it is.
    pub reason: String,
    /// Why nothing moves.
    pub waiting_on: String,
    /// What runs, node by node.
    pub nodes: Vec<ModuleNode>,
}

/// What one node runs of a module.
#[derive(Clone, Debug, Deserialize)]
pub struct ModuleNode {
    /// Name of the node.
    pub node: String,
    /// Its instances.
    pub instances: Vec<Instance>,
}

/// One release in one host.
#[derive(Clone, Debug, Deserialize)]
pub struct Instance {
    /// Release number.
    pub release: u64,
    /// Its version.
    pub version: String,
    /// Its part of the traffic, basis points.
    pub weight: u32,
    /// Where it is in its life.
    pub state: String,
    /// How it ended; empty before.
    #[serde(default)]
    pub reason: String,
    /// Requests that it has now.
    #[serde(default)]
    pub in_flight: u64,
    /// Requests that ended.
    pub requests: u64,
    /// Those that ended in an error.
    pub errors: u64,
    /// 99th percentile, milliseconds.
    pub p99_ms: f64,
    /// Its process; 0 when it does not run.
    #[serde(default)]
    pub pid: i32,
    /// From the order to start its host to ready, milliseconds.
    #[serde(default)]
    pub start_ms: Option<f64>,
    /// Streams that it has now.
    #[serde(default)]
    pub streams: u64,
    /// When its host was started, RFC 3339.
    #[serde(default)]
    pub started: Option<String>,
}

/// One release of a module.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Release {
    /// Number within the module, from 1.
    pub release: u64,
    /// Its version.
    pub version: String,
    /// Digest of the artifact, 64 hexadecimal digits.
    pub digest: String,
}

impl Instance {
    /// Whether it has not ended.
    pub fn runs(&self) -> bool {
        self.state != "ended"
    }
}

impl ModuleStatus {
    /// The instances of the one node of these tests.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.nodes.iter().flat_map(|node| &node.instances)
    }

    /// Version of what is served, empty when nothing is.
    pub fn stable_version(&self) -> &str {
        self.stable.as_ref().map_or("", |release| &release.version)
    }
}

/// One line of `events -o json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// Number in the order of the node's events.
    pub sequence: u64,
    /// Stable dotted word.
    pub kind: String,
    /// Name of the module, empty when it is not about one.
    pub module: String,
    /// Id of the rollout that it belongs to, empty when there is none.
    pub rollout: String,
    /// What happened.
    pub text: String,
    /// The numbers of a `swap.done`.
    pub swap: Option<Swap>,
}

/// How traffic left an instance for good.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Swap {
    /// What it left.
    pub from: Option<Release>,
    /// Where it went.
    pub to: Option<Release>,
    /// From the start of the flip until every pick saw the new weights, microseconds.
    pub flip_us: u64,
    /// From the start of the flip to the last pick of the old instance, microseconds.
    pub last_pick_us: Option<u64>,
    /// Requests that the old instance had at the flip.
    pub in_flight: u64,
    /// Requests that it was given later.
    pub given_after: u64,
    /// Those that it answered.
    pub finished: u64,
    /// Those of `finished` with a status of 500 and above.
    pub errors: u64,
    /// Those that it gave up.
    pub aborted: u64,
    /// Those that it did not answer in time.
    pub timeouts: u64,
    /// Those that were lost with it.
    pub lost: u64,
    /// Those of `lost` that were sent once more.
    pub sent_again: u64,
    /// Those that ended without its doing.
    pub cancelled: u64,
    /// Those that it still had.
    pub still_in_flight: u64,
    /// From the flip until it had none, milliseconds.
    pub drained_ms: Option<u64>,
    /// How long each of the three is, milliseconds.
    pub window_ms: u64,
    /// Up to the flip.
    pub before: SwapWindow,
    /// Until the old instance was done.
    pub during: SwapWindow,
    /// After that.
    pub after: SwapWindow,
    /// Why it was told early; empty: it was not.
    pub cut_short: String,
}

/// What a module answered in some time.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct SwapWindow {
    /// Requests.
    pub requests: u64,
    /// 99th percentile, milliseconds.
    pub p99_ms: Option<f64>,
}

impl Swap {
    /// The numbers of the releases that it left and went to.
    pub fn releases(&self) -> (u64, u64) {
        let number = |of: &Option<Release>| of.as_ref().map_or(0, |release| release.release);
        (number(&self.from), number(&self.to))
    }

    /// Whether every request that the old instance had is accounted for.
    pub fn is_balanced(&self) -> bool {
        let ended = self.finished + self.aborted + self.timeouts + self.lost + self.cancelled;
        self.in_flight + self.given_after == ended + self.still_in_flight
    }
}

/// The last line of `push -o json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Ended {
    /// How it ended; none when it was left running.
    pub outcome: Option<String>,
    /// What `hotctl` ends with.
    pub exit_code: i32,
    /// The rollout at its end.
    pub rollout: Rollout,
}

/// A rollout at one moment: what the verbs `promote`, `pause` and `resume` print.
#[derive(Clone, Debug, Deserialize)]
pub struct Rollout {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub phase: String,
    /// The candidate's share, basis points.
    pub share: u32,
    /// Why it is where it is.
    pub reason: String,
    /// How it ended; none while it runs.
    pub outcome: Option<String>,
    /// The modules that it moves.
    pub modules: Vec<RolloutModule>,
}

/// A module that a rollout moves.
#[derive(Clone, Debug, Deserialize)]
pub struct RolloutModule {
    /// Its name.
    pub name: String,
    /// Why its stable release has no instance that serves; empty: it serves, or there is none.
    pub unserved: String,
}

/// What `rollback -o json` and `abort -o json` print.
#[derive(Clone, Debug, Deserialize)]
pub struct Rollback {
    /// It aborted a running rollout.
    pub aborted: bool,
    /// The release that traffic left.
    pub from: Option<Release>,
    /// The release that traffic went to.
    pub to: Option<Release>,
    /// The rollout that it aborted or that moves the module back.
    pub rollout: Option<Rollout>,
    /// From the command's arrival to the new weights, microseconds, by the node's clock.
    pub flip_us: Option<u64>,
    /// From the command's arrival to the last pick of the release that was left, microseconds; none when none came after.
    pub last_pick_us: Option<u64>,
}
