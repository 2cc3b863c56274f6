//! A person's word while the fleet can't be told: this node goes back alone, and that stands.

use std::time::Duration;

use hot_artifact::ModuleName;
use hot_rollout::{Module, ReleaseNumber};

use super::check::way_back;
use super::{Driver, Refusal, To, stored};
use crate::agent::Flip;
use crate::clock::of_day;
use crate::cluster::Cluster;
use crate::journal::Entry;
use crate::ledger::LocalRollback;

/// How long what a node goes back to alone may take to serve before the caller is told that it does not yet.
const SERVES: Duration = Duration::from_secs(30);

/// Where this node goes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) from: ReleaseNumber,
    /// That is only being tried.
    pub(super) tried: bool,
    pub(super) to: ReleaseNumber,
}

/// Who goes back, and why.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) by: String,
    pub(super) message: String,
    /// They called this node, and not another one that has sent the call on: that one goes back alone where this one can't
    /// tell the fleet.
    pub(super) here: bool,
}

/// That this node went back alone.
#[derive(Clone, Debug)]
pub(crate) struct WentAlone {
    pub(crate) module: Module,
    pub(crate) local: LocalRollback,
    /// Why its fleet could not be told, as a sentence.
    pub(crate) why: String,
    /// Why what it goes to does not serve; empty: it does.
    pub(crate) unserved: String,
    pub(crate) flip: Option<Flip>,
}

impl Driver {
    /// Whether a refusal says that the fleet could not be told, and nothing of what was asked.
    pub(super) fn is_unheard(&self, refusal: &Refusal) -> bool {
        let of_a_fleet = matches!(self.parts.cluster, Cluster::Fleet(_));
        of_a_fleet
            && matches!(
                refusal,
                Refusal::NotLeader { .. }
                    | Refusal::Store { full: false, .. }
                    | Refusal::NotDurable { full: false, .. }
            )
    }

    /// Takes back what this node tries of a module, where its fleet can't be told. `None`: its fleet can, or it tries nothing.
    pub(crate) async fn abort_alone(
        &self,
        module: &ModuleName,
        by: &str,
        message: &str,
        here: bool,
    ) -> Option<Result<Box<WentAlone>, Refusal>> {
        let name = Module(module.to_string());
        let (candidate, stable) = self.parts.agent.trial(&name).filter(|_| !self.drives_all())?;
        let Some(to) = stable else {
            let why = "its first release is still being tried, and its node can't tell its fleet; it ends by its expiry".to_owned();
            return Some(Err(Refusal::NothingToReturnTo { module: module.clone(), why }));
        };
        let said = Said { by: by.to_owned(), message: message.to_owned(), here };
        Some(self.go_alone(module, Way { from: candidate, tried: true, to }, said, None).await)
    }

    /// The way back on this node, as far as it knows.
    pub(super) fn way_alone(&self, module: &ModuleName, to: &To) -> Result<Way, Refusal> {
        let name = Module(module.to_string());
        let agent = &self.parts.agent;
        let standing = agent.local_rollbacks().remove(&name);
        match (to, agent.trial(&name)) {
            // The same again.
            (To::Preceding, _) if let Some(local) = standing => {
                Ok(Way { from: local.from, tried: local.tried, to: local.to })
            }
            (To::Preceding, Some((candidate, Some(stable)))) => {
                Ok(Way { from: candidate, tried: true, to: stable })
            }
            _ => {
                let (from, to) = way_back(&self.parts.ledger, &[], module, to)?;
                // What is left is what serves here, which may be behind.
                let serves = agent.stable(&name).filter(|serves| *serves != to);
                Ok(Way { from: serves.unwrap_or(from), tried: false, to })
            }
        }
    }

    /// Goes back on this node, as its fleet can't be told, and returns when what it goes to serves.
    pub(super) async fn go_alone(
        &self,
        module: &ModuleName,
        way: Way,
        said: Said,
        flip: Option<Flip>,
    ) -> Result<Box<WentAlone>, Refusal> {
        let why = self.why_unheard();
        if !said.here {
            if let Some(flip) = flip {
                self.parts.agent.undo(&Module(module.to_string()), &flip);
            }
            return Err(Refusal::Untold { why });
        }
        let name = Module(module.to_string());
        let Way { from, tried, to } = way;
        let local = LocalRollback { from, tried, to, by: said.by, at: of_day().0, message: said.message };
        let (keep, agent) = (self.parts.policy.spec().standby, &self.parts.agent);
        let Some((went, kept)) = agent.go_back_alone(&name, local.clone(), keep).await else {
            let why = "this node was told nothing of it yet, and its fleet can't be told now".to_owned();
            return Err(Refusal::NothingToReturnTo { module: module.clone(), why });
        };
        if let Err(error) = kept {
            let (why, full) = crate::store::failed(&error);
            return Err(Refusal::AloneNotDurable { module: module.clone(), why, full });
        }
        let text = format!(
            "{} took {module} back from release {from} to {to} on this node alone: its fleet can't be told: {why}. That stands until \
             the fleet goes the same way, or somebody lifts it",
            local.by
        );
        self.tell(module, "rollback.local", &local.by, text).await;
        let flip = flip.or(went.flip);
        // What was only tried is left, whatever becomes of stable.
        let unserved = match tokio::time::timeout(SERVES, self.serves(&name)).await {
            Ok(Err(why)) if !tried => {
                agent.put_back(&name, went, &local).await.map_err(|error| stored(&error))?;
                return Err(Refusal::NotGoneBack { module: module.clone(), to, why });
            }
            Ok(Ok(())) => String::new(),
            Ok(Err(_)) | Err(_) => agent.unserved_of(&name).unwrap_or_default(),
        };
        Ok(Box::new(WentAlone { module: name, local, why, unserved, flip }))
    }

    /// Has this node follow its fleet again; gives what stood.
    pub(crate) async fn lift(&self, module: &ModuleName, by: &str) -> Result<Option<LocalRollback>, Refusal> {
        let (name, keep) = (Module(module.to_string()), self.parts.policy.spec().standby);
        let lifted = self.parts.agent.lift(&name, keep).await.map_err(|error| stored(&error))?;
        if let Some(local) = &lifted {
            let text = format!(
                "{by} has this node follow its fleet again in {module}, which {} had taken back from release {} to {} here alone",
                local.by, local.from, local.to
            );
            self.tell(module, "rollback.lifted", by, text).await;
        }
        Ok(lifted)
    }

    /// That nothing runs which a command could be for; as far as this node knows.
    pub(crate) fn nothing_runs(&self, module: String) -> Refusal {
        if self.drives_all() {
            Refusal::NothingRuns(module)
        } else {
            Refusal::not_leader(&self.parts.cluster)
        }
    }

    /// Returns when what is stable on this node serves, or says why it does not.
    async fn serves(&self, module: &Module) -> Result<(), String> {
        let mut changes = self.parts.agent.changes();
        loop {
            match self.parts.agent.stable_serves(module) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(why) => return Err(why),
            }
            if changes.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Why this node can't tell its fleet, as a sentence.
    fn why_unheard(&self) -> String {
        let Cluster::Fleet(fleet) = &self.parts.cluster else { return String::new() };
        match (fleet.unheard(), self.parts.cluster.leader()) {
            (Some(why), _) => why,
            (None, None) => "no node leads it now".to_owned(),
            (None, Some(leader)) if leader == *fleet.node() => {
                "etcd does not take what this node writes".to_owned()
            }
            (None, Some(leader)) => format!("{leader}, which leads it, can't be reached from here"),
        }
    }

    async fn tell(&self, module: &ModuleName, kind: &'static str, by: &str, text: String) {
        let (module, by) = (module.to_string(), by.to_owned());
        self.parts.journal.write(Entry { kind, module, by, text, ..Entry::default() }).await;
    }
}
