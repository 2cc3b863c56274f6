//! Random worlds.

use hot_sim::coverage::Kind;
use hot_sim::scenario::Planted;
use hot_sim::{generate, many, run, story};

use crate::{SEEDS, failure, threads};

/// `HOT_SIM_SEED=7 cargo nextest run -p hot-sim --no-capture seeds` plays that one and prints its story.
#[test]
fn ten_thousand_seeds_break_nothing_and_reach_all_that_can_be_reached() {
    if let Some(seed) = std::env::var("HOT_SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        let scenario = generate::scenario(seed);
        let ran = run(&scenario, seed);
        println!("{scenario:#?}\n\n{}\n{:?}, {:?}", story::replay(&ran.story), ran.outcome, ran.users);
        assert!(ran.broken.is_none(), "{}", failure(seed, &ran));
        return;
    }
    let played = many::many(0..SEEDS, threads(), many::seed, |_| {});
    if let Some((seed, ran)) = &played.broken {
        panic!("{}", failure(*seed, ran));
    }
    assert_eq!(played.seeds, SEEDS);
    let missing: Vec<(Kind, &str)> = played.coverage.missing();
    assert!(
        missing.is_empty(),
        "no seed reaches {missing:?}: make the generator do so, or say in OUT_OF_REACH why not"
    );
    let surprising = played.coverage.surprising();
    assert!(surprising.is_empty(), "called out of reach, and reached: {surprising:?}");
}

#[test]
fn the_same_seed_is_the_same_story_byte_by_byte() {
    for seed in 0..200 {
        let (one, other) = (many::seed(seed), many::seed(seed));
        assert_eq!(one, other, "seed {seed}");
        let (left, right) =
            (format!("{:?}", generate::scenario(seed)), format!("{:?}", generate::scenario(seed)));
        assert_eq!(left, right, "seed {seed}");
    }
    let alone = many::many(0..200, 1, many::seed, |_| {});
    let together = many::many(0..200, 3, many::seed, |_| {});
    assert_eq!(alone, together, "the number of threads changes nothing");
}

/// The driver acts first and writes its snapshot after that, on a step away from stable. Some seed kills it between the
/// two.
#[test]
fn a_driver_that_persists_after_acting_is_found() {
    let planted = |seed| {
        let scenario =
            hot_sim::Scenario { planted: Some(Planted::PersistsAfterActing), ..generate::scenario(seed) };
        run(&scenario, seed)
    };
    let played = many::many(0..SEEDS, threads(), planted, |_| {});
    let Some((seed, ran)) = played.broken else { panic!("{} seeds did not find it", played.seeds) };
    let what = ran.broken.as_ref().map(|broken| broken.what.clone()).unwrap_or_default();
    println!("found with seed {seed}: {what}");
    let of_it = what.contains("no snapshot");
    assert!(of_it, "something else was found in its place: {}", failure(seed, &ran));
    let without = many::seed(seed);
    assert!(without.broken.is_none(), "{}", failure(seed, &without));
}
