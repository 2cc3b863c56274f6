//! Runs every target over its inputs in `corpus/`: seeds, and what was found.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, and says at what")]

use std::fs;
use std::path::{Path, PathBuf};

use hot_fuzz::{TARGETS, Target};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// Runs a target over its folder. Both kinds of input have to be there: a target that refuses all tests nothing.
fn replay(name: &str) {
    let target = Target::named(name).unwrap();
    let (mut let_in, mut refused) = (0, 0);
    for file in fs::read_dir(corpus().join(name)).unwrap() {
        let path = file.unwrap().path();
        let input = fs::read(&path).unwrap();
        // A failure's message has no input in it, and a limit of memory ends the process: the output says where.
        println!("{}", path.display());
        if target.run(&input) {
            let_in += 1;
        } else {
            refused += 1;
        }
    }
    assert!(let_in > 0 && refused > 0, "{name}: {let_in} inputs were let in, {refused} refused");
}

macro_rules! replay {
    ($($target:ident)*) => {
        $(#[test] fn $target() { replay(stringify!($target)); })*

        /// A target without a test here, or a folder without a target, is an oversight.
        #[test]
        fn every_target_has_a_folder_and_a_test() {
            let mut folders: Vec<String> = fs::read_dir(corpus())
                .unwrap()
                .map(|folder| folder.unwrap().file_name().into_string().unwrap())
                .collect();
            folders.sort();
            let mut targets = TARGETS.map(|target| target.name);
            targets.sort_unstable();
            let mut tests = [$(stringify!($target)),*];
            tests.sort_unstable();
            assert_eq!(folders, targets);
            assert_eq!(tests.as_slice(), targets);
        }
    };
}

replay! { elf metadata signature signers revoked frames control request response config }

/// The corpus is part of the repository, so it stays small.
#[test]
fn the_corpus_is_below_2_mib() {
    let size =
        |path: PathBuf| fs::read_dir(path).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
    let all: u64 = TARGETS.iter().flat_map(|target| size(corpus().join(target.name))).sum();
    assert!(all < 2 << 20, "{all} bytes; make it smaller: scripts/fuzz TARGET --minimise");
}
