//! What nodes there are.

use std::time::SystemTime;

use hot_artifact::Target;
use hot_artifact::signature::MODULE_NAMESPACE;
use hot_artifact::trust::Validity;
use hot_proto::v1::{self, node_service_server::NodeService};
use tonic::{Request, Response, Status};

use super::Api;
use super::operate::{Wish, cordon};
use super::status::not_found;
use crate::cluster::fleet::Cordoned;

/// `hot.v1.NodeService`.
#[derive(Clone, Debug)]
pub(super) struct Nodes(pub Api);

#[tonic::async_trait]
impl NodeService for Nodes {
    async fn list(
        &self,
        _request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let mut nodes = self.0.nodes_elsewhere().await;
        nodes.push(self.here());
        nodes = nodes.into_iter().map(|node| self.0.with_fleet(node)).collect();
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Response::new(v1::ListNodesResponse { nodes }))
    }

    async fn get(
        &self,
        request: Request<v1::GetNodeRequest>,
    ) -> Result<Response<v1::GetNodeResponse>, Status> {
        let node = request.into_inner().node;
        if !node.is_empty() && node != self.0.about.node {
            if let Some(other) = self.0.nodes_elsewhere().await.into_iter().find(|other| other.name == node) {
                return Ok(Response::new(v1::GetNodeResponse { node: Some(self.0.with_fleet(other)) }));
            }
            let found = format!("no node is named `{}`", node.escape_debug());
            return Err(not_found("node", found, "`hotctl nodes` lists them."));
        }
        Ok(Response::new(v1::GetNodeResponse { node: Some(self.0.with_fleet(self.here())) }))
    }

    async fn cordon(
        &self,
        request: Request<v1::CordonRequest>,
    ) -> Result<Response<v1::CordonResponse>, Status> {
        let wish = Wish::of(request, |v1::CordonRequest { node, message }| (node, message))?;
        let Cordoned { value, already } = self.0.cordon(wish, false).await?;
        Ok(Response::new(v1::CordonResponse { cordon: Some(cordon(&value)), already }))
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Result<Response<v1::DrainResponse>, Status> {
        let wish = Wish::of(request, |v1::DrainRequest { node, message }| (node, message))?;
        let Cordoned { value, already } = self.0.cordon(wish, true).await?;
        Ok(Response::new(v1::DrainResponse { cordon: Some(cordon(&value)), already }))
    }

    async fn uncordon(
        &self,
        request: Request<v1::UncordonRequest>,
    ) -> Result<Response<v1::UncordonResponse>, Status> {
        let wish = Wish::of(request, |v1::UncordonRequest { node, message }| (node, message))?;
        let ended = self.0.uncordon(wish).await?;
        Ok(Response::new(v1::UncordonResponse { cordon: ended.as_ref().map(cordon) }))
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveResponse>, Status> {
        let wish = Wish::of(request, |v1::LeaveRequest { node, message }| (node, message))?;
        self.0.leave(wish).await?;
        Ok(Response::new(v1::LeaveResponse {}))
    }
}

impl Nodes {
    fn here(&self) -> v1::Node {
        let about = &self.0.about;
        let (requests, in_flight) = self.0.agent.load();
        v1::Node {
            name: about.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: Some(about.since.into()),
            dev: about.dev,
            ready: self.0.agent.is_ready(),
            missing: [
                self.0.agent.unserved(),
                self.0.agent.held_without().into_iter().collect(),
                about.missing.clone(),
            ]
            .concat(),
            http: about.http.clone(),
            target: Target::native().to_string(),
            trusted_keys: self.trusted_keys(),
            problems: self.0.problems(),
            start_deadline: about.start_deadline.try_into().ok(),
            away: self.0.agent.is_away(),
            in_flight,
            requests,
            leads: self.0.fleet.as_ref().is_none_or(|fleet| fleet.standing().borrow().term.is_some()),
            ..v1::Node::default()
        }
    }

    fn trusted_keys(&self) -> Vec<v1::TrustedKey> {
        let trust = self.0.trust.latest();
        let signers = &trust.signers;
        let now = Validity::At(SystemTime::now());
        signers
            .keys(MODULE_NAMESPACE)
            .into_iter()
            .filter(|key| trust.revoked.key(key).is_none())
            .filter_map(|key| {
                let principals = signers.principals(key, MODULE_NAMESPACE, now).ok()?;
                Some(v1::TrustedKey {
                    fingerprint: key.fingerprint(),
                    principal: principals.first()?.clone(),
                })
            })
            .collect()
    }
}
