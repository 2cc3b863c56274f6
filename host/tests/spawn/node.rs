//! A hot-spawn in a folder of its own, a client that speaks its frames, and processes to wait for.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hot_wire::isolation::{Breach, Held};
use hot_wire::spawn::{Cause, Ending, Features, FromSpawn, HostState, Limits, ToSpawn};
use hot_wire::{MAX_MESSAGE, PROTOCOL};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, Signal};

/// Longer than anything takes on a machine that is busy with something else.
const DEADLINE: Duration = Duration::from_secs(20);

/// Says what can't be tried here.
#[expect(clippy::print_stderr, reason = "what was not tried is to be seen")]
pub(crate) fn skipped(what: &str, want: &str) {
    eprintln!("skipped: {what}, for want of {want}");
}

/// A running hot-spawn, which is killed with this and takes its hosts along.
pub(crate) struct Node {
    folder: tempfile::TempDir,
    host: PathBuf,
    arguments: Vec<String>,
    child: Child,
    /// What was started does not pass signals on.
    by_force: bool,
}

impl Node {
    /// With hosts that run their artifact as a shell script.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let (folder, host) = Self::place();
        Self::in_folder(folder, host, arguments)
    }

    /// A folder, and in it the host that runs its artifact as a shell script.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let host = folder.path().join("host");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spawn/script.c");
        let compiled = Command::new("cc").arg(source).arg("-o").arg(&host).status().expect("a C compiler");
        assert!(compiled.success(), "cc: {compiled}");
        (folder, host)
    }

    /// With hosts that are this program.
    pub(crate) fn with_host(host: &str, arguments: &[&str]) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), host.into(), arguments)
    }

    fn in_folder(folder: tempfile::TempDir, host: PathBuf, arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let child = run(&folder.path().join("spawn.sock"), &host, &arguments, Stdio::inherit());
        Self { folder, host, arguments, child, by_force: false }
    }

    /// As the first process of a namespace, outside of which its session and this test are.
    pub(crate) fn in_a_namespace() -> Option<Self> {
        let unshare = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let tried = Command::new("unshare").args(unshare).arg("true").output();
        if !tried.is_ok_and(|tried| tried.status.success()) {
            skipped("a namespace of processes", "the right to make one");
            return None;
        }
        let (folder, host) = Self::place();
        let mut command = Command::new("unshare");
        command.args(unshare).arg(env!("CARGO_BIN_EXE_hot-spawn"));
        let arguments = vec!["--users".to_owned(), "none".to_owned()];
        let child = run_by(command, &folder.path().join("spawn.sock"), &host, &arguments, Stdio::inherit());
        Some(Self { folder, host, arguments, child, by_force: true })
    }

    /// Without hosts. Its log goes into the pipe that comes with it.
    pub(crate) fn with_log() -> (Self, OwnedFd) {
        let folder = tempfile::tempdir().unwrap();
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let (host, arguments) = (PathBuf::from("/nowhere"), Vec::new());
        let child = run(&folder.path().join("spawn.sock"), &host, &arguments, Stdio::from(write));
        (Self { folder, host, arguments, child, by_force: false }, read)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("spawn.sock")
    }

    /// A connection after its hello.
    pub(crate) fn connect(&self) -> Client {
        self.connect_with(Features::ALL)
    }

    /// A connection of a `hotd` that understands these.
    pub(crate) fn connect_with(&self, features: Features) -> Client {
        self.greet(features, self.child.id())
    }

    /// A connection to one that knows itself by this number.
    pub(crate) fn connect_as(&self, pid: u32) -> Client {
        self.greet(Features::ALL, pid)
    }

    fn greet(&self, features: Features, pid: u32) -> Client {
        let client = Client::connect(&self.socket());
        client.send(&ToSpawn::Hello { protocol: PROTOCOL, features }, None);
        assert_eq!(client.receive().unwrap().0, FromSpawn::Hello { protocol: PROTOCOL, pid });
        client
    }

    /// Connects anew until a host is listed as wanted: hot-spawn reads pipes only while nobody is connected.
    pub(crate) fn until_listed(&self, wanted: impl Fn(&Listed) -> bool) -> Listed {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let listed = self.connect().list();
            let seen = format!("{listed:?}");
            if let Some(host) = listed.into_iter().find(&wanted) {
                return host;
            }
            assert!(Instant::now() < deadline, "not listed as wanted: {seen}");
        }
    }

    /// What a second hot-spawn on the same socket says when it gives up.
    pub(crate) fn second(&self) -> String {
        let mut command = command(&self.socket(), &self.host, &[]);
        let output = command.stderr(Stdio::piped()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    /// What a hot-spawn on this socket with these arguments says when it does not start.
    pub(crate) fn refusal(arguments: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let mut command = command(&folder.path().join("spawn.sock"), Path::new("/nowhere"), &arguments);
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    /// The same where a file has this name.
    pub(crate) fn refusal_beside(name: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), "a key").unwrap();
        let output = command(&folder.path().join("spawn.sock"), Path::new("/nowhere"), &[]).output().unwrap();
        assert!(!output.status.success());
        (folder, String::from_utf8(output.stderr).unwrap())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.child = run(&self.socket(), &self.host, &self.arguments, Stdio::inherit());
    }

    pub(crate) fn terminate(&self) {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Waits until it has exited with `code`, and checks that its socket is gone.
    pub(crate) fn ends_with(mut self, code: i32) {
        Watched::new(self.child.id()).ends();
        assert_eq!(self.child.wait().unwrap().code(), Some(code));
        assert!(!self.socket().exists());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            if self.by_force {
                self.child.kill().unwrap();
            } else {
                self.terminate();
            }
            self.child.wait().unwrap();
        }
    }
}

fn command(socket: &Path, host: &Path, arguments: &[String]) -> Command {
    with_arguments(Command::new(env!("CARGO_BIN_EXE_hot-spawn")), socket, host, arguments)
}

fn with_arguments(mut command: Command, socket: &Path, host: &Path, arguments: &[String]) -> Command {
    command.arg("--socket").arg(socket).arg("--host-binary").arg(host).args(arguments).stdin(Stdio::null());
    command
}

/// Starts it and waits until it listens.
fn run(socket: &Path, host: &Path, arguments: &[String], log: Stdio) -> Child {
    run_by(Command::new(env!("CARGO_BIN_EXE_hot-spawn")), socket, host, arguments, log)
}

/// The same by another command, which has its arguments behind its own.
fn run_by(command: Command, socket: &Path, host: &Path, arguments: &[String], log: Stdio) -> Child {
    let mut command = with_arguments(command, socket, host, &["--stop-grace-ms".into(), "0".into()]);
    let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, format!("ready socket={}\n", socket.display()));
    child
}

/// An artifact with this content.
pub(crate) fn artifact(script: impl AsRef<[u8]>) -> OwnedFd {
    let fd = unsealed(script);
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
    fd
}

/// The same, but it can still be changed.
pub(crate) fn unsealed(script: impl AsRef<[u8]>) -> OwnedFd {
    let fd = rustix::fs::memfd_create("artifact", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let script = script.as_ref();
    assert_eq!(rustix::io::write(&fd, script).unwrap(), script.len());
    fd
}

/// The program of `greedy.c`, to be a host.
pub(crate) struct Greedy {
    path: String,
    _folder: tempfile::TempDir,
}

impl Greedy {
    pub(crate) fn compile() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Hosts may have users of their own, who have to get here.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().join("greedy").to_str().unwrap().to_owned();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/spawn/greedy.c");
        let status = Command::new("cc").args(["-O1", "-o", &path, source]).status().unwrap();
        assert!(status.success(), "greedy.c does not compile");
        Self { path, _folder: folder }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

/// A host that was started.
pub(crate) struct Host {
    pub(crate) pid: u32,
    pub(crate) held: Held,
    pub(crate) control: OwnedFd,
    pub(crate) output: OwnedFd,
}

impl Host {
    /// Sends a packet to its descriptor 3.
    pub(crate) fn say(&self, text: &str) {
        rustix::io::write(&self.control, text.as_bytes()).unwrap();
    }

    /// The next packet that it sends on its descriptor 3.
    pub(crate) fn hear(&self) -> String {
        rustix::io::ioctl_fionbio(&self.control, false).unwrap();
        let timeout = rustix::net::sockopt::Timeout::Recv;
        rustix::net::sockopt::set_socket_timeout(&self.control, timeout, Some(DEADLINE)).unwrap();
        let mut bytes = [0; 64];
        let len = rustix::io::read(&self.control, &mut bytes).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    }

    /// Waits until all processes that could print here have ended.
    pub(crate) fn closes(&self) {
        let timeout = Timespec::try_from(DEADLINE).unwrap();
        loop {
            let mut set = [PollFd::new(&self.output, PollFlags::IN)];
            assert_eq!(
                rustix::event::poll(&mut set, Some(&timeout)).unwrap(),
                1,
                "something of a host is left"
            );
            if matches!(rustix::io::read(&self.output, &mut [0; 4096]), Ok(0)) {
                return;
            }
        }
    }

    /// The next line that it prints.
    pub(crate) fn read_line(&mut self) -> String {
        rustix::io::ioctl_fionbio(&self.output, false).unwrap();
        let mut pipe = std::fs::File::from(self.output.try_clone().unwrap());
        let mut line = Vec::new();
        let mut byte = [0];
        while pipe.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }
}

/// A host of a list.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) id: u64,
    pub(crate) pid: u32,
    pub(crate) state: HostState,
    pub(crate) label: Vec<u8>,
    pub(crate) tail: Vec<u8>,
    pub(crate) held: Held,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Listed {
    /// The limit that it was ended for.
    pub(crate) fn breach(&self) -> Option<Breach> {
        match self.state {
            HostState::Running => None,
            HostState::Ended(ending) => ending.breach,
        }
    }
}

/// A connection to hot-spawn.
pub(crate) struct Client {
    socket: OwnedFd,
    exits: Vec<(u64, Ending)>,
    /// How often which call of which host was refused.
    denied: BTreeMap<(u64, u32), u64>,
}

impl Client {
    pub(crate) fn connect(path: &Path) -> Self {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        let timeout = rustix::net::sockopt::Timeout::Recv;
        rustix::net::sockopt::set_socket_timeout(&socket, timeout, Some(DEADLINE)).unwrap();
        Self { socket, exits: Vec::new(), denied: BTreeMap::new() }
    }

    pub(crate) fn send(&self, message: &ToSpawn, descriptor: Option<BorrowedFd<'_>>) {
        self.send_bytes(&message.encode().unwrap(), descriptor);
    }

    pub(crate) fn send_bytes(&self, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if let Some(descriptor) = &descriptor {
            assert!(control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor))));
        }
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
            .unwrap();
    }

    /// The next message; `None` when hot-spawn closed the connection.
    pub(crate) fn receive(&self) -> Option<(FromSpawn, Vec<OwnedFd>)> {
        let mut bytes = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received =
            match rustix::net::recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => received.bytes,
                Err(Errno::CONNRESET) => 0,
                Err(error) => panic!("hot-spawn said nothing: {error}"),
            };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        if received == 0 {
            return None;
        }
        let message = FromSpawn::decode(&bytes[..received]).unwrap();
        assert_eq!(message.descriptors(), descriptors.len(), "{message:?}");
        Some((message, descriptors))
    }

    /// Whether hot-spawn closes the connection before it says anything.
    pub(crate) fn is_closed(&self) -> bool {
        self.receive().is_none()
    }

    pub(crate) fn spawn(&mut self, id: u64, script: &str) -> Host {
        self.spawn_with(id, script, Limits::default())
    }

    pub(crate) fn spawn_with(&mut self, id: u64, script: &str, limits: Limits) -> Host {
        self.try_spawn(id, "tried", script, limits).unwrap_or_else(|text| panic!("not started: {text}"))
    }

    /// A host of `module`, or why there is none.
    pub(crate) fn try_spawn(
        &mut self,
        id: u64,
        module: &str,
        script: impl AsRef<[u8]>,
        limits: Limits,
    ) -> Result<Host, String> {
        let label = format!("label {id}").into_bytes();
        let spawn = ToSpawn::Spawn { id, label, limits, module: module.to_owned() };
        self.send(&spawn, Some(artifact(script).as_fd()));
        loop {
            let (message, descriptors) = self.receive().unwrap();
            match message {
                FromSpawn::Spawned { id: spawned, pid, held } => {
                    assert_eq!(spawned, id);
                    let [control, output] = descriptors.try_into().unwrap();
                    return Ok(Host { pid, held, control, output });
                }
                FromSpawn::SpawnFailed { text, .. } => return Err(text),
                FromSpawn::Denied { id, calls } => self.note(id, &calls),
                FromSpawn::Exited { id, ending } => self.exits.push((id, ending)),
                other => panic!("expected an answer to a spawn, found {other:?}"),
            }
        }
    }

    /// Waits for the end of a host.
    pub(crate) fn exited(&mut self, id: u64) -> Cause {
        self.ended(id).cause
    }

    /// How often a call of a host was told to be refused.
    pub(crate) fn denied(&self, id: u64, call: u32) -> u64 {
        self.denied.get(&(id, call)).copied().unwrap_or_default()
    }

    fn note(&mut self, id: u64, calls: &[(u32, u64)]) {
        for (call, times) in calls {
            *self.denied.entry((id, *call)).or_default() += times;
        }
    }

    /// Hears hot-spawn until something holds.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !wanted(self) {
            assert!(Instant::now() < deadline, "not as wanted in time");
            self.list();
        }
    }

    /// Waits for the end of a host, and says all that is told of it.
    pub(crate) fn ended(&mut self, id: u64) -> Ending {
        loop {
            if let Some(at) = self.exits.iter().position(|(exited, _)| *exited == id) {
                return self.exits.remove(at).1;
            }
            match self.receive() {
                Some((FromSpawn::Exited { id, ending }, _)) => self.exits.push((id, ending)),
                Some((FromSpawn::Denied { id, calls }, _)) => self.note(id, &calls),
                other => panic!("expected the end of host {id}, found {other:?}"),
            }
        }
    }

    pub(crate) fn list(&mut self) -> Vec<Listed> {
        self.send(&ToSpawn::List, None);
        let mut listed = Vec::new();
        loop {
            match self.receive() {
                Some((FromSpawn::Host { id, pid, state, label, tail, held }, descriptors)) => {
                    listed.push(Listed { id, pid, state, label, tail, held, descriptors });
                }
                Some((FromSpawn::Exited { id, ending }, _)) => self.exits.push((id, ending)),
                Some((FromSpawn::Denied { id, calls }, _)) => self.note(id, &calls),
                Some((FromSpawn::ListEnd, _)) => return listed,
                other => panic!("expected a list, found {other:?}"),
            }
        }
    }
}

/// A process whose end can be waited for, even if it is no child of ours.
pub(crate) struct Watched(OwnedFd);

impl Watched {
    pub(crate) fn new(pid: u32) -> Self {
        let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
        Self(rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap())
    }

    pub(crate) fn runs(&self) -> bool {
        self.poll(Duration::ZERO) == 0
    }

    pub(crate) fn ends(&self) {
        assert_eq!(self.poll(DEADLINE), 1, "a process did not end");
    }

    fn poll(&self, timeout: Duration) -> usize {
        let timeout = Timespec::try_from(timeout).unwrap();
        rustix::event::poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)).unwrap()
    }
}
