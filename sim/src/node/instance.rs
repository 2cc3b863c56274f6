//! One release that starts, runs and ends on one node.

use hot_rollout::{Cause, Millis, ReleaseNumber, Time};

use crate::scenario::Releases;
use crate::truth::{Truth, When};

/// How long a node waits before it starts again what ended and must serve.
const BACK_OFF: Millis = Millis::seconds(5);

/// One instance.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) state: State,
    /// Requests that it had since it was ready.
    pub(super) requests: u64,
}

/// Where it is.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// It is ready, or has failed, at that time.
    Starting { due: Time, becomes: Result<(), Cause> },
    /// It serves.
    Ready { since: Time },
    /// It failed or ended; it is started again at that time.
    Gone { again: Time },
}

impl Instance {
    /// Starts it.
    pub(super) fn start(truth: &Truth, place: usize, deadline: Millis, now: Time) -> Self {
        let late = (deadline, Err(Cause::StartTimeout { limit: deadline }));
        let (after, becomes) = match truth.starts(place) {
            Some(Ok(after)) if after < deadline => (after, Ok(())),
            Some(Err(after)) if after < deadline => {
                (after, Err(Cause::LoadFailed { text: "undefined symbol: gone".to_owned() }))
            }
            Some(Ok(_) | Err(_)) | None => late,
        };
        Self { state: State::Starting { due: now.plus(after), becomes }, requests: 0 }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// It has failed, and is tried again by and by.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone { .. })
    }

    /// When something becomes of it by itself.
    pub(super) fn due(&self) -> Option<Time> {
        match &self.state {
            State::Starting { due, .. } => Some(*due),
            State::Gone { again } => Some(*again),
            State::Ready { .. } => None,
        }
    }

    /// What its own truth has come to by now: why it ended, if it did.
    pub(super) fn ended(&self, truth: &Truth, place: usize, now: Time) -> Option<Cause> {
        let State::Ready { since } = self.state else { return None };
        let end = truth.end.filter(|end| end.only.is_none_or(|only| only == place))?;
        let over = match end.when {
            When::Requests(count) => self.requests >= count,
            When::After(span) => now >= since.plus(span),
        };
        over.then(|| end.how.cause())
    }

    /// It is gone from now on.
    pub(super) fn go(&mut self, now: Time) {
        (self.state, self.requests) = (State::Gone { again: now.plus(BACK_OFF) }, 0);
    }
}

/// What a release does.
pub(super) fn truth(releases: &Releases, release: ReleaseNumber) -> &Truth {
    let place = usize::try_from(release.0.saturating_sub(1)).unwrap_or(usize::MAX);
    releases.truths.get(place).unwrap_or(&releases.truths[releases.truths.len() - 1])
}
