//! How an error travels: a gRPC status whose message is a sentence for people, with one
//! [`ErrorDetail`] for programs.
//!
//! The details are in the form that gRPC libraries of every language read: the trailer `grpc-status-details-bin` holds
//! a `google.rpc.Status` (same code, same message) whose `details` has one `google.protobuf.Any` with type
//! `type.googleapis.com/hot.v1.ErrorDetail`.

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};

use crate::v1::ErrorDetail;

/// What `Any` calls an [`ErrorDetail`].
pub const ERROR_DETAIL_TYPE_URL: &str = "type.googleapis.com/hot.v1.ErrorDetail";

/// `google.rpc.Status` as in googleapis `google/rpc/status.proto`. Written by hand because it is three fields, and no
/// message of `hot.v1` contains it.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    /// A `google.rpc.Code`, same numbers as gRPC's.
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// A status with `code`, the sentence `message` and `detail`.
#[must_use]
pub fn with_detail(code: Code, message: impl Into<String>, detail: &ErrorDetail) -> Status {
    let message = message.into();
    let any = Any { type_url: ERROR_DETAIL_TYPE_URL.to_owned(), value: detail.encode_to_vec() };
    let rpc = RpcStatus { code: code.into(), message: message.clone(), details: vec![any] };
    Status::with_details(code, message, rpc.encode_to_vec().into())
}

/// The [`ErrorDetail`] of a status. `None` when it has none, or what it has does not parse: the peer may be another
/// program, and the sentence is still there.
#[must_use]
pub fn detail(status: &Status) -> Option<ErrorDetail> {
    let rpc = RpcStatus::decode(status.details()).ok()?;
    let any = rpc.details.iter().find(|any| any.type_url.ends_with("/hot.v1.ErrorDetail"))?;
    ErrorDetail::decode(any.value.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> ErrorDetail {
        ErrorDetail {
            code: "signer_not_allowed".to_owned(),
            field: "signature".to_owned(),
            found: "SHA256:abc".to_owned(),
            expected: "a key of allowed_signers".to_owned(),
            advice: "sign with a key that this node trusts".to_owned(),
        }
    }

    #[test]
    fn detail_survives_the_way() {
        let status = with_detail(Code::PermissionDenied, "the signer is not allowed", &example());
        // Through real headers, as between two processes.
        let mut headers = tonic::codegen::http::HeaderMap::new();
        status.add_header(&mut headers).expect("fits into headers");
        assert!(headers.contains_key("grpc-status-details-bin"), "the standard trailer carries it");
        let arrived = Status::from_header_map(&headers).expect("a status");
        assert_eq!(arrived.code(), Code::PermissionDenied);
        assert_eq!(arrived.message(), "the signer is not allowed");
        assert_eq!(detail(&arrived), Some(example()));
    }

    #[test]
    fn foreign_details_are_none() {
        assert_eq!(detail(&Status::not_found("nothing")), None);
        let garbage = Status::with_details(Code::Internal, "x", vec![0xff, 0x01, 0x02].into());
        assert_eq!(detail(&garbage), None);
        let other = RpcStatus {
            code: 5,
            message: String::new(),
            details: vec![Any { type_url: "type.googleapis.com/google.rpc.Help".to_owned(), value: vec![] }],
        };
        let status = Status::with_details(Code::NotFound, "x", other.encode_to_vec().into());
        assert_eq!(detail(&status), None);
    }
}
