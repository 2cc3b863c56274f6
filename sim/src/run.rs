//! Plays a scenario, and says what came of it.

use std::panic::AssertUnwindSafe;

use hot_rollout::{Millis, Outcome};

use crate::coverage::Coverage;
use crate::scenario::Scenario;
use crate::world::{BEGIN, World};

/// What came of one world.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// What was broken, if anything was, with the story that shows it.
    pub broken: Option<Broken>,
    /// How the first rollout ended; `None`: it was superseded before, or never ended, as where a node never follows.
    pub outcome: Option<Outcome>,
    /// From the first request that could reach the candidate to the first rollout's decision to promote it or to go back.
    pub to_verdict: Option<Millis>,
    /// What users saw, all modules together, until the first rollout had ended; where it never did, until all was quiet.
    pub users: Users,
    /// What was gone through.
    pub coverage: Coverage,
    /// The story of the last rollout; empty where it was not kept.
    pub story: String,
    /// Where the last rollout stood at the end, as the last line of its story; empty where that was not kept.
    pub stands: String,
    /// How many things happened.
    pub happened: u64,
}

/// Something that must always hold did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What was found, and what holds instead.
    pub what: String,
    /// How long after the begin.
    pub after: Millis,
}

/// What users saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// Their requests.
    pub requests: u64,
    /// Those that failed, whoever was to blame.
    pub failed: u64,
    /// Those that a candidate answered.
    pub tried: u64,
    /// Those that went to a release that is worse than the first one.
    pub bad: u64,
}

/// Plays a scenario with the chance that comes of `seed`. The same scenario and seed give the same result on every machine.
#[must_use]
pub fn run(scenario: &Scenario, seed: u64) -> Ran {
    play(scenario, seed, true)
}

/// The same without keeping the story, and no further than to the end of the first rollout: for many runs of which only the
/// numbers matter.
#[must_use]
pub fn measure(scenario: &Scenario, seed: u64) -> Ran {
    play(scenario, seed, false)
}

fn play(scenario: &Scenario, seed: u64, told: bool) -> Ran {
    let mut world = World::new(scenario, seed, told);
    // The story until then is what shows why.
    if std::panic::catch_unwind(AssertUnwindSafe(|| world.play())).is_err() {
        world.watcher.broken = Some("something panicked; standard error has what and where".to_owned());
    }
    let after = world.now.since(BEGIN);
    let World { watcher, story, seen, seen_by_then, decided, ended, happened, .. } = world;
    let seen = seen_by_then.unwrap_or(seen);
    let text = story.story();
    Ran {
        broken: watcher.broken.map(|what| Broken { what, after }),
        outcome: ended,
        to_verdict: watcher.first_tried.zip(decided).map(|(from, until)| until.since(from)),
        users: Users { requests: seen.requests, failed: seen.failed, tried: seen.tried, bad: seen.bad },
        coverage: watcher.coverage,
        stands: story.stands,
        story: text,
        happened,
    }
}
