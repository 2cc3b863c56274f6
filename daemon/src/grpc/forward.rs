//! Any node answers for all: calls that only the leader can answer go to it, as they are, and so does what it answers.
//!
//! Nothing is decoded on the way. A call that came from another node is answered here, whoever leads, so that none goes
//! round in circles.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hot_rollout::Node;
use http::{HeaderMap, HeaderValue, Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service, ServiceExt as _};

use super::auth::{CALLER, Caller, FORWARDED, OWN, OwnUser};
use super::mutual::Shown;
use super::status::{Refused, refused};
use crate::cluster::Fleet;

/// What only the leader can do or knows, by the path of the call.
const OF_THE_LEADER: [&str; 18] = [
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
    "/hot.v1.PlanService/Plan",
    "/hot.v1.NodeService/Cordon",
    "/hot.v1.NodeService/Drain",
    "/hot.v1.NodeService/Uncordon",
    "/hot.v1.NodeService/Leave",
];

/// Sends calls on to the leader; without a fleet none.
#[derive(Clone, Debug)]
pub(super) struct ForwardLayer(pub Option<Fleet>);

/// See [`ForwardLayer`].
#[derive(Clone, Debug)]
pub(super) struct Forward<S> {
    inner: S,
    fleet: Option<Arc<Fleet>>,
}

impl<S> Layer<S> for ForwardLayer {
    type Service = Forward<S>;

    fn layer(&self, inner: S) -> Forward<S> {
        Forward { inner, fleet: self.0.clone().map(Arc::new) }
    }
}

impl<S> Service<Request<Body>> for Forward<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Send + 'static,
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
            Some((node, url, fleet)) => Box::pin(async move { Ok(send(request, &node, &url, &fleet).await) }),
        }
    }
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
fn elsewhere(fleet: &Arc<Fleet>, request: &Request<Body>) -> Option<(String, String, Arc<Fleet>)> {
    let of_the_leader = OF_THE_LEADER.contains(&request.uri().path());
    let is_for_us = [FORWARDED, OWN].iter().any(|name| request.headers().contains_key(*name));
    if !of_the_leader || is_for_us {
        return None;
    }
    let state = fleet.state();
    // Where etcd can't be heard this node says what it knows, and does what it can.
    if fleet.standing().borrow().stale.is_some() {
        return None;
    }
    let (leader, _) = state.leader.as_ref().filter(|(leader, _)| leader != fleet.node())?;
    let url = state.nodes.get(leader)?.grpc.clone();
    Some((leader.to_string(), url, Arc::clone(fleet)))
}

async fn send(mut request: Request<Body>, node: &str, url: &str, fleet: &Fleet) -> Response<Body> {
    let caller = request.extensions().get::<Caller>().cloned();
    mark(request.headers_mut(), fleet.node().as_str(), caller.as_ref());
    let channel = match fleet.peers().channel(url).await {
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

fn unreachable(node: &str, error: &dyn std::error::Error) -> Status {
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
