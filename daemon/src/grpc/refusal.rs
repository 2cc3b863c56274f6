//! What the rooms refuse, as a status: its code, its word and what to do.

use hot_artifact::VerifyError;
use hot_proto::v1;
use tonic::{Code, Status};

use super::problems;
use super::status::{Refused, disk_full, internal, not_found, refused};
use crate::driver::Refusal;
use crate::store::{CommitError, SignAgainError, UploadError};
use crate::trust::Frozen;

/// What to do about a version that made room.
const DROPPED_ADVICE: &str =
    "Push the same file again, which is welcome; a larger `keep` keeps more of them.";

/// What the driver refuses, as a status.
pub(super) fn driver_refused(refusal: Refusal) -> Status {
    let sentence = refusal.to_string();
    let (grpc, code, field, advice) = match &refusal {
        Refusal::NoModule(_) => return not_found("module", sentence, "`hotctl status` lists the modules."),
        Refusal::NoVersion { .. } => {
            return not_found("version", sentence, "Push its file; `hotctl versions` lists what is stored.");
        }
        Refusal::Frozen(frozen) => return trust_frozen(frozen),
        Refusal::NotLeader { .. } | Refusal::Untold { .. } => return not_leader(sentence),
        Refusal::NoSpawn(_) => (Code::FailedPrecondition, problems::SPAWN_LOST, "", problems::SPAWN_ADVICE),
        Refusal::NoRollout(_) | Refusal::NothingRuns(_) => {
            (Code::FailedPrecondition, "no_rollout", "rollout", "`hotctl history` shows what was.")
        }
        Refusal::Removed { .. } => {
            (Code::FailedPrecondition, "version_removed", "version", "Push it under a new version.")
        }
        Refusal::Dropped { .. } => (Code::FailedPrecondition, "version_dropped", "version", DROPPED_ADVICE),
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
            "These bytes failed before and are not tried again by themselves; push a version that mends it. Where something \
             else was at fault, `hotctl push --retry` tries them again.",
        ),
        Refusal::BelowFloor { .. } => {
            (Code::FailedPrecondition, "below_floor", "version", "Push a later version.")
        }
        Refusal::Route(_) => {
            (Code::FailedPrecondition, "route_taken", "routes", "Give one of the two modules another prefix.")
        }
        Refusal::RequestReused(_) => {
            (Code::InvalidArgument, "request_id_reused", "request_id", "Use a new one.")
        }
        Refusal::Over(_) => {
            (Code::FailedPrecondition, "no_rollout", "rollout", "`hotctl history` shows how it ended.")
        }
        Refusal::TooLate { .. } => {
            (Code::FailedPrecondition, "too_late", "rollout", "`hotctl status` says where it is.")
        }
        Refusal::Overtaken { .. } => {
            (Code::FailedPrecondition, "overtaken", "rollout", "`hotctl status` says what runs.")
        }
        Refusal::NoNodes { .. } | Refusal::NoDomains { .. } | Refusal::NoFleet { .. } => {
            return no_labels(&refusal);
        }
        Refusal::Begun(_) => (Code::AlreadyExists, "already_started", "request_id", ""),
        Refusal::NothingToReturnTo { .. } | Refusal::MovedMeanwhile { .. } | Refusal::NotGoneBack { .. } => {
            return no_way_back(&refusal);
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
        Refusal::NotDurable { full, .. } | Refusal::AloneNotDurable { full, .. } => (
            if *full { Code::ResourceExhausted } else { Code::Internal },
            "not_durable",
            "",
            "It is tried again; a restart of hotd before that could undo it.",
        ),
        Refusal::ShuttingDown => (Code::Unavailable, "shutting_down", "", "Try again when it is back."),
    };
    refused_for(grpc, code, field, sentence, advice)
}

fn refused_for(grpc: Code, code: &'static str, field: &'static str, found: String, advice: &str) -> Status {
    let (expected, advice) = (String::new(), advice.to_owned());
    refused(Refused { grpc, code, field, found, expected, advice })
}

/// A way back that there is not, or that is not to be taken now.
fn no_way_back(refusal: &Refusal) -> Status {
    let (grpc, code, field, advice) = match refusal {
        Refusal::NotGoneBack { .. } => {
            (Code::Aborted, "not_gone_back", "to", "`hotctl status` says what serves.")
        }
        Refusal::MovedMeanwhile { .. } => (
            Code::Aborted,
            "moved_meanwhile",
            "",
            "`hotctl status` says what serves; ask again if that is not it.",
        ),
        _ => (
            Code::FailedPrecondition,
            "nothing_to_return_to",
            "to",
            "`hotctl history` shows what was stable; to have a later version again, push it again.",
        ),
    };
    refused_for(grpc, code, field, refusal.to_string(), advice)
}

/// There is no node with the labels that a push names.
fn no_labels(refusal: &Refusal) -> Status {
    let (code, advice) = if matches!(refusal, Refusal::NoFleet { .. }) {
        ("no_fleet", "Push it without --on.")
    } else {
        (
            "no_nodes",
            "Name labels that nodes have under [cluster.labels] of their configs, or leave it out: --on all is every node.",
        )
    };
    let field = if matches!(refusal, Refusal::NoDomains { .. }) { "policy.spread_over" } else { "on" };
    refused_for(Code::FailedPrecondition, code, field, refusal.to_string(), advice)
}

/// Only the leader of a fleet can do it.
fn not_leader(found: String) -> Status {
    refused(Refused {
        grpc: Code::Unavailable,
        code: "not_leader",
        field: "",
        found,
        expected: String::new(),
        advice: "Try again in some seconds; `hotctl nodes` says who leads, and whether etcd can be heard."
            .to_owned(),
    })
}

/// Nothing is let in now.
pub(super) fn trust_frozen(frozen: &Frozen) -> Status {
    refused(Refused {
        grpc: Code::FailedPrecondition,
        code: Frozen::CODE,
        field: frozen.key,
        found: format!("nothing new is let in now: {frozen}"),
        expected: String::new(),
        advice: Frozen::ADVICE.to_owned(),
    })
}

/// What is stored here, and the other nodes can't hear of.
pub(super) fn not_shared(why: &str) -> Status {
    refused(Refused {
        grpc: Code::Unavailable,
        code: "not_shared",
        field: "",
        found: format!("the file is stored on this node, and its fleet could not be told: {why}"),
        expected: String::new(),
        advice: "Push it again when etcd can be reached; what is stored is not sent again.".to_owned(),
    })
}

/// A file that is not let in.
pub(super) fn not_accepted(error: &VerifyError) -> Status {
    if !error.is_refusal() {
        return internal(error);
    }
    let hot_artifact::Refusal { code, field, found, expected, advice } = error.refusal();
    let grpc = match error {
        VerifyError::Signature(_) | VerifyError::Signer(_) => Code::PermissionDenied,
        VerifyError::TooLarge { .. } => Code::ResourceExhausted,
        _ => Code::FailedPrecondition,
    };
    let detail = v1::ErrorDetail { code: code.to_owned(), field, found, expected, advice };
    hot_proto::status::with_detail(grpc, error.to_string(), &detail)
}

/// An upload that is not let in. Of other bytes than were announced nothing more is said: they were thrown away.
pub(super) fn not_uploaded(error: &VerifyError) -> Status {
    let VerifyError::OtherDigest { found, expected } = error else { return not_accepted(error) };
    refused(Refused {
        grpc: Code::DataLoss,
        code: "digest_mismatch",
        field: "upload",
        found: format!("the bytes have digest {found}"),
        expected: expected.to_string(),
        advice: "They were thrown away: upload them again from the start.".to_owned(),
    })
}

pub(super) fn upload_refused(error: UploadError) -> Status {
    let (grpc, code) = match &error {
        UploadError::TooLarge { .. } => (Code::ResourceExhausted, "file.too_large"),
        UploadError::TooMany { .. } => (Code::ResourceExhausted, "too_many_uploads"),
        UploadError::WrongOffset { .. } => (Code::FailedPrecondition, "offset_mismatch"),
        UploadError::Incomplete { .. } => (Code::FailedPrecondition, "upload_incomplete"),
        UploadError::Empty | UploadError::OtherTotal { .. } | UploadError::TooMuch { .. } => {
            (Code::InvalidArgument, "size_mismatch")
        }
        error if error.is_full() => (Code::ResourceExhausted, "disk_full"),
        UploadError::NoSpace { .. } | UploadError::Io { .. } => (Code::Internal, "disk"),
    };
    plain(grpc, code, "upload", &error)
}

pub(super) fn commit_refused(error: CommitError) -> Status {
    let (grpc, code) = match &error {
        CommitError::Bound { .. } => (Code::AlreadyExists, "version_taken"),
        CommitError::Removed { .. } => (Code::AlreadyExists, "version_removed"),
        CommitError::TooLong { .. } => (Code::ResourceExhausted, "metadata_too_long"),
        CommitError::OtherFile { .. }
        | CommitError::Io { .. }
        | CommitError::Sync(_)
        | CommitError::Write(_)
        | CommitError::Update(_) => {
            (if error.is_full() { Code::ResourceExhausted } else { Code::Internal }, "disk")
        }
    };
    plain(grpc, code, "version", &error)
}

pub(super) fn not_signed_again(error: SignAgainError) -> Status {
    let (grpc, code) = match &error {
        SignAgainError::Unknown(_) => (Code::NotFound, "not_found"),
        SignAgainError::TooLong { .. } => (Code::ResourceExhausted, "metadata_too_long"),
        SignAgainError::Write(error) if error.is_full() => (Code::ResourceExhausted, "disk"),
        SignAgainError::Write(_) => (Code::Internal, "disk"),
    };
    plain(grpc, code, "signature", &error)
}

fn plain(
    grpc: Code,
    code: &'static str,
    field: &'static str,
    error: &(dyn std::error::Error + 'static),
) -> Status {
    let found = crate::describe(error);
    let detail = v1::ErrorDetail {
        code: code.to_owned(),
        field: field.to_owned(),
        found: found.clone(),
        ..v1::ErrorDetail::default()
    };
    hot_proto::status::with_detail(grpc, found, &detail)
}
