//! The zoo: every kind of bad module, on a real node, beside a good one under load. What comes of each is in [`table`]: the
//! verdict and its bound on time, no lost request of the neighbour's nor (safe methods) of stable's, the node's programs the
//! processes of before, and nothing left. Then each once more with what protects from it switched off, when it must do harm.

mod guards;
mod judge;
mod page;
mod rig;
mod table;
mod traces;
mod verdict;

use std::io::Write as _;

use anyhow::{Result, ensure};
use hot_tests::skipped;

use crate::guards::Guard;
use crate::rig::Bench;
use crate::table::{Case, Group, cases};

/// A line of the run, which the test runner shows with a failed test.
fn say(line: &str) {
    // Nothing can be done where that is closed.
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// Why a case can't be tried.
fn lacking(case: &Case) -> Option<&'static str> {
    if case.guards.contains(&Guard::Users) && !rustix::process::geteuid().is_root() {
        return Some("root, who alone gives users away");
    }
    if case.guards.contains(&Guard::Network) && !guards::has_ports() {
        return Some("rules for ports in this kernel");
    }
    (!case.can_be_built()).then_some("a compiler for C++")
}

/// Runs the rows of a group on one node.
fn shows(group: Group) -> Result<()> {
    let all = cases(group);
    let (mut rows, mut wrong) = (page::Rows::new(), Vec::new());
    let (tried, untried): (Vec<&Case>, Vec<&Case>) = all.iter().partition(|case| lacking(case).is_none());
    for case in untried {
        skipped(&format!("{}, for want of {}", case.name, lacking(case).unwrap_or_default()))?;
    }
    if !tried.is_empty() {
        let bench = Bench::start(&[])?;
        for case in tried {
            let seen = bench.run(case)?;
            let misses = judge::misses(case, &seen);
            say(&format!("{}: {:?}, {:?}, {}", case.name, seen.phase, seen.took, seen.reason));
            wrong.extend(misses.into_iter().map(|miss| format!("{}: {}", case.name, miss.text)));
            rows.insert(case.name, seen);
        }
        bench.stop()?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    page::check(group, &all, &rows)
}

/// Runs those rows of a group that something protects from, without it: each must be another one then. Rows with the same
/// protection share a node.
fn harms_without_protection(group: Group) -> Result<()> {
    let mut rows = cases(group);
    rows.retain(|case| !case.guards.is_empty() && case.can_be_built());
    let mut protections: Vec<&[Guard]> = Vec::new();
    for case in &rows {
        if !protections.contains(&case.guards) {
            protections.push(case.guards);
        }
    }
    let mut wrong = Vec::new();
    for off in protections {
        let bench = Bench::start(off)?;
        for case in rows.iter().filter(|case| case.guards == off) {
            let misses = judge::misses(case, &bench.run(case)?);
            let texts: Vec<&str> = misses.iter().map(|miss| &*miss.text).collect();
            let line = format!("{} without {}: {}", case.name, case.protection(), texts.join("; "));
            say(&line);
            if !misses.iter().any(|miss| miss.is_harm_of(case)) {
                wrong.push(format!("it does no harm: {line}"));
            }
        }
        bench.abandon()?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

macro_rules! groups {
    ($($name:ident, $without:ident: $group:ident;)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            shows(Group::$group)
        }

        #[test]
        fn $without() -> Result<()> {
            harms_without_protection(Group::$group)
        }
    )*};
}

groups! {
    loading, loading_without_protection: Loading;
    serving, serving_without_protection: Serving;
    exhaustion, exhaustion_without_protection: Exhaustion;
    attacks, attacks_without_protection: Attacks;
    leftovers, leftovers_without_protection: Leftovers;
}

/// No protection of these can be switched off: what comes from a host is never believed further than its own instance.
#[test]
fn forging() -> Result<()> {
    shows(Group::Forging)
}

/// Every source of the zoo is in the table.
#[test]
fn every_source_has_a_row() -> Result<()> {
    let groups =
        [Group::Loading, Group::Serving, Group::Exhaustion, Group::Attacks, Group::Forging, Group::Leftovers];
    let sources: Vec<&str> =
        groups.into_iter().flat_map(cases).filter_map(|case| case.zoo_source()).collect();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo");
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let is_source = path.extension().is_some_and(|extension| extension != "h");
        ensure!(!is_source || sources.contains(&stem), "{} has no row", path.display());
    }
    Ok(())
}
