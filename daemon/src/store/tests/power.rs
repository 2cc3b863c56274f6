//! Power cuts: after every single step of a story, with what was not synced dropped in many ways, the next start finds
//! everything that was acknowledged, and of the operation under way all or nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use hot_artifact::{ModuleName, Sha256};
use serde_json::json;

use super::kit::*;
use super::recorder::{Cut, Model, Recorder, Step};
use crate::store::disk::{Disk, RealDisk};
use crate::store::files::{Files, RolloutFile};
use crate::store::folder::Folder;
use crate::store::recover::recover;
use crate::store::spool::{Spool, SpoolLimits};
use crate::store::{ModuleRecord, Protected, Recovered, RolloutId, Urgency, VersionRecord};

/// The data folder within a recorder's: its own name can be lost as well.
pub(super) const DATA: &str = "data";

/// Everything that readers are told.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Told {
    modules: BTreeMap<ModuleName, ModuleRecord>,
    artifacts: BTreeMap<Sha256, VersionRecord>,
    pub(super) rollouts: BTreeMap<RolloutId, RolloutFile>,
}

pub(super) fn told(files: &Files) -> Told {
    let known = files.known();
    Told {
        modules: known.modules.iter().map(|(k, v)| (k.clone(), (**v).clone())).collect(),
        artifacts: known.artifacts.iter().map(|(k, v)| (*k, (**v).clone())).collect(),
        rollouts: known.rollouts.iter().map(|(k, v)| (k.clone(), (**v).clone())).collect(),
    }
}

pub(super) fn start(disk: Arc<dyn Disk>, root: &Path) -> (Folder, Files, Recovered) {
    let folder = Folder::open(&*disk, root).unwrap();
    let (files, recovered) = recover(&disk, &folder, None).unwrap();
    (folder, files, recovered)
}

type Work = Box<dyn Fn(&Files, &Spool, &Recorder) -> Result<(), String>>;

pub(super) struct Operation {
    pub(super) work: Work,
    /// Refused, it may be done all the same: what goes toward stable, and the removal of what is history.
    pub(super) may_be_done: bool,
}

fn operation(work: impl Fn(&Files, &Spool, &Recorder) -> Result<(), String> + 'static) -> Operation {
    Operation { work: Box::new(work), may_be_done: false }
}

fn update(module: &'static str, urgency: Urgency, assignment: u64) -> Operation {
    let work = operation(move |files, _, _| {
        let change = |record: &mut ModuleRecord| record.assignment = Some(json!({ "a": assignment }));
        files.update_module(&name(module), urgency, change).map_err(|e| e.to_string())
    });
    Operation { may_be_done: urgency == Urgency::TowardStable, ..work }
}

fn commit(module: &'static str, version: &'static str, seed: u64) -> Operation {
    operation(move |files, spool, _| {
        let bytes = bytes(seed, 20_000);
        let upload = spool
            .begin(Sha256::of(&bytes), bytes.len() as u64, SystemTime::now())
            .map_err(|e| e.to_string())?;
        let from = usize::try_from(upload.offset()).unwrap();
        for (n, piece) in bytes[from..].chunks(8000).enumerate() {
            upload.write((from + n * 8000) as u64, piece).map_err(|e| e.to_string())?;
        }
        let spooled = upload.finish().map_err(|e| e.to_string())?;
        let record = record(module, version, &bytes, seed);
        files.commit(&spooled, record).map(drop).map_err(|e| e.to_string())
    })
}

/// The same push of bytes that were found damaged: as far as anybody is told, nothing changes.
fn mend(module: &'static str, version: &'static str, seed: u64) -> Operation {
    let commit = commit(module, version, seed).work;
    operation(move |files, spool, recorder| {
        let digest = Sha256::of(&bytes(seed, 20_000));
        let opened = files.open_artifact(&digest).map_err(|e| e.to_string())?;
        files.found_damaged(&digest, opened.placed);
        commit(files, spool, recorder)
    })
}

fn sign_again(seed: u64, signature: &'static str) -> Operation {
    operation(move |files, _, _| {
        let digest = Sha256::of(&bytes(seed, 20_000));
        files.sign_again(&digest, signature, "eve").map(drop).map_err(|e| e.to_string())
    })
}

fn release(module: &'static str, version: &'static str, seed: u64) -> Operation {
    operation(move |files, _, _| {
        let new = new_release(version, &bytes(seed, 20_000), Some(&seed.to_le_bytes()));
        files.allocate_release(&name(module), new).map(drop).map_err(|e| e.to_string())
    })
}

fn snapshot(id: &'static str, step: u64, ended: bool, urgency: Urgency) -> Operation {
    let work = operation(move |files, _, _| {
        files.put_rollout(rollout(id, Some("q"), step), ended, urgency).map_err(|e| e.to_string())
    });
    Operation { may_be_done: urgency == Urgency::TowardStable, ..work }
}

fn forget(id: &'static str) -> Operation {
    let work =
        operation(move |files, _, _| files.drop_rollout(&id.parse().unwrap()).map_err(|e| e.to_string()));
    Operation { may_be_done: true, ..work }
}

fn disk_is_full(full: bool) -> Operation {
    operation(move |_, _, recorder| {
        recorder.full.store(full, Ordering::Relaxed);
        Ok(())
    })
}

fn drain() -> Operation {
    operation(|files, _, _| {
        files.small.drain();
        Ok(())
    })
}

pub(super) fn story() -> Vec<Operation> {
    use Urgency::{Normal, TowardStable};
    vec![
        commit("a", "1.0.0", 1),
        release("a", "1.0.0", 1),
        update("a", Normal, 1),
        commit("a", "1.1.0", 2),
        release("a", "1.1.0", 2),
        sign_again(1, "another one"),
        mend("a", "1.1.0", 2),
        snapshot("r1", 1, false, Normal),
        update("a", Normal, 2),
        disk_is_full(true),
        update("a", TowardStable, 3),
        snapshot("r1", 2, false, TowardStable),
        update("a", TowardStable, 4),
        disk_is_full(false),
        drain(),
        disk_is_full(true),
        // The reserve had r1 once; none of that may come back.
        update("b", TowardStable, 5),
        snapshot("r1", 3, true, TowardStable),
        forget("r1"),
        disk_is_full(false),
        update("b", Normal, 6),
        // What the reserve had of it is forgotten with it.
        disk_is_full(true),
        snapshot("r3", 1, false, TowardStable),
        disk_is_full(false),
        drain(),
        snapshot("r3", 2, true, Normal),
        forget("r3"),
        commit("a", "2.0.0", 3),
        release("a", "2.0.0", 3),
        operation(|files, _, _| {
            let bad = "1.1.0".parse().unwrap();
            files.remove_version(&name("a"), &bad, 9, "ops", "bad").map(drop).map_err(|e| e.to_string())
        }),
        operation(|files, _, _| {
            files.collect(&Protected::default(), 1, 10).failed.map_or(Ok(()), |e| Err(e.to_string()))
        }),
        operation(|files, _, _| files.collect_configs().map(drop).map_err(|e| e.to_string())),
        // What was collected comes back.
        commit("a", "1.0.0", 1),
        snapshot("r2", 1, false, Normal),
        snapshot("r2", 2, true, TowardStable),
        forget("r2"),
        operation(|files, _, _| {
            let mut counters = files.counters.lock().unwrap();
            counters.next_event(&files.small).map(drop).map_err(|e| e.to_string())
        }),
    ]
}

pub(super) fn spool(disk: Arc<dyn Disk>, root: &Path) -> Spool {
    let limits = SpoolLimits { artifact: 1 << 20, count: 4, bytes: 1 << 22, age: Duration::from_secs(3600) };
    Spool::new(disk, root.join("spool"), limits)
}

/// Every artifact and config that something points to is whole; else what is not.
fn damage(files: &Files) -> Option<String> {
    let Told { modules, artifacts, .. } = told(files);
    for (digest, record) in &artifacts {
        let mut bytes = vec![0; usize::try_from(record.size).unwrap()];
        let read = files.open_artifact(digest).map(|it| it.file.read_exact_at(&mut bytes, 0));
        if !matches!(read, Ok(Ok(()))) || Sha256::of(&bytes) != *digest {
            return Some(format!("artifact {digest} has other bytes"));
        }
    }
    for module in modules.values() {
        for config in module.releases().values().filter_map(|release| release.config) {
            if let Err(error) = files.config(&config) {
                return Some(error.to_string());
            }
        }
        for stored in module.versions().values().flat_map(|targets| targets.values()) {
            if !artifacts.contains_key(&stored.digest) {
                return Some("a version lost its artifact".to_owned());
            }
        }
    }
    None
}

/// What is there before a story begins, and which story it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scene {
    /// Nothing, not even the data folder.
    Story,
    /// A store in which a folder is missing.
    NoConfigs,
    /// A store that could not take the space of its reserve, on a disk that is full.
    LateReserve,
}

impl Scene {
    fn prepare(self, root: &Path, recorder: &Recorder) {
        if matches!(self, Self::Story) {
            return;
        }
        drop(start(Arc::new(RealDisk), root));
        if matches!(self, Self::NoConfigs) {
            return fs::remove_dir(root.join("configs")).unwrap();
        }
        fs::remove_file(root.join("reserve")).unwrap();
        recorder.full.store(true, Ordering::Relaxed);
    }

    fn story(self) -> Vec<Operation> {
        match self {
            Self::Story => story(),
            Self::NoConfigs => vec![commit("a", "1.0.0", 1), release("a", "1.0.0", 1)],
            Self::LateReserve => {
                let update = update("b", Urgency::TowardStable, 1);
                vec![disk_is_full(false), drain(), disk_is_full(true), update]
            }
        }
    }
}

/// A story that was played: its steps, what readers were told after each operation, and the last event's number.
pub(super) struct Played {
    before: Model,
    steps: Vec<Step>,
    pub(super) states: Vec<Told>,
    event: u64,
}

/// Plays a story on the disk that `wrap` makes of a recorder.
pub(super) fn play(scene: Scene, wrap: impl FnOnce(Arc<Recorder>) -> Arc<dyn Disk>) -> Played {
    let folder = fast_folder();
    let root = folder.path().join(DATA);
    let recorder = Arc::new(Recorder::new(folder.path()));
    scene.prepare(&root, &recorder);
    let before = Model::of(folder.path());
    let disk = wrap(Arc::clone(&recorder));
    let (_held, files, _) = start(Arc::clone(&disk), &root);
    let spool = spool(disk, &root);
    let mut states = vec![told(&files)];
    recorder.acknowledge(0);
    for (n, operation) in scene.story().iter().enumerate() {
        (operation.work)(&files, &spool, &recorder).unwrap_or_else(|e| panic!("operation {n}: {e}"));
        states.push(told(&files));
        recorder.acknowledge(n + 1);
    }
    let event = files.counters.lock().unwrap().next_event(&files.small).unwrap() - 1;
    // Those after the last acknowledgement are of the question for a number.
    let mut steps = recorder.steps.lock().unwrap().clone();
    let last = steps.iter().rposition(|step| matches!(step, Step::Acknowledged(_))).unwrap();
    steps.truncate(last + 1);
    Played { before, steps, states, event }
}

impl Played {
    /// Cuts the power after each step, in ways that `cuts` gives for it; how many images were started on.
    ///
    /// # Errors
    /// What a start did not find, or found damaged.
    pub(super) fn cut(&self, cuts: impl Fn(usize) -> Vec<Cut>) -> Result<usize, String> {
        let (mut model, mut acknowledged, mut images) = (self.before.clone(), 0, 0);
        for (at, step) in self.steps.iter().enumerate() {
            model.apply(step);
            if let Step::Acknowledged(n) = step {
                acknowledged = *n;
            }
            for cut in cuts(at) {
                let image = fast_folder();
                model.image(cut, image.path());
                self.start_on(&image.path().join(DATA), acknowledged).map_err(|lost| {
                    let step = short(step);
                    format!("{cut:?} after step {at} ({step}), operation {acknowledged} acknowledged: {lost}")
                })?;
                images += 1;
            }
        }
        Ok(images)
    }

    fn start_on(&self, root: &Path, acknowledged: usize) -> Result<(), String> {
        let possible = &self.states[acknowledged..self.states.len().min(acknowledged + 2)];
        let found = found_on(Arc::new(RealDisk), root, possible)?;
        // The recovery itself left something that is recovered from in the same way.
        let (_held, files, again) = start(Arc::new(RealDisk), root);
        if told(&files) != found || (again.removed, again.from_reserve) != (vec![], 0) {
            return Err("a second start found something else".to_owned());
        }
        if acknowledged + 1 == self.states.len() {
            let event = files.counters.lock().unwrap().next_event(&files.small).map_err(|e| e.to_string())?;
            if event <= self.event {
                return Err(format!("event number {event} is given twice"));
            }
        }
        Ok(())
    }
}

/// What a start finds, which must be one of what is possible, whole, and nothing lost.
pub(super) fn found_on(disk: Arc<dyn Disk>, root: &Path, possible: &[Told]) -> Result<Told, String> {
    let (_held, files, recovered) = start(disk, root);
    let found = told(&files);
    if !possible.contains(&found) {
        return Err(format!("\n{found:#?}\nis none of\n{possible:#?}"));
    }
    if let Some(damaged) = recovered.moved_aside.first() {
        return Err(format!("{} was damaged: {}", damaged.what, damaged.why));
    }
    match recovered.lost.first().cloned().or_else(|| damage(&files)) {
        Some(lost) => Err(lost),
        None => Ok(found),
    }
}

/// What starts find after a power cut right now: see [`found_on`].
pub(super) fn cut_now(recorder: &Recorder, cuts: &[Cut], possible: &[Told]) -> Result<(), String> {
    let mut model = Model::default();
    recorder.steps.lock().unwrap().iter().for_each(|step| model.apply(step));
    for cut in cuts {
        let image = fast_folder();
        model.image(*cut, image.path());
        found_on(Arc::new(RealDisk), &image.path().join(DATA), possible)
            .map_err(|lost| format!("{cut:?}: {lost}"))?;
    }
    Ok(())
}

#[test]
fn no_power_cut_loses_what_was_acknowledged() {
    let played = play(Scene::Story, |recorder| recorder);
    let images = played.cut(|at| {
        let seeds = [3, 7].map(|k| Cut::Random(k * 1_000_003 + at as u64));
        let fixed = [Cut::AllUnsynced, Cut::Nothing, Cut::Bytes, Cut::Names, Cut::HalfOfBytes];
        fixed.into_iter().chain(seeds).collect()
    });
    let images = images.unwrap_or_else(|lost| panic!("{lost}"));
    let steps = played.steps.len();
    assert!(steps > 200 && images > 1500, "{steps} steps, {images} images: too few to mean much");
    for scene in [Scene::NoConfigs, Scene::LateReserve] {
        let played = play(scene, |recorder| recorder);
        let cuts = vec![Cut::AllUnsynced, Cut::Nothing, Cut::Bytes, Cut::Names];
        played.cut(|_| cuts.clone()).unwrap_or_else(|lost| panic!("{scene:?}: {lost}"));
    }
}

fn short(step: &Step) -> String {
    format!("{step:?}").chars().take(100).collect()
}
