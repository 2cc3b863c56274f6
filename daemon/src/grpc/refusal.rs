//! What the driver refuses, as a status: its code, its word and what to do.

use tonic::{Code, Status};

use super::status::{Refused, disk_full, not_found, refused};
use crate::driver::Refusal;

/// What the driver refuses, as a status.
pub(super) fn driver_refused(refusal: Refusal) -> Status {
    let sentence = refusal.to_string();
    let (grpc, code, field, advice) = match &refusal {
        Refusal::NoModule(_) => return not_found("module", sentence, "`hotctl status` lists the modules."),
        Refusal::NoVersion { .. } => {
            return not_found("version", sentence, "Push its file; `hotctl versions` lists what is stored.");
        }
        Refusal::NoRollout(_) | Refusal::NothingRuns(_) => {
            (Code::FailedPrecondition, "no_rollout", "rollout", "`hotctl history` shows what was.")
        }
        Refusal::Removed { .. } => {
            (Code::FailedPrecondition, "version_removed", "version", "Push it under a new version.")
        }
        Refusal::OtherDigest { .. } => (
            Code::FailedPrecondition,
            "digest_mismatch",
            "digests",
            "A version never changes; use a new one.",
        ),
        Refusal::Quarantined { .. } => (
            Code::FailedPrecondition,
            "quarantined",
            "version",
            "These bytes failed before and are not tried again; push a version that mends it.",
        ),
        Refusal::Route(_) => {
            (Code::FailedPrecondition, "route_taken", "routes", "Give one of the two modules another prefix.")
        }
        Refusal::RequestReused(_) => {
            (Code::InvalidArgument, "request_id_reused", "request_id", "Use a new one.")
        }
        Refusal::Over(_) => {
            (Code::FailedPrecondition, "no_rollout", "rollout", "`hotctl history` shows how it ended.")
        }
        Refusal::NothingToReturnTo { .. } => (
            Code::FailedPrecondition,
            "nothing_to_return_to",
            "to",
            "`hotctl history` shows what was stable.",
        ),
        Refusal::TooLate { .. } => {
            (Code::FailedPrecondition, "too_late", "rollout", "`hotctl status` says where it is.")
        }
        Refusal::Overtaken { .. } => {
            (Code::FailedPrecondition, "overtaken", "rollout", "`hotctl status` says what runs.")
        }
        Refusal::Begun(_) => (Code::AlreadyExists, "already_started", "request_id", ""),
        Refusal::NotGoneBack { .. } => {
            (Code::Aborted, "not_gone_back", "to", "`hotctl status` says what serves.")
        }
        Refusal::StillRuns(_) => {
            (Code::DeadlineExceeded, "still_running", "rollout", "`hotctl status` says what it waits for.")
        }
        Refusal::NotInTime => {
            (Code::DeadlineExceeded, "not_in_time", "", "Look at the log of hotd and the disk of this node.")
        }
        Refusal::TooManyWait => {
            (Code::ResourceExhausted, "too_many_waiting", "", "Try again when they have begun.")
        }
        Refusal::Store { full: true, .. } => return disk_full(sentence),
        Refusal::Store { .. } => {
            (Code::Internal, "store", "", "Nothing was changed; see the log of hotd on this node.")
        }
        Refusal::NotDurable { full, .. } => (
            if *full { Code::ResourceExhausted } else { Code::Internal },
            "not_durable",
            "",
            "It is tried again; a restart of hotd before that could undo it.",
        ),
        Refusal::ShuttingDown => (Code::Unavailable, "shutting_down", "", "Try again when it is back."),
    };
    refused(Refused {
        grpc,
        code,
        field,
        found: sentence,
        expected: String::new(),
        advice: advice.to_owned(),
    })
}
