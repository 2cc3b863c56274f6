//! The ways back by a person's word: a rollout that runs is aborted, or what served before serves again. Traffic moves in the
//! caller's own task, before the driver's has even heard of it.

use std::time::Duration;

use hot_artifact::{ModuleName, Version};
use hot_rollout::{Command, Module, Outcome, ReleaseNumber, RolloutId};

use super::local::{Said, Way, WentAlone};
use super::{Ask, Driver, Order, Refusal, View, begin, check, on, stored};
use crate::agent::Flip;
use crate::ledger::Ledger;

/// How long a way back that has moved traffic is waited for to be written down as over: many times what a disk takes.
const SETTLED: Duration = Duration::from_secs(1);

/// A rollback to begin.
#[derive(Clone, Debug)]
pub(crate) struct GoBack {
    pub module: ModuleName,
    pub to: To,
    pub by: String,
    pub message: String,
    /// The name of the request; empty: none.
    pub request: String,
    /// See [`Said::here`].
    pub here: bool,
    /// What was stable on this node when the leader was asked, where it was asked before this node.
    pub was: Option<ReleaseNumber>,
}

/// Where to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// The running rollout's stable, else the preceding stable.
    Preceding,
    /// A release that was stable.
    Release(ReleaseNumber),
    /// The newest release of this version that was stable.
    Version(Version),
}

/// What a rollback did.
#[derive(Clone, Debug)]
pub(crate) struct WentBack {
    pub rollout: RolloutId,
    pub aborted: bool,
    pub from: ReleaseNumber,
    pub to: ReleaseNumber,
    pub flip: Option<Flip>,
}

/// Who went back.
#[derive(Clone, Debug)]
pub(crate) enum Who<T> {
    /// All of the fleet, or the node that is alone.
    All(T),
    /// This node of a fleet that could not be told.
    Alone(Box<WentAlone>),
}

impl Driver {
    /// Takes the candidates of a running rollout back: on this node before anything else happens.
    pub(crate) async fn abort(
        &self,
        id: RolloutId,
        by: String,
        message: String,
        here: bool,
    ) -> Result<Who<Option<Flip>>, Refusal> {
        let view = self.views.borrow().get(&id);
        let tries = |module: &Module| self.parts.agent.trial(module).is_some();
        let tried = view.as_ref().is_some_and(|view| view.spec.moves.keys().any(tries));
        let refusal = match self.command(id, Command::Abort { by: by.clone() }, message.clone()).await {
            Ok(flip) => return Ok(Who::All(flip)),
            Err(refusal) => refusal,
        };
        let moves = view.as_ref().and_then(|view| view.spec.moves.first_key_value());
        match moves
            .and_then(|(module, releases)| Some((module.as_str().parse().ok()?, releases.stable?, releases)))
        {
            // A node that tried nothing has nothing to take back alone: the driver goes on trying to tell those that do.
            Some((module, to, releases)) if tried && self.is_unheard(&refusal) => {
                let way = Way { from: releases.candidate, tried: true, to };
                self.go_alone(&module, way, Said { by, message, here }, None).await.map(Who::Alone)
            }
            _ => Err(refusal),
        }
    }

    /// Returns when a rollout is over that has moved traffic already, so that whoever asks next hears of its end; at the
    /// latest after [`SETTLED`], for a disk that hangs is no reason to keep back that traffic has moved.
    pub(crate) async fn settled(&self, id: &RolloutId) {
        drop(tokio::time::timeout(SETTLED, self.ended(id)).await);
    }

    /// Takes a module back: its running rollout is aborted, else its preceding stable serves again. Traffic has moved
    /// on this node when it returns. Where the fleet can't be told this node goes back alone.
    pub(crate) async fn go_back(&self, back: GoBack) -> Result<Who<WentBack>, Refusal> {
        let name = Module(back.module.to_string());
        let modules = [name.clone()];
        let stable = || self.parts.ledger.module(&back.module).as_deref().and_then(Ledger::stable);
        // What was stable when a leader was asked, if one was: another node, or this one.
        let was = back.was.map(Some).or_else(|| self.drives_all().then(stable));
        if self.drives_all() {
            match self.in_time(&modules, self.go_back_now(back.clone())).await {
                // As where this node leads no more since.
                Err(refusal) if self.is_unheard(&refusal) => {}
                done => return done,
            }
        }
        // The leader may have gone back before it went silent. Then the one before is one too many.
        if was.is_some_and(|was| self.parts.agent.trial(&name).is_none() && stable() != was) {
            return Err(Refusal::MovedMeanwhile { module: back.module });
        }
        let (way, said) = (self.way_alone(&back.module, &back.to)?, back.said());
        let alone = self.go_alone(&back.module, way, said, None);
        self.in_time(&modules, Box::pin(alone)).await.map(Who::Alone)
    }

    async fn go_back_now(&self, back: GoBack) -> Result<Who<WentBack>, Refusal> {
        let (module, to) = (&back.module, &back.to);
        if let Some(done) = self.went_back(module, to, &back.request).await? {
            return self.moved(module, done).await.map(Who::All);
        }
        let name = Module(module.to_string());
        if let Some(view) = self.running(&name) {
            let same = |target: ReleaseNumber| *to == To::Preceding || *to == To::Release(target);
            if let Some(done) = view.way_back(&name).filter(|done| same(done.to)) {
                return self.moved(module, done).await.map(Who::All);
            }
            if *to == To::Preceding {
                return self.abort_as_rollback(&view, back).await;
            }
        }
        // Said again by the driver's task, which alone knows what has begun meanwhile.
        let (from, target) = check::way_back(&self.parts.ledger, &[], module, to)?;
        // A way back by a key that was revoked a moment ago is none.
        drop(self.parts.trust.fresh().await);
        // Where a candidate was tried beside it, this went to stable: on the way, but not there yet.
        let flip = on::is_for_here(&self.parts, module, target)
            .then(|| self.parts.agent.turn_back(&name, Some(target), &back.by))
            .flatten()
            .filter(|flip| flip.to == target);
        let done = match self.ask(|reply| Ask::GoBack(back.clone(), reply)).await {
            Ok((rollout, from, to)) => WentBack { rollout, aborted: false, from, to, flip },
            Err(Refusal::Begun(id)) => {
                let done = self.view(&id).await?.way_back(&name);
                done.ok_or(Refusal::Begun(id))?
            }
            Err(refusal) if self.is_unheard(&refusal) => {
                let way = Way { from, tried: false, to: target };
                return self.go_alone(module, way, back.said(), flip).await.map(Who::Alone);
            }
            Err(refusal) => {
                // Unless the driver has given its word since, nothing is to have changed.
                if let Some(flip) = flip {
                    self.parts.agent.undo(&name, &flip);
                }
                return Err(refusal);
            }
        };
        self.moved(module, done).await.map(Who::All)
    }

    async fn abort_as_rollback(&self, view: &View, back: GoBack) -> Result<Who<WentBack>, Refusal> {
        let said = back.said();
        let GoBack { module, by, message, request, .. } = back;
        let releases = view.spec.moves.get(&Module(module.to_string()));
        let Some((from, to)) = releases.and_then(|of| Some((of.candidate, of.stable?))) else {
            let why = "its first release is still being tried; abort it instead".to_owned();
            return Err(Refusal::NothingToReturnTo { module, why });
        };
        let rollout = view.status.id.clone();
        let tried = self.parts.agent.trial(&Module(module.to_string())).is_some();
        let order = Order { id: rollout.clone(), command: Command::Abort { by }, message, request };
        match self.order(order).await {
            Ok(flip) => Ok(Who::All(WentBack { rollout, aborted: true, from, to, flip })),
            Err(refusal) if tried && self.is_unheard(&refusal) => {
                let way = Way { from, tried: true, to };
                self.go_alone(&module, way, said, None).await.map(Who::Alone)
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Waits until traffic has moved on this node, which it has where there was a standby.
    async fn moved(&self, module: &ModuleName, done: WentBack) -> Result<WentBack, Refusal> {
        if done.flip.is_some() || done.aborted {
            return Ok(done);
        }
        self.ended(&done.rollout).await?;
        match &self.view(&done.rollout).await?.meta.outcome {
            Some(
                Outcome::Failed { reason }
                | Outcome::RolledBack { reason, .. }
                | Outcome::Superseded { reason },
            ) => {
                let unserved = self.parts.agent.unserved_of(&Module(module.to_string()));
                let why = unserved.map_or_else(|| reason.to_string(), |now| format!("{reason}; {now}"));
                Err(Refusal::NotGoneBack { module: module.clone(), to: done.to, why })
            }
            Some(Outcome::Done | Outcome::Incomplete { .. }) | None => Ok(done),
        }
    }

    /// What an earlier call with this request name did.
    async fn went_back(
        &self,
        module: &ModuleName,
        to: &To,
        request: &str,
    ) -> Result<Option<WentBack>, Refusal> {
        if request.is_empty() {
            return Ok(None);
        }
        let name = Module(module.to_string());
        if let Some(done) = self.views.borrow().aborted_by(&name, request) {
            return Ok(Some(done));
        }
        let (ledger, wanted) = (self.parts.ledger.clone(), request.to_owned());
        let found = crate::blocking(move || ledger.rollout_of_request(&wanted)).await;
        let Some(rollout) = found.map_err(|error| stored(&error))? else { return Ok(None) };
        let view = self.view(&rollout).await?;
        match view.way_back(&name).filter(|_| view.meta.asked == begin::asked_back(module, to)) {
            Some(done) => Ok(Some(done)),
            None => Err(Refusal::RequestReused(request.to_owned())),
        }
    }
}

impl GoBack {
    fn said(&self) -> Said {
        Said { by: self.by.clone(), message: self.message.clone(), here: self.here }
    }
}
