//! The ports of a node: found free before anything is made, and kept with hot-spawn from one `hotd` to the next.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;

use crate::config::{Config, Mode};
use crate::grpc::listen::{self, ListenError};
use crate::supervisor::Supervisor;

/// What says where gRPC is served besides its socket.
pub(crate) const GRPC: &str = "--grpc";

/// Fails where a port can't be bound. With a hot-spawn there that says nothing: it keeps the listeners of the hotd before
/// this one, which may even run still, as the store will find.
pub(crate) fn find_ports_free(config: &Config) -> Result<(), ListenError> {
    // Of another kind than hot-spawn's socket is: one that is there says so, and no connection comes of it.
    let absent = UnixStream::connect(config.spawn.socket())
        .is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused));
    if !absent {
        return Ok(());
    }
    for address in &config.http.listen {
        listen::tcp(*address, http_setting(config.mode))?;
    }
    config.grpc.listen.map_or(Ok(()), |address| listen::tcp(address, GRPC).map(drop))
}

/// What says where HTTP is served.
const fn http_setting(mode: Mode) -> &'static str {
    match mode {
        Mode::Dev => "--http",
        Mode::Service => "[http] listen",
    }
}

/// The listeners that hot-spawn kept from a hotd before this one, as far as they are still wanted, and new ones that
/// it keeps from now on: what waits in their backlogs outlives any hotd.
pub(crate) async fn open(config: &Config, supervisor: &Supervisor) -> anyhow::Result<Vec<TcpListener>> {
    let wanted = &config.http.listen;
    let mut kept = BTreeMap::new();
    for (name, listener) in supervisor.kept_listeners().await? {
        let listener = TcpListener::from(listener);
        kept.insert(listener.local_addr()?, (name, listener));
    }
    let mut listeners = Vec::new();
    for address in wanted {
        let found = kept_for(*address, wanted, kept.keys());
        let listener = match found.and_then(|found| kept.remove(&found)) {
            Some((_, listener)) => listener,
            None => {
                let listener = listen::tcp(*address, http_setting(config.mode))?;
                supervisor.keep_listener(&format!("http {}", listener.local_addr()?), &listener).await?;
                listener
            }
        };
        listener.set_nonblocking(true)?;
        listeners.push(listener);
    }
    for (name, _) in kept.values() {
        supervisor.forget_listener(name).await;
    }
    Ok(listeners)
}

/// Which of the kept listeners serves `address`: the one that is bound to it; for port 0, any on that IP address that
/// nothing else in the config names, so that a hotd that comes back has the port that it had.
fn kept_for<'a>(
    address: SocketAddr,
    wanted: &[SocketAddr],
    mut kept: impl Iterator<Item = &'a SocketAddr>,
) -> Option<SocketAddr> {
    kept.find(|bound| match address.port() {
        0 => bound.ip() == address.ip() && !wanted.contains(bound),
        _ => **bound == address,
    })
    .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_listener_serves_the_address_it_is_bound_to() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let kept = [at("10.0.0.1:80"), at("127.0.0.1:4000"), at("127.0.0.1:4001")];
        let found = |address: &str, wanted: &[SocketAddr]| kept_for(at(address), wanted, kept.iter());
        assert_eq!(found("127.0.0.1:4001", &[at("127.0.0.1:4001")]), Some(kept[2]));
        assert_eq!(found("127.0.0.1:80", &[at("127.0.0.1:80")]), None);
        assert_eq!(found("127.0.0.1:0", &[at("127.0.0.1:0")]), Some(kept[1]));
        assert_eq!(found("127.0.0.1:0", &[at("127.0.0.1:4000"), at("127.0.0.1:0")]), Some(kept[2]));
        assert_eq!(found("10.0.0.2:0", &[at("10.0.0.2:0")]), None);
    }
}
