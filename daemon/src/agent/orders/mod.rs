//! What this node was told to run of a module, and what it makes of that by itself: rules alone. What time it is, and
//! what is ready, is said by whoever asks.

mod local;

use std::time::{Duration, Instant};

use hot_rollout::{Assignment, Cause, ReleaseNumber, Revision, RolloutId, Standby};

use crate::ledger::{LocalRollback, Obeyed, TookBack};

/// An assignment as it comes.
#[derive(Clone, Debug)]
pub struct Word {
    /// What the node is to run.
    pub assignment: Assignment,
    /// The revision of etcd that wrote it: what etcd has of it now counts, whatever was said before. None: this node's own
    /// driver gives it, whose assignments are in the order of their own revisions.
    pub written: Option<i64>,
}

/// The assignment of one module, and how far the node is with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orders {
    pub assignment: Option<Assignment>,
    /// The last word that was taken, as it came; not over a restart.
    given: Option<Assignment>,
    /// See [`Word::written`].
    pub(super) written: Option<i64>,
    /// A person went back on this node alone: words that go another way are not taken.
    pub(super) local: Option<LocalRollback>,
    /// A word was not taken for that, and none has been since: what the node does is not what its fleet wants.
    passed_over: bool,
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
    /// Takes an assignment unless it is older than the one it has. The same again is a renewal.
    ///
    /// A standby whose time is not up is kept although a later assignment does not speak of it: trying a candidate,
    /// or taking one back, must not cost the instant way back from stable.
    pub(super) fn accept(&mut self, word: impl Into<Word>, now: Instant) -> bool {
        let Word { mut assignment, written } = word.into();
        let known = self.assignment.as_ref();
        let older = |known: &Assignment| written.is_none() && known.revision > assignment.revision;
        if known.is_some_and(older) || self.stays_back(&assignment) {
            return false;
        }
        if !self.may_take(&assignment) {
            self.passed_over = true;
            return false;
        }
        self.renewed = Some(now);
        (self.local, self.passed_over) = (None, false);
        let again = match written {
            None => known.is_some_and(|known| known.revision == assignment.revision),
            Some(_) => self.given.as_ref() == Some(&assignment),
        };
        self.written = written;
        if again {
            return false;
        }
        self.given = Some(assignment.clone());
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
        let Obeyed { assignment, took_back, stands_in, written, local, passed_over } = obeyed;
        self.accept(Word { assignment, written }, now);
        (self.took_back, self.stands_in) = (took_back, stands_in);
        (self.local, self.passed_over) = (local, passed_over);
        // As it is now it may be another than it was when it came.
        (self.renewed, self.given) = (None, None);
    }

    /// What the node obeys, for [`Orders::recover`] of the next hotd.
    pub(super) fn obeyed(&self) -> Option<Obeyed> {
        let assignment = self.assignment.clone()?;
        Some(Obeyed {
            assignment,
            took_back: self.took_back.clone(),
            stands_in: self.stands_in,
            written: self.written,
            local: self.local.clone(),
            passed_over: self.passed_over,
        })
    }

    /// What the node would obey if this came now.
    pub(super) fn with(&self, word: Word, now: Instant) -> Option<Obeyed> {
        let mut next = self.clone();
        next.accept(word, now);
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

    /// Whether the assignment can be called applied: not if this node took the candidate out of it, or a person went
    /// another way here.
    pub(super) fn is_whole(&self) -> bool {
        self.local.is_none() && !self.passed_over && !self.has_just_taken_back()
    }

    /// Whether the node took the candidate out of the assignment that it has, and was told nothing since.
    fn has_just_taken_back(&self) -> bool {
        let revision = self.assignment.as_ref().map(|assignment| assignment.revision);
        self.took_back.as_ref().is_some_and(|taken| Some(taken.revision) == revision)
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
        let release = assignment.candidate.as_ref().map(|candidate| candidate.release);
        self.took_back = Some(TookBack { revision, release, cause });
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

    /// The release that is tried, or was until the node took it back by itself, of which its fleet has not said anything yet.
    pub(super) fn trial(&self) -> Option<ReleaseNumber> {
        let taken = self.took_back.as_ref().filter(|_| self.has_just_taken_back());
        self.candidate().or_else(|| taken?.release)
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

impl From<Assignment> for Word {
    /// A word of this node's own driver.
    fn from(assignment: Assignment) -> Self {
        Self { assignment, written: None }
    }
}

#[cfg(test)]
mod tests;
