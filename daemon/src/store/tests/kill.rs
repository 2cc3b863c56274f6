//! kill -9 at random moments: a process of its own works on the store and says what it was told is done; this one kills
//! it, opens the store, and looks for all of that. (What a kill can't show, lost writes, is in `power` and `damage`.)

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hot_artifact::Sha256;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::kit::*;
use crate::store::{Event, EventQuery, IndexFound, Options, Recovered, Store, Urgency};

const ROUNDS: u64 = 200;
const FOLDER: &str = "HOT_STORE_KILL_FOLDER";
const ROUND: &str = "HOT_STORE_KILL_ROUND";
const MODULES: [&str; 3] = ["a", "b", "c"];

/// What the worker was told, and what it had begun.
#[derive(Default)]
struct Seen {
    versions: BTreeMap<(String, String), Sha256>,
    /// Removals that were begun; those that were acknowledged.
    removing: BTreeSet<(String, String)>,
    removed: BTreeSet<(String, String)>,
    releases: BTreeSet<(String, u64)>,
    assignments: BTreeMap<String, u64>,
    running: BTreeMap<String, u64>,
    ending: BTreeSet<String>,
    ended: BTreeSet<String>,
    events: BTreeMap<u64, String>,
    acknowledged: usize,
}

impl Seen {
    /// Takes a line of the worker; whether it was an acknowledgement.
    fn take(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split_whitespace().collect();
        let pair = |m: &str, v: &str| (m.to_owned(), v.to_owned());
        match words[..] {
            ["REMOVING", m, v] => drop(self.removing.insert(pair(m, v))),
            ["ENDING", id] => drop(self.ending.insert(id.to_owned())),
            ["ACK", "push", m, v, digest] => {
                self.versions.extend([(pair(m, v), digest.parse().unwrap())]);
            }
            ["ACK", "remove", m, v] => drop(self.removed.insert(pair(m, v))),
            ["ACK", "release", m, n] => {
                assert!(self.releases.insert((m.to_owned(), n.parse().unwrap())), "{line}: given twice");
            }
            ["ACK", "assign", m, n] => drop(self.assignments.insert(m.to_owned(), n.parse().unwrap())),
            ["ACK", "rollout", id, n] => drop(self.running.insert(id.to_owned(), n.parse().unwrap())),
            ["ACK", "end", id] => drop(self.ended.insert(id.to_owned())),
            ["ACK", "event", seq, text] => {
                let former = self.events.insert(seq.parse().unwrap(), text.to_owned());
                assert_eq!(former, None, "{line}: given twice");
            }
            // The test harness writes to the same stream.
            _ => return false,
        }
        if words[0] == "ACK" {
            self.acknowledged += 1;
        }
        words[0] == "ACK"
    }

    fn check(&self, store: &Store, round: u64) {
        for ((m, v), digest) in &self.versions {
            let key = (m.clone(), v.clone());
            let found = store.version(&name(m), &v.parse().unwrap());
            if self.removed.contains(&key) {
                assert!(found.is_empty(), "round {round}: {m} {v} is back");
            } else if !self.removing.contains(&key) {
                assert_eq!(found.first().map(|r| r.digest), Some(*digest), "round {round}: {m} {v}");
            }
        }
        for (m, n) in &self.releases {
            assert!(store.release(&name(m), *n).unwrap().is_some(), "round {round}: release {n} of {m}");
        }
        for (m, n) in &self.assignments {
            let module = store.module(&name(m)).unwrap();
            let found = module.assignment.as_ref().unwrap()["n"].as_u64().unwrap();
            assert!(found >= *n, "round {round}: assignment {found} of {m}, and {n} was acknowledged");
        }
        for (id, n) in &self.running {
            let found = store.rollout(&id.parse().unwrap()).unwrap();
            let found = found.unwrap_or_else(|| panic!("round {round}: rollout {id} is missing"));
            assert!(found.snapshot["step"].as_u64().unwrap() >= *n, "round {round}: rollout {id}");
            let runs = store.rollouts().iter().any(|r| r.id.as_str() == id);
            assert!(!runs || !self.ended.contains(id), "round {round}: rollout {id} runs again");
            assert!(runs || self.ending.contains(id), "round {round}: rollout {id} has ended by itself");
        }
        let events = store.events(&EventQuery { limit: usize::MAX, ..EventQuery::default() }).unwrap();
        let events: BTreeMap<u64, String> = events.into_iter().map(|e| (e.seq, e.event.text)).collect();
        for (seq, text) in &self.events {
            assert_eq!(events.get(seq), Some(text), "round {round}: event {seq}");
        }
    }
}

/// So large that nothing goes because it is old.
fn open_large(folder: &Path) -> (Store, Recovered) {
    Store::open(folder, Options { max_ended_rollouts: 100_000, max_events: 100_000, ..options() }).unwrap()
}

#[test]
fn two_hundred_kills_lose_nothing_that_was_acknowledged() {
    let folder = fast_folder();
    let mut rng = SmallRng::seed_from_u64(2);
    let mut seen = Seen::default();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["store::tests::kill::worker", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut left = rng.random_range(0..12);
        while left > 0 {
            let line = lines.next().expect("the worker ended by itself").unwrap();
            left -= u32::from(seen.take(&line));
        }
        // Somewhere within the next operation: each takes between 0.1 and some milliseconds.
        std::thread::sleep(Duration::from_micros(rng.random_range(0..3000)));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            seen.take(&line.unwrap());
        }

        let (store, found) = open_large(folder.path());
        assert_eq!((&found.lost, &found.moved_aside), (&vec![], &vec![]), "round {round}");
        assert!(
            matches!(found.index, IndexFound::New | IndexFound::Whole),
            "round {round}: {:?}",
            found.index
        );
        seen.check(&store, round);
    }
    assert!(seen.acknowledged > 500, "{} acknowledgements are too few to mean much", seen.acknowledged);
    assert!(
        seen.removed.len() > 5 && seen.ended.len() > 5 && seen.events.len() > 20,
        "not everything was tried"
    );
    let (store, _) = open_large(folder.path());
    for record in MODULES.iter().flat_map(|m| store.versions(&name(m))) {
        let bytes = std::fs::read(folder.path().join(format!("artifacts/{}.so", record.digest))).unwrap();
        assert_eq!(Sha256::of(&bytes), record.digest);
    }
}

/// The process that is killed.
#[test]
#[ignore = "started by the test above, as a process of its own"]
fn worker() {
    let (Ok(folder), Ok(round)) = (std::env::var(FOLDER), std::env::var(ROUND)) else {
        panic!(
            "this is no test by itself: it is started by two_hundred_kills_lose_nothing_that_was_acknowledged"
        )
    };
    let round: u64 = round.parse().unwrap();
    let (store, _) = open_large(Path::new(&folder));
    let mut rng = SmallRng::seed_from_u64(round);
    // Ends the line that the test harness has begun.
    println!();
    for n in 0.. {
        let module = MODULES[rng.random_range(0..MODULES.len())];
        act(&store, &mut rng, module, round * 1_000_000 + n);
    }
}

fn act(store: &Store, rng: &mut SmallRng, m: &str, n: u64) {
    let newest = store.versions(&name(m)).last().cloned();
    match (rng.random_range(0..8), newest) {
        (0 | 1, _) | (_, None) => {
            let bytes = bytes(n, rng.random_range(100..40_000));
            push(store, m, &format!("1.{n}.0"), &bytes, n).unwrap();
            println!("ACK push {m} 1.{n}.0 {}", Sha256::of(&bytes));
        }
        (2, Some(_)) => {
            let oldest = store.versions(&name(m))[0].version.clone();
            println!("REMOVING {m} {oldest}");
            store.remove_version(&name(m), &oldest, n, "ops", "").unwrap();
            println!("ACK remove {m} {oldest}");
        }
        (3, Some(version)) => {
            let mut new = new_release("1.0.0", b"", Some(&n.to_le_bytes()));
            (new.version, new.digest) = (version.version.clone(), version.digest);
            println!("ACK release {m} {}", store.allocate_release(&name(m), new).unwrap().number);
        }
        (4, Some(_)) => {
            assign(store, m, json!({ "n": n }), Urgency::TowardStable);
            println!("ACK assign {m} {n}");
        }
        (5, Some(_)) => {
            let id = store.rollouts().first().map_or_else(|| format!("r{n}"), |r| r.id.to_string());
            store.put_rollout(rollout(&id, None, n), Urgency::Normal).unwrap();
            println!("ACK rollout {id} {n}");
        }
        (6, Some(_)) => {
            let Some(running) = store.rollouts().pop() else { return };
            println!("ENDING {}", running.id);
            let id = running.id.clone();
            store.end_rollout(running).unwrap();
            println!("ACK end {id}");
        }
        (_, Some(_)) => {
            let event = Event {
                at: n,
                module: Some(name(m)),
                rollout: None,
                kind: "test".to_owned(),
                text: format!("event-{n}"),
                fields: serde_json::Map::new(),
            };
            let seq = store.append_event(&event).unwrap();
            store.tidy(std::time::SystemTime::now()).unwrap();
            println!("ACK event {seq} event-{n}");
        }
    }
}
