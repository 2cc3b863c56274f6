//! Modules: what runs, what is stored, what was.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::Stream;
use hot_artifact::{ModuleName, Version};
use hot_proto::v1::{self, module_service_server::ModuleService};
use hot_rollout::{Kind, Module, ReleaseNumber};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::auth::Caller;
use super::everywhere::is_own;
use super::refusal::driver_refused;
use super::removal::Removing;
use super::rollouts::module_name;
use super::{Api, convert};
use crate::driver::View;
use crate::ledger::Ledger;
use crate::store::{ModuleRecord, Removal};

/// How many history entries a call gives when the caller does not say, and at the most.
const HISTORY: (usize, usize) = (50, 1000);
/// How many lines `Logs` begins with when the caller does not say, and at the most.
const TAIL: (usize, usize) = (100, super::logs::MOST);
/// The reason of a module of which nothing is here any more, whatever its latest rollout came to.
const REMOVED: &str = "removed: nothing of it runs or is kept; push a new version to have it again";
/// A watcher hears at least so often: counters move without events.
const PULSE: Duration = Duration::from_secs(1);
/// A watcher hears at most so often: changes come in bursts.
const LEAST: Duration = Duration::from_millis(50);

/// `hot.v1.ModuleService`.
#[derive(Clone, Debug)]
pub(super) struct Modules(pub Api);

type Reply<T> = Result<Response<T>, Status>;
type Flow<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ModuleService for Modules {
    type WatchStream = Flow<v1::WatchModulesResponse>;
    type LogsStream = Flow<v1::LogsResponse>;

    async fn list(&self, request: Request<v1::ListModulesRequest>) -> Reply<v1::ListModulesResponse> {
        let (modules, problems) = if is_own(&request) {
            (self.all(""), self.0.problems())
        } else {
            self.0.with_elsewhere(self.all("")).await
        };
        Ok(Response::new(v1::ListModulesResponse { modules, problems }))
    }

    async fn get(&self, request: Request<v1::GetModuleRequest>) -> Reply<v1::GetModuleResponse> {
        let name = module_name(&request.into_inner().module)?;
        let record = self.0.known(&name)?;
        let latest = self.0.driver.latest(&Module(name.to_string()));
        let here = self.module(&name, &record, latest.as_ref());
        let (modules, problems) = self.0.with_elsewhere(vec![here]).await;
        Ok(Response::new(v1::GetModuleResponse { module: modules.into_iter().next(), problems }))
    }

    async fn watch(&self, request: Request<v1::WatchModulesRequest>) -> Reply<Self::WatchStream> {
        let module = request.into_inner().module;
        if !module.is_empty() {
            self.0.known(&module_name(&module)?)?;
        }
        let (sender, receiver) = mpsc::channel(4);
        let (service, stopped) = (self.clone(), self.0.stopped.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = service.feed(module, sender) => {}
                () = stopped.cancelled() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn versions(&self, request: Request<v1::VersionsRequest>) -> Reply<v1::VersionsResponse> {
        let own = is_own(&request);
        let name = module_name(&request.into_inner().module)?;
        // Another node that asks knows the module, even where this one does not yet.
        let record = match self.0.known(&name) {
            Err(_unknown) if own => return Ok(Response::new(v1::VersionsResponse::default())),
            record => record?,
        };
        let versions = self.versions_of(&name, &record);
        let whose = if own { None } else { self.0.whose("").map_err(|status| *status)? };
        let answer = match whose {
            None => v1::VersionsResponse { versions, heard: None },
            Some(whose) => super::versions::everywhere(&self.0, &name, versions, whose).await,
        };
        Ok(Response::new(answer))
    }

    async fn history(&self, request: Request<v1::HistoryRequest>) -> Reply<v1::HistoryResponse> {
        let v1::HistoryRequest { module, limit } = request.into_inner();
        let name = module_name(&module)?;
        let record = self.0.known(&name)?;
        let limit = match usize::try_from(limit).unwrap_or(usize::MAX) {
            0 => HISTORY.0,
            limit => limit.min(HISTORY.1),
        };
        let stable = Ledger::stable(&record);
        let module = Module(name.to_string());
        let of = module.clone();
        let wanted = move |view: &View| view.spec.moves.contains_key(&of);
        let views = self.0.driver.list(limit, wanted).await.map_err(driver_refused)?;
        let (ledger, node) = (self.0.ledger.clone(), self.0.about.node.clone());
        // A release that is no longer kept is looked up in the history, on disk, and so are the swaps.
        let entries = crate::blocking(move || {
            let rollouts = views.iter().filter_map(|view| view.status.id.as_str().parse().ok()).collect();
            let mut swaps = super::swaps::by_rollout(ledger.store(), &name, rollouts, &node);
            let mut entry = |view: &Arc<View>| {
                let mut entry = entry(&ledger, &module, stable, view)?;
                let id = entry.rollout.parse().ok();
                entry.swaps = id.and_then(|id| swaps.remove(&id)).unwrap_or_default();
                Some(entry)
            };
            views.iter().filter_map(&mut entry).collect()
        })
        .await;
        Ok(Response::new(v1::HistoryResponse { entries }))
    }

    async fn remove(&self, request: Request<v1::RemoveRequest>) -> Reply<v1::RemoveResponse> {
        let by = Caller::of(&request);
        let v1::RemoveRequest { module, version } = request.into_inner();
        let name = module_name(&module)?;
        let version = (!version.is_empty()).then(|| {
            version
                .parse::<Version>()
                .map_err(|_no_version| super::status::invalid("version", version, "a semver such as 1.2.0"))
        });
        let version = version.transpose()?;
        Ok(Response::new(self.0.clone().remove(Removing { name, version, by }).await?))
    }

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Reply<Self::LogsStream> {
        let own = is_own(&request);
        let v1::LogsRequest { module, tail, follow, release, on } = request.into_inner();
        let name = module_name(&module)?;
        let release = self.of_release(own, &name, release)?;
        let tail = match usize::try_from(tail).unwrap_or(usize::MAX) {
            0 => TAIL.0,
            tail => tail.min(TAIL.1),
        };
        let wanted = super::logs::Wanted { name, release, tail, follow };
        let whose = if own { None } else { self.0.whose(&on).map_err(|status| *status)? };
        let lines = match whose {
            None => super::logs::here(&self.0, wanted),
            Some(whose) => super::logs::everywhere(&self.0, wanted, whose).map_err(|status| *status)?,
        };
        Ok(Response::new(Box::pin(lines)))
    }

    async fn metrics(&self, request: Request<v1::MetricsRequest>) -> Reply<v1::MetricsResponse> {
        let own = is_own(&request);
        let request = request.into_inner();
        let name = module_name(&request.module)?;
        let release = self.of_release(own, &name, request.release)?;
        let whose = if own { None } else { self.0.whose(&request.on).map_err(|status| *status)? };
        let Some(whose) = whose else {
            let instances = super::metrics::gather(&self.0, &name, release).await;
            return Ok(Response::new(v1::MetricsResponse { instances, heard: None }));
        };
        Ok(Response::new(super::metrics::everywhere(&self.0, &name, release, whose).await))
    }
}

impl Modules {
    /// The release that a caller names, 0 for none. Another node that asks knows the module, even where this one does not yet.
    fn of_release(
        &self,
        own: bool,
        name: &ModuleName,
        release: u64,
    ) -> Result<Option<ReleaseNumber>, Status> {
        if own {
            return Ok((release != 0).then_some(ReleaseNumber(release)));
        }
        Api::known_release(name, &*self.0.known(name)?, release)
    }

    /// All modules, or only this one, out of memory.
    fn all(&self, only: &str) -> Vec<v1::Module> {
        let views = Arc::clone(&self.0.driver.views().borrow());
        let latest = views.latest_of_all();
        let mut modules = if only.is_empty() { self.0.listed() } else { self.0.ledger.modules() };
        modules.retain(|(name, _)| only.is_empty() || name.as_str() == only);
        let shown = modules
            .iter()
            .map(|(name, record)| self.module(name, record, latest.get(&Module(name.to_string())).copied()));
        shown.collect()
    }

    async fn feed(self, module: String, sender: mpsc::Sender<Result<v1::WatchModulesResponse, Status>>) {
        let (mut rollouts, mut instances) = (self.0.driver.views(), self.0.agent.changes());
        loop {
            let (modules, problems) = self.0.with_elsewhere(self.all(&module)).await;
            let message = v1::WatchModulesResponse { modules, problems };
            if sender.send(Ok(message)).await.is_err() {
                return;
            }
            tokio::time::sleep(LEAST).await;
            tokio::select! {
                () = tokio::time::sleep(PULSE) => {}
                changed = rollouts.changed() => if changed.is_err() { return },
                changed = instances.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
        }
    }

    fn module(&self, name: &ModuleName, record: &ModuleRecord, rollout: Option<&Arc<View>>) -> v1::Module {
        let module = Module(name.to_string());
        let running = rollout.filter(|view| !view.status.phase.is_final());
        let status =
            |view: &Arc<View>| view.status.modules.iter().find(|status| status.module == module).cloned();
        let candidate = running.and_then(status).and_then(|status| status.candidate);
        let stable = Ledger::stable(record);
        let reference = |release: ReleaseNumber| convert::release(&self.0.ledger, &module, release);
        let (instances, standby, unserved) = self.0.agent.slots(|slots| {
            let Some(slot) = slots.get(&module) else { return (Vec::new(), None, None) };
            let instances =
                slot.instances().map(|run| convert::instance(&self.0.agent, &module, slot, run)).collect();
            let standby = slot.orders.assignment.as_ref().and_then(|assignment| assignment.standby);
            (
                instances,
                standby.map(|standby| standby.release).filter(|standby| slot.run_of(*standby).is_some()),
                slot.unserved(Instant::now()),
            )
        });
        let runnable = stable.and_then(|stable| self.0.ledger.runnable(&module, stable).ok());
        v1::Module {
            name: name.to_string(),
            stable: stable.map(reference),
            candidate: candidate.map(reference),
            standby: standby.map(reference),
            phase: rollout.map_or(v1::Phase::Unspecified, |view| convert::phase(view.status.phase)).into(),
            share: running.and_then(status).map_or(0, |status| u32::from(status.share.basis_points())),
            reason: if self.0.is_here(name, record) || running.is_some() {
                let reason = rollout.and_then(|view| view.status.reason.as_ref());
                reason.map(ToString::to_string).unwrap_or_default()
            } else {
                REMOVED.to_owned()
            },
            waiting_on: unserved
                .into_iter()
                .chain(running.map(|view| {
                    let waiting_on = view.status.waiting_on.as_ref();
                    self.0.waiting_on(waiting_on.map(ToString::to_string).unwrap_or_default())
                }))
                .filter(|text| !text.is_empty())
                .collect::<Vec<_>>()
                .join("; "),
            rollout: rollout.map(|view| view.status.id.to_string()).unwrap_or_default(),
            routes: runnable.map(|runnable| runnable.routes).unwrap_or_default(),
            nodes: vec![self.0.module_here(&module, instances)],
            failed: rollout.map_or_else(Vec::new, |view| convert::failed(&view.status)),
        }
    }

    fn versions_of(&self, name: &ModuleName, record: &ModuleRecord) -> Vec<v1::Version> {
        let module = Module(name.to_string());
        let roles = self.0.roles(&module);
        let stored = self.0.ledger.store().versions(name);
        let mut versions: Vec<v1::Version> = stored
            .iter()
            .map(|of| v1::Version {
                version: of.version.to_string(),
                target: of.target.to_string(),
                digest: of.digest.to_string(),
                size: of.size,
                principal: of.principal.clone(),
                committed: Some(convert::timestamp(of.at)),
                role: roles
                    .iter()
                    .find(|(release, _)| {
                        record.releases().get(&release.0).is_some_and(|it| it.digest == of.digest)
                    })
                    .map_or(v1::Role::Unspecified, |(_, role)| *role)
                    .into(),
                removed: false,
                gone: String::new(),
                may_return: false,
                nodes: Vec::new(),
                quarantined: record
                    .quarantine
                    .get(&of.digest)
                    .map(|it| it.reason.clone())
                    .unwrap_or_default(),
            })
            .collect();
        for (version, tombstone) in record.tombstones() {
            for (target, digest) in &tombstone.digests {
                versions.push(v1::Version {
                    version: version.to_string(),
                    target: target.to_string(),
                    digest: digest.to_string(),
                    committed: Some(convert::timestamp(tombstone.at)),
                    removed: true,
                    gone: gone(&tombstone.why),
                    may_return: tombstone.why == Removal::Collected,
                    ..v1::Version::default()
                });
            }
        }
        versions.sort_by_key(|of| std::cmp::Reverse(of.version.parse::<Version>().ok()));
        versions
    }
}

/// How a version went.
fn gone(why: &Removal) -> String {
    match why {
        Removal::Collected => "dropped by `keep`; the same file may be pushed again".to_owned(),
        Removal::Removed { by, reason } if reason.is_empty() => format!("removed by {by}"),
        Removal::Removed { by, reason } => format!("removed by {by}: {reason}"),
    }
}

/// One rollout of a module as its history has it.
fn entry(
    ledger: &Ledger,
    module: &Module,
    stable: Option<ReleaseNumber>,
    view: &View,
) -> Option<v1::HistoryEntry> {
    let releases = view.spec.moves.get(module)?;
    let reference = |release: ReleaseNumber| convert::release(ledger, module, release);
    Some(v1::HistoryEntry {
        release: Some(reference(releases.candidate)),
        before: releases.stable.map(reference),
        rollout: view.status.id.to_string(),
        principal: view.status.by.clone(),
        started: Some(convert::timestamp(view.status.started.0)),
        ended: view.meta.ended.map(|ended| convert::timestamp(ended.0)),
        message: view.meta.message.clone(),
        outcome: convert::outcome(view.meta.outcome.as_ref()).into(),
        reason: view.status.reason.as_ref().map(ToString::to_string).unwrap_or_default(),
        rollback: view.status.kind == Kind::Rollback,
        stable: stable == Some(releases.candidate),
        swaps: Vec::new(),
    })
}
