//! One swap, from the flip to its proof: rules alone. It is told what was counted at each look, and says when all that it
//! has to tell is known.
//!
//! What the old instance had in flight is followed to its end. The latency is compared over three times of one length: up
//! to the flip, from it on until the old instance was done, and after that.

use std::time::{Duration, Instant, SystemTime};

use hot_rollout::{Latency, ReleaseNumber, RolloutId};

use super::launch::GRACE;
use super::proof::{Party, Proof, Window};
use super::recent::{self, Span};
use crate::gateway::Tally;
use crate::supervisor::InstanceId;

/// The least time that is compared: an old instance that is done at once would leave too few requests.
const SHORTEST: Duration = Duration::from_secs(1);

/// The longest: so far back is known how it was before.
const LONGEST: Duration = recent::KEPT;

/// How long an instance that was told to stop is given to be gone once its time is over.
const GONE: Duration = GRACE.saturating_add(Duration::from_secs(5));

/// When and how fast traffic moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved {
    /// When the new weights began to be published.
    pub at: Instant,
    /// The same moment by the time of day.
    pub time: SystemTime,
    /// Until every pick saw them.
    pub took: Duration,
}

/// A swap under way.
#[derive(Clone, Debug)]
pub(super) struct Swap {
    from: Party,
    to: Party,
    rollout: Option<RolloutId>,
    moved: Moved,
    /// What is in flight by then is told as such: a stream that goes on, or what an instance that was told to stop has not
    /// ended although its time is over.
    bound: Duration,
    /// What the old instance had counted shortly before the flip.
    shortly_before: Tally,
    at_flip: Tally,
    /// What it has counted by now.
    old: Tally,
    before: Vec<Span>,
    during: Compared,
    after: Compared,
    /// From the flip until the old instance had nothing in flight any more.
    drained: Option<Duration>,
    /// How long the times are that are compared, once that is known.
    length: Option<Duration>,
}

/// What was answered in one of the times that are compared.
#[derive(Clone, Debug, Default)]
struct Compared {
    counts: Vec<(u16, u64)>,
    /// It lasted for as long as it should.
    is_whole: bool,
}

impl Swap {
    /// Traffic moved from one instance to another. What the old one had counted comes from shortly before the flip and from
    /// right after it; `before` is what the module answered up to the flip. An instance that is no longer wanted has `drain`
    /// to finish what it has.
    pub(super) fn begin(
        from: Party,
        to: Party,
        moved: Moved,
        shortly_before: Tally,
        at_flip: Tally,
        before: Vec<Span>,
        drain: Duration,
    ) -> Self {
        Self {
            from,
            to,
            rollout: None,
            moved,
            bound: drain.saturating_add(GONE),
            shortly_before,
            at_flip,
            old: at_flip,
            before,
            during: Compared::default(),
            after: Compared::default(),
            drained: None,
            length: None,
        }
    }

    /// The rollout by which traffic moved. A new instance of the same release belongs to none.
    pub(super) fn belongs_to(&mut self, rollout: &RolloutId) {
        if self.rollout.is_none() && self.from.release != self.to.release {
            self.rollout = Some(rollout.clone());
        }
    }

    /// The instance that traffic left.
    pub(super) fn old(&self) -> InstanceId {
        InstanceId(self.from.instance)
    }

    /// The release that traffic went to.
    pub(super) fn to(&self) -> ReleaseNumber {
        ReleaseNumber(self.to.release)
    }

    /// Takes what the old instance has counted by now (nothing once that is forgotten) and what the module answered since
    /// the last look. True once all is known: then it can be closed.
    pub(super) fn look(&mut self, now: Instant, old: Option<Tally>, span: &Span) -> bool {
        let since_flip = now.saturating_duration_since(self.moved.at);
        self.old = old.unwrap_or(self.old);
        if self.drained.is_none() && self.old.under_way() == 0 {
            self.drained = Some(since_flip);
        }
        match self.length {
            None => {
                self.during.add(span);
                let is_done = since_flip >= SHORTEST && self.drained.is_some();
                if is_done || since_flip >= LONGEST {
                    self.length = Some(since_flip);
                    self.during.is_whole = true;
                }
            }
            Some(length) if !self.after.is_whole => {
                self.after.add(span);
                self.after.is_whole = since_flip >= length * 2;
            }
            Some(_) => {}
        }
        self.after.is_whole && (self.drained.is_some() || since_flip >= self.bound)
    }

    /// What is known at the flip.
    pub(super) fn at_flip(&self) -> Proof {
        Self { length: Some(SHORTEST), ..self.clone() }.close(self.moved.at, "")
    }

    /// What there is to tell. `cut_short`: why it is asked for before all is known, else empty.
    pub(super) fn close(self, now: Instant, cut_short: &str) -> Proof {
        let (old, flip) = (&self.old, &self.at_flip);
        // A crash comes before the flip that it causes: what it took counts as in flight then.
        let lost_before = flip.lost.saturating_sub(self.shortly_before.lost);
        let so_far = || now.saturating_duration_since(self.moved.at).min(LONGEST);
        let length = self.length.unwrap_or_else(so_far);
        let last_pick = old.last_pick.and_then(|last| last.checked_duration_since(self.moved.at));
        Proof {
            from: self.from,
            to: self.to,
            flipped_ms: self
                .moved
                .time
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| micros(since) / 1000),
            flip_us: micros(self.moved.took),
            last_pick_us: last_pick.map(micros),
            in_flight: flip.under_way() + lost_before,
            given_after: old.picked.saturating_sub(flip.picked),
            finished: old.finished.saturating_sub(flip.finished),
            errors: server_errors(old).saturating_sub(server_errors(flip)),
            aborted: old.aborted.saturating_sub(flip.aborted),
            timeouts: old.timeouts.saturating_sub(flip.timeouts),
            lost: old.lost.saturating_sub(flip.lost) + lost_before,
            sent_again: old.sent_again.saturating_sub(self.shortly_before.sent_again),
            cancelled: old.cancelled.saturating_sub(flip.cancelled),
            still_in_flight: old.under_way(),
            drained_ms: self.drained.map(|drained| micros(drained) / 1000),
            window_ms: micros(length) / 1000,
            before: window(&self.before, self.moved.at, length),
            during: self.during.window(),
            after: self.after.window(),
            cut_short: cut_short.to_owned(),
            rollout: self.rollout,
        }
    }
}

impl Compared {
    fn add(&mut self, span: &Span) {
        self.counts.extend(Vec::from(span.latency.clone()));
        // Adds up what is in the same buckets, so that it stays small.
        self.counts = Latency::from(std::mem::take(&mut self.counts)).into();
    }

    fn window(self) -> Window {
        of(self.counts)
    }
}

/// What was answered in `length` before `flip`. A span that reaches further back counts as well: looks are closer to each
/// other than any length.
fn window(spans: &[Span], flip: Instant, length: Duration) -> Window {
    let within = |span: &&Span| flip.saturating_duration_since(span.until) < length;
    of(spans.iter().filter(within).flat_map(|span| Vec::from(span.latency.clone())).collect())
}

fn of(counts: Vec<(u16, u64)>) -> Window {
    let latency = Latency::from(counts);
    Window { requests: latency.count(), p99_us: latency.p99() }
}

/// Answers with a status of 500 and above.
fn server_errors(tally: &Tally) -> u64 {
    tally.errors.saturating_sub(tally.aborted)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::TICK;
    use super::*;

    const DRAIN: Duration = Duration::from_secs(30);
    const BOUND: Duration = DRAIN.saturating_add(GONE);

    fn party(instance: u64, release: u64) -> Party {
        Party { instance, release, version: "1.0.0".to_owned(), digest: "aa".to_owned() }
    }

    /// A module under load around one flip, looked at every [`TICK`].
    struct Story {
        swap: Swap,
        flip: Instant,
        now: Instant,
    }

    impl Story {
        /// With 100 requests of 2 ms in each tick before the flip, which comes with `at_flip` counted.
        fn begin(shortly_before: Tally, at_flip: Tally) -> Self {
            let flip = Instant::now() + LONGEST * 2;
            let before = (0..20).rev().map(|back| span(flip - TICK * back, 2_000, 100)).collect();
            let took = Duration::from_micros(40);
            let moved = Moved { at: flip, time: SystemTime::UNIX_EPOCH, took };
            let swap = Swap::begin(party(1, 6), party(2, 7), moved, shortly_before, at_flip, before, DRAIN);
            Self { swap, flip, now: flip }
        }

        /// The next look; 100 requests of `took_us` were answered since the last one.
        fn tick(&mut self, old: Tally, took_us: u64) -> bool {
            self.now += TICK;
            self.swap.look(self.now, Some(old), &span(self.now, took_us, 100))
        }

        /// Looks until all is known.
        fn finish(mut self, old: Tally, took_us: u64) -> (Proof, Duration) {
            while !self.tick(old, took_us) {
                assert!(self.now < self.flip + BOUND * 2, "it never ends");
            }
            (self.swap.close(self.now, ""), self.now - self.flip)
        }
    }

    fn span(until: Instant, took_us: u64, count: u64) -> Span {
        Span { until, latency: Latency::from_counts([(took_us, count)]) }
    }

    fn balanced(proof: &Proof) -> bool {
        let ended = proof.finished + proof.aborted + proof.timeouts + proof.lost + proof.cancelled;
        proof.in_flight + proof.given_after == ended + proof.still_in_flight
    }

    #[test]
    fn one_that_is_done_at_once_is_told_after_twice_the_shortest_time() {
        let at_flip = Tally { picked: 1000, finished: 988, ..Tally::default() };
        let mut story = Story::begin(at_flip, at_flip);
        let done = Tally { finished: 1000, ..at_flip };
        assert!(!story.tick(done, 3_000) && !story.tick(done, 3_000), "during");
        let (proof, took) = story.finish(done, 2_500);
        assert_eq!(took, SHORTEST * 2);
        assert_eq!((proof.in_flight, proof.finished, proof.lost, proof.still_in_flight), (12, 12, 0, 0));
        assert_eq!((proof.drained_ms, proof.window_ms, proof.flip_us), (Some(500), 1000, 40));
        let requests = [proof.before.requests, proof.during.requests, proof.after.requests];
        assert_eq!(requests, [200, 200, 200], "the same time each");
        let p99 = [&proof.before, &proof.during, &proof.after].map(|window| window.p99_us.unwrap() / 100);
        assert_eq!(p99, [20, 30, 25]);
        assert!(balanced(&proof) && proof.cut_short.is_empty());
    }

    #[test]
    fn the_time_that_is_compared_is_as_long_as_the_old_one_needs() {
        let at_flip = Tally { picked: 10, ..Tally::default() };
        let mut story = Story::begin(at_flip, at_flip);
        for _ in 0..5 {
            assert!(!story.tick(at_flip, 2_000));
        }
        let (proof, took) = story.finish(Tally { finished: 10, ..at_flip }, 2_000);
        assert_eq!((proof.window_ms, took), (3000, TICK * 12));
        assert_eq!([proof.before.requests, proof.during.requests, proof.after.requests], [600, 600, 600]);
    }

    #[test]
    fn a_stream_that_goes_on_is_told_as_such() {
        let at_flip = Tally { picked: 3, ..Tally::default() };
        let (proof, took) = Story::begin(at_flip, at_flip).finish(Tally { finished: 2, ..at_flip }, 2_000);
        assert_eq!((proof.in_flight, proof.finished, proof.still_in_flight), (3, 2, 1));
        assert_eq!((took, proof.drained_ms, proof.window_ms), (BOUND, None, 5000));
        assert!(balanced(&proof));
    }

    /// The links of one that crashes end first; then its traffic moves.
    #[test]
    fn what_a_crash_took_right_before_the_flip_counts() {
        let shortly_before = Tally { picked: 80, finished: 70, lost: 1, sent_again: 1, ..Tally::default() };
        let at_flip = Tally { picked: 95, finished: 86, lost: 9, sent_again: 8, ..Tally::default() };
        let (proof, _) =
            Story::begin(shortly_before, at_flip).finish(Tally { sent_again: 9, ..at_flip }, 2_000);
        assert_eq!((proof.in_flight, proof.finished, proof.lost, proof.sent_again), (8, 0, 8, 8));
        assert!(balanced(&proof));
    }

    #[test]
    fn an_instance_that_is_forgotten_keeps_what_was_seen_last() {
        let at_flip = Tally { picked: 5, ..Tally::default() };
        let mut story = Story::begin(at_flip, at_flip);
        story.tick(Tally { finished: 2, lost: 3, ..at_flip }, 2_000);
        story.now += TICK;
        story.swap.look(story.now, None, &span(story.now, 2_000, 1));
        let proof = story.swap.close(story.now, "");
        assert_eq!((proof.in_flight, proof.finished, proof.lost), (5, 2, 3));
    }

    #[test]
    fn one_that_is_cut_short_tells_what_is_known() {
        let at_flip = Tally { picked: 5, errors: 1, aborted: 1, ..Tally::default() };
        let mut story = Story::begin(at_flip, at_flip);
        assert!(!story.tick(Tally { finished: 4, errors: 2, ..at_flip }, 4_000));
        let proof = story.swap.close(story.now, "traffic moved again");
        assert_eq!((proof.in_flight, proof.finished, proof.errors, proof.still_in_flight), (4, 4, 1, 0));
        let requests = [proof.before.requests, proof.during.requests, proof.after.requests];
        assert_eq!((requests, proof.window_ms), ([100, 100, 0], 500));
        assert_eq!((proof.after.p99_us, proof.cut_short.as_str()), (None, "traffic moved again"));
    }

    #[test]
    fn the_last_pick_counts_from_the_flip_and_only_after_it() {
        let mut story = Story::begin(Tally::default(), Tally::default());
        let late = Tally { last_pick: Some(story.flip + Duration::from_micros(30)), ..Tally::default() };
        story.tick(late, 2_000);
        assert_eq!(story.swap.close(story.now, "").last_pick_us, Some(30));
        let early = Tally { last_pick: Some(Instant::now()), ..Tally::default() };
        let (proof, _) = Story::begin(Tally::default(), Tally::default()).finish(early, 2_000);
        assert_eq!(proof.last_pick_us, None);
    }

    #[test]
    fn a_new_instance_of_a_release_belongs_to_no_rollout_and_no_swap_to_two() {
        let (one, two) = (RolloutId::from("one"), RolloutId::from("two"));
        let mut swap = Story::begin(Tally::default(), Tally::default()).swap;
        swap.belongs_to(&one);
        swap.belongs_to(&two);
        assert_eq!(swap.close(Instant::now(), "").rollout, Some(one));
        let mut restart = Story::begin(Tally::default(), Tally::default()).swap;
        restart.to.release = restart.from.release;
        restart.belongs_to(&two);
        assert_eq!(restart.close(Instant::now(), "").rollout, None);
    }
}
