//! The connection to a node: one HTTP/2 channel, with the token on every call. It goes to another node by itself where there
//! is one and the former can't be reached any more.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hot_proto::v1::GetNodeRequest;
use hot_proto::v1::artifact_service_client::ArtifactServiceClient;
use hot_proto::v1::event_service_client::EventServiceClient;
use hot_proto::v1::module_service_client::ModuleServiceClient;
use hot_proto::v1::node_service_client::NodeServiceClient;
use hot_proto::v1::plan_service_client::PlanServiceClient;
use hot_proto::v1::rollout_service_client::RolloutServiceClient;
use hyper_util::rt::TokioIo;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use super::address::Address;
use super::deadline::Wait;
use super::owner::Owner;
use super::route::{ReachError, Route, Unreached};
use super::search::Found;
use crate::exit::Exit;
use crate::failure::{Failure, innermost, no_grpc};
use crate::output::{Notice, Out};
use crate::words;

/// Whoever is no node says so at once.
const GREETING: Duration = Duration::from_secs(3);

/// A connection that answers no ping for [`PING_DEADLINE`] is dead: a watch must not wait for ever on a machine that
/// lost its power.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_DEADLINE: Duration = Duration::from_secs(10);

/// A node that is well answers within milliseconds; who waits for longer than this wants to know for what.
const SILENCE: Duration = Duration::from_secs(3);

/// A status of thousands of instances is a few MiB.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// A channel that sends the token.
type Authorised = InterceptedService<Channel, Token>;

/// `authorization: Bearer ...`, or nothing.
#[derive(Clone, Default)]
pub(crate) struct Token(Option<MetadataValue<Ascii>>);

/// Without the secret: it must not get into an error or a log.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Token(set)" } else { "Token(none)" })
    }
}

impl Token {
    /// The token for `found`: `HOTCTL_TOKEN` (as `given`), else the recorded dev node's own.
    pub(crate) fn choose(given: Option<&str>, found: &Found) -> Result<Self, Failure> {
        // Who calls is said by a certificate there, and nobody asks for a token.
        if matches!(found.address, Address::Https(_)) {
            return Ok(Self(None));
        }
        let text = match given.map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) if found.address.is_local() => text.to_owned(),
            Some(_) => {
                return Err(Failure::failed(
                    "token_in_clear",
                    format!(
                        "HOTCTL_TOKEN is set and {} is another machine: a token is not sent in clear text; unset it, \
                         or use a tunnel to the node's loopback address",
                        found.address
                    ),
                ));
            }
            // A socket asks for none, so a token that can't be read is no reason to stop.
            None => match found.dev.as_ref().and_then(|node| node.token().ok()) {
                Some(text) => text,
                None => return Ok(Self(None)),
            },
        };
        let mut value = MetadataValue::try_from(format!("Bearer {text}")).map_err(|_invalid| {
            Failure::usage("HOTCTL_TOKEN has characters that no token has: expected the content of the node's token file")
        })?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A node that answered.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    channel: Authorised,
    found: Found,
    route: Arc<Route>,
    notice: Notice,
}

impl Client {
    /// Connects, to the first node that can be reached where there are several. Fails within seconds when nobody is there.
    /// A node that then says nothing for long is told of by `notice`.
    pub(crate) async fn connect(found: Found, token: Token, notice: Notice) -> Result<Self, Failure> {
        let endpoint = endpoint(&found.address).map_err(|error| unanswered(&found, &innermost(&error)))?;
        let route = Arc::new(Route::to(&found));
        // Here each reason is known as such; later ones come by way of a status.
        let first = Arc::new(Mutex::new(Some(
            route.connect().await.map_err(|unreached| unreachable(&found, &unreached))?,
        )));
        let again = Arc::clone(&route);
        let connector = tower::service_fn(move |_| {
            let (route, first) = (Arc::clone(&again), Arc::clone(&first));
            async move {
                let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
                let stream = match first {
                    Some(stream) => stream,
                    None => route.connect().await?,
                };
                Ok::<_, Unreached>(TokioIo::new(stream))
            }
        });
        let channel = endpoint.connect_with_connector(connector).await;
        let channel = channel.map_err(|error| unanswered(&found, &innermost(&error)))?;
        let client = Self { channel: InterceptedService::new(channel, token), found, route, notice };
        if !matches!(client.address(), Address::Unix(_)) {
            client.must_speak_grpc().await?;
        }
        Ok(client)
    }

    /// How the node was found.
    pub(crate) const fn found(&self) -> &Found {
        &self.found
    }

    /// The node that was reached last.
    pub(crate) fn address(&self) -> &Address {
        self.route.current()
    }

    /// Whether there are other nodes to ask.
    pub(crate) fn has_others(&self) -> bool {
        self.route.is_of_several()
    }

    pub(crate) fn artifacts(&self) -> ArtifactServiceClient<Authorised> {
        ArtifactServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn rollouts(&self) -> RolloutServiceClient<Authorised> {
        RolloutServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn modules(&self) -> ModuleServiceClient<Authorised> {
        ModuleServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn events(&self) -> EventServiceClient<Authorised> {
        EventServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn plans(&self) -> PlanServiceClient<Authorised> {
        PlanServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn nodes(&self) -> NodeServiceClient<Authorised> {
        NodeServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// What the node answers to `call`, for which it waits for nothing. For a stream that is its beginning.
    pub(crate) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        self.answer_after(Wait::Nothing, call).await
    }

    /// What the node answers to `call`, which may take as long as what it waits for.
    pub(crate) async fn answer_after<T>(
        &self,
        wait: Wait,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        tokio::select! {
            answer = within(wait.deadline(), call) => answer,
            never = self.tell_of_silence() => match never {},
        }
    }

    /// As [`Client::answer`], for a command that a node can do nothing but answer or refuse.
    pub(crate) async fn ask<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        self.ask_after(Wait::Nothing, call).await
    }

    /// As [`Client::answer_after`], for a command that a node can do nothing but answer or refuse.
    pub(crate) async fn ask_after<T>(
        &self,
        wait: Wait,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        self.answer_after(wait, call).await.map_err(|status| Failure::of_command(&status))
    }

    /// Fails where something else answers than a node, as the gateway of one does at the port that modules are served at. To
    /// any call it says that it knows none such, which an older node says as well of what it can't do.
    async fn must_speak_grpc(&self) -> Result<(), Failure> {
        let answer =
            tokio::time::timeout(GREETING, self.answer(self.nodes().get(GetNodeRequest::default()))).await;
        // Whatever else is wrong the command itself will meet.
        let Some(cause) = answer.ok().and_then(Result::err).as_ref().and_then(no_grpc) else { return Ok(()) };
        let (Found { how, instead, .. }, address) = (&self.found, self.address());
        let instead = instead.as_deref().unwrap_or(
            "modules are served over HTTP at a port of their own; name the node's control socket with --node unix:PATH (a \
             service has unix:/run/hot/hotd.sock), or the `grpc` address that `hotd --dev` prints when it is ready",
        );
        let sentence = format!(
            "what answers at {address} ({how}) is no gRPC of a node, or went away at once ({cause}); {instead}"
        );
        Err(Failure::failed("no_node", sentence))
    }

    /// Says that a node is silent, once it has been so for [`SILENCE`]. Never ends.
    async fn tell_of_silence(&self) -> Infallible {
        tokio::time::sleep(SILENCE).await;
        let (address, silence) = (self.address(), words::span(SILENCE));
        self.notice.give(&format!(
            "waiting for the node at {address}, which has not answered for {silence}; Ctrl-C leaves"
        ));
        std::future::pending().await
    }
}

async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_elapsed) => Err(Status::deadline_exceeded(format!(
            "the node has not answered within {}; its log may say why, `hotctl status` whether it did what was asked",
            words::span(deadline)
        ))),
    }
}

/// The next message of a stream that a command shows, however long it takes: a node that is gone is noticed by
/// [`PING_INTERVAL`], and a reader that has left at once, also where there is nothing to show.
pub(crate) async fn next<T>(stream: &mut Streaming<T>, out: &Out) -> Result<Option<T>, Failure> {
    tokio::select! {
        message = stream.message() => message.map_err(|status| Failure::of_command(&status)),
        left = out.left() => Err(left.into()),
    }
}

/// What the connections are used by, wherever they go. The address is what the node is called by; the scheme has to be one
/// without TLS, of which tonic then knows nothing.
fn endpoint(address: &Address) -> Result<Endpoint, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{}", address.authority().unwrap_or("hotd")))?
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_DEADLINE)
        .user_agent(concat!("hotctl/", env!("CARGO_PKG_VERSION")))
}

/// Why no node was reached, and what to do.
fn unreachable(found: &Found, unreached: &Unreached) -> Failure {
    let [(address, error)] = &unreached.0[..] else {
        let is_refused = |(_, error): &(Address, ReachError)| matches!(error, ReachError::Refused(_));
        let exit = if unreached.0.iter().all(is_refused) { Exit::Refused } else { Exit::Failed };
        let sentence = format!(
            "no node answers ({}): {}; check that hotd runs there, or name another node with --node",
            found.how,
            unreached.tried()
        );
        return Failure::new(exit, "unreachable", sentence);
    };
    match (address, error) {
        (Address::Unix(path), ReachError::Io(error)) if is_denied(error) => match Owner::of(path) {
            Some(owner) => {
                let sentence = format!("the node at {address} ({}) may not be asked: {owner}", found.how);
                Failure::failed("unreachable", sentence)
            }
            None => unanswered(found, &innermost(error)),
        },
        (_, ReachError::Credentials(error)) => Failure::failed(
            "credentials",
            format!("{error}; name three files that belong together, as `hotctl pki` makes them"),
        ),
        (_, ReachError::Refused(alert)) => Failure::refused(
            "certificate_refused",
            format!(
                "the node at {address} ({}) does not take the certificate that it is shown: {alert}; expected one that its \
                 authority has signed and that is good now: see its time (`hotctl pki renew` makes a new one), the node's \
                 `authority`, and its log for the reason",
                found.how
            ),
        ),
        (_, ReachError::Untrusted(error)) => Failure::failed(
            "node_untrusted",
            format!(
                "what answers at {address} ({}) is not taken for a node: {error}; expected a certificate that --node-authority has \
                 signed for this name or address, at the port of the node's [grpc.tls]",
                found.how
            ),
        ),
        (_, error) => unanswered(found, &error.to_string()),
    }
}

fn unanswered(found: &Found, why: &str) -> Failure {
    let sentence = format!(
        "no node answers at {} ({}): {why}; check that hotd runs there, or name another node with --node",
        found.address, found.how
    );
    Failure::failed("unreachable", sentence)
}

/// The system said that this user may not.
fn is_denied(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    causes.any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    fn notice() -> Notice {
        Out::into_sink(Format::Text, io::sink()).notice()
    }

    fn found(address: &str) -> Found {
        Found::at(address.parse().expect("an address"), "the test says so")
    }

    #[test]
    fn a_token_stays_on_the_machine() {
        assert!(Token::choose(Some("secret"), &found("http://127.0.0.1:1")).is_ok());
        let failure = Token::choose(Some("secret"), &found("http://10.0.0.1:1")).expect_err("refused");
        assert!(!failure.sentence.contains("secret"));
        assert!(Token::choose(None, &found("http://10.0.0.1:1")).is_ok(), "no token, nothing to leak");
        let by_certificate = Token::choose(Some("secret"), &found("https://10.0.0.1:1")).expect("not sent");
        assert!(by_certificate.0.is_none());
        assert!(Token::choose(Some("a\nb"), &found("http://127.0.0.1:1")).is_err());
        let token = Token::choose(Some("secret"), &found("unix:/x")).expect("a token");
        assert!(!format!("{token:?}").contains("secret"));
    }

    #[test]
    fn a_dev_nodes_token_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("token"), "abc\n").expect("writes");
        let mut found = found("http://127.0.0.1:1");
        found.dev = Some(super::super::dev::DevNode {
            http: String::new(),
            grpc: "127.0.0.1:1".to_owned(),
            socket: "/s".into(),
            data_dir: folder.path().to_owned(),
            pid: 1,
        });
        let mut token = Token::choose(None, &found).expect("a token");
        let request = token.call(Request::new(())).expect("passes");
        assert_eq!(request.metadata().get("authorization").expect("is set"), "Bearer abc");
    }

    #[tokio::test]
    async fn nobody_there_is_one_sentence() {
        let folder = tempfile::tempdir().expect("a folder");
        let found = found(&format!("unix:{}", folder.path().join("none.sock").display()));
        let failure = Client::connect(found, Token::default(), notice()).await.expect_err("nobody there");
        assert_eq!(failure.exit.code(), 1);
        assert!(
            failure.sentence.contains("none.sock (the test says so): No such file"),
            "{}",
            failure.sentence
        );
    }

    #[tokio::test]
    async fn each_node_that_was_tried_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| format!("unix:{}", folder.path().join(name).display());
        let others = vec![at("two.sock").parse().expect("an address")];
        let found = Found { others, ..found(&at("one.sock")) };
        let failure = Client::connect(found, Token::default(), notice()).await.expect_err("nobody there");
        assert_eq!((failure.exit.code(), failure.code.as_str()), (1, "unreachable"));
        let names = format!(
            "{}: No such file or directory (os error 2); {}: No such",
            at("one.sock"),
            at("two.sock")
        );
        assert!(failure.sentence.contains(&names), "{}", failure.sentence);
    }

    #[tokio::test]
    async fn a_web_server_is_no_node() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let found = found(&format!("http://{}", listener.local_addr().expect("an address")));
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).await.expect("the preface of HTTP/2");
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.expect("writes");
            stream
        });
        let failure = Client::connect(found, Token::default(), notice()).await.expect_err("no gRPC");
        assert_eq!((failure.exit.code(), failure.code.as_str()), (1, "no_node"));
        let says = "(the test says so) is no gRPC of a node, or went away at once (";
        assert!(failure.sentence.contains(says), "{}", failure.sentence);
        assert!(failure.sentence.contains("control socket with --node unix:PATH"), "{}", failure.sentence);
        drop(server.await.expect("answers"));
    }

    #[tokio::test]
    async fn a_socket_of_somebody_else_is_told_from_no_node() {
        let folder = tempfile::tempdir().expect("a folder");
        let denied = |address: &str| {
            let found = found(address);
            let denied = io::Error::from(io::ErrorKind::PermissionDenied);
            unreachable(&found, &Unreached(vec![(found.address.clone(), denied.into())]))
        };
        let path = folder.path().join("hotd.sock");
        let failure = denied(&format!("unix:{}", path.display()));
        let folder = format!("{} belongs to user ", folder.path().display());
        assert!(failure.sentence.contains(&folder), "what is there of the path: {}", failure.sentence);
        assert!(!failure.sentence.contains("check that hotd runs"), "{}", failure.sentence);
        let failure = denied("http://127.0.0.1:1");
        assert!(failure.sentence.contains("check that hotd runs"), "no socket: {}", failure.sentence);
    }

    #[tokio::test]
    async fn a_node_that_answers_is_not_told_of() {
        let node = crate::fake::FakeNode::start(crate::fake::Script::default());
        let client = node.client().await;
        let call = std::future::pending::<Result<Response<()>, Status>>();
        tokio::time::timeout(SILENCE / 30, client.answer(call)).await.expect_err("it is silent");
        assert!(!client.notice.is_given(), "not for so long");
        client.answer(std::future::ready(Ok(Response::new(())))).await.expect("an answer");
        let silent = client.tell_of_silence();
        tokio::time::timeout(SILENCE + SILENCE / 10, silent).await.expect_err("never ends");
        assert!(client.notice.is_given());
    }

    #[tokio::test]
    async fn a_node_that_never_answers_is_given_up() {
        let call = std::future::pending::<Result<Response<()>, Status>>();
        let status = within(Duration::ZERO, call).await.expect_err("given up");
        let failure = Failure::of_command(&status);
        assert_eq!(failure.exit.code(), 5);
        assert!(failure.sentence.contains("has not answered within 0ms"), "{}", failure.sentence);
    }
}
