//! Who is not asked for a while, after it was found wanting: pure, the time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hot_artifact::Sha256;
use hot_rollout::Node;

/// How long one that sent other bytes than those of a digest is not asked for that. Of other digests this says nothing: it
/// may be etcd that lies, of this one.
const LIED: Duration = Duration::from_secs(600);
/// How long one that was too slow is asked only where nobody else is there.
const SLOW: Duration = Duration::from_secs(60);
/// Entries. Beyond, the one that ends first goes.
const MAX: usize = 1024;

/// Nodes, each with what it is not asked for, and until when. None: it is asked last, for anything.
#[derive(Debug, Default)]
pub(super) struct Dropped(BTreeMap<(Node, Option<Sha256>), Instant>);

impl Dropped {
    /// It sent other bytes than those of this digest. Whether that is news.
    pub(super) fn lied(&mut self, node: &Node, digest: Sha256, now: Instant) -> bool {
        self.note((node.clone(), Some(digest)), now, LIED)
    }

    /// It was too slow. Whether that is news.
    pub(super) fn was_slow(&mut self, node: &Node, now: Instant) -> bool {
        self.note((node.clone(), None), now, SLOW)
    }

    /// Whether it is not to be asked for this digest.
    pub(super) fn is_liar(&self, node: &Node, digest: Sha256, now: Instant) -> bool {
        self.is_noted(&(node.clone(), Some(digest)), now)
    }

    /// Whether it is to be asked last.
    pub(super) fn is_slow(&self, node: &Node, now: Instant) -> bool {
        self.is_noted(&(node.clone(), None), now)
    }

    fn is_noted(&self, of: &(Node, Option<Sha256>), now: Instant) -> bool {
        self.0.get(of).is_some_and(|until| now < *until)
    }

    fn note(&mut self, of: (Node, Option<Sha256>), now: Instant, span: Duration) -> bool {
        self.0.retain(|_, until| now < *until);
        let is_news = self.0.insert(of, now + span).is_none();
        if self.0.len() > MAX {
            let first = self.0.iter().min_by_key(|(_, until)| **until).map(|(of, _)| of.clone());
            first.and_then(|of| self.0.remove(&of));
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_news_once_and_over_after_a_while() {
        let (mut dropped, now) = (Dropped::default(), Instant::now());
        let (n1, n2) = (Node("n1".to_owned()), Node("n2".to_owned()));
        let (one, other) = (Sha256::of(b"one"), Sha256::of(b"other"));
        assert!(dropped.lied(&n1, one, now));
        assert!(!dropped.lied(&n1, one, now));
        assert!(dropped.is_liar(&n1, one, now));
        assert!(!dropped.is_liar(&n1, other, now) && !dropped.is_liar(&n2, one, now));
        assert!(!dropped.is_slow(&n1, now));
        assert!(dropped.was_slow(&n2, now));
        assert!(dropped.is_slow(&n2, now) && !dropped.is_slow(&n2, now + SLOW));
        assert!(!dropped.is_liar(&n1, one, now + LIED));
        assert!(dropped.lied(&n1, one, now + LIED), "after that it is news again");
    }

    #[test]
    fn it_is_bounded() {
        let (mut dropped, now) = (Dropped::default(), Instant::now());
        for number in 0..=MAX {
            dropped.was_slow(&Node(format!("n{number}")), now + Duration::from_nanos(number as u64));
        }
        assert_eq!(dropped.0.len(), MAX);
        assert!(!dropped.is_slow(&Node("n0".to_owned()), now), "the first to end went");
    }
}
