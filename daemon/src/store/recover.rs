//! From a folder, in whatever state it was left, to a store that can be used: reads everything, throws away what was
//! never acknowledged, takes damaged things aside, rebuilds what can be rebuilt, and says all of that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use hot_artifact::{ModuleName, Sha256};
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::artifacts::bind;
use super::counters::{Ceilings, Counters};
use super::disk::{Disk, UNFINISHED};
use super::files::{Files, Known, RolloutFile};
use super::folder::{Folder, FolderError};
use super::history::History;
use super::index::IndexFound;
use super::records::{ModuleRecord, VersionRecord};
use super::small::{Key, ReadError, SmallFiles, Urgency, WriteError};

/// Releases that a rebuilt record takes back from the index.
const REBUILT_RELEASES: usize = 100;

/// The store can't be opened. What is in it was not changed.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Its folder can't be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file can't be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A newer `hotd` wrote this.
    #[error("{} was written by a newer hotd ({why}); run that one, or restore an older copy of the folder", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// What tells so.
        why: String,
    },
    /// The file is undamaged and still makes no sense.
    #[error("{} is undamaged, but this hotd does not understand it ({why}); run the hotd that wrote it", path.display())]
    NotUnderstood {
        /// The file.
        path: PathBuf,
        /// What it stumbled over.
        why: serde_json::Error,
    },
}

/// Something that was damaged and where it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedAside {
    /// What it was, within the store.
    pub what: String,
    /// Where it is now.
    pub to: PathBuf,
    /// Why.
    pub why: String,
}

/// What opening a store found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Modules.
    pub modules: usize,
    /// Artifacts of versions.
    pub artifacts: usize,
    /// Rollouts that were running.
    pub rollouts: usize,
    /// Files that were written from the reserve.
    pub from_reserve: usize,
    /// Leftovers of what was never acknowledged, removed.
    pub removed: Vec<String>,
    /// Damaged files.
    pub moved_aside: Vec<MovedAside>,
    /// What can't be had back, one sentence each.
    pub lost: Vec<String>,
    /// How the history was found.
    pub index: IndexFound,
    /// Whether the space for going toward stable on a full disk is there.
    pub reserve: bool,
}

/// Reads the truth. `history` helps where a module's file is damaged, and may be down.
pub(super) fn recover(
    disk: &Arc<dyn Disk>,
    folder: &Folder,
    history: Option<(&History, IndexFound)>,
) -> Result<(Files, Recovered), OpenError> {
    let root = folder.root();
    let small = SmallFiles::open(Arc::clone(disk), root)?;
    let report = Recovered {
        modules: 0,
        artifacts: 0,
        rollouts: 0,
        from_reserve: 0,
        removed: Vec::new(),
        moved_aside: Vec::new(),
        lost: Vec::new(),
        index: history.as_ref().map_or(IndexFound::New, |(_, found)| found.clone()),
        reserve: false,
    };
    let mut recovery = Recovery { disk, folder, small: &small, report, damaged: BTreeSet::new() };
    if let IndexFound::Lost { why, aside } = &recovery.report.index {
        let sentence = format!("the history (events, ended rollouts, old releases): {why}");
        let moved = MovedAside { what: "index".to_owned(), to: aside.clone(), why: why.clone() };
        recovery.report.lost.push(sentence);
        recovery.report.moved_aside.push(moved);
    }
    recovery.clear_unfinished()?;
    recovery.tell_of_damage_beside_reserve();
    let mut known = Known { modules: recovery.modules()?, ..Known::default() };
    let artifacts = recovery.artifacts(&known)?;
    let history = history.map(|(history, _)| history);
    recovery.go_on_numbering(&mut known, history);
    recovery.rebuild(&mut known, &artifacts, history);
    recovery.settle_artifacts(&mut known, artifacts)?;
    known.rollouts = recovery.rollouts()?;
    let counters = recovery.counters(known.modules.is_empty())?;
    let Recovery { mut report, .. } = recovery;
    report.from_reserve = small.pending().len();
    small.drain();
    report.reserve = small.has_reserve();
    report.modules = known.modules.len();
    report.artifacts = known.artifacts.len();
    report.rollouts = known.rollouts.values().filter(|file| !file.ended).count();
    Ok((Files::new(Arc::clone(disk), root, small, counters, known), report))
}

struct Recovery<'a> {
    disk: &'a Arc<dyn Disk>,
    folder: &'a Folder,
    small: &'a SmallFiles,
    report: Recovered,
    /// Modules whose record could not be read.
    damaged: BTreeSet<ModuleName>,
}

impl Recovery<'_> {
    fn root(&self) -> &Path {
        self.folder.root()
    }

    /// Files that were being written: nothing points to them.
    fn clear_unfinished(&mut self) -> Result<(), OpenError> {
        for folder in ["", "modules", "rollouts", "artifacts", "configs"] {
            for name in self.names(folder)? {
                if name.ends_with(UNFINISHED) {
                    self.throw_away(&if folder.is_empty() { name } else { format!("{folder}/{name}") });
                }
            }
        }
        Ok(())
    }

    /// Files that are damaged and of which the reserve has what was written last: that counts, and a person is told. Before
    /// any of them is written anew.
    fn tell_of_damage_beside_reserve(&mut self) {
        for key in self.small.pending() {
            if let Some(why) = self.small.damage_beside_reserve(&key) {
                self.aside(
                    &key.to_string(),
                    &format!("{why}; what was written last is in the reserve, and counts"),
                );
            }
        }
    }

    fn modules(&mut self) -> Result<BTreeMap<ModuleName, Arc<ModuleRecord>>, OpenError> {
        let mut modules = BTreeMap::new();
        for key in self.keys("modules")? {
            let Key::Module(name) = &key else { continue };
            match self.record(&key)? {
                Some(record) => drop(modules.insert(name.clone(), Arc::new(record))),
                None => drop(self.damaged.insert(name.clone())),
            }
        }
        Ok(modules)
    }

    /// The artifacts' records; those without their file are reported and left out.
    fn artifacts(&mut self, known: &Known) -> Result<BTreeMap<Sha256, VersionRecord>, OpenError> {
        let mut artifacts = BTreeMap::new();
        for key in self.keys("artifacts")? {
            let Key::Artifact(digest) = &key else { continue };
            let Some(record) = self.record::<VersionRecord>(&key)? else { continue };
            artifacts.insert(*digest, record);
        }
        for (name, module) in &known.modules {
            for (version, targets) in &module.versions {
                for (target, stored) in targets {
                    let path = self.root().join(format!("artifacts/{}.so", stored.digest));
                    let len = match fs::metadata(&path) {
                        Ok(found) => Some(found.len()),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                        // What can't be looked at may be whole.
                        Err(source) => return Err(OpenError::Io { path, source }),
                    };
                    let record = artifacts.get(&stored.digest);
                    if record.is_none() || len != record.map(|record| record.size) {
                        artifacts.remove(&stored.digest);
                        let what = format!("the artifact of {name} {version} for {target}");
                        self.report.lost.push(format!("{what} ({}): push it again", stored.digest));
                        self.aside(&format!("artifacts/{}.so", stored.digest), "it is incomplete");
                        self.aside(
                            &format!("artifacts/{}.json", stored.digest),
                            "its artifact is incomplete",
                        );
                    }
                }
            }
        }
        Ok(artifacts)
    }

    /// A record that was put back to an older day knows less than the history: its numbers go on after those, so that
    /// none is given to two releases. The record is always written first, so nothing else makes it older.
    fn go_on_numbering(&mut self, known: &mut Known, history: Option<&History>) {
        for (name, module) in &mut known.modules {
            let newest =
                history.and_then(|history| history.releases(name, 1).ok()?.first().map(|it| it.number));
            let Some(newest) = newest.filter(|newest| *newest > module.last_release) else { continue };
            let first = module.last_release + 1;
            let module = Arc::make_mut(module);
            module.last_release = newest;
            // Else each start would find it so, and say it, until somebody pushes.
            let write = self.small.write(&Key::Module(name.clone()), module, Urgency::TowardStable);
            self.report.lost.push(format!(
                "the record of module {name} is of an older day: releases {first} to {newest} are in the history alone, \
                 and can't be gone back to{}",
                not_written(write)
            ));
        }
    }

    /// Makes records anew for modules whose own could not be read, from the artifacts and the history.
    fn rebuild(
        &mut self,
        known: &mut Known,
        artifacts: &BTreeMap<Sha256, VersionRecord>,
        history: Option<&History>,
    ) {
        for name in std::mem::take(&mut self.damaged) {
            let mut module = ModuleRecord::default();
            for record in artifacts.values().filter(|record| record.module == name) {
                let path = self.root().join(format!("artifacts/{}.so", record.digest));
                if fs::metadata(path).is_ok_and(|found| found.len() == record.size) {
                    bind(&mut module, record);
                }
            }
            let releases = history.and_then(|h| h.releases(&name, REBUILT_RELEASES).ok()).unwrap_or_default();
            module.last_release = releases.first().map_or(0, |newest| newest.number);
            module.releases = releases.into_iter().map(|release| (release.number, release)).collect();
            let write = self.small.write(&Key::Module(name.clone()), &module, Urgency::TowardStable);
            self.report.lost.push(format!(
                "the record of module {name}: its assignment, floor, quarantine and removed versions; {} versions and \
                 {} releases were found again{}",
                module.versions.len(),
                module.releases.len(),
                not_written(write)
            ));
            known.modules.insert(name, Arc::new(module));
        }
    }

    /// Publishes the artifacts that a module names, and removes the others: their commit was never acknowledged.
    fn settle_artifacts(
        &mut self,
        known: &mut Known,
        mut artifacts: BTreeMap<Sha256, VersionRecord>,
    ) -> Result<(), OpenError> {
        let targets = known.modules.values().flat_map(|module| module.versions.values());
        let named: BTreeSet<Sha256> = targets.flat_map(|t| t.values().map(|stored| stored.digest)).collect();
        artifacts.retain(|digest, _| named.contains(digest));
        for name in self.names("artifacts")? {
            let digest = name.split_once('.').and_then(|(digest, _)| digest.parse::<Sha256>().ok());
            if digest.is_none_or(|digest| !named.contains(&digest)) {
                self.throw_away(&format!("artifacts/{name}"));
            }
        }
        known.artifacts = artifacts.into_iter().map(|(digest, record)| (digest, Arc::new(record))).collect();
        Ok(())
    }

    fn rollouts(&mut self) -> Result<BTreeMap<super::RolloutId, Arc<RolloutFile>>, OpenError> {
        let mut rollouts = BTreeMap::new();
        for key in self.keys("rollouts")? {
            let Key::Rollout(id) = &key else { continue };
            match self.record::<RolloutFile>(&key)? {
                Some(file) => drop(rollouts.insert(id.clone(), Arc::new(file))),
                None => {
                    self.report.lost.push(format!("the state of rollout {id}: its modules stay as they are"))
                }
            }
        }
        self.one_for_each_request(&mut rollouts);
        Ok(rollouts)
    }

    /// Of two rollouts with one request the later one stays, and ids sort by their time: the caller of the earlier one was
    /// refused, or would not have asked again. None is written so; a `hotd` before this one could leave them.
    fn one_for_each_request(&mut self, rollouts: &mut BTreeMap<super::RolloutId, Arc<RolloutFile>>) {
        let mut last = BTreeMap::new();
        for (id, file) in &*rollouts {
            let request = file.record.request.clone();
            if let Some(refused) = request.and_then(|request| last.insert(request, id.clone())) {
                let key = Key::Rollout(refused);
                // One that can't be removed now is left out all the same, and met again by the next start.
                if self.small.remove(&key).is_ok() {
                    self.report.removed.push(key.to_string());
                }
            }
        }
        rollouts.retain(|id, file| file.record.request.as_ref().is_none_or(|request| last[request] == *id));
    }

    fn counters(&mut self, is_empty: bool) -> Result<Counters, OpenError> {
        let was_there = self.small.path(&Key::Counters).exists();
        let ceilings = match self.record(&Key::Counters)? {
            Some(ceilings) => return Ok(Counters::new(ceilings)),
            None if is_empty && !was_there => Ceilings::start(),
            None => Ceilings::beyond_all(SystemTime::now()),
        };
        // A failure is met again, and told, when the first number is given.
        self.small.write(&Key::Counters, &ceilings, Urgency::TowardStable).ok();
        Ok(Counters::new(ceilings))
    }

    /// The keys of a folder: its files, and what the reserve has for it.
    fn keys(&self, folder: &str) -> Result<BTreeSet<Key>, OpenError> {
        let prefix = format!("{folder}/");
        let pending = self.small.pending().into_iter().filter(|key| key.to_string().starts_with(&prefix));
        let names = self.names(folder)?;
        let keys = names.iter().filter_map(|name| Key::parse(&format!("{folder}/{name}"))).chain(pending);
        Ok(keys.filter(|key| !self.small.is_taken_back(key)).collect())
    }

    fn names(&self, folder: &str) -> Result<Vec<String>, OpenError> {
        let path = self.root().join(folder);
        let read = || {
            let entries = fs::read_dir(&path)?;
            entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<Vec<_>>>()
        };
        let mut names = read().map_err(|source| OpenError::Io { path: path.clone(), source })?;
        names.sort();
        Ok(names)
    }

    /// A record; nothing if it is not there or was damaged, and then it is aside now.
    fn record<T: DeserializeOwned>(&mut self, key: &Key) -> Result<Option<T>, OpenError> {
        let path = self.small.path(key);
        match self.small.read(key) {
            Ok(bytes) => {
                let record = serde_json::from_slice(&bytes);
                record.map(Some).map_err(|why| OpenError::NotUnderstood { path, why })
            }
            Err(ReadError::Missing) => Ok(None),
            Err(ReadError::Io(source)) => Err(OpenError::Io { path, source }),
            Err(ReadError::Newer(why)) => Err(OpenError::Newer { path, why }),
            Err(ReadError::Damaged(why)) => {
                self.aside(&key.to_string(), &why);
                Ok(None)
            }
        }
    }

    fn aside(&mut self, name: &str, why: &str) {
        let path = self.root().join(name);
        if let Ok(to) = self.folder.set_aside(&**self.disk, &path) {
            self.report.moved_aside.push(MovedAside { what: name.to_owned(), to, why: why.to_owned() });
        }
    }

    fn throw_away(&mut self, name: &str) {
        if self.disk.remove(&self.root().join(name)).is_ok() {
            self.report.removed.push(name.to_owned());
        }
    }
}

/// What to add where a record that was mended is not on disk: it is known, and the next start mends it again.
fn not_written(write: Result<(), WriteError>) -> String {
    write.err().map_or_else(String::new, |error| format!(", but not written ({error})"))
}
