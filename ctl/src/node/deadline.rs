//! How long a call may take: as long as the node may take over it, and then some, so that the node's own answer, which
//! knows why, comes before ours, which does not.

use std::time::Duration;

use hot_proto::v1::Node;

/// On top of what the node promises: the way there and back, a slow disk, a machine that is busy.
const MARGIN: Duration = Duration::from_secs(15);

/// For a node that does not say how long it gives an instance to become ready; longer than any sensible one.
const UNKNOWN_START: Duration = Duration::from_secs(180);

/// What a node waits for before it answers a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Nothing: it answers from what it knows, or writes a file.
    Nothing,
    /// A rollout that goes back.
    WayBack,
    /// An instance that becomes ready, which may take so long.
    Start(Duration),
}

impl Wait {
    /// For a call that starts an instance of stable on `node`.
    pub(crate) fn start_on(node: &Node) -> Self {
        Self::Start(node.start_deadline.and_then(|span| span.try_into().ok()).unwrap_or(UNKNOWN_START))
    }

    /// When to give up.
    pub(crate) fn deadline(self) -> Duration {
        match self {
            Self::Nothing => MARGIN * 2,
            Self::WayBack => hot_proto::WAY_BACK_WITHIN + MARGIN,
            Self::Start(within) => within.saturating_add(MARGIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Restart` answers within so much more than the start deadline (`hot/v1/nodes.proto`).
    const RESTART_MORE: Duration = Duration::from_secs(1);

    fn start(deadline: Duration) -> Wait {
        let start_deadline = Some(deadline.try_into().expect("fits"));
        Wait::start_on(&Node { start_deadline, ..Node::default() })
    }

    #[test]
    fn the_nodes_own_answer_comes_first() {
        assert!(Wait::WayBack.deadline() >= hot_proto::WAY_BACK_WITHIN + Duration::from_secs(10));
        // The default of a node, and the longest that one can be told.
        for seconds in [1, 30, 31 * 24 * 3600] {
            let promised = Duration::from_secs(seconds);
            assert_eq!(start(promised), Wait::Start(promised));
            assert!(start(promised).deadline() >= promised + RESTART_MORE + Duration::from_secs(10));
        }
    }

    #[test]
    fn a_node_that_promises_nothing_is_given_up_in_the_end() {
        let longest = Wait::start_on(&Node::default()).deadline();
        assert!(longest > Duration::from_secs(60) && longest < Duration::from_secs(300), "{longest:?}");
        let negative = prost_types::Duration { seconds: -1, nanos: 0 };
        assert_eq!(
            Wait::start_on(&Node { start_deadline: Some(negative), ..Node::default() }).deadline(),
            longest
        );
    }
}
