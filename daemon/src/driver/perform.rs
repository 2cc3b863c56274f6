//! Does what a machine wants done, in the order that it demands.

use hot_rollout::{Action, Direction, Kind, Module, Outcome, Phase, ReleaseNumber, Rollout, RolloutId};

use super::Refusal;
use super::actor::Actor;
use super::failing::name;
use super::record::Record;
use crate::clock::{now, of_day};
use crate::cluster::{Cluster, ClusterError};
use crate::journal::Entry;

/// Why an action could not be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The cluster says no.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A rollout has no form in which it could be written.
    #[error("a rollout can't be written")]
    Form(#[from] serde_json::Error),
}

/// What of a rollout fails where its snapshot can't be written: all that it wants waits for that.
const SNAPSHOT: &str = "writing its state";

impl Actor {
    /// Actions toward stable, then the snapshot, then the rest. A snapshot that can't be written holds the rest back
    /// until it can, and the expiry of its assignments stands meanwhile.
    ///
    /// # Errors
    /// The snapshot is not on disk: nothing must be acknowledged. It is tried again.
    pub(super) async fn perform(&mut self, id: &RolloutId, actions: Vec<Action>) -> Result<(), Refusal> {
        if actions.is_empty() {
            self.show();
            return Ok(());
        }
        self.undone.entry(id.clone()).or_default().want(actions);
        self.catch_up(id).await
    }

    /// Does what is undone of a rollout, as far as it can be done now.
    pub(super) async fn catch_up(&mut self, id: &RolloutId) -> Result<(), Refusal> {
        let back = self.undone.get_mut(id).map(super::undone::Undone::take_toward_stable);
        for action in back.unwrap_or_default() {
            self.act(id, action).await;
        }
        let undone = self.undone.get(id);
        if let Some(urgent) = undone.filter(|undone| undone.is_unsaved()).map(|undone| undone.is_urgent()) {
            let saved = self.save(id, urgent).await;
            self.show();
            self.tell(id, SNAPSHOT, saved.as_ref().err());
            saved.map_err(|error| refusal(&error))?;
        }
        let rest = self.undone.get_mut(id).map(|undone| {
            undone.saved();
            undone.take_rest()
        });
        for action in rest.unwrap_or_default() {
            self.act(id, action).await;
        }
        self.undone.retain(|_, undone| !undone.is_empty());
        self.show();
        Ok(())
    }

    /// Logs what a try of `what` came to, if that is news.
    fn tell(&mut self, id: &RolloutId, what: &str, error: Option<&Failure>) {
        let Some(undone) = self.undone.get_mut(id) else { return };
        let Some(error) = error else {
            if let Some(tries) = undone.failing.done(what) {
                tracing::info!(rollout = %id, what, tries, "what the rollout wants is done now");
            }
            return;
        };
        let error = crate::describe(error);
        if undone.failing.failed(what, &error, now()) {
            tracing::error!(rollout = %id, what, %error, "what the rollout wants is not done yet");
        }
    }

    /// Puts the snapshot on disk.
    async fn save(&mut self, id: &RolloutId, urgent: bool) -> Result<(), Failure> {
        let Some(record) = self.running.get_mut(id) else { return Ok(()) };
        record.meta.updated = now();
        let direction =
            if urgent || goes_back(&record.machine) { Direction::TowardStable } else { Direction::Onward };
        write(&self.parts.cluster, record, direction).await
    }

    /// Does one action; what can't be done now is tried again. The end waits until all else is done.
    async fn act(&mut self, id: &RolloutId, action: Action) {
        let what = name(&action);
        let done = match &action {
            Action::Prepare { node, modules } => {
                self.parts.cluster.prepare(node, modules).await.map_err(Failure::from)
            }
            Action::Assign { node, assignment, direction } => {
                let given = self.parts.cluster.assign(node, assignment.clone(), *direction).await;
                given.map_err(Failure::from)
            }
            Action::Renew { revision } => {
                let record = self.running.get(id);
                let modules: Vec<Module> = record
                    .map_or_else(Vec::new, |record| record.machine.spec().moves.keys().cloned().collect());
                self.parts.cluster.renew(id, modules, *revision).await.map_err(Failure::from)
            }
            Action::SetStable { module, release, direction } => {
                self.set_stable(module, *release, *direction).await.map_err(Failure::from)
            }
            Action::Quarantine { module, release, reason } => {
                let kept =
                    self.parts.cluster.quarantine(module.clone(), *release, reason.to_string(), of_day().0);
                kept.await.map_err(Failure::from)
            }
            Action::Note(note) => {
                let entry = Entry::of_note(self.running.get(id), id, note);
                self.parts.journal.write(entry).await;
                Ok(())
            }
            Action::Finished(_) if self.undone.get(id).is_some_and(|undone| !undone.is_empty()) => {
                self.undone.entry(id.clone()).or_default().put_back(action);
                return;
            }
            Action::Finished(outcome) => self.finish(id, outcome).await,
        };
        if done.is_err() {
            self.undone.entry(id.clone()).or_default().put_back(action);
        }
        self.tell(id, &what, done.as_ref().err());
    }

    pub(super) async fn set_stable(
        &self,
        module: &Module,
        release: Option<ReleaseNumber>,
        direction: Direction,
    ) -> Result<(), ClusterError> {
        self.parts.cluster.set_stable(module.clone(), release, direction).await
    }

    /// Writes down how a rollout ended. One that is over becomes history; an incomplete one goes on.
    async fn finish(&mut self, id: &RolloutId, outcome: &Outcome) -> Result<(), Failure> {
        let Some(mut record) = self.running.get(id).cloned() else { return Ok(()) };
        record.meta.outcome = Some(outcome.clone());
        record.meta.ended = Some(now());
        let over = record.machine.phase().is_final();
        if over {
            let value = record.encode()?;
            self.parts.cluster.end_rollout(id.clone(), record.meta.request.clone(), value).await?;
        } else {
            write(&self.parts.cluster, &record, Direction::Onward).await?;
        }
        self.level(&record);
        // Nobody hears of an end that is not on disk.
        self.running.insert(id.clone(), record);
        self.show();
        if over {
            self.running.remove(id);
        }
        Ok(())
    }
}

/// Puts a rollout's snapshot on disk.
pub(super) async fn write(cluster: &Cluster, record: &Record, direction: Direction) -> Result<(), Failure> {
    let (id, request) = (record.id().clone(), record.meta.request.clone());
    Ok(cluster.put_rollout(id, request, record.encode()?, direction).await?)
}

/// What a caller hears of what is in the log already.
fn refusal(error: &Failure) -> Refusal {
    let (why, full) = crate::store::failed(error);
    Refusal::Store { why, full }
}

/// All that such a rollout still writes is toward stable.
fn goes_back(machine: &Rollout) -> bool {
    machine.kind() == Kind::Rollback
        || match machine.phase() {
            Phase::RollingBack { .. }
            | Phase::RolledBack { .. }
            | Phase::Failed { .. }
            | Phase::Superseded { .. } => true,
            Phase::Preparing
            | Phase::Starting { .. }
            | Phase::Baking { .. }
            | Phase::Promoting { .. }
            | Phase::Incomplete
            | Phase::Done => false,
        }
}
