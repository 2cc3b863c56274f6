//! What a person did on one node alone, as it is shown, and lifted on all nodes.

use futures_util::future::join_all;
use hot_artifact::ModuleName;
use hot_proto::v1;
use hot_proto::v1::rollout_service_client::RolloutServiceClient;
use hot_rollout::Module;
use tonic::Status;

use super::everywhere::in_time;
use super::refusal::driver_refused;
use super::{Api, convert};
use crate::driver::WentAlone;
use crate::ledger::LocalRollback;

impl Api {
    /// What stands on a node, as the contract has it. Blocks: a release that is no longer kept is looked up on disk.
    pub(super) fn local_rollback(
        &self,
        node: &str,
        module: &Module,
        of: &LocalRollback,
    ) -> v1::LocalRollback {
        let release = |number| Some(convert::release(&self.ledger, module, number));
        v1::LocalRollback {
            node: node.to_owned(),
            module: module.to_string(),
            from: release(of.from),
            tried: of.tried,
            to: release(of.to),
            principal: of.by.clone(),
            at: Some(convert::timestamp(of.at)),
            message: of.message.clone(),
            why: String::new(),
            unserved: String::new(),
        }
    }

    /// What this node runs of a module, and what was decided on it alone.
    pub(super) fn module_here(&self, module: &Module, instances: Vec<v1::Instance>) -> v1::ModuleNode {
        let (local, took_back) = self.agent.decided_here(module);
        let node = self.about.node.clone();
        let local_rollback = local.map(|local| self.local_rollback(&node, module, &local));
        let took_back = took_back.map(|taken| format!("the candidate of {} {}", taken.rollout, taken.cause));
        v1::ModuleNode { node, instances, local_rollback, took_back: took_back.unwrap_or_default() }
    }

    /// That this node went back alone, for whoever asked for it.
    pub(super) async fn went_alone(&self, alone: Box<WentAlone>) -> v1::LocalRollback {
        let WentAlone { module, local, why, unserved, .. } = *alone;
        let api = self.clone();
        let shown = move || api.local_rollback(&api.about.node, &module, &local);
        v1::LocalRollback { why, unserved, ..crate::blocking(shown).await }
    }

    /// Has this node follow its fleet again and, unless it is asked for its own part, all others.
    pub(super) async fn lift(
        &self,
        module: &ModuleName,
        by: &str,
        own: bool,
    ) -> Result<v1::LiftResponse, Status> {
        let name = Module(module.to_string());
        let here = self.driver.lift(module, by).await.map_err(driver_refused)?;
        let here = here.map(|local| self.local_rollback(&self.about.node, &name, &local));
        let mut answer = v1::LiftResponse { lifted: here.into_iter().collect(), silent: Vec::new() };
        if own {
            return Ok(answer);
        }
        let asked = self.others().into_iter().map(|(node, url)| async move {
            let lifted = in_time(async {
                let request = self.asking_for(by, v1::LiftRequest { module: module.to_string() });
                let mut client = RolloutServiceClient::new(self.call(&node, &url).await?);
                Some(client.lift(request).await.ok()?.into_inner().lifted)
            });
            let lifted = lifted.await;
            (node, lifted)
        });
        for (node, lifted) in join_all(asked).await {
            match lifted {
                Some(lifted) => answer.lifted.extend(lifted),
                // That etcd says nothing of it is no proof: who went back alone may not have told etcd yet.
                None => answer.silent.push(node.to_string()),
            }
        }
        if self.fleet.as_ref().is_some_and(|fleet| !fleet.standing().borrow().heard) {
            answer.silent.push("every other node, of which this one has not heard,".to_owned());
        }
        answer.lifted.sort_by(|one, other| one.node.cmp(&other.node));
        Ok(answer)
    }
}
