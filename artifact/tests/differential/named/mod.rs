//! The cases that have names: cross products, so that every kind of key meets every kind of trouble.

mod armours;
mod blobs;
mod certificates;
mod kinds;
mod lines;
mod revocations;

use std::thread;

use crate::keys::{BYTES, Maker, NAMESPACE, NOW};
use crate::{Case, Outcome, compare, keygen, page};

/// What both should say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Accepted,
    Refused,
    /// Refused by us alone.
    Stricter,
}
use Want::{Accepted, Refused, Stricter};

type Cases = Vec<(Case, Want)>;

/// A signature that counts.
fn good(maker: &Maker, hash: &str) -> Case {
    Case {
        name: format!("{} {hash}", maker.name),
        signature: maker.sign(NAMESPACE, hash, BYTES).armoured(),
        signers: maker.line("anna", "namespaces=\"hot-module\"").into(),
        revoked: None,
        bytes: BYTES.to_vec(),
        now: NOW,
        principal: "anna".to_owned(),
    }
}

fn with(case: &Case, name: &str, change: impl FnOnce(&mut Case)) -> Case {
    let mut case = case.clone();
    case.name = format!("{}: {name}", case.name);
    change(&mut case);
    case
}

/// The outcome of a group of cases.
#[derive(Debug)]
struct Found {
    /// By [`Want`].
    counts: [usize; 3],
    /// The rows of the page that were reached.
    rows: Vec<usize>,
    wrong: Vec<String>,
}

fn ask(cases: Cases) -> Found {
    let (page, oracle) = (page::Page::read(), keygen::Oracle::new());
    let mut all = Found { counts: [0; 3], rows: Vec::new(), wrong: Vec::new() };
    for (case, want) in cases {
        let found = match compare(&case, &oracle, &page) {
            Outcome::BothAccept => Accepted,
            Outcome::BothRefuse => Refused,
            Outcome::Stricter(row) => {
                all.rows.push(row);
                Stricter
            }
            Outcome::Wrong(what) => {
                all.wrong.push(what);
                continue;
            }
        };
        all.counts[found as usize] += 1;
        if found != want {
            all.wrong.push(format!("{}: expected {want:?}, found {found:?}: {:?}", case.name, case.ours()));
        }
    }
    all
}

type Make = fn() -> Cases;

#[test]
fn every_named_case_is_as_expected_and_never_laxer() {
    let groups: [(&str, Make); 7] = [
        ("kinds", kinds::kinds),
        ("times", kinds::times),
        ("lines", lines::lines),
        ("certificates", certificates::certificates),
        ("armours", armours::armours),
        ("blobs", blobs::blobs),
        ("revocations", revocations::revocations),
    ];
    println!("judge: {}", keygen::version());
    let found: Vec<Found> = thread::scope(|scope| {
        let workers: Vec<_> = groups.iter().map(|(_, make)| scope.spawn(|| ask(make()))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a group ends")).collect()
    });
    let mut counts = [0; 3];
    for ((group, _), found) in groups.iter().zip(&found) {
        println!("{group}: {} cases", found.counts.iter().sum::<usize>());
        for (sum, count) in counts.iter_mut().zip(found.counts) {
            *sum += count;
        }
    }
    println!(
        "accepted by both: {}, refused by both: {}, refused by us alone: {}",
        counts[0], counts[1], counts[2]
    );
    let wrong: Vec<&str> = found.iter().flat_map(|found| &found.wrong).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
    assert!(counts.iter().sum::<usize>() >= 300);
    let page = page::Page::read();
    let idle = (0..page.len()).filter(|row| !found.iter().any(|found| found.rows.contains(row)));
    let idle: Vec<String> = idle.map(|row| page.show(row)).collect();
    assert!(idle.is_empty(), "rows of docs/trust.md that no case reaches:\n{}", idle.join("\n"));
}
