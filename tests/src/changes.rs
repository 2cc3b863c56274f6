//! What was written to an etcd, change by change: the one witness that does not depend on when one looks.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::node::WAIT;
use crate::{Etcd, Follow};

/// The test's own key, the change of which comes after all that were asked for.
const LAST: &str = "test/last";
/// The key of who leads.
const LEADER: &str = "hot/v1/fleet/leader";
/// Where assignments are, by node and module.
const ASSIGNMENTS: &str = "hot/v1/assignments/";

/// Where releases are, by module and number.
const RELEASES: &str = "hot/v1/fleet/releases/";

/// One change of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub key: String,
    /// The revision at which it came to be.
    pub created: i64,
    /// The revision of this change.
    pub revision: i64,
    /// What it is from then on; none: gone.
    pub value: Option<String>,
}

impl Etcd {
    /// Every change so far, in their order, from a revision on (1: the first).
    ///
    /// # Errors
    /// When etcd does not answer, or has compacted some of them.
    pub fn changes(&self, from: i64) -> Result<Vec<Change>> {
        // Its own change says that all before it were told.
        let last = self.revision()?;
        let end = Instant::now() + WAIT;
        loop {
            match self.changes_up_to(from, last) {
                // A member that was cut off has no leader for some moments still.
                Err(error) if format!("{error:#}").contains("no leader") && Instant::now() < end => {}
                changes => return changes,
            }
        }
    }

    fn changes_up_to(&self, from: i64, last: i64) -> Result<Vec<Change>> {
        let mut command = self.etcdctl();
        command.args(["watch", "--rev", &from.to_string(), "-w", "fields", "--prefix", ""]);
        let mut watch = Follow::start(command)?;
        let mut reader = Reader::default();
        watch.wait(WAIT, |line| {
            reader.read(line);
            (reader.all.last()?.revision >= last).then_some(())
        })?;
        Ok(reader.all)
    }

    /// Forgets all changes up to now. Gives the first revision of which the changes are there still.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub fn compact(&self) -> Result<i64> {
        let revision = self.revision()?;
        self.ctl(&["compact", &revision.to_string()])?;
        Ok(revision + 1)
    }

    /// A revision of now, which is the test's own.
    fn revision(&self) -> Result<i64> {
        self.put(LAST, "")?;
        let text = self.ctl(&["get", "-w", "fields", LAST])?;
        let line = text.lines().find_map(|line| line.strip_prefix("\"ModRevision\" : "));
        line.context("a revision")?.trim().parse().context("a revision")
    }
}

/// Checks that no word of a leader was written but in its own term: a change of what only leaders write is made while there
/// is one, and an assignment has the epoch of the one that leads at its revision. Gives the epochs, in their order.
///
/// # Errors
/// The first change for which that is not so.
pub fn check_terms(changes: &[Change]) -> Result<Vec<i64>> {
    let (mut epochs, mut leads) = (Vec::new(), None);
    for change in changes {
        let is_leaders = LEADERS.iter().any(|folder| change.key.starts_with(folder));
        ensure!(!is_leaders || leads.is_some(), "nobody leads, and yet there is {change:?}");
        let Some(value) = &change.value else {
            leads = leads.filter(|_| change.key != LEADER);
            continue;
        };
        if change.key == LEADER {
            // Put once more by who leads, as it is: an answer was lost.
            if leads == Some(change.created) {
                continue;
            }
            ensure!(epochs.last().is_none_or(|last| *last < change.created), "{change:?} after {epochs:?}");
            leads = Some(change.created);
            epochs.extend(leads);
        } else if change.key.starts_with(ASSIGNMENTS) {
            // What does not parse is no leader's word, and nobody obeys it.
            let Ok(given) = serde_json::from_str::<Given>(value) else { continue };
            ensure!(Some(given.epoch) == leads, "{leads:?} leads, and yet there is {change:?}");
        }
    }
    Ok(epochs)
}

/// The most of its traffic that each node was ever told to give each version of a module, basis points. What does not parse
/// tells nothing.
pub fn most_told(changes: &[Change], module: &str) -> BTreeMap<(String, String), u32> {
    let (mut versions, mut most) = (BTreeMap::new(), BTreeMap::new());
    let (releases, own) = (format!("{RELEASES}{module}/"), format!("/{module}"));
    for change in changes {
        let Some(value) = &change.value else { continue };
        if let Some(number) = change.key.strip_prefix(&releases) {
            if let (Ok(number), Ok(release)) = (number.parse::<u64>(), serde_json::from_str::<Release>(value))
            {
                versions.insert(number, release.version);
            }
            continue;
        }
        let node = change.key.strip_prefix(ASSIGNMENTS).and_then(|place| place.strip_suffix(&own));
        let given = serde_json::from_str::<Given>(value).ok().and_then(|value| value.given);
        let (Some(node), Some(Direction { assignment })) = (node, given) else { continue };
        let candidate = assignment.candidate.map(|candidate| (candidate.release, candidate.weight));
        // Stable gets all as soon as a candidate is no more.
        let stable = assignment.stable.map(|release| (release, WHOLE));
        for (release, weight) in candidate.into_iter().chain(stable) {
            let Some(version) = versions.get(&release) else { continue };
            let known = most.entry((node.to_owned(), version.clone())).or_insert(0);
            *known = weight.max(*known);
        }
    }
    most
}

/// All of a node's traffic.
const WHOLE: u32 = 10_000;

/// What only leaders write.
const LEADERS: [&str; 6] = [
    ASSIGNMENTS,
    RELEASES,
    "hot/v1/rollouts/",
    "hot/v1/renewals/",
    "hot/v1/fleet/modules/",
    "hot/v1/fleet/cordons/",
];

/// The parts of an assignment's value that are looked at here.
#[derive(Deserialize)]
struct Given {
    epoch: i64,
    given: Option<Direction>,
}

#[derive(Deserialize)]
struct Release {
    version: String,
}

#[derive(Deserialize)]
struct Direction {
    assignment: Assignment,
}

#[derive(Deserialize)]
struct Assignment {
    stable: Option<u64>,
    candidate: Option<Candidate>,
}

#[derive(Deserialize)]
struct Candidate {
    release: u64,
    weight: u32,
}

/// Reads what `etcdctl watch -w fields` prints: a line for each member of each change, the lease last.
#[derive(Default)]
struct Reader {
    all: Vec<Change>,
    now: Change,
    gone: bool,
}

impl Reader {
    fn read(&mut self, line: &str) {
        let Some((name, value)) = line.split_once(" : ") else { return };
        match name {
            "\"Type\"" => (self.now, self.gone) = (Change::default(), value == "DELETE"),
            "\"Key\"" => self.now.key = unquoted(value),
            "\"CreateRevision\"" => self.now.created = value.parse().unwrap_or_default(),
            "\"ModRevision\"" => self.now.revision = value.parse().unwrap_or_default(),
            "\"Value\"" => self.now.value = (!self.gone).then(|| unquoted(value)),
            "\"Lease\"" => self.all.push(std::mem::take(&mut self.now)),
            _ => {}
        }
    }
}

/// Text as Go quotes it. What is no text to JSON, as the rubbish of tests, stays quoted.
fn unquoted(text: &str) -> String {
    serde_json::from_str(text).unwrap_or_else(|_rubbish| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, created: i64, revision: i64, value: Option<&str>) -> Change {
        Change { key: key.to_owned(), created, revision, value: value.map(str::to_owned) }
    }

    #[test]
    fn what_etcdctl_prints_is_read() {
        let mut reader = Reader::default();
        let printed = r#""Revision" : 4
"Type" : PUT
"Key" : "a/b"
"CreateRevision" : 2
"ModRevision" : 3
"Version" : 1
"Value" : "{\"x\":\"a : b\"}"
"Lease" : 0
"Type" : DELETE
"Key" : "a/b"
"CreateRevision" : 0
"ModRevision" : 4
"Version" : 0
"Value" : ""
"Lease" : 0"#;
        printed.lines().for_each(|line| reader.read(line));
        let put = change("a/b", 2, 3, Some(r#"{"x":"a : b"}"#));
        assert_eq!(reader.all, [put, change("a/b", 0, 4, None)]);
    }

    #[test]
    fn a_word_out_of_its_term_is_found() -> Result<()> {
        let said = |epoch: i64| format!(r#"{{"epoch":{epoch}}}"#);
        let leader = |epoch| change(LEADER, epoch, epoch, Some("{}"));
        let given = |revision, epoch| change("hot/v1/assignments/n1/probe", 2, revision, Some(&said(epoch)));
        let ended = |revision| change(LEADER, 0, revision, None);
        assert_eq!(check_terms(&[leader(1), given(2, 1), ended(3), leader(4), given(5, 4)])?, [1, 4]);
        assert!(check_terms(&[leader(1), ended(3), leader(4), given(5, 1)]).is_err(), "the former leader's");
        assert!(check_terms(&[leader(1), ended(3), given(4, 1)]).is_err(), "nobody's");
        let rollout = change("hot/v1/rollouts/r1", 4, 4, Some("{}"));
        assert!(check_terms(&[leader(1), ended(3), rollout]).is_err(), "nobody's");
        Ok(())
    }

    #[test]
    fn the_most_is_of_a_node_and_a_version() {
        let release = |number: u64| {
            let value = format!(r#"{{"version":"1.{number}.0"}}"#);
            change(&format!("{RELEASES}probe/{number:010}"), 1, 1, Some(&value))
        };
        let given = |node: &str, weight: u32| {
            let assignment = format!(
                r#"{{"assignment":{{"stable":1,"candidate":{{"release":2,"weight":{weight}}}}},"direction":"onward"}}"#
            );
            let value = format!(r#"{{"epoch":1,"given":{assignment}}}"#);
            change(&format!("{ASSIGNMENTS}{node}/probe"), 2, 2, Some(&value))
        };
        let changes = [release(1), release(2), given("n1", 500), given("n1", 0), given("n2", 700)];
        let most = most_told(&changes, "probe");
        let of = |node: &str, version: &str| most.get(&(node.to_owned(), version.to_owned())).copied();
        let all = [of("n1", "1.1.0"), of("n1", "1.2.0"), of("n2", "1.2.0"), of("n3", "1.2.0")];
        assert_eq!(all, [Some(WHOLE), Some(500), Some(700), None]);
    }
}
