//! [`Quiet`]: warnings that anybody on the network can cause, so many a minute and no more.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines in each [`SPAN`].
const LINES: u32 = 10;
const SPAN: Duration = Duration::from_secs(60);

/// Logs some, and counts the rest.
#[derive(Debug, Default)]
pub(super) struct Quiet(Mutex<Option<Minute>>);

#[derive(Debug)]
struct Minute {
    begun: Instant,
    lines: u32,
    unsaid: u64,
}

impl Quiet {
    pub(super) fn warn(&self, text: &str) {
        let Some(unsaid) = self.take(Instant::now()) else { return };
        if unsaid > 0 {
            tracing::warn!("{unsaid} more who were not let in are not in this log");
        }
        tracing::warn!("{text}");
    }

    /// Whether one more line may be, and how many have not been said since the last one that was.
    fn take(&self, now: Instant) -> Option<u64> {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unsaid = match &mut *minute {
            Some(minute) if now.saturating_duration_since(minute.begun) < SPAN => {
                if minute.lines == LINES {
                    minute.unsaid += 1;
                    return None;
                }
                minute.lines += 1;
                return Some(0);
            }
            minute => minute.as_ref().map_or(0, |minute| minute.unsaid),
        };
        *minute = Some(Minute { begun: now, lines: 1, unsaid: 0 });
        Some(unsaid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_said_and_the_rest_is_counted() {
        let (quiet, now) = (Quiet::default(), Instant::now());
        let said =
            |at: Duration, times: u32| (0..times).filter_map(|_| quiet.take(now + at)).collect::<Vec<_>>();
        assert_eq!(said(Duration::ZERO, LINES + 5), [0; LINES as usize]);
        assert!(said(SPAN - Duration::from_millis(1), 2).is_empty());
        assert_eq!(said(SPAN, 2), [7, 0]);
    }
}
