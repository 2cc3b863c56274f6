//! What ends one instance, or makes a node take its candidate back.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::foreign::Foreign;
use super::words::{LastWords, Percent, Signal, Tail};
use crate::units::{Millis, Share};

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
    /// It had more processes and threads than it may.
    OverProcesses {
        /// Processes and threads that were seen; the limit itself where the kernel refused one more.
        used: u64,
        /// How many it may have.
        limit: u64,
    },
    /// It made a system call that no server needs and that attacks begin with. The call was refused.
    Denied {
        /// The call's name.
        call: String,
        /// How often it was refused.
        times: u64,
    },
    /// It sent what no host sends, over the sockets by which its host speaks with the node.
    Forged {
        /// What came, and what was expected.
        text: String,
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
            Self::OverProcesses { .. } => "over_processes",
            Self::Denied { .. } => "denied",
            Self::Forged { .. } => "forged",
            Self::Refused { .. } => "refused",
            Self::Errors { .. } => "errors",
            Self::Unanswered { .. } => "hung",
            Self::Expired { .. } => "expired",
            Self::ByHand { .. } => "by_hand",
            Self::Foreign(_) => "unknown",
        }
    }

    /// Whether the node failed by it: a policy lets some nodes do so alone. Not by a person's word, nor by being cut off.
    #[must_use]
    pub fn fails_node(&self) -> bool {
        match self {
            Self::LoadFailed { .. }
            | Self::StartTimeout { .. }
            | Self::Crashed { .. }
            | Self::Exited { .. }
            | Self::Hung { .. }
            | Self::FailingHealth { .. }
            | Self::OverMemory { .. }
            | Self::OverProcesses { .. }
            | Self::Denied { .. }
            | Self::Forged { .. }
            | Self::Refused { .. }
            | Self::Errors { .. }
            | Self::Unanswered { .. }
            | Self::Foreign(_) => true,
            Self::Expired { .. } | Self::ByHand { .. } => false,
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
            | Self::OverProcesses { .. }
            | Self::Denied { .. }
            | Self::Forged { .. }
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
            Self::OverProcesses { used, limit } => {
                write!(f, "had {used} processes and threads, limit {limit}")
            }
            Self::Denied { call, times } => {
                let times = if *times == 1 { "once".to_owned() } else { format!("{times} times") };
                write!(
                    f,
                    "made the system call {call} {times}, which no server needs: 0 are allowed, and each was refused"
                )
            }
            Self::Forged { text } => write!(f, "forged a message of its host{}", Tail(text)),
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
