//! One request from its head to the head of its response.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use hot_wire::data::{CancelReason, INITIAL_WINDOW, RequestHead};
use http::header::{CONNECTION, Entry, HeaderValue, RETRY_AFTER, UPGRADE};
use http::request::Parts;
use http::{Method, Request, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;

use super::answers::{Answer, bad_response, closing, nothing, refused, say, too_large};
use super::body::{self, ResponseBody, Stream, Upload, UploadEnd};
use super::forward::{self, Head, RequestFields};
use super::head::{self, Refused};
use super::marks::Marks;
use super::retry::{Attempt, Next, Progress, after_loss};
use crate::gateway::access::Pending;
use crate::gateway::client::{Busy, Client, Tunnel};
use crate::gateway::counters::Outcome;
use crate::gateway::hop::{Exchange, Failure, Kept, Start};
use crate::gateway::routing::{Choice, Full, Placed, RESERVED_PREFIX, Refusal, Wish};
use crate::gateway::thread::Thread;
use crate::supervisor::InstanceId;

/// How often a request that no host has seen is placed anew, before that is taken for a fault.
const MOST_PLACEMENTS: u32 = 4;

/// Begins to serve a request: by the time at which this returns, it was sent if an instance is ready, and nothing of
/// it is held. What is parsed of it are shares of the connection's buffer, and hyper reads on before it first polls
/// what serves the request: with the buffer in use it would have to make a new one each time.
pub(in crate::gateway) fn begin(
    thread: &Rc<Thread>,
    client: &Rc<Client>,
    request: Request<Incoming>,
) -> Begun {
    let busy = client.begin();
    let (parts, body) = request.into_parts();
    if parts.version == Version::HTTP_10 {
        client.speaks_1_0();
    }
    let line = thread.access_log().map(|_| Pending::new(thread, client, &parts));
    let marks = Marks::of(&parts.headers);
    if let Some(answer) = answered_here(thread, &parts, &marks, &body) {
        return Begun::Answered(answer, line);
    }
    if body.size_hint().lower() > thread.config().max_body_bytes {
        return Begun::Answered(too_large(thread, body, Some(busy)), line);
    }
    let pin = if client.may_pin() { marks.pin().map(str::to_owned) } else { None };
    let mut serving = Serving {
        attempt: Attempt::first(&parts.method, !body.is_end_stream()),
        to_head: parts.method == Method::HEAD,
        upgrade: None,
        thread: Rc::clone(thread),
        client: Rc::clone(client),
        pin,
        kept: Kept::default(),
        for_stable: false,
        lost_with: None,
        arrived: None,
        placements: 0,
        line,
        busy: Some(busy),
    };
    match serving.first(&parts, marks) {
        Ok(first) => {
            if let Some((placed, _)) = &first {
                placed.link.reuse(parts.headers);
            }
            if first.is_some() && !serving.attempt.has_body {
                return Begun::Sent { serving, sent: first };
            }
            let body = serving.attempt.has_body.then_some(body);
            Begun::Longer(Box::pin(serving.run(first, body)))
        }
        Err(refusal) => Begun::Answered(refused(&refusal), serving.line.take()),
    }
}

/// A request that is being served.
pub(in crate::gateway) enum Begun {
    Answered(Answer, Option<Box<Pending>>),
    /// As most are: it is with an instance and has no body, so all that is left is to wait for the head of its response.
    Sent {
        serving: Serving,
        sent: Option<(Placed, Exchange)>,
    },
    /// It waits for an instance, or has a body to send, or is sent once more.
    Longer(Pin<Box<dyn Future<Output = Answer>>>),
}

impl Begun {
    /// The response, once. Nothing of it is moved that can stay where it is.
    pub(in crate::gateway) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        let (serving, sent) = match self {
            Self::Longer(answer) => return answer.as_mut().poll(cx),
            Self::Answered(answer, line) => {
                return Poll::Ready(logged(std::mem::replace(answer, nothing()), line.take()));
            }
            Self::Sent { serving, sent } => (serving, sent),
        };
        let Some((_, exchange)) = sent else { unreachable!("a request is answered once") };
        let head = ready!(exchange.poll_head(cx));
        let Some((placed, exchange)) = sent.take() else { unreachable!("it was there") };
        let tried = match head {
            Ok(head) => Tried::Answer(serving.response(placed, exchange, head)),
            Err(failure) => serving.after(failure, exchange, &placed, None),
        };
        match tried {
            Tried::Answer(answer) => Poll::Ready(logged(answer, serving.line.take())),
            Tried::Again(body) => {
                let Self::Sent { serving, .. } = std::mem::replace(self, Self::Answered(nothing(), None))
                else {
                    unreachable!("it was looked at")
                };
                *self = Self::Longer(Box::pin(serving.run(None, body)));
                self.poll_answer(cx)
            }
        }
    }
}

/// Ends the line of an answer that is whole. That of a stream goes with it.
fn logged(answer: Answer, line: Option<Box<Pending>>) -> Answer {
    if let Some(mut line) = line {
        line.answered(answer.status());
        if let ResponseBody::Whole(body) = answer.body() {
            line.sent(body.len());
        }
        line.complete();
    }
    answer
}

/// Requests that go to no module.
fn answered_here(thread: &Rc<Thread>, parts: &Parts, marks: &Marks<'_>, body: &Incoming) -> Option<Answer> {
    if let Err(Refused(status, sentence)) = head::check(parts, marks, body) {
        return Some(closing(say(status, sentence)));
    }
    let path = parts.uri.path();
    if path == "*" {
        // It asks what this server can do at all: a ping (RFC 9110, section 9.3.7).
        let mut pong = nothing();
        *pong.status_mut() = StatusCode::NO_CONTENT;
        return Some(pong);
    }
    let own = path.strip_prefix(RESERVED_PREFIX).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
    Some(match own {
        "/live" => say(StatusCode::OK, "live"),
        "/ready" => match thread.not_ready() {
            None => say(StatusCode::OK, "ready"),
            Some(reason) => say(StatusCode::SERVICE_UNAVAILABLE, &reason),
        },
        _ => say(StatusCode::NOT_FOUND, "the gateway itself answers only /-/ready and /-/live here"),
    })
}

/// A request on its way to an answer.
pub(in crate::gateway) struct Serving {
    thread: Rc<Thread>,
    client: Rc<Client>,
    /// The release that it is pinned to.
    pin: Option<String>,
    /// It is a HEAD, so its response has no body.
    to_head: bool,
    /// The protocol to which it asks to change its connection, if that is possible.
    upgrade: Option<HeaderValue>,
    attempt: Attempt,
    kept: Kept,
    /// No one by weight, any more: it waits for stable, or is sent there once more.
    for_stable: bool,
    /// The instance that it was lost with.
    lost_with: Option<InstanceId>,
    arrived: Option<Instant>,
    placements: u32,
    /// Its line of the access log, if there is one.
    line: Option<Box<Pending>>,
    busy: Option<Busy>,
}

/// What came of one attempt.
enum Tried {
    Answer(Answer),
    /// The host was lost or refused; the body goes to the next, if there is one.
    Again(Option<Incoming>),
}

impl Serving {
    /// Sends the request if an instance is ready, and keeps it in any case.
    fn first(&mut self, parts: &Parts, marks: Marks<'_>) -> Result<Option<(Placed, Exchange)>, Refusal> {
        let client = Rc::clone(&self.client);
        let upgrade = forward::upgrade(parts, &marks, self.attempt.has_body);
        self.upgrade = upgrade.cloned();
        let fields = RequestFields::new(parts, marks, &client, upgrade);
        let (method, target) = (parts.method.as_str().as_bytes(), forward::target(parts));
        let mut wish = self.wish(marks.host(parts), parts.uri.path());
        let placed = self.thread.place_now(&mut wish);
        self.for_stable = wish.is_for_stable();
        match placed.transpose()? {
            Some(placed) => self.send(placed, method, target, fields.iter()).map(Some),
            None => {
                self.arrived = Some(Instant::now());
                let peer = client.peer().as_bytes();
                let head = RequestHead { method, target, peer, deadline_ms: 0, window: INITIAL_WINDOW };
                self.kept = Kept::encode(&head, fields.iter()).map_err(Refusal::Head)?;
                Ok(None)
            }
        }
    }

    /// Sends the request as it was kept, once an instance is ready.
    async fn again(&mut self) -> Result<(Placed, Exchange), Refusal> {
        let request = self.kept.request();
        let wish = self.wish(forward::host_of(&request.fields), forward::path(request.target()));
        let placed = self.thread.place(wish).await?;
        self.send(placed, request.method(), request.target(), request.fields.iter())
    }

    fn wish<'w>(&'w self, host: Option<&'w str>, path: &'w str) -> Wish<'w> {
        let choice = match self.pin.as_deref() {
            Some(wanted) => Choice::Pinned(wanted),
            None if self.for_stable => Choice::Stable { lost: self.lost_with },
            None => Choice::ByWeight,
        };
        Wish { host, path, choice, arrived: self.arrived }
    }

    /// Serves it to the end of the last attempt. `first`: it is with an instance already.
    async fn run(mut self, first: Option<(Placed, Exchange)>, mut body: Option<Incoming>) -> Answer {
        let mut next = first;
        let answer = loop {
            let (placed, exchange) = match next.take() {
                Some(sent) => sent,
                None => match self.again().await {
                    Ok(sent) => sent,
                    Err(refusal) => break refused(&refusal),
                },
            };
            match self.try_at(placed, exchange, body).await {
                Tried::Answer(answer) => break answer,
                Tried::Again(again) => body = again,
            }
        };
        logged(answer, self.line.take())
    }

    async fn try_at(&mut self, placed: Placed, exchange: Exchange, body: Option<Incoming>) -> Tried {
        let mut upload = body.map(|body| Upload::new(body, self.thread.config().max_body_bytes));
        let sender = upload.is_some().then(|| exchange.sender());
        let mut uploaded = None;
        let head = poll_fn(|cx| {
            if let (Some(upload), Some(sender), None) = (&mut upload, &sender, uploaded)
                && let Poll::Ready(end) = upload.poll(sender, cx)
            {
                uploaded = Some(end);
                if matches!(end, UploadEnd::TooLarge | UploadEnd::ClientGone) {
                    return Poll::Ready(Err(Failure::ByClient));
                }
            }
            exchange.poll_head(cx)
        })
        .await;
        self.attempt.body_taken |= upload.as_ref().is_some_and(Upload::is_taken);
        match (head, upload) {
            (Ok(head), upload) => {
                if let (Some(upload), Some(sender), None) = (upload, sender, uploaded) {
                    self.thread.spawn(body::rest_of(upload, sender));
                }
                Tried::Answer(self.response(placed, exchange, head))
            }
            (Err(_), Some(upload)) if uploaded == Some(UploadEnd::TooLarge) => {
                drop(exchange);
                Tried::Answer(too_large(&self.thread, upload.into_body(), self.busy.take()))
            }
            (Err(_), _) if uploaded == Some(UploadEnd::ClientGone) => {
                drop(exchange);
                let text = "the request's body broke off, or it is not framed as HTTP asks";
                Tried::Answer(closing(say(StatusCode::BAD_REQUEST, text)))
            }
            (Err(failure), upload) => self.after(failure, exchange, &placed, upload),
        }
    }

    /// Sends the request, and keeps it as it was sent.
    fn send<'f>(
        &mut self,
        placed: Placed,
        method: &[u8],
        target: &[u8],
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
    ) -> Result<(Placed, Exchange), Refusal> {
        self.placements += 1;
        if let Some(line) = &mut self.line {
            line.placed(&placed.module.table.module, placed.release);
        }
        self.arrived = Some(placed.arrived);
        let deadline = placed.arrived + placed.module.table.deadline;
        let left = deadline.saturating_duration_since(placed.at).as_millis();
        // Zero would be no deadline.
        let deadline_ms = u32::try_from(left).unwrap_or(u32::MAX).max(1);
        let window = placed.link.window();
        let head = RequestHead { method, target, peer: self.client.peer().as_bytes(), deadline_ms, window };
        let start = Start {
            started: placed.at,
            deadline,
            counted: placed.counted,
            request_ended: !self.attempt.has_body,
            bodiless: self.to_head,
            upgrade: self.upgrade.is_some(),
            may_last: placed.link.tells_deadlines(),
            window,
        };
        match placed.link.send(start, &head, fields, placed.permit.gate()) {
            Ok((exchange, kept)) => {
                self.kept = kept;
                Ok((placed, exchange))
            }
            Err(error) => {
                placed.link.recorder().not_sent(placed.counted);
                Err(Refusal::Head(error))
            }
        }
    }

    /// The client's response out of the host's.
    fn response(&mut self, placed: Placed, exchange: Exchange, mut head: Head) -> Answer {
        if self.thread.config().show_release {
            head.headers.insert(&forward::RELEASE, HeaderValue::from(placed.release));
        }
        if head.is_bodiless(self.to_head) {
            exchange.end_answered(head.status.as_u16());
            return head.without_body(self.to_head);
        }
        if head.end {
            return head.whole();
        }
        let mut permit = placed.permit;
        if exchange.is_stream() {
            match permit.into_stream() {
                Ok(stream) => permit = stream,
                Err(Full) => return self.no_stream(&placed.module.table.module),
            }
        }
        let Some(busy) = self.busy.take() else { unreachable!("a request is answered once") };
        exchange.keep(permit);
        let mut line = self.line.take();
        if let Some(line) = &mut line {
            line.answered(head.status);
        }
        if head.is_upgrade() {
            return self.upgraded(head, |client| client.hand_over(Tunnel::new(exchange, line, busy)));
        }
        let body = Stream::new(exchange, head.announced, line, busy);
        head.with_body(ResponseBody::Stream(body))
    }

    /// The module has begun a stream that it may not have. Only what can do no harm twice is to be tried again.
    fn no_stream(&self, module: &str) -> Answer {
        let text = format!("module {module} has too many streams open; try again");
        let mut answer = say(StatusCode::SERVICE_UNAVAILABLE, &text);
        if self.attempt.safe {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }

    /// The last response of a connection that is the module's from there on.
    fn upgraded(&mut self, mut head: Head, hand_over: impl FnOnce(&Client)) -> Answer {
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        if let (Entry::Vacant(protocol), Some(wanted)) = (head.headers.entry(UPGRADE), self.upgrade.take()) {
            protocol.insert(wanted);
        }
        hand_over(&self.client);
        head.with_body(ResponseBody::Whole(Bytes::new()))
    }

    /// What follows a failure.
    fn after(
        &mut self,
        failure: Failure,
        exchange: Exchange,
        placed: &Placed,
        upload: Option<Upload>,
    ) -> Tried {
        let module = &placed.module.table.module;
        let (status, text) = match failure {
            Failure::Lost(progress) => {
                drop(exchange);
                let lost = Some(placed.link.instance());
                return self.after_loss(progress, placed, lost, upload);
            }
            Failure::Refused => return self.after_refusal(exchange, placed, upload),
            Failure::Aborted => (StatusCode::INTERNAL_SERVER_ERROR, "failed while it handled the request"),
            Failure::Malformed => return Tried::Answer(bad_response(placed, &exchange)),
            Failure::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "did not answer within its deadline"),
            Failure::ByClient => {
                let late = say(StatusCode::REQUEST_TIMEOUT, "the request's body did not come in time");
                return Tried::Answer(closing(late));
            }
        };
        Tried::Answer(say(status, &format!("module {module} {text}")))
    }

    /// What follows a refusal. That of an instance which is told to stop is as expected, and its module has not seen the
    /// request. Any other is the instance's error, and nobody knows what it did before.
    fn after_refusal(&mut self, exchange: Exchange, placed: &Placed, upload: Option<Upload>) -> Tried {
        if !self.thread.has(placed.link.instance()) {
            drop(exchange);
            return self.after_loss(Progress::Unsent, placed, None, upload);
        }
        exchange.end(Outcome::Aborted, CancelReason::ClientGone);
        // Where it is stable that refused, nobody else could take it.
        self.after_loss(Progress::Sent, placed, None, upload)
    }

    /// `lost`: the instance that is gone.
    fn after_loss(
        &mut self,
        progress: Progress,
        placed: &Placed,
        lost: Option<InstanceId>,
        upload: Option<Upload>,
    ) -> Tried {
        match after_loss(self.attempt, progress) {
            Next::Place if self.placements < MOST_PLACEMENTS => Tried::Again(upload.map(Upload::into_body)),
            Next::Retry if placed.permit.gate().take_retry() => {
                self.attempt.retried = true;
                self.for_stable = true;
                self.lost_with = lost;
                if lost.is_some() && placed.counted {
                    placed.link.recorder().sent_again();
                }
                Tried::Again(None)
            }
            Next::Place | Next::Retry | Next::Fail => {
                let module = &placed.module.table.module;
                let what = if lost.is_some() { "was lost while it handled" } else { "refused" };
                let text = format!("module {module} {what} the request");
                Tried::Answer(say(StatusCode::BAD_GATEWAY, &text))
            }
        }
    }
}
