//! What is told of a swap, once it is over: as a sentence for people, and as numbers for programs. It is kept in the
//! history of events, so fields may be added, with a default for their absence.

use std::fmt;

use hot_rollout::RolloutId;
use serde::{Deserialize, Serialize};

use crate::journal::Entry;

/// The kind of event that tells of a swap.
pub(crate) const KIND: &str = "swap.done";

/// The kind of event that tells that one begins, with what is known of it then: no more is, should `hotd` end at once.
pub(crate) const BEGUN: &str = "swap.begun";

/// What became of a swap: of what the old instance had in flight when traffic left it, and of how long requests took.
///
/// `in_flight + given_after = finished + aborted + timeouts + lost + cancelled + still_in_flight`. Pinned requests are in
/// none of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Proof {
    /// What traffic left.
    pub from: Party,
    /// What it went to.
    pub to: Party,
    /// When the new weights began to be published, in milliseconds since 1970.
    pub flipped_ms: u64,
    /// From then until every pick saw them.
    pub flip_us: u64,
    /// From then to the last pick of the old instance; none: it was picked before that alone.
    pub last_pick_us: Option<u64>,
    /// Requests that the old instance had at the flip, and those that it took with it when it crashed right before.
    pub in_flight: u64,
    /// Requests that it was given later all the same: while it is stable, what nobody else has a route or a link for.
    pub given_after: u64,
    /// Those that it answered to the end, whatever the status.
    pub finished: u64,
    /// Those of `finished` with a status of 500 and above.
    pub errors: u64,
    /// Those that it gave up.
    pub aborted: u64,
    /// Those that it did not answer by their deadline.
    pub timeouts: u64,
    /// Those that were lost with it, or with a link to it.
    pub lost: u64,
    /// Those of `lost` that were sent once more, to another instance: their clients saw nothing of it.
    pub sent_again: u64,
    /// Those that ended without its doing: their clients left, or they went elsewhere before it had seen them.
    pub cancelled: u64,
    /// Those that it still has.
    pub still_in_flight: u64,
    /// From the flip until it had nothing in flight any more, told to half a second; none: it still has.
    pub drained_ms: Option<u64>,
    /// How long `before`, `during` and `after` are, each.
    pub window_ms: u64,
    /// What the module answered up to the flip.
    pub before: Window,
    /// What it answered from the flip until the old instance was done.
    pub during: Window,
    /// What it answered after that.
    pub after: Window,
    /// Why this was told before all was known; empty: all was.
    pub cut_short: String,
    /// The rollout by which traffic moved. The event has it already.
    #[serde(skip)]
    pub rollout: Option<RolloutId>,
}

/// One instance of a swap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Party {
    /// Its number.
    pub instance: u64,
    /// Its release's number.
    pub release: u64,
    /// Its release's version.
    pub version: String,
    /// Its artifact.
    pub digest: String,
}

/// What all instances of the module together answered in some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Window {
    /// Requests that were answered to the end.
    pub requests: u64,
    /// 99th percentile of the time that they took.
    pub p99_us: Option<u64>,
}

impl Proof {
    /// Out of the fields of an event. `None`: they are not those of a swap.
    pub(crate) fn of_fields(fields: &serde_json::Map<String, serde_json::Value>) -> Option<Self> {
        serde_json::from_value(serde_json::Value::Object(fields.clone())).ok()
    }

    /// The event.
    pub(crate) fn entry(&self, module: &str) -> Entry {
        self.entry_of(KIND, module, format!("{module}: {self}"))
    }

    /// The event at the flip.
    pub(super) fn begun(&self, module: &str) -> Entry {
        let what = match (self.from.release, self.to.release) {
            (from, to) if from == to => format!("another instance of release {to} takes over"),
            (from, to) => format!("release {to} takes over from release {from}"),
        };
        self.entry_of(BEGUN, module, format!("{module}: {what}, which has {} in flight", self.in_flight))
    }

    fn entry_of(&self, kind: &'static str, module: &str, text: String) -> Entry {
        let fields = match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(fields)) => fields,
            // Strings and numbers alone become one.
            Ok(_) | Err(_) => serde_json::Map::new(),
        };
        Entry {
            kind,
            module: module.to_owned(),
            rollout: self.rollout.as_ref().map(ToString::to_string).unwrap_or_default(),
            text,
            fields,
            ..Entry::default()
        }
    }

    /// What became of what was in flight.
    fn fate(&self) -> String {
        let asked = self.in_flight + self.given_after;
        let mut text = match self.in_flight {
            0 => "nothing in flight at the flip".to_owned(),
            some => format!("{some} in flight at the flip"),
        };
        if self.given_after > 0 {
            text = format!("{text} and {} given to it later", self.given_after);
        }
        if asked == 0 {
            return text;
        }
        let lost = match (self.lost, self.sent_again) {
            (0, _) => "none lost".to_owned(),
            (lost, 0) => format!("{lost} lost"),
            (lost, again) if again >= lost => format!("{lost} lost and sent again"),
            (lost, again) => format!("{lost} lost, {again} of them sent again"),
        };
        let mut finished = match self.finished {
            all if all == asked => "all finished there".to_owned(),
            finished => format!("{finished} finished there"),
        };
        if self.errors > 0 {
            finished = format!("{finished} ({} with a status of 500 or above)", self.errors);
        }
        let more = [
            (self.aborted, "given up by it"),
            (self.timeouts, "not answered by their deadline"),
            (self.cancelled, "left by their clients or taken elsewhere"),
            (self.still_in_flight, "still in flight"),
        ];
        let more = more.iter().filter(|(count, _)| *count > 0).map(|(count, how)| format!(", {count} {how}"));
        format!("{text}, {finished}, {lost}{}", more.collect::<String>())
    }

    /// How long requests took.
    fn latency(&self) -> String {
        let known = [(&self.before, "before"), (&self.during, "during"), (&self.after, "after")];
        let known = known.iter().filter_map(|(window, when)| {
            let tenths = window.p99_us?.saturating_add(50) / 100;
            Some(format!("{}.{} ms {when}", tenths / 10, tenths % 10))
        });
        let known: Vec<String> = known.collect();
        if known.is_empty() {
            return "nothing was answered around it".to_owned();
        }
        format!("p99 {}", known.join(", "))
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from.release == self.to.release {
            write!(f, "another instance of release {} took over", self.to.release)?;
        } else {
            write!(f, "release {} took over from release {}", self.to.release, self.from.release)?;
        }
        write!(f, ": {}; {}", self.fate(), self.latency())?;
        if self.cut_short.is_empty() { Ok(()) } else { write!(f, "; cut short: {}", self.cut_short) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(p99_us: u64) -> Window {
        Window { requests: 100, p99_us: Some(p99_us) }
    }

    fn proof() -> Proof {
        Proof {
            from: Party { instance: 1, release: 6, version: "1.0.0".to_owned(), digest: "aa".to_owned() },
            to: Party { instance: 2, release: 7, version: "1.1.0".to_owned(), digest: "bb".to_owned() },
            in_flight: 12,
            finished: 12,
            before: window(3_060),
            during: window(3_300),
            after: window(3_000),
            ..Proof::default()
        }
    }

    #[test]
    fn a_swap_is_told_in_a_sentence() {
        assert_eq!(
            proof().entry("greeter").text,
            "greeter: release 7 took over from release 6: 12 in flight at the flip, all finished there, none lost; \
             p99 3.1 ms before, 3.3 ms during, 3.0 ms after"
        );
        assert_eq!(
            proof().begun("greeter").text,
            "greeter: release 7 takes over from release 6, which has 12 in flight"
        );
        let crashed = Proof { finished: 8, lost: 3, sent_again: 3, cancelled: 1, ..proof() };
        assert!(
            crashed.to_string().contains(
                ": 12 in flight at the flip, 8 finished there, 3 lost and sent again, 1 left by their clients or taken \
                 elsewhere; "
            ),
            "{crashed}"
        );
        let (idle, cut) =
            (Proof::default(), Proof { cut_short: "hotd ended".to_owned(), ..Proof::default() });
        let text = "another instance of release 0 took over: nothing in flight at the flip; nothing was answered around it";
        assert_eq!(idle.to_string(), text);
        assert_eq!(cut.to_string(), format!("{text}; cut short: hotd ended"));
        let open = Proof {
            finished: 10,
            errors: 1,
            lost: 1,
            still_in_flight: 1,
            after: Window::default(),
            ..proof()
        };
        assert_eq!(
            open.to_string(),
            "release 7 took over from release 6: 12 in flight at the flip, 10 finished there (1 with a status of \
             500 or above), 1 lost, 1 still in flight; p99 3.1 ms before, 3.3 ms during"
        );
    }

    #[test]
    fn it_reads_back_what_it_wrote_and_what_others_write() {
        let entry = proof().entry("greeter");
        assert_eq!(Proof::of_fields(&entry.fields), Some(proof()));
        // By a newer hotd, and one that did not know all of it.
        let other = serde_json::json!({"in_flight": 3, "by": "ada", "unheard_of": {}});
        let read = Proof::of_fields(other.as_object().unwrap()).unwrap();
        assert_eq!((read.in_flight, read.finished), (3, 0));
    }
}
