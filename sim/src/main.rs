//! `make sim N=1000000`: plays so many seeds, says how far it is now and then, and ends with 1 and the story of the first
//! failure where something is broken. `FROM=SEED` begins at another seed than 0.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command, and says what it does")]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the command takes arguments, looks at the clock and writes a file; the simulation does not"
)]

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hot_sim::{many, story};

/// How often it says how far it is.
const SAYS: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (count, from) = match (arguments.next(), arguments.next()) {
        (Some(Ok(count)), None) => (count, 0),
        (Some(Ok(count)), Some(Ok(from))) => (count, from),
        _ => {
            eprintln!(
                "hot-sim needs how many seeds to play, and may be told from which on: hot-sim 1000000 0"
            );
            return ExitCode::from(2);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let begun = Instant::now();
    let said = Mutex::new(begun);
    let played = many::many(from..from.saturating_add(count), threads, many::seed, |seeds| {
        let Ok(mut said) = said.lock() else { return };
        if said.elapsed() >= SAYS {
            *said = Instant::now();
            println!("{seeds} of {count} seeds in {} s, nothing broken", begun.elapsed().as_secs());
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    if let Some((seed, ran)) = played.broken {
        let what = ran.broken.map(|broken| broken.what).unwrap_or_default();
        let told = format!("# Seed {seed}: {what}\n\n{}", story::replay(&ran.story));
        let file = format!("sim-seed-{seed}.txt");
        let place = std::env::temp_dir().join(file);
        print!("{told}");
        match std::fs::write(&place, told) {
            Ok(()) => eprintln!("seed {seed} is broken: {what}; its story is in {}", place.display()),
            Err(error) => eprintln!("seed {seed} is broken: {what}; its story can't be written: {error}"),
        }
        return ExitCode::from(1);
    }
    println!(
        "{} seeds, {} events, {seconds:.1} s on {threads} threads: nothing broken",
        played.seeds, played.happened
    );
    for (kind, name) in played.coverage.missing() {
        println!("not reached: {kind:?} {name}");
    }
    ExitCode::SUCCESS
}
