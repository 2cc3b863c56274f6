//! One silence of etcd, whose reason may change while it lasts: who is stopped first and wants a password when it is back has
//! two. Pure.

use std::time::SystemTime;

/// Reasons of one silence that are told as events. Two that take turns all night are no more news than these.
const TOLD: usize = 5;

/// What was told of a silence.
#[derive(Debug, Default)]
pub(super) struct Silence {
    since: Option<SystemTime>,
    told: Vec<String>,
}

impl Silence {
    /// It begins or goes on, for this reason. Gives since when it lasts, and whether the reason is to be told as an event.
    pub(super) fn goes_on(&mut self, why: &str, now: SystemTime) -> (SystemTime, bool) {
        let is_news = self.told.len() < TOLD && !self.told.iter().any(|told| told == why);
        if is_news {
            self.told.push(why.to_owned());
        }
        (*self.since.get_or_insert(now), is_news)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_reason_is_told_once_and_a_few_at_most() {
        let at = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        let mut silence = Silence::default();
        assert_eq!(silence.goes_on("refused", at(1)), (at(1), true));
        assert_eq!(silence.goes_on("no such user", at(2)), (at(1), true), "it lasts since the first");
        assert_eq!(silence.goes_on("refused", at(3)), (at(1), false));
        let news: Vec<bool> = (0..9).map(|n| silence.goes_on(&format!("reason {n}"), at(4)).1).collect();
        assert_eq!(news, [true, true, true, false, false, false, false, false, false]);
    }
}
