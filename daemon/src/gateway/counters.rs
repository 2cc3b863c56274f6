//! What each instance was asked and how it ended, counted since it was attached.
//!
//! Each thread counts for itself, without locked instructions; a reader adds the threads up. Pinned requests are in
//! none of these numbers but `in_flight`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The longest latency that is told apart from longer ones. Deadlines are shorter.
const MOST_MICROS: u64 = 600_000_000;

/// Significant digits of a latency: 1% is finer than any limit, and a histogram stays below 25 KiB.
const DIGITS: u8 = 2;

/// One instance's numbers, all threads together, since it was first attached.
///
/// `picked = finished + aborted + timeouts + lost + cancelled` and those that are still under way.
#[derive(Debug, Clone)]
pub struct Counters {
    /// Requests that were given to the instance.
    pub picked: u64,
    /// Requests that it answered to the end, whatever the status.
    pub finished: u64,
    /// Requests that ended as its error: a status of 500 and above (also in `finished`), or aborted.
    pub errors: u64,
    /// Requests that it began and gave up, refused though it was not told to stop, or answered with what is no HTTP.
    pub aborted: u64,
    /// Requests that were not answered by their deadline, for no fault of the client's.
    pub timeouts: u64,
    /// Requests that were in flight when the instance, or a link to it, was lost.
    pub lost: u64,
    /// Those of `lost` that were sent once more, to another instance.
    pub sent_again: u64,
    /// Requests that ended without its doing: the client went away or was too slow, or the request was given to
    /// another instance before this one had seen it.
    pub cancelled: u64,
    /// Requests under way now, pinned ones included.
    pub in_flight: u64,
    /// Streams that are open now: their requests count as finished from their heads on, and they are not in `in_flight`.
    pub streams: u64,
    /// Streams that it gave up after their heads, or that were lost with it. In none of the other numbers.
    pub streams_failed: u64,
    /// Requests under way that wait for the instance, by how long they have been: an age, and how many are at least so
    /// old and younger than the next. Without pinned ones, those that wait for their client, and the youngest.
    pub open: Vec<(Duration, u64)>,
    /// From the pick to the last byte of the response at the gateway, in microseconds, of those in `finished`.
    pub latency: Histogram<u64>,
    /// When a request was last given to the instance.
    pub last_pick: Option<Instant>,
}

impl Counters {
    /// Requests that the instance ended, well or badly. Those that ended without its doing are not among them.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.finished + self.aborted + self.timeouts + self.lost
    }

    /// Those of [`Counters::ended`] that failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.errors + self.timeouts + self.lost
    }
}

/// What of [`Counters`] is read without a lock, and without the latencies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// As in [`Counters`].
    pub picked: u64,
    /// As in [`Counters`].
    pub finished: u64,
    /// As in [`Counters`].
    pub errors: u64,
    /// As in [`Counters`].
    pub aborted: u64,
    /// As in [`Counters`].
    pub timeouts: u64,
    /// As in [`Counters`].
    pub lost: u64,
    /// As in [`Counters`].
    pub sent_again: u64,
    /// As in [`Counters`].
    pub cancelled: u64,
    /// As in [`Counters`].
    pub last_pick: Option<Instant>,
}

impl Tally {
    /// Requests that were picked and have not ended: unlike `in_flight` of [`Counters`] without pinned ones.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        let ended = self.finished + self.aborted + self.timeouts + self.lost + self.cancelled;
        self.picked.saturating_sub(ended)
    }
}

/// How long a request has been under way, in quarters of a power of two: fine enough to tell slow from quick, and few
/// enough to count each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Age(u8);

impl Age {
    /// log2 of the youngest age that is counted, in microseconds: 16 ms. Below it nothing is late.
    const YOUNGEST: u32 = 14;
    /// From there up to 2^30 microseconds, 18 minutes: deadlines are shorter.
    const COUNT: u8 = 64;

    /// `None`: too young to count.
    pub(super) fn of(age: Duration) -> Option<Self> {
        let micros = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        let octave = micros.checked_ilog2()?.checked_sub(Self::YOUNGEST)?;
        let quarter = (micros >> (octave + Self::YOUNGEST - 2)) & 3;
        let index = u64::from(octave) * 4 + quarter;
        Some(Self(u8::try_from(index).unwrap_or(u8::MAX).min(Self::COUNT - 1)))
    }

    /// The youngest that it stands for.
    fn least(self) -> Duration {
        let (octave, quarter) = (u32::from(self.0 / 4), u64::from(self.0 % 4));
        Duration::from_micros((4 + quarter) << (octave + Self::YOUNGEST - 2))
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What the end of a request takes out of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    /// It was picked, not pinned.
    pub(super) counted: bool,
    /// As what it was counted last among those under way.
    pub(super) age: Option<Age>,
}

/// How a request ended at an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Answered to the end with this status.
    Finished { status: u16, took: Duration },
    /// Given up by the module, refused without need, or answered with what is no HTTP.
    Aborted,
    /// Not answered by the deadline.
    TimedOut,
    /// In flight when the link broke.
    Lost,
    /// Ended without the instance's doing.
    Cancelled,
}

/// The recorders of one instance, one per gateway thread.
#[derive(Debug, Clone)]
pub(super) struct Recorders {
    threads: Arc<[Arc<Recorder>]>,
    epoch: Instant,
}

/// What one thread counts of one instance. Only that thread writes.
#[derive(Debug)]
pub(super) struct Recorder {
    epoch: Instant,
    picked: AtomicU64,
    finished: AtomicU64,
    server_errors: AtomicU64,
    aborted: AtomicU64,
    timeouts: AtomicU64,
    lost: AtomicU64,
    sent_again: AtomicU64,
    cancelled: AtomicU64,
    in_flight: AtomicU64,
    streams: AtomicU64,
    streams_failed: AtomicU64,
    /// Requests under way by their age, see [`Age`].
    open: [AtomicU64; Age::COUNT as usize],
    /// Nanoseconds since `epoch`, plus one; zero is never.
    last_pick: AtomicU64,
    /// Contended only while a reader adds up.
    latency: Mutex<Histogram<u64>>,
}

impl Recorders {
    pub(super) fn new(threads: usize) -> Self {
        let epoch = Instant::now();
        Self { threads: (0..threads).map(|_| Arc::new(Recorder::new(epoch))).collect(), epoch }
    }

    pub(super) fn of_thread(&self, thread: usize) -> Arc<Recorder> {
        Arc::clone(&self.threads[thread])
    }

    pub(super) fn read(&self) -> Counters {
        let mut latency = histogram();
        for thread in self.threads.iter() {
            let of_thread = thread.latency.lock().unwrap_or_else(PoisonError::into_inner);
            // Equal bounds and digits, so that every value of one fits into the other.
            latency.add(&*of_thread).unwrap_or_else(|error| unreachable!("{error}"));
        }
        let tally = self.tally();
        Counters {
            picked: tally.picked,
            finished: tally.finished,
            errors: tally.errors,
            aborted: tally.aborted,
            timeouts: tally.timeouts,
            lost: tally.lost,
            sent_again: tally.sent_again,
            cancelled: tally.cancelled,
            in_flight: self.sum(|thread| &thread.in_flight),
            streams: self.sum(|thread| &thread.streams),
            streams_failed: self.sum(|thread| &thread.streams_failed),
            open: self.open(),
            latency,
            last_pick: tally.last_pick,
        }
    }

    pub(super) fn tally(&self) -> Tally {
        let last = self.threads.iter().map(|thread| thread.last_pick.load(Ordering::Acquire)).max();
        let aborted = self.sum(|thread| &thread.aborted);
        Tally {
            // Read first: what is picked and ends meanwhile is not under way.
            picked: self.sum(|thread| &thread.picked),
            finished: self.sum(|thread| &thread.finished),
            errors: self.sum(|thread| &thread.server_errors) + aborted,
            aborted,
            timeouts: self.sum(|thread| &thread.timeouts),
            lost: self.sum(|thread| &thread.lost),
            sent_again: self.sum(|thread| &thread.sent_again),
            cancelled: self.sum(|thread| &thread.cancelled),
            last_pick: last
                .and_then(|nanos| nanos.checked_sub(1))
                .map(|n| self.epoch + Duration::from_nanos(n)),
        }
    }

    fn sum(&self, of: fn(&Recorder) -> &AtomicU64) -> u64 {
        self.threads.iter().map(|thread| of(thread).load(Ordering::Relaxed)).sum()
    }
}

impl Recorders {
    fn open(&self) -> Vec<(Duration, u64)> {
        let count = |age: Age| -> u64 {
            self.threads.iter().map(|thread| thread.open[age.index()].load(Ordering::Relaxed)).sum()
        };
        let ages = (0..Age::COUNT).map(Age);
        ages.map(|age| (age.least(), count(age))).filter(|(_, count)| *count > 0).collect()
    }
}

impl Recorder {
    fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            picked: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            server_errors: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            sent_again: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            streams: AtomicU64::new(0),
            streams_failed: AtomicU64::new(0),
            open: [const { AtomicU64::new(0) }; Age::COUNT as usize],
            last_pick: AtomicU64::new(0),
            latency: Mutex::new(histogram()),
        }
    }

    /// A request is given to the instance.
    pub(super) fn picked(&self, now: Instant) {
        add(&self.picked, 1);
        let nanos = now.saturating_duration_since(self.epoch).as_nanos();
        self.last_pick.store(u64::try_from(nanos).unwrap_or(u64::MAX - 1) + 1, Ordering::Release);
    }

    /// A request that was picked, or pinned, is under way.
    pub(super) fn begun(&self) {
        add(&self.in_flight, 1);
    }

    /// A request that was picked, or pinned, can't be sent at all.
    pub(super) fn not_sent(&self, counted: bool) {
        self.begun();
        self.ended(Outcome::Cancelled, Account { counted, age: None });
    }

    /// A request that was lost here is sent once more, to another instance.
    pub(super) fn sent_again(&self) {
        add(&self.sent_again, 1);
    }

    /// A request that is under way has become older, or waits no longer for the instance.
    pub(super) fn aged(&self, from: Option<Age>, to: Option<Age>) {
        if let Some(from) = from {
            add(&self.open[from.index()], u64::MAX);
        }
        if let Some(to) = to {
            add(&self.open[to.index()], 1);
        }
    }

    /// A response has begun that is a stream.
    pub(super) fn stream_began(&self) {
        add(&self.streams, 1);
    }

    /// It has ended.
    pub(super) fn stream_ended(&self) {
        add(&self.streams, u64::MAX);
    }

    /// The module gave one up, or it was lost with its host.
    pub(super) fn stream_failed(&self) {
        add(&self.streams_failed, 1);
    }

    /// A request is no longer under way.
    pub(super) fn ended(&self, outcome: Outcome, account: Account) {
        add(&self.in_flight, u64::MAX);
        self.aged(account.age, None);
        if !account.counted {
            return;
        }
        match outcome {
            Outcome::Finished { status, took } => {
                add(&self.finished, 1);
                if status >= 500 {
                    add(&self.server_errors, 1);
                }
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                self.latency.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
            }
            Outcome::Aborted => add(&self.aborted, 1),
            Outcome::TimedOut => add(&self.timeouts, 1),
            Outcome::Lost => add(&self.lost, 1),
            Outcome::Cancelled => add(&self.cancelled, 1),
        }
    }
}

/// One writer, so a load and a store do for an addition.
fn add(counter: &AtomicU64, value: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MOST_MICROS, DIGITS)
        .unwrap_or_else(|error| unreachable!("the bounds are constants: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTED: Account = Account { counted: true, age: None };

    #[test]
    fn an_age_is_told_to_a_quarter() {
        assert_eq!(Age::of(Duration::from_millis(16)), None);
        for micros in [16_384, 20_000, 54_321, 1_000_000, 29_999_999, 600_000_000] {
            let age = Duration::from_micros(micros);
            let least = Age::of(age).unwrap().least();
            assert!(least <= age && age < least.mul_f64(1.26), "{age:?} is told as {least:?}");
        }
        assert_eq!(Age::of(Duration::from_secs(9999)), Some(Age(Age::COUNT - 1)));
        assert_eq!(Age::of(Duration::MAX), Some(Age(Age::COUNT - 1)));
    }

    #[test]
    fn a_request_is_open_at_its_present_age_until_it_ends() {
        let recorders = Recorders::new(2);
        let age = |millis| Age::of(Duration::from_millis(millis));
        for thread in 0..2 {
            let recorder = recorders.of_thread(thread);
            recorder.picked(Instant::now());
            recorder.begun();
            recorder.aged(None, age(10));
            recorder.aged(age(10), age(100));
            recorder.aged(age(100), age(3000));
        }
        assert_eq!(recorders.read().open, [(age(3000).unwrap().least(), 2)]);
        recorders.of_thread(1).ended(Outcome::TimedOut, Account { counted: true, age: age(3000) });
        recorders.of_thread(0).aged(age(3000), None);
        assert_eq!(recorders.read().open, []);
    }

    #[test]
    fn threads_add_up_and_every_end_has_its_number() {
        let recorders = Recorders::new(2);
        let now = Instant::now();
        let took = Duration::from_micros(1_500);
        let ends = [
            Outcome::Finished { status: 200, took },
            Outcome::Finished { status: 503, took },
            Outcome::Aborted,
            Outcome::TimedOut,
            Outcome::Lost,
            Outcome::Cancelled,
        ];
        for thread in 0..2 {
            let recorder = recorders.of_thread(thread);
            for outcome in ends {
                recorder.picked(now);
                recorder.begun();
                recorder.ended(outcome, COUNTED);
            }
            recorder.picked(now);
            recorder.begun();
        }
        recorders.of_thread(1).sent_again();
        let counters = recorders.read();
        let tally = recorders.tally();
        assert_eq!((tally.under_way(), tally.lost, tally.sent_again, counters.sent_again), (2, 2, 1, 1));
        assert_eq!((counters.picked, counters.finished, counters.errors, counters.aborted), (14, 4, 4, 2));
        assert_eq!((counters.timeouts, counters.lost, counters.cancelled, counters.in_flight), (2, 2, 2, 2));
        assert_eq!(counters.latency.len(), 4);
        assert!((1_485..=1_515).contains(&counters.latency.value_at_quantile(0.5)));
    }

    #[test]
    fn pinned_requests_count_only_as_under_way() {
        let recorders = Recorders::new(1);
        let recorder = recorders.of_thread(0);
        recorder.begun();
        assert_eq!(recorders.read().in_flight, 1);
        recorder.ended(Outcome::TimedOut, Account { counted: false, age: None });
        let counters = recorders.read();
        assert_eq!((counters.in_flight, counters.picked, counters.timeouts), (0, 0, 0));
        assert_eq!(counters.last_pick, None);
    }

    #[test]
    fn the_last_pick_is_the_latest_of_all_threads() {
        let recorders = Recorders::new(2);
        let early = Instant::now();
        let late = early + Duration::from_millis(5);
        recorders.of_thread(1).picked(late);
        recorders.of_thread(0).picked(early);
        assert_eq!(recorders.read().last_pick, Some(late));
    }
}
