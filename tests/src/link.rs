//! A stretch of network between two programs that a test can cut, stall, slow down and make lose packets: a TCP proxy on
//! loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Bytes that travel at once.
const PIECE: usize = 16 * 1024;
/// Pieces that may be on their way: 4 MiB, what a line of 40 MiB/s holds over 100 ms.
const ON_THE_WAY: usize = 256;
/// How much later a piece arrives that was lost and is sent once more, and all that is behind it: the least time-out of
/// TCP on Linux, and a little.
const LOST: Duration = Duration::from_millis(250);

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// They arrive.
    Carries(Line),
    /// They arrive until somebody sends this, and from then on they stall.
    StallsAt(&'static [u8]),
    /// They arrive when it carries again.
    Stalls,
    /// What is asked arrives, and answers when it carries again.
    Hushes,
    /// Connections break, and none can be made.
    Cut,
}

/// How bytes arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Line {
    /// So much later.
    delay: Duration,
    /// Of a hundred pieces so many are lost at first.
    lost: u32,
    /// No more than so many bytes of answers in a second; 0: as many as there are.
    rate: u32,
}

/// A link to one address. It is gone when this is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    to: watch::Sender<Option<SocketAddr>>,
    answered: Arc<AtomicU64>,
    /// There until the end.
    runtime: Option<Runtime>,
}

impl Link {
    /// A link that leads to `to`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn to(to: SocketAddr) -> Result<Self> {
        let link = Self::open()?;
        link.lead(to);
        Ok(link)
    }

    /// A link that leads nowhere yet: whoever connects waits until it does.
    ///
    /// # Errors
    /// When no port is free.
    pub fn open() -> Result<Self> {
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
        let state = Arc::new(watch::Sender::new(State::Carries(Line::default())));
        let (to, leads) = watch::channel(None);
        let answered = Arc::<AtomicU64>::default();
        runtime.spawn(serve(listener, leads, Arc::clone(&state), Arc::clone(&answered)));
        Ok(Self { address, state, to, answered, runtime: Some(runtime) })
    }

    /// Leads there from now on; connections that are there stay as they are.
    pub fn lead(&self, to: SocketAddr) {
        self.to.send_replace(Some(to));
    }

    /// Where to connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that have come in so far of what whoever it leads to has sent, whether or not they arrived.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Breaks all connections, and refuses others.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Keeps connections, and lets nothing arrive.
    pub fn stall(&self) {
        self.state.send_replace(State::Stalls);
    }

    /// Keeps connections, and lets nothing arrive from the moment on at which somebody sends these bytes.
    pub fn stall_at(&self, sent: &'static [u8]) {
        self.state.send_replace(State::StallsAt(sent));
    }

    /// Whether nothing arrives.
    pub fn stalls(&self) -> bool {
        *self.state.borrow() == State::Stalls
    }

    /// Keeps connections, and lets no answer arrive.
    pub fn hush(&self) {
        self.state.send_replace(State::Hushes);
    }

    /// Lets everything arrive, so much later.
    pub fn slow(&self, by: Duration) {
        self.carry(Line { delay: by, ..Line::default() });
    }

    /// Lets everything arrive, so much later; of a hundred pieces so many are lost at first, always the same ones. A proxy
    /// can lose nothing, so what it would lose arrives as late as what TCP sends once more.
    pub fn lose(&self, delay: Duration, lost: u32) {
        self.carry(Line { delay, lost, rate: 0 });
    }

    /// Lets no more than so many bytes of answers arrive in a second.
    pub fn narrow(&self, rate: u32) {
        self.carry(Line { rate, ..Line::default() });
    }

    /// Lets everything arrive.
    pub fn mend(&self) {
        self.carry(Line::default());
    }

    fn carry(&self, line: Line) {
        self.state.send_replace(State::Carries(line));
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

async fn serve(
    listener: TcpListener,
    to: watch::Receiver<Option<SocketAddr>>,
    state: Arc<watch::Sender<State>>,
    answered: Arc<AtomicU64>,
) {
    for number in 0_u64.. {
        let Ok((near, _)) = listener.accept().await else { continue };
        if *state.borrow() != State::Cut {
            tokio::spawn(join(number, near, to.clone(), Arc::clone(&state), Arc::clone(&answered)));
        }
    }
}

async fn join(
    number: u64,
    near: TcpStream,
    mut to: watch::Receiver<Option<SocketAddr>>,
    state: Arc<watch::Sender<State>>,
    answered: Arc<AtomicU64>,
) {
    let Ok(Some(to)) = to.wait_for(Option::is_some).await.map(|to| *to) else { return };
    let Ok(far) = TcpStream::connect(to).await else { return };
    let (near_reads, near_writes) = near.into_split();
    let (far_reads, far_writes) = far.into_split();
    let mut states = state.subscribe();
    let there = carry(near_reads, far_writes, &state, None, 2 * number);
    let back = carry(far_reads, near_writes, &state, Some(&*answered), 2 * number + 1);
    tokio::select! {
        _ = states.wait_for(|state| *state == State::Cut) => {}
        _ = async { tokio::join!(there, back) } => {}
    }
}

/// Carries what is sent one way, `counted` where that is the way of answers.
async fn carry(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    state: &watch::Sender<State>,
    counted: Option<&AtomicU64>,
    seed: u64,
) {
    let (sender, pieces) = mpsc::channel(ON_THE_WAY);
    let is_answer = counted.is_some();
    tokio::join!(send(from, sender, state, counted, seed), arrive(to, pieces, state, is_answer));
}

/// Takes pieces, each with the time at which it arrives.
async fn send(
    mut from: OwnedReadHalf,
    pieces: mpsc::Sender<(Instant, Vec<u8>)>,
    state: &watch::Sender<State>,
    counted: Option<&AtomicU64>,
    seed: u64,
) {
    let (mut random, mut last) = (SmallRng::seed_from_u64(seed), Instant::now());
    loop {
        let mut piece = vec![0; PIECE];
        let read = from.read(&mut piece).await.unwrap_or(0);
        piece.truncate(read);
        if let Some(counted) = counted {
            counted.fetch_add(read as u64, Ordering::Relaxed);
        }
        let line = match *state.borrow() {
            State::Carries(line) => line,
            State::StallsAt(_) | State::Stalls | State::Hushes | State::Cut => Line::default(),
        };
        let is_lost = random.random_range(0..100) < line.lost;
        let late = if is_lost { LOST } else { Duration::ZERO };
        // In order: what is behind a lost one waits for it.
        last = last.max(Instant::now() + line.delay + late);
        if pieces.send((last, piece)).await.is_err() || read == 0 {
            return;
        }
    }
}

/// Lets pieces arrive at their time, as far as the link carries. An empty one is the end.
async fn arrive(
    mut to: OwnedWriteHalf,
    mut pieces: mpsc::Receiver<(Instant, Vec<u8>)>,
    state: &watch::Sender<State>,
    is_answer: bool,
) {
    let mut states = state.subscribe();
    while let Some((at, piece)) = pieces.recv().await {
        tokio::time::sleep_until(at).await;
        let is_it = |sent: &[u8]| !is_answer && piece.windows(sent.len()).any(|bytes| bytes == sent);
        state.send_if_modified(|state| {
            let stalls = matches!(state, State::StallsAt(sent) if is_it(sent));
            if stalls {
                *state = State::Stalls;
            }
            stalls
        });
        let waits = |state: &State| *state == State::Stalls || (is_answer && *state == State::Hushes);
        let carries = states.wait_for(|state| !waits(state)).await.map(|state| *state);
        if piece.is_empty() || to.write_all(&piece).await.is_err() {
            return;
        }
        if let Ok(State::Carries(Line { rate, .. })) = carries
            && rate > 0
            && is_answer
        {
            let took = Duration::from_secs_f64(piece.len() as f64 / f64::from(rate));
            tokio::time::sleep(took).await;
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
        link.stall_at(b"ok");
        client.write_all(b"this")?;
        served.read_exact(&mut bytes)?;
        assert!(&bytes == b"this" && !link.stalls());
        client.write_all(b"loko")?;
        served.set_read_timeout(Some(Duration::from_millis(50)))?;
        assert!(served.read_exact(&mut bytes).is_err() && link.stalls(), "from here on nothing arrives");
        link.mend();
        served.set_read_timeout(None)?;
        served.read_exact(&mut bytes)?;
        assert_eq!(&bytes, b"loko");
        link.hush();
        client.write_all(b"asks")?;
        served.read_exact(&mut bytes)?;
        assert_eq!(&bytes, b"asks", "what is asked arrives");
        served.write_all(b"answer")?;
        client.set_read_timeout(Some(Duration::from_millis(50)))?;
        assert!(client.read(&mut bytes).is_err(), "and no answer");
        client.set_read_timeout(None)?;
        link.lose(Duration::from_millis(5), 100);
        client.read_exact(&mut bytes)?;
        assert_eq!(&bytes, b"answ", "late, and all of it");
        client.read_exact(&mut bytes[..2])?;
        assert_eq!(link.answered(), 6);
        link.cut();
        assert_eq!(client.read(&mut bytes).unwrap_or(0), 0);
        let mut refused = TcpStream::connect(link.address())?;
        assert_eq!(refused.read(&mut bytes).unwrap_or(0), 0);
        Ok(())
    }
}
