//! The two ends of one direction of one exchange: how much may be sent, and when to grant more.

use thiserror::Error;

use super::INITIAL_WINDOW;

/// The peer broke the credit: it sent more body than it was granted, or granted more than a counter holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the peer exceeded the credit of the exchange")]
pub struct CreditExceeded;

/// What the sender of a body may still send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendCredit {
    left: u32,
}

impl Default for SendCredit {
    fn default() -> Self {
        Self { left: INITIAL_WINDOW }
    }
}

impl SendCredit {
    /// One that begins with less, as the receiver asked for.
    #[must_use]
    pub fn within(window: u32) -> Self {
        Self { left: window.min(INITIAL_WINDOW) }
    }

    /// Bytes that may be sent now.
    #[must_use]
    pub fn available(&self) -> u32 {
        self.left
    }

    /// Takes up to `wanted` bytes of credit and says how many it took; 0 means: wait for a window frame.
    #[must_use = "only what was taken may be sent"]
    pub fn take(&mut self, wanted: usize) -> usize {
        let taken = u32::try_from(wanted).unwrap_or(u32::MAX).min(self.left);
        self.left -= taken;
        // A u32 fits into the usize of every target that we build for.
        usize::try_from(taken).unwrap_or(usize::MAX)
    }

    /// A window frame came.
    pub fn grant(&mut self, credit: u32) -> Result<(), CreditExceeded> {
        self.left = self.left.checked_add(credit).ok_or(CreditExceeded)?;
        Ok(())
    }
}

/// What the receiver of a body has granted, and what it has consumed without granting it anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveCredit {
    granted: u32,
    consumed: u32,
    /// What the sender may have under way, as far as it was asked.
    window: u32,
}

impl Default for ReceiveCredit {
    fn default() -> Self {
        Self::within(INITIAL_WINDOW)
    }
}

impl ReceiveCredit {
    /// That of a sender which was asked to begin with less, and knows how to be asked.
    #[must_use]
    pub fn within(window: u32) -> Self {
        let window = window.min(INITIAL_WINDOW);
        Self { granted: window, consumed: 0, window }
    }

    /// Brings the window nearer to `share`, which is not zero, when `credit` of [`Self::consumed`] is about to be granted: one
    /// that is too large keeps of the credit what it is too large by, and a smaller one doubles if whoever takes the body
    /// `keeps_up`. Returns the credit to grant; 0: none.
    #[must_use = "the credit must be granted to the sender"]
    pub fn resize(&mut self, share: u32, keeps_up: bool, credit: u32) -> u32 {
        let share = share.min(INITIAL_WINDOW);
        let less = credit.min(self.window.saturating_sub(share));
        let more = if keeps_up { self.window.min(share.saturating_sub(self.window)) } else { 0 };
        self.window = self.window - less + more;
        self.granted = (self.granted - less).saturating_add(more);
        credit - less + more
    }

    /// Body bytes came, in whatever frame.
    pub fn received(&mut self, len: usize) -> Result<(), CreditExceeded> {
        let len = u32::try_from(len).map_err(|_beyond_any_credit| CreditExceeded)?;
        self.granted = self.granted.checked_sub(len).ok_or(CreditExceeded)?;
        Ok(())
    }

    /// Received bytes were handed on. Returns the credit to grant with a window frame, once it is worth a frame: at
    /// half of the window, so that the sender never stalls behind a receiver that keeps up.
    #[must_use = "the credit must be granted to the sender"]
    pub fn consumed(&mut self, len: usize) -> Option<u32> {
        self.consumed = self.consumed.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        if self.consumed < self.window / 2 {
            return None;
        }
        let credit = std::mem::take(&mut self.consumed);
        self.granted = self.granted.saturating_add(credit);
        (credit > 0).then_some(credit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_and_a_receiver_that_keep_the_rules_never_stall_and_never_exceed() {
        let mut sender = SendCredit::default();
        let mut receiver = ReceiveCredit::default();
        let mut left: usize = 10 * 1024 * 1024;
        while left > 0 {
            let sent = sender.take(left.min(60_000));
            assert!(sent > 0, "stalled with {left} bytes left");
            left -= sent;
            receiver.received(sent).expect("within the credit");
            if let Some(credit) = receiver.consumed(sent) {
                sender.grant(credit).expect("fits");
            }
            assert!(sender.available() <= INITIAL_WINDOW);
        }
    }

    #[test]
    fn a_small_window_grows_to_the_whole_one_and_never_stalls() {
        let mut sender = SendCredit::within(1000);
        let mut receiver = ReceiveCredit::within(1000);
        let (mut left, mut largest) = (1024 * 1024, 0);
        while left > 0 {
            let sent = sender.take(left);
            assert!(sent > 0, "stalled with {left} bytes left");
            largest = largest.max(sent);
            left -= sent;
            receiver.received(sent).expect("within the credit");
            if let Some(credit) = receiver.consumed(sent) {
                sender.grant(receiver.resize(u32::MAX, true, credit)).expect("fits");
            }
        }
        assert_eq!(largest, usize::try_from(INITIAL_WINDOW).expect("fits"));
        assert_eq!(receiver.resize(u32::MAX, true, 7), 7, "it is as large as it gets");
        assert_eq!(ReceiveCredit::within(1000).resize(1200, true, 500), 700);
        assert_eq!(ReceiveCredit::within(1000).resize(1200, false, 500), 500);
    }

    #[test]
    fn a_large_window_shrinks_with_what_is_taken_and_never_stalls() {
        let mut sender = SendCredit::within(1000);
        let mut receiver = ReceiveCredit::within(1000);
        let (mut left, mut waiting, mut largest) = (100_000, 0, 0);
        while left > 0 || waiting > 0 {
            let sent = sender.take(left);
            left -= sent;
            receiver.received(sent).expect("within the credit");
            waiting += sent;
            let taken = waiting.min(30);
            assert!(taken > 0, "stalled with {left} bytes left");
            waiting -= taken;
            if let Some(credit) = receiver.consumed(taken) {
                sender.grant(receiver.resize(100, false, credit)).expect("fits");
            }
            if left < 50_000 {
                largest = largest.max(waiting + taken);
            }
        }
        assert_eq!(largest, 100);
    }

    #[test]
    fn one_byte_above_the_credit_is_refused() {
        let mut receiver = ReceiveCredit::default();
        let window = usize::try_from(INITIAL_WINDOW).expect("fits");
        receiver.received(window).expect("the whole window");
        assert_eq!(receiver.received(1), Err(CreditExceeded));
        assert_eq!(ReceiveCredit::within(1000).received(1001), Err(CreditExceeded));
        assert_eq!(SendCredit::default().grant(u32::MAX), Err(CreditExceeded));
    }
}
