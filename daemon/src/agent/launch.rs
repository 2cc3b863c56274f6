//! One instance from its artifact to its end.
//!
//! Each instance has a task of its own that follows it; what the task learns goes into the slot, and the slot's plan
//! says what is next.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use hot_rollout::{Cause, InstanceState, Module, ReleaseNumber};

use super::Agent;
use super::denied::Told;
use super::resting::Way;
use super::slot::{Run, RunState, Slot};
use crate::gateway::AttachError;
use crate::ledger::{LedgerError, Runnable};
use crate::supervisor::{Adopted, Denials, End, Instance, InstanceId, Spec, StartError, State};

/// How long a host may take to stop after it has drained.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// Between two looks at what an instance has in flight while it drains.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

impl Agent {
    /// Starts an instance of `release`. If it can't even be looked up, it rests; whom to [`Agent::blame`] is the
    /// caller's to say, once it is done with the slot.
    pub(super) fn launch(
        &self,
        module: &Module,
        slot: &mut Slot,
        release: ReleaseNumber,
    ) -> Result<InstanceId, Cause> {
        let id = self.mint();
        let runnable = self.shared.parts.ledger.runnable(module, release).map_err(|error| {
            let cause = Cause::Refused { text: crate::describe(&error) };
            slot.unlaunched.insert(release, cause.to_string());
            slot.resting.rest(release, Way::Refused, Instant::now(), rand::random());
            cause
        })?;
        slot.unlaunched.remove(&release);
        let started = SystemTime::now();
        slot.runs.push(Run {
            id,
            release,
            version: runnable.version.clone(),
            digest: runnable.digest,
            routes: runnable.routes.clone(),
            state: RunState::Starting,
            started,
            ordered: None,
            start_took: None,
            ready: None,
            instance: None,
            isolation: None,
            reason: String::new(),
            lines: Vec::new(),
            denied: Told::default(),
        });
        let spec = Spec { started: Some(started), ..self.spec(module, slot, id, release, &runnable) };
        let (agent, module) = (self.clone(), module.clone());
        self.shared.tasks.spawn(async move { agent.bring_up(module, id, spec, runnable).await });
        Ok(id)
    }

    fn spec(
        &self,
        module: &Module,
        slot: &Slot,
        id: InstanceId,
        release: ReleaseNumber,
        of: &Runnable,
    ) -> Spec {
        let bounds = &self.shared.parts.bounds;
        let candidate = slot.orders.assignment.as_ref().and_then(|assignment| assignment.candidate.as_ref());
        let limits =
            candidate.filter(|candidate| candidate.release == release).map(|candidate| &candidate.limits);
        Spec {
            instance: id,
            module: module.0.clone(),
            release: release.0,
            version: of.version.to_string(),
            digest: of.digest,
            serves: !of.routes.is_empty(),
            started: None,
            // Read with the artifact, where waiting for the disk does no harm.
            config: Vec::new(),
            limits: self.shared.parts.asked.limits_of(module),
            start_deadline: limits.map_or(bounds.start_deadline, |limits| limits.start_deadline.into()),
            health_interval: limits.map_or(bounds.health_interval, |limits| limits.health_interval.into()),
            health_threshold: limits.map_or(bounds.health_threshold, |limits| limits.health_failures),
        }
    }

    async fn bring_up(self, module: Module, id: InstanceId, spec: Spec, runnable: Runnable) {
        let (ledger, trusted) = (self.shared.parts.ledger.clone(), self.shared.parts.trust.fresh().await);
        let (name, max_size) = (module.clone(), self.shared.parts.max_artifact);
        let checked = crate::blocking(move || {
            let verified = ledger.verified(&name, &runnable, &trusted, max_size)?;
            Ok::<_, LedgerError>((verified, ledger.config(&runnable)?))
        })
        .await;
        let wanted = |slots: &BTreeMap<Module, Slot>| {
            let run = slots.get(&module).and_then(|slot| slot.runs.iter().find(|run| run.id == id));
            run.is_some_and(|run| run.state == RunState::Starting)
        };
        let started = match checked {
            // What was taken back while it was checked is not even loaded.
            Ok(_) if !self.slots(wanted) => return self.ended(&module, id, None),
            Ok((verified, config)) => {
                if let Some(run) = self.lock().get_mut(&module).and_then(|slot| slot.run_mut(id)) {
                    run.ordered = Some(Instant::now());
                }
                self.shared.parts.supervisor.start(Spec { config, ..spec }, &verified).await
            }
            Err(error) => {
                return self.ended(&module, id, Some(Cause::Refused { text: crate::describe(&error) }));
            }
        };
        match started {
            Ok(instance) => self.follow(module, id, instance).await,
            Err(StartError::NoSpawn { .. }) => self.not_started(&module, id),
            // No code of the module ran: its digest is not held against it.
            Err(error) => self.ended(&module, id, Some(Cause::Refused { text: crate::describe(&error) })),
        }
    }

    /// Takes over an instance that a hotd before this one started. What it does is looked at once `slots` is unlocked.
    pub(super) fn adopt(&self, slots: &mut BTreeMap<Module, Slot>, adopted: Adopted) {
        let spec = &adopted.spec;
        let module = Module(spec.module.clone());
        let release = ReleaseNumber(spec.release);
        let id = spec.instance;
        self.shared.next_instance.fetch_max(id.0.saturating_add(1), std::sync::atomic::Ordering::Relaxed);
        let routes = self.shared.parts.ledger.runnable(&module, release).map(|runnable| runnable.routes);
        let Ok(version) = spec.version.parse() else {
            tracing::error!(module = %module, version = %spec.version, "an adopted host has no version; it is stopped");
            self.shared.tasks.spawn(async move { adopted.instance.stop(GRACE).await });
            return;
        };
        let run = Run {
            id,
            release,
            version,
            digest: spec.digest,
            routes: routes.unwrap_or_default(),
            state: RunState::Starting,
            started: spec.started.unwrap_or_else(SystemTime::now),
            ordered: None,
            start_took: None,
            ready: None,
            instance: Some(adopted.instance.clone()),
            isolation: None,
            reason: String::new(),
            lines: Vec::new(),
            denied: Told::default(),
        };
        slots.entry(module.clone()).or_default().runs.push(run);
        let agent = self.clone();
        self.shared.tasks.spawn(async move { agent.follow(module, id, adopted.instance).await });
    }

    /// Follows an instance until it ends.
    async fn follow(self, module: Module, id: InstanceId, instance: Instance) {
        let (mut state, mut denied) = (instance.state(), instance.denied());
        {
            let mut slots = self.lock();
            let Some(run) = slots.get_mut(&module).and_then(|slot| slot.run_mut(id)) else {
                self.shared.tasks.spawn(async move { instance.stop(GRACE).await });
                return;
            };
            run.instance = Some(instance.clone());
            if run.state == RunState::Stopping {
                // It was told to stop before its host was there.
                let instance = instance.clone();
                self.shared.tasks.spawn(async move { instance.stop(GRACE).await });
            }
        }
        self.shared.note_change();
        let mut attached = false;
        let mut unreachable = None;
        let mut seen = Denials::default();
        loop {
            // Before it is said how it ended: what it was refused says more.
            let refused = denied.borrow_and_update().clone();
            if refused != seen {
                seen = refused;
                self.denied(&module, id, &instance);
            }
            let now = state.borrow_and_update().clone();
            match now {
                State::Starting | State::Stopping => {}
                State::Failing(end) => {
                    if let Some(cause) = cause_of(end) {
                        self.failing(&module, id, &cause);
                    }
                }
                State::Ready if attached => {}
                State::Ready => {
                    attached = true;
                    if let Err(text) = self.attach(&module, id, &instance).await {
                        tracing::error!(%module, %text, "an instance that is ready can't be reached");
                        unreachable = Some(Cause::Refused { text });
                        instance.stop(GRACE).await;
                    }
                }
                State::Ended(End::Lost { .. }) => return self.lost(&module, id),
                // It was stopped because it can't be reached: without a cause it would be started again at once.
                State::Ended(end) => return self.ended(&module, id, cause_of(end).or(unreachable)),
            }
            let woken = tokio::select! {
                changed = state.changed() => changed,
                Ok(()) = denied.changed() => Ok(()),
            };
            if woken.is_err() {
                let text = "its supervision ended".to_owned();
                return self.ended(&module, id, Some(Cause::Refused { text }));
            }
        }
    }

    async fn attach(&self, module: &Module, id: InstanceId, instance: &Instance) -> Result<(), String> {
        let gateway = &self.shared.parts.gateway;
        let links = instance.attach(gateway.threads()).await.map_err(|error| crate::describe(&error))?;
        match gateway.attach(id, links, instance.features()) {
            Ok(()) => {}
            // The node goes down; the host stays for the next hotd.
            Err(AttachError::Ended) => return Ok(()),
            Err(error @ AttachError::WrongNumber { .. }) => return Err(crate::describe(&error)),
        }
        let mut slots = self.lock();
        let run = slots.get_mut(module).and_then(|slot| slot.run_mut(id));
        // One that was told to stop meanwhile is not ready for anything.
        let Some(run) = run.filter(|run| run.state == RunState::Starting) else { return Ok(()) };
        run.state = RunState::Ready;
        run.ready = Some(Instant::now());
        run.start_took = run.ordered.map(|ordered| ordered.elapsed());
        let (release, what) = (run.release, format!("instance {id} of {module} {}", run.version));
        // Who hears of it finds it in the slots: they are locked.
        self.shared.report(self.shared.instance_event(module, release, InstanceState::Ready));
        let failed = slots.get(module).and_then(|slot| slot.failed_last(release)).map(|run| run.id);
        if let Some(failed) = failed {
            let text = format!("{what} (release {release}) serves in the place of {failed}, which had ended");
            self.tell("instance.restarted", module, text);
        }
        self.reconcile(&mut slots, module);
        self.note_missing(&slots);
        drop(slots);
        self.shared.note_change();
        Ok(())
    }

    /// Drains an instance, then stops it.
    pub(super) fn stop(&self, module: &Module, slot: &mut Slot, id: InstanceId) {
        let Some(run) = slot.run_mut(id).filter(|run| run.state != RunState::Stopping) else { return };
        run.state = RunState::Stopping;
        let Some(instance) = run.instance.clone() else { return };
        tracing::info!(%module, release = run.release.0, "an instance drains and stops");
        let (gateway, drain) = (self.shared.parts.gateway.clone(), self.shared.parts.bounds.drain);
        self.shared.tasks.spawn(async move {
            let begun = Instant::now();
            // Streams are asked to end by the gateway, which gives nothing new to it, and are cut off by it.
            let streams_until = gateway.stream_grace() + DRAIN_LOOK * 10;
            loop {
                let (counters, passed) = (gateway.counters(id), begun.elapsed());
                let has_requests = counters.in_flight > 0 && passed < drain;
                let has_streams = counters.streams > 0 && passed < streams_until;
                if !has_requests && !has_streams {
                    break;
                }
                tokio::time::sleep(DRAIN_LOOK).await;
            }
            instance.stop(GRACE).await;
        });
    }

    /// An instance has failed although its process is still there: nothing goes to it any more, and what it had is lost
    /// as by a crash. One that was told to stop finishes what it has.
    pub(super) fn failing(&self, module: &Module, id: InstanceId, cause: &Cause) {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(module) else { return };
        let told = |run: &Run| run.id == id && run.state == RunState::Stopping;
        if slot.runs.iter().any(told) {
            return;
        }
        self.shared.parts.gateway.detach(id);
        self.fail(&mut slots, module, id, cause);
        drop(slots);
        self.shared.note_change();
    }

    /// An instance is gone; `cause` says how unless it was meant to be.
    fn ended(&self, module: &Module, id: InstanceId, cause: Option<Cause>) {
        self.shared.parts.gateway.detach(id);
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(module) else { return };
        let Some(run) = slot.run_mut(id) else { return };
        let (release, was_told) = (run.release, run.state == RunState::Stopping);
        let has_failed = run.has_failed();
        match cause.filter(|_| !was_told) {
            Some(cause) => self.fail(&mut slots, module, id, &cause),
            // Then it was said when it failed.
            None if !has_failed => {
                self.shared.report(self.shared.instance_event(module, release, InstanceState::Ended));
            }
            None => {}
        }
        if let Some(slot) = slots.get_mut(module) {
            self.bury(module, slot, id);
        }
        self.reconcile(&mut slots, module);
        drop(slots);
        self.shared.note_change();
    }

    /// Says how an instance ended that was not told to.
    pub(super) fn tell_end(&self, module: &Module, run: &mut Run, how: &str) {
        how.clone_into(&mut run.reason);
        let what = format!("instance {} of {module} {} (release {})", run.id, run.version, run.release);
        self.tell("instance.ended", module, format!("{what} ended: it {how}"));
    }

    /// Moves an instance that is gone to those that are remembered; nobody asks for the oldest of them any more.
    pub(super) fn bury(&self, module: &Module, slot: &mut Slot, id: InstanceId) {
        // While what is forgotten below can still be asked for.
        self.follow_swaps(module, slot, Instant::now());
        slot.bury(id);
        for forgotten in slot.forget_oldest() {
            self.shared.parts.gateway.forget(forgotten);
        }
    }

    /// Says how an instance failed by itself, lets its release rest, and holds it against it.
    fn fail(&self, slots: &mut BTreeMap<Module, Slot>, module: &Module, id: InstanceId, cause: &Cause) {
        let Some(slot) = slots.get_mut(module) else { return };
        let Some(run) = slot.run_mut(id) else { return };
        run.state = RunState::Stopping;
        let (release, served) = (run.release, run.ready.map(|ready| ready.elapsed()));
        self.tell_end(module, run, &cause.to_string());
        let way = if cause.blames_release() { Way::Failed { served } } else { Way::Refused };
        slot.resting.rest(release, way, Instant::now(), rand::random());
        self.blame(slots, module, release, cause);
    }

    /// An instance of `release` failed: a candidate is taken back, stable is started again after a rest.
    pub(super) fn blame(
        &self,
        slots: &mut BTreeMap<Module, Slot>,
        module: &Module,
        release: ReleaseNumber,
        cause: &Cause,
    ) {
        let Some(slot) = slots.get_mut(module) else { return };
        if slot.orders.candidate() == Some(release) {
            slot.orders.ends.push(cause.clone());
        }
        self.take_back_if_due(slots, module);
        let failed = InstanceState::Failed(cause.clone());
        self.shared.report(self.shared.instance_event(module, release, failed));
        self.reconcile(slots, module);
    }
}

/// In the words of a rollout. `None`: it was told to end.
fn cause_of(end: End) -> Option<Cause> {
    Some(match end {
        End::Stopped => return None,
        // Nothing that the module did: its digest is not held against it.
        End::Lost { text } | End::Refused { text } => Cause::Refused { text },
        End::LoadFailed { text, .. } => Cause::LoadFailed { text },
        End::StartTimeout { limit } => Cause::StartTimeout { limit: limit.into() },
        End::Crashed { signal, text } => Cause::Crashed { signal, text },
        End::Exited { code, text } => Cause::Exited { code, text },
        End::Hung { silent, limit } => Cause::Hung { silent: silent.into(), limit: limit.into() },
        End::OverMemory { used, limit } => Cause::OverMemory { used, limit },
        End::OverTasks { used, limit } => Cause::OverProcesses { used, limit },
        End::Forged { text } => Cause::Forged { text },
        End::FailingHealth { failures, limit, text } => Cause::FailingHealth { failures, limit, text },
    })
}
