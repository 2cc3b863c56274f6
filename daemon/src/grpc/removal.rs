//! Modules and versions are removed, on one node or from a whole fleet.

use hot_artifact::{ModuleName, Version};
use hot_proto::v1;
use hot_rollout::{Module, ReleaseNumber, Role};
use tonic::{Code, Status};

use super::Api;
use super::refusal::driver_refused;
use super::status::{Refused, internal, not_found, refused};
use crate::clock::of_day;
use crate::cluster::Fleet;
use crate::cluster::fleet::values::RemovedValue;
use crate::driver::Refusal;
use crate::journal::Entry;
use crate::store::{ModuleRecord, RemoveError};

/// Rollouts of one module that are ended, one after the other, before it is removed.
const MAX_STOPS: usize = 4;

/// What is to be removed.
#[derive(Clone, Debug)]
pub(super) struct Removing {
    /// The module.
    pub(super) name: ModuleName,
    /// Only this version; none: all that there is of the module.
    pub(super) version: Option<Version>,
    /// Who wants that.
    pub(super) by: String,
}

impl Api {
    /// Removes it, and goes on when the caller goes away.
    pub(super) async fn remove(self, what: Removing) -> Result<v1::RemoveResponse, Status> {
        crate::to_its_end(async move {
            match self.fleet.clone() {
                None => self.remove_here(&what).await,
                Some(fleet) => self.remove_everywhere(&fleet, &what).await,
            }
        })
        .await
    }

    /// From a node that is alone.
    async fn remove_here(&self, what: &Removing) -> Result<v1::RemoveResponse, Status> {
        let Removing { name, version, by } = what;
        let record = self.known(name)?;
        let versions = match version {
            None if !self.is_here(name, &record) => return Ok(v1::RemoveResponse::default()),
            None => {
                self.end_rollouts(name, by).await?;
                self.agent.forget(name).await.map_err(|error| internal(&error))?;
                record.versions().keys().cloned().collect()
            }
            Some(version) if is_gone(&record, version) => return Ok(v1::RemoveResponse::default()),
            Some(version) => {
                self.refuse_in_use(name, &record, version, self.roles(&Module(name.to_string())))?;
                vec![version.clone()]
            }
        };
        let (removed, failed) = self.bury(what, versions).await;
        if failed.is_none() || !removed.is_empty() {
            self.tell_removed(what, &removed).await;
        }
        match failed {
            None => Ok(v1::RemoveResponse { versions: removed, away: Vec::new() }),
            Some(error @ RemoveError::Unknown { .. }) => {
                Err(not_found("version", error.to_string(), "`hotctl versions` lists them."))
            }
            Some(error @ RemoveError::Update(_)) => Err(internal(&error)),
        }
    }

    /// From all nodes: they are told by way of etcd, and each lets go of its own files.
    async fn remove_everywhere(&self, fleet: &Fleet, what: &Removing) -> Result<v1::RemoveResponse, Status> {
        let Removing { name, version, by } = what;
        let there = fleet.versions(name).await.map_err(|error| self.fleet_refused(error))?;
        let record = match self.known(name) {
            Err(status) if there.is_empty() => return Err(status),
            known => known.unwrap_or_default(),
        };
        let module = Module(name.to_string());
        match version {
            None => {
                self.refuse_alone(fleet, name)?;
                self.end_rollouts(name, by).await?;
                self.driver.withdraw(module).await.map_err(driver_refused)?;
            }
            Some(version) if there.contains(version) => {
                let mut roles = self.roles(&module);
                roles.extend(fleet.roles(&module).into_iter().map(|(release, role)| (release, said(role))));
                self.refuse_in_use(name, &record, version, roles)?;
            }
            Some(version) if is_gone(&record, version) || fleet.has_removed(name, version) => {
                return Ok(v1::RemoveResponse::default());
            }
            Some(version) => {
                let found = format!("{name} has no version {version}");
                return Err(not_found("version", found, "`hotctl versions` lists them."));
            }
        }
        let removed = RemovedValue { by: by.clone(), at: of_day().0 };
        let removed = fleet.remove_versions(name, version.as_ref(), &removed).await;
        let removed = removed.map_err(|error| self.fleet_refused(error))?;
        // What only this node has: the fleet has let go of it.
        let others = record.versions().keys().filter(|_| version.is_none()).cloned().collect();
        let (_others, failed) = self.bury(what, others).await;
        if let Some(error @ RemoveError::Update(_)) = failed {
            return Err(internal(&error));
        }
        let versions: Vec<String> = removed.iter().map(ToString::to_string).collect();
        if !versions.is_empty() {
            self.tell_removed(what, &versions).await;
        }
        let state = fleet.state();
        let away = state.nodes.keys().filter(|node| !state.is_up(node)).map(ToString::to_string).collect();
        Ok(v1::RemoveResponse { versions, away })
    }

    /// A node that a person has set aside takes no word of its fleet about the module.
    fn refuse_alone(&self, fleet: &Fleet, name: &ModuleName) -> Result<(), Status> {
        let state = fleet.state();
        let Some((node, _)) = state.local.keys().find(|(_, module)| module == name) else { return Ok(()) };
        Err(refused(Refused {
            grpc: Code::FailedPrecondition,
            code: "rolled_back_alone",
            field: "module",
            found: format!(
                "{name} was rolled back on {node} alone, which takes no word of its fleet about it"
            ),
            expected: String::new(),
            advice: format!("End that with `hotctl rollback {name} --lift`, then remove it."),
        }))
    }

    /// The releases that this node is to run, and as what.
    pub(super) fn roles(&self, module: &Module) -> Vec<(ReleaseNumber, v1::Role)> {
        self.agent.roles(module).into_iter().map(|(release, role)| (release, said(role))).collect()
    }

    /// A version that is served, tried or kept ready must stay.
    fn refuse_in_use(
        &self,
        name: &ModuleName,
        record: &ModuleRecord,
        version: &Version,
        mut roles: Vec<(ReleaseNumber, v1::Role)>,
    ) -> Result<(), Status> {
        let module = Module(name.to_string());
        // One that prepares has told no node yet.
        let moves = self.driver.running(&module).and_then(|view| view.spec.moves.get(&module).copied());
        roles.extend(moves.map(|moves| (moves.candidate, v1::Role::Candidate)));
        let uses = |release: &ReleaseNumber| {
            record.releases().get(&release.0).is_some_and(|it| it.version == *version)
        };
        let Some((release, role)) = roles.iter().find(|(release, _)| uses(release)) else { return Ok(()) };
        let role = match role {
            v1::Role::Stable => "stable",
            v1::Role::Candidate => "the candidate",
            v1::Role::Standby => "the standby",
            v1::Role::Unspecified => "in use",
        };
        Err(refused(Refused {
            grpc: Code::FailedPrecondition,
            code: "in_use",
            field: "version",
            found: format!(
                "{name} {version} is {role} (release {release}), so it can't be removed by itself"
            ),
            expected: String::new(),
            advice: "Push or roll back to another version first, or remove the whole module.".to_owned(),
        }))
    }

    /// Ends what runs, and as often as another one that waited takes its place.
    async fn end_rollouts(&self, name: &ModuleName, by: &str) -> Result<(), Status> {
        let module = Module(name.to_string());
        let ended = async {
            for _ in 0..MAX_STOPS {
                let Some(view) = self.driver.running(&module) else { break };
                let abort = hot_rollout::Command::Abort { by: by.to_owned() };
                let id = view.status.id.clone();
                match self.driver.command(id.clone(), abort, "the module is removed".to_owned()).await {
                    // A rollback that goes on by itself, or one that has just ended.
                    Ok(_) | Err(Refusal::TooLate { .. } | Refusal::Over(_)) => {}
                    Err(refusal) => return Err(refusal),
                }
                self.driver.ended(&id).await?;
            }
            Ok(())
        };
        self.driver.in_time(std::slice::from_ref(&module), ended).await.map_err(driver_refused)
    }

    /// Removes these from this node's store: those that went, and why one of them did not.
    async fn bury(&self, what: &Removing, versions: Vec<Version>) -> (Vec<String>, Option<RemoveError>) {
        let (store, what) = (self.ledger.store().clone(), what.clone());
        crate::blocking(move || {
            let mut removed = Vec::new();
            for version in versions {
                match store.remove_version(&what.name, &version, of_day().0, &what.by, "") {
                    Ok(_) => removed.push(version.to_string()),
                    // Somebody else's removal, or `keep`, was there first: it is gone, as was asked.
                    Err(RemoveError::Unknown { .. }) if what.version.is_none() => {}
                    Err(error) => return (removed, Some(error)),
                }
            }
            (removed, None)
        })
        .await
    }

    async fn tell_removed(&self, what: &Removing, versions: &[String]) {
        let Removing { name, by, .. } = what;
        let names: Vec<&str> =
            std::iter::once(name.as_str()).chain(versions.iter().map(String::as_str)).collect();
        let text = format!("{by} removed {}", names.join(" "));
        let (kind, module, by) = ("version.removed", name.to_string(), by.clone());
        self.journal.write(Entry { kind, module, by, text, ..Entry::default() }).await;
    }
}

/// A role as the contract has it.
const fn said(role: Role) -> v1::Role {
    match role {
        Role::Stable => v1::Role::Stable,
        Role::Candidate => v1::Role::Candidate,
        Role::Standby => v1::Role::Standby,
    }
}

fn is_gone(record: &ModuleRecord, version: &Version) -> bool {
    record.tombstones().contains_key(version) && !record.versions().contains_key(version)
}
