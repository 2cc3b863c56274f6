//! A random world for each seed.
//!
//! Most worlds are small, since what goes wrong in a fleet goes wrong with three nodes; some have twenty. Spans are short
//! (a bake is some seconds, a deadline some minutes), since the rules depend on their order and not on their length. The
//! test `coverage` holds this generator to reaching all that can be reached.
//!
//! | room | what it is for |
//! |---|---|
//! | `releases` | what the releases do |
//! | `trouble` | what people do, and what goes wrong |

mod releases;
mod trouble;

use std::num::NonZeroU32;

use hot_rollout::{Millis, Policy, PolicySpec, Share, Step};

use crate::scenario::{Machine, Net, Scenario};
use crate::seed::{Dice, Purpose};
use crate::traffic::Traffic;

/// The world of a seed.
#[must_use]
pub fn scenario(seed: u64) -> Scenario {
    let mut dice = Dice::new(seed, Purpose::Scenario);
    let dice = &mut dice;
    let machines = machines(dice);
    let zones = machines.iter().any(|machine| machine.zone.is_some());
    let policy = policy(dice, zones, machines.len());
    let on = (zones && dice.percent(20)).then(|| "a".to_owned());
    let modules = releases::modules(dice, machines.len());
    let traffic = traffic(dice);
    let calm = dice.percent(15);
    let (orders, faults, crashes) = if calm {
        (Vec::new(), Vec::new(), Vec::new())
    } else {
        (
            trouble::orders(dice, &modules, machines.len()),
            trouble::faults(dice, &machines),
            trouble::crashes(dice),
        )
    };
    let shared_outage = dice.percent(8).then(|| {
        let part = dice.pick(&[0.3, 0.9, 1.0]);
        (Millis::seconds(dice.below(30)), Millis::seconds(dice.between(5, 90)), part)
    });
    Scenario {
        net: net(dice, calm),
        tick: Millis(dice.pick(&[1000, 1000, 2000, 2000, 3000, 4000])),
        machines,
        modules,
        on,
        policy,
        traffic,
        shared_outage,
        orders,
        faults,
        crashes,
        planted: None,
    }
}

fn machines(dice: &mut Dice) -> Vec<Machine> {
    let count = match dice.weighted(&[25, 45, 25, 5]) {
        0 => 1,
        1 => dice.between(2, 4),
        2 => dice.between(5, 9),
        _ => dice.between(10, 20),
    };
    let zones = dice.percent(35);
    let count = usize::try_from(count).unwrap_or(1);
    (0..count)
        .map(|place| {
            let drawn = if zones { dice.pick(&["a", "b", "c", ""]) } else { "" };
            // The first is there, and in the zone that a push may be for: so there is somebody for it.
            let first = place == 0;
            let zone = if zones && first { "a" } else { drawn };
            Machine {
                zone: (!zone.is_empty()).then(|| zone.to_owned()),
                member: first || dice.percent(90),
                ..Machine::numbered(place)
            }
        })
        .collect()
}

fn policy(dice: &mut Dice, zones: bool, nodes: usize) -> Policy {
    let shares: &[u8] = match dice.weighted(&[30, 20, 20, 10, 10, 10]) {
        0 => &[10, 50, 100],
        1 => &[100],
        2 => &[50, 100],
        3 => &[1, 20, 60, 100],
        4 => &[30, 90, 100],
        _ => &[5, 100],
    };
    let bake = Millis::seconds(dice.pick(&[0, 3, 5, 10, 15]));
    let steps = shares.iter().map(|share| Step { share: Share::percent(*share), bake }).collect();
    let parallel = dice.percent(30).then(|| NonZeroU32::new(u32::try_from(dice.between(1, 3)).unwrap_or(1)));
    let failing = if dice.percent(35) { dice.between(1, 3) } else { 0 };
    let spec = PolicySpec {
        steps,
        min_requests: dice.pick(&[5, 20, 20, 50]),
        patience: Millis::seconds(dice.pick(&[5, 20, 40, 400])),
        start_deadline: Millis::seconds(dice.between(2, 10)),
        standby: Millis::seconds(dice.pick(&[0, 30, 60])),
        deadline: Millis::seconds(dice.pick(&[90, 120, 200, 300])),
        expiry: Millis::seconds(dice.pick(&[3, 6, 10, 15, 30])),
        spread: dice.percent(15),
        spread_over: (zones && dice.percent(60)).then(|| "zone".to_owned()),
        max_parallel: parallel.flatten(),
        max_failing: u32::try_from(failing.min(nodes as u64)).unwrap_or(0),
        ..PolicySpec::default()
    };
    Policy::new(spec).unwrap_or_default()
}

fn traffic(dice: &mut Dice) -> Traffic {
    let rate = dice.pick(&[200, 1000, 5000, 20_000, 100_000, 1_000_000]);
    match dice.weighted(&[8, 8, 44, 15, 8, 9, 8]) {
        0 => Traffic::None,
        1 => Traffic::Constant(rate),
        2 => Traffic::Poisson(rate),
        3 => Traffic::Bursts {
            rate: rate / 10,
            burst: rate * 3,
            lasts: Millis::seconds(dice.between(1, 5)),
            every: Millis::seconds(dice.between(6, 30)),
        },
        4 => Traffic::DayAndNight { rate, day: Millis::seconds(dice.between(20, 120)) },
        5 => Traffic::OneAMinute,
        _ => Traffic::Stops { rate, after: Millis::seconds(dice.below(40)) },
    }
}

fn net(dice: &mut Dice, calm: bool) -> Net {
    Net {
        delay: Millis(dice.pick(&[1, 20, 200, 1500])),
        lost: if calm { 0 } else { dice.pick(&[0, 0, 5, 30]) },
        twice: if calm { 0 } else { dice.pick(&[0, 5, 20]) },
        again: dice.pick(&[1, 1, 3]),
        lease: Millis::seconds(dice.pick(&[2, 5, 10])),
    }
}
