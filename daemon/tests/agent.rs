//! Agent and driver with a real store, gateway and hot-spawn, and disks and records that only a test can have.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use hot_artifact::trust::ModuleRules;
use hot_rollout::{
    Assignment, Candidate, Direction, FastLimits, Millis, Module, Node, Policy, ReleaseNumber, Revision,
    RolloutId, Weight,
};
use hotd::agent::{Agent, ModuleBounds, Parts};
use hotd::cluster::{Cluster, Local};
use hotd::config;
use hotd::driver::{self, Driver};
use hotd::gateway::{Door, Gateway, GatewayConfig};
use hotd::isolation::Asked;
use hotd::journal::Journal;
use hotd::ledger::{Ledger, Obeyed};
use hotd::store::{Options, Store};
use hotd::supervisor::{Sandbox, SpawnAddress, Supervisor};
use hotd::trust::TrustFiles;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Longer than anything takes on a machine that is busy with something else.
const DEADLINE: Duration = Duration::from_secs(30);

const BOUNDS: ModuleBounds = ModuleBounds {
    deadline: DEADLINE,
    max_in_flight: 1,
    max_waiting: 1,
    max_streams: 1,
    start_deadline: DEADLINE,
    health_interval: DEADLINE,
    health_threshold: 1,
    drain: DEADLINE,
};

/// The folder of one hot-spawn.
struct Folder(tempfile::TempDir);

impl Drop for Folder {
    /// Waits for hot-spawn to end, which it does soon after the connection of its hotd.
    fn drop(&mut self) {
        let lock = std::fs::File::open(self.0.path().join("spawn.sock.lock")).unwrap();
        let (done, waited) = mpsc::channel();
        std::thread::spawn(move || {
            lock.lock().unwrap();
            done.send(()).unwrap();
        });
        waited.recv_timeout(DEADLINE).unwrap();
    }
}

/// What runs on a node, as far as it is needed here.
struct Rooms {
    agent: Agent,
    ledger: Ledger,
    trust: TrustFiles,
    journal: Journal,
}

async fn rooms(folder: &Path) -> Rooms {
    let (store, _) = Store::open(&folder.join("data"), Options::default()).unwrap();
    let signers = folder.join("allowed_signers");
    std::fs::write(&signers, "").unwrap();
    let trust = config::Trust {
        allowed_signers: signers,
        revoked: None,
        modules: ModuleRules::default(),
        libraries: None,
    };
    let binary = Path::new(env!("CARGO_BIN_EXE_hotd")).with_file_name("hot-spawn");
    assert!(binary.exists(), "{} is not there: run `cargo build --workspace --bins` first", binary.display());
    let arguments = ["--dev-grace-ms", "300", "--stop-grace-ms", "100"].map(String::from).into();
    let address = SpawnAddress::Dev { socket: folder.join("spawn.sock"), binary, arguments };
    let (supervisor, _) = Supervisor::connect(address, Sandbox::default()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let gateway = GatewayConfig { threads: 1, ..GatewayConfig::default() };
    let ledger = Ledger::new(store.clone(), Arc::new(hot_artifact::Node::native()));
    let trust = TrustFiles::open(trust, &folder.join("data")).unwrap();
    let journal = Journal::new(store);
    let (agent, _reports) = Agent::new(Parts {
        node: Node("web-1".to_owned()),
        ledger: ledger.clone(),
        trust: trust.clone(),
        supervisor,
        gateway: Gateway::start(&[Door { listener, tls: None }], gateway).unwrap(),
        journal: journal.clone(),
        bounds: BOUNDS,
        asked: Asked::default(),
        max_artifact: 1 << 20,
    });
    Rooms { agent, ledger, trust, journal }
}

fn candidate() -> Candidate {
    Candidate {
        release: ReleaseNumber(2),
        weight: Weight::percent(10),
        limits: FastLimits::of(&Policy::default()),
        expiry: Millis::seconds(600),
    }
}

#[test]
fn a_take_back_that_could_not_be_written_is_written_when_it_can_be() {
    let folder = Folder(tempfile::tempdir().unwrap());
    // One thread: what the agent does by and by is done when the test waits, and not before.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(taken_back_without_a_disk(folder.0.path()));
}

async fn taken_back_without_a_disk(folder: &Path) {
    // The space that is reserved for going toward stable is not there either.
    std::fs::create_dir_all(folder.join("data")).unwrap();
    std::os::unix::fs::symlink(folder.join("full/reserve"), folder.join("data/reserve")).unwrap();
    let Rooms { agent, ledger, .. } = rooms(folder).await;
    let module = Module("greeter".to_owned());
    let given = Assignment {
        module: module.clone(),
        revision: Revision(5),
        rollout: "r1".into(),
        stable: Some(ReleaseNumber(1)),
        candidate: Some(candidate()),
        standby: None,
    };
    agent.obey(given.clone(), Direction::Onward).await.unwrap();
    let on_disk = || ledger.obeyed().pop().unwrap();
    assert_eq!(on_disk(), Obeyed::whole(given));

    let (modules, away) = (folder.join("data/modules"), folder.join("away"));
    std::fs::rename(&modules, &away).unwrap();
    // The ledger has no such candidate, so it went back as soon as it was to start.
    assert!(agent.turn_back(&module, None, "ada").is_none(), "it is still there");
    // The write that this has ordered is begun first, and fails; and so does this one.
    tokio::task::yield_now().await;
    assert!(agent.obey(stable_only(&module), Direction::TowardStable).await.is_err());
    assert!(on_disk().took_back.is_none(), "it was written nevertheless");

    std::fs::rename(&away, &modules).unwrap();
    let stopped = CancellationToken::new();
    let mut changes = agent.changes();
    tokio::spawn(agent.clone().run(stopped.clone()));
    let written = tokio::time::timeout(DEADLINE, async {
        while on_disk().took_back.is_none() {
            changes.changed().await.unwrap();
        }
        on_disk()
    });
    let Obeyed { assignment, took_back, .. } = written.await.unwrap();
    assert_eq!((assignment.stable, assignment.candidate), (Some(ReleaseNumber(1)), None));
    assert_eq!(took_back.unwrap().revision, Revision(5));
    stopped.cancel();
}

#[test]
fn what_was_only_ordered_to_be_written_is_on_disk_before_the_end() {
    let folder = Folder(tempfile::tempdir().unwrap());
    // One thread: what the agent does by and by is not begun before the test waits.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Rooms { agent, ledger, .. } = rooms(folder.0.path()).await;
        let given = Assignment {
            module: Module("greeter".to_owned()),
            revision: Revision(5),
            rollout: "r1".into(),
            stable: Some(ReleaseNumber(1)),
            candidate: Some(candidate()),
            standby: None,
        };
        // The ledger has no such candidate, so it went back as soon as it was to start.
        agent.obey(given, Direction::Onward).await.unwrap();
        let took_back = || ledger.obeyed().pop().unwrap().took_back;
        assert!(took_back().is_none(), "it is written already");
        agent.keep_all(DEADLINE).await;
        assert_eq!(took_back().unwrap().revision, Revision(5));
    });
}

/// Older than what the agent has, so that it changes nothing but asks for a write.
fn stable_only(module: &Module) -> Assignment {
    Assignment {
        module: module.clone(),
        revision: Revision(4),
        rollout: "r0".into(),
        stable: Some(ReleaseNumber(1)),
        candidate: None,
        standby: None,
    }
}

#[test]
fn a_rollout_that_can_not_be_read_is_left_alone_and_said() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(left_alone(folder.0.path()));
}

async fn left_alone(folder: &Path) {
    let Rooms { agent, ledger, trust, journal } = rooms(folder).await;
    let (node, id) = (Node("web-1".to_owned()), RolloutId::from("r1"));
    let newer = json!({ "meta": { "updated": 1 }, "machine": { "format": 2, "id": "r1", "rollout": { "is": "other" } } });
    ledger.put_rollout(&id, "", newer.clone(), Direction::Onward).unwrap();
    let parts = driver::Parts {
        node: node.clone(),
        ledger: ledger.clone(),
        cluster: Cluster::Local(Local::new(node, agent.clone(), ledger.clone())),
        policy: Policy::default(),
        agent,
        trust,
        journal: journal.clone(),
    };
    let mut told = journal.follow();
    let (_reports, receiver) = tokio::sync::mpsc::channel(1);
    let stopped = CancellationToken::new();
    let (_driver, driving) = Driver::start(parts, receiver, stopped.clone()).await;
    let event = told.try_recv().unwrap().event;
    assert_eq!(event.kind, "rollout.left_alone");
    assert!(event.text.contains("rollout r1 is in format 2"), "{}", event.text);
    stopped.cancel();
    driving.await.unwrap();
    assert_eq!(ledger.running_rollouts(), [(id, newer)], "a hotd that can read it finds it as it was");
}
