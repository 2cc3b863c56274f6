//! Rollouts: start, watch, command, go back.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::Stream;
use hot_artifact::ModuleName;
use hot_proto::v1::{self, rollout_selector::By, rollout_service_server::RolloutService};
use hot_rollout::{
    Command, Millis, Module, Policy, PolicySpec, Ratio, ReleaseNumber, RolloutId, Share, Step,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::auth::Caller;
use super::status::{Refused, disk_full, invalid, not_found, refused};
use super::{Api, convert};
use crate::agent::Flip;
use crate::driver::{NewRollout, Push, Refusal, To, View, WentBack};

/// Longest message of a caller, bytes: the history keeps it.
const MAX_MESSAGE: usize = 4096;
/// Longest name of a request, characters.
const MAX_REQUEST_ID: usize = 128;
/// Modules of one rollout: for the time being each moves alone.
const MAX_MODULES: usize = 1;
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
        let v1::StartRequest { request_id, modules, policy, message } = request.into_inner();
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
        };
        let (id, already_started) = self.0.driver.begin(new).await.map_err(driver_refused)?;
        let rollout = Some(self.show(&id).await?);
        Ok(Response::new(v1::StartResponse { rollout, already_started }))
    }

    async fn get(&self, request: Request<v1::GetRolloutRequest>) -> Reply<v1::GetRolloutResponse> {
        let id = self.select(request.into_inner().rollout).await?;
        Ok(Response::new(v1::GetRolloutResponse { rollout: Some(self.show(&id).await?) }))
    }

    async fn list(&self, request: Request<v1::ListRolloutsRequest>) -> Reply<v1::ListRolloutsResponse> {
        let v1::ListRolloutsRequest { module, limit, running } = request.into_inner();
        let limit = match usize::try_from(limit).unwrap_or(usize::MAX) {
            0 => LIST.0,
            limit => limit.min(LIST.1),
        };
        let wanted = |view: &Arc<View>| {
            (module.is_empty() || view.spec.moves.contains_key(&Module(module.clone())))
                && !(running && view.status.phase.is_final())
        };
        let views = self.0.driver.all_views(LIST.1).await.map_err(driver_refused)?;
        let rollouts = views.iter().filter(|view| wanted(view)).take(limit);
        let rollouts = rollouts.map(|view| convert::rollout(&self.0.ledger, view)).collect();
        Ok(Response::new(v1::ListRolloutsResponse { rollouts }))
    }

    async fn watch(&self, request: Request<v1::WatchRolloutRequest>) -> Reply<Self::WatchStream> {
        let id = self.select(request.into_inner().rollout).await?;
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
        let (rollout, _) = self.command(rollout, Command::Promote { by, full: true }, message).await?;
        Ok(Response::new(v1::PromoteResponse { rollout: Some(rollout) }))
    }

    async fn pause(&self, request: Request<v1::PauseRequest>) -> Reply<v1::PauseResponse> {
        let by = Caller::of(&request);
        let v1::PauseRequest { rollout, message } = request.into_inner();
        let (rollout, _) = self.command(rollout, Command::Pause { by }, message).await?;
        Ok(Response::new(v1::PauseResponse { rollout: Some(rollout) }))
    }

    async fn resume(&self, request: Request<v1::ResumeRequest>) -> Reply<v1::ResumeResponse> {
        let by = Caller::of(&request);
        let v1::ResumeRequest { rollout, message } = request.into_inner();
        let (rollout, _) = self.command(rollout, Command::Resume { by }, message).await?;
        Ok(Response::new(v1::ResumeResponse { rollout: Some(rollout) }))
    }

    async fn abort(&self, request: Request<v1::AbortRequest>) -> Reply<v1::AbortResponse> {
        let received = (Instant::now(), SystemTime::now());
        let by = Caller::of(&request);
        let v1::AbortRequest { rollout, message } = request.into_inner();
        let (rollout, flip) = self.command(rollout, Command::Abort { by }, message).await?;
        let timing = self.timing(received, flip.as_ref());
        Ok(Response::new(v1::AbortResponse { rollout: Some(rollout), timing: Some(timing) }))
    }

    async fn rollback(&self, request: Request<v1::RollbackRequest>) -> Reply<v1::RollbackResponse> {
        let received = (Instant::now(), SystemTime::now());
        let by = Caller::of(&request);
        let v1::RollbackRequest { module, to, message, request_id } = request.into_inner();
        check_request_id(&request_id)?;
        let module = module_name(&module)?;
        let to = match to {
            None => To::Preceding,
            Some(v1::rollback_request::To::Release(release)) => To::Release(ReleaseNumber(release)),
            Some(v1::rollback_request::To::Version(version)) => To::Version(
                version
                    .parse()
                    .map_err(|_no_version| invalid("version", version, "a semver such as 1.2.0"))?,
            ),
        };
        let message = checked_message(message)?;
        let name = Module(module.to_string());
        let went =
            self.0.driver.go_back(module, to, by, message, request_id).await.map_err(driver_refused)?;
        let WentBack { rollout, aborted, from, to, flip } = went;
        Ok(Response::new(v1::RollbackResponse {
            rollout: Some(self.show(&rollout).await?),
            aborted,
            from: Some(convert::release(&self.0.ledger, &name, from)),
            to: Some(convert::release(&self.0.ledger, &name, to)),
            timing: Some(self.timing(received, flip.as_ref())),
        }))
    }

    async fn restart(&self, request: Request<v1::RestartRequest>) -> Reply<v1::RestartResponse> {
        let module = module_name(&request.into_inner().module)?;
        let replaced = self.0.agent.restart(&Module(module.to_string())).await.map_err(|error| {
            refused(Refused {
                grpc: Code::FailedPrecondition,
                code: "restart_failed",
                field: "module",
                found: error.to_string(),
                expected: String::new(),
                advice: String::new(),
            })
        })?;
        Ok(Response::new(v1::RestartResponse { instances: replaced }))
    }
}

impl Rollouts {
    async fn show(&self, id: &RolloutId) -> Result<v1::Rollout, Status> {
        let view = self.0.driver.view(id).await.map_err(driver_refused)?;
        Ok(convert::rollout(&self.0.ledger, &view))
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
    ) -> Result<(v1::Rollout, Option<Flip>), Status> {
        let message = checked_message(message)?;
        let id = self.select(selector).await?;
        let flip = self.0.driver.command(id.clone(), command, message).await.map_err(driver_refused)?;
        Ok((self.show(&id).await?, flip))
    }

    async fn select(&self, selector: Option<v1::RolloutSelector>) -> Result<RolloutId, Status> {
        match selector.and_then(|selector| selector.by) {
            Some(By::Id(prefix)) if !prefix.is_empty() => {
                let views = self.0.driver.all_views(LIST.1).await.map_err(driver_refused)?;
                let matching: Vec<&Arc<View>> =
                    views.iter().filter(|view| view.status.id.as_str().starts_with(&prefix)).collect();
                match &matching[..] {
                    [one] => Ok(one.status.id.clone()),
                    [] => Err(driver_refused(Refusal::NoRollout(prefix))),
                    many => Err(invalid(
                        "rollout.id",
                        format!("{prefix}, which begins {} ids", many.len()),
                        "more of it",
                    )),
                }
            }
            Some(By::Module(module)) => {
                let name = Module(module_name(&module)?.to_string());
                if let Some(view) = self.0.driver.running(&name) {
                    return Ok(view.status.id.clone());
                }
                let views = self.0.driver.all_views(LIST.1).await.map_err(driver_refused)?;
                let latest = views.iter().find(|view| view.spec.moves.contains_key(&name));
                latest
                    .map(|view| view.status.id.clone())
                    .ok_or_else(|| driver_refused(Refusal::NothingRuns(module)))
            }
            Some(By::Id(_)) | None => {
                Err(invalid("rollout", "nothing", "the id of a rollout or a module's name"))
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

fn pushes(modules: Vec<v1::StartModule>) -> Result<Vec<Push>, Status> {
    if modules.is_empty() {
        return Err(invalid("modules", "none", "a module and its version"));
    }
    if modules.len() > MAX_MODULES {
        return Err(refused(Refused {
            grpc: Code::Unimplemented,
            code: "several_modules",
            field: "modules",
            found: format!("{} modules", modules.len()),
            expected: "one".to_owned(),
            advice: "This version moves one module at a time; push them one after the other.".to_owned(),
        }));
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

fn checked_message(message: String) -> Result<String, Status> {
    if message.len() <= MAX_MESSAGE {
        return Ok(message);
    }
    Err(invalid("message", format!("{} bytes", message.len()), format!("at most {MAX_MESSAGE} bytes")))
}

/// The node's policy with what the caller wants otherwise.
fn overridden(base: &Policy, wanted: v1::PolicyOverrides) -> Result<Policy, Status> {
    let mut spec: PolicySpec = base.spec().clone();
    let bake = wanted.bake.map(|bake| span("bake", bake)).transpose()?;
    if !wanted.steps.is_empty() {
        let own = bake.or_else(|| spec.steps.first().map(|step| step.bake)).unwrap_or_default();
        spec.steps =
            wanted.steps.into_iter().map(|wanted| step(wanted, own)).collect::<Result<_, Status>>()?;
    } else if let Some(bake) = bake {
        spec.steps.iter_mut().for_each(|step| step.bake = bake);
    }
    if let Some(rate) = wanted.max_error_rate {
        spec.error_rate = share("max_error_rate", rate)?;
    }
    if let Some(percent) = wanted.max_p99_ratio {
        spec.p99_ratio = Ratio(percent.saturating_mul(100));
    }
    spec.min_requests = wanted.min_requests.unwrap_or(spec.min_requests);
    spec.health_threshold = wanted.health_threshold.unwrap_or(spec.health_threshold);
    spec.spread = wanted.spread.unwrap_or(spec.spread);
    for (field, wanted, into) in [
        ("start_deadline", wanted.start_deadline, &mut spec.start_deadline),
        ("health_interval", wanted.health_interval, &mut spec.health_interval),
        ("standby", wanted.standby, &mut spec.standby),
        ("deadline", wanted.deadline, &mut spec.deadline),
    ] {
        if let Some(wanted) = wanted {
            *into = span(field, wanted)?;
        }
    }
    Policy::new(spec).map_err(|error| {
        let field = error.mistakes.first().map_or("policy", |mistake| mistake.field());
        invalid(field, error.to_string(), "")
    })
}

fn step(wanted: v1::Step, bake: Millis) -> Result<Step, Status> {
    let bake = wanted.bake.map_or(Ok(bake), |own| span("steps.bake", own))?;
    Ok(Step { share: share("steps.share", wanted.share)?, bake })
}

fn share(field: &'static str, basis_points: u32) -> Result<Share, Status> {
    let found = u16::try_from(basis_points).ok().and_then(Share::new);
    found.ok_or_else(|| invalid(field, basis_points.to_string(), "at most 10000 basis points"))
}

fn span(field: &'static str, wanted: prost_types::Duration) -> Result<Millis, Status> {
    let found = format!("{} s", wanted.seconds);
    let span: Duration =
        wanted.try_into().map_err(|_negative| invalid(field, found, "a duration of 0 or more"))?;
    Ok(span.into())
}

/// What the driver refuses, as a status.
pub(super) fn driver_refused(refusal: Refusal) -> Status {
    let sentence = refusal.to_string();
    let (grpc, code, field, advice) = match &refusal {
        Refusal::NoModule(_) => return not_found("module", sentence, "`hotctl status` lists the modules."),
        Refusal::NoVersion { .. } => {
            return not_found("version", sentence, "Push its file; `hotctl versions` lists what is stored.");
        }
        Refusal::NoRollout(_) | Refusal::NothingRuns(_) => {
            (Code::FailedPrecondition, "no_rollout", "rollout", "`hotctl history` shows what was.")
        }
        Refusal::Removed { .. } => {
            (Code::FailedPrecondition, "version_removed", "version", "Push it under a new version.")
        }
        Refusal::OtherDigest { .. } => (
            Code::FailedPrecondition,
            "digest_mismatch",
            "digests",
            "A version never changes; use a new one.",
        ),
        Refusal::Quarantined { .. } => (
            Code::FailedPrecondition,
            "quarantined",
            "version",
            "These bytes failed before and are not tried again; push a version that mends it.",
        ),
        Refusal::Route(_) => {
            (Code::FailedPrecondition, "route_taken", "routes", "Give one of the two modules another prefix.")
        }
        Refusal::RequestReused(_) => {
            (Code::InvalidArgument, "request_id_reused", "request_id", "Use a new one.")
        }
        Refusal::Over(_) => {
            (Code::FailedPrecondition, "no_rollout", "rollout", "`hotctl history` shows how it ended.")
        }
        Refusal::NothingToReturnTo { .. } => (
            Code::FailedPrecondition,
            "nothing_to_return_to",
            "to",
            "`hotctl history` shows what was stable.",
        ),
        Refusal::NotGoneBack { .. } => {
            (Code::Aborted, "not_gone_back", "to", "`hotctl status` says what serves.")
        }
        Refusal::StillRuns(_) => {
            (Code::DeadlineExceeded, "still_running", "rollout", "`hotctl status` says what it waits for.")
        }
        Refusal::TooManyWait => {
            (Code::ResourceExhausted, "too_many_waiting", "", "Try again when they have begun.")
        }
        Refusal::Store { full: true, .. } => return disk_full(sentence),
        Refusal::Store { .. } => {
            (Code::Internal, "store", "", "Nothing was changed; see the log of hotd on this node.")
        }
        Refusal::NotDurable { full, .. } => (
            if *full { Code::ResourceExhausted } else { Code::Internal },
            "not_durable",
            "",
            "It is tried again; a restart of hotd before that could undo it.",
        ),
        Refusal::ShuttingDown => (Code::Unavailable, "shutting_down", "", "Try again when it is back."),
    };
    refused(Refused {
        grpc,
        code,
        field,
        found: sentence,
        expected: String::new(),
        advice: advice.to_owned(),
    })
}
