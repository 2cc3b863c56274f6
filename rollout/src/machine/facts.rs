//! What is known of each node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Move, Sample};
use crate::figures::{Figures, Latency};
use crate::ident::{Module, Revision};
use crate::placement::Domain;
use crate::units::{Time, Weight};

/// What is known of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeFacts {
    /// It can be reached, and follows.
    pub(super) up: bool,
    /// A person went back on it alone: it is not up until that is lifted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) alone: bool,
    /// Its failure domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) domain: Domain,
    pub(super) modules: BTreeMap<Module, Facts>,
}

/// What is known of one module on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// It has the artifact.
    pub(super) prepared: bool,
    /// The revision of the assignment that it was last given by this rollout.
    pub(super) given: Option<Revision>,
    /// The candidate's weight in that assignment; `None` if there is no candidate in it.
    pub(super) weight: Option<Weight>,
    /// The revision with which the step's counting began: samples of earlier ones are of another time.
    pub(super) counting: Revision,
    /// The highest of our revisions that it applied.
    pub(super) applied: Revision,
    /// The instance of the release that we move to has passed its checks.
    pub(super) ready: bool,
    /// Since when it should be getting ready and is not.
    pub(super) awaited: Option<Time>,
    pub(super) counted: Counted,
}

/// What a node counted in this step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counted {
    /// What earlier countings came to, both sides.
    past: Pair,
    /// The present counting's latest sample.
    latest: Pair,
    since: Time,
    until: Time,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Pair {
    candidate: Figures,
    stable: Figures,
}

impl NodeFacts {
    /// A node that is up and of which nothing is known.
    pub(super) fn new(moves: &BTreeMap<Module, Move>) -> Self {
        Self {
            up: true,
            alone: false,
            domain: None,
            modules: moves.keys().map(|module| (module.clone(), Facts::default())).collect(),
        }
    }

    /// It was told to start a candidate, without traffic yet, that is not ready.
    pub(super) fn starts(&self) -> bool {
        self.modules.values().any(|facts| facts.weight == Some(Weight::ZERO) && !facts.ready)
    }

    /// It has the artifacts of all modules.
    pub(super) fn prepared(&self) -> bool {
        self.modules.values().all(|facts| facts.prepared)
    }
}

impl Facts {
    /// From this revision on, samples count, and none before.
    pub(super) fn count_anew(&mut self, from: Revision) {
        self.counting = from;
        self.counted = Counted::default();
    }

    /// It applied what it was last given.
    pub(super) fn in_line(&self) -> bool {
        self.given.is_none_or(|given| self.applied >= given)
    }
}

impl Counted {
    /// Takes in a sample. `false`: it is not news.
    pub(super) fn take(&mut self, sample: Sample) -> bool {
        if sample.since > self.since {
            let Pair { candidate, stable } = std::mem::take(&mut self.latest);
            // What was open then has ended since, or is no longer counted: it began before the new counting did.
            self.past.candidate.merge(&Figures { open: Latency::default(), ..candidate });
            self.past.stable.merge(&Figures { open: Latency::default(), ..stable });
            self.since = sample.since;
        } else if sample.since < self.since || sample.until <= self.until {
            return false;
        }
        self.until = sample.until;
        self.latest = Pair { candidate: sample.candidate, stable: sample.stable };
        true
    }

    /// The node has said something about this step.
    pub(super) fn heard(&self) -> bool {
        self.until > Time(0)
    }

    /// The candidate's figures, in two parts.
    pub(super) fn candidate(&self) -> [&Figures; 2] {
        [&self.past.candidate, &self.latest.candidate]
    }

    /// Stable's figures, in two parts.
    pub(super) fn stable(&self) -> [&Figures; 2] {
        [&self.past.stable, &self.latest.stable]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::Node;

    fn sample(since: u64, until: u64, requests: u64) -> Sample {
        let figures = Figures { requests, ..Figures::default() };
        Sample {
            node: Node::from("a"),
            module: Module::from("greeter"),
            revision: Revision(1),
            since: Time(since),
            until: Time(until),
            candidate: figures.clone(),
            stable: figures,
        }
    }

    fn requests_after(samples: &[(u64, u64, u64)]) -> u64 {
        let mut counted = Counted::default();
        for (since, until, requests) in samples {
            let _is_news = counted.take(sample(*since, *until, *requests));
        }
        let sum = |parts| Figures::sum(parts).requests;
        assert_eq!(sum(counted.candidate()), sum(counted.stable()));
        sum(counted.candidate())
    }

    #[test]
    fn the_newest_sample_of_a_counting_replaces_the_others() {
        assert_eq!(requests_after(&[(10, 11, 5), (10, 12, 9)]), 9);
        assert_eq!(requests_after(&[(10, 12, 9), (10, 11, 5)]), 9, "late");
        assert_eq!(requests_after(&[(10, 12, 9), (10, 12, 9)]), 9, "twice");
    }

    #[test]
    fn only_the_present_counting_has_open_requests() {
        let mut counted = Counted::default();
        for (since, open) in [(10, 5), (20, 2)] {
            let mut sample = sample(since, since + 1, 1);
            sample.candidate.open = Latency::from_counts([(9_000_000, open)]);
            assert!(counted.take(sample));
        }
        assert_eq!(Figures::sum(counted.candidate()).open.count(), 2);
    }

    #[test]
    fn a_new_counting_adds_to_the_one_before() {
        assert_eq!(requests_after(&[(10, 12, 9), (20, 21, 4)]), 13);
        assert_eq!(requests_after(&[(10, 12, 9), (20, 21, 4), (10, 13, 12)]), 13, "of the one before, late");
        assert_eq!(requests_after(&[(10, 12, 9), (20, 21, 4), (20, 22, 6)]), 15);
    }
}
