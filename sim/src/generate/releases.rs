//! What the releases of a random world do.

use hot_rollout::Millis;

use crate::scenario::Releases;
use crate::seed::Dice;
use crate::truth::{End, HOWS, Hold, Start, Truth, When};

/// More pushes than this are in no random world.
const PUSHES: usize = 3;

pub(super) fn modules(dice: &mut Dice, nodes: usize) -> Vec<Releases> {
    let two = dice.percent(25);
    let streams = dice.percent(4);
    let names: &[&str] = if two { &["auth", "greeter"] } else { &["greeter"] };
    names
        .iter()
        .map(|name| {
            let has_stable = dice.percent(88);
            let mut truths = vec![stable(dice)];
            truths.extend((0..=PUSHES).map(|_| candidate(dice, nodes)));
            if streams {
                for truth in &mut truths {
                    truth.holds = Some(Hold { from: Millis(0), open: Millis::minutes(10), fails: false });
                }
            }
            Releases { module: (*name).into(), has_stable, truths }
        })
        .collect()
}

fn stable(dice: &mut Dice) -> Truth {
    let good = Truth::default();
    match dice.weighted(&[88, 6, 3, 3]) {
        0 => good,
        1 => Truth { errors: dice.pick(&[0.05, 0.3, 0.9]), ..good },
        2 => Truth { end: Some(ended(dice, None)), ..good },
        _ => Truth { holds: Some(hang(dice)), ..good },
    }
}

fn candidate(dice: &mut Dice, nodes: usize) -> Truth {
    let place = usize::try_from(dice.below(nodes as u64)).unwrap_or(0);
    let start = Millis(dice.pick(&[100, 500, 1500, 2500]));
    let good = Truth { start: Start::Ready(start), ..Truth::default() };
    match dice.weighted(&[34, 10, 4, 4, 8, 5, 6, 4, 3, 3, 3, 16]) {
        0 => good,
        1 => Truth { errors: dice.pick(&[0.01, 0.03, 0.1, 0.4, 1.0]), ..good },
        2 => Truth { sick_node: Some((place, 0.8)), ..good },
        3 => Truth { errors_at_whole: Some(0.5), ..good },
        4 => Truth { median: 5000 * dice.pick(&[2, 6, 30, 200]), ..good },
        5 => Truth { cold: Some((Millis::seconds(dice.between(2, 20)), dice.pick(&[3, 20]))), ..good },
        6 => Truth { holds: Some(hang(dice)), ..good },
        7 => Truth { start: Start::Fails(start), ..good },
        8 => Truth { start: Start::FailsOn(place, start), ..good },
        9 => Truth { start: Start::Never, ..good },
        10 => Truth { refused: Some(dice.percent(70).then_some(place)), ..good },
        _ => {
            let only = dice.percent(40).then_some(place);
            Truth { end: Some(ended(dice, only)), ..good }
        }
    }
}

/// Requests get no answer, from some time on, until their deadline.
fn hang(dice: &mut Dice) -> Hold {
    Hold { from: Millis::seconds(dice.pick(&[0, 0, 5, 20])), open: Millis::seconds(30), fails: true }
}

fn ended(dice: &mut Dice, only: Option<usize>) -> End {
    let when = if dice.percent(50) {
        When::Requests(dice.pick(&[1, 10, 200]))
    } else {
        When::After(Millis(dice.pick(&[10, 3000, 10_000, 30_000, 60_000])))
    };
    End { when, how: dice.pick(&HOWS), only }
}
