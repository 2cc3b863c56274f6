//! Any node answers for all: calls that only the leader can answer go to it, as they are, and so does what it answers.
//!
//! Nothing is decoded on the way. A call that came from another node is answered here, whoever leads, so that none goes
//! round in circles.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hot_proto::v1::{self, rollout_selector::By};
use hot_rollout::{Module, Node, ReleaseNumber};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use prost::Message as _;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service, ServiceExt as _};

use super::auth::{CALLER, Caller, FORWARDED, OWN, OwnUser};
use super::mutual::Shown;
use super::status::{Refused, refused};
use crate::agent::Agent;
use crate::cluster::Fleet;
use crate::cluster::fleet::State;
use crate::driver::Driver;

/// What only the leader can do or knows, by the path of the call.
const OF_THE_LEADER: [&str; 19] = [
    "/hot.v1.RolloutService/Start",
    "/hot.v1.RolloutService/Get",
    "/hot.v1.RolloutService/List",
    "/hot.v1.RolloutService/Watch",
    "/hot.v1.RolloutService/Promote",
    "/hot.v1.RolloutService/Pause",
    "/hot.v1.RolloutService/Resume",
    "/hot.v1.RolloutService/Abort",
    "/hot.v1.RolloutService/Rollback",
    "/hot.v1.ModuleService/List",
    "/hot.v1.ModuleService/Get",
    "/hot.v1.ModuleService/Watch",
    "/hot.v1.ModuleService/History",
    "/hot.v1.ModuleService/Remove",
    "/hot.v1.PlanService/Plan",
    "/hot.v1.NodeService/Cordon",
    "/hot.v1.NodeService/Drain",
    "/hot.v1.NodeService/Uncordon",
    "/hot.v1.NodeService/Leave",
];

/// Toward stable waits for nobody: what this node tries it takes back before such a call is sent on, and all of it this node
/// does alone where the leader can't be reached, says nothing, or can't tell its fleet.
const ABORT: &str = "/hot.v1.RolloutService/Abort";
const ROLLBACK: &str = "/hot.v1.RolloutService/Rollback";
/// How long the leader may take over them: as a rule a lease, after which another one leads.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the next leader may take over what the one before it did not answer, with the time in which it takes over.
const NEXT_PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries to have it do so.
const RETRY: Duration = Duration::from_millis(250);
/// Bytes before a message in a call.
const FRAME: usize = 5;

/// The largest of these calls, bytes.
const MAX_ORDER: usize = 64 * 1024;

/// Sends calls on to the leader; without a fleet none.
#[derive(Clone, Debug)]
pub(super) struct ForwardLayer {
    pub(super) fleet: Option<Fleet>,
    /// This node's: what it tries is taken back first.
    pub(super) agent: Agent,
    /// This node's: it may be the next to lead.
    pub(super) driver: Driver,
}

/// See [`ForwardLayer`].
#[derive(Clone, Debug)]
pub(super) struct Forward<S> {
    inner: S,
    fleet: Option<Arc<Fleet>>,
    agent: Agent,
    driver: Driver,
}

impl<S> Layer<S> for ForwardLayer {
    type Service = Forward<S>;

    fn layer(&self, inner: S) -> Forward<S> {
        let (agent, driver) = (self.agent.clone(), self.driver.clone());
        Forward { inner, fleet: self.fleet.clone().map(Arc::new), agent, driver }
    }
}

impl<S> Service<Request<Body>> for Forward<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(caller) = self.fleet.as_ref().and_then(|fleet| spoken_for(fleet, &request)) {
            request.extensions_mut().insert(caller);
        }
        let leader = self.fleet.as_ref().and_then(|fleet| elsewhere(fleet, &request));
        match leader {
            None => Box::pin(self.inner.call(request)),
            Some((node, url, fleet)) => {
                // The one that is ready is the one that is called.
                let again = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, again);
                let (agent, driver) = (self.agent.clone(), self.driver.clone());
                Box::pin(async move {
                    if [ABORT, ROLLBACK].contains(&request.uri().path()) {
                        let here = (&agent, &driver);
                        return send_or_do((inner, here), request, (&node, &url), &fleet).await;
                    }
                    Ok(send(request, &node, &url, &fleet).await)
                })
            }
        }
    }
}

/// Whether another node has sent this call on.
pub(super) fn is_sent_on<T>(request: &tonic::Request<T>) -> bool {
    request.metadata().contains_key(FORWARDED)
}

/// For whom another node has sent this call on. Anybody can say so; it is believed of a node by its certificate, and of
/// the user that runs this hotd.
fn spoken_for(fleet: &Fleet, request: &Request<Body>) -> Option<Caller> {
    let caller = request.headers().get(CALLER)?.to_str().ok()?;
    let extensions = request.extensions();
    let is_node = |shown: &Shown| fleet.state().nodes.contains_key(&Node(shown.name.to_string()));
    let believed = extensions.get::<OwnUser>().is_some() || extensions.get::<Shown>().is_some_and(is_node);
    (believed && request.headers().contains_key(FORWARDED)).then(|| Caller(caller.to_owned()))
}

/// The leader and where it is called, if this call is for another node.
fn elsewhere(fleet: &Arc<Fleet>, request: &Request<Body>) -> Option<(Node, String, Arc<Fleet>)> {
    let of_the_leader = OF_THE_LEADER.contains(&request.uri().path());
    let is_for_us = [FORWARDED, OWN].iter().any(|name| request.headers().contains_key(*name));
    if !of_the_leader || is_for_us {
        return None;
    }
    let (leader, url) = leader_elsewhere(fleet)?;
    Some((leader, url, Arc::clone(fleet)))
}

/// The leader and where it is called, where that is another node.
fn leader_elsewhere(fleet: &Fleet) -> Option<(Node, String)> {
    let state = fleet.state();
    // Where etcd can't be heard this node says what it knows, and does what it can.
    if fleet.standing().borrow().stale.is_some() {
        return None;
    }
    let (leader, _) = state.leader.as_ref().filter(|(leader, _)| leader != fleet.node())?;
    let url = state.nodes.get(leader)?.grpc.clone();
    Some((leader.clone(), url))
}

/// Sends a call on that this node answers by itself where the leader could not.
async fn send_or_do<S>(
    (mut inner, (agent, driver)): (S, (&Agent, &Driver)),
    request: Request<Body>,
    (node, url): (&Node, &str),
    fleet: &Fleet,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_ORDER).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            return Ok(Status::invalid_argument(format!("the call can't be read: {error}")).into_http());
        }
    };
    let order = || Request::from_parts(head.clone(), Body::new(Full::new(body.clone())));
    if let Some(module) = tried(agent, head.uri.path(), &body) {
        let by = head.extensions.get::<Caller>().map_or("unknown", |Caller(by)| by);
        let _moved = agent.turn_back(&module, None, by);
    }
    // Before the leader is asked: it may do it, and go silent then.
    let was = stable_of(agent, head.uri.path(), &body);
    let is_repeatable = is_repeatable(head.uri.path(), &body);
    let answer = match first_heard(&order, is_repeatable, (node, url), fleet).await {
        None if is_repeatable => next_heard(&order, node, fleet, driver).await,
        answer => answer,
    };
    if let Some(answer) = answer {
        return Ok(answer);
    }
    let mut order = order();
    if let Some(was) = was {
        order.extensions_mut().insert(was);
    }
    inner.call(order).await
}

/// What the leader answers. `None`: it can't be reached, can't tell the fleet, or says nothing in time; where the call may be
/// made once more, also that another node leads by now.
async fn first_heard(
    order: &impl Fn() -> Request<Body>,
    is_repeatable: bool,
    (node, url): (&Node, &str),
    fleet: &Fleet,
) -> Option<Response<Body>> {
    let first = async {
        tokio::select! {
            answer = ask(order(), node, url, fleet) => answer,
            () = another_leads(fleet, node), if is_repeatable => None,
        }
    };
    tokio::time::timeout(PATIENCE, first).await.ok().flatten()
}

/// What the leader after `node` answers. `None`: there is none, it says nothing in time, or it is this node, which drives
/// then.
async fn next_heard(
    order: &impl Fn() -> Request<Body>,
    node: &Node,
    fleet: &Fleet,
    driver: &Driver,
) -> Option<Response<Body>> {
    let next = async {
        loop {
            let leads_here = fleet.state().leader.as_ref().is_some_and(|(leader, _)| leader == fleet.node());
            if leads_here && driver.drives_all() {
                return None;
            }
            if !leads_here {
                let (next, url) = leader_elsewhere(fleet).filter(|(next, _)| next != node)?;
                if let Some(answer) = ask(order(), &next, &url, fleet).await {
                    return Some(answer);
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::time::timeout(NEXT_PATIENCE, next).await.ok().flatten()
}

/// What a node answers. `None`: it can't be reached, or can't tell the fleet.
async fn ask(order: Request<Body>, node: &Node, url: &str, fleet: &Fleet) -> Option<Response<Body>> {
    let answer = send(order, node, url, fleet).await;
    let unheard =
        Status::from_header_map(answer.headers()).is_some_and(|status| status.code() == Code::Unavailable);
    (!unheard).then_some(answer)
}

/// Whether a call asks for no more when it is made twice, as where the first leader did it and did not say so.
fn is_repeatable(path: &str, body: &[u8]) -> bool {
    let named = |message| v1::RollbackRequest::decode(message).is_ok_and(|back| !back.request_id.is_empty());
    path == ABORT || body.get(FRAME..).is_some_and(named)
}

/// Returns when another node leads than this one.
async fn another_leads(fleet: &Fleet, node: &Node) {
    let another = |state: &Arc<State>| state.leader.as_ref().is_some_and(|(leader, _)| leader != node);
    // Where nobody says any more what is so, it is nobody.
    if fleet.states().wait_for(another).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What was stable on this node before the leader was asked to go back.
#[derive(Clone, Copy, Debug)]
pub(super) struct WasStable(pub(super) ReleaseNumber);

fn stable_of(agent: &Agent, path: &str, body: &[u8]) -> Option<WasStable> {
    let message = body.get(FRAME..).filter(|_| path == ROLLBACK)?;
    let module = Module(v1::RollbackRequest::decode(message).ok()?.module);
    agent.stable(&module).map(WasStable)
}

/// The module that a call toward stable is about, where this node tries a candidate of it.
fn tried(agent: &Agent, path: &str, body: &[u8]) -> Option<Module> {
    let message = body.get(FRAME..)?;
    let module = if path == ABORT {
        match v1::AbortRequest::decode(message).ok()?.rollout?.by? {
            By::Module(module) => Module(module),
            By::Id(id) => agent.tried_by(&id)?,
        }
    } else {
        Module(v1::RollbackRequest::decode(message).ok()?.module)
    };
    agent.trial(&module).map(|_| module)
}

async fn send(mut request: Request<Body>, node: &Node, url: &str, fleet: &Fleet) -> Response<Body> {
    let caller = request.extensions().get::<Caller>().cloned();
    mark(request.headers_mut(), fleet.node().as_str(), caller.as_ref());
    let channel = match fleet.peers().channel(node, url).await {
        Ok(channel) => channel,
        Err(error) => return unreachable(node, &error).into_http(),
    };
    match channel.oneshot(request).await {
        Ok(response) => response,
        Err(error) => unreachable(node, &error).into_http(),
    }
}

/// Marks a call as sent on, and for whom.
fn mark(headers: &mut HeaderMap, here: &str, caller: Option<&Caller>) {
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(FORWARDED, here);
    if let Some(Caller(caller)) = caller {
        set(CALLER, caller);
    }
}

fn unreachable(node: &Node, error: &dyn std::error::Error) -> Status {
    refused(Refused {
        grpc: Code::Unavailable,
        code: "leader_unreachable",
        field: "",
        found: format!(
            "{node} leads the fleet and can't be reached from this node: {}",
            crate::describe(error)
        ),
        expected: String::new(),
        advice: "Call another node, or try again in some seconds: another one leads when it is gone."
            .to_owned(),
    })
}
