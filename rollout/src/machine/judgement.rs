//! What was counted in a step, and what it says about each candidate.

use serde::{Deserialize, Serialize};

use super::Rollout;
use super::facts::Facts;
use crate::figures::Figures;
use crate::ident::Module;
use crate::reason::Reason;
use crate::units::{Millis, Time, Weight};
use crate::verdict::{self, Basis, Evidence, Missing, Verdict};

/// For how long samples must call a candidate slow before it is. One stall of a process, as on a crowded machine, delays
/// every request that it has in flight, so these are no independent witnesses; a second later they are outweighed.
const LASTING: Millis = Millis::seconds(1);

/// Since when, and when last, samples called a candidate slow without one between that did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Slow {
    first: Time,
    last: Time,
}

impl Rollout {
    /// The judgement on one module's candidate as things are. `None` for an unknown module.
    #[must_use]
    pub fn verdict(&self, module: &Module) -> Option<Verdict> {
        let verdict = self.momentary(module)?;
        let lasting = self.slow.get(module).is_some_and(|slow| slow.last.since(slow.first) >= LASTING);
        Some(match verdict {
            Verdict::Unhealthy(reason) if is_slow(&reason) && !lasting => {
                Verdict::Undecided(Missing::Clarity { module: module.clone(), suspicion: reason.measured() })
            }
            Verdict::Healthy(_) | Verdict::Unhealthy(_) | Verdict::Undecided(_) => verdict,
        })
    }

    /// Notes whether the sample that just came in leaves the candidate slow.
    pub(super) fn note_slow(&mut self, module: &Module) {
        let now = self.now;
        match self.momentary(module) {
            Some(Verdict::Unhealthy(reason)) if is_slow(&reason) => {
                self.slow.entry(module.clone()).or_insert(Slow { first: now, last: now }).last = now;
            }
            Some(Verdict::Healthy(_) | Verdict::Unhealthy(_) | Verdict::Undecided(_)) | None => {
                self.slow.remove(module);
            }
        }
    }

    /// The judgement as things are at this moment, which a moment may have made.
    fn momentary(&self, module: &Module) -> Option<Verdict> {
        let releases = self.spec.moves.get(module)?;
        if releases.stable.is_none() {
            return Some(Verdict::Healthy(Basis::NothingBeside));
        }
        let evidence = self.evidence(module);
        let silent = self.lagging(|of, facts| of == module && !facts.counted.heard());
        let heard_of_none = evidence.candidate.requests == 0 && evidence.candidate.open.is_empty();
        if !silent.is_empty() && heard_of_none {
            return Some(Verdict::Undecided(Missing::Samples { module: module.clone(), nodes: silent }));
        }
        Some(verdict::judge(module, releases.candidate, &evidence, self.spec.policy.spec()))
    }

    /// What was counted for one module in this step.
    #[must_use]
    pub fn evidence(&self, module: &Module) -> Evidence {
        // A node that only starts its candidate has figures of stable alone: they would compare different machines.
        let carriers: Vec<&Facts> = self
            .nodes
            .values()
            .filter_map(|facts| facts.modules.get(module))
            .filter(|facts| facts.weight.is_some_and(|weight| weight > Weight::ZERO))
            .collect();
        let beside = carriers.iter().any(|facts| facts.weight < Some(Weight::WHOLE));
        let candidate = Figures::sum(carriers.iter().flat_map(|facts| facts.counted.candidate()));
        let stable = if beside {
            Figures::sum(carriers.iter().flat_map(|facts| facts.counted.stable()))
        } else {
            self.baselines.get(module).cloned().unwrap_or_default()
        };
        Evidence { candidate, stable, beside }
    }

    /// The weakest basis of all modules, or what is missing for the first that misses something.
    pub(super) fn step_result(&self) -> Result<Basis, Missing> {
        let mut weakest = Basis::Compared;
        for module in self.spec.moves.keys() {
            match self.verdict(module) {
                Some(Verdict::Undecided(missing)) => return Err(missing),
                Some(Verdict::Healthy(basis)) => weakest = weakest.max(basis),
                Some(Verdict::Unhealthy(_)) | None => {}
            }
        }
        Ok(weakest)
    }

    /// Before the weights change: stable's figures are kept for the step in which it has none.
    pub(super) fn keep_baselines(&mut self) {
        for module in self.modules() {
            let evidence = self.evidence(&module);
            if evidence.beside && evidence.stable.requests > 0 {
                self.baselines.insert(module, evidence.stable);
            }
        }
    }
}

/// It rests on how long requests take.
fn is_slow(reason: &Reason) -> bool {
    match reason {
        Reason::Slow { .. } | Reason::Unanswered { .. } => true,
        Reason::Fast { .. }
        | Reason::ErrorRate { .. }
        | Reason::PrepareFailed { .. }
        | Reason::TooManyFailed { .. }
        | Reason::Deadline { .. }
        | Reason::Aborted { .. }
        | Reason::Superseded { .. }
        | Reason::Rollback { .. }
        | Reason::Foreign(_) => false,
    }
}
