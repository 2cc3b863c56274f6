//! `make sim N=1000000`: plays so many seeds, says how far it is now and then, and ends with 1 and the story of the first
//! failure where something is broken. `FROM=SEED` begins at another seed than 0. `make sim-judgement` measures the judgement.

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

use hot_rollout::Millis;
use hot_sim::{judged, many, story};

/// How often it says how far it is.
const SAYS: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &String| text.parse::<u64>().ok();
    let done = match arguments.as_slice() {
        [what, rollouts] if what == "judgement" => number(rollouts).map(judgement),
        [count] => number(count).map(|count| seeds(count, 0)),
        [count, from] => number(count).zip(number(from)).map(|(count, from)| seeds(count, from)),
        _ => None,
    };
    done.unwrap_or_else(|| {
        eprintln!(
            "hot-sim needs how many seeds to play, and may be told from which on: hot-sim 1000000 0; or how many rollouts \
             to measure for each line of a table: hot-sim judgement 10000"
        );
        ExitCode::from(2)
    })
}

/// What the judgement does to releases whose truth is known, as a table.
fn judgement(rollouts: u64) -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{rollouts} rollouts for each line, three nodes, the default policy; medians");
    println!();
    println!(
        "| case | requests/s | taken back | at most (95%) | promoted | time to take back (95%) | reached the candidate | failed | took |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for case in judged::cases() {
        for rate in judged::RATES {
            let begun = Instant::now();
            let found = judged::characteristics(&judged::scenario(&case, rate), rollouts, threads);
            let times = found.to_take_back.map_or_else(
                || "-".to_owned(),
                |(half, most)| format!("{:.1} s ({:.1} s)", seconds(half), seconds(most)),
            );
            let part = |count| 100.0 * hot_sim::draw::float(count) / hot_sim::draw::float(rollouts.max(1));
            println!(
                "| {} | {rate} | {:.2}% | {:.2}% | {:.2}% | {times} | {} | {} | {:.0} s |",
                case.name,
                part(found.taken_back),
                100.0 * found.at_most,
                part(found.promoted),
                found.reached,
                found.failed,
                begun.elapsed().as_secs_f64()
            );
        }
    }
    ExitCode::SUCCESS
}

fn seconds(span: Millis) -> f64 {
    hot_sim::draw::float(span.0) / 1000.0
}

/// So many random worlds.
fn seeds(count: u64, from: u64) -> ExitCode {
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
