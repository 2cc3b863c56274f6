//! Several nodes that share an etcd, on one machine: each a service with a folder of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::node::WAIT;
use crate::{Etcd, Host, Key, Link, Output, Service, get, pki, text};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// A fleet that runs. All of it ends when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    /// What its nodes share.
    pub etcd: Etcd,
    nodes: Vec<Service>,
    /// In front of each node, where others call it; none where they call each other without.
    links: Vec<Link>,
    folder: tempfile::TempDir,
    key: Key,
}

/// The part of `hotctl nodes -o json` that is looked at here.
#[derive(Debug, Deserialize)]
struct Nodes {
    nodes: Vec<NodeLine>,
}

#[derive(Debug, Deserialize)]
struct NodeLine {
    name: String,
    leads: bool,
}

impl Fleet {
    /// So many nodes, `n1` and on, which take modules that [`Fleet::push`] signs. One of them leads when this returns.
    ///
    /// # Errors
    /// When one does not serve, or none leads.
    pub fn start(count: usize) -> Result<Self> {
        Self::start_with(count, |_, _| Ok(String::new()))
    }

    /// As [`Fleet::start`], and each node calls the others by TLS, with certificates of `hotctl pki`.
    ///
    /// # Errors
    /// As [`Fleet::start`], and when a certificate can't be made.
    pub fn start_with_tls(count: usize) -> Result<Self> {
        Self::start_with(count, |name, folder| with_tls(name, &Host::here(), folder))
    }

    /// So many nodes of an etcd that wants to know who calls.
    ///
    /// # Errors
    /// As [`Fleet::start`].
    pub fn start_behind(etcd: Etcd, count: usize) -> Result<Self> {
        let hosts = vec![Host::here(); count];
        let fleet = Self::start_at(&hosts, etcd, |_, _, _| Ok(String::new()))?;
        fleet.wait_joined(count)?;
        Ok(fleet)
    }

    /// What a node has in its config of a fleet, by these lines for the way to etcd.
    pub fn config_with(door: &str) -> String {
        config(door)
    }

    /// A node on each of these hosts, at its address, which call each other by TLS, and an etcd with a member on each of `members`. `config`
    /// goes on in the nodes' configs, after their `[cluster]`.
    ///
    /// # Errors
    /// As [`Fleet::start_with_tls`].
    pub fn start_on(hosts: &[Host], members: &[Host], config: &str) -> Result<Self> {
        let fleet = Self::start_at(hosts, Etcd::start_on(members)?, |name, host, folder| {
            Ok(format!("{}{config}", with_tls(name, host, folder)?))
        })?;
        fleet.wait_joined(hosts.len())?;
        Ok(fleet)
    }

    /// As [`Fleet::start`], a node for each of these values of its label `zone`.
    ///
    /// # Errors
    /// As [`Fleet::start`].
    pub fn start_in_zones(zones: &[&str]) -> Result<Self> {
        Self::start_with(zones.len(), |name, _| {
            let of_node = name.strip_prefix('n').and_then(|n| n.parse::<usize>().ok());
            let zone = of_node.and_then(|n| zones.get(n - 1)).context("a zone")?;
            Ok(in_zone(zone))
        })
    }

    /// Has a node start anew in another zone.
    ///
    /// # Errors
    /// When it does not serve.
    pub fn move_to_zone(&mut self, node: usize, zone: &str) -> Result<()> {
        let config = format!("{}{}", config(&self.etcd.door()), in_zone(zone));
        let node = &mut self.nodes[node];
        node.configure(&config)?;
        node.terminate()?;
        node.boot()
    }

    /// As [`Fleet::start_with_tls`], with a [`Link`] in front of each node, and `more` in the table `[cluster]`.
    ///
    /// # Errors
    /// As [`Fleet::start_with_tls`], and when no port is free.
    pub fn start_with_links(count: usize, more: &str) -> Result<Self> {
        let links: Vec<Link> = (0..count).map(|_| Link::open()).collect::<Result<_>>()?;
        let mut addresses = links.iter().map(Link::address);
        let here = vec![Host::here(); count];
        let mut fleet = Self::start_at(&here, Etcd::start()?, |name, _host, folder| {
            let address = addresses.next().context("a link")?;
            Ok(format!("call = \"https://{address}\"\n{more}\n{}", with_tls(name, &Host::here(), folder)?))
        })?;
        fleet.links = links;
        fleet.lead()?;
        fleet.wait_joined(count)?;
        Ok(fleet)
    }

    fn start_with(count: usize, mut more: impl FnMut(&str, &Path) -> Result<String>) -> Result<Self> {
        let hosts = vec![Host::here(); count];
        let fleet = Self::start_at(&hosts, Etcd::start()?, |name, _host, folder| more(name, folder))?;
        fleet.wait_joined(count)?;
        Ok(fleet)
    }

    fn start_at(
        hosts: &[Host],
        etcd: Etcd,
        mut more: impl FnMut(&str, &Host, &Path) -> Result<String>,
    ) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the fleet")?;
        let key = Key::generate(folder.path().join("ada"))?;
        let signers = key.signer("ada@example.com")?;
        let common = config(&etcd.door());
        let nodes = hosts.iter().enumerate().map(|(index, host)| {
            let name = format!("n{}", index + 1);
            let config = format!("{common}{}", more(&name, host, folder.path())?);
            Service::start_on(host, &name, &signers, &config)
        });
        Ok(Self { nodes: nodes.collect::<Result<_>>()?, links: Vec::new(), etcd, folder, key })
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[Service] {
        &self.nodes
    }

    /// One of them, to be stopped and started.
    pub fn node(&mut self, index: usize) -> &mut Service {
        &mut self.nodes[index]
    }

    /// The link that leads to a node.
    pub fn link(&self, index: usize) -> &Link {
        &self.links[index]
    }

    /// Starts a node that was stopped, which has another port then.
    ///
    /// # Errors
    /// When it does not serve.
    pub fn boot(&mut self, index: usize) -> Result<()> {
        self.nodes[index].boot()?;
        self.lead()
    }

    /// Leads each link to where its node takes calls now.
    fn lead(&self) -> Result<()> {
        for (link, node) in self.links.iter().zip(&self.nodes) {
            // One that does not run takes none.
            if node.daemon().is_ok() {
                link.lead(node.grpc().context("an address of gRPC")?);
            }
        }
        Ok(())
    }

    /// Pushes a file by way of a node.
    ///
    /// # Errors
    /// When `hotctl` can't be started or hangs.
    pub fn push(&self, node: usize, file: &Path, more: &[&str]) -> Result<Output> {
        let key = self.key_file();
        let command = [&["push", text(file)?, "--key", text(&key)?], more].concat();
        self.nodes[node].hotctl(&command)
    }

    /// The file of the key that its nodes trust.
    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("ada")
    }

    /// The signer's line for that.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn signer(&self) -> Result<String> {
        self.key.signer("ada@example.com")
    }

    /// The index of the node that leads, as `node` says.
    ///
    /// # Errors
    /// When none does within [`WAIT`].
    pub fn leader(&self, node: usize) -> Result<usize> {
        let mut found = None;
        self.wait("a leader", || {
            let nodes = self.said(node)?;
            let leader = nodes.into_iter().find(|node| node.leads).map(|node| node.name);
            found = leader.and_then(|name| self.nodes.iter().position(|node| node.name() == name));
            Ok(found.is_some())
        })?;
        found.context("a leader")
    }

    /// What a node serves at `/probe`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn serves(&self, node: usize) -> Result<String> {
        let reply = get(self.nodes[node].http(), "/probe")?;
        Ok(String::from_utf8_lossy(reply.body()).into_owned())
    }

    /// Waits until something holds.
    ///
    /// # Errors
    /// When it does not within [`WAIT`], with what was waited for.
    pub fn wait(&self, what: &str, holds: impl FnMut() -> Result<bool>) -> Result<()> {
        self.wait_for(WAIT, what, holds)
    }

    /// As [`Fleet::wait`], for what may take longer.
    ///
    /// # Errors
    /// When it does not hold within `deadline`, with what was waited for.
    pub fn wait_for(
        &self,
        deadline: Duration,
        what: &str,
        mut holds: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let end = Instant::now() + deadline;
        loop {
            let last = holds();
            if matches!(last, Ok(true)) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "waited for {what}: {last:?}");
            thread::sleep(LOOK);
        }
    }

    fn wait_joined(&self, count: usize) -> Result<()> {
        self.wait("all nodes to be in the fleet, and one to lead", || {
            let nodes = self.said(0)?;
            Ok(nodes.len() == count && nodes.iter().any(|node| node.leads))
        })
    }

    fn said(&self, node: usize) -> Result<Vec<NodeLine>> {
        let nodes: Nodes = self.nodes[node].hotctl(&["nodes", "-o", "json"])?.expect(0)?.json()?;
        Ok(nodes.nodes)
    }
}

/// What all nodes have in their configs.
fn config(door: &str) -> String {
    format!("[cluster]\n{door}lease = \"{}s\"\n", LEASE.as_secs())
}

fn in_zone(zone: &str) -> String {
    format!("[cluster.labels]\nzone = {zone:?}\n")
}

/// The lines of a node's config by which it calls others, and is called at this address, by TLS.
fn with_tls(name: &str, host: &Host, folder: &Path) -> Result<String> {
    if !folder.join("pki").exists() {
        pki(folder, &["init", "pki"])?;
    }
    let listen = SocketAddr::new(host.address(), host.port(CALLS));
    pki(folder, &["issue", name, "--dir", "pki", "--address", &listen.ip().to_string()])?;
    let at = |file: String| folder.join(file);
    Ok(format!(
        "[grpc.tls]\nlisten = [\"{listen}\"]\ncertificate = {:?}\nkey = {:?}\nauthority = {:?}\n",
        at(format!("pki/{name}.pem")),
        at(format!("pki/{name}.key")),
        at("pki/ca.pem".to_owned()),
    ))
}

/// Where a node is called by TLS that has its host to itself.
const CALLS: u16 = 7443;

/// How long a node is taken for there without a word.
pub const LEASE: Duration = Duration::from_secs(3);
