//! A gateway on a port of its own, and tables for it.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use hot_wire::host::Features;
use hotd::gateway::{Backend, Counters, Door, Gateway, GatewayConfig, ModuleTable, Role, Table};
use hotd::supervisor::InstanceId;

use crate::client::{Client, Response};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const A: InstanceId = InstanceId(1);
pub(crate) const B: InstanceId = InstanceId(2);

pub(crate) struct Rig {
    pub(crate) gateway: Gateway,
    pub(crate) address: SocketAddr,
    door: Door,
}

impl Rig {
    pub(crate) fn new(threads: usize) -> Self {
        Self::with(GatewayConfig { threads, ..GatewayConfig::default() })
    }

    pub(crate) fn with(config: GatewayConfig) -> Self {
        Self::behind(door(), config)
    }

    /// The next gateway, behind the same door.
    pub(crate) fn followed_by(self, config: GatewayConfig) -> Self {
        Self::behind(self.door, config)
    }

    pub(crate) fn behind(door: Door, config: GatewayConfig) -> Self {
        let address = door.listener.local_addr().expect("a bound listener has an address");
        let gateway = Gateway::start(std::slice::from_ref(&door), config).expect("the gateway starts");
        Self { gateway, address, door }
    }

    pub(crate) fn attach(&self, instance: InstanceId, links: Vec<UnixStream>) {
        self.gateway.attach(instance, links, Features::ALL).expect("a link for each thread");
    }

    /// Serves one module under `/`.
    pub(crate) fn serve(&self, backends: Vec<Backend>) {
        self.gateway.publish(Table { modules: vec![module(backends)] });
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.client().get(path)
    }

    /// An instance's numbers once they are as expected.
    pub(crate) fn counters_when(
        &self,
        instance: InstanceId,
        expected: impl Fn(&Counters) -> bool,
    ) -> Counters {
        let until = Instant::now() + PATIENCE;
        loop {
            let counters = self.gateway.counters(instance);
            if expected(&counters) {
                return counters;
            }
            assert!(Instant::now() < until, "the numbers stay at {counters:?}");
            std::thread::yield_now();
        }
    }
}

/// A port without TLS.
pub(crate) fn door() -> Door {
    Door { listener: TcpListener::bind("127.0.0.1:0").expect("a free port"), tls: None }
}

pub(crate) fn module(backends: Vec<Backend>) -> ModuleTable {
    ModuleTable {
        module: "greeter".to_owned(),
        deadline: PATIENCE,
        max_in_flight: 1_000,
        max_waiting: 1_000,
        max_streams: 1_000,
        backends,
    }
}

pub(crate) fn stable(instance: InstanceId, weight: u16) -> Backend {
    backend(instance, Role::Stable, weight)
}

pub(crate) fn candidate(instance: InstanceId, weight: u16) -> Backend {
    backend(instance, Role::Candidate, weight)
}

fn backend(instance: InstanceId, role: Role, weight: u16) -> Backend {
    Backend {
        instance,
        release: instance.0,
        version: format!("1.{}.0", instance.0),
        role,
        weight,
        routes: vec!["/".to_owned()],
    }
}
