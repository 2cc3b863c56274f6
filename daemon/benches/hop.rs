//! What the hop costs: a plain hyper server against the gateway with a host that does nothing, in interleaved pairs.
//!
//! ```text
//! cargo bench -p hotd --bench hop                          10 pairs of 2 s, 64 connections, 1 KiB
//! cargo bench -p hotd --bench hop -- 20 3 64               pairs, seconds, connections
//! ```
//!
//! Both servers, the host included, are pinned to the first core and the load to the last. Besides the ratio of
//! throughputs the CPU time per request is compared: on a machine with other work it is the steadier of the two. The
//! processes are this program itself, called with the name of a role.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a report is what this program is for")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hot_wire::data::{self, Decoder, FromGateway};
use hot_wire::host::Features;
use hotd::gateway::{Backend, Gateway, GatewayConfig, ModuleTable, Role, Table};
use hotd::supervisor::InstanceId;
use http_body_util::Full;
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The body of every response.
static BODY: [u8; 1024] = [b'x'; 1024];
const CONTENT_TYPE: &str = "application/octet-stream";

fn main() -> Result<()> {
    // Cargo adds `--bench` at the end.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["plain"] => plain(),
        ["gateway"] => gateway(),
        ["host"] => host(),
        ["load", address, seconds, connections] => {
            load(address.parse()?, Duration::from_secs_f64(seconds.parse()?), connections.parse()?)
        }
        [] => compare(10, 2.0, 64),
        [pairs, seconds, connections] => compare(pairs.parse()?, seconds.parse()?, connections.parse()?),
        _ => bail!("expected nothing, or: PAIRS SECONDS CONNECTIONS"),
    }
}

/// Runs the pairs and prints what they show.
fn compare(pairs: usize, seconds: f64, connections: usize) -> Result<()> {
    let plain = Server::start("plain")?;
    let hop = Server::start("gateway")?;
    for server in [&plain, &hop] {
        server.load(0.5, connections)?;
    }
    let mut throughput = Vec::new();
    let mut cpu = Vec::new();
    let mut added = Vec::new();
    println!("plain hyper against gateway and host, {connections} connections, {seconds} s each");
    println!("     plain/s      hop/s  ratio | us CPU: plain   hop  ratio | us p50: plain    hop");
    for pair in 0..pairs {
        // Whatever changes slowly weighs on both alike.
        let (a, b) = if pair % 2 == 0 {
            let a = plain.load(seconds, connections)?;
            (a, hop.load(seconds, connections)?)
        } else {
            let b = hop.load(seconds, connections)?;
            (plain.load(seconds, connections)?, b)
        };
        throughput.push(b.per_second / a.per_second);
        cpu.push(a.cpu_us / b.cpu_us);
        added.push(b.p50_us - a.p50_us);
        println!(
            "{:12.0} {:10.0} {:6.3} |       {:7.2} {:5.2} {:6.3} |     {:7.1} {:6.1}",
            a.per_second,
            b.per_second,
            b.per_second / a.per_second,
            a.cpu_us,
            b.cpu_us,
            a.cpu_us / b.cpu_us,
            a.p50_us,
            b.p50_us,
        );
    }
    for (what, values) in
        [("throughput", &mut throughput), ("CPU per request", &mut cpu), ("added p50, us", &mut added)]
    {
        values.sort_by(f64::total_cmp);
        let (least, most) = (values[0], values[values.len() - 1]);
        println!("{what}: median {:.3}, from {least:.3} to {most:.3}", values[values.len() / 2]);
    }
    Ok(())
}

/// A server under test, in a process of its own.
struct Server {
    process: Child,
    address: SocketAddr,
}

/// What one run of load found.
struct Run {
    per_second: f64,
    cpu_us: f64,
    p50_us: f64,
}

impl Server {
    fn start(role: &str) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?).arg(role).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().context("the server has no output")?;
        let address = line(output)?.trim().parse().context("the server's first line is no address")?;
        Ok(Self { process, address })
    }

    fn load(&self, seconds: f64, connections: usize) -> Result<Run> {
        let before = self.cpu()?;
        let output = Command::new(std::env::current_exe()?)
            .args(["load", &self.address.to_string(), &seconds.to_string(), &connections.to_string()])
            .output()?;
        let cpu = self.cpu()? - before;
        if !output.status.success() {
            bail!("the load failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let text = String::from_utf8(output.stdout)?;
        let numbers: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [requests, per_second, p50_us] = numbers[..] else { bail!("the load printed {text:?}") };
        Ok(Run { per_second, cpu_us: cpu.as_secs_f64() * 1e6 / requests, p50_us })
    }

    /// CPU time of the server's process and of its child, the host.
    fn cpu(&self) -> Result<Duration> {
        let own = self.process.id().to_string();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?;
        let mut nanos = 0;
        for process in children.split_whitespace().chain([own.as_str()]) {
            for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
                let spent = std::fs::read_to_string(thread?.path().join("schedstat"))?;
                nanos += spent.split_whitespace().next().context("schedstat is empty")?.parse::<u64>()?;
            }
        }
        Ok(Duration::from_nanos(nanos))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that has already ended has no other end to come to.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn line(mut from: ChildStdout) -> Result<String> {
    let mut line = String::new();
    let mut byte = [0];
    while from.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(char::from(byte[0]));
    }
    Ok(line)
}

/// Pins this process to one core: the first, or the last.
fn pin(last: bool) -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let mut set = CpuSet::new();
    set.set(if last { cores - 1 } else { 0 });
    Ok(sched_setaffinity(None, &set)?)
}

fn listen() -> Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    Ok(listener)
}

/// A server as one writes it with hyper alone.
fn plain() -> Result<()> {
    pin(false)?;
    let listener = listen()?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            tokio::spawn(async move {
                let service = hyper::service::service_fn(|_request| async {
                    http::Response::builder()
                        .header("content-type", CONTENT_TYPE)
                        .body(Full::new(Bytes::from_static(&BODY)))
                });
                let io = hyper_util::rt::TokioIo::new(socket);
                // The end of a client is no news here.
                drop(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await);
            });
        }
    })
}

/// The gateway with one thread, and a host beside it on the same core.
fn gateway() -> Result<()> {
    pin(false)?;
    let (ours, theirs) = UnixStream::pair()?;
    let mut host = Command::new(std::env::current_exe()?)
        .arg("host")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    let listener = listen()?;
    let config = GatewayConfig { threads: 1, ..GatewayConfig::default() };
    let gateway = Gateway::start(&[listener], config)?;
    let instance = InstanceId(1);
    gateway.attach(instance, vec![ours], Features::ALL)?;
    gateway.publish(Table {
        modules: vec![ModuleTable {
            module: "bench".to_owned(),
            deadline: Duration::from_secs(10),
            max_in_flight: 1_000,
            max_waiting: 1_000,
            max_streams: 1_000,
            backends: vec![Backend {
                instance,
                release: 1,
                version: "1.0.0".to_owned(),
                role: Role::Stable,
                weight: 10_000,
                routes: vec!["/".to_owned()],
            }],
        }],
    });
    host.wait()?;
    bail!("the host ended")
}

/// A host that does nothing: answers each request with the same bytes, as many at once as have come.
fn host() -> Result<()> {
    let mut stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_nonblocking(false)?;
    let mut decoder = Decoder::<FromGateway>::new();
    let mut read = vec![0; 256 * 1024];
    let mut out = Vec::new();
    loop {
        let len = stream.read(&mut read)?;
        if len == 0 {
            return Ok(());
        }
        decoder.read_buf().extend_from_slice(&read[..len]);
        while let Some(frame) = decoder.next_frame()? {
            if let FromGateway::Request(_) = frame.message {
                let fields = [("content-type".as_bytes(), CONTENT_TYPE.as_bytes())];
                data::response(&mut out, frame.exchange, 200, fields, &BODY, true)?;
            }
        }
        stream.write_all(&out)?;
        out.clear();
    }
}

/// Keeps one request in flight on each connection; prints requests, requests per second and the median latency.
fn load(address: SocketAddr, time: Duration, connections: usize) -> Result<()> {
    pin(true)?;
    let request =
        format!("GET /bench/path?x=1 HTTP/1.1\r\nHost: {address}\r\nUser-Agent: hop\r\nAccept: */*\r\n\r\n");
    let length = response_length(address, &request)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let until = Instant::now() + time;
    let began = Instant::now();
    let latencies = runtime.block_on(async {
        let clients: Vec<_> = (0..connections)
            .map(|_| tokio::spawn(client(address, request.clone().into_bytes(), length, until)))
            .collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.await??);
        }
        anyhow::Ok(all)
    });
    let took = began.elapsed();
    let mut latencies = latencies?;
    latencies.sort_unstable();
    let p50 = latencies.get(latencies.len() / 2).copied().unwrap_or_default();
    let per_second = f64::from(u32::try_from(latencies.len())?) / took.as_secs_f64();
    println!("{} {per_second} {}", latencies.len(), f64::from(p50) / 1e3);
    Ok(())
}

/// The length of a whole response: all are alike, so that nothing has to be parsed under load.
fn response_length(address: SocketAddr, request: &str) -> Result<usize> {
    let mut socket = TcpStream::connect(address)?;
    socket.write_all(request.as_bytes())?;
    let mut response = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let len = socket.read(&mut buffer)?;
        response.extend_from_slice(&buffer[..len]);
        if let Some(head) = response.windows(4).position(|window| window == b"\r\n\r\n") {
            if !response.starts_with(b"HTTP/1.1 200 ") {
                bail!("the server answered {:?}", String::from_utf8_lossy(&response[..head]));
            }
            if response.len() >= head + 4 + BODY.len() {
                return Ok(response.len());
            }
        }
        if len == 0 {
            bail!("the server closed the connection");
        }
    }
}

/// One connection. Gives the latency of each request, in nanoseconds.
async fn client(address: SocketAddr, request: Vec<u8>, length: usize, until: Instant) -> Result<Vec<u32>> {
    let mut socket = tokio::net::TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut latencies = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    while Instant::now() < until {
        let sent = Instant::now();
        socket.write_all(&request).await?;
        let mut got = 0;
        while got < length {
            let len = socket.read(&mut buffer).await?;
            if len == 0 {
                bail!("the server closed a connection");
            }
            got += len;
        }
        if got != length || !(length > buffer.len() || buffer.starts_with(b"HTTP/1.1 200 ")) {
            bail!("a response differs from the first");
        }
        latencies.push(u32::try_from(sent.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
    Ok(latencies)
}
