//! The ports of a node: found free before anything is made, and kept with hot-spawn from one `hotd` to the next.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;

use crate::config::{Config, Mode};
use crate::grpc::listen::{self, ListenError};
use crate::supervisor::Supervisor;

/// What says where gRPC is served besides its socket, on a dev node.
pub(crate) const GRPC: &str = "--grpc";

/// The same of a service.
pub(crate) const GRPC_TLS: &str = "[grpc.tls] listen";

/// Where HTTP is served, as it is bound.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) plain: Vec<TcpListener>,
    pub(crate) tls: Vec<TcpListener>,
}

/// How HTTP is spoken somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Plain,
    Tls,
}

impl Spoken {
    /// What the listeners are named by that hot-spawn keeps, before their address.
    const fn scheme(self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls => "https",
        }
    }

    /// What says where that is.
    const fn setting(self, mode: Mode) -> &'static str {
        match (self, mode) {
            (_, Mode::Dev) => "--http",
            (Self::Plain, Mode::Service) => "[http] listen",
            (Self::Tls, Mode::Service) => "[http.tls] listen",
        }
    }
}

/// All that the config asks for.
fn wanted(config: &Config) -> Vec<(Spoken, SocketAddr)> {
    let plain = config.http.listen.iter().map(|address| (Spoken::Plain, *address));
    let tls = config.http.tls.iter().flat_map(|tls| &tls.listen).map(|address| (Spoken::Tls, *address));
    plain.chain(tls).collect()
}

/// Fails where a port can't be bound. With a hot-spawn there that says nothing: it keeps the listeners of the hotd before
/// this one, which may even run still, as the store will find.
pub(crate) fn find_ports_free(config: &Config) -> Result<(), ListenError> {
    // Of another kind than hot-spawn's socket is: one that is there says so, and no connection comes of it.
    let absent = UnixStream::connect(config.spawn.socket())
        .is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused));
    if !absent {
        return Ok(());
    }
    for (spoken, address) in wanted(config) {
        listen::tcp(address, spoken.setting(config.mode))?;
    }
    for (setting, address) in control(config) {
        listen::tcp(address, setting)?;
    }
    Ok(())
}

/// Where gRPC is asked for besides its socket, and what says so.
fn control(config: &Config) -> impl Iterator<Item = (&'static str, SocketAddr)> {
    let with_tls = config.grpc.tls.iter().flat_map(|tls| &tls.listen);
    config.grpc.listen.map(|address| (GRPC, address)).into_iter().chain(with_tls.map(|at| (GRPC_TLS, *at)))
}

/// The listeners that hot-spawn kept from a hotd before this one, as far as they are still wanted, and new ones that
/// it keeps from now on: what waits in their backlogs outlives any hotd.
pub(crate) async fn open(config: &Config, supervisor: &Supervisor) -> anyhow::Result<Listeners> {
    let all = wanted(config);
    let addresses: Vec<SocketAddr> = all.iter().map(|(_, address)| *address).collect();
    let mut kept = BTreeMap::new();
    for (name, listener) in supervisor.kept_listeners().await? {
        let listener = TcpListener::from(listener);
        // A hotd that was killed between two names for one listener left both.
        if let Some((other, _)) = kept.insert(listener.local_addr()?, (name, listener)) {
            supervisor.forget_listener(&other).await;
        }
    }
    let mut listeners = Listeners { plain: Vec::new(), tls: Vec::new() };
    for (spoken, address) in all {
        let found =
            kept_for((spoken, address), &addresses, kept.iter().map(|(at, (name, _))| (*at, &**name)));
        let (before, listener) = match found.and_then(|found| kept.remove(&found)) {
            Some((name, listener)) => (Some(name), listener),
            None => (None, listen::tcp(address, spoken.setting(config.mode))?),
        };
        let name = format!("{} {}", spoken.scheme(), listener.local_addr()?);
        if before.as_ref() != Some(&name) {
            supervisor.keep_listener(&name, &listener).await?;
        }
        // What was spoken there is another thing now.
        if let Some(before) = before.filter(|before| *before != name) {
            supervisor.forget_listener(&before).await;
        }
        listener.set_nonblocking(true)?;
        match spoken {
            Spoken::Plain => listeners.plain.push(listener),
            Spoken::Tls => listeners.tls.push(listener),
        }
    }
    for (name, _) in kept.values() {
        supervisor.forget_listener(name).await;
    }
    Ok(listeners)
}

/// Which of the kept listeners, with their names, serves an address: the one that is bound to it; for port 0, any on that IP
/// address at which the same is spoken and that nothing else in the config names, so that a hotd that comes back has the
/// ports that it had.
fn kept_for<'a>(
    (spoken, address): (Spoken, SocketAddr),
    wanted: &[SocketAddr],
    mut kept: impl Iterator<Item = (SocketAddr, &'a str)>,
) -> Option<SocketAddr> {
    let is_same = |name: &str| name.split(' ').next() == Some(spoken.scheme());
    let found = kept.find(|(bound, name)| match address.port() {
        0 => bound.ip() == address.ip() && is_same(name) && !wanted.contains(bound),
        _ => *bound == address,
    });
    found.map(|(bound, _)| bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_listener_serves_the_address_it_is_bound_to() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let kept = [
            (at("10.0.0.1:80"), "http 10.0.0.1:80"),
            (at("127.0.0.1:4000"), "http 127.0.0.1:4000"),
            (at("127.0.0.1:4001"), "http 127.0.0.1:4001"),
            (at("127.0.0.1:4002"), "https 127.0.0.1:4002"),
        ];
        let found = |spoken, address: &str, wanted: &[SocketAddr]| {
            kept_for((spoken, at(address)), wanted, kept.into_iter()).map(|found| found.port())
        };
        let plain = |address: &str, wanted: &[SocketAddr]| found(Spoken::Plain, address, wanted);
        assert_eq!(plain("127.0.0.1:4001", &[at("127.0.0.1:4001")]), Some(4001));
        assert_eq!(plain("127.0.0.1:80", &[at("127.0.0.1:80")]), None);
        assert_eq!(plain("127.0.0.1:0", &[at("127.0.0.1:0")]), Some(4000));
        assert_eq!(plain("127.0.0.1:0", &[at("127.0.0.1:4000"), at("127.0.0.1:0")]), Some(4001));
        assert_eq!(plain("10.0.0.2:0", &[at("10.0.0.2:0")]), None);
        // Any port is one at which the same was spoken; a port that is said may change over.
        assert_eq!(found(Spoken::Tls, "127.0.0.1:0", &[at("127.0.0.1:0")]), Some(4002));
        assert_eq!(found(Spoken::Tls, "127.0.0.1:4000", &[at("127.0.0.1:4000")]), Some(4000));
    }
}
