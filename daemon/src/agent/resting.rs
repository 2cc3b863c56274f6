//! Releases that ended by themselves, or with hot-spawn, and wait to be started again: rules alone, the time and the dice
//! are arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use hot_rollout::ReleaseNumber;

use crate::supervisor::Backoff;

/// Failures in a row, none of them after serving for longer than the rest before, from which on a release crash-loops. The
/// rests between so many take 2 to 4 s: what was only in the way of a start, as a port or a database that comes back, is as
/// a rule gone by then, and what fails each time anew has shown it.
const LOOPS_FROM: u32 = 5;

/// How an instance of a release ended that rests now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By what the release did, after it had served for so long; `None`: it never did.
    Failed {
        /// From ready to its end.
        served: Option<Duration>,
    },
    /// The node did not start it, or could not reach it: nothing that the release did.
    Refused,
}

/// The releases of one module that rest.
#[derive(Debug, Default)]
pub(super) struct Resting {
    rests: BTreeMap<ReleaseNumber, Rest>,
    /// Those that hot-spawn took along, or could not be asked for. Nothing that they did ended them, so they wait for it
    /// and for no time.
    lost: BTreeSet<ReleaseNumber>,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    /// How long it is.
    length: Duration,
    /// The rest is over. The back-off stays until an instance has served longer than the rest before it.
    due: bool,
    backoff: Backoff,
    /// Failures in a row.
    failed: u32,
    /// When the first of them was.
    since: SystemTime,
}

impl Resting {
    /// Not started again before some time has passed, which doubles each time. One that `served` for longer than its
    /// last rest begins with the shortest again: so even one that comes up only to crash is not started all the time.
    pub(super) fn rest(&mut self, release: ReleaseNumber, way: Way, now: Instant, jitter: f64) {
        let rest = self.rests.entry(release).or_insert_with(|| Rest {
            until: now,
            length: Duration::ZERO,
            due: false,
            backoff: Backoff::default(),
            failed: 0,
            since: SystemTime::now(),
        });
        if let Way::Failed { served } = way {
            if served.is_some_and(|served| served > rest.length) {
                rest.backoff.reset();
                rest.failed = 0;
            }
            if rest.failed == 0 {
                rest.since = SystemTime::now();
            }
            rest.failed = rest.failed.saturating_add(1);
        }
        rest.due = false;
        rest.length = rest.backoff.next(jitter);
        rest.until = now + rest.length;
    }

    /// Not started again before hot-spawn is there.
    pub(super) fn wait_for_spawn(&mut self, release: ReleaseNumber) {
        self.lost.insert(release);
    }

    /// Some release is to be started again that was not before. `spawn`: hot-spawn is there.
    pub(super) fn is_over(&mut self, now: Instant, spawn: bool) -> bool {
        let mut over = spawn && !self.lost.is_empty();
        if spawn {
            self.lost.clear();
        }
        for rest in self.rests.values_mut().filter(|rest| !rest.due && rest.until <= now) {
            rest.due = true;
            over = true;
        }
        over
    }

    /// Those that rest now.
    pub(super) fn releases(&self) -> impl Iterator<Item = ReleaseNumber> + '_ {
        let rests = self.rests.iter().filter(|(_, rest)| !rest.due).map(|(release, _)| *release);
        rests.chain(self.lost())
    }

    /// Those that wait for hot-spawn.
    pub(super) fn lost(&self) -> impl Iterator<Item = ReleaseNumber> + '_ {
        self.lost.iter().copied()
    }

    /// How often in a row `release` has failed, and since when, if it crash-loops. The caller knows whether it serves now.
    pub(super) fn loops(&self, release: ReleaseNumber) -> Option<(u32, SystemTime)> {
        let rest = self.rests.get(&release).filter(|rest| rest.failed >= LOOPS_FROM)?;
        Some((rest.failed, rest.since))
    }

    /// How long `release` has rested last: one that serves for longer is over it.
    pub(super) fn last(&self, release: ReleaseNumber) -> Duration {
        self.rests.get(&release).map_or(Duration::ZERO, |rest| rest.length)
    }

    /// How long `release` still rests.
    pub(super) fn left(&self, release: ReleaseNumber, now: Instant) -> Option<Duration> {
        let rest = self.rests.get(&release).filter(|rest| !rest.due)?;
        Some(rest.until.saturating_duration_since(now))
    }

    /// Forgets all but those that were wanted and still are: a release that is wanted anew gets its chance at once.
    pub(super) fn keep(&mut self, was: &[ReleaseNumber], wanted: &[ReleaseNumber]) {
        let still = |release: &ReleaseNumber| was.contains(release) && wanted.contains(release);
        self.rests.retain(|release, _| still(release));
        self.lost.retain(still);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R1: ReleaseNumber = ReleaseNumber(1);

    fn resting(resting: &Resting) -> Vec<ReleaseNumber> {
        resting.releases().collect()
    }

    /// After it had served for so many milliseconds.
    fn failed(served: u64) -> Way {
        Way::Failed { served: Some(Duration::from_millis(served)) }
    }

    #[test]
    fn so_many_failures_in_a_row_are_a_crash_loop_until_it_serves_for_long() {
        let (mut rests, now) = (Resting::default(), Instant::now());
        let mut looping = |way| {
            rests.rest(R1, way, now, 1.0);
            rests.loops(R1).map(|(failed, _)| failed)
        };
        for _ in 1..LOOPS_FROM {
            assert_eq!(looping(failed(1)), None);
        }
        assert_eq!(looping(Way::Refused), None, "it is not what the release did");
        assert_eq!(looping(Way::Failed { served: None }), Some(LOOPS_FROM));
        assert_eq!(looping(failed(1)), Some(LOOPS_FROM + 1));
        assert_eq!(looping(failed(60_000)), None, "it served for longer than it had rested");
    }

    #[test]
    fn a_release_rests_longer_each_time_until_it_serves_for_longer_than_it_rested() {
        let (mut rests, now) = (Resting::default(), Instant::now());
        for _ in 0..20 {
            rests.rest(R1, failed(1), now, 1.0);
        }
        assert_eq!(rests.rests[&R1].length, Duration::from_secs(30));
        assert!(!rests.is_over(now + Duration::from_secs(29), true));
        assert_eq!(resting(&rests), [R1]);
        assert!(rests.is_over(now + Duration::from_secs(30), true));
        assert!(!rests.is_over(now + Duration::from_secs(30), true), "it is due once");
        assert_eq!(resting(&rests), []);
        rests.rest(R1, failed(60_000), now, 1.0);
        assert_eq!(rests.rests[&R1].length, Duration::from_millis(250));
        assert_eq!(resting(&rests), [R1]);
    }

    #[test]
    fn what_hot_spawn_took_along_waits_for_it_and_for_no_time() {
        let (mut rests, now) = (Resting::default(), Instant::now());
        rests.wait_for_spawn(R1);
        assert!(!rests.is_over(now + Duration::from_secs(3600), false));
        assert_eq!((resting(&rests), rests.left(R1, now)), (vec![R1], None));
        assert!(rests.is_over(now, true));
        assert!(!rests.is_over(now, true), "it is due once");
        assert_eq!(resting(&rests), []);
        // One that rests because it crashed does so to the end.
        rests.rest(R1, Way::Failed { served: None }, now, 1.0);
        rests.wait_for_spawn(R1);
        assert!(rests.is_over(now, true));
        assert_eq!(resting(&rests), [R1]);
        rests.wait_for_spawn(R1);
        rests.keep(&[], &[R1]);
        assert_eq!(resting(&rests), [], "it is wanted anew");
    }

    #[test]
    fn what_is_wanted_anew_gets_its_chance_at_once() {
        let (mut rests, now) = (Resting::default(), Instant::now());
        rests.rest(R1, Way::Failed { served: None }, now, 0.0);
        rests.keep(&[R1], &[R1]);
        assert_eq!(resting(&rests), [R1]);
        rests.keep(&[], &[R1]);
        assert_eq!(resting(&rests), []);
    }
}
