//! What people do with the nodes of a fleet: keep one out of rollouts, drain it, let it come back, take it out for good.

use hot_proto::v1;
use hot_rollout::Node;
use tonic::{Code, Request, Status};

use super::Api;
use super::auth::Caller;
use super::convert;
use super::refusal::driver_refused;
use super::rollouts::checked_message;
use super::status::{Refused, not_found, refused};
use crate::cluster::Fleet;
use crate::cluster::etcd::WriteError;
use crate::cluster::fleet::values::CordonValue;
use crate::cluster::fleet::{Cordoned, FleetError};
use crate::driver::Refusal;
use crate::journal::Entry;

/// Who wants what of which node, and why.
pub(super) struct Wish {
    by: String,
    node: Node,
    message: String,
}

impl Wish {
    pub(super) fn of<T>(
        request: Request<T>,
        parts: impl FnOnce(T) -> (String, String),
    ) -> Result<Self, Status> {
        let by = Caller::of(&request);
        let (node, message) = parts(request.into_inner());
        Ok(Self { by, node: Node(node), message: checked_message(message)? })
    }

    /// An event of it; `done` goes on after the caller's name.
    fn event(&self, kind: &'static str, done: &str) -> Entry {
        let because = if self.message.is_empty() { String::new() } else { format!(": {}", self.message) };
        let text = format!("{} {done}{because}", self.by);
        Entry { kind, by: self.by.clone(), text, ..Entry::default() }
    }
}

impl Api {
    /// Keeps a node out of rollouts; with `drain` it tells load balancers to go away, too.
    pub(super) async fn cordon(&self, wish: Wish, drain: bool) -> Result<Cordoned, Status> {
        let asked = CordonValue {
            by: wish.by.clone(),
            at: crate::clock::of_day().0,
            reason: wish.message.clone(),
            drain,
        };
        let done =
            self.in_fleet()?.cordon(&wish.node, asked).await.map_err(|error| self.fleet_refused(error))?;
        if !done.already {
            let node = &wish.node;
            let entry = if drain {
                wish.event(
                    "node.drained",
                    &format!("drains {node}: it tells load balancers to go away, and rollouts leave it out"),
                )
            } else {
                wish.event("node.cordoned", &format!("cordons {node}: rollouts leave it out"))
            };
            self.journal.write(entry).await;
        }
        Ok(done)
    }

    /// Lets rollouts use a node again. Gives what was ended.
    pub(super) async fn uncordon(&self, wish: Wish) -> Result<Option<CordonValue>, Status> {
        let ended = self.in_fleet()?.uncordon(&wish.node).await.map_err(|error| self.fleet_refused(error))?;
        if ended.is_some() {
            let done = format!("uncordons {}: it takes part in rollouts again", wish.node);
            self.journal.write(wish.event("node.uncordoned", &done)).await;
        }
        Ok(ended)
    }

    /// Takes a node that is gone out of the fleet.
    pub(super) async fn leave(&self, wish: Wish) -> Result<(), Status> {
        self.in_fleet()?.remove_node(&wish.node).await.map_err(|error| self.fleet_refused(error))?;
        let done = format!("takes {} out of the fleet", wish.node);
        self.journal.write(wish.event("node.left", &done)).await;
        Ok(())
    }

    fn in_fleet(&self) -> Result<&Fleet, Status> {
        self.fleet.as_ref().ok_or_else(|| {
            refused(Refused {
                grpc: Code::FailedPrecondition,
                code: "no_fleet",
                field: "",
                found: format!(
                    "{} is in no fleet, so there are no rollouts that it could be kept out of",
                    self.about.node
                ),
                expected: String::new(),
                advice: "Nodes are a fleet when their configs name the same etcd under [cluster].".to_owned(),
            })
        })
    }

    pub(super) fn fleet_refused(&self, error: FleetError) -> Status {
        match &error {
            FleetError::NoNode { .. } => {
                not_found("node", error.to_string(), "`hotctl nodes` lists them.")
            }
            FleetError::NodeUp { .. } => refused(Refused {
                grpc: Code::FailedPrecondition,
                code: "node_up",
                field: "node",
                found: error.to_string(),
                expected: String::new(),
                advice: "Stop its hotd, or take [cluster] out of its config and restart it; then let it leave. To keep it out of \
                         rollouts for now, cordon it."
                    .to_owned(),
            }),
            FleetError::NotLeader | FleetError::Write(WriteError::Deposed { .. }) => {
                let unheard = self.fleet.as_ref().and_then(Fleet::unheard);
                driver_refused(Refusal::NotLeader { leader: self.leader(), unheard })
            }
            _ => refused(Refused {
                grpc: Code::Unavailable,
                code: "fleet_silent",
                field: "",
                found: format!("the fleet's record can't be changed: {}", crate::describe(&error)),
                expected: String::new(),
                advice: "See that etcd runs and can be reached from the node that leads, and try again."
                    .to_owned(),
            }),
        }
    }

    fn leader(&self) -> Option<Node> {
        let state = self.fleet.as_ref()?.state();
        state.leader.as_ref().map(|(node, _)| node.clone()).filter(|node| node.as_str() != self.about.node)
    }

    /// What the fleet knows of a node, beside what that says of itself.
    pub(super) fn with_fleet(&self, mut node: v1::Node) -> v1::Node {
        let Some(fleet) = &self.fleet else { return node };
        let (state, name) = (fleet.state(), Node(node.name.clone()));
        node.cordon = state.cordons.get(&name).map(cordon);
        node.labels = state.labels(&name).into_iter().collect();
        node
    }
}

/// A cordon as the contract has it.
pub(super) fn cordon(value: &CordonValue) -> v1::Cordon {
    v1::Cordon {
        principal: value.by.clone(),
        since: convert::time(hot_rollout::Time(value.at)),
        reason: value.reason.clone(),
        drain: value.drain,
    }
}
