//! What the other nodes of the fleet say of themselves, asked for and put together: each node knows its own instances and
//! troubles best.
//!
//! | room | what it is for |
//! |---|---|
//! | `order` | what several nodes tell, in one order: pure |
//! | `told` | events and lines of all nodes, as they tell them |

mod order;
mod told;

use std::time::Duration;

use futures_util::future::join_all;
use hot_proto::v1;
use hot_proto::v1::module_service_client::ModuleServiceClient;
use hot_proto::v1::node_service_client::NodeServiceClient;
use hot_rollout::Node;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

pub(super) use self::order::{by_time, latest};
pub(super) use self::told::{Piece, Said, Since, Telling, Told, tell};
use super::Api;
use super::auth::{CALLER, FORWARDED, OWN};
use super::status::{Refused, not_found, refused};

/// How long another node may take to answer. Who takes longer is shown as one that can't be reached.
const WITHIN: Duration = Duration::from_secs(1);

/// The stable word of a node that does not answer.
const UNREACHABLE: &str = "node.unreachable";

/// Callers for whom one node follows all others at once: each takes a stream of the one connection to every node, which has
/// no more than 64.
const MAX_FOLLOWERS: usize = 16;

/// Room for them.
static FOLLOWERS: Semaphore = Semaphore::const_new(MAX_FOLLOWERS);

/// A place for one who follows all nodes, for as long as it is held.
pub(super) fn place_to_follow() -> Result<SemaphorePermit<'static>, Box<Status>> {
    FOLLOWERS.try_acquire().map_err(|_full| {
        Box::new(refused(Refused {
            grpc: Code::ResourceExhausted,
            code: "too_many_followers",
            field: "",
            found: format!("{MAX_FOLLOWERS} callers follow all nodes by way of this one already"),
            expected: String::new(),
            advice: "Ask another node, or for what this one alone has to say with `--on`.".to_owned(),
        }))
    })
}

/// Nodes that are asked for what they have to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whose {
    /// By name.
    pub(super) nodes: Vec<Node>,
    /// They are all that there are, and not one that was named.
    pub(super) all: bool,
}

impl Api {
    /// What each of the other nodes says of all its modules.
    async fn modules_elsewhere(&self) -> Vec<v1::ListModulesResponse> {
        let state = self.fleet.as_ref().map(crate::cluster::Fleet::state).unwrap_or_default();
        let there = |(node, _): &(Node, String)| state.is_up(node);
        let asked = self.others().into_iter().filter(there).map(|(node, url)| async move {
            let request = self.asking(v1::ListModulesRequest {});
            let mut client = ModuleServiceClient::new(self.call(&node, &url).await?);
            Some(client.list(request).await.ok()?.into_inner())
        });
        join_all(asked.map(in_time)).await.into_iter().flatten().collect()
    }

    /// Every other node, by what it says of itself or, where it does not answer, by what the fleet knows of it.
    pub(super) async fn nodes_elsewhere(&self) -> Vec<v1::Node> {
        let asked = self.others().into_iter().map(|(node, url)| async move {
            let answer = in_time(async {
                let request = self.asking(v1::GetNodeRequest::default());
                let mut client = NodeServiceClient::new(self.call(&node, &url).await?);
                client.get(request).await.ok()?.into_inner().node
            });
            answer.await.unwrap_or_else(|| self.silent(&node))
        });
        join_all(asked).await
    }

    /// What this node says of modules, with what the others say of their instances.
    pub(super) async fn with_elsewhere(
        &self,
        mut modules: Vec<v1::Module>,
    ) -> (Vec<v1::Module>, Vec<v1::NodeProblem>) {
        let mut problems = self.problems();
        for answer in self.modules_elsewhere().await {
            problems.extend(answer.problems);
            for other in answer.modules {
                if let Some(module) = modules.iter_mut().find(|module| module.name == other.name) {
                    module.nodes.extend(other.nodes);
                }
            }
        }
        for module in &mut modules {
            module.nodes.sort_by(|one, other| one.node.cmp(&other.node));
        }
        (modules, problems)
    }

    /// Whose answers a caller wants who asks for those of the node `on`, or of all where that is empty. None: only this one's.
    pub(super) fn whose(&self, on: &str) -> Result<Option<Whose>, Box<Status>> {
        if on == self.about.node || (on.is_empty() && self.fleet.is_none()) {
            return Ok(None);
        }
        let mut nodes = self.everyone();
        if on.is_empty() {
            return Ok(Some(Whose { nodes, all: true }));
        }
        nodes.retain(|node| node.0 == on);
        if nodes.is_empty() {
            let found = format!("no node is named `{}`", on.escape_debug());
            return Err(Box::new(not_found("on", found, "`hotctl nodes` lists them.")));
        }
        Ok(Some(Whose { nodes, all: false }))
    }

    /// What each of these nodes answers, by name, as far as it does so in time; and who has.
    pub(super) async fn ask_each<T, F>(&self, whose: Whose, ask: impl Fn(Node) -> F) -> (Vec<T>, v1::Heard)
    where
        F: Future<Output = Option<T>>,
    {
        let asked = whose.nodes.into_iter().map(|node| {
            let answer = self.is_up(&node).then(|| in_time(ask(node.clone())));
            async move {
                match answer {
                    Some(answer) => (node, answer.await),
                    None => (node, None),
                }
            }
        });
        let (mut answers, mut heard) = (Vec::new(), v1::Heard::default());
        for (node, answer) in join_all(asked).await {
            match answer {
                Some(answer) => {
                    answers.push(answer);
                    heard.nodes.push(node.0);
                }
                None => heard.silent.push(node.0),
            }
        }
        (answers, heard)
    }

    /// All nodes of the fleet by name, this one among them.
    fn everyone(&self) -> Vec<Node> {
        let others = self.others().into_iter().map(|(node, _)| node);
        let mut nodes: Vec<Node> = others.chain([Node(self.about.node.clone())]).collect();
        nodes.sort();
        nodes
    }

    /// Whether that node is this one.
    pub(super) fn is_this(&self, node: &Node) -> bool {
        node.0 == self.about.node
    }

    /// Whether the fleet takes that node for one that runs.
    fn is_up(&self, node: &Node) -> bool {
        self.is_this(node) || self.fleet.as_ref().is_some_and(|fleet| fleet.state().is_up(node))
    }

    /// A connection to another node, wherever that is called now.
    pub(super) async fn reach(&self, node: &Node) -> Option<Channel> {
        let (_, url) = self.others().into_iter().find(|(other, _)| other == node)?;
        self.call(node, &url).await
    }

    /// A connection to the node that is called there; none where it can't be made.
    pub(super) async fn call(&self, node: &Node, url: &str) -> Option<Channel> {
        self.fleet.as_ref()?.peers().channel(node, url).await.ok()
    }

    /// The other nodes of the fleet, and where each is called.
    pub(super) fn others(&self) -> Vec<(Node, String)> {
        let Some(fleet) = &self.fleet else { return Vec::new() };
        let (state, here) = (fleet.state(), fleet.node().clone());
        let others = state.nodes.iter().filter(|(node, _)| **node != here);
        others.map(|(node, value)| (node.clone(), value.grpc.clone())).collect()
    }

    /// A call that the other node answers by itself.
    pub(super) fn asking<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Ok(here) = self.about.node.parse() {
            request.metadata_mut().insert(OWN, here);
        }
        request
    }

    /// The same for whoever called this node.
    pub(super) fn asking_for<T>(&self, by: &str, message: T) -> Request<T> {
        let mut request = self.asking(message);
        if let (Ok(here), Ok(by)) = (self.about.node.parse(), by.parse()) {
            request.metadata_mut().insert(FORWARDED, here);
            request.metadata_mut().insert(CALLER, by);
        }
        request
    }

    fn silent(&self, node: &Node) -> v1::Node {
        let state = self.fleet.as_ref().map(crate::cluster::Fleet::state).unwrap_or_default();
        let known = state.nodes.get(node);
        let text = if state.is_up(node) {
            "it is in the fleet, but does not answer this node within a second"
        } else {
            "its lease in etcd is over: the fleet takes it for gone until it is back"
        };
        let problem = v1::NodeProblem {
            node: node.to_string(),
            code: UNREACHABLE.to_owned(),
            text: text.to_owned(),
            since: None,
        };
        let local = state.local_rollbacks(node).map(|(module, local)| {
            self.rolled_back_alone(node, &hot_rollout::Module(module.to_string()), local)
        });
        v1::Node {
            name: node.to_string(),
            version: known.map(|of| of.hotd.clone()).unwrap_or_default(),
            http: known.map(|of| of.http.clone()).unwrap_or_default(),
            target: known.map(|of| of.target.to_string()).unwrap_or_default(),
            problems: std::iter::once(problem).chain(self.cordoned(node)).chain(local).collect(),
            ..v1::Node::default()
        }
    }
}

/// Whether a call is for what this node has to say of itself alone.
pub(super) fn is_own<T>(request: &Request<T>) -> bool {
    request.metadata().contains_key(OWN)
}

/// What another node answers, if it does so in time.
pub(super) async fn in_time<T>(answer: impl Future<Output = Option<T>>) -> Option<T> {
    tokio::time::timeout(WITHIN, answer).await.ok().flatten()
}
