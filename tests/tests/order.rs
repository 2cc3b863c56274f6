//! The order of steps that `docs/durability.md` promises, in what the kernel saw of the real `hotd` (`strace`): for each
//! kind of call the whole chain up to its answer. Then the same trace with each single step of each chain taken out, and
//! with each two neighbours the other way round: each must be found to be wrong.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hot_tests::order::{Call, Wanted, check};
use hot_tests::trace::{Did, Step, Trace};
use hot_tests::{Key, Module, Service, WAIT, sha256, skipped};

/// Bytes of a chunk: the modules of these tests have three to five.
const CHUNK: usize = 4096;

/// Candidates stay where they are put until they are told.
const POLICY: &str = "[policy]\nsteps = [\"10%\", \"100%\"]\nbake = \"10m\"\n";

/// A node whose calls are counted: each is alone on its connection, and nobody else calls.
struct Story {
    service: Service,
    ada: Key,
    bob: Key,
    calls: RefCell<Vec<Call>>,
    ends: RefCell<Vec<Call>>,
}

impl Story {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (ada, bob) =
            (Key::generate(folder.path().join("ada"))?, Key::generate(folder.path().join("bob"))?);
        let signers = ada.signer("ada@example.com")? + &bob.signer("bob@example.com")?;
        let service = Service::start(&signers, POLICY)?;
        // The keys go with the service.
        let keep = |key: &Key, name: &str| -> Result<Key> {
            let path = service.scratch().join(name);
            fs::rename(key.path(), &path)?;
            Ok(Key::at(path))
        };
        let (ada, bob) = (keep(&ada, "ada")?, keep(&bob, "bob")?);
        Ok(Self { service, ada, bob, calls: RefCell::default(), ends: RefCell::default() })
    }

    fn done(&self, name: &str, chain: &[Vec<Wanted>]) {
        let mut calls = self.calls.borrow_mut();
        let (name, caller) = (name.to_owned(), calls.len());
        calls.push(Call { name, caller, chain: [chain.concat(), vec![Wanted::Answer]].concat() });
    }

    /// Uploads a file, and gives its digest.
    fn upload(&self, file: &Path, key: &Key) -> Result<String> {
        let bytes = fs::read(file)?;
        let signature = self.service.scratch().join("signature");
        key.sign("hot-module", file, &signature)?;
        self.service.door().upload(&bytes, &fs::read(signature)?, 0, CHUNK)?;
        Ok(sha256(&bytes))
    }

    fn push(&self, version: &str) -> Result<String> {
        let file = Module::new("good").version(version).build()?;
        let digest = self.upload(&file, &self.ada)?;
        let part = PathBuf::from(format!("spool/{digest}.part"));
        let placed = PathBuf::from(format!("artifacts/{digest}.so"));
        let chunks = fs::metadata(file)?.len().div_ceil(CHUNK as u64);
        ensure!(chunks > 2, "{chunks} chunks are no test");
        self.done(
            &format!("the upload of {version}"),
            &[
                (0..chunks).map(|_| Wanted::Write(part.clone())).collect(),
                vec![Wanted::Sync(part.clone())],
                Wanted::small(&format!("artifacts/{digest}.json")),
                vec![Wanted::Rename(part, placed), Wanted::Sync("artifacts".into())],
                Wanted::small("modules/probe.json"),
            ],
        );
        Ok(digest)
    }

    /// The same file again, after what the node has of it was damaged.
    fn mend(&self, version: &str) -> Result<()> {
        let file = Module::new("good").version(version).build()?;
        let digest = sha256(&fs::read(&file)?);
        let (part, placed) = (format!("spool/{digest}.part"), format!("artifacts/{digest}.so"));
        let (part, placed) = (PathBuf::from(part), PathBuf::from(placed));
        fs::write(self.service.data_dir().join(&placed), b"damaged")?;
        self.upload(&file, &self.ada)?;
        self.done(
            "the upload of bytes that were damaged",
            &[
                vec![Wanted::Write(part.clone()), Wanted::Sync(part.clone())],
                vec![Wanted::Rename(part, placed), Wanted::Sync("artifacts".into())],
            ],
        );
        Ok(())
    }

    fn sign_again(&self, version: &str, key: &Key) -> Result<()> {
        let digest = self.upload(&Module::new("good").version(version).build()?, key)?;
        self.done("another signature", &[Wanted::small(&format!("artifacts/{digest}.json"))]);
        Ok(())
    }

    /// Begins a rollout: the release has its number before the rollout names it.
    fn start(&self, version: &str) -> Result<String> {
        let request = format!("call-{}", self.calls.borrow().len());
        let id = self.service.door().start("probe", version, &request)?.id;
        let rollout = format!("rollouts/{id}.json");
        self.done(
            &format!("the start of a rollout of {version}"),
            &[Wanted::small("modules/probe.json"), Wanted::small(&rollout)],
        );
        self.ends(&id);
        Ok(id)
    }

    /// What follows when a rollout that the last call began is over: nobody waits for that.
    fn ends(&self, id: &str) {
        let (record, caller) = (format!("rollouts/{id}.json"), self.calls.borrow().len() - 1);
        let chain = [Wanted::small(&record), vec![Wanted::Sync("index/db".into())], Wanted::gone(&record)];
        let name = format!("the end of rollout {id}");
        self.ends.borrow_mut().push(Call { name, caller, chain: chain.concat() });
    }

    fn record(&self, id: &str) -> PathBuf {
        self.service.data_dir().join(format!("rollouts/{id}.json"))
    }

    /// Waits, without a call, until what is on record of a rollout is as wanted; no text: it is gone.
    fn wait(&self, id: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + WAIT;
        loop {
            let text = fs::read_to_string(self.record(id)).unwrap_or_default();
            if wanted(&text) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "rollout {id} is not as wanted: {text}");
            std::thread::yield_now();
        }
    }
}

/// The trace of every kind of call that changes what a node keeps; the chains that were promised with each call, and those
/// that come after.
fn told() -> Result<(Vec<Step>, Vec<Call>, Vec<Call>)> {
    let mut story = Story::new()?;
    let folder = tempfile::tempdir()?;
    story.service.terminate()?;
    let mut trace = None;
    story.service.boot_with(|command| {
        let (command, traced) = Trace::around(&command, &folder.path().join("trace"));
        trace = Some(traced);
        Ok(command)
    })?;
    let pid = story.service.daemon()?.pid();
    let over = |text: &str| text.is_empty();

    story.push("1.0.0")?;
    let first = story.start("1.0.0")?;
    story.wait(&first, over)?;
    story.sign_again("1.0.0", &story.bob)?;
    story.push("1.1.0")?;
    story.mend("1.1.0")?;
    let second = story.start("1.1.0")?;
    story.wait(&second, |text| text.contains("\"phase\":{\"baking\""))?;
    story.service.door().abort("probe")?;
    story.done("an abort", &[Wanted::small(&format!("rollouts/{second}.json"))]);
    story.wait(&second, over)?;
    let third = story.start("1.1.0")?;
    story.wait(&third, |text| text.contains("\"phase\":{\"baking\""))?;
    story.service.door().promote("probe")?;
    story.done("a promotion", &[Wanted::small(&format!("rollouts/{third}.json"))]);
    story.wait(&third, over)?;
    let back = story.service.door().rollback("probe")?.id;
    story.done(
        "a rollback",
        &[Wanted::small("modules/probe.json"), Wanted::small(&format!("rollouts/{back}.json"))],
    );
    story.ends(&back);
    story.wait(&back, over)?;
    let digest = story.push("1.2.0")?;
    story.service.door().remove("probe", "1.2.0")?;
    story.done(
        "a removal",
        &[
            Wanted::small("modules/probe.json"),
            Wanted::gone(&format!("artifacts/{digest}.so")),
            Wanted::gone(&format!("artifacts/{digest}.json")),
        ],
    );

    let data = story.service.data_dir();
    story.service.stop()?;
    let steps = trace.context("a trace")?.finish(pid, &data, WAIT)?;
    Ok((steps, story.calls.into_inner(), story.ends.into_inner()))
}

#[test]
fn every_step_comes_in_its_order_and_is_missed() -> Result<()> {
    if let Err(reason) = Trace::possible() {
        // The one thing that this test can't bring along: leave of the kernel to trace a process.
        return skipped(&format!("{reason:#}"));
    }
    let (steps, calls, ends) = told()?;
    let all = [&*calls, &*ends].concat();
    let chains = check(&steps, &all)?;
    let ended = ends_of_rollouts(&steps)?;
    ensure!(ended.len() == ends.len(), "{} rollouts came to their end, expected {}", ended.len(), ends.len());

    let (mut taken_out, mut swapped) = (0, 0);
    // The ends have chains of their own: others sync the history as well, which is no promise.
    for (name, chain) in calls.iter().map(|call| &*call.name).zip(chains).chain(ended) {
        for place in &chain {
            let mut without = steps.clone();
            let gone = without.remove(*place);
            let said =
                check(&without, &all).err().with_context(|| format!("{name}: nobody misses {gone:?}"))?;
            ensure!(names(&said.to_string(), &gone.did), "{name}: without {gone:?} it is said that {said}");
            taken_out += 1;
        }
        for pair in chain.windows(2) {
            let mut other = steps.clone();
            let [first, second] = [&steps[pair[0]], &steps[pair[1]]];
            other[pair[0]] = Step { did: second.did.clone(), thread: second.thread, ..first.clone() };
            other[pair[1]] = Step { did: first.did.clone(), thread: first.thread, ..second.clone() };
            let said = check(&other, &all).err();
            ensure!(said.is_some(), "{name}: nobody minds {:?} before {:?}", second.did, first.did);
            swapped += 1;
        }
    }
    ensure!(
        taken_out > 80 && swapped > 70,
        "{taken_out} taken out and {swapped} swapped are too few to mean much"
    );
    Ok(())
}

/// Whether a sentence names a step by what it is about.
fn names(said: &str, did: &Did) -> bool {
    let has = |path: &Path| said.contains(&*path.to_string_lossy());
    match did {
        Did::Create(path) | Did::Write(path, ..) | Did::Sync(path) | Did::Remove(path) => has(path),
        Did::Rename(from, to) => has(from) || has(to),
        Did::Accept(_) | Did::Reply(_) => said.contains("the acknowledgement"),
    }
}

/// What the end of each rollout is: its last state gets its name, the folder is synced, then the history; its file goes.
fn ends_of_rollouts(steps: &[Step]) -> Result<Vec<(&'static str, Vec<usize>)>> {
    let mut ends = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let Did::Remove(path) = &step.did else { continue };
        if !path.starts_with("rollouts") {
            continue;
        }
        let before = |wanted: &dyn Fn(&Step) -> bool, upto: usize| steps[..upto].iter().rposition(wanted);
        let folder = |step: &Step| step.did == Did::Sync("rollouts".into());
        let history =
            before(&|other| other.thread == step.thread && other.did == Did::Sync("index/db".into()), at);
        let history = history.context("an fsync of the history")?;
        let named = before(&|other| matches!(&other.did, Did::Rename(_, to) if to == path), history);
        let named = named.context("a last state")?;
        let kept = steps[named..].iter().position(folder).context("an fsync of the last state")? + named;
        ends.push(("the end of a rollout", vec![named, kept, history, at]));
    }
    Ok(ends)
}
