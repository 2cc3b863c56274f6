//! Streams over a swap, through the real gateway and real hosts: server-sent events and upgraded connections stay with the
//! release that they began with, are asked to end when it is replaced, and are cut off if they do not.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hot_tests::{Key, Module, ModuleStatus, Service, WAIT, text};

/// Enough for this test to look at what goes on meanwhile, on a busy machine.
const GRACE: Duration = Duration::from_secs(4);

/// A stream as its client has it.
struct Stream {
    reader: BufReader<TcpStream>,
    what: &'static str,
}

impl Stream {
    /// Asks for one, and reads its head.
    fn open(address: SocketAddr, path: &str, what: &'static str) -> Result<Self> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(WAIT))?;
        let (asks, status) = match what {
            "events" => ("connection: close\r\n", "HTTP/1.1 200 "),
            _ => ("connection: upgrade\r\nupgrade: websocket\r\n", "HTTP/1.1 101 "),
        };
        write!(socket, "GET {path} HTTP/1.1\r\nhost: {address}\r\n{asks}\r\n")?;
        let mut stream = Self { reader: BufReader::new(socket), what };
        let first = stream.line()?;
        ensure!(first.starts_with(status), "{path}: {first:?}");
        while !stream.line()?.trim_end().is_empty() {}
        Ok(stream)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line).with_context(|| format!("the next line of {}", self.what))?;
        ensure!(!line.is_empty(), "{} ended", self.what);
        Ok(line)
    }

    /// Reads until a line has this; of events the chunks' lengths are between them.
    fn until(&mut self, wanted: &str) -> Result<()> {
        while !self.line()?.contains(wanted) {}
        Ok(())
    }

    /// What an upgraded connection sends back.
    fn echo(&mut self, line: &str) -> Result<()> {
        self.reader.get_mut().write_all(format!("{line}\n").as_bytes())?;
        self.until(line)
    }

    /// What is left of it. One that was cut off may end with an error.
    fn rest(mut self) -> Result<String> {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => {
                Err(error).context(self.what)
            }
            _ => Ok(String::from_utf8_lossy(&rest).into_owned()),
        }
    }
}

/// Streams of the instances of a release.
fn streams(module: &ModuleStatus, release: u64) -> u64 {
    module.instances().filter(|instance| instance.release == release).map(|instance| instance.streams).sum()
}

#[test]
fn streams_stay_with_their_release_are_asked_to_end_and_cut_off_if_they_do_not() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let key = Key::generate(folder.path().join("ada"))?;
    let service = Service::start_with_http(
        &key.signer("ada@example.com")?,
        &format!("stream_grace = \"{}s\"\n", GRACE.as_secs()),
        "",
    )?;
    let push = |file: &Path| {
        let (file, key) = (text(file)?, text(key.path())?);
        service
            .hotctl(&["push", file, "--key", key, "--canary", "10%", "--bake", "10m", "--detach"])?
            .expect(0)
    };
    push(&Module::new("lasts").build()?)?;
    let serves = |version: &'static str| {
        service.wait_module("probe", move |module| {
            module.stable_version() == version && module.candidate.is_none()
        })
    };
    serves("1.0.0")?;
    let address = service.http();
    let open = |path: &str, what| Stream::open(address, path, what);
    let (mut polite, mut stubborn) = (open("/probe", "events")?, open("/probe/stubborn", "events")?);
    let (mut socket, mut deaf) = (open("/probe", "socket")?, open("/probe/stubborn", "socket")?);
    for stream in [&mut polite, &mut stubborn, &mut socket, &mut deaf] {
        stream.until("data: probe 1.0.0")?;
    }
    service.wait_module("probe", |module| streams(module, 1) == 4)?;

    // A candidate beside it is nothing to them.
    push(&Module::new("lasts").version("1.1.0").build()?)?;
    service.wait_module("probe", |module| module.phase == "baking")?;
    socket.echo("before")?;
    deaf.echo("before")?;

    let begun = Instant::now();
    service.hotctl(&["promote", "probe"])?.expect(0)?;
    polite.until("data: bye")?;
    socket.until("data: bye")?;
    deaf.echo("it goes on")?;
    ensure!(polite.rest()?.ends_with("\r\n0\r\n\r\n"), "an answer that is whole");
    ensure!(socket.rest()? == "\n", "an orderly end");
    let mut new = open("/probe", "events")?;
    new.until("data: probe 1.1.0")?;
    let (stubborn, deaf) = (stubborn.rest()?, deaf.rest()?);
    ensure!(begun.elapsed() >= GRACE, "they had {:?}, and not {GRACE:?}", begun.elapsed());
    ensure!(
        !stubborn.contains("bye") && !stubborn.ends_with("0\r\n\r\n"),
        "it was not cut off: {stubborn:?}"
    );
    ensure!(!deaf.contains("bye"), "{deaf:?}");

    serves("1.1.0")?;
    service.wait_module("probe", |module| streams(module, 1) == 0 && streams(module, 2) == 1)?;
    service.stop()
}
