//! Plays the stories in `tests/scenarios/*.txt` and compares what the rollout does with what they say.
//!
//! A story is made of blocks: commands, a line `----`, what comes of it, an empty line. `REWRITE=1 cargo test -p
//! hot-rollout --test scenarios` writes down what comes of it now; then read the difference before you commit it.
//! The commands are those of [`player::Player::play`]; the head of `good_push.txt` explains them.

#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "the rules do no IO and have no environment; their stories are files"
)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a story that cannot be read fails its test")]

mod player;
mod show;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use player::Player;

fn stories() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    paths
}

/// The same story with what came of each block now.
fn replay(story: &str) -> String {
    let mut player = Player::default();
    let mut told = String::new();
    let mut lines = story.lines().peekable();
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            writeln!(told, "{line}").unwrap();
            continue;
        }
        let mut outcome = String::new();
        let mut command = Some(line);
        while let Some(line) = command {
            writeln!(told, "{line}").unwrap();
            player.play(line, &mut outcome);
            command = lines.next_if(|line| *line != "----" && !line.is_empty());
        }
        if lines.next_if_eq(&"----").is_some() {
            while lines.next_if(|line| !line.is_empty()).is_some() {}
        }
        player.close(&mut outcome);
        write!(told, "----\n{outcome}").unwrap();
    }
    told
}

/// The first line in which two texts differ, with its number.
fn difference(expected: &str, found: &str) -> String {
    let pairs = expected.lines().map(Some).chain(std::iter::repeat(None));
    let mut found_lines = found.lines().map(Some).chain(std::iter::repeat(None));
    for (index, expected) in pairs.enumerate() {
        let found = found_lines.next().flatten();
        if expected != found {
            let line = |text: Option<&str>| text.unwrap_or("(end)").to_owned();
            return format!(
                "line {}:\n  expected: {}\n  found:    {}",
                index + 1,
                line(expected),
                line(found)
            );
        }
        if expected.is_none() {
            break;
        }
    }
    "only the last newline differs".to_owned()
}

#[test]
fn every_story_still_goes_as_it_is_told() {
    let rewrite = std::env::var_os("REWRITE").is_some();
    let stories = stories();
    assert!(stories.len() >= 20, "only {} stories found", stories.len());
    let mut wrong = String::new();
    for path in stories {
        let story = std::fs::read_to_string(&path).unwrap();
        let told = replay(&story);
        if told == story {
            continue;
        }
        if rewrite {
            std::fs::write(&path, &told).unwrap();
        } else {
            writeln!(wrong, "{}, {}", path.display(), difference(&story, &told)).unwrap();
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong}\nIf this is right now, run again with REWRITE=1 and read the difference."
    );
}
