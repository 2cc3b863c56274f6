//! Releases that ended by themselves, or with hot-spawn, and wait to be started again: rules alone, the time and the dice
//! are arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hot_rollout::ReleaseNumber;

use crate::supervisor::Backoff;

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
}

impl Resting {
    /// Not started again before some time has passed, which doubles each time. One that `served` for longer than its
    /// last rest begins with the shortest again: so even one that comes up only to crash is not started all the time.
    pub(super) fn rest(
        &mut self,
        release: ReleaseNumber,
        served: Option<Duration>,
        now: Instant,
        jitter: f64,
    ) {
        let rest = self.rests.entry(release).or_insert_with(|| Rest {
            until: now,
            length: Duration::ZERO,
            due: false,
            backoff: Backoff::default(),
        });
        if served.is_some_and(|served| served > rest.length) {
            rest.backoff.reset();
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

    #[test]
    fn a_release_rests_longer_each_time_until_it_serves_for_longer_than_it_rested() {
        let (mut rests, now) = (Resting::default(), Instant::now());
        for _ in 0..20 {
            rests.rest(R1, Some(Duration::from_millis(1)), now, 1.0);
        }
        assert_eq!(rests.rests[&R1].length, Duration::from_secs(30));
        assert!(!rests.is_over(now + Duration::from_secs(29), true));
        assert_eq!(resting(&rests), [R1]);
        assert!(rests.is_over(now + Duration::from_secs(30), true));
        assert!(!rests.is_over(now + Duration::from_secs(30), true), "it is due once");
        assert_eq!(resting(&rests), []);
        rests.rest(R1, Some(Duration::from_secs(60)), now, 1.0);
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
        rests.rest(R1, None, now, 1.0);
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
        rests.rest(R1, None, now, 0.0);
        rests.keep(&[R1], &[R1]);
        assert_eq!(resting(&rests), [R1]);
        rests.keep(&[], &[R1]);
        assert_eq!(resting(&rests), []);
    }
}
