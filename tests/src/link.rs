//! A stretch of network between two programs that a test can cut, stall and slow down: a TCP proxy on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Bytes that travel at once.
const PIECE: usize = 16 * 1024;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// They arrive, so much later.
    Carries(Duration),
    /// They arrive when it carries again.
    Stalls,
    /// Connections break, and none can be made.
    Cut,
}

/// A link to one address. It is gone when this is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    state: watch::Sender<State>,
    /// There until the end.
    runtime: Option<Runtime>,
}

impl Link {
    /// A link that leads to `to`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn to(to: SocketAddr) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("a runtime for a link")?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("a port for a link")?;
        listener.set_nonblocking(true).context("a port for a link")?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener).context("a port for a link")?
        };
        let address = listener.local_addr().context("its port")?;
        let (state, seen) = watch::channel(State::Carries(Duration::ZERO));
        runtime.spawn(serve(listener, to, seen));
        Ok(Self { address, state, runtime: Some(runtime) })
    }

    /// Where to connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections, and refuses others.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Keeps connections, and lets nothing arrive.
    pub fn stall(&self) {
        self.state.send_replace(State::Stalls);
    }

    /// Lets everything arrive, so much later.
    pub fn slow(&self, by: Duration) {
        self.state.send_replace(State::Carries(by));
    }

    /// Lets everything arrive.
    pub fn mend(&self) {
        self.slow(Duration::ZERO);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A test may be on a runtime of its own, which must not wait for this one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, to: SocketAddr, state: watch::Receiver<State>) {
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        if *state.borrow() != State::Cut {
            tokio::spawn(join(near, to, state.clone()));
        }
    }
}

async fn join(near: TcpStream, to: SocketAddr, mut state: watch::Receiver<State>) {
    let Ok(far) = TcpStream::connect(to).await else { return };
    let (near_reads, near_writes) = near.into_split();
    let (far_reads, far_writes) = far.into_split();
    let there = carry(near_reads, far_writes, state.clone());
    let back = carry(far_reads, near_writes, state.clone());
    tokio::select! {
        _ = state.wait_for(|state| *state == State::Cut) => {}
        _ = async { tokio::join!(there, back) } => {}
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await.unwrap_or(0);
        let carries = state.wait_for(|state| *state != State::Stalls).await.map(|state| *state);
        if let Ok(State::Carries(by)) = carries
            && !by.is_zero()
        {
            tokio::time::sleep(by).await;
        }
        if read == 0 || to.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_link_carries_until_it_is_cut() -> Result<()> {
        let server = TcpListener::bind("127.0.0.1:0")?;
        let link = Link::to(server.local_addr()?)?;
        let mut client = TcpStream::connect(link.address())?;
        let (mut served, _) = server.accept()?;
        client.write_all(b"ping")?;
        let mut bytes = [0; 4];
        served.read_exact(&mut bytes)?;
        assert_eq!(&bytes, b"ping");
        link.stall();
        client.write_all(b"late")?;
        served.set_read_timeout(Some(Duration::from_millis(50)))?;
        assert!(served.read_exact(&mut bytes).is_err(), "nothing arrives");
        link.mend();
        served.set_read_timeout(None)?;
        served.read_exact(&mut bytes)?;
        assert_eq!(&bytes, b"late");
        link.cut();
        assert_eq!(client.read(&mut bytes).unwrap_or(0), 0);
        let mut refused = TcpStream::connect(link.address())?;
        assert_eq!(refused.read(&mut bytes).unwrap_or(0), 0);
        Ok(())
    }
}
