//! What people do in a random world, and what goes wrong there.

use hot_rollout::Millis;

use crate::scenario::{Fault, Machine, Order, Releases};
use crate::seed::Dice;

/// All of it happens within so many milliseconds from the begin; rollouts of random worlds take about as long.
const WITHIN: u64 = 100_000;

pub(super) fn orders(dice: &mut Dice, modules: &[Releases], nodes: usize) -> Vec<(Millis, Order)> {
    let mut orders = Vec::new();
    let place = |dice: &mut Dice| usize::try_from(dice.below(nodes as u64)).unwrap_or(0);
    let mut pushes = modules.iter().map(|of| of.truths.len()).min().unwrap_or(0).saturating_sub(2);
    let count = dice.pick(&[0, 0, 1, 1, 2, 3, 5]);
    for _ in 0..count {
        let at = Millis(dice.below(WITHIN));
        let later = Millis(at.0 + dice.between(1000, 40_000));
        match dice.weighted(&[10, 12, 12, 15, 16, 8, 6, 8]) {
            0 if pushes > 0 => {
                pushes -= 1;
                orders.push((at, Order::Push));
            }
            0 | 1 => orders.push((at, Order::Rollback)),
            2 => orders.push((at, Order::Abort)),
            3 => {
                orders.push((at, Order::Pause));
                if dice.percent(75) {
                    orders.push((later, Order::Resume));
                }
            }
            4 => orders.push((at, Order::Promote { full: dice.percent(50) })),
            5 => orders.push((at, Order::ByHand(place(dice)))),
            6 => {
                let place = place(dice);
                orders.push((at, Order::Alone(place)));
                orders.push((later, Order::Lift(place)));
            }
            _ => {
                let place = place(dice);
                orders.push((at, Order::Cordon(place)));
                orders.push((later, Order::Uncordon(place)));
            }
        }
    }
    orders
}

pub(super) fn faults(dice: &mut Dice, machines: &[Machine]) -> Vec<(Millis, Fault)> {
    let mut faults = Vec::new();
    for place in (0..machines.len()).filter(|place| !machines[*place].member) {
        if dice.percent(70) {
            faults.push((Millis(dice.below(WITHIN)), Fault::Joins(place)));
        }
    }
    let count = dice.pick(&[0, 0, 1, 2, 3, 6]);
    for _ in 0..count {
        let place = usize::try_from(dice.below(machines.len() as u64)).unwrap_or(0);
        let at = Millis(dice.below(WITHIN));
        let later = Millis(at.0 + dice.pick(&[300, 2000, 8000, 25_000, 60_000]));
        match dice.weighted(&[25, 14, 10, 5, 5, 8, 14, 6, 6]) {
            0 => faults.extend([(at, Fault::Cut(place)), (later, Fault::Heal(place))]),
            1 => faults.extend([(at, Fault::Down(place)), (later, Fault::Boots(place))]),
            2 => faults.push((at, Fault::Restarts(place))),
            3 if place > 0 => faults.push((at, Fault::Leaves(place))),
            4 if place > 0 && machines[place].zone.is_some() => {
                faults.push((at, Fault::Relabels(place, dice.pick(&["a", "b"]).to_owned())));
            }
            3..=5 => faults.push((at, Fault::LosesInstances(place))),
            6 => faults.extend([(at, Fault::StoreDown), (later, Fault::StoreUp)]),
            7 => faults.push((at, Fault::ClockAhead(Millis(dice.pick(&[5000, 60_000, 3_600_000]))))),
            _ => faults.push((at, Fault::ClockBack(Millis(dice.pick(&[5000, 60_000]))))),
        }
    }
    faults
}

/// The driver dies after so many effects, once or more often.
pub(super) fn crashes(dice: &mut Dice) -> Vec<(u64, Millis)> {
    let count = dice.pick(&[0, 0, 1, 1, 2, 4]);
    let mut crashes: Vec<(u64, Millis)> = (0..count)
        .map(|_| {
            let most = dice.pick(&[10, 40, 120]);
            (dice.below(most), Millis(dice.pick(&[100, 1000, 5000, 20_000, 60_000])))
        })
        .collect();
    crashes.sort_unstable();
    crashes
}
