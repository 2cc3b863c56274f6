//! This node in its fleet: that it is there, what it hears, what it is told to run, what it says, and whether it leads.
//!
//! Each of these is a task of its own, so that none waits for another; all go on without etcd and take up where they were.

mod away;
mod obey;
mod removed;
mod silence;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hot_artifact::ModuleName;
use hot_rollout::{Event, Module};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::away::Away;
use super::fetch::Held;
use super::reports::Outbox;
use super::state::Change;
use super::values::{AliveValue, NodeValue, RenewalValue, encode, parse};
use super::{Fleet, Standing, prune};
use crate::agent::Agent;
use crate::clock;
use crate::cluster::etcd::{EtcdError, Folder, Key, Lease, News, Stood, Term, Watch};
use crate::journal::{Entry, Journal};
use crate::ledger::LocalRollback;
use crate::store::VersionRecord;

/// Between two looks at what is to be done: said, stood for, taken anew.
const TICK: Duration = Duration::from_millis(250);
/// The most reports that a node writes of one module, and with it the figures of a candidate: one in so long.
const REPORT: Duration = Duration::from_secs(1);
/// So long after a report whose answer was lost all are written once more: it may have been made after a later one.
const REPEAT: Duration = Duration::from_secs(30);
/// How long the last words of a node that goes down may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a member works with.
#[derive(Debug)]
pub struct MemberParts {
    /// Its place.
    pub fleet: Fleet,
    /// What it says of itself.
    pub about: NodeValue,
    /// Names its data folder and machine.
    pub home: String,
    /// Makes its assignments true.
    pub agent: Agent,
    /// Whether it tells load balancers to go away.
    pub away: Away,
    /// Where people read what happened.
    pub journal: Journal,
    /// How long it is taken for there without a word.
    pub lease: Duration,
}

/// A node of a fleet.
#[derive(Debug)]
pub struct Member {
    parts: Arc<MemberParts>,
}

impl Member {
    /// Takes part until `stopped`, which it says goodbye for. `reports` are what the node's agent says.
    pub async fn run(parts: MemberParts, reports: mpsc::Receiver<Event>, stopped: CancellationToken) {
        let (asked, answers) = mpsc::channel(64);
        let parts = Arc::new(parts);
        let hear = Self { parts: Arc::clone(&parts) }.hear();
        let renewals = Self { parts: Arc::clone(&parts) }.follow_renewals();
        let cordon = Self { parts: Arc::clone(&parts) }.follow_cordon();
        let removed = Self { parts: Arc::clone(&parts) }.follow_removed();
        let fenced = Self { parts: Arc::clone(&parts) }.follow_fenced();
        let obey = obey::Obeying::new(Arc::clone(&parts), asked).run();
        let present = Present::new(Arc::clone(&parts), reports, answers);
        tokio::select! {
            () = hear => {}
            () = renewals => {}
            () = cordon => {}
            () = removed => {}
            () = fenced => {}
            () = obey => {}
            () = present.run(stopped) => {}
        }
    }

    /// Hears what the fleet shares, and keeps what is for this node.
    async fn hear(self) {
        let fleet = &self.parts.fleet;
        let mut watch = Watch::start(fleet.connection().clone(), fleet.keys().folder(&Folder::Fleet));
        let mut silence = silence::Silence::default();
        loop {
            match watch.next().await {
                News::Put(found) => self.changed(|state| state.put(fleet.keys(), &found)).await,
                News::Gone(key) => self.changed(|state| state.gone(fleet.keys(), &key)).await,
                News::Listed => drop(
                    fleet
                        .0
                        .standing
                        .send_if_modified(|standing| !std::mem::replace(&mut standing.heard, true)),
                ),
                News::Broken | News::Resumed => {}
                News::Silent(error) | News::StillSilent(error) => self.stale(&mut silence, &error).await,
                News::Heard => {
                    silence = silence::Silence::default();
                    fleet.0.standing.send_modify(|standing| standing.stale = None);
                    self.tell("fleet.heard", "this node hears its fleet again".to_owned()).await;
                }
            }
        }
    }

    async fn changed(&self, change: impl FnOnce(&mut super::State) -> Option<Change>) {
        let mut changed = None;
        self.parts.fleet.0.state.send_if_modified(|state| {
            // Copied only while somebody looks at it.
            changed = change(Arc::make_mut(state));
            changed.is_some()
        });
        let Some(change) = changed else { return };
        if let Err(error) = self.keep(change).await {
            tracing::warn!(error = %crate::describe(&error), "what the fleet knows is not on this node yet");
        }
    }

    /// Keeps what changed in this node's ledger.
    async fn keep(&self, change: Change) -> Result<(), super::FleetError> {
        let (fleet, state) = (&self.parts.fleet, self.parts.fleet.state());
        match change {
            Change::Module(module) => {
                // The leader has it already: what it wrote comes back here, and by then it may have written more.
                if fleet.term().is_err() {
                    fleet.keep_module(&module).await?;
                }
            }
            Change::Release(module, number) => {
                if let Some(value) = state.releases.get(&(module.clone(), number)) {
                    fleet.adopt_release(&module, number, value).await?;
                }
            }
            Change::Leader => {
                // What is heard may be of before we were elected; that our own term is over, our lease says.
                if let Ok(term) = fleet.term()
                    && state.leader.as_ref().is_some_and(|(_, epoch)| *epoch > term.epoch())
                {
                    fleet.depose(&term);
                }
                let text = match &state.leader {
                    Some((node, epoch)) => format!("{node} leads the fleet (epoch {epoch})"),
                    None => "nobody leads the fleet: rollouts wait until another node does".to_owned(),
                };
                self.tell("fleet.leader", text).await;
            }
            Change::Wrong(text) => {
                let text = format!("a value in etcd is left out: {text}");
                self.tell("fleet.wrong", text).await;
            }
            Change::Node(_) | Change::Version(..) => {}
        }
        Ok(())
    }

    /// Shows why the fleet is not heard, and tells it as an event where that is news.
    async fn stale(&self, silence: &mut silence::Silence, error: &EtcdError) {
        let why = crate::describe(error);
        let (since, is_news) = silence.goes_on(&why, SystemTime::now());
        let text = format!(
            "this node does not hear its fleet, and goes on with what it was told last: {why}. A candidate ends with its expiry"
        );
        self.parts.fleet.0.standing.send_modify(|standing| standing.stale = Some((since, why)));
        if is_news {
            self.tell("fleet.silent", text).await;
        }
    }

    /// Starts the expiry of what this node was given anew, as the leader says so.
    async fn follow_renewals(self) {
        let fleet = &self.parts.fleet;
        let mut watch = Watch::start(fleet.connection().clone(), fleet.keys().folder(&Folder::Renewals));
        // What is listed is of an unknown age: only what is written while we watch is a renewal.
        let mut fresh = Fresh::default();
        loop {
            match watch.next().await {
                News::Put(found) if fresh.is_now() => match parse::<RenewalValue>(&found.key, &found.value) {
                    Ok(RenewalValue { modules, revision }) => {
                        modules.iter().for_each(|module| self.parts.agent.renew(module, revision));
                    }
                    Err(malformed) => fleet.alarm(&malformed),
                },
                news => fresh.note(&news),
            }
        }
    }

    /// Tells that etcd refused a write of this node as the leader, once for each of its terms.
    async fn follow_fenced(self) {
        let (mut standing, mut told) = (self.parts.fleet.standing(), None);
        loop {
            let fenced = standing.wait_for(|standing| standing.fenced != told).await.map(|seen| seen.fenced);
            let Ok(Some(epoch)) = fenced else { return };
            told = Some(epoch);
            let text = format!(
                "etcd refused a write of this node, which does not lead its fleet any more (its epoch was {epoch}): nothing of \
                 it was done, and whoever leads now decides"
            );
            self.tell("fleet.fenced", text).await;
        }
    }

    async fn tell(&self, kind: &'static str, text: String) {
        self.parts.journal.write(Entry { kind, text, ..Entry::default() }).await;
    }
}

/// That the node is there: its lease, and all that is written with it.
struct Present {
    parts: Arc<MemberParts>,
    reports: mpsc::Receiver<Event>,
    answers: mpsc::Receiver<obey::Answer>,
    outbox: Outbox,
    lease: Option<Lease>,
    /// What is written with the lease has to be written anew.
    anew: bool,
    reported: Instant,
    /// Since when a report may have been made after a later one.
    doubt: Option<Instant>,
    /// No sooner than then we stand for leader: not all at once.
    stands: Option<Instant>,
}

impl Present {
    fn new(
        parts: Arc<MemberParts>,
        reports: mpsc::Receiver<Event>,
        answers: mpsc::Receiver<obey::Answer>,
    ) -> Self {
        let outbox = Outbox::new(parts.about.since, 2 * parts.lease);
        let reported = Instant::now();
        Self { parts, reports, answers, outbox, lease: None, anew: true, reported, doubt: None, stands: None }
    }

    async fn run(mut self, stopped: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // etcd may be silent for long, and a node that goes down does not wait for it.
        tokio::select! {
            () = stopped.cancelled() => {}
            () = self.take_part(&mut tick) => {}
        }
        drop(tokio::time::timeout(GOODBYE, self.leave()).await);
    }

    /// Says what there is to say, for ever.
    async fn take_part(&mut self, tick: &mut tokio::time::Interval) {
        loop {
            tokio::select! {
                Some(event) = self.reports.recv() => self.outbox.note(event, Instant::now()),
                Some(obey::Answer { module, release, refused }) = self.answers.recv() => {
                    self.outbox.prepared(&module, release, refused);
                    self.report().await;
                }
                _ = tick.tick() => self.look().await,
            }
        }
    }

    /// Does what is due.
    async fn look(&mut self) {
        if self.lease.as_ref().is_some_and(|lease| !lease.is_held()) {
            tracing::warn!("this node's lease in etcd is lost, and the fleet takes it for gone");
            self.lease = None;
        }
        if self.lease.is_none() {
            if let Ok(term) = self.parts.fleet.term() {
                self.parts.fleet.depose(&term);
            }
            if let Err(error) = self.join().await {
                tracing::debug!(error = %crate::describe(&error), "this node is not in its fleet yet");
                return;
            }
            if self.lease.is_none() {
                return;
            }
        }
        if let Err(error) = self.stay().await {
            tracing::debug!(error = %crate::describe(&error), "this node is not in its fleet again yet");
        }
        if self.doubt.is_some_and(|since| since.elapsed() >= REPEAT) {
            (self.doubt, self.anew) = (None, true);
        }
        if self.anew || self.reported.elapsed() >= REPORT {
            self.report().await;
        }
        if let Err(error) = self.stand().await {
            tracing::debug!(error = %crate::describe(&error), "no leader could be elected");
        }
    }

    /// Takes a lease, and says that the node is there.
    async fn join(&mut self) -> Result<(), EtcdError> {
        let MemberParts { fleet, about, home, lease, .. } = &*self.parts;
        let there = fleet.connection().get(&fleet.keys().of(&Key::Alive(fleet.node().clone()))).await?;
        let there = there.and_then(|found| parse::<AliveValue>(&found.key, &found.value).ok());
        if self.is_taken(there.as_ref()).await {
            return Ok(());
        }
        let lease = Lease::grant(fleet.connection(), *lease).await?;
        fleet.write_own(&Key::Node(fleet.node().clone()), encode(about), 0).await?;
        let alive = AliveValue { since: about.since, home: home.clone() };
        fleet.write_own(&Key::Alive(fleet.node().clone()), encode(&alive), lease.id()).await?;
        for digest in self.parts.fleet.fetcher().here() {
            fleet.write_own(&Key::Holder(digest, fleet.node().clone()), b"1".to_vec(), lease.id()).await?;
        }
        self.lease = Some(lease);
        self.anew = true;
        // Also what was let in while etcd was away, or before this node was in its fleet. But not what the fleet has let
        // go of.
        let (state, now) = (fleet.state(), clock::of_day());
        let is_wanted = |record: &VersionRecord| prune::is_wanted(&state, record, now);
        for record in fleet.fetcher().records().into_iter().filter(is_wanted) {
            if let Err(error) = fleet.share_version(record).await {
                tracing::warn!(error = %crate::describe(&error), "a version of this node is not the fleet's");
            }
        }
        Ok(())
    }

    /// Says anew who it is, and that it is there, where somebody has taken it for gone and out of the fleet.
    async fn stay(&self) -> Result<(), EtcdError> {
        let MemberParts { fleet, about, home, .. } = &*self.parts;
        let Standing { heard, stale, .. } = fleet.standing().borrow().clone();
        let Some(lease) = self.lease.as_ref().filter(|_| heard && stale.is_none()) else { return Ok(()) };
        let (state, node) = (fleet.state(), fleet.node());
        let there = state.alive.get(node);
        if self.is_taken(there).await {
            return Ok(());
        }
        if !state.nodes.contains_key(node) {
            fleet.write_own(&Key::Node(node.clone()), encode(about), 0).await?;
        }
        if there.is_none() {
            let alive = AliveValue { since: about.since, home: home.clone() };
            fleet.write_own(&Key::Alive(node.clone()), encode(&alive), lease.id()).await?;
        }
        Ok(())
    }

    /// Whether another hotd is there by this node's name, which is told as long as it is so.
    async fn is_taken(&self, there: Option<&AliveValue>) -> bool {
        let MemberParts { fleet, home, journal, .. } = &*self.parts;
        let taken = there.is_some_and(|there| !there.home.is_empty() && there.home != *home);
        let is_news = fleet.0.standing.send_if_modified(|standing| {
            let was = standing.taken.is_some();
            if was != taken {
                standing.taken = taken.then(SystemTime::now);
            }
            was != taken
        });
        if is_news && taken {
            let text = format!(
                "another hotd is in the fleet by the name of this node, {}, and the fleet counts that one alone",
                fleet.node()
            );
            journal.write(Entry { kind: "fleet.name_taken", text, ..Entry::default() }).await;
        }
        taken
    }

    /// Writes what is news.
    async fn report(&mut self) {
        let Some(lease) = self.lease.as_ref().map(Lease::id) else { return };
        let fleet = &self.parts.fleet;
        self.reported = Instant::now();
        let news = self.outbox.news(self.reported, std::mem::take(&mut self.anew));
        for (module, value) in news {
            let Ok(name) = super::named(&module) else { continue };
            let key = Key::Report(name, fleet.node().clone());
            if let Err(error) = fleet.write_own(&key, encode(&value), lease).await {
                tracing::debug!(error = %crate::describe(&error), "a report waits");
                self.outbox.untold(&module);
                self.doubt = Some(Instant::now());
            }
        }
        if let Err(error) = fleet.tell_local_rollbacks(&self.parts.agent.local_rollbacks()).await {
            tracing::debug!(error = %crate::describe(&error), "the fleet does not know yet what was rolled back here");
        }
        for news @ (digest, held) in fleet.fetcher().news_here() {
            let key = Key::Holder(digest, fleet.node().clone());
            let told = match held {
                Held::Came => fleet.write_own(&key, b"1".to_vec(), lease).await,
                Held::Went => fleet.connection().delete(&fleet.keys().of(&key)).await,
            };
            if told.is_err() {
                fleet.fetcher().untold(news);
            }
        }
    }

    /// Stands for leader where there is none.
    async fn stand(&mut self) -> Result<(), EtcdError> {
        let MemberParts { fleet, lease: ttl, .. } = &*self.parts;
        let Standing { heard, stale, term, rests, .. } = fleet.standing().borrow().clone();
        // That we lead, as etcd says, and do not know of: the answer to a try was lost, and is asked for again.
        let leads =
            term.is_some() || fleet.state().leader.as_ref().is_some_and(|(node, _)| node != fleet.node());
        // Another one stands within a part of that.
        let rests = rests.is_some_and(|since| since.elapsed() < *ttl);
        let stands = heard && stale.is_none() && !leads && !rests;
        let Some(lease) = self.lease.as_ref().filter(|_| stands) else {
            self.stands = None;
            return Ok(());
        };
        let jitter = || Instant::now() + (*ttl / 4).mul_f64(rand::random());
        if Instant::now() < *self.stands.get_or_insert_with(jitter) {
            return Ok(());
        }
        self.stands = None;
        let stood = Term::stand(fleet.connection(), fleet.keys(), fleet.node(), lease.id()).await?;
        if let Stood::Elected(term) = stood {
            tracing::info!(epoch = term.epoch(), "this node leads its fleet");
            fleet.0.standing.send_modify(|standing| standing.term = Some(term));
        }
        Ok(())
    }

    /// Gives up what it holds, so that the others need not wait for its lease to end.
    async fn leave(self) {
        let fleet = &self.parts.fleet;
        if let Ok(term) = fleet.term() {
            fleet.depose(&term);
        }
        if let Some(lease) = self.lease
            && let Err(error) = lease.revoke().await
        {
            tracing::debug!(error = %crate::describe(&error), "the lease ends by its time");
        }
    }
}

/// Whether what a watch tells was written while this node listened, so that it says something of now.
#[derive(Debug, Default)]
pub(super) struct Fresh(Option<Instant>);

/// How long what was missed may take to be told once etcd is heard again.
const CATCHING_UP: Duration = Duration::from_secs(2);

impl Fresh {
    pub(super) fn is_now(&self) -> bool {
        self.0.is_some_and(|since| Instant::now() >= since)
    }

    pub(super) fn note(&mut self, news: &News) {
        match news {
            News::Listed | News::Resumed | News::Heard => self.0 = Some(Instant::now() + CATCHING_UP),
            News::Broken | News::Silent(_) | News::StillSilent(_) => self.0 = None,
            News::Put(_) | News::Gone(_) => {}
        }
    }
}

impl Fleet {
    /// Has the fleet know where a person went back on this node alone, and nowhere else.
    async fn tell_local_rollbacks(&self, here: &BTreeMap<Module, LocalRollback>) -> Result<(), EtcdError> {
        let state = self.state();
        let told: BTreeMap<&ModuleName, &LocalRollback> = state.local_rollbacks(self.node()).collect();
        let named = here.iter().filter_map(|(module, local)| Some((super::named(module).ok()?, local)));
        let here: BTreeMap<ModuleName, &LocalRollback> = named.collect();
        for (module, local) in here.iter().filter(|(module, local)| told.get(module) != Some(*local)) {
            let key = Key::LocalRollback(self.node().clone(), module.clone());
            self.write_own(&key, encode(local), 0).await?;
        }
        for module in told.into_keys().filter(|module| !here.contains_key(*module)) {
            let key = Key::LocalRollback(self.node().clone(), module.clone());
            self.connection().delete(&self.keys().of(&key)).await?;
        }
        Ok(())
    }

    /// Writes what is this node's own to say.
    async fn write_own(&self, key: &Key, value: Vec<u8>, lease: i64) -> Result<(), EtcdError> {
        self.connection().put(&self.keys().of(key), value, lease).await
    }
}
