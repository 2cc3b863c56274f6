//! Many seeds at once, on as many threads as there are cores. What comes of a seed does not depend on which thread it is
//! on, nor does which failure is told: it is that of the lowest seed.

use std::ops::Range;

use crate::coverage::Coverage;
use crate::run::Ran;
use crate::scenario::Scenario;

/// How many seeds a thread takes at once.
const BATCH: u64 = 64;

/// What came of many seeds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Many {
    /// How many were played. All, unless one was broken.
    pub seeds: u64,
    /// How many things happened in all of them.
    pub happened: u64,
    /// What was gone through in all of them.
    pub coverage: Coverage,
    /// The lowest seed of which something was broken, with what came of it.
    pub broken: Option<(u64, Ran)>,
}

/// Plays what `play` makes of each seed, on `threads` threads. Soon after one is broken no more are begun. `progress` is told
/// now and then how many were played.
pub fn many(
    seeds: Range<u64>,
    threads: usize,
    play: impl Fn(u64) -> Ran + Sync,
    progress: impl Fn(u64) + Sync,
) -> Many {
    let mut all = Many::default();
    let mut next = seeds.start;
    while next < seeds.end && all.broken.is_none() {
        let round = BATCH * threads.max(1) as u64 * 16;
        let until = seeds.end.min(next + round);
        for part in in_parallel(next..until, threads.max(1), &play) {
            all.take(part);
        }
        next = until;
        progress(all.seeds);
    }
    all
}

/// The world of a seed, played.
#[must_use]
pub fn seed(seed: u64) -> Ran {
    crate::run(&crate::generate::scenario(seed), seed)
}

/// What came of each of many seeds in one scenario, in the order of the seeds, without their stories.
#[must_use]
pub fn measure_many(scenario: &Scenario, seeds: Range<u64>, threads: usize) -> Vec<Ran> {
    let threads = threads.max(1) as u64;
    let first = seeds.start;
    let mut parts: Vec<std::vec::IntoIter<Ran>> = std::thread::scope(|scope| {
        let part = |thread: u64| {
            let seeds = (first + thread..seeds.end).step_by(usize::try_from(threads).unwrap_or(1));
            scope.spawn(move || seeds.map(|seed| crate::measure(scenario, seed)).collect::<Vec<Ran>>())
        };
        let running: Vec<_> = (0..threads).map(part).collect();
        running.into_iter().map(|thread| joined(thread.join()).into_iter()).collect()
    });
    let parts_count = parts.len().max(1) as u64;
    let in_turn = |seed: u64| usize::try_from((seed - first) % parts_count).unwrap_or(0);
    (first..seeds.end).filter_map(|seed| parts[in_turn(seed)].next()).collect()
}

fn in_parallel(seeds: Range<u64>, threads: usize, play: &(impl Fn(u64) -> Ran + Sync)) -> Vec<Many> {
    std::thread::scope(|scope| {
        let part = |thread: usize| {
            let seeds = (seeds.start + thread as u64..seeds.end).step_by(threads);
            scope.spawn(move || {
                let mut some = Many::default();
                for seed in seeds {
                    some.play(seed, play(seed));
                    if some.broken.is_some() {
                        break;
                    }
                }
                some
            })
        };
        let running: Vec<_> = (0..threads).map(part).collect();
        running.into_iter().map(|thread| joined(thread.join())).collect()
    })
}

/// A panic of a thread is one of this one.
fn joined<T>(done: std::thread::Result<T>) -> T {
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Many {
    fn play(&mut self, seed: u64, ran: Ran) {
        self.seeds += 1;
        self.happened += ran.happened;
        self.coverage.merge(&ran.coverage);
        if ran.broken.is_some() {
            self.broken = Some((seed, ran));
        }
    }

    fn take(&mut self, part: Self) {
        self.seeds += part.seeds;
        self.happened += part.happened;
        self.coverage.merge(&part.coverage);
        let lower = |one: &(u64, Ran)| self.broken.as_ref().is_none_or(|other| one.0 < other.0);
        if let Some(broken) = part.broken.filter(lower) {
            self.broken = Some(broken);
        }
    }
}
