//! Good cases, changed at random from a seed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::keys::{BYTES, Maker, NAMESPACE, NOW};
use crate::mutate::{Random, keep, spoil};
use crate::{Case, Outcome, compare, keygen, page};

/// How many without `HOT_MUTATIONS`: some seconds.
const FEW: u64 = 2400;

/// Of 100 mutations, how many are changed only in ways that keep them good.
const KEPT: usize = 55;

const SEED: u64 = 0x7275_7374_2068_6f74;

/// A good case, and what made it.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) maker: Maker,
    pub(crate) case: Case,
}

fn bases() -> Vec<Base> {
    let mut bases = Vec::new();
    for maker in Maker::all() {
        for hash in ["sha256", "sha512"] {
            let case = Case {
                name: format!("{} {hash}", maker.name),
                signature: maker.sign(NAMESPACE, hash, BYTES).armoured(),
                signers: maker.line("anna", "namespaces=\"hot-module\"").into(),
                revoked: None,
                bytes: BYTES.to_vec(),
                now: NOW,
                principal: "anna".to_owned(),
            };
            bases.push(Base { maker: maker.clone(), case });
        }
    }
    bases
}

/// The mutation of this number: the same whenever it is asked for.
fn mutation(bases: &[Base], seed: u64, index: u64) -> Case {
    let mut random = Random::new(seed, index);
    let base = &bases[random.below(bases.len())];
    let donor = &bases[random.below(bases.len())];
    let mut case = base.case.clone();
    let kept = random.chance(KEPT);
    for _ in 0..1 + random.below(3) {
        keep(&mut case, base, &mut random);
    }
    if !kept {
        for _ in 0..1 + random.below(2) {
            spoil(&mut case, base, donor, &mut random);
        }
    }
    case.name = format!("mutation {index} of seed {seed:#x} ({})", case.name);
    case
}

/// How many of each outcome.
#[derive(Debug)]
struct Counts {
    both_accept: u64,
    both_refuse: u64,
    stricter: Vec<u64>,
    wrong: Vec<String>,
}

/// A worker stops at so many differences: the first are enough to look into.
const MANY: usize = 5;

/// Compares all of `range` that are this worker's.
fn work(bases: &[Base], seed: u64, next: &AtomicU64, end: u64) -> Counts {
    let (page, oracle) = (page::Page::read(), keygen::Oracle::new());
    let mut counts = Counts { both_accept: 0, both_refuse: 0, stricter: vec![0; page.len()], wrong: vec![] };
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index >= end || counts.wrong.len() >= MANY {
            return counts;
        }
        match compare(&mutation(bases, seed, index), &oracle, &page) {
            Outcome::BothAccept => counts.both_accept += 1,
            Outcome::BothRefuse => counts.both_refuse += 1,
            Outcome::Stricter(row) => counts.stricter[row] += 1,
            Outcome::Wrong(what) => counts.wrong.push(what),
        }
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn no_mutation_is_taken_more_laxly() {
    let (count, seed) = (number("HOT_MUTATIONS", FEW), number("HOT_SEED", SEED));
    let (bases, next) = (bases(), AtomicU64::new(0));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let all: Vec<Counts> = thread::scope(|scope| {
        let workers: Vec<_> =
            (0..workers).map(|_| scope.spawn(|| work(&bases, seed, &next, count))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker ends")).collect()
    });
    let accepted: u64 = all.iter().map(|counts| counts.both_accept).sum();
    let refused: u64 = all.iter().map(|counts| counts.both_refuse).sum();
    let page = page::Page::read();
    let rows: Vec<u64> =
        (0..page.len()).map(|row| all.iter().map(|counts| counts.stricter[row]).sum()).collect();
    let stricter: u64 = rows.iter().sum();
    println!("judge: {}", keygen::version());
    println!("mutations: {count} (HOT_SEED={seed})");
    println!("accepted by both: {accepted} ({}%)", accepted * 100 / count.max(1));
    println!("refused by both: {refused}");
    println!("refused by us alone: {stricter}, under these rows of docs/trust.md:");
    for (row, found) in rows.iter().enumerate().filter(|(_, found)| **found > 0) {
        println!("{found:>8}  {}", page.show(row));
    }
    let wrong: Vec<&str> = all.iter().flat_map(|counts| &counts.wrong).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(accepted + refused + stricter, count);
    assert!(accepted * 100 >= count * 30, "only {accepted} of {count} are accepted by both");
}
