//! Users come, and are answered by what serves.

use hot_rollout::{Millis, Role, Time, Weight};

use super::{Counter, Instance, Seen, Slot, State, Weather, truth};
use crate::draw::{binomial, multinomial};
use crate::scenario::Scenario;
use crate::seed::Dice;
use crate::truth::{SHAPE, Truth};

impl Slot {
    /// Users come.
    pub(in crate::node) fn serve(
        &mut self,
        place: usize,
        scenario: &Scenario,
        weather: Weather,
        dice: &mut Dice,
        seen: &mut Seen,
    ) {
        seen.failed += self.candidate.let_go(weather.now) + self.stable.let_go(weather.now);
        seen.requests += weather.requests;
        let tried = self.tries().map_or(0, |(_, weight)| u64::from(weight.basis_points()));
        let whole = u64::from(Weight::WHOLE.basis_points());
        let owed = self.owed + weather.requests * tried;
        let (to_candidate, owed) = (owed / whole, owed % whole);
        let to_candidate = to_candidate.min(weather.requests);
        self.owed = if tried == 0 { self.owed } else { owed };
        seen.tried += to_candidate;
        for (release, role, weight) in &self.serving {
            let (count, counter) = match role {
                Role::Candidate => (to_candidate, &mut self.candidate),
                Role::Stable => (weather.requests - to_candidate, &mut self.stable),
                Role::Standby => continue,
            };
            let releases = &scenario.modules[self.index];
            let truth = truth(releases, *release);
            seen.bad += if truth.is_bad(&releases.truths[0]) { count } else { 0 };
            let Some(instance) = self.instances.get_mut(release).filter(|it| it.is_ready()) else {
                // They wait for an instance, and are refused.
                seen.failed += count;
                continue;
            };
            let rate = truth.error_rate(place, *weight == Weight::WHOLE);
            let rate = 1.0 - (1.0 - rate) * (1.0 - weather.outage);
            instance.requests += count;
            seen.failed += answer(counter, instance, truth, (count, rate), weather.now, dice);
        }
        if self.serving.iter().all(|(.., weight)| *weight == Weight::ZERO) {
            seen.failed += weather.requests;
        }
    }
}

/// An instance answers `count` requests, each of which fails at that rate; how many failed by now.
fn answer(
    counter: &mut Counter,
    instance: &Instance,
    truth: &Truth,
    (count, rate): (u64, f64),
    now: Time,
    dice: &mut Dice,
) -> u64 {
    let age = if let State::Ready { since } = instance.state { now.since(since) } else { Millis(0) };
    if let Some(hold) = truth.holds.filter(|hold| age >= hold.from) {
        counter.hold(now, now.plus(hold.open), hold.fails, count);
        return 0;
    }
    let cold = truth.cold.filter(|(span, _)| age < *span).map_or(1, |(_, times)| times);
    let chances = SHAPE.map(|(_, chance)| chance);
    multinomial(dice, count, &chances, |place, part| {
        counter.took(truth.median * cold * SHAPE[place].0 / 1000, part);
    });
    let failed = binomial(dice, count, rate);
    counter.failed(failed);
    failed
}
