//! Ten thousand random worlds, and what makes them worth anything: they are the same each time, they reach all that can be
//! reached, their stories replay, and a fault that is put into the driver is found.

#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "the simulation is pure; its tests write down the stories of what fails"
)]

mod measured;
mod seeds;
mod stories;

use hot_sim::{Ran, story};

/// How many seeds there are in a test.
const SEEDS: u64 = 10_000;

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What is to be read about a seed in which something is broken: the seed, what was broken, and where its story is.
fn failure(seed: u64, ran: &Ran) -> String {
    let Some(broken) = &ran.broken else { return format!("nothing is broken in seed {seed}") };
    let told = format!("# Seed {seed}: {}\n\n{}", broken.what, story::replay(&ran.story));
    let place = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sim-seed-{seed}.txt"));
    let written = std::fs::write(&place, told);
    let place = match written {
        Ok(()) => format!("its story is in {}", place.display()),
        Err(error) => format!("its story can't be written to {}: {error}", place.display()),
    };
    format!("seed {seed}, {} after its begin: {}; {place}", broken.after, broken.what)
}
