//! From what went wrong to a gRPC status: the only place where that is decided.
//!
//! Every status has a sentence for people as its message and a [`hot_proto::v1::ErrorDetail`] for programs. A sentence
//! says what was found, what was expected and the next thing to do.

use hot_proto::status::with_detail;
use hot_proto::v1::ErrorDetail;
use tonic::{Code, Status};

/// A call that is refused, with all that its status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// gRPC's own word for it.
    pub grpc: Code,
    /// Our stable word for it.
    pub code: &'static str,
    /// What is at fault; empty: the whole.
    pub field: &'static str,
    /// What was found.
    pub found: String,
    /// What was expected; empty: that is plain.
    pub expected: String,
    /// What to do; a whole sentence, may be empty.
    pub advice: String,
}

/// The status of `refused`: `FIELD: FOUND, expected EXPECTED. ADVICE`, without what is empty. Where nothing in particular
/// was expected, what was found is a sentence, and the field is for programs alone.
pub(crate) fn refused(refused: Refused) -> Status {
    let Refused { grpc, code, field, found, expected, advice } = refused;
    let mut sentence = match (field, expected.as_str()) {
        (_, "") => found.clone(),
        ("", expected) => format!("{found}, expected {expected}"),
        (field, expected) => format!("{field}: {found}, expected {expected}"),
    };
    if !advice.is_empty() {
        sentence = format!("{sentence}. {advice}");
    }
    let detail = ErrorDetail { code: code.to_owned(), field: field.to_owned(), found, expected, advice };
    with_detail(grpc, sentence, &detail)
}

/// An argument that is not of its form.
pub(crate) fn invalid(field: &'static str, found: impl Into<String>, expected: impl Into<String>) -> Status {
    let (found, expected) = (found.into(), expected.into());
    refused(Refused {
        grpc: Code::InvalidArgument,
        code: "invalid",
        field,
        found,
        expected,
        advice: String::new(),
    })
}

/// Something that is not there.
pub(crate) fn not_found(field: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Status {
    let (found, advice) = (found.into(), advice.into());
    refused(Refused {
        grpc: Code::NotFound,
        code: "not_found",
        field,
        found,
        expected: String::new(),
        advice,
    })
}

/// An error of this node with its causes, which is nobody's fault outside: logged whole, told in one sentence.
pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Status {
    let (sentence, full) = disk(error);
    if full {
        return disk_full(sentence);
    }
    refused(Refused {
        grpc: Code::Internal,
        code: "internal",
        field: "",
        found: sentence,
        expected: String::new(),
        advice: "See the log of hotd on this node.".to_owned(),
    })
}

/// There is no room to write.
pub(crate) fn disk_full(found: String) -> Status {
    refused(Refused {
        grpc: Code::ResourceExhausted,
        code: "disk_full",
        field: "",
        found,
        expected: String::new(),
        advice: "Free some space on it and try again.".to_owned(),
    })
}

/// [`crate::store::failed`], with the whole in the log.
pub(crate) fn disk(error: &(dyn std::error::Error + 'static)) -> (String, bool) {
    tracing::error!(error = %crate::describe(error), "the store failed");
    crate::store::failed(error)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn a_sentence_has_only_what_there_is() {
        let status = invalid("steps[1].share", "12000", "1 to 10000 basis points");
        assert_eq!(status.message(), "steps[1].share: 12000, expected 1 to 10000 basis points");
        assert_eq!(hot_proto::status::detail(&status).unwrap().code, "invalid");
        let status = not_found("module", "no module is named `greter`", "Did you mean `greeter`?");
        assert_eq!(status.message(), "no module is named `greter`. Did you mean `greeter`?");
        assert_eq!(hot_proto::status::detail(&status).unwrap().field, "module");
    }

    #[test]
    fn a_full_disk_is_told_without_its_folders() {
        let full = std::io::Error::from(ErrorKind::StorageFull);
        let error =
            crate::dev::DevError::Io { path: "/var/lib/hot/x".into(), action: "writing", source: full };
        let status = internal(&error);
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(hot_proto::status::detail(&status).unwrap().code, "disk_full");
        assert!(status.message().contains("disk") && !status.message().contains("/var"), "{status}");
    }

    #[test]
    fn causes_follow_their_effect_once() {
        let inner = std::io::Error::other("disk is on fire");
        let outer = crate::dev::DevError::Io { path: "/x".into(), action: "writing", source: inner };
        assert_eq!(crate::describe(&outer), "/x: writing failed: disk is on fire");
    }
}
