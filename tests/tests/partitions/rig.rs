//! The fleet of these tests, and what has to hold whatever happens to it.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hot_tests::{
    Change, Fleet, Hosts, Load, LoadOptions, Module, ModuleStatus, Service, Witness, check_terms, most_told,
};

/// Nodes of the fleet: hosts 0 to 4.
pub(crate) const NODES: usize = 5;
/// The hosts of the members of its etcd: those after the nodes'.
pub(crate) const MEMBERS: [usize; 3] = [NODES, NODES + 1, NODES + 2];
/// What a first step of a fifth of the fleet is on each of the two nodes that carry it, basis points.
pub(crate) const FIRST_STEP: u32 = 5000;
/// All of a node's traffic, basis points.
pub(crate) const WHOLE: u32 = 10_000;
/// Longest that a rollout may take to end, once nothing is in its way.
const ENDS: Duration = Duration::from_secs(60);
/// Lines of each node's log that are shown with a failure.
const LINES: usize = 100;
/// Longest that a request may take: far above what one takes that is sent once more.
const PATIENCE: Duration = Duration::from_secs(10);
/// The key of who leads.
const LEADER: &str = "hot/v1/fleet/leader";

/// Five nodes that serve `probe 1.0.0`, release 1, to somebody who asks each of them 50 times a second, and a witness.
pub(crate) struct Rig {
    logs: Logs,
    witness: Witness,
    loads: Vec<Load>,
    pub(crate) fleet: Fleet,
    pub(crate) hosts: Hosts,
    /// What was pushed.
    versions: Vec<String>,
}

/// What the nodes say, for whoever reads of a test that failed: their ends are shown unless the rig came to its own.
struct Logs(Vec<PathBuf>);

impl Drop for Logs {
    fn drop(&mut self) {
        for log in &self.0 {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
            // Nothing can be done where that is closed.
            drop(writeln!(std::io::stderr(), "{} ends:\n{end}", log.display()));
        }
    }
}

/// A version that works.
pub(crate) fn good(version: &str) -> Module {
    Module::new("good").version(version)
}

/// A version of which each instance ends at its hundredth request.
pub(crate) fn bad(version: &str) -> Module {
    Module::new("segfaults").number("NTH", 100).version(version)
}

impl Rig {
    /// Starts them. `config` goes on in the nodes' configs.
    pub(crate) fn start(config: &str) -> Result<Self> {
        let hosts = Hosts::start(8)?;
        let (nodes, members) = hosts.all().split_at(NODES);
        ensure!(members.len() == MEMBERS.len(), "{} members", members.len());
        let fleet = Fleet::start_on(nodes, members, config)?;
        let witness = Witness::start("probe", fleet.nodes())?;
        let load = |node: &Service| {
            let options = LoadOptions::closed(node.http(), "/probe", 2).at(50);
            Load::start(LoadOptions { timeout: PATIENCE, ..options })
        };
        let logs = Logs(fleet.nodes().iter().map(Service::log).collect());
        let mut rig = Self { logs, witness, loads: Vec::new(), fleet, hosts, versions: Vec::new() };
        rig.push(0, &good("1.0.0"), &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
        rig.all_serve("1.0.0")?;
        rig.loads = rig.fleet.nodes().iter().map(load).collect::<Result<_>>()?;
        Ok(rig)
    }

    /// Pushes a version by way of a node. It may have any part of a node's traffic, until [`Rig::allow`] says otherwise.
    pub(crate) fn push(&mut self, node: usize, module: &Module, more: &[&str]) -> Result<hot_tests::Output> {
        let file: PathBuf = module.build()?;
        self.witness.allow(module.version_text(), WHOLE);
        self.versions.push(module.version_text().to_owned());
        self.fleet.push(node, &file, more)
    }

    /// Pushes a version by way of a node, for a fifth of the fleet and then all of it, and returns when it is watched in the
    /// first of these steps. Until [`Rig::allow`] says otherwise it may have no more than that step gives.
    pub(crate) fn push_first_step(&mut self, node: usize, module: &Module, bake: &str) -> Result<()> {
        let (file, version) = (module.build()?, module.version_text());
        self.witness.allow(version, FIRST_STEP);
        self.versions.push(version.to_owned());
        let steps = ["--steps", "20%,100%", "--bake", bake, "--detach"];
        self.fleet.push(node, &file, &steps)?.expect(0)?;
        self.said(node, "the first step to be watched", |of| {
            of.phase == "baking" && of.candidate.as_ref().is_some_and(|tried| tried.version == version)
        })?;
        Ok(())
    }

    /// From now on the last version may have so much of a node's traffic, basis points.
    pub(crate) fn allow(&self, weight: u32) {
        if let Some(version) = self.versions.last() {
            self.witness.allow(version, weight);
        }
    }

    /// Pushes a version that does not work by way of a node: it is taken back, and every node serves `stable`.
    pub(crate) fn takes_back(&mut self, node: usize, version: &str, stable: &str) -> Result<()> {
        self.push(node, &bad(version), &["--steps", "20%,100%", "--bake", "60s"])?.expect(3)?;
        self.all_serve(stable)?;
        self.allow(0);
        Ok(())
    }

    /// Every node serves this version.
    pub(crate) fn all_serve(&self, version: &str) -> Result<()> {
        self.serve(&(0..NODES).collect::<Vec<_>>(), version)
    }

    /// These nodes serve this version.
    pub(crate) fn serve(&self, nodes: &[usize], version: &str) -> Result<()> {
        let expected = format!("probe {version}");
        for &node in nodes {
            let what = format!("{version} on {}", self.fleet.nodes()[node].name());
            self.fleet.wait(&what, || {
                let served = self.fleet.serves(node)?;
                ensure!(served.trim() == expected, "it serves {served}");
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// Waits until a node says that the rollout is in this phase.
    pub(crate) fn phase(&self, node: usize, phase: &str) -> Result<ModuleStatus> {
        self.said(node, &format!("the phase {phase}"), |module| module.phase == phase)
    }

    /// Waits until a node says something of the module.
    pub(crate) fn said(
        &self,
        node: usize,
        what: &str,
        wanted: impl Fn(&ModuleStatus) -> bool,
    ) -> Result<ModuleStatus> {
        let end = Instant::now() + ENDS;
        loop {
            let module = self.fleet.nodes()[node].module("probe");
            match module {
                Ok(module) if wanted(&module) => return Ok(module),
                last => ensure!(Instant::now() < end, "waited for {what}: {last:?}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Each node answers so many requests from now on, and none of them fails.
    pub(crate) fn lose_nothing(&self, requests: u64) -> Result<()> {
        for load in &self.loads {
            let window = load.begin_window();
            load.wait_requests(window, requests, ENDS)?;
            let counts = load.end_window(window)?;
            ensure!(counts.failed() == 0, "{counts}");
        }
        Ok(())
    }

    /// The epoch of whoever leads; none while nobody does.
    pub(crate) fn epoch(&self) -> Result<Option<i64>> {
        self.fleet.etcd.created(LEADER)
    }

    /// Waits until another node leads than in this epoch, and gives how long that took from `since`.
    pub(crate) fn taken_over(&self, from: i64, since: Instant) -> Result<Duration> {
        self.fleet.wait("another leader", || Ok(self.epoch()?.is_some_and(|epoch| epoch != from)))?;
        Ok(since.elapsed())
    }

    /// Ends it, and checks what has to hold: no node that is not in `hit` lost a request; nobody answered but what was
    /// pushed; no node ever gave one more of its traffic than was allowed, nor than a leader told it; and no leader's
    /// word is in etcd but from its own term. `earlier` is what etcd was told and has forgotten.
    pub(crate) fn end_after(mut self, hit: &[usize], earlier: &[Change], from: i64) -> Result<()> {
        for (node, load) in self.loads.into_iter().enumerate() {
            let counts = load.stop()?;
            ensure!(hit.contains(&node) || counts.failed() == 0, "node {node}: {counts}");
            ensure!(counts.requests > 0, "node {node} was asked nothing");
            let pushed = |version: &String| self.versions.contains(version);
            ensure!(counts.versions.keys().all(pushed), "node {node}: {counts}");
        }
        let seen = self.witness.end()?;
        let changes = [earlier, &self.fleet.etcd.changes(from)?].concat();
        check_terms(&changes)?;
        let told = most_told(&changes, "probe");
        for (of, weight) in seen.most.into_iter().filter(|(_, weight)| *weight > 0) {
            let told = told.get(&of);
            ensure!(told.is_some_and(|told| *told >= weight), "{of:?} has {weight}, told was {told:?}");
        }
        self.logs.0.clear();
        Ok(())
    }

    /// The same, of an etcd that has forgotten nothing.
    pub(crate) fn end(self, hit: &[usize]) -> Result<()> {
        self.end_after(hit, &[], 1)
    }

    /// The index of the node that leads, as soon as one does.
    pub(crate) fn leader(&self) -> Result<usize> {
        let mut leader = None;
        self.fleet.wait("a leader", || {
            let value = self.fleet.etcd.values(LEADER)?.pop().context("nobody leads")?;
            let at = |node: &Service| value.contains(&format!("{:?}", node.name()));
            leader = self.fleet.nodes().iter().position(at);
            Ok(leader.is_some())
        })?;
        leader.context("a leader")
    }
}
