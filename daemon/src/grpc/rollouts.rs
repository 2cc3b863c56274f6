//! Rollouts: start, watch, command, go back.

use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime};

use futures_util::Stream;
use hot_artifact::ModuleName;
use hot_proto::v1::{self, rollout_selector::By, rollout_service_server::RolloutService};
use hot_rollout::{Command, Module, ReleaseNumber, RolloutId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::auth::Caller;
use super::everywhere::is_own;
use super::forward::{WasStable, is_sent_on};
use super::policy::overridden;
use super::refusal::driver_refused;
use super::status::{Refused, invalid, not_found, refused};
use super::{Api, convert};
use crate::agent::{Flip, RestartError};
use crate::driver::{GoBack, NewRollout, Push, Refusal, To, View, WentAlone, WentBack, Who};
use crate::journal::Entry;

/// Longest message of a caller, bytes: the history keeps it.
const MAX_MESSAGE: usize = 4096;
/// Longest name of a request, characters.
const MAX_REQUEST_ID: usize = 128;
/// Modules of one rollout: for the time being each moves alone.
pub(super) const MAX_MODULES: usize = 1;
/// How many rollouts `List` gives when the caller does not say, and at the most.
const LIST: (usize, usize) = (50, 1000);
/// A watcher hears of a rollout at least so often, so that a bake's remaining time moves.
const PULSE: Duration = Duration::from_secs(1);

/// `hot.v1.RolloutService`.
#[derive(Clone, Debug)]
pub(super) struct Rollouts(pub Api);

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl RolloutService for Rollouts {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchRolloutResponse, Status>> + Send>>;

    async fn start(&self, request: Request<v1::StartRequest>) -> Reply<v1::StartResponse> {
        let by = Caller::of(&request);
        let v1::StartRequest { request_id, modules, policy, message, retry, on } = request.into_inner();
        check_request_id(&request_id)?;
        if request_id.is_empty() {
            return Err(invalid("request_id", "nothing", "a name for this intention, new for each"));
        }
        let new = NewRollout {
            request: request_id,
            pushes: pushes(modules)?,
            policy: overridden(&self.0.policy, policy.unwrap_or_default())?,
            by,
            message: checked_message(message)?,
            retry,
            on: on.map(labels).transpose()?,
        };
        let (id, already_started) = self.0.driver.begin(new).await.map_err(driver_refused)?;
        let rollout = Some(self.show(&id).await?);
        Ok(Response::new(v1::StartResponse { rollout, already_started }))
    }

    async fn get(&self, request: Request<v1::GetRolloutRequest>) -> Reply<v1::GetRolloutResponse> {
        let id = self.existing(request.into_inner().rollout).await?;
        Ok(Response::new(v1::GetRolloutResponse { rollout: Some(self.show(&id).await?) }))
    }

    async fn list(&self, request: Request<v1::ListRolloutsRequest>) -> Reply<v1::ListRolloutsResponse> {
        let v1::ListRolloutsRequest { module, limit, running } = request.into_inner();
        let limit = match usize::try_from(limit).unwrap_or(usize::MAX) {
            0 => LIST.0,
            limit => limit.min(LIST.1),
        };
        let module = if module.is_empty() { None } else { Some(Module(module_name(&module)?.to_string())) };
        let wanted = move |view: &View| {
            module.as_ref().is_none_or(|module| view.spec.moves.contains_key(module))
                && !(running && view.status.phase.is_final())
        };
        let views = self.0.driver.list(limit, wanted).await.map_err(driver_refused)?;
        let ledger = self.0.ledger.clone();
        // A release that is no longer kept is looked up in the history, on disk.
        let rollouts =
            crate::blocking(move || views.iter().map(|view| convert::rollout(&ledger, view)).collect()).await;
        Ok(Response::new(v1::ListRolloutsResponse { rollouts }))
    }

    async fn watch(&self, request: Request<v1::WatchRolloutRequest>) -> Reply<Self::WatchStream> {
        let id = self.existing(request.into_inner().rollout).await?;
        // Before the stream: a rollout that is not there is an error of the call.
        let first = self.show(&id).await?;
        let (sender, receiver) = mpsc::channel(4);
        let service = self.clone();
        tokio::spawn(async move {
            // The stream ends when its reader is gone, when the rollout is over, or with the node.
            let stopped = service.0.stopped.clone();
            tokio::select! {
                () = service.feed(id, first, sender) => {}
                () = stopped.cancelled() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn promote(&self, request: Request<v1::PromoteRequest>) -> Reply<v1::PromoteResponse> {
        let by = Caller::of(&request);
        let v1::PromoteRequest { rollout, message } = request.into_inner();
        let (id, _) = self.command(rollout, Command::Promote { by, full: true }, message).await?;
        Ok(Response::new(v1::PromoteResponse { rollout: Some(self.show(&id).await?) }))
    }

    async fn pause(&self, request: Request<v1::PauseRequest>) -> Reply<v1::PauseResponse> {
        let by = Caller::of(&request);
        let v1::PauseRequest { rollout, message } = request.into_inner();
        let (id, _) = self.command(rollout, Command::Pause { by }, message).await?;
        Ok(Response::new(v1::PauseResponse { rollout: Some(self.show(&id).await?) }))
    }

    async fn resume(&self, request: Request<v1::ResumeRequest>) -> Reply<v1::ResumeResponse> {
        let by = Caller::of(&request);
        let v1::ResumeRequest { rollout, message } = request.into_inner();
        let (id, _) = self.command(rollout, Command::Resume { by }, message).await?;
        Ok(Response::new(v1::ResumeResponse { rollout: Some(self.show(&id).await?) }))
    }

    async fn abort(&self, request: Request<v1::AbortRequest>) -> Reply<v1::AbortResponse> {
        let received = (Instant::now(), SystemTime::now());
        let (by, here) = (Caller::of(&request), !is_sent_on(&request));
        let v1::AbortRequest { rollout, message } = request.into_inner();
        let message = checked_message(message)?;
        let module = self.module_of(rollout.as_ref());
        if let Some(module) = &module
            && let Some(alone) = self.0.driver.abort_alone(module, &by, &message, here).await
        {
            return Ok(Response::new(self.aborted_alone(received, alone.map_err(driver_refused)?).await));
        }
        let id = self.to_command(rollout).await?;
        let flip = match self.0.driver.abort(id.clone(), by, message, here).await.map_err(driver_refused)? {
            Who::All(flip) => flip,
            Who::Alone(alone) => return Ok(Response::new(self.aborted_alone(received, alone).await)),
        };
        let timing = Some(self.timing(received, flip.as_ref()));
        self.0.driver.settled(&id).await;
        let rollout = Some(self.show(&id).await?);
        Ok(Response::new(v1::AbortResponse { rollout, timing, alone: None }))
    }

    async fn rollback(&self, request: Request<v1::RollbackRequest>) -> Reply<v1::RollbackResponse> {
        let received = (Instant::now(), SystemTime::now());
        let (by, here) = (Caller::of(&request), !is_sent_on(&request));
        let was = request.extensions().get::<WasStable>().map(|WasStable(release)| *release);
        let v1::RollbackRequest { module, to, message, request_id } = request.into_inner();
        check_request_id(&request_id)?;
        let module = module_name(&module)?;
        let record = self.0.known(&module)?;
        let to = match to {
            None => To::Preceding,
            Some(v1::rollback_request::To::Release(release)) => {
                To::Release(Api::known_release(&module, &record, release)?.unwrap_or(ReleaseNumber(0)))
            }
            Some(v1::rollback_request::To::Version(version)) => To::Version(
                version
                    .parse()
                    .map_err(|_no_version| invalid("version", version, "a semver such as 1.2.0"))?,
            ),
        };
        let message = checked_message(message)?;
        let name = Module(module.to_string());
        let back = GoBack { module, to, by, message, request: request_id, here, was };
        let went = self.0.driver.go_back(back).await.map_err(driver_refused)?;
        let WentBack { rollout, aborted, from, to, flip } = match went {
            Who::All(went) => went,
            Who::Alone(alone) => {
                let timing = Some(self.timing(received, alone.flip.as_ref()));
                let (aborted, alone) = (alone.local.tried, self.0.went_alone(alone).await);
                let (from, to) = (alone.from.clone(), alone.to.clone());
                let answer =
                    v1::RollbackResponse { rollout: None, aborted, from, to, timing, alone: Some(alone) };
                return Ok(Response::new(answer));
            }
        };
        let timing = self.timing(received, flip.as_ref());
        self.0.driver.settled(&rollout).await;
        let ledger = self.0.ledger.clone();
        let named = move || [from, to].map(|release| convert::release(&ledger, &name, release));
        let [left, reached] = crate::blocking(named).await;
        Ok(Response::new(v1::RollbackResponse {
            rollout: Some(self.show(&rollout).await?),
            aborted,
            from: Some(left),
            to: Some(reached),
            timing: Some(timing),
            alone: None,
        }))
    }

    async fn lift(&self, request: Request<v1::LiftRequest>) -> Reply<v1::LiftResponse> {
        let (by, own) = (Caller::of(&request), is_own(&request));
        let module = module_name(&request.into_inner().module)?;
        self.0.known(&module)?;
        Ok(Response::new(self.0.lift(&module, &by, own).await?))
    }

    async fn restart(&self, request: Request<v1::RestartRequest>) -> Reply<v1::RestartResponse> {
        let by = Caller::of(&request);
        let module = module_name(&request.into_inner().module)?;
        self.0.known(&module)?;
        let (agent, journal) = (self.0.agent.clone(), self.0.journal.clone());
        let replaced = crate::to_its_end(async move {
            let replaced = agent.restart(&Module(module.to_string())).await?;
            let text = format!("{by} restarted {module}");
            let (kind, module) = ("module.restarted", module.to_string());
            journal.write(Entry { kind, module, by, text, ..Entry::default() }).await;
            Ok::<_, RestartError>(replaced)
        });
        let instances = replaced.await.map_err(|error| {
            refused(Refused {
                grpc: Code::FailedPrecondition,
                code: "restart_failed",
                field: "module",
                found: error.to_string(),
                expected: String::new(),
                advice: String::new(),
            })
        })?;
        Ok(Response::new(v1::RestartResponse { instances }))
    }
}

impl Rollouts {
    async fn show(&self, id: &RolloutId) -> Result<v1::Rollout, Status> {
        let view = self.0.driver.view(id).await.map_err(driver_refused)?;
        let ledger = self.0.ledger.clone();
        let mut rollout = crate::blocking(move || convert::rollout(&ledger, &view)).await;
        for module in &mut rollout.modules {
            let unserved = self.0.agent.unserved_of(&Module(module.module.clone()));
            module.unserved = unserved.unwrap_or_default();
        }
        if rollout.outcome() == v1::Outcome::Unspecified {
            rollout.waiting_on = self.0.waiting_on(rollout.waiting_on);
        }
        Ok(rollout)
    }

    /// The rollout that is asked about: NOT_FOUND where a command would say that nothing runs.
    async fn existing(&self, selector: Option<v1::RolloutSelector>) -> Result<RolloutId, Status> {
        self.select(selector).await.map_err(|wrong| match wrong {
            Unselected::Invalid(status) => status,
            Unselected::None(refusal) => {
                not_found("rollout", refusal.to_string(), "`hotctl history` shows what was.")
            }
        })
    }

    /// Sends the rollout at each change until it is over or nobody reads.
    async fn feed(
        self,
        id: RolloutId,
        first: v1::Rollout,
        sender: mpsc::Sender<Result<v1::WatchRolloutResponse, Status>>,
    ) {
        let mut views = self.0.driver.views();
        let mut rollout = first;
        loop {
            let over = rollout.outcome != i32::from(v1::Outcome::Unspecified);
            let message = v1::WatchRolloutResponse { rollout: Some(rollout) };
            if sender.send(Ok(message)).await.is_err() || over {
                return;
            }
            // Either way something may be new.
            if let Ok(Err(_driver_gone)) = tokio::time::timeout(PULSE, views.changed()).await {
                return;
            }
            match self.show(&id).await {
                Ok(next) => rollout = next,
                Err(status) => {
                    drop(sender.send(Err(status)).await);
                    return;
                }
            }
        }
    }

    async fn command(
        &self,
        selector: Option<v1::RolloutSelector>,
        command: Command,
        message: String,
    ) -> Result<(RolloutId, Option<Flip>), Status> {
        let message = checked_message(message)?;
        let id = self.to_command(selector).await?;
        let flip = self.0.driver.command(id.clone(), command, message).await.map_err(driver_refused)?;
        Ok((id, flip))
    }

    /// The rollout that a command is for.
    async fn to_command(&self, selector: Option<v1::RolloutSelector>) -> Result<RolloutId, Status> {
        self.select(selector).await.map_err(|wrong| match wrong {
            Unselected::Invalid(status) => status,
            Unselected::None(refusal) => driver_refused(refusal),
        })
    }

    /// The module that is meant, as far as this node can tell: by its name, or as the one that it tries by that rollout.
    fn module_of(&self, selector: Option<&v1::RolloutSelector>) -> Option<ModuleName> {
        match selector?.by.as_ref()? {
            By::Module(module) => module.parse().ok(),
            By::Id(id) => self.0.agent.tried_by(id).and_then(|module| module.as_str().parse().ok()),
        }
    }

    async fn aborted_alone(
        &self,
        received: (Instant, SystemTime),
        alone: Box<WentAlone>,
    ) -> v1::AbortResponse {
        let timing = Some(self.timing(received, alone.flip.as_ref()));
        v1::AbortResponse { rollout: None, timing, alone: Some(self.0.went_alone(alone).await) }
    }

    async fn select(&self, selector: Option<v1::RolloutSelector>) -> Result<RolloutId, Unselected> {
        match selector.and_then(|selector| selector.by) {
            Some(By::Id(prefix)) if !prefix.is_empty() => {
                let found = self.0.driver.named(&prefix).await.map_err(driver_refused)?;
                only(found, prefix)
            }
            Some(By::Module(module)) => {
                let name = module_name(&module)?;
                self.0.known(&name)?;
                let name = Module(name.to_string());
                let latest = self.0.driver.latest(&name).map(|view| view.status.id.clone());
                latest.ok_or_else(|| Unselected::None(self.0.driver.nothing_runs(module)))
            }
            Some(By::Id(_)) | None => {
                Err(invalid("rollout", "nothing", "the id of a rollout or a module's name").into())
            }
        }
    }

    fn timing(&self, (received, at): (Instant, SystemTime), flip: Option<&Flip>) -> v1::RollbackTiming {
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let last_pick = flip.and_then(|flip| self.0.agent.counters(flip.from_instance?).last_pick);
        v1::RollbackTiming {
            received: Some(at.into()),
            flip_us: flip
                .map_or_else(|| micros(received.elapsed()), |flip| micros(flip.at.duration_since(received))),
            last_pick_us: last_pick.and_then(|pick| pick.checked_duration_since(received)).map(micros),
        }
    }
}

/// Why no rollout is meant.
enum Unselected {
    /// The selector makes no sense.
    Invalid(Status),
    /// There is none.
    None(Refusal),
}

impl From<Status> for Unselected {
    fn from(status: Status) -> Self {
        Self::Invalid(status)
    }
}

/// The one id of those that begin with `prefix`.
fn only(mut found: Vec<RolloutId>, prefix: String) -> Result<RolloutId, Unselected> {
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(_), false) => {
            let found = format!("`{}`, which begins several ids", prefix.escape_debug());
            Err(invalid("rollout.id", found, "more of it").into())
        }
        (None, _) => Err(Unselected::None(Refusal::NoRollout(prefix.escape_debug().to_string()))),
    }
}

/// A rollout of more modules than [`MAX_MODULES`].
pub(super) fn several_modules(count: usize) -> Status {
    refused(Refused {
        grpc: Code::Unimplemented,
        code: "several_modules",
        field: "modules",
        found: format!("{count} modules"),
        expected: "one".to_owned(),
        advice: "This version moves one module at a time; push them one after the other.".to_owned(),
    })
}

fn pushes(modules: Vec<v1::StartModule>) -> Result<Vec<Push>, Status> {
    if modules.is_empty() {
        return Err(invalid("modules", "none", "a module and its version"));
    }
    if modules.len() > MAX_MODULES {
        return Err(several_modules(modules.len()));
    }
    modules
        .into_iter()
        .map(|v1::StartModule { module, version, digests }| {
            let parse = |digest: String| {
                digest
                    .parse()
                    .map_err(|_no_digest| invalid("modules[0].digests", digest, "64 hexadecimal digits"))
            };
            Ok(Push {
                module: module_name(&module)?,
                version: version
                    .parse()
                    .map_err(|_no| invalid("modules[0].version", version, "a semver such as 1.2.0"))?,
                digests: digests.into_iter().map(parse).collect::<Result<_, Status>>()?,
            })
        })
        .collect()
}

pub(super) fn module_name(text: &str) -> Result<ModuleName, Status> {
    text.parse().map_err(|_no_name| {
        invalid(
            "module",
            format!("`{}`", text.escape_debug()),
            "a name of a-z, 0-9 and -, at most 63 characters",
        )
    })
}

fn check_request_id(id: &str) -> Result<(), Status> {
    let printable = id.bytes().all(|byte| byte.is_ascii_graphic());
    if printable && id.len() <= MAX_REQUEST_ID {
        return Ok(());
    }
    Err(invalid("request_id", format!("{} characters", id.len()), "at most 128 printable ASCII characters"))
}

/// Labels that a node could have.
pub(super) fn labels(labels: v1::Labels) -> Result<hot_rollout::Labels, Status> {
    let labels: hot_rollout::Labels = labels.labels.into_iter().collect();
    let wrong = labels.iter().find(|(name, value)| !crate::config::could_be_label(name, value));
    match wrong {
        None if labels.len() <= crate::config::MAX_LABELS => Ok(labels),
        None => Err(invalid(
            "on",
            format!("{} labels", labels.len()),
            format!("at most {}", crate::config::MAX_LABELS),
        )),
        Some((name, value)) => Err(invalid(
            "on",
            format!("`{}={}`", name.escape_debug(), value.escape_debug()),
            "LABEL=VALUE as under [cluster.labels] of a node's config",
        )),
    }
}

pub(super) fn checked_message(message: String) -> Result<String, Status> {
    if message.len() <= MAX_MESSAGE {
        return Ok(message);
    }
    Err(invalid("message", format!("{} bytes", message.len()), format!("at most {MAX_MESSAGE} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_selects_only_where_one_id_has_it() {
        let id = |text: &str| RolloutId(text.to_owned());
        assert!(matches!(only(vec![id("r1")], "r".to_owned()), Ok(one) if one == id("r1")));
        assert!(matches!(only(vec![id("r1"), id("r2")], "r".to_owned()), Err(Unselected::Invalid(_))));
        assert!(matches!(only(vec![], "r".to_owned()), Err(Unselected::None(Refusal::NoRollout(_)))));
    }

    #[test]
    fn a_path_is_no_module() {
        for wrong in ["../etc", "a/b", "", "A", "a\n"] {
            let status = module_name(wrong).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{wrong:?}");
            assert!(status.message().contains("a name of a-z"), "{status}");
        }
    }
}
