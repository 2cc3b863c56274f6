//! One exchange on the runtime: its request as `http` has it, its answer sent frame by frame, and its end in any case.

use super::body::Body;
use super::link::{Link, to_map};
use crate::sdk::{Notify, Verdict, chain, judge, panicked};
use crate::{CallError, Error, Exchange, Level, StatusError, log};
use bytes::{Buf, Bytes};
use core::net::SocketAddr;
use core::pin::{Pin, pin};
use core::task::Poll;
use http_body::{Body as HttpBody, Frame};
use std::format;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// The largest body that is sent together with its head, by a call that would wait beyond 256 KiB.
const AT_ONCE: usize = 64 * 1024;

/// Who sent a request: the other end of the connection, which may be a proxy. An extension of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// When the handler is dropped, as of its beginning: the time stands still while the exchange waits for its client, and an
/// answer that is a long stream has none. An extension of the request, if it has a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(pub Instant);

/// Serves one exchange: ends it, whatever comes of the handler.
pub(super) async fn serve<H, F, B>(exchange: Exchange, notify: Notify, handle: H)
where
    H: FnOnce(http::Request<Body>) -> F,
    F: Future<Output = Result<http::Response<B>, Error>>,
    B: HttpBody<Error: Into<Error>>,
{
    let link = Link::new(exchange, notify);
    let answers = async {
        let request = request(&link)?;
        let response = handle(request).await?;
        send(&link, response).await;
        Ok(())
    };
    match until_over(&link, answers).await {
        End::Done(Ok(())) => {}
        End::Done(Err(error)) => link.refuse(error),
        // The handler was dropped, and with it what it held.
        End::Over => link.abort("the client is gone or the deadline has passed"),
        End::Panicked => link.abort("the handler panicked"),
    }
}

enum End<T> {
    Done(T),
    Over,
    Panicked,
}

/// Runs a future until it is done, it panics, or the exchange is over; then it is dropped.
async fn until_over<T>(link: &Arc<Link>, future: impl Future<Output = T>) -> End<T> {
    let mut future = pin!(future);
    core::future::poll_fn(|task| {
        // After a panic the future is only dropped, so that nobody sees what it left half done.
        match catch_unwind(AssertUnwindSafe(|| link.enter(|| future.as_mut().poll(task)))) {
            Ok(Poll::Ready(done)) => return Poll::Ready(End::Done(done)),
            Ok(Poll::Pending) => {}
            Err(panic) => {
                log(Level::Error, &panicked(panic));
                return Poll::Ready(End::Panicked);
            }
        }
        link.poll_over(task).map(|_| End::Over)
    })
    .await
}

/// The request of an exchange. Its head is copied, its body comes as it is read.
fn request(link: &Arc<Link>) -> Result<http::Request<Body>, Error> {
    let mut request = http::Request::new(Body::empty());
    let parsed = link.with(|exchange| {
        let Ok(method) = exchange.method().parse() else { return Ok(Err("a method")) };
        let Ok(uri) = exchange.target().parse() else { return Ok(Err("a target")) };
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = to_map(exchange.headers());
        if let Ok(peer) = exchange.peer().parse() {
            request.extensions_mut().insert(Peer(peer));
        }
        if let Some(deadline) = Instant::now().checked_add(exchange.time_left()) {
            request.extensions_mut().insert(Deadline(deadline));
        }
        Ok(Ok(()))
    })?;
    if let Err(what) = parsed {
        return Err(StatusError::new(400, format!("the request has {what} that can't be read")).into());
    }
    let length = request.headers().get(http::header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    // There is no body, but after a 101 there is what the connection gives.
    let length = length.filter(|_| !request.headers().contains_key(http::header::UPGRADE));
    *request.body_mut() = Body::incoming(Arc::clone(link), length);
    Ok(request)
}

/// Sends a response, and ends the exchange.
async fn send<B: HttpBody<Error: Into<Error>>>(link: &Link, response: http::Response<B>) {
    let sent = try_send(link, response).await;
    match sent {
        Ok(()) | Err(Broken::Call(CallError::Cancelled | CallError::Ended)) => {}
        Err(Broken::Call(error)) => log(Level::Error, &format!("the response could not be sent: {error}")),
        Err(Broken::Body(error)) => {
            if judge(&*error) != Verdict::Nobody {
                log(Level::Error, &format!("the body of an answer broke off: {}", chain(&*error)));
            }
        }
    }
    link.abort("the body broke off");
}

/// Why a response was not sent whole.
enum Broken {
    Call(CallError),
    Body(Error),
}

impl From<CallError> for Broken {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

async fn try_send<B: HttpBody<Error: Into<Error>>>(
    link: &Link,
    response: http::Response<B>,
) -> Result<(), Broken> {
    let (head, body) = response.into_parts();
    let mut body = pin!(body);
    if body.is_end_stream() {
        return Ok(link.reply(&head, &[])?);
    }
    // A short body whose one piece is there already goes with the head, as a whole answer.
    let mut first = None;
    if body.size_hint().exact().is_some_and(|size| size <= AT_ONCE as u64) {
        first = next(body.as_mut()).await?;
        let is_all = body.is_end_stream();
        match first.take().map(Frame::into_data) {
            None => return Ok(link.reply(&head, &[])?),
            Some(Ok(data)) if is_all && data.len() <= AT_ONCE => return Ok(link.reply(&head, &data)?),
            Some(Ok(data)) => first = Some(Frame::data(data)),
            Some(Err(trailers)) => first = Some(trailers),
        }
    }
    link.respond(&head)?;
    loop {
        let frame = match first.take() {
            Some(frame) => frame,
            None => match next(body.as_mut()).await? {
                Some(frame) => frame,
                None => return Ok(link.finish()?),
            },
        };
        match frame.into_data() {
            Ok(mut piece) => core::future::poll_fn(|task| link.poll_write(&mut piece, task)).await?,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    link.trailers(&trailers)?;
                }
            }
        }
    }
}

async fn next<B: HttpBody<Error: Into<Error>>>(
    mut body: Pin<&mut B>,
) -> Result<Option<Frame<Bytes>>, Broken> {
    let frame = core::future::poll_fn(|task| body.as_mut().poll_frame(task)).await;
    match frame {
        None => Ok(None),
        Some(Ok(frame)) => Ok(Some(frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))),
        Some(Err(error)) => Err(Broken::Body(error.into())),
    }
}
