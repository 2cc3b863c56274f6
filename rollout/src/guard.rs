//! What a node decides alone: whether to take its candidate back, with the leader dead and the cluster store gone.
//!
//! Only ever toward stable. The node's agent asks [`judge`] on every end of an instance, on every health result and at
//! least once a second, and then does [`Assignment::without_candidate`] at once, before it tells anybody.

use crate::assignment::{Assignment, FastLimits};
use crate::figures::Figures;
use crate::reason::Cause;
use crate::units::Millis;
use crate::verdict;

/// What a node knows about its candidate.
#[derive(Clone, Copy, Debug)]
pub struct Signals<'a> {
    /// How its instances ended without being told to, since the candidate was first assigned, in order.
    pub ends: &'a [Cause],
    /// Health checks that failed in a row until now.
    pub health_failures: u32,
    /// What the last failed check said.
    pub health_text: &'a str,
    /// The candidate's requests on this node since it has its present weight.
    pub candidate: &'a Figures,
    /// Stable's requests on this node over the same time.
    pub stable: &'a Figures,
    /// How long ago the assignment was accepted or renewed, whichever is later, on a clock that no restart sets back.
    pub unrenewed: Millis,
}

/// The node takes its candidate back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeBack {
    /// Why.
    pub reason: Cause,
}

/// Whether the node takes its candidate back by itself, and why. `None` without a candidate.
#[must_use]
pub fn judge(assignment: &Assignment, signals: &Signals<'_>) -> Option<TakeBack> {
    let candidate = assignment.candidate.as_ref()?;
    let limits = &candidate.limits;
    let allowed = usize::try_from(limits.ends).unwrap_or(usize::MAX);
    if signals.ends.len() > allowed {
        return signals.ends.last().cloned().map(|reason| TakeBack { reason });
    }
    if signals.health_failures >= limits.health_failures {
        let (failures, limit) = (signals.health_failures, limits.health_failures);
        return Some(TakeBack {
            reason: Cause::FailingHealth { failures, limit, text: signals.health_text.to_owned() },
        });
    }
    if verdict::over_cap(signals.candidate, signals.stable, limits.error_rate, limits.min_requests) {
        let Figures { errors, requests, .. } = *signals.candidate;
        return Some(TakeBack { reason: Cause::Errors { errors, requests, limit: limits.error_rate } });
    }
    if let Some(reason) = unanswered(limits, signals) {
        return Some(TakeBack { reason });
    }
    if signals.unrenewed >= candidate.expiry {
        return Some(TakeBack { reason: Cause::Expired { after: signals.unrenewed } });
    }
    None
}

/// So many of the candidate's requests are not answered that no comparison is needed. Only where stable serves beside
/// it, and answers: alone, a long answer may be what a module is for.
fn unanswered(limits: &FastLimits, signals: &Signals<'_>) -> Option<Cause> {
    let Signals { candidate, stable, .. } = signals;
    let usual = stable.p99().filter(|_| stable.requests >= limits.min_requests)?;
    let after = limits.hung_after.max(Millis::of_micros(usual.saturating_mul(2)));
    let micros = after.0.saturating_mul(1000);
    let failing = |figures: &Figures| {
        let (errors, requests) = figures.slower_than(micros);
        Figures { requests, errors, ..Figures::default() }
    };
    let (hung, beside) = (failing(candidate), failing(stable));
    let open = candidate.open.above(micros);
    let hung = Figures { errors: open, ..hung };
    verdict::over_cap(&hung, &beside, limits.error_rate, limits.min_requests).then_some(Cause::Unanswered {
        open,
        requests: hung.requests,
        after,
        limit: limits.error_rate,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::Candidate;
    use crate::figures::Latency;
    use crate::ident::{ReleaseNumber, Revision};
    use crate::policy::Policy;
    use crate::units::{Share, Weight};

    fn assignment() -> Assignment {
        Assignment {
            module: "greeter".into(),
            revision: Revision(7),
            rollout: "ro-1".into(),
            stable: Some(ReleaseNumber(1)),
            candidate: Some(Candidate {
                release: ReleaseNumber(2),
                weight: Weight::percent(10),
                limits: FastLimits::of(&Policy::default()),
                expiry: Millis::seconds(60),
            }),
            standby: None,
        }
    }

    fn figures(errors: u64, requests: u64) -> Figures {
        Figures { requests, errors, ..Figures::default() }
    }

    struct Known {
        ends: Vec<Cause>,
        health_failures: u32,
        candidate: Figures,
        stable: Figures,
        unrenewed: u64,
    }

    impl Known {
        fn judged(&self, assignment: &Assignment) -> Option<Cause> {
            let signals = Signals {
                ends: &self.ends,
                health_failures: self.health_failures,
                health_text: "no database",
                candidate: &self.candidate,
                stable: &self.stable,
                unrenewed: Millis(self.unrenewed),
            };
            judge(assignment, &signals).map(|take_back| take_back.reason)
        }
    }

    /// Everything is one short of its limit.
    fn within() -> Known {
        Known {
            ends: vec![],
            health_failures: 2,
            candidate: figures(499, 1000),
            stable: figures(0, 9000),
            unrenewed: 59_999,
        }
    }

    fn crash() -> Cause {
        Cause::Crashed { signal: 11, text: String::new() }
    }

    #[test]
    fn all_within_the_limits_stays() {
        assert_eq!(within().judged(&assignment()), None);
    }

    #[test]
    fn each_limit_takes_it_back() {
        let limit = Share::percent(50);
        for (known, reason) in [
            (Known { ends: vec![crash()], ..within() }, crash()),
            (
                Known { health_failures: 3, ..within() },
                Cause::FailingHealth { failures: 3, limit: 3, text: "no database".to_owned() },
            ),
            (
                Known { candidate: figures(20, 20), ..within() },
                Cause::Errors { errors: 20, requests: 20, limit },
            ),
            (
                Known { candidate: figures(500, 1000), ..within() },
                Cause::Errors { errors: 500, requests: 1000, limit },
            ),
            (Known { unrenewed: 60_000, ..within() }, Cause::Expired { after: Millis(60_000) }),
        ] {
            assert_eq!(known.judged(&assignment()), Some(reason));
        }
    }

    #[test]
    fn too_few_requests_say_nothing() {
        let known = Known { candidate: figures(19, 19), ..within() };
        assert_eq!(known.judged(&assignment()), None);
    }

    #[test]
    fn when_stable_fails_as_well_the_candidate_is_not_to_blame() {
        let known = Known { candidate: figures(1000, 1000), stable: figures(9000, 9000), ..within() };
        assert_eq!(known.judged(&assignment()), None);
    }

    /// `answered` in 4 ms, and `open` requests that have waited for `seconds`.
    fn waiting(answered: u64, open: u64, seconds: u64) -> Figures {
        Figures {
            requests: answered,
            errors: 0,
            latency: Latency::from_counts([(4000, answered)]),
            open: Latency::from_counts([(seconds * 1_000_000, open)]),
        }
    }

    #[test]
    fn one_that_answers_no_more_goes_back() {
        let known = |candidate, stable| Known { candidate, stable, ..within() }.judged(&assignment());
        let hung = |open, requests| {
            let (after, limit) = (Millis::seconds(5), Share::percent(50));
            Some(Cause::Unanswered { open, requests, after, limit })
        };
        assert_eq!(known(waiting(10, 10, 6), waiting(180, 0, 0)), hung(10, 20));
        assert_eq!(known(waiting(0, 20, 6), waiting(180, 0, 0)), hung(20, 20));
        assert_eq!(known(waiting(0, 20, 4), waiting(180, 0, 0)), None, "not for long enough");
        assert_eq!(known(waiting(0, 19, 60), waiting(180, 0, 0)), None, "too few");
        assert_eq!(known(waiting(21, 20, 6), waiting(180, 0, 0)), None, "most are answered");
    }

    #[test]
    fn where_stable_has_long_requests_nobody_hangs() {
        let known = |candidate, stable| Known { candidate, stable, ..within() }.judged(&assignment());
        assert_eq!(known(waiting(0, 20, 6), waiting(100, 100, 6)), None, "streams");
        assert_eq!(known(waiting(0, 20, 6), waiting(0, 0, 0)), None, "nothing beside it");
        let slow =
            Figures { requests: 90, latency: Latency::from_counts([(8_000_000, 90)]), ..waiting(0, 0, 0) };
        assert_eq!(known(waiting(0, 20, 6), slow), None, "stable takes 8 s");
    }

    #[test]
    fn without_a_candidate_there_is_nothing_to_take_back() {
        let known = Known { ends: vec![crash()], unrenewed: u64::MAX, ..within() };
        assert_eq!(known.judged(&assignment().without_candidate()), None);
    }
}
