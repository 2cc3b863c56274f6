//! Power cuts: after every single step of a story, with what was not synced dropped in many ways, the next start finds
//! everything that was acknowledged, and of the operation under way all or nothing. And the same story with every
//! single step failing.

use std::collections::BTreeMap;
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

/// Everything that readers are told.
#[derive(Debug, Clone, PartialEq, Default)]
struct Told {
    modules: BTreeMap<ModuleName, ModuleRecord>,
    artifacts: BTreeMap<Sha256, VersionRecord>,
    rollouts: BTreeMap<RolloutId, RolloutFile>,
}

fn told(files: &Files) -> Told {
    let known = files.known();
    Told {
        modules: known.modules.iter().map(|(k, v)| (k.clone(), (**v).clone())).collect(),
        artifacts: known.artifacts.iter().map(|(k, v)| (*k, (**v).clone())).collect(),
        rollouts: known.rollouts.iter().map(|(k, v)| (k.clone(), (**v).clone())).collect(),
    }
}

fn start(disk: Arc<dyn Disk>, root: &Path) -> (Folder, Files, Recovered) {
    let folder = Folder::open(&*disk, root).unwrap();
    let (files, recovered) = recover(&disk, &folder, None).unwrap();
    (folder, files, recovered)
}

type Operation = Box<dyn Fn(&Files, &Spool, &Recorder) -> Result<(), String>>;

fn update(module: &'static str, urgency: Urgency, assignment: u64) -> Operation {
    Box::new(move |files, _, _| {
        let change = |record: &mut ModuleRecord| record.assignment = Some(json!({ "a": assignment }));
        files.update_module(&name(module), urgency, change).map_err(|e| e.to_string())
    })
}

fn commit(module: &'static str, version: &'static str, seed: u64) -> Operation {
    Box::new(move |files, spool, _| {
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
    let commit = commit(module, version, seed);
    Box::new(move |files, spool, recorder| {
        files.found_damaged(&Sha256::of(&bytes(seed, 20_000)));
        commit(files, spool, recorder)
    })
}

fn sign_again(seed: u64, signature: &'static str) -> Operation {
    Box::new(move |files, _, _| {
        let digest = Sha256::of(&bytes(seed, 20_000));
        files.sign_again(&digest, signature, "eve").map(drop).map_err(|e| e.to_string())
    })
}

fn release(module: &'static str, version: &'static str, seed: u64) -> Operation {
    Box::new(move |files, _, _| {
        let new = new_release(version, &bytes(seed, 20_000), Some(&seed.to_le_bytes()));
        files.allocate_release(&name(module), new).map(drop).map_err(|e| e.to_string())
    })
}

fn snapshot(id: &'static str, step: u64, ended: bool, urgency: Urgency) -> Operation {
    Box::new(move |files, _, _| {
        files.put_rollout(rollout(id, Some("q"), step), ended, urgency).map_err(|e| e.to_string())
    })
}

fn forget(id: &'static str) -> Operation {
    Box::new(move |files, _, _| files.drop_rollout(&id.parse().unwrap()).map_err(|e| e.to_string()))
}

fn disk_is_full(full: bool) -> Operation {
    Box::new(move |_, _, recorder| {
        recorder.full.store(full, Ordering::Relaxed);
        Ok(())
    })
}

fn drain() -> Operation {
    Box::new(|files, _, _| {
        files.small.drain();
        Ok(())
    })
}

fn story() -> Vec<Operation> {
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
        // The reserve has an old copy of r1 now; none of it may come back.
        update("b", TowardStable, 5),
        snapshot("r1", 3, true, TowardStable),
        forget("r1"),
        disk_is_full(false),
        update("b", Normal, 6),
        // Here the reserve has the older copy of what is forgotten.
        disk_is_full(true),
        snapshot("r3", 1, false, TowardStable),
        disk_is_full(false),
        drain(),
        snapshot("r3", 2, true, Normal),
        forget("r3"),
        commit("a", "2.0.0", 3),
        release("a", "2.0.0", 3),
        Box::new(|files, _, _| {
            let bad = "1.1.0".parse().unwrap();
            files.remove_version(&name("a"), &bad, 9, "ops", "bad").map(drop).map_err(|e| e.to_string())
        }),
        Box::new(|files, _, _| {
            files.collect(&Protected::default(), 1, 10).failed.map_or(Ok(()), |e| Err(e.to_string()))
        }),
        Box::new(|files, _, _| files.collect_configs().map(drop).map_err(|e| e.to_string())),
        // What was collected comes back.
        commit("a", "1.0.0", 1),
        snapshot("r2", 1, false, Normal),
        snapshot("r2", 2, true, TowardStable),
        forget("r2"),
        Box::new(|files, _, _| {
            let mut counters = files.counters.lock().unwrap();
            counters.next_event(&files.small).map(drop).map_err(|e| e.to_string())
        }),
    ]
}

fn spool(disk: Arc<dyn Disk>, root: &Path) -> Spool {
    let limits = SpoolLimits { artifact: 1 << 20, count: 4, bytes: 1 << 22, age: Duration::from_secs(3600) };
    Spool::new(disk, root.join("spool"), limits)
}

/// Every artifact and config that something points to is whole; else what is not.
fn damage(files: &Files) -> Option<String> {
    let Told { modules, artifacts, .. } = told(files);
    for (digest, record) in &artifacts {
        let mut bytes = vec![0; usize::try_from(record.size).unwrap()];
        let read = files.open_artifact(digest).map(|(file, _)| file.read_exact_at(&mut bytes, 0));
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

/// A story that was played: its steps, what readers were told after each operation, and the last event's number.
pub(super) struct Played {
    steps: Vec<Step>,
    states: Vec<Told>,
    event: u64,
}

/// Plays the story on the disk that `wrap` makes of a recorder.
pub(super) fn play(wrap: impl FnOnce(Arc<Recorder>) -> Arc<dyn Disk>) -> Played {
    let folder = fast_folder();
    let recorder = Arc::new(Recorder::new(folder.path()));
    let disk = wrap(Arc::clone(&recorder));
    let (_held, files, _) = start(Arc::clone(&disk), folder.path());
    let spool = spool(disk, folder.path());
    let mut states = vec![Told::default()];
    recorder.acknowledge(0);
    for (n, operation) in story().iter().enumerate() {
        operation(&files, &spool, &recorder).unwrap_or_else(|e| panic!("operation {n}: {e}"));
        states.push(told(&files));
        recorder.acknowledge(n + 1);
    }
    let event = files.counters.lock().unwrap().next_event(&files.small).unwrap() - 1;
    // Those after the last acknowledgement are of the question for a number.
    let mut steps = recorder.steps.lock().unwrap().clone();
    let last = steps.iter().rposition(|step| matches!(step, Step::Acknowledged(_))).unwrap();
    steps.truncate(last + 1);
    Played { steps, states, event }
}

impl Played {
    /// Cuts the power after each step, in ways that `cuts` gives for it; how many images were started on.
    ///
    /// # Errors
    /// What a start did not find, or found damaged.
    pub(super) fn cut(&self, cuts: impl Fn(usize) -> Vec<Cut>) -> Result<usize, String> {
        let (mut model, mut acknowledged, mut images) = (Model::default(), 0, 0);
        for (at, step) in self.steps.iter().enumerate() {
            model.apply(step);
            if let Step::Acknowledged(n) = step {
                acknowledged = *n;
            }
            for cut in cuts(at) {
                let image = fast_folder();
                model.image(cut, image.path());
                self.start_on(image.path(), acknowledged).map_err(|lost| {
                    let step = short(step);
                    format!("{cut:?} after step {at} ({step}), operation {acknowledged} acknowledged: {lost}")
                })?;
                images += 1;
            }
        }
        Ok(images)
    }

    fn start_on(&self, image: &Path, acknowledged: usize) -> Result<(), String> {
        let (held, files, recovered) = start(Arc::new(RealDisk), image);
        let found = told(&files);
        let possible = &self.states[acknowledged..self.states.len().min(acknowledged + 2)];
        if !possible.contains(&found) {
            return Err(format!("\n{found:#?}\nis none of\n{possible:#?}"));
        }
        if let Some(damaged) = recovered.moved_aside.first() {
            return Err(format!("{} was damaged: {}", damaged.what, damaged.why));
        }
        if let Some(lost) = recovered.lost.first().cloned().or_else(|| damage(&files)) {
            return Err(lost);
        }
        drop((held, files));
        // The recovery itself left something that is recovered from in the same way.
        let (_held, files, again) = start(Arc::new(RealDisk), image);
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

#[test]
fn no_power_cut_loses_what_was_acknowledged() {
    let played = play(|recorder| recorder);
    let images = played.cut(|at| {
        let seeds = [3, 7].map(|k| Cut::Random(k * 1_000_003 + at as u64));
        let fixed = [Cut::AllUnsynced, Cut::Nothing, Cut::Bytes, Cut::Names, Cut::HalfOfBytes];
        fixed.into_iter().chain(seeds).collect()
    });
    let images = images.unwrap_or_else(|lost| panic!("{lost}"));
    let steps = played.steps.len();
    assert!(steps > 200 && images > 1500, "{steps} steps, {images} images: too few to mean much");
}

fn short(step: &Step) -> String {
    format!("{step:?}").chars().take(100).collect()
}

/// Every step of the story fails once. The operation says so or succeeds; in memory and after a restart is what was
/// acknowledged; and the story goes on.
#[test]
fn no_failing_step_loses_what_was_acknowledged() {
    let steps = run_with_failure(usize::MAX);
    assert!(steps > 150, "only {steps} steps: too few to mean much");
    for fails_at in 0..steps {
        run_with_failure(fails_at);
    }
}

/// Runs the story with one failing step; how many steps it had.
fn run_with_failure(fails_at: usize) -> usize {
    let folder = fast_folder();
    let recorder = Arc::new(Recorder::new(folder.path()));
    let disk: Arc<dyn Disk> = Arc::clone(&recorder) as Arc<dyn Disk>;
    let (held, files, _) = start(Arc::clone(&disk), folder.path());
    let spool = spool(disk, folder.path());
    recorder.count.store(0, Ordering::Relaxed);
    recorder.fails_at.store(fails_at, Ordering::Relaxed);
    let mut failed = 0;
    for (n, operation) in story().iter().enumerate() {
        let before = told(&files);
        if let Err(first) = operation(&files, &spool, &recorder) {
            failed += 1;
            assert_eq!(
                told(&files),
                before,
                "operation {n} failed ({first}) and was half done, step {fails_at}"
            );
            let again = operation(&files, &spool, &recorder);
            again.unwrap_or_else(|e| {
                panic!("operation {n} failed again ({e}) after {first}, step {fails_at}")
            });
        }
    }
    assert!(failed <= 1, "one step failed and {failed} operations, step {fails_at}");
    let last = told(&files);
    let steps = recorder.count.load(Ordering::Relaxed);
    drop((held, files));
    let (_held, files, recovered) = start(Arc::new(RealDisk), folder.path());
    assert_eq!(told(&files), last, "step {fails_at}");
    assert_eq!(recovered.lost, Vec::<String>::new(), "step {fails_at}");
    assert_eq!(damage(&files), None, "step {fails_at}");
    steps
}
