//! A disk that writes down every step, can be full, and can fail at the n-th step; and the images that a power cut
//! could leave of what was written down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::store::disk::{Disk, RealDisk};

/// One step, with its path within the store.
#[derive(Debug, Clone)]
pub(super) enum Step {
    CreateDir(PathBuf),
    Create(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    SetLen(PathBuf, u64),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    SyncDir(PathBuf),
    Remove(PathBuf),
    /// The test was told that everything up to its n-th operation is done.
    Acknowledged(usize),
}

#[derive(Debug)]
pub(super) struct Recorder {
    root: PathBuf,
    pub(super) steps: Mutex<Vec<Step>>,
    /// No new file can be made, and none can grow; the reserve has its space.
    pub(super) full: AtomicBool,
    /// The step, counted from 0, that fails; and so many fail from there on.
    pub(super) fails_at: AtomicUsize,
    pub(super) fails: AtomicUsize,
    pub(super) count: AtomicUsize,
    /// Met by an fsync of a file when it begins, and again before it goes on.
    pub(super) pause: Mutex<Option<Arc<Barrier>>>,
}

impl Recorder {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            steps: Mutex::default(),
            full: AtomicBool::new(false),
            fails_at: AtomicUsize::new(usize::MAX),
            fails: AtomicUsize::new(1),
            count: AtomicUsize::new(0),
            pause: Mutex::default(),
        }
    }

    /// From now on steps are counted from 0, and so many fail from this one on.
    pub(super) fn fail_from(&self, step: usize, fails: usize) {
        self.count.store(0, Ordering::Relaxed);
        self.fails_at.store(step, Ordering::Relaxed);
        self.fails.store(fails, Ordering::Relaxed);
    }

    pub(super) fn acknowledge(&self, operation: usize) {
        self.steps.lock().unwrap().push(Step::Acknowledged(operation));
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap_or(path).to_owned()
    }

    /// Counts the step, and makes it fail if it is its turn or needs space that is not there.
    fn step<T>(
        &self,
        needs_space: bool,
        note: impl FnOnce() -> Step,
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let at =
            self.count.fetch_add(1, Ordering::Relaxed).checked_sub(self.fails_at.load(Ordering::Relaxed));
        if at.is_some_and(|at| at < self.fails.load(Ordering::Relaxed)) {
            return Err(io::Error::from_raw_os_error(5));
        }
        if needs_space && self.full.load(Ordering::Relaxed) {
            return Err(ErrorKind::StorageFull.into());
        }
        let done = act()?;
        self.steps.lock().unwrap().push(note());
        Ok(done)
    }
}

impl Disk for Recorder {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.step(true, || Step::CreateDir(self.relative(path)), || RealDisk.create_dir(path))
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        self.step(true, || Step::Create(self.relative(path)), || RealDisk.create(path))
    }

    fn write_at(&self, path: &Path, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let grows = offset + bytes.len() as u64 > file.metadata()?.len();
        let note = || Step::Write(self.relative(path), offset, bytes.to_vec());
        self.step(grows, note, || RealDisk.write_at(path, file, offset, bytes))
    }

    fn set_len(&self, path: &Path, file: &File, len: u64) -> io::Result<()> {
        self.step(false, || Step::SetLen(self.relative(path), len), || RealDisk.set_len(path, file, len))
    }

    fn sync(&self, path: &Path, file: &File) -> io::Result<()> {
        let pause = self.pause.lock().unwrap().take();
        if let Some(pause) = pause {
            pause.wait();
            pause.wait();
        }
        // What it is to survive is decided by the images, so the real disk need not wait.
        let _ = file;
        self.step(false, || Step::Sync(self.relative(path)), || Ok(()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let note = || Step::Rename(self.relative(from), self.relative(to));
        self.step(false, note, || RealDisk.rename(from, to))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step(false, || Step::SyncDir(self.relative(path)), || Ok(()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(false, || Step::Remove(self.relative(path)), || RealDisk.remove(path))
    }
}

/// What a disk has been told (`now`) and what it must have kept (`kept`).
#[derive(Debug, Default, Clone)]
pub(super) struct Model {
    now: BTreeMap<PathBuf, Node>,
    kept: BTreeMap<PathBuf, Node>,
    files: Vec<Content>,
}

/// What has a name: a folder, or the n-th file.
#[derive(Debug, Clone, Copy)]
enum Node {
    Folder,
    File(usize),
}

#[derive(Debug, Default, Clone)]
struct Content {
    now: Vec<u8>,
    kept: Vec<u8>,
}

/// What a cut takes: of the names that were not synced, and of the bytes that were not.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut {
    /// Everything that was not synced is gone.
    AllUnsynced,
    /// Nothing is gone: a kill.
    Nothing,
    /// Names are there before their bytes.
    Bytes,
    /// Bytes are there before their names.
    Names,
    /// Names are there, and the first half of what changed in each file.
    HalfOfBytes,
    /// Each name and each file by the throw of a coin.
    Random(u64),
}

impl Model {
    /// A disk that has kept all that is below `root` now.
    pub(super) fn of(root: &Path) -> Self {
        let mut model = Self::default();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                let node = if path.is_dir() {
                    folders.push(path.clone());
                    Node::Folder
                } else {
                    let bytes = fs::read(&path).unwrap();
                    model.files.push(Content { now: bytes.clone(), kept: bytes });
                    Node::File(model.files.len() - 1)
                };
                model.now.insert(path.strip_prefix(root).unwrap().to_owned(), node);
            }
        }
        model.kept.clone_from(&model.now);
        model
    }

    fn file(&mut self, path: &Path) -> &mut Content {
        match self.now[path] {
            Node::File(file) => &mut self.files[file],
            Node::Folder => panic!("{} is a folder", path.display()),
        }
    }

    pub(super) fn apply(&mut self, step: &Step) {
        match step {
            Step::CreateDir(path) => drop(self.now.insert(path.clone(), Node::Folder)),
            Step::Create(path) => {
                // An old file of that name would be emptied in place; the store never does that to a synced one.
                self.files.push(Content::default());
                self.now.insert(path.clone(), Node::File(self.files.len() - 1));
            }
            Step::Write(path, offset, bytes) => {
                let content = &mut self.file(path).now;
                let from = usize::try_from(*offset).unwrap();
                content.resize(content.len().max(from + bytes.len()), 0);
                content[from..from + bytes.len()].copy_from_slice(bytes);
            }
            Step::SetLen(path, len) => {
                self.file(path).now.resize(usize::try_from(*len).unwrap(), 0);
            }
            Step::Sync(path) => {
                let content = self.file(path);
                content.kept.clone_from(&content.now);
            }
            Step::Rename(from, to) => {
                let file = self.now.remove(from).unwrap();
                self.now.insert(to.clone(), file);
            }
            Step::SyncDir(folder) => {
                let inside = |path: &PathBuf| path.parent() == Some(folder);
                self.kept.retain(|path, _| !inside(path));
                self.kept.extend(self.now.iter().filter(|(p, _)| inside(p)).map(|(p, f)| (p.clone(), *f)));
            }
            Step::Remove(path) => drop(self.now.remove(path)),
            Step::Acknowledged(_) => {}
        }
    }

    /// Writes what is left after a cut into an empty folder.
    pub(super) fn image(&self, cut: Cut, root: &Path) {
        let mut rng = match cut {
            Cut::Random(seed) => SmallRng::seed_from_u64(seed),
            _ => SmallRng::seed_from_u64(0),
        };
        let paths: BTreeSet<&PathBuf> = self.now.keys().chain(self.kept.keys()).collect();
        for path in paths {
            let newer = match cut {
                Cut::AllUnsynced | Cut::Names => false,
                Cut::Nothing | Cut::Bytes | Cut::HalfOfBytes => true,
                Cut::Random(_) => rng.random(),
            };
            let Some(node) = (if newer { &self.now } else { &self.kept }).get(path) else { continue };
            // What is in a folder goes with it; it comes before its files here.
            if !root.join(path).parent().unwrap().is_dir() {
                continue;
            }
            let Node::File(file) = node else {
                fs::create_dir(root.join(path)).unwrap();
                continue;
            };
            let Content { now, kept } = &self.files[*file];
            let half = torn(now, kept);
            let bytes = match cut {
                Cut::AllUnsynced | Cut::Bytes => kept,
                Cut::Nothing | Cut::Names => now,
                Cut::HalfOfBytes if now == kept => now,
                Cut::HalfOfBytes => &half,
                Cut::Random(_) if now == kept => now,
                Cut::Random(_) => [now, kept, &half][rng.random_range(0..3)],
            };
            // Zeros at the end are a hole: the reserve is megabytes of them.
            let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
            fs::write(root.join(path), &bytes[..used]).unwrap();
            File::options().write(true).open(root.join(path)).unwrap().set_len(bytes.len() as u64).unwrap();
        }
    }
}

/// `kept` with the first half of what makes it differ from `now`.
fn torn(now: &[u8], kept: &[u8]) -> Vec<u8> {
    let common = now.iter().zip(kept).position(|(a, b)| a != b).unwrap_or_else(|| now.len().min(kept.len()));
    let same = |at: &usize| now.get(*at) == kept.get(*at);
    let end = now.len().max(kept.len());
    let tail = (common..end).rev().take_while(same).count();
    let middle = common + (end - tail - common) / 2;
    let mut bytes = kept.to_vec();
    bytes.resize(bytes.len().max(middle.min(now.len())), 0);
    let upto = middle.min(now.len());
    bytes[common..upto].copy_from_slice(&now[common..upto]);
    bytes
}
