//! Why a command ended without doing what it was asked: one sentence, an exit code, and details for programs.

use std::error::Error;
use std::fmt::Display;

use hot_artifact::Refusal;
use hot_proto::v1::{ErrorDetail, PlanRefusal};
use serde::Serialize;
use tonic::{Code, Status};

use crate::exit::Exit;
use crate::output::OutputError;
use crate::words;

/// A command's failure. Its text is the whole sentence that the user reads.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the process ends with.
    pub exit: Exit,
    /// What was found, what was expected, the next thing to do. Empty: there is nothing to say.
    pub sentence: String,
    /// Stable word for programs.
    pub code: String,
    /// What the node said in detail. Boxed because it is rare and large.
    pub detail: Option<Box<ErrorDetail>>,
    /// Further reasons for the same end, where a command knows several.
    pub more: Vec<Self>,
}

impl Failure {
    /// A failure with the sentence of `error`.
    pub(crate) fn new(exit: Exit, code: &str, error: impl Display) -> Self {
        Self { exit, sentence: error.to_string(), code: code.to_owned(), detail: None, more: Vec::new() }
    }

    /// As [`Failure::new`], exit code 1.
    pub(crate) fn failed(code: &str, error: impl Display) -> Self {
        Self::new(Exit::Failed, code, error)
    }

    /// As [`Failure::new`], exit code 2.
    pub(crate) fn usage(error: impl Display) -> Self {
        Self::new(Exit::Usage, "usage", error)
    }

    /// As [`Failure::new`], exit code 4.
    pub(crate) fn refused(code: &str, error: impl Display) -> Self {
        Self::new(Exit::Refused, code, error)
    }

    /// What a node answered to a command that offers it something to run.
    pub(crate) fn of_offer(status: &Status) -> Self {
        Self::of_status(status, offer_exit(status))
    }

    /// What a node answered to any other command.
    pub(crate) fn of_command(status: &Status) -> Self {
        let exit = match status.code() {
            Code::PermissionDenied | Code::Unauthenticated => Exit::Refused,
            Code::DeadlineExceeded => Exit::Unfinished,
            _ => Exit::Failed,
        };
        Self::of_status(status, exit)
    }

    /// What a node would refuse.
    pub(crate) fn of_refusal(refusal: &PlanRefusal) -> Self {
        let detail = refusal.error.clone().unwrap_or_default();
        let sentence = advised(&refusal.message, Some(&detail));
        let exit = if is_of_the_node(&detail.code) { Exit::Failed } else { Exit::Refused };
        Self::detailed(exit, sentence, detail)
    }

    /// What the user reads, a line for each reason. The sentences may come from a node or a module, so what would drive a
    /// terminal is replaced.
    pub(crate) fn lines(&self) -> String {
        let reasons = std::iter::once(self).chain(&self.more);
        let lines = reasons.map(|reason| format!("hotctl: {}", words::clean(&reason.sentence)));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn detailed(exit: Exit, sentence: String, detail: ErrorDetail) -> Self {
        let code = detail.code.clone();
        Self { exit, sentence, code, detail: Some(Box::new(detail)), more: Vec::new() }
    }

    fn of_status(status: &Status, exit: Exit) -> Self {
        let detail = hot_proto::status::detail(status);
        let code = match &detail {
            Some(detail) if !detail.code.is_empty() => detail.code.clone(),
            _ => code_word(status.code()).to_owned(),
        };
        let sentence = sentence(status, detail.as_ref());
        Self { exit, sentence, code, detail: detail.map(Box::new), more: Vec::new() }
    }
}

/// What the checks of files say, before any node is asked.
impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let sentence = refusal.to_string();
        Self::detailed(Exit::Refused, sentence, detail(refusal))
    }
}

/// What a check of a file says, as a node would.
pub(crate) fn detail(refusal: Refusal) -> ErrorDetail {
    let Refusal { code, field, found, expected, advice } = refusal;
    ErrorDetail { code: code.to_owned(), field, found, expected, advice }
}

/// Output that nobody reads any more is no failure: the reader has what it wanted.
impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        match error {
            OutputError::Closed => Self::new(Exit::Success, "output_closed", ""),
            OutputError::Io(_) => Self::failed("output", error),
        }
    }
}

/// The text of `error` and of every cause below it, from the outermost in, each once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

/// The text of the deepest cause: what the system said, without the layers that only passed it on.
pub(crate) fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Whether a node that says this word can start or let in nothing at the moment, whatever is offered: the same offer is good
/// once that is over.
pub(crate) fn is_of_the_node(code: &str) -> bool {
    matches!(code, "spawn.lost" | "trust.frozen")
}

/// The exit code for a node's answer to an upload or a start. Refusals are those that concern what was offered; a full
/// disk, a node that goes away or one that can start or let in nothing is a failure.
fn offer_exit(status: &Status) -> Exit {
    if hot_proto::status::detail(status).is_some_and(|detail| is_of_the_node(&detail.code)) {
        return Exit::Failed;
    }
    match status.code() {
        Code::PermissionDenied
        | Code::Unauthenticated
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::OutOfRange
        | Code::Unimplemented => Exit::Refused,
        Code::ResourceExhausted => {
            let too_large =
                hot_proto::status::detail(status).is_some_and(|detail| detail.code.ends_with("too_large"));
            if too_large { Exit::Refused } else { Exit::Failed }
        }
        Code::DeadlineExceeded => Exit::Unfinished,
        _ => Exit::Failed,
    }
}

/// What the connection says where somebody answers who speaks no HTTP/2, as the gateway's own address does.
const NO_GRPC: [&str; 2] = ["stream closed because of a broken pipe", "frame with invalid size"];

/// How tonic begins its words about an HTTP/2 response that is none of gRPC: without a body, and with one of text.
const NO_GRPC_ANSWER: [&str; 2] =
    ["grpc-status header missing", "protocol error: received message with invalid compression flag"];

/// Why it is no node that answered, if that is so: it speaks no gRPC.
pub(crate) fn no_grpc(status: &Status) -> Option<String> {
    match status.source() {
        Some(cause) => Some(innermost(cause)).filter(|cause| NO_GRPC.iter().any(|sign| cause.contains(sign))),
        None => Some(status.message().trim().to_owned())
            .filter(|text| NO_GRPC_ANSWER.iter().any(|sign| text.starts_with(sign))),
    }
}

/// The node's sentence, with the advice of its details where the sentence lacks it.
fn sentence(status: &Status, detail: Option<&ErrorDetail>) -> String {
    if let Some(cause) = no_grpc(status) {
        return format!(
            "what answers there speaks no gRPC, or went away at once ({cause}); check the address of the node"
        );
    }
    if let Some(cause) = status.source() {
        // Not the node's words but the connection's.
        let cause = innermost(cause);
        return format!(
            "the connection to the node broke: {cause}; check that hotd runs there, then try again"
        );
    }
    let mut text = status.message().trim().to_owned();
    if text.is_empty() {
        text = format!("the node answered {:?} and no reason; its log says more", code_word(status.code()));
    }
    advised(&text, detail)
}

/// A sentence with the advice of its details where it lacks that.
fn advised(text: &str, detail: Option<&ErrorDetail>) -> String {
    let mut text = text.to_owned();
    if let Some(advice) = detail.map(|detail| detail.advice.trim()).filter(|advice| !advice.is_empty())
        && !text.contains(advice)
    {
        text.push_str("; ");
        text.push_str(advice);
    }
    text
}

/// gRPC's own word for a code, for errors without details.
fn code_word(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

/// A failure as `-o json` prints it, on standard error.
#[derive(Debug, Serialize)]
pub(crate) struct FailureJson<'a> {
    error: ErrorJson<'a>,
    /// Further reasons.
    more: Vec<ErrorJson<'a>>,
    exit_code: u8,
}

/// One reason.
#[derive(Debug, Serialize)]
struct ErrorJson<'a> {
    code: &'a str,
    message: &'a str,
    field: &'a str,
    found: &'a str,
    expected: &'a str,
    advice: &'a str,
}

impl<'a> From<&'a Failure> for FailureJson<'a> {
    fn from(failure: &'a Failure) -> Self {
        Self {
            error: failure.into(),
            more: failure.more.iter().map(ErrorJson::from).collect(),
            exit_code: failure.exit.code(),
        }
    }
}

impl<'a> From<&'a Failure> for ErrorJson<'a> {
    fn from(failure: &'a Failure) -> Self {
        let detail = failure.detail.as_deref();
        let part = |pick: fn(&ErrorDetail) -> &str| detail.map_or("", pick);
        Self {
            code: &failure.code,
            message: &failure.sentence,
            field: part(|detail| &detail.field),
            found: part(|detail| &detail.found),
            expected: part(|detail| &detail.expected),
            advice: part(|detail| &detail.advice),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(code: &str, advice: &str) -> ErrorDetail {
        ErrorDetail { code: code.to_owned(), advice: advice.to_owned(), ..ErrorDetail::default() }
    }

    #[test]
    fn refusals_are_told_from_failures() {
        let exit = |code| Failure::of_offer(&Status::new(code, "x")).exit;
        assert_eq!(exit(Code::PermissionDenied), Exit::Refused);
        assert_eq!(exit(Code::FailedPrecondition), Exit::Refused);
        assert_eq!(exit(Code::InvalidArgument), Exit::Refused);
        assert_eq!(exit(Code::Unavailable), Exit::Failed);
        assert_eq!(exit(Code::ResourceExhausted), Exit::Failed, "a full disk");
        let large = hot_proto::status::with_detail(Code::ResourceExhausted, "x", &detail("too_large", ""));
        assert_eq!(Failure::of_offer(&large).exit, Exit::Refused);
        for word in ["spawn.lost", "trust.frozen"] {
            let now = hot_proto::status::with_detail(Code::FailedPrecondition, "x", &detail(word, ""));
            assert_eq!(Failure::of_offer(&now).exit, Exit::Failed, "a node that can't at the moment");
        }
        assert_eq!(Failure::of_command(&Status::failed_precondition("no rollout")).exit, Exit::Failed);
        assert_eq!(Failure::of_command(&Status::unauthenticated("no token")).exit, Exit::Refused);
    }

    #[test]
    fn advice_is_said_once() {
        let status = hot_proto::status::with_detail(
            Code::PermissionDenied,
            "the signer is not allowed",
            &detail("signer_not_allowed", "sign with another key"),
        );
        let failure = Failure::of_offer(&status);
        assert_eq!(failure.sentence, "the signer is not allowed; sign with another key");
        assert_eq!(failure.code, "signer_not_allowed");
        let again = hot_proto::status::with_detail(
            Code::PermissionDenied,
            "not allowed: sign with another key",
            &detail("signer_not_allowed", "sign with another key"),
        );
        assert_eq!(Failure::of_offer(&again).sentence, "not allowed: sign with another key");
    }

    #[test]
    fn foreign_text_is_cleaned() {
        let status = hot_proto::status::with_detail(
            Code::FailedPrecondition,
            "found \x1b[2J\nhotctl: all is well",
            &detail("x", "do \u{202e}this\r"),
        );
        let line = Failure::of_offer(&status).lines();
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
        assert!(line.starts_with("hotctl: found \u{fffd}[2J\u{fffd}hotctl"), "{line:?}");
    }

    #[test]
    fn every_reason_has_a_line_of_its_own() {
        let mut failure = Failure::refused("elf.audit", "a.so: one");
        failure.more = vec![Failure::refused("elf.filter", "a.so: two\n")];
        assert_eq!(failure.lines(), "hotctl: a.so: one\nhotctl: a.so: two\u{fffd}");
        let json = serde_json::to_value(FailureJson::from(&failure)).expect("serialises");
        assert_eq!(
            (&json["error"]["code"], &json["more"][0]["code"]),
            (&"elf.audit".into(), &"elf.filter".into())
        );
    }

    #[test]
    fn json_has_every_key() {
        let failure = Failure::failed("not_found", "no module \"a\"");
        let json = serde_json::to_string(&FailureJson::from(&failure)).expect("serialises");
        assert_eq!(
            json,
            r#"{"error":{"code":"not_found","message":"no module \"a\"","field":"","found":"","expected":"","advice":""},"more":[],"exit_code":1}"#
        );
    }
}
