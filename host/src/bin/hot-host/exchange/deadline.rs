//! Until when an exchange lasts: the gateway says so with the request, may say otherwise later, and may ask for an end.

use super::{Exchange, Refusal, check};
use std::time::Instant;

/// An exchange's deadline.
#[derive(Debug)]
pub(super) struct Deadline {
    /// `None`: it has none.
    pub(super) at: Option<Instant>,
    /// The gateway has asked for an end.
    pub(super) is_ending: bool,
    /// For when the [alarm](crate::alarm) is set. It is, as long as somebody has left a notice.
    alarm: Option<Instant>,
}

impl Deadline {
    pub(super) const fn new(at: Option<Instant>) -> Self {
        Self { at, is_ending: false, alarm: None }
    }

    pub(super) fn has_passed(&self) -> bool {
        self.at.is_some_and(|at| Instant::now() >= at)
    }

    /// For when the alarm is to be set, if it is not yet.
    pub(super) fn set_alarm(&mut self) -> Option<Instant> {
        let at = self.at.filter(|_| self.alarm.is_none())?;
        self.alarm = Some(at);
        Some(at)
    }
}

impl Exchange {
    /// The deadline as it is now.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.lock().deadline.at
    }

    /// Cancels it if its deadline has passed. The gateway, which has the same deadline or an earlier one, answers by itself.
    pub(crate) fn expire(&self) -> Result<(), Refusal> {
        let mut state = self.state();
        if state.deadline.has_passed() && check(&state).is_ok() {
            state.is_cancelled = true;
            self.tell(&mut state);
        }
        if state.is_cancelled { Err(Refusal::Cancelled) } else { Ok(()) }
    }

    /// Another deadline; with `ends` the gateway asks for an end by then. `alarm` is told for when it was set, if it was,
    /// and for when it is to be set now, if it is: see [`Exchange::notify`].
    pub(crate) fn deadline_came(
        &self,
        at: Option<Instant>,
        ends: bool,
        alarm: impl FnOnce(Option<Instant>, Option<Instant>),
    ) {
        let mut state = self.state();
        if check(&state).is_err() {
            return;
        }
        let is_set = state.deadline.alarm.take();
        state.deadline.at = at;
        state.deadline.is_ending |= ends;
        // Who waits looks at the clock anew, and who waits for this learns of it.
        self.tell(&mut state);
        let to_set = if state.notices.is_empty() { None } else { state.deadline.set_alarm() };
        alarm(is_set, to_set);
    }

    /// For when the alarm is set.
    pub(crate) fn alarm(&self) -> Option<Instant> {
        self.lock().deadline.alarm
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{exchange, exchange_within};
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_deadline_that_moves_is_the_one_that_counts() {
        let (x, _other) = exchange_within(1, b"", false);
        let soon = x.deadline().unwrap();
        x.deadline_came(Some(soon + Duration::from_secs(60)), false, |_, to_set| assert_eq!(to_set, None));
        while Instant::now() < soon {
            std::thread::yield_now();
        }
        assert_eq!(x.expire(), Ok(()));
        x.deadline_came(None, false, |_, _| {});
        assert_eq!((x.expire(), x.deadline()), (Ok(()), None));
        x.deadline_came(Some(soon), true, |_, _| {});
        assert_eq!(x.expire(), Err(Refusal::Cancelled));
        x.deadline_came(None, false, |_, _| panic!("it is over"));
    }

    #[test]
    fn who_waits_for_the_client_learns_of_an_earlier_deadline() {
        let (x, _other) = exchange(b"", false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| x.wait_for(|| x.read()));
            x.deadline_came(Some(Instant::now() + Duration::from_millis(5)), true, |_, _| {});
            assert_eq!(reader.join().unwrap().unwrap_err(), Refusal::Cancelled);
        });
    }
}
