//! Stories replay: the machine, told what a story says, stands where it stood in the simulation.

use hot_sim::{many, story};

#[test]
fn a_story_replays_to_where_the_rollout_stood() {
    let mut compared = 0;
    for seed in 0..400 {
        let ran = many::seed(seed);
        if ran.story.trim().is_empty() {
            continue;
        }
        let told = story::replay(&ran.story);
        let last = told.lines().rev().find(|line| line.starts_with("= ")).unwrap_or_default();
        assert_eq!(last, format!("= {}", ran.stands), "seed {seed}:\n{told}");
        compared += 1;
    }
    assert!(compared > 300, "only {compared} seeds had a story");
}
