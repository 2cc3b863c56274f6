//! The story of `power` with every step failing, alone or with those after it, or the process ending there: what was refused
//! is repeated, or not, with a restart or a power cut or both after it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::kit::*;
use super::power::{DATA, Scene, Told, cut_now, found_on, play, spool, start, story, told};
use super::recorder::{Cut, Recorder};
use crate::store::Urgency;
use crate::store::disk::{Disk, RealDisk};
use crate::store::folder::Folder;

/// Every step of the story fails, once or with those that follow. The operation says so or succeeds; in memory, after a
/// power cut and after a restart is what was acknowledged; and the story goes on.
#[test]
fn no_failing_step_loses_what_was_acknowledged() {
    let steps = run_with_failure(usize::MAX, 1);
    assert!(steps > 150, "only {steps} steps: too few to mean much");
    for fails_at in 0..steps {
        run_with_failure(fails_at, 1);
        if fails_at % 3 == 0 {
            run_with_failure(fails_at, 4);
        }
    }
}

/// A folder in memory, and a disk that keeps count of what is done in it.
fn recorded() -> (tempfile::TempDir, Arc<Recorder>) {
    let folder = fast_folder();
    let recorder = Arc::new(Recorder::new(folder.path()));
    (folder, recorder)
}

/// Runs the story with failing steps; how many steps it had.
fn run_with_failure(fails_at: usize, fails: usize) -> usize {
    let (folder, recorder) = recorded();
    let root = folder.path().join(DATA);
    let (held, files, _) = start(Arc::clone(&recorder) as _, &root);
    let spool = spool(Arc::clone(&recorder) as _, &root);
    recorder.fail_from(fails_at, fails);
    let mut failed = 0;
    for (n, operation) in story().iter().enumerate() {
        let before = told(&files);
        let mut tries = 0;
        while let Err(why) = (operation.work)(&files, &spool, &recorder) {
            tries += 1;
            assert_eq!(
                told(&files),
                before,
                "operation {n} failed ({why}) and was half done, step {fails_at}"
            );
            assert!(tries <= fails, "operation {n} failed again ({why}), step {fails_at}");
        }
        if tries > 0 {
            failed += 1;
            // What failed before is not taken for done.
            cut_now(&recorder, &[Cut::AllUnsynced], &[told(&files)])
                .unwrap_or_else(|lost| panic!("operation {n} was repeated, step {fails_at}: {lost}"));
        }
    }
    assert!(failed <= fails, "{fails} steps failed and {failed} operations, step {fails_at}");
    let last = told(&files);
    let steps = recorder.count.load(Ordering::Relaxed);
    drop((held, files));
    let found = found_on(Arc::new(RealDisk), &root, &[last]);
    found.unwrap_or_else(|lost| panic!("step {fails_at}: {lost}"));
    steps
}

/// What ends an operation at a step.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// The process ends.
    Kill,
    /// So many steps fail, and nothing is tried again.
    Fails(usize),
}

/// Plays the story up to the operation that trouble at a step ends, and looks what a power cut then leaves, what a restart
/// finds, and what a power cut after that restart leaves of it. False: the story has no such step.
fn interrupted(
    states: &[Told],
    at: usize,
    trouble: Trouble,
    restart_on: impl FnOnce(Arc<Recorder>) -> Arc<dyn Disk>,
) -> Result<bool, String> {
    let (folder, recorder) = recorded();
    let root = folder.path().join(DATA);
    let (held, files, _) = start(Arc::clone(&recorder) as _, &root);
    let spool = spool(Arc::clone(&recorder) as _, &root);
    recorder.acknowledge(0);
    let fails = match trouble {
        Trouble::Kill => usize::MAX,
        Trouble::Fails(fails) => fails,
    };
    recorder.fail_from(at, fails);
    let story = story();
    let refused = story.iter().position(|operation| (operation.work)(&files, &spool, &recorder).is_err());
    if recorder.count.load(Ordering::Relaxed) <= at {
        return Ok(false);
    }
    let n = refused.unwrap_or(story.len());
    // One more failure after the first still leaves the reserve. Beyond that it isn't known, but it is whole.
    let is_sure = fails <= 2 && !story.get(n).is_some_and(|operation| operation.may_be_done);
    let possible = &states[n..states.len().min(if is_sure { n + 1 } else { n + 2 })];
    let context = |when: &'static str| move |lost| format!("operation {n}, {when}: {lost}");

    let cuts = [Cut::AllUnsynced, Cut::Nothing, Cut::Random(at as u64)];
    cut_now(&recorder, &cuts, possible).map_err(context("a power cut"))?;
    drop((held, files, spool));
    recorder.fails_at.store(usize::MAX, Ordering::Relaxed);
    let found = found_on(restart_on(Arc::clone(&recorder)), &root, possible).map_err(context("a restart"))?;
    // Whoever asks is told of that from now on.
    let cuts = [Cut::AllUnsynced, Cut::Random(at as u64 + 1)];
    cut_now(&recorder, &cuts, &[found]).map_err(context("a power cut after a restart"))?;
    Ok(true)
}

/// Whether a start that does something wrong, after a kill at some step, does not see to it that what it found stays.
pub(super) fn is_missed_by_a_start(wrong: impl Fn(Arc<Recorder>) -> Arc<dyn Disk>) -> bool {
    let states = play(Scene::Story, |recorder| recorder).states;
    let killed = |at| interrupted(&states, at, Trouble::Kill, &wrong);
    (0..).map(killed).take_while(|had_it| *had_it != Ok(false)).any(|had_it| had_it.is_err())
}

fn interrupted_at_steps(every: usize, trouble: Trouble) {
    let states = play(Scene::Story, |recorder| recorder).states;
    let last = (0..).step_by(every).find(|at| {
        let had_it = interrupted(&states, *at, trouble, |recorder| recorder);
        !had_it.unwrap_or_else(|lost| panic!("{trouble:?} at step {at}, {lost}"))
    });
    assert!(last > Some(150), "{last:?} steps are too few to mean much");
}

#[test]
fn what_a_start_finds_after_a_kill_is_there_from_then_on() {
    interrupted_at_steps(1, Trouble::Kill);
}

#[test]
fn what_was_refused_is_found_by_no_start() {
    interrupted_at_steps(1, Trouble::Fails(1));
    interrupted_at_steps(3, Trouble::Fails(2));
}

#[test]
fn what_was_refused_by_a_disk_that_takes_nothing_is_whole_or_not_there() {
    interrupted_at_steps(1, Trouble::Fails(3));
    interrupted_at_steps(3, Trouble::Fails(8));
}

/// The caller is refused and asks again, which is a rollout of another id, on a disk that fails at any step and at those
/// that follow.
#[test]
fn a_request_that_was_refused_and_comes_again_is_one_rollout() {
    for (fails_at, fails) in (0..6).flat_map(|at| [1, 2, 3, 5, 8].map(|fails| (at, fails))) {
        let (folder, recorder) = recorded();
        let root = folder.path().join(DATA);
        let (held, files, _) = start(Arc::clone(&recorder) as _, &root);
        recorder.fail_from(fails_at, fails);
        let ids: Vec<String> = (1..=9).map(|n| format!("r{n}")).collect();
        let id = ids
            .iter()
            .find(|id| files.put_rollout(rollout(id, Some("q"), 1), false, Urgency::Normal).is_ok())
            .unwrap_or_else(|| panic!("refused for ever, {fails} from step {fails_at}"));
        let possible = [told(&files)];
        assert!(possible[0].rollouts.keys().eq([&id.parse().unwrap()]));
        let cuts = [Cut::AllUnsynced, Cut::Nothing, Cut::Names, Cut::Random(1), Cut::Random(2)];
        cut_now(&recorder, &cuts, &possible)
            .unwrap_or_else(|lost| panic!("{fails} from step {fails_at}: {lost}"));
        drop((held, files));
        let found = found_on(Arc::new(RealDisk), &root, &possible);
        found.unwrap_or_else(|lost| panic!("{fails} from step {fails_at}: {lost}"));
    }
}

/// Until the reserve is emptied of what is in the files by now, these files are not written: were they damaged then, what the
/// reserve has of them would pass for the newest.
#[test]
fn a_file_is_not_written_while_the_reserve_keeps_its_former_content() {
    let (folder, recorder) = recorded();
    let root = folder.path().join(DATA);
    let (held, files, _) = start(Arc::clone(&recorder) as _, &root);
    let put = |step, urgency| files.put_rollout(rollout("r1", None, step), false, urgency);
    put(1, Urgency::Normal).unwrap();
    recorder.full.store(true, Ordering::Relaxed);
    put(2, Urgency::TowardStable).unwrap();
    recorder.full.store(false, Ordering::Relaxed);
    // The file is made, written, synced, renamed, and its folder synced; then the reserve is written.
    recorder.fail_from(5, 1);
    files.small.drain();
    assert_eq!(recorder.count.load(Ordering::Relaxed), 6);
    recorder.fail_from(0, 2);
    put(3, Urgency::Normal).unwrap_err();
    assert_eq!(recorder.count.load(Ordering::Relaxed), 2, "it was tried twice to empty it, and nothing else");
    put(3, Urgency::Normal).unwrap();
    drop((held, files));
    fs::write(root.join("rollouts/r1.json"), b"damaged").unwrap();
    let (_held, files, recovered) = start(Arc::new(RealDisk), &root);
    assert_eq!((files.known().rollouts.len(), recovered.lost.len()), (0, 1), "{recovered:?}");
}

/// It is told for as long as nobody knows what a restart finds.
#[test]
fn a_refused_write_that_can_not_be_taken_back_is_told_until_it_is() {
    let (folder, recorder) = recorded();
    let root = folder.path().join(DATA);
    let (_held, files, _) = start(Arc::clone(&recorder) as _, &root);
    let put = |step| files.put_rollout(rollout("r1", None, step), false, Urgency::Normal);
    let told = || files.small.in_doubt().into_iter().map(|of| (of.file, of.why)).collect::<Vec<_>>();
    put(1).unwrap();
    // From the fsync of the folder on.
    recorder.fail_from(4, usize::MAX);
    put(2).unwrap_err();
    assert!(
        matches!(&told()[..], [(file, why)] if file == "rollouts/r1.json" && why.contains("can't be put back"))
    );
    put(3).unwrap_err();
    assert_eq!(told().len(), 1);
    recorder.fail_from(usize::MAX, 1);
    files.small.drain();
    assert_eq!(told(), []);

    // What was there before was damaged meanwhile: it ends with the next write.
    fs::write(root.join("rollouts/r1.json"), b"damaged").unwrap();
    recorder.fail_from(4, 1);
    put(4).unwrap_err();
    files.small.drain();
    assert!(
        matches!(&told()[..], [(_, why)] if why.contains("can't be read: it has no complete first line"))
    );
    put(5).unwrap();
    assert_eq!(told(), []);
}

#[test]
fn a_data_folder_whose_name_could_not_be_synced_is_so_by_the_next_start() {
    let (folder, recorder) = recorded();
    let root = folder.path().join(DATA);
    // It is made, and the folder above it synced.
    recorder.fail_from(1, 1);
    Folder::open(&*recorder, &root).unwrap_err();
    assert!(root.is_dir());
    let (_held, files, _) = start(Arc::clone(&recorder) as _, &root);
    files.put_rollout(rollout("r1", None, 1), false, Urgency::Normal).unwrap();
    cut_now(&recorder, &[Cut::AllUnsynced], &[told(&files)]).unwrap();
}

/// As a `hotd` could leave them that did not take a refused write back.
#[test]
fn of_two_rollouts_with_one_request_the_later_one_stays() {
    let folder = fast_folder();
    let (held, files, _) = start(Arc::new(RealDisk), folder.path());
    let put = |id| files.put_rollout(rollout(id, Some("q"), 1), false, Urgency::Normal).unwrap();
    put("r1");
    let first = folder.path().join("rollouts/r1.json");
    let bytes = fs::read(&first).unwrap();
    files.drop_rollout(&"r1".parse().unwrap()).unwrap();
    put("r2");
    files.put_rollout(rollout("r0", None, 1), false, Urgency::Normal).unwrap();
    let last = told(&files);
    drop((held, files));
    fs::write(&first, bytes).unwrap();
    let (held, files, recovered) = start(Arc::new(RealDisk), folder.path());
    assert_eq!((told(&files), recovered.removed), (last, vec!["rollouts/r1.json".to_owned()]));
    assert!(!first.exists());
    drop((held, files));
    let (_held, _files, recovered) = start(Arc::new(RealDisk), folder.path());
    assert_eq!(recovered.removed, Vec::<String>::new());
}
