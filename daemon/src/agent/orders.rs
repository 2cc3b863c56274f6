//! What this node was told to run of a module, and what it makes of that by itself: rules alone. What time it is, and
//! what is ready, is said by whoever asks.

use std::time::{Duration, Instant};

use hot_rollout::{Assignment, Cause, ReleaseNumber, Revision, RolloutId, Standby};

use crate::ledger::{Obeyed, TookBack};

/// The assignment of one module, and how far the node is with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orders {
    pub assignment: Option<Assignment>,
    /// When the assignment was given or renewed last; `None`: not since this hotd began, so that no restart prolongs
    /// what a candidate has left.
    renewed: Option<Instant>,
    /// Since when the assignment with this revision is true.
    pub applied: Option<(Revision, Instant)>,
    /// How instances of the candidate ended since it was first assigned.
    pub(super) ends: Vec<Cause>,
    /// This node took the candidate out of the assignment by itself.
    pub(super) took_back: Option<TookBack>,
    /// What served as stable before, as long as the assignment's stable has not: it stands in for it.
    pub(super) stands_in: Option<ReleaseNumber>,
    /// A person moved traffic to the standby, and no assignment has come since: that of the rollback does.
    by_hand: bool,
}

impl Orders {
    /// Takes `assignment` unless it is older than the one it has. The same revision again is a renewal.
    ///
    /// A standby whose time is not up is kept although a later assignment does not speak of it: trying a candidate,
    /// or taking one back, must not cost the instant way back from stable.
    pub(super) fn accept(&mut self, mut assignment: Assignment, now: Instant) -> bool {
        let known = self.assignment.as_ref();
        if known.is_some_and(|known| known.revision > assignment.revision) {
            return false;
        }
        if self.stays_back(&assignment) {
            return false;
        }
        self.renewed = Some(now);
        if known.is_some_and(|known| known.revision == assignment.revision) {
            return false;
        }
        assignment.standby = assignment.standby.or_else(|| self.standby_to_keep(&assignment, now));
        let candidate =
            |of: Option<&Assignment>| of.and_then(|of| of.candidate.as_ref()).map(|it| it.release);
        if candidate(known) != candidate(Some(&assignment)) {
            self.ends.clear();
        }
        if self.assignment.as_ref().is_none_or(|known| known.rollout != assignment.rollout)
            || self.only_expired()
        {
            self.took_back = None;
        }
        let former = known.and_then(|known| known.stable);
        if former != assignment.stable {
            self.stands_in = self.stands_in.or(former).filter(|release| Some(*release) != assignment.stable);
        }
        self.assignment = Some(assignment);
        self.by_hand = false;
        true
    }

    /// The rollout by which traffic goes where it goes now. `None`: it is not known yet.
    pub(super) fn moved_by(&self) -> Option<&RolloutId> {
        self.assignment.as_ref().filter(|_| !self.by_hand).map(|assignment| &assignment.rollout)
    }

    /// Stable serves: nothing stands in for it any more. False: nothing did.
    pub(super) fn stable_serves(&mut self) -> bool {
        self.stands_in.take().is_some()
    }

    /// Takes what the node obeyed when the last hotd ended. Nobody has renewed it since.
    pub(super) fn recover(&mut self, obeyed: Obeyed, now: Instant) {
        self.accept(obeyed.assignment, now);
        self.took_back = obeyed.took_back;
        self.stands_in = obeyed.stands_in;
        self.renewed = None;
    }

    /// What the node obeys, for [`Orders::recover`] of the next hotd.
    pub(super) fn obeyed(&self) -> Option<Obeyed> {
        let assignment = self.assignment.clone()?;
        Some(Obeyed { assignment, took_back: self.took_back.clone(), stands_in: self.stands_in })
    }

    /// What the node would obey if `assignment` came now.
    pub(super) fn with(&self, assignment: Assignment, now: Instant) -> Option<Obeyed> {
        let mut next = self.clone();
        next.accept(assignment, now);
        next.obeyed()
    }

    /// Assignments up to `revision` are renewed.
    pub(super) fn renew(&mut self, revision: Revision, now: Instant) {
        if self.assignment.as_ref().is_some_and(|assignment| assignment.revision <= revision) {
            self.renewed = Some(now);
        }
    }

    /// Whether `next` has a candidate that this node took back from the same rollout, for more than an expiry: the
    /// driver has not heard of it yet, and is told once more.
    pub(super) fn stays_back(&self, next: &Assignment) -> bool {
        let same = self.assignment.as_ref().is_some_and(|known| known.rollout == next.rollout);
        same && next.candidate.is_some() && self.took_back.is_some() && !self.only_expired()
    }

    fn only_expired(&self) -> bool {
        matches!(&self.took_back, Some(TookBack { cause: Cause::Expired { .. }, .. }))
    }

    /// For how long nobody has renewed the assignment.
    pub(super) fn unrenewed(&self, now: Instant) -> Duration {
        let expiry = || {
            let candidate = self.assignment.as_ref()?.candidate.as_ref()?;
            Some(candidate.expiry.into())
        };
        self.renewed
            .map_or_else(|| expiry().unwrap_or_default(), |renewed| now.saturating_duration_since(renewed))
    }

    /// Whether the assignment can be called applied: not if this node took the candidate out of it.
    pub(super) fn is_whole(&self) -> bool {
        let revision = self.assignment.as_ref().map(|assignment| assignment.revision);
        self.took_back.as_ref().is_none_or(|taken| Some(taken.revision) != revision)
    }

    /// Notes that the assignment is true. False: that was known.
    pub(super) fn is_applied_now(&mut self, now: Instant) -> bool {
        let Some(revision) = self.assignment.as_ref().map(|assignment| assignment.revision) else {
            return false;
        };
        let news = self.applied.is_none_or(|(applied, _)| applied != revision);
        if news {
            self.applied = Some((revision, now));
        }
        news
    }

    /// The node takes the candidate back, and says of which assignment. Nothing without one.
    pub(super) fn take_back(&mut self, cause: Cause) -> Option<Revision> {
        let assignment = self.assignment.as_ref().filter(|of| of.candidate.is_some())?;
        let (revision, without) = (assignment.revision, assignment.without_candidate());
        self.took_back = Some(TookBack { revision, cause });
        self.assignment = Some(without);
        Some(revision)
    }

    /// Goes toward stable by a person's word, from which release to which: see [`super::Agent::turn_back`]. The
    /// revision stays, so that the driver's next word counts.
    pub(super) fn turn_back(
        &mut self,
        to: Option<ReleaseNumber>,
        by: &str,
        ready: impl Fn(ReleaseNumber) -> bool,
        now: Instant,
    ) -> Option<(ReleaseNumber, ReleaseNumber)> {
        let assignment = self.assignment.as_ref()?;
        let stable = assignment.stable?;
        if let Some(candidate) = assignment.candidate.as_ref().map(|candidate| candidate.release) {
            self.take_back(Cause::ByHand { by: by.to_owned() });
            return Some((candidate, stable));
        }
        let standby = assignment.standby.filter(|it| Some(it.release) == to && ready(it.release))?;
        let back = Standby { release: stable, keep: standby.keep };
        let next = Assignment { stable: Some(standby.release), standby: Some(back), ..assignment.clone() };
        // What served is now the standby, from this moment on.
        self.applied = Some((assignment.revision, now));
        self.assignment = Some(next);
        self.stands_in = None;
        self.by_hand = true;
        Some((stable, standby.release))
    }

    /// A standby whose time is up is not wanted any more. True if there was one.
    pub(super) fn let_standby_go(&mut self, now: Instant) -> bool {
        let over = self.standby_left(now).is_some_and(|left| left.is_zero());
        match self.assignment.as_mut().filter(|_| over) {
            Some(assignment) => assignment.standby.take().is_some(),
            None => false,
        }
    }

    /// The standby is not wanted any more, whatever time it has left.
    pub(super) fn dismiss_standby(&mut self) {
        if let Some(assignment) = self.assignment.as_mut() {
            assignment.standby = None;
        }
    }

    /// The standby that it has, where `next` leaves room for it.
    fn standby_to_keep(&self, next: &Assignment, now: Instant) -> Option<Standby> {
        let known = self.assignment.as_ref()?;
        let standby = known.standby?;
        let left = self.standby_left(now).unwrap_or_else(|| standby.keep.into());
        let same_stable = next.stable.is_some() && known.stable == next.stable;
        let free = next.candidate.as_ref().is_none_or(|candidate| candidate.release != standby.release);
        (same_stable && free && !left.is_zero()).then(|| Standby { keep: left.into(), ..standby })
    }

    /// How long the standby is still kept; `None` without one, or before the assignment is applied.
    fn standby_left(&self, now: Instant) -> Option<Duration> {
        let assignment = self.assignment.as_ref()?;
        let keep = Duration::from(assignment.standby?.keep);
        let (revision, since) = self.applied?;
        (revision == assignment.revision).then(|| keep.saturating_sub(now.saturating_duration_since(since)))
    }

    /// The releases that are to run.
    pub(super) fn wanted(&self) -> Vec<ReleaseNumber> {
        let weights = self.assignment.as_ref().map(Assignment::weights).unwrap_or_default();
        weights.into_iter().map(|(release, ..)| release).collect()
    }

    /// The release that is tried.
    pub(super) fn candidate(&self) -> Option<ReleaseNumber> {
        Some(self.assignment.as_ref()?.candidate.as_ref()?.release)
    }

    /// The release that is kept as an instant way back.
    pub(super) fn standby(&self) -> Option<ReleaseNumber> {
        Some(self.assignment.as_ref()?.standby?.release)
    }

    /// The release that is to serve as stable.
    pub(crate) fn stable(&self) -> Option<ReleaseNumber> {
        self.assignment.as_ref()?.stable
    }
}

#[cfg(test)]
mod tests {
    use hot_rollout::{Candidate, FastLimits, Millis, Policy, Weight};

    use super::*;

    const R1: ReleaseNumber = ReleaseNumber(1);
    const R2: ReleaseNumber = ReleaseNumber(2);

    fn given(revision: u64, rollout: &str, stable: u64, candidate: Option<u64>) -> Assignment {
        Assignment {
            module: "greeter".into(),
            revision: Revision(revision),
            rollout: rollout.into(),
            stable: Some(ReleaseNumber(stable)),
            candidate: candidate.map(|release| Candidate {
                release: ReleaseNumber(release),
                weight: Weight::percent(10),
                limits: FastLimits::of(&Policy::default()),
                expiry: Millis::seconds(60),
            }),
            standby: None,
        }
    }

    fn with_standby(of: Assignment, release: u64, keep: Millis) -> Assignment {
        Assignment { standby: Some(Standby { release: ReleaseNumber(release), keep }), ..of }
    }

    /// Orders whose one assignment came at the time that is returned.
    fn orders(assignment: Assignment) -> (Orders, Instant) {
        let (mut orders, now) = (Orders::default(), Instant::now());
        assert!(orders.accept(assignment, now));
        (orders, now)
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn crash() -> Cause {
        Cause::Crashed { signal: 11, text: String::new() }
    }

    #[test]
    fn the_highest_revision_counts_and_the_same_again_renews() {
        let (mut orders, now) = orders(given(5, "a", 1, Some(2)));
        let later = now + seconds(9);
        assert!(!orders.accept(given(4, "a", 1, None), later));
        assert_eq!(orders.unrenewed(later), seconds(9), "an older one renews nothing");
        assert!(!orders.accept(given(5, "a", 1, None), later), "one revision has one content");
        assert_eq!((orders.unrenewed(later), orders.candidate()), (seconds(0), Some(R2)));
        orders.renew(Revision(4), later + seconds(1));
        assert_eq!(orders.unrenewed(later + seconds(1)), seconds(1));
        orders.renew(Revision(5), later + seconds(1));
        assert_eq!(orders.unrenewed(later + seconds(1)), seconds(0));
        assert!(orders.accept(given(6, "a", 1, None), later));
        assert_eq!(orders.candidate(), None);
    }

    #[test]
    fn a_restart_does_not_prolong_a_candidate() {
        let (mut orders, now) = (Orders::default(), Instant::now());
        orders
            .recover(Obeyed { assignment: given(5, "a", 1, Some(2)), took_back: None, stands_in: None }, now);
        assert_eq!(orders.unrenewed(now), seconds(60));
        assert!(orders.accept(given(6, "a", 1, Some(2)), now));
        assert_eq!(orders.unrenewed(now), seconds(0));
    }

    #[test]
    fn what_was_taken_back_stays_back_for_its_rollout() {
        let (mut orders, now) = orders(given(5, "a", 1, Some(2)));
        assert_eq!(orders.take_back(crash()), Some(Revision(5)));
        assert_eq!(orders.take_back(crash()), None);
        assert!(!orders.is_whole(), "it is not to be called applied");
        assert!(!orders.accept(given(6, "a", 1, Some(2)), now));
        assert_eq!(orders.candidate(), None);
        assert!(orders.accept(given(7, "a", 1, None), now));
        assert!(orders.took_back.is_some(), "it is said until another rollout begins");
        assert!(orders.is_whole());
        assert!(orders.accept(given(8, "b", 1, Some(2)), now));
        assert!(orders.took_back.is_none());
    }

    #[test]
    fn what_was_taken_back_stays_back_over_a_restart() {
        let (mut orders, now) = orders(given(5, "a", 1, Some(2)));
        orders.take_back(crash());
        let mut next = Orders::default();
        next.recover(orders.obeyed().unwrap(), now);
        assert!(!next.is_whole());
        assert!(!next.accept(given(22, "a", 1, Some(2)), now), "the rollout that was resumed gives it again");
        assert_eq!((next.candidate(), next.took_back.map(|it| it.revision)), (None, Some(Revision(5))));
    }

    #[test]
    fn a_standby_that_is_kept_over_a_trial_is_written_down() {
        let (mut orders, now) = orders(with_standby(given(5, "a", 2, None), 1, Millis::seconds(600)));
        let next = orders.with(given(6, "b", 2, Some(3)), now).unwrap();
        assert_eq!(next.assignment.standby.map(|standby| standby.release), Some(R1));
        assert_eq!(orders.assignment.as_ref().map(|it| it.revision), Some(Revision(5)), "it is only asked");
        assert!(orders.accept(given(6, "b", 2, Some(3)), now));
        assert_eq!(orders.obeyed(), Some(next));
    }

    #[test]
    fn what_served_stands_in_until_another_stable_has_served() {
        let (mut orders, now) = orders(given(5, "a", 2, None));
        assert_eq!(orders.stands_in, None);
        assert!(orders.accept(given(6, "b", 1, None), now));
        assert_eq!(orders.stands_in, Some(R2));
        // Over a restart, and over a stable that never served.
        let mut next = Orders::default();
        next.recover(orders.obeyed().unwrap(), now);
        assert!(next.accept(given(7, "c", 1, Some(3)), now));
        assert!(next.accept(given(8, "c", 3, None), now));
        assert_eq!(next.stands_in, Some(R2));
        assert!(next.stable_serves() && !next.stable_serves());
        assert!(next.accept(given(9, "d", 2, None), now));
        assert_eq!(next.stands_in, Some(ReleaseNumber(3)));
        assert!(next.accept(given(10, "e", 3, None), now));
        assert_eq!(next.stands_in, None, "it is stable itself");
    }

    #[test]
    fn what_only_expired_may_be_given_again() {
        let (mut orders, now) = orders(given(5, "a", 1, Some(2)));
        orders.take_back(Cause::Expired { after: Millis::seconds(60) });
        assert!(orders.accept(given(6, "a", 1, Some(2)), now));
        assert_eq!((orders.candidate(), orders.took_back.is_none()), (Some(R2), true));
    }

    #[test]
    fn ends_are_those_of_one_candidate() {
        let (mut orders, now) = orders(given(5, "a", 1, Some(2)));
        orders.ends.push(crash());
        assert!(orders.accept(given(6, "a", 1, Some(2)), now));
        assert_eq!(orders.ends.len(), 1);
        assert!(orders.accept(given(7, "b", 1, Some(3)), now));
        assert!(orders.ends.is_empty());
    }

    #[test]
    fn a_person_takes_a_candidate_back_and_it_stays_back() {
        let (mut orders, now) = orders(given(5, "a", 1, Some(2)));
        assert_eq!(orders.turn_back(None, "ada", |_| true, now), Some((R2, R1)));
        assert!(!orders.accept(given(6, "a", 1, Some(2)), now));
        assert_eq!(orders.turn_back(None, "ada", |_| true, now), None, "there is nothing left to take back");
    }

    #[test]
    fn a_person_goes_back_to_a_standby_that_is_ready() {
        let (mut orders, now) = orders(with_standby(given(5, "a", 2, None), 1, Millis::seconds(600)));
        assert_eq!(orders.turn_back(Some(R1), "ada", |_| false, now), None);
        assert_eq!(orders.turn_back(Some(ReleaseNumber(9)), "ada", |_| true, now), None);
        assert_eq!(orders.turn_back(Some(R1), "ada", |_| true, now), Some((R2, R1)));
        let assignment = orders.assignment.as_ref().unwrap();
        assert_eq!((assignment.stable, assignment.standby.map(|it| it.release)), (Some(R1), Some(R2)));
        assert_eq!(orders.standby_left(now + seconds(1)), Some(seconds(599)), "its time begins anew");
    }

    #[test]
    fn a_standby_outlives_a_trial_and_ends_when_its_time_is_up() {
        let (mut orders, now) = orders(with_standby(given(5, "a", 2, None), 1, Millis::seconds(600)));
        assert!(orders.is_applied_now(now) && !orders.is_applied_now(now));
        assert!(!orders.let_standby_go(now + seconds(599)));
        assert!(orders.accept(given(6, "b", 2, Some(3)), now + seconds(100)));
        let kept = orders.assignment.as_ref().unwrap().standby.unwrap();
        assert_eq!((kept.release, kept.keep), (R1, Millis::seconds(500)));
        assert!(orders.standby_left(now + seconds(100)).is_none(), "its time goes on when this is applied");
        assert!(orders.is_applied_now(now + seconds(100)));
        assert!(orders.let_standby_go(now + seconds(600)));
        assert!(!orders.let_standby_go(now + seconds(600)));
        assert_eq!(orders.assignment.as_ref().unwrap().standby, None);
    }
}
