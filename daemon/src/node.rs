//! One node: what is made in which order, and ended in which.
//!
//! Decides nothing else. Up: folder, trust, certificate, store, hosts that still run, gateway, agent, driver, control
//! plane; the ready line comes when all serve. Down: control plane, driver, gateway with what it has in flight, store.
//! Hosts outlive a service's `hotd`; a dev node takes them along.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hot_rollout::Node as NodeName;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, ModuleBounds, Parts as AgentParts};
use crate::cluster::fleet::Away;
use crate::config::{self, Config, Mode, Spawn};
use crate::dev::{DevError, DevFolder, Record};
use crate::driver::{Driver, OnCrashLoop, Parts as DriverParts};
use crate::gateway::{Door, Drained, Gateway, StartError};
use crate::grpc::listen::{self, Doors, ListenError};
use crate::grpc::{About, Api};
use crate::isolation::Asked;
use crate::journal::{Entry, Journal};
use crate::ledger::Ledger;
use crate::listeners::{self, GRPC, GRPC_TLS, Listeners};
use crate::place::Place;
use crate::store::{Collected, Options, Protected, Recovered, Store};
use crate::supervisor::{Adopted, Presence, SpawnAddress, Supervisor, quoted};
use crate::tls::{TlsFiles, UnservedError};
use crate::trust::TrustFiles;
use crate::untold::Untold;

/// Between two times at which the store is tidied.
const TIDY: Duration = Duration::from_secs(5);
/// How long what is in effect may take to be on disk before the end: many times what a disk takes.
const KEPT_WITHIN: Duration = Duration::from_secs(5);
/// Artifacts of the largest size that may be on their way at once. By default they come to just what the store has.
const LARGEST_AT_ONCE: u64 = 4;
/// How long a dev node waits for its hosts to end.
const HOSTS_END: Duration = Duration::from_secs(10);

/// A node that serves.
#[derive(Debug)]
pub struct Node {
    config: Config,
    http: Served,
    /// Where gRPC is served besides its socket.
    grpc: Vec<SocketAddr>,
    store: Store,
    supervisor: Supervisor,
    gateway: Gateway,
    agent: Agent,
    /// Ends the control plane and the clocks.
    stopped: CancellationToken,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    driving: JoinHandle<()>,
    record: Option<Record>,
}

/// Where gRPC is served besides its socket.
#[derive(Debug)]
struct Control {
    /// To callers with the token.
    tcp: Option<TcpListener>,
    /// To those with a certificate.
    with_tls: Vec<TcpListener>,
}

/// Where modules are served.
#[derive(Debug)]
struct Served {
    plain: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
}

impl Node {
    /// Brings a node up. It serves when this returns.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        // Before anything is made: a port in use must change nothing.
        listeners::find_ports_free(&config)?;
        let is_dev = config.mode == Mode::Dev;
        let folder = is_dev.then(|| DevFolder::prepare(&config.data_dir)).transpose()?;
        let (own, data_dir) = (config.trust.clone(), config.data_dir.clone());
        let trust = crate::blocking(move || TrustFiles::open(own, &data_dir)).await?;
        let [tls, mutual] = open_tls(&config).await?;
        let (options, data_dir) = (store_options(&config.store), config.data_dir.clone());
        let (store, recovered) = crate::blocking(move || Store::open(&data_dir, options)).await?;
        tell(&recovered);
        let files = trust.clone();
        crate::blocking(move || files.keep()).await;
        let socket = control_socket(&config)?;
        let control = Control::bind(&config)?;
        let grpc = control.addresses()?;

        let (asked, supervisor, adopted) = supervise(&config).await?;
        let listeners = listeners::open(&config, &supervisor).await?;
        let http = Served::at(&listeners)?;
        let (gateway, away) = open_gateway(&config, &doors(listeners, tls.as_ref())).await?;

        let name = NodeName(config.node.clone());
        let ledger = Ledger::new(store.clone(), Arc::new(machine(&config)));
        let journal = Journal::new(store.clone());
        let (agent, reports) = Agent::new(AgentParts {
            node: name.clone(),
            ledger: ledger.clone(),
            trust: trust.clone(),
            supervisor: supervisor.clone(),
            gateway: gateway.clone(),
            journal: journal.clone(),
            bounds: bounds(&config),
            asked,
            max_artifact: config.store.max_artifact,
        });
        let untold = Untold::find(&journal).await;
        note_start(&journal, &recovered, &adopted).await;
        agent.recover(adopted, ledger.obeyed());

        let stopped = CancellationToken::new();
        let about = about(&config, &http);
        let place = Place::of(&config, (&agent, &ledger, &journal), &trust, mutual.as_ref());
        let parts = DriverParts {
            node: name,
            ledger: ledger.clone(),
            cluster: place.cluster(),
            policy: config.policy.clone(),
            agent: agent.clone(),
            trust: trust.clone(),
            journal: journal.clone(),
        };
        let (reports, taking_part) =
            place.take_part(&config, (&about, &grpc), (&agent, &journal, away), reports, &stopped);
        let (driver, driving) = Driver::start(parts, reports, stopped.clone()).await;
        let driving = both(driving, taking_part);
        untold.tell(&journal, &driver).await;
        set_clocks_going(&agent, &driver, config.on_crash_loop, &stopped);
        keep_house(&ledger, &journal, &supervisor, &stopped);
        let files: Vec<TlsFiles> = tls.into_iter().chain(mutual.clone()).collect();
        watch_files(&trust, &files, &journal, &stopped);

        let api = Api {
            about,
            fleet: place.fleet(),
            ledger,
            trust,
            tls: files,
            max_artifact: config.store.max_artifact,
            upload_patience: config.store.upload_patience,
            policy: config.policy.clone(),
            driver,
            agent: agent.clone(),
            journal,
            stopped: stopped.clone(),
        };
        let token = folder.as_ref().map(|folder| folder.token().to_owned());
        let doors = control.doors(socket, config.grpc.socket.clone(), token, mutual)?;
        let serving = tokio::spawn(crate::grpc::serve(api, doors));
        let record = match (&folder, grpc.first()) {
            (Some(folder), Some(grpc)) => Some(record(folder, http.first(), *grpc)?),
            _ => None,
        };
        Ok(Self { config, http, grpc, store, supervisor, gateway, agent, stopped, serving, driving, record })
    }

    /// Tells whoever started the node where it serves: one line on standard output.
    pub fn say_ready(&self, mut out: impl Write) -> std::io::Result<()> {
        let list = |addresses: &[SocketAddr]| {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        write!(out, "ready")?;
        let served = [("http", &self.http.plain), ("https", &self.http.tls), ("grpc", &self.grpc)];
        for (name, addresses) in served {
            if !addresses.is_empty() {
                write!(out, " {name}={}", list(addresses))?;
            }
        }
        writeln!(out, " socket={}", self.config.grpc.socket.display())?;
        out.flush()
    }

    /// Returns when the control plane, or what drives rollouts, has ended by itself, which it must not.
    pub async fn failed(&mut self) -> anyhow::Error {
        let ended = tokio::select! {
            ended = &mut self.serving => ended.map(|ended| ended.err().map(anyhow::Error::new)),
            ended = &mut self.driving => ended.map(|()| None),
        };
        match ended {
            Ok(None) => anyhow::anyhow!("the control plane ended by itself"),
            Ok(Some(error)) => error.context("the control plane failed"),
            Err(error) => anyhow::Error::new(error).context("the control plane failed"),
        }
    }

    /// Takes the node down: requests in flight are finished within the config's drain deadline.
    pub async fn stop(self) -> anyhow::Result<()> {
        drop(self.record);
        self.stopped.cancel();
        if !self.serving.is_finished() {
            self.serving.await??;
        }
        if !self.driving.is_finished() {
            self.driving.await?;
        }
        let drained = self.gateway.drain(Instant::now() + self.config.http.drain_deadline).await;
        if drained != Drained::default() {
            let Drained { cut_off, crossed } = drained;
            tracing::warn!(
                cut_off,
                crossed,
                "some requests have no whole answer: they were cut off at the drain deadline, or came as their connection was closed"
            );
        }
        self.agent.end_swaps().await;
        self.agent.keep_all(KEPT_WITHIN).await;
        if self.config.mode == Mode::Dev {
            self.agent.stop_hosts(HOSTS_END).await;
            self.supervisor.end_spawn().await;
        }
        let store = self.store;
        crate::blocking(move || store.tidy(SystemTime::now())).await?;
        if let Err(error) = std::fs::remove_file(&self.config.grpc.socket) {
            tracing::debug!(%error, "the control socket stays behind");
        }
        Ok(())
    }
}

impl Control {
    fn bind(config: &Config) -> Result<Self, ListenError> {
        let tcp = config.grpc.listen.map(|address| listen::tcp(address, GRPC)).transpose()?;
        let with_tls = config.grpc.tls.iter().flat_map(|tls| &tls.listen);
        let with_tls = with_tls.map(|at| listen::tcp(*at, GRPC_TLS)).collect::<Result<_, _>>()?;
        Ok(Self { tcp, with_tls })
    }

    fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        self.tcp.iter().chain(&self.with_tls).map(TcpListener::local_addr).collect()
    }

    fn doors(
        self,
        socket: tokio::net::UnixListener,
        path: PathBuf,
        token: Option<String>,
        files: Option<TlsFiles>,
    ) -> std::io::Result<Doors> {
        let tcp = self.tcp.map(tokio::net::TcpListener::from_std).transpose()?.zip(token);
        let with_tls = self.with_tls.into_iter().map(tokio::net::TcpListener::from_std);
        let mutual = Some(with_tls.collect::<Result<_, _>>()?).zip(files);
        Ok(Doors { socket, path, tcp, mutual })
    }
}

impl Served {
    fn at(listeners: &Listeners) -> std::io::Result<Self> {
        let all = |listeners: &[TcpListener]| listeners.iter().map(TcpListener::local_addr).collect();
        let (plain, tls): (Result<_, _>, Result<_, _>) = (all(&listeners.plain), all(&listeners.tls));
        Ok(Self { plain: plain?, tls: tls? })
    }

    /// One of all, with its scheme where that is not the plain one.
    fn first(&self) -> String {
        let plain = self.plain.first().map(ToString::to_string);
        let tls = || self.tls.first().map(|address| format!("https://{address}"));
        plain.or_else(tls).unwrap_or_default()
    }
}

/// Ends when both have. What panics in one of them goes on here, at once.
fn both(one: JoinHandle<()>, other: Option<JoinHandle<()>>) -> JoinHandle<()> {
    let other = async move { if let Some(other) = other { other.await } else { Ok(()) } };
    tokio::spawn(async move {
        if let Err(error) = tokio::try_join!(one, other) {
            std::panic::resume_unwind(error.into_panic());
        }
    })
}

/// The files of TLS: of the gateway, and of callers with a certificate.
async fn open_tls(config: &Config) -> Result<[Option<TlsFiles>; 2], UnservedError> {
    let (http, grpc) = (config.http.tls.clone(), config.grpc.tls.clone());
    let open = |tls: Option<config::Tls>| tls.map(TlsFiles::open).transpose();
    crate::blocking(move || Ok([open(http)?, open(grpc)?])).await
}

/// The gateway, and whether it tells load balancers to go away: a node of a fleet goes on with that as when it ended.
async fn open_gateway(config: &Config, doors: &[Door]) -> Result<(Gateway, Option<Away>), StartError> {
    let gateway = Gateway::start(doors, config.http.gateway.clone())?;
    let (data_dir, own, in_fleet) = (config.data_dir.clone(), gateway.clone(), config.cluster.is_some());
    let away = crate::blocking(move || {
        if in_fleet {
            return Some(Away::open(&data_dir, own));
        }
        Away::forget(&data_dir);
        None
    });
    Ok((gateway, away.await))
}

/// The listeners with what is spoken at them.
fn doors(listeners: Listeners, tls: Option<&TlsFiles>) -> Vec<Door> {
    let Listeners { plain, tls: secure } = listeners;
    let server = tls.map(TlsFiles::server);
    let plain = plain.into_iter().map(|listener| Door { listener, tls: None });
    plain.chain(secure.into_iter().map(|listener| Door { listener, tls: server.clone() })).collect()
}

/// Bounds of the store, as far as the config has them. Whatever an artifact may be, several of the largest can be on their
/// way at once.
fn store_options(config: &config::Store) -> Options {
    let config::Store { keep, max_artifact, .. } = *config;
    let default = Options::default();
    let max_spool = default.max_spool.max(max_artifact.saturating_mul(LARGEST_AT_ONCE));
    Options { keep, max_artifact, max_spool, ..default }
}

/// The door for callers on this machine.
fn control_socket(config: &Config) -> Result<tokio::net::UnixListener, ListenError> {
    let (mode, setting) = match config.mode {
        Mode::Dev => (0o600, "choose another folder with --data-dir"),
        Mode::Service => (0o660, "choose another one in the config, [grpc] socket"),
    };
    listen::unix(&config.grpc.socket, mode, setting)
}

/// Lets `hotctl` find this dev node, and says so where it must be told from others.
fn record(folder: &DevFolder, http: String, grpc: SocketAddr) -> Result<Record, DevError> {
    let (record, others) = Record::write(folder, http, grpc.to_string())?;
    if !others.is_empty() {
        tracing::warn!(
            "{} more dev node(s) run here, so hotctl must be told which one is meant: this one is --node unix:{}",
            others.len(),
            folder.socket().display()
        );
    }
    Ok(record)
}

/// What this machine has for modules, as far as the operator allows it.
fn machine(config: &Config) -> hot_artifact::Node {
    let mut machine = hot_artifact::Node::native();
    if let Some(patterns) = &config.trust.libraries {
        machine.libraries = machine.libraries.only(patterns.clone());
    }
    machine
}

fn spawn_address(spawn: &Spawn) -> std::io::Result<SpawnAddress> {
    match spawn {
        Spawn::Socket(socket) => Ok(SpawnAddress::Socket(socket.clone())),
        Spawn::Own(socket) => SpawnAddress::dev(socket.clone()),
    }
}

/// Connects to hot-spawn, and says what hosts are to be held by.
async fn supervise(config: &Config) -> anyhow::Result<(Asked, Supervisor, Vec<Adopted>)> {
    let asked = Asked::by(config);
    if !asked.leave_out.is_empty() {
        tracing::warn!("by [sandbox] leave_out modules run without {}", quoted(asked.leave_out));
    }
    let (supervisor, adopted) =
        Supervisor::connect(spawn_address(&config.spawn)?, asked.sandbox(config)).await?;
    Ok((asked, supervisor, adopted))
}

fn bounds(config: &Config) -> ModuleBounds {
    let policy = config.policy.spec();
    let bound = |amount: usize| u32::try_from(amount).unwrap_or(u32::MAX);
    ModuleBounds {
        deadline: config.http.request_deadline,
        max_in_flight: bound(config.http.max_in_flight),
        max_waiting: bound(config.http.max_waiting),
        max_streams: bound(config.http.max_streams),
        start_deadline: policy.start_deadline.into(),
        health_interval: policy.health_interval.into(),
        health_threshold: policy.health_threshold,
        drain: config.http.drain_deadline,
    }
}

/// What the node says of itself.
fn about(config: &Config, http: &Served) -> About {
    About {
        node: config.node.clone(),
        since: SystemTime::now(),
        dev: config.mode == Mode::Dev,
        http: http.first(),
        missing: missing(config),
        start_deadline: bounds(config).start_deadline,
    }
}

/// What this node lacks of the full service, a sentence each; what its instances are held without is not for here.
fn missing(config: &Config) -> Vec<String> {
    let dev = "This is a dev node: it refuses no instance for what that is held without; push only modules that you trust.";
    (config.mode == Mode::Dev).then_some(dev).into_iter().map(str::to_owned).collect()
}

fn tell(recovered: &Recovered) {
    for moved in &recovered.moved_aside {
        let (what, to) = (&moved.what, moved.to.display());
        tracing::warn!(%what, %to, why = %moved.why, "something in the store was damaged and moved aside");
    }
    for lost in &recovered.lost {
        tracing::error!(%lost, "something in the store is lost");
    }
    tracing::info!(
        modules = recovered.modules,
        artifacts = recovered.artifacts,
        rollouts = recovered.rollouts,
        "the store is open"
    );
}

/// Reads anew what the operator changes, until the node stops.
fn watch_files(trust: &TrustFiles, tls: &[TlsFiles], journal: &Journal, stopped: &CancellationToken) {
    tokio::spawn(trust.clone().watch(journal.clone(), stopped.clone()));
    for tls in tls {
        tokio::spawn(tls.clone().watch(journal.clone(), stopped.clone()));
    }
}

/// After the driver: it renews what its rollouts gave out, which the agent's clock would else find expired.
fn set_clocks_going(agent: &Agent, driver: &Driver, of: OnCrashLoop, stopped: &CancellationToken) {
    tokio::spawn(agent.clone().run(stopped.clone()));
    tokio::spawn(driver.clone().watch_crash_loops(of, stopped.clone()));
}

/// What runs beside all else until the node stops.
fn keep_house(ledger: &Ledger, journal: &Journal, supervisor: &Supervisor, stopped: &CancellationToken) {
    tokio::spawn(note_presence(journal.clone(), supervisor.presence(), stopped.clone()));
    tokio::spawn(tidy(ledger.clone(), journal.clone(), stopped.clone()));
}

/// Writes down what a start found: damage in the store, and instances that run.
async fn note_start(journal: &Journal, recovered: &Recovered, adopted: &[Adopted]) {
    for moved in &recovered.moved_aside {
        let (what, to) = (&moved.what, moved.to.display());
        let text = format!("{what} in the store was damaged ({}) and moved aside to {to}", moved.why);
        journal.write(Entry { kind: "store.damaged", text, ..Entry::default() }).await;
    }
    for lost in &recovered.lost {
        let text = format!("the store has lost something: {lost}");
        journal.write(Entry { kind: "store.lost", text, ..Entry::default() }).await;
    }
    for Adopted { spec, .. } in adopted {
        let text = format!(
            "hotd took over the running instance {} of {} {} (release {})",
            spec.instance, spec.module, spec.version, spec.release
        );
        let module = spec.module.clone();
        journal.write(Entry { kind: "instance.adopted", module, text, ..Entry::default() }).await;
    }
}

/// Writes down each loss and return of hot-spawn until the node stops.
async fn note_presence(
    journal: Journal,
    mut presence: broadcast::Receiver<Presence>,
    stopped: CancellationToken,
) {
    loop {
        let heard = tokio::select! {
            () = stopped.cancelled() => return,
            heard = presence.recv() => heard,
        };
        let (kind, text) = match heard {
            Ok(Presence::Lost { hosts, text }) => {
                ("spawn.lost", format!("hot-spawn was lost, and {hosts} hosts with it: {text}"))
            }
            Ok(Presence::Back) => {
                ("spawn.back", "hot-spawn is there again; hosts are started anew".to_owned())
            }
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        journal.write(Entry { kind, text, ..Entry::default() }).await;
    }
}

/// Keeps the store in order until the node stops.
async fn tidy(ledger: Ledger, journal: Journal, stopped: CancellationToken) {
    loop {
        tokio::select! {
            () = stopped.cancelled() => return,
            () = tokio::time::sleep(TIDY) => {}
        }
        let (keep, ledger) = (ledger.store().keep(), ledger.clone());
        let gone = crate::blocking(move || {
            let protected: Protected = ledger.protected();
            let now = SystemTime::now();
            let Collected { gone, failed } = ledger.store().collect(&protected, crate::clock::of_day().0);
            if let Some(error) = failed {
                tracing::warn!(error = %crate::describe(&error), "old versions were not removed");
            }
            ledger.tidy();
            if let Err(error) = ledger.store().tidy(now) {
                tracing::warn!(error = %crate::describe(&error), "the history could not be tidied");
            }
            gone
        })
        .await;
        for (module, version) in gone {
            let text = format!(
                "{module} {version} was dropped: with `keep = {keep}` under [store] this node keeps so many versions of a \
                 module besides those in use, and newer ones came; the same file may be pushed again"
            );
            let module = module.to_string();
            journal.write(Entry { kind: "version.dropped", module, text, ..Entry::default() }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use hot_artifact::Sha256;

    use super::*;
    use crate::store::UploadError;

    /// The config lets it be 4 GiB.
    #[test]
    fn the_largest_artifact_finds_room_among_the_uploads() {
        let folder = tempfile::tempdir().unwrap();
        let store = |max_artifact| store_options(&config::Store { max_artifact, ..Default::default() });
        assert_eq!(store(4096).max_spool, Options::default().max_spool);
        let (largest, options) = (4 << 30, store(4 << 30));
        let (store, _) = Store::open(folder.path(), options).unwrap();
        let begun = store.begin_upload(Sha256::of(b""), largest);
        // The disk of the test may be too small.
        assert!(matches!(begun, Ok(_) | Err(UploadError::NoSpace { .. })), "{begun:?}");
        let (begun, largest) = (store.begin_upload(Sha256::of(b"x"), largest + 1), largest);
        assert!(matches!(begun, Err(UploadError::TooLarge { limit, .. }) if limit == largest), "{begun:?}");
    }
}
