//! The gateway's own answers: one sentence each, in the words of whoever asks.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use hyper::body::Incoming;

use super::body::{self, ResponseBody};
use super::marks;
use crate::gateway::client::{Busy, UNWANTED_AT_MOST};
use crate::gateway::hop::Exchange;
use crate::gateway::routing::{Placed, Refusal};
use crate::gateway::thread::Thread;

/// For how long a body that was refused is read and dropped.
const DISCARD_FOR: Duration = Duration::from_secs(5);

pub(in crate::gateway) type Answer = Response<ResponseBody>;

/// An empty answer.
pub(in crate::gateway) fn nothing() -> Answer {
    Response::new(ResponseBody::Whole(Bytes::new()))
}

pub(in crate::gateway) fn bad_response(placed: &Placed, exchange: &Exchange) -> Answer {
    let (module, release) = (&placed.module.table.module, placed.release);
    let why = exchange.wrong_length().map_or_else(String::new, |(announced, found)| {
        format!(": it announced {announced} bytes and had {found}")
    });
    tracing::debug!(%module, release, "a response is no valid HTTP{why}");
    say(StatusCode::BAD_GATEWAY, &format!("module {module} gave a response that is no valid HTTP{why}"))
}

/// Refuses a body and reads it, for a while: many a client sends all of it before it reads. It is `busy` with that.
pub(in crate::gateway) fn too_large(thread: &Thread, body: Incoming, busy: Option<Busy>) -> Answer {
    let most = thread.config().max_body_bytes;
    thread.spawn(async move {
        body::discard(body, UNWANTED_AT_MOST, DISCARD_FOR).await;
        drop(busy);
    });
    closing(say(
        StatusCode::PAYLOAD_TOO_LARGE,
        &format!("the request's body is larger than {most} bytes, the most that is accepted"),
    ))
}

pub(in crate::gateway) fn refused(refusal: &Refusal) -> Answer {
    let text = match refusal {
        Refusal::NoRoute => return say(StatusCode::NOT_FOUND, "no module has a route for this path"),
        Refusal::NoRelease(module) => {
            let text = format!("module {module} has no instance of the release that {} names", marks::PIN);
            return say(StatusCode::NOT_FOUND, &text);
        }
        Refusal::QueueFull(module) => format!("module {module} has too many requests waiting; try again"),
        Refusal::Busy(module) => format!("module {module} has too many requests in flight; try again"),
        Refusal::NoBackend(module) => format!("module {module} has no instance that is ready; try again"),
        Refusal::Head(error) => {
            let text = format!("the request's head can't be passed on: {error}");
            return say(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, &text);
        }
        Refusal::NoTable => "this node has not begun to serve yet; try again".to_owned(),
    };
    let mut answer = say(StatusCode::SERVICE_UNAVAILABLE, &text);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// An answer of the gateway's own: one sentence.
pub(in crate::gateway) fn say(status: StatusCode, sentence: &str) -> Answer {
    let mut answer = Response::new(ResponseBody::Whole(Bytes::from(format!("{sentence}\n"))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

pub(in crate::gateway) fn closing(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}
