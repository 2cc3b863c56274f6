//! The clock of rollouts: the time of day as it goes on from the moment at which it was read, whatever is done to the
//! machine's clock meanwhile. And the clock of what this node counts, which is the same but for a leader of a fleet: that
//! goes on by the time of the one before it, as the clocks of two machines may differ by an hour.
//!
//! Rollouts measure bakes, renewals and deadlines by it, nodes what they count. Set back by a minute in the midst of
//! one, the time of day would leave a candidate unrenewed; set forward, it would pass a step that nobody watched.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hot_rollout::{Millis, Time};

/// When the time of day was read, on both clocks.
#[derive(Clone, Copy, Debug)]
struct Clock {
    time: Time,
    at: Instant,
}

/// The clocks of this process.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    /// Of the rollouts that it drives.
    rollouts: Clock,
    /// Of what it counts.
    counted: Clock,
}

static CLOCKS: LazyLock<Mutex<Clocks>> = LazyLock::new(|| Mutex::new(Clocks::read(Instant::now())));

/// What time it is for rollouts.
pub(crate) fn now() -> Time {
    clocks().rollouts.now(Instant::now())
}

/// What time it is for what this node counts.
pub(crate) fn counted() -> Time {
    clocks().counted.now(Instant::now())
}

/// The time of day, for what is written down with it.
pub(crate) fn of_day() -> Time {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// Reads the time of day anew, as may be done while no rollout runs: a machine may learn the time only after its start.
pub(crate) fn set() {
    *clocks() = Clocks::read(Instant::now());
}

/// It is at least `time`, as something says that this node wrote down.
pub(crate) fn not_before(time: Time) {
    let (mut clocks, at) = (clocks(), Instant::now());
    *clocks = clocks.not_before(time, at);
}

/// For rollouts it is `time`, as something says that another node wrote down. How long ago that was is not known.
pub(crate) fn go_on_from(time: Time) {
    let (mut clocks, at) = (clocks(), Instant::now());
    *clocks = clocks.go_on_from(time, at);
}

/// When `time` will be for rollouts, on the clock that timers use.
pub(crate) fn at(time: Time) -> Instant {
    Instant::now() + Duration::from(time.since(now()))
}

fn clocks() -> MutexGuard<'static, Clocks> {
    CLOCKS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clocks {
    fn read(at: Instant) -> Self {
        let clock = Clock::read(at);
        Self { rollouts: clock, counted: clock }
    }

    fn not_before(self, time: Time, at: Instant) -> Self {
        Self { rollouts: self.rollouts.not_before(time, at), counted: self.counted.not_before(time, at) }
    }

    fn go_on_from(self, time: Time, at: Instant) -> Self {
        Self { rollouts: Clock { time, at }, ..self }
    }
}

impl Clock {
    fn read(at: Instant) -> Self {
        Self { time: of_day(), at }
    }

    fn now(self, at: Instant) -> Time {
        self.time.plus(Millis::from(at.saturating_duration_since(self.at)))
    }

    fn not_before(self, time: Time, at: Instant) -> Self {
        if self.now(at) < time { Self { time, at } } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_when_it_was_read_and_never_back() {
        let begun = Instant::now();
        let clock = Clock { time: Time(1_000), at: begun };
        assert_eq!(clock.now(begun + Duration::from_secs(3)), Time(4_000));
        let later = clock.not_before(Time(9_000), begun + Duration::from_secs(1));
        assert_eq!(later.now(begun + Duration::from_secs(2)), Time(10_000));
        let same = clock.not_before(Time(500), begun + Duration::from_secs(1));
        assert_eq!(same.now(begun + Duration::from_secs(1)), Time(2_000));
    }

    #[test]
    fn it_is_the_time_of_day() {
        let before = Clock::read(Instant::now()).time;
        assert!(now() >= before);
        let (soon, here) = (at(now().plus(Millis::seconds(60))), Instant::now());
        assert!(soon > here + Duration::from_secs(50) && soon < here + Duration::from_secs(70));
    }

    #[test]
    fn a_leader_goes_on_by_the_time_of_the_one_before_and_counts_by_its_own() {
        let begun = Instant::now();
        let clock = Clock { time: Time(5_000), at: begun };
        let (clocks, later) = (Clocks { rollouts: clock, counted: clock }, begun + Duration::from_secs(1));
        for time in [Time(1_000), Time(3_600_000)] {
            let leads = clocks.go_on_from(time, begun);
            assert_eq!(leads.rollouts.now(later), time.plus(Millis::seconds(1)));
            assert_eq!(leads.counted.now(later), Time(6_000));
        }
        let restarted = clocks.not_before(Time(9_000), begun);
        assert_eq!((restarted.rollouts.now(begun), restarted.counted.now(begun)), (Time(9_000), Time(9_000)));
    }
}
