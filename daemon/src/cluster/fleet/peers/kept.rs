//! Connections that are kept from one call to the next: pure, the time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hot_rollout::Node;

/// Connections that are kept at once: each node calls few others all the time, and all of them only where somebody asks what
/// there is.
const MAX: usize = 64;
/// How old one may be. The certificate of the other side counted when it was made, and may have expired since; and one that
/// nobody uses is not kept for ever.
const AGE: Duration = Duration::from_secs(300);

/// Who is called, and where.
pub(super) type Place = (Node, String);

/// What is kept, by place.
#[derive(Debug)]
pub(super) struct Kept<T>(BTreeMap<Place, One<T>>);

#[derive(Debug)]
struct One<T> {
    what: T,
    made: Instant,
    used: Instant,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Clone> Kept<T> {
    /// Lets go what is too old, and what does not count any more.
    pub(super) fn sweep(&mut self, now: Instant, counts: impl Fn(&T) -> bool) {
        self.0.retain(|_, one| now.saturating_duration_since(one.made) < AGE && counts(&one.what));
    }

    /// What is there for a place.
    pub(super) fn find(&mut self, place: &Place, now: Instant) -> Option<T> {
        let one = self.0.get_mut(place)?;
        one.used = now;
        Some(one.what.clone())
    }

    /// Keeps it, instead of the one that was used least lately where there are too many.
    pub(super) fn keep(&mut self, place: Place, what: T, now: Instant) {
        self.0.insert(place, One { what, made: now, used: now });
        if self.0.len() > MAX {
            let oldest = self.0.iter().min_by_key(|(_, one)| one.used).map(|(place, _)| place.clone());
            oldest.and_then(|place| self.0.remove(&place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: usize) -> Place {
        (Node(format!("n{number}")), format!("https://10.0.0.{number}:7443"))
    }

    #[test]
    fn what_is_kept_is_found_until_it_is_old_or_counts_no_more() {
        let (mut kept, begun) = (Kept::default(), Instant::now());
        kept.keep(place(1), 'a', begun);
        kept.keep(place(2), 'b', begun + AGE / 2);
        assert_eq!(kept.find(&place(1), begun), Some('a'));
        let elsewhere = (place(1).0, place(2).1);
        assert_eq!(kept.find(&elsewhere, begun), None, "the same node at another address");
        kept.sweep(begun + AGE, |_| true);
        assert_eq!((kept.find(&place(1), begun), kept.find(&place(2), begun)), (None, Some('b')));
        kept.sweep(begun + AGE, |what| *what != 'b');
        assert_eq!(kept.find(&place(2), begun), None);
    }

    #[test]
    fn one_too_many_takes_the_place_of_the_one_that_was_used_least_lately() {
        let (mut kept, mut now) = (Kept::default(), Instant::now());
        for number in 0..MAX {
            now += Duration::from_millis(1);
            kept.keep(place(number), number, now);
        }
        now += Duration::from_millis(1);
        assert_eq!(kept.find(&place(0), now), Some(0));
        kept.keep(place(MAX), MAX, now);
        assert_eq!(kept.find(&place(1), now), None);
        assert_eq!((kept.find(&place(0), now), kept.find(&place(MAX), now)), (Some(0), Some(MAX)));
    }
}
