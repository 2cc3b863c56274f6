//! Why a candidate went back: codes that stay, and sentences with the number and the limit.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::figures::Figures;
use crate::ident::{Module, Node, ReleaseNumber, RolloutId};
use crate::units::{Millis, Ratio, Share};

/// What went wrong with one instance, or made a node take its candidate back by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The host could not load the module, or its `start` returned an error.
    LoadFailed {
        /// What the host said.
        text: String,
    },
    /// It was not ready in time.
    StartTimeout {
        /// The start deadline.
        limit: Millis,
    },
    /// A signal ended the host.
    Crashed {
        /// The signal's number.
        signal: i32,
        /// The last of its output, or what is known besides; may be empty.
        text: String,
    },
    /// The host ended by itself.
    Exited {
        /// Its exit code.
        code: i32,
        /// The last of its output; may be empty.
        text: String,
    },
    /// It stopped answering.
    Hung {
        /// For how long.
        silent: Millis,
        /// How long it may.
        limit: Millis,
    },
    /// Its health check failed too often in a row.
    FailingHealth {
        /// How often in a row.
        failures: u32,
        /// How often ends it.
        limit: u32,
        /// What the last check said; may be empty.
        text: String,
    },
    /// It took more memory than it may.
    OverMemory {
        /// Bytes in use.
        used: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The node refused to load it: digest, revocation, floor or quarantine.
    Refused {
        /// What the node found.
        text: String,
    },
    /// So many requests failed on one node that it did not wait for a comparison.
    Errors {
        /// Failed requests.
        errors: u64,
        /// All requests.
        requests: u64,
        /// The share of errors at which a node acts by itself.
        limit: Share,
    },
    /// So many requests got no answer on one node, where stable answers, that it did not wait for a comparison.
    Unanswered {
        /// Requests that have been open for longer than `after`.
        open: u64,
        /// All requests of which it is known.
        requests: u64,
        /// From how long on one counts.
        after: Millis,
        /// The share of them at which a node acts by itself.
        limit: Share,
    },
    /// Nobody renewed the node's assignment.
    Expired {
        /// How long it was without a renewal.
        after: Millis,
    },
    /// A person told the node itself.
    ByHand {
        /// Who.
        by: String,
    },
    /// Something that a newer version knows.
    #[serde(untagged)]
    Foreign(Foreign),
}

/// What a newer version wrote in the place of a cause or reason that this one knows. It is kept as it is, so that it is
/// whole again for that version, and holds nothing else up: that something went back is known all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Foreign(Value);

/// It is neither a word nor one word with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a cause or a reason")]
pub struct NotForeign;

impl TryFrom<Value> for Foreign {
    type Error = NotForeign;

    fn try_from(value: Value) -> Result<Self, NotForeign> {
        let named = value.is_string() || value.as_object().is_some_and(|object| object.len() == 1);
        if named { Ok(Self(value)) } else { Err(NotForeign) }
    }
}

/// Its word, and its text if it has one.
impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.0.as_object().and_then(|object| object.iter().next());
        let Some((word, content)) = named else { return f.write_str(self.0.as_str().unwrap_or_default()) };
        let text = content.get("text").and_then(Value::as_str).unwrap_or_default();
        write!(f, "{word}{}", Tail(text))
    }
}

impl Cause {
    /// A stable word for scripts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::LoadFailed { .. } => "load_failed",
            Self::StartTimeout { .. } => "start_timeout",
            Self::Crashed { .. } => "crashed",
            Self::Exited { .. } => "exited",
            Self::Hung { .. } => "hung",
            Self::FailingHealth { .. } => "failing_health",
            Self::OverMemory { .. } => "over_memory",
            Self::Refused { .. } => "refused",
            Self::Errors { .. } => "errors",
            Self::Unanswered { .. } => "hung",
            Self::Expired { .. } => "expired",
            Self::ByHand { .. } => "by_hand",
            Self::Foreign(_) => "unknown",
        }
    }

    /// Whether it speaks against the release itself, so that its digest is quarantined.
    #[must_use]
    pub fn blames_release(&self) -> bool {
        match self {
            Self::LoadFailed { .. }
            | Self::StartTimeout { .. }
            | Self::Crashed { .. }
            | Self::Exited { .. }
            | Self::Hung { .. }
            | Self::FailingHealth { .. }
            | Self::OverMemory { .. }
            | Self::Errors { .. }
            | Self::Unanswered { .. } => true,
            // Of what is not known, nothing is held against it.
            Self::Refused { .. } | Self::Expired { .. } | Self::ByHand { .. } | Self::Foreign(_) => false,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoadFailed { text } => write!(f, "failed to load{}", Tail(text)),
            Self::StartTimeout { limit } => write!(f, "was not ready within {limit}"),
            Self::Crashed { signal, text } => {
                write!(f, "crashed with {}, 0 crashes are allowed{}", Signal(*signal), LastWords(text))
            }
            Self::Exited { code, text } => {
                write!(f, "exited with code {code}, 0 exits are allowed{}", LastWords(text))
            }
            Self::Hung { silent, limit } => write!(f, "did not answer for {silent}, limit {limit}"),
            Self::FailingHealth { failures, limit, text } => {
                write!(f, "failed its health check {failures} times in a row, limit {limit}{}", Tail(text))
            }
            Self::OverMemory { used, limit } => {
                write!(f, "used {} MiB of memory, limit {} MiB", used >> 20, limit >> 20)
            }
            Self::Refused { text } => write!(f, "was refused{}", Tail(text)),
            Self::Errors { errors, requests, limit } => write!(
                f,
                "error rate {} of {requests} requests, limit {limit} on any node",
                Percent { part: *errors, whole: *requests }
            ),
            Self::Unanswered { open, requests, after, limit } => write!(
                f,
                "left {} of {requests} requests without an answer for more than {after}, limit {limit} on any node",
                Percent { part: *open, whole: *requests }
            ),
            Self::Expired { after } => {
                write!(f, "had no renewal for {after}, so the node went back by itself")
            }
            Self::ByHand { by } => write!(f, "was taken back on the node itself by {by}"),
            Self::Foreign(what) => write!(f, "failed in a way that this version does not know ({what})"),
        }
    }
}

/// Why a rollout goes, or went, back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A fast signal of one instance, or a node that took its candidate back.
    Fast {
        /// Where.
        node: Node,
        /// Of which module.
        module: Module,
        /// Of which release.
        release: ReleaseNumber,
        /// What it was.
        cause: Cause,
    },
    /// The candidate fails more often than stable.
    ErrorRate {
        /// Of which module.
        module: Module,
        /// Of which release.
        release: ReleaseNumber,
        /// The candidate's failed requests.
        errors: u64,
        /// The candidate's requests.
        requests: u64,
        /// Stable's failed requests over the same time, or in the last mixed step.
        stable_errors: u64,
        /// Stable's requests.
        stable_requests: u64,
        /// By how much it may exceed stable's rate.
        limit: Share,
    },
    /// The candidate is slower than stable.
    Slow {
        /// Of which module.
        module: Module,
        /// Of which release.
        release: ReleaseNumber,
        /// The candidate's p99.
        p99: Millis,
        /// The candidate's requests.
        requests: u64,
        /// Those of them that are open, and slow by how long they have been.
        #[serde(default)]
        open: u64,
        /// Stable's p99.
        stable_p99: Millis,
        /// How many times stable's it may be.
        limit: Ratio,
        /// The longest that it may be, by that and by the floor. 0: written by a version that did not say.
        #[serde(default)]
        bound: Millis,
    },
    /// The candidate has not answered anything, for longer than stable's requests take.
    Unanswered {
        /// Of which module.
        module: Module,
        /// Of which release.
        release: ReleaseNumber,
        /// Its open requests.
        requests: u64,
        /// How long the oldest has been open.
        oldest: Millis,
        /// Stable's p99.
        stable_p99: Millis,
        /// How long it may be.
        limit: Millis,
    },
    /// A node could not get ready, before any code ran.
    PrepareFailed {
        /// Where.
        node: Node,
        /// Of which module.
        module: Module,
        /// What the node said.
        text: String,
    },
    /// It took too long.
    Deadline {
        /// The deadline.
        limit: Millis,
        /// What it was waiting for; may be empty.
        waiting_on: String,
    },
    /// A person ended it.
    Aborted {
        /// Who.
        by: String,
    },
    /// A newer rollout of the same module took its place.
    Superseded {
        /// Which.
        by: RolloutId,
    },
    /// A person asked for the preceding stable.
    Rollback {
        /// Who.
        by: String,
    },
    /// Something that a newer version knows.
    #[serde(untagged)]
    Foreign(Foreign),
}

impl Reason {
    /// A stable word for scripts: for fast signals that of the [`Cause`].
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Fast { cause, .. } => cause.code(),
            Self::ErrorRate { .. } => "error_rate",
            Self::Slow { .. } => "slow",
            Self::Unanswered { .. } => "hung",
            Self::PrepareFailed { .. } => "prepare_failed",
            Self::Deadline { .. } => "deadline",
            Self::Aborted { .. } => "aborted",
            Self::Superseded { .. } => "superseded",
            Self::Rollback { .. } => "rollback",
            Self::Foreign(_) => "unknown",
        }
    }

    /// The release whose digest this reason puts into quarantine.
    #[must_use]
    pub fn blamed(&self) -> Option<(&Module, ReleaseNumber)> {
        match self {
            Self::Fast { module, release, cause, .. } => cause.blames_release().then_some((module, *release)),
            Self::ErrorRate { module, release, .. }
            | Self::Slow { module, release, .. }
            | Self::Unanswered { module, release, .. } => Some((module, *release)),
            Self::PrepareFailed { .. }
            | Self::Deadline { .. }
            | Self::Aborted { .. }
            | Self::Superseded { .. }
            | Self::Rollback { .. }
            | Self::Foreign(_) => None,
        }
    }

    /// For a slow signal what was measured and the limit, without what it is about; else nothing.
    pub(crate) fn measured(&self) -> String {
        match self {
            Self::ErrorRate { errors, requests, stable_errors, stable_requests, limit, .. } => format!(
                "error rate {} of {requests} requests, stable {}, limit {:.1}% above stable",
                Percent { part: *errors, whole: *requests },
                Percent { part: *stable_errors, whole: *stable_requests },
                limit.fraction() * 100.0,
            ),
            Self::Slow { p99, requests, open, stable_p99, limit, bound, .. } => {
                let (at_least, unanswered) = match open {
                    0 => ("", String::new()),
                    open => ("at least ", format!(", {open} of them not answered yet")),
                };
                let limit = match bound {
                    Millis(0) => format!("{limit} stable"),
                    Millis(bound) => format!("{bound} ms"),
                };
                format!(
                    "p99 {at_least}{} ms of {requests} requests{unanswered}, limit {limit}, stable's p99 is {} ms",
                    p99.0, stable_p99.0
                )
            }
            Self::Unanswered { requests, oldest, stable_p99, limit, .. } => format!(
                "none of {requests} requests answered, the oldest waits for {} ms, limit {} ms, stable's p99 is {} ms",
                oldest.0, limit.0, stable_p99.0
            ),
            Self::Fast { .. }
            | Self::PrepareFailed { .. }
            | Self::Deadline { .. }
            | Self::Aborted { .. }
            | Self::Superseded { .. }
            | Self::Rollback { .. }
            | Self::Foreign(_) => String::new(),
        }
    }

    /// Whether a person wanted it, so that it is no failure of anything.
    #[must_use]
    pub fn by_person(&self) -> bool {
        match self {
            Self::Aborted { .. } | Self::Superseded { .. } | Self::Rollback { .. } => true,
            Self::Fast { cause, .. } => matches!(cause, Cause::ByHand { .. }),
            Self::ErrorRate { .. }
            | Self::Slow { .. }
            | Self::Unanswered { .. }
            | Self::PrepareFailed { .. }
            | Self::Deadline { .. }
            | Self::Foreign(_) => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fast { node, module, release, cause } => {
                write!(f, "{module} release {release} on {node}: {cause}")
            }
            Self::ErrorRate { module, release, .. }
            | Self::Slow { module, release, .. }
            | Self::Unanswered { module, release, .. } => {
                write!(f, "{module} release {release}: {}", self.measured())
            }
            Self::PrepareFailed { node, module, text } => {
                write!(f, "{module} cannot run on {node}{}; no code of it has run", Tail(text))
            }
            Self::Deadline { limit, waiting_on } => {
                write!(f, "not promoted within {limit}{}", Waited(waiting_on))
            }
            Self::Aborted { by } => write!(f, "aborted by {by}"),
            Self::Superseded { by } => write!(f, "superseded by rollout {by}"),
            Self::Rollback { by } => write!(f, "rollback asked for by {by}"),
            Self::Foreign(what) => write!(f, "a reason that this version does not know ({what})"),
        }
    }
}

/// `figures` as a rate in words.
pub(crate) fn rate(figures: &Figures) -> impl fmt::Display {
    Percent { part: figures.errors, whole: figures.requests }
}

struct Percent {
    part: u64,
    whole: u64,
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = u128::from(self.part.min(self.whole)) * 1000;
        let whole = u128::from(self.whole.max(1));
        let rounded = (tenths + whole / 2) / whole;
        write!(f, "{}.{}%", rounded / 10, rounded % 10)
    }
}

/// What somebody else said, after a colon, if they said anything.
struct Tail<'a>(&'a str);

impl fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

struct LastWords<'a>(&'a str);

impl fmt::Display for LastWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; it last printed: {}", self.0) }
    }
}

struct Waited<'a>(&'a str);

impl fmt::Display for Waited<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ", it was {}", self.0) }
    }
}

struct Signal(i32);

impl fmt::Display for Signal {
    /// Names of the signals that end programs, numbered as on Linux for every machine that we run on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            4 => "SIGILL",
            5 => "SIGTRAP",
            6 => "SIGABRT",
            7 => "SIGBUS",
            8 => "SIGFPE",
            9 => "SIGKILL",
            11 => "SIGSEGV",
            15 => "SIGTERM",
            31 => "SIGSYS",
            other => return write!(f, "signal {other}"),
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_carry_the_number_and_the_limit() {
        let reason = Reason::ErrorRate {
            module: "greeter".into(),
            release: ReleaseNumber(3),
            errors: 28,
            requests: 226,
            stable_errors: 0,
            stable_requests: 2000,
            limit: Share::percent(1),
        };
        assert_eq!(
            reason.to_string(),
            "greeter release 3: error rate 12.4% of 226 requests, stable 0.0%, limit 1.0% above stable"
        );
        let reason = Reason::Slow {
            module: "greeter".into(),
            release: ReleaseNumber(3),
            p99: Millis(312),
            requests: 226,
            open: 0,
            stable_p99: Millis(4),
            limit: Ratio(20_000),
            bound: Millis(54),
        };
        assert_eq!(
            reason.to_string(),
            "greeter release 3: p99 312 ms of 226 requests, limit 54 ms, stable's p99 is 4 ms"
        );
    }

    #[test]
    fn what_a_newer_version_knows_is_read_and_written_again_whole() {
        for (written, said) in [
            (r#"{"stuck":{"text":"in a loop","for":7}}"#, "stuck: in a loop"),
            (r#"{"crashed":{"core":"/x","text":"gone"}}"#, "crashed: gone"),
            (r#"{"too_hot":{"degrees":90}}"#, "too_hot"),
            (r#""tired""#, "tired"),
        ] {
            let cause: Cause = serde_json::from_str(written).unwrap();
            assert_eq!(
                cause.to_string(),
                format!("failed in a way that this version does not know ({said})")
            );
            assert_eq!((cause.code(), cause.blames_release()), ("unknown", false));
            let written: Value = serde_json::from_str(written).unwrap();
            assert_eq!(serde_json::to_value(&cause).unwrap(), written);
            let reason: Reason = serde_json::from_value(written.clone()).unwrap();
            assert_eq!(reason.to_string(), format!("a reason that this version does not know ({said})"));
            assert_eq!((reason.code(), reason.blamed(), reason.by_person()), ("unknown", None, false));
            assert_eq!(serde_json::to_value(&reason).unwrap(), written);
        }
        for no_word in ["7", "null", "{}", "[\"crashed\"]", r#"{"a":1,"b":2}"#] {
            assert!(serde_json::from_str::<Cause>(no_word).is_err(), "{no_word}");
        }
        let known = Cause::Crashed { signal: 11, text: String::new() };
        assert_eq!(serde_json::from_str::<Cause>(&serde_json::to_string(&known).unwrap()).unwrap(), known);
    }

    #[test]
    fn only_what_the_release_did_is_held_against_it() {
        let fast = |cause| Reason::Fast {
            node: "a".into(),
            module: "greeter".into(),
            release: ReleaseNumber(3),
            cause,
        };
        assert!(fast(Cause::Crashed { signal: 11, text: String::new() }).blamed().is_some());
        assert!(fast(Cause::Expired { after: Millis::seconds(60) }).blamed().is_none());
        assert!(Reason::Aborted { by: "ada".into() }.blamed().is_none());
    }
}
