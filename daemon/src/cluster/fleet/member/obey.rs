//! Obeying what the leader gives: one task for each module, which does the newest word and no older one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hot_artifact::ModuleName;
use hot_rollout::{Assignment, Direction, Module, ReleaseNumber};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::{Fresh, MemberParts};
use crate::agent::Word;
use crate::cluster::etcd::{Folder, Key, News, Watch};
use crate::cluster::fleet::FetchError;
use crate::cluster::fleet::values::{AssignmentValue, Given, parse};

/// Between two tries of what could not be done.
const RETRY: Duration = Duration::from_secs(1);

/// What came of getting ready for a release.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) module: Module,
    pub(super) release: ReleaseNumber,
    pub(super) refused: Option<String>,
}

/// What the node was told last of a module.
#[derive(Clone, Debug)]
struct Told {
    value: AssignmentValue,
    /// The revision of etcd that wrote it.
    written: i64,
    /// It was written while this node listened.
    live: bool,
}

/// Hears what this node is to do.
pub(super) struct Obeying {
    parts: Arc<MemberParts>,
    answers: mpsc::Sender<Answer>,
    modules: BTreeMap<ModuleName, (watch::Sender<Told>, AbortOnDropHandle<()>)>,
}

impl Obeying {
    pub(super) fn new(parts: Arc<MemberParts>, answers: mpsc::Sender<Answer>) -> Self {
        Self { parts, answers, modules: BTreeMap::new() }
    }

    pub(super) async fn run(mut self) {
        let fleet = self.parts.fleet.clone();
        let folder = Folder::Assignments(fleet.node().clone());
        let mut watch = Watch::start(fleet.connection().clone(), fleet.keys().folder(&folder));
        let mut fresh = Fresh::default();
        loop {
            let news = watch.next().await;
            fresh.note(&news);
            let News::Put(found) = news else { continue };
            let live = fresh.is_now();
            let Some(Key::Assignment(_, module)) = fleet.keys().parse(&found.key) else { continue };
            match parse::<AssignmentValue>(&found.key, &found.value) {
                Ok(value) if is_of(&value, &module) => {
                    self.give(module, Told { value, written: found.modified, live });
                }
                Ok(_) => {
                    tracing::error!(%module, "an assignment in etcd is for another module, and is ignored")
                }
                Err(malformed) => fleet.alarm(&malformed),
            }
        }
    }

    fn give(&mut self, module: ModuleName, word: Told) {
        if let Some((sender, _)) = self.modules.get(&module) {
            drop(sender.send_replace(word));
            return;
        }
        let (sender, words) = watch::channel(word);
        let worker =
            Worker { parts: Arc::clone(&self.parts), answers: self.answers.clone(), module: module.clone() };
        let task = AbortOnDropHandle::new(tokio::spawn(worker.run(words)));
        self.modules.insert(module, (sender, task));
    }
}

/// Obeys for one module.
struct Worker {
    parts: Arc<MemberParts>,
    answers: mpsc::Sender<Answer>,
    module: ModuleName,
}

/// Why a word is not done.
enum Undone {
    /// A newer one has come.
    Overtaken,
    /// Something is in the way.
    Failed(String),
    /// A person went another way on this node alone.
    PassedOver(Assignment),
}

impl Worker {
    async fn run(self, mut words: watch::Receiver<Told>) {
        let mut prepared = None;
        loop {
            let worked = self.work(&mut words, &mut prepared).await;
            self.note(&worked);
            match worked {
                Ok(()) => {
                    if words.changed().await.is_err() {
                        return;
                    }
                }
                Err(Undone::Overtaken) => {}
                Err(Undone::PassedOver(assignment)) => {
                    tokio::select! {
                        () = self.lifted(&assignment) => {}
                        _ = words.changed() => words.mark_changed(),
                    }
                }
                Err(Undone::Failed(why)) => {
                    tracing::warn!(module = %self.module, "an assignment waits: {why}");
                    tokio::select! {
                        () = tokio::time::sleep(RETRY) => {}
                        _ = words.changed() => {}
                    }
                }
            }
        }
    }

    /// What is in the way is shown as long as it is.
    fn note(&self, worked: &Result<(), Undone>) {
        let why = match worked {
            Err(Undone::Failed(why)) => Some(why),
            // Nothing is known of the newer word yet.
            Err(Undone::Overtaken) => return,
            Ok(()) | Err(Undone::PassedOver(_)) => None,
        };
        self.parts.fleet.0.standing.send_if_modified(|standing| match why {
            Some(why) => standing.waits.insert(self.module.clone(), why.clone()).as_ref() != Some(why),
            None => standing.waits.remove(&self.module).is_some(),
        });
    }

    /// Does the newest word.
    async fn work(
        &self,
        words: &mut watch::Receiver<Told>,
        prepared: &mut Option<ReleaseNumber>,
    ) -> Result<(), Undone> {
        let Told { value, written, live } = words.borrow_and_update().clone();
        // To hear of it once more at a start is no renewal: nobody knows when it was written.
        if let Some(given) = value.given.filter(|_| live || !self.is_known(written)) {
            self.obey(given, written, words).await?;
        }
        let Some(release) = value.prepare.filter(|release| *prepared != Some(*release)) else {
            return Ok(());
        };
        let refused = unless_overtaken(words, self.prepare(release)).await??;
        *prepared = refused.is_none().then_some(release);
        let module = Module(self.module.to_string());
        drop(self.answers.send(Answer { module, release, refused }).await);
        Ok(())
    }

    /// Toward stable waits for nothing; the rest for what it needs. What is begun with the agent goes to its end.
    async fn obey(
        &self,
        given: Given,
        written: i64,
        words: &mut watch::Receiver<Told>,
    ) -> Result<(), Undone> {
        let Given { assignment, direction } = given;
        if direction == Direction::Onward {
            unless_overtaken(words, self.have_all(&assignment)).await?.map_err(Undone::of)?;
        }
        let word = Word { assignment: assignment.clone(), written: Some(written) };
        let obeyed = self.parts.agent.obey(word, direction).await;
        obeyed.map_err(|error| Undone::Failed(crate::describe(&error)))?;
        if self.parts.agent.passes_over(&assignment) {
            return Err(Undone::PassedOver(assignment));
        }
        if direction == Direction::TowardStable {
            // What serves must be here as well, if by and by.
            unless_overtaken(words, self.have_all(&assignment)).await?.map_err(Undone::of)?;
        }
        Ok(())
    }

    /// Whether the node obeys what this revision of etcd wrote.
    fn is_known(&self, written: i64) -> bool {
        self.parts.agent.written(&Module(self.module.to_string())) == Some(written)
    }

    /// Returns when nobody goes another way on this node any more.
    async fn lifted(&self, assignment: &Assignment) {
        let mut changes = self.parts.agent.changes();
        while self.parts.agent.passes_over(assignment) && changes.changed().await.is_ok() {}
    }

    async fn have_all(&self, assignment: &Assignment) -> Result<(), FetchError> {
        for (release, ..) in assignment.weights() {
            self.have(release).await?;
        }
        Ok(())
    }

    /// Has a release and its artifact here.
    async fn have(&self, release: ReleaseNumber) -> Result<(), FetchError> {
        let fleet = &self.parts.fleet;
        fleet.fetch_release(&self.module, release.0).await?;
        // It holds much while it transfers, and so would all that wait for it.
        Box::pin(fleet.fetcher().fetch(fleet, &self.module, release.0)).await
    }

    /// Gets ready for a release. What of it this node refuses, if it does; what is only in the way now is no refusal.
    async fn prepare(&self, release: ReleaseNumber) -> Result<Option<String>, Undone> {
        match self.have(release).await {
            Ok(()) => {}
            Err(error) if error.is_refusal() => return Ok(Some(crate::describe(&error))),
            Err(error) => return Err(Undone::of(error)),
        }
        let module = Module(self.module.to_string());
        let could = self.parts.agent.could_run(&module, release).await;
        Ok(could.err().map(|error| crate::describe(&error)))
    }
}

impl Undone {
    fn of(error: FetchError) -> Self {
        Self::Failed(crate::describe(&error))
    }
}

async fn unless_overtaken<T>(
    words: &mut watch::Receiver<Told>,
    work: impl Future<Output = T>,
) -> Result<T, Undone> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        _ = words.changed() => {
            // To be looked at by the next turn.
            words.mark_changed();
            Err(Undone::Overtaken)
        }
    }
}

fn is_of(value: &AssignmentValue, module: &ModuleName) -> bool {
    value.given.as_ref().is_none_or(|given| given.assignment.module.as_str() == module.as_str())
}
