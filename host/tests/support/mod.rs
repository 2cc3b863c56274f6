//! Runs the real `hot-host` as hot-spawn would, and speaks to it as hotd and a gateway thread would.

use bytes::Bytes;
use hot_wire::data::{self, Decoder, Frame, FromHost as FromLink, INITIAL_WINDOW, RequestHead, Response};
use hot_wire::host::{FromHost, Start, StartOptions, ToHost};
use hot_wire::isolation::{Confine, Parts};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::fs;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Nothing here takes this long, under valgrind and on a busy machine either: it turns a hang into a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Compiles a module from `tests/modules`, the host's own or those of all tests: the bytes of the shared object.
pub(crate) fn compile(source: &str, options: &[&str]) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = root.join("../tests/modules");
    let own = root.join("tests/modules").join(source);
    let file = if own.exists() { own } else { shared.join(source) };
    compile_file(&file, options)
}

fn compile_file(source: &Path, options: &[&str]) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = folder.path().join("module.so");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"])
        .args(options)
        .arg("-I")
        .arg(root.join("../module/include"))
        .arg("-I")
        .arg(root.join("../tests/modules"))
        .arg(source)
        .arg("-o")
        .arg(&file)
        .status()
        .expect("a C compiler");
    assert!(status.success(), "cc: {status}");
    fs::read(file).unwrap()
}

/// A running host.
pub(crate) struct Host {
    child: Child,
    control: Option<OwnedFd>,
    /// Where it was started, and may write.
    _folder: tempfile::TempDir,
}

impl Host {
    /// Executes `hot-host` for the module, and takes its hello.
    pub(crate) fn execute(module: &[u8]) -> Self {
        Self::execute_under(&[], module)
    }

    /// As [`Host::execute`], by way of another program that executes it.
    pub(crate) fn execute_under(wrapper: &[&str], module: &[u8]) -> Self {
        Self::execute_with(wrapper, module, None)
    }

    /// As [`Host::execute`], with a socket to who counts its refused calls: the other end.
    pub(crate) fn execute_counted(module: &[u8]) -> (Self, OwnedFd) {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        rustix::net::sockopt::set_socket_timeout(&ours, rustix::net::sockopt::Timeout::Recv, Some(PATIENCE))
            .unwrap();
        (Self::execute_with(&[], module, Some(theirs)), ours)
    }

    fn execute_with(wrapper: &[&str], module: &[u8], report: Option<OwnedFd>) -> Self {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        rustix::net::sockopt::set_socket_timeout(&ours, rustix::net::sockopt::Timeout::Recv, Some(PATIENCE))
            .unwrap();
        // Above the numbers that they get in the child.
        let theirs = fcntl_dupfd_cloexec(theirs, 10).unwrap();
        let artifact = fcntl_dupfd_cloexec(sealed(module), 10).unwrap();
        let report = report.map(|report| fcntl_dupfd_cloexec(report, 10).unwrap());
        let mut words = wrapper.iter().copied().chain([env!("CARGO_BIN_EXE_hot-host")]);
        let mut command = Command::new(words.next().unwrap());
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        command.current_dir(folder.path());
        command.args(words).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let give = move || {
            put(theirs.as_fd(), 3)?;
            put(artifact.as_fd(), 4)?;
            report.as_ref().map_or(Ok(()), |report| put(report.as_fd(), 5))
        };
        // SAFETY: between fork and exec only `dup2` is called, which is async-signal-safe.
        unsafe { command.pre_exec(give) };
        let child = command.spawn().unwrap();
        // Only the child may hold its end, or its end would never be at an end.
        drop(command);
        let host = Self { child, control: Some(ours), _folder: folder };
        assert!(matches!(host.hear(), FromHost::Hello { protocol: hot_wire::PROTOCOL, .. }));
        host
    }

    /// Executes it and starts the module with `config`: what it says to that.
    pub(crate) fn start(module: &[u8], config: &[u8]) -> (Self, FromHost) {
        Self::start_with(module, config, StartOptions::default())
    }

    /// As [`Host::start`], with bounds.
    pub(crate) fn start_with(module: &[u8], config: &[u8], options: StartOptions) -> (Self, FromHost) {
        let host = Self::execute(module);
        let said = host.begin(config, options);
        (host, said)
    }

    /// Has it start the module: what it says to that.
    pub(crate) fn begin(&self, config: &[u8], options: StartOptions) -> FromHost {
        self.tell_start(config, options, None);
        self.hear()
    }

    /// As [`Host::begin`], confined so: the parts that it says are in force, and what it says to the start.
    pub(crate) fn begin_confined(&self, options: StartOptions, confine: Confine) -> (Parts, FromHost) {
        self.tell_start(b"some config", options, Some(confine));
        match self.hear() {
            FromHost::Confined { parts } => (parts, self.hear()),
            other => panic!("not confined: {other:?}"),
        }
    }

    /// Has it start the module.
    pub(crate) fn tell_start(&self, config: &[u8], options: StartOptions, confine: Option<Confine>) {
        self.tell(&ToHost::Start(Start {
            instance: 1,
            module: "paths".to_owned(),
            release: 1,
            version: "1.0.0".to_owned(),
            config: config.to_vec(),
            options,
            confine,
        }));
    }

    /// A host that is ready, with one link.
    pub(crate) fn ready(module: &[u8]) -> (Self, Link) {
        let (host, said) = Self::start(module, b"some config");
        assert_eq!(said, FromHost::Ready { abi: 0 });
        let link = host.attach();
        (host, link)
    }

    pub(crate) fn tell(&self, message: &ToHost) {
        let packet = message.encode().unwrap();
        rustix::net::send(self.control(), &packet, SendFlags::empty()).unwrap();
    }

    pub(crate) fn hear(&self) -> FromHost {
        let mut packet = vec![0; hot_wire::MAX_MESSAGE];
        let (_, len) =
            rustix::net::recv(self.control(), &mut packet[..], rustix::net::RecvFlags::empty()).unwrap();
        FromHost::decode(&packet[..len]).unwrap()
    }

    pub(crate) fn attach(&self) -> Link {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        ours.set_write_timeout(Some(PATIENCE)).unwrap();
        let packet = ToHost::Attach { link: 1 }.encode().unwrap();
        let fds = [theirs.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        assert!(beside.push(SendAncillaryMessage::ScmRights(&fds)));
        rustix::net::sendmsg(self.control(), &[IoSlice::new(&packet)], &mut beside, SendFlags::empty())
            .unwrap();
        Link {
            stream: ours,
            decoder: Decoder::new(),
            out: Vec::new(),
            deadline_ms: 5000,
            window: INITIAL_WINDOW,
        }
    }

    /// Ends the control socket, as when hotd and hot-spawn are gone.
    pub(crate) fn hang_up(&mut self) {
        self.control = None;
    }

    /// Waits for its end: how it ended, what it wrote to standard output and standard error.
    pub(crate) fn end(mut self) -> (ExitStatus, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (self.child.wait().unwrap(), out, err)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn control(&self) -> BorrowedFd<'_> {
        self.control.as_ref().expect("not hung up").as_fd()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The gateway's side of a data stream.
pub(crate) struct Link {
    stream: UnixStream,
    decoder: Decoder<FromLink>,
    out: Vec<u8>,
    /// Of the requests to come.
    pub(crate) deadline_ms: u32,
    /// Of the requests that follow.
    pub(crate) window: u32,
}

impl Link {
    /// Appends a request; [`Link::send`] sends it.
    pub(crate) fn put(
        &mut self,
        number: u64,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        end: bool,
    ) {
        let head = RequestHead {
            method: b"GET",
            target: target.as_bytes(),
            peer: b"192.0.2.1:5",
            deadline_ms: self.deadline_ms,
            window: self.window,
        };
        let headers = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        data::request(&mut self.out, number, &head, headers, body, end).unwrap();
    }

    /// Appends whatever frames.
    pub(crate) fn frames(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.out);
    }

    pub(crate) fn send(&mut self) {
        self.stream.write_all(&self.out).unwrap();
        self.out.clear();
    }

    /// A request without a body, sent.
    pub(crate) fn get(&mut self, number: u64, target: &str) {
        self.put(number, target, &[], b"", true);
        self.send();
    }

    /// The next frame.
    pub(crate) fn next(&mut self) -> Frame<FromLink> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return frame;
            }
            let mut bytes = [0; 65536];
            let read = self.stream.read(&mut bytes).expect("a frame in time");
            assert!(read > 0, "the host closed the link");
            self.decoder.read_buf().extend_from_slice(&bytes[..read]);
        }
    }

    /// The next frame, which must be a whole response of that exchange: status and body.
    pub(crate) fn whole(&mut self, number: u64) -> (u16, String) {
        let frame = self.next();
        assert_eq!(frame.exchange, number);
        match frame.message {
            FromLink::Response(Response { status, body, end: true, .. }) => (status, text(&body)),
            other => panic!("not a whole response: {other:?}"),
        }
    }

    /// Sends a request and takes its whole response: the body.
    pub(crate) fn ask(&mut self, number: u64, target: &str) -> String {
        self.get(number, target);
        self.whole(number).1
    }

    /// Lets the link lie idle for that long: nothing may come of it meanwhile.
    pub(crate) fn idle(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let came = self.stream.read(&mut [0; 1]).expect_err("nothing was asked");
        assert_eq!(came.kind(), ErrorKind::WouldBlock);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// Whether the host has closed the link.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 16]), Ok(0))
    }
}

pub(crate) fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The module as hotd hands it over: a sealed file in memory.
fn sealed(module: &[u8]) -> OwnedFd {
    let memory = memfd_create("artifact", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let mut file = fs::File::from(memory);
    file.write_all(module).unwrap();
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL).unwrap();
    file.into()
}

/// Puts a descriptor at a number in the child, to stay there over exec.
fn put(fd: BorrowedFd<'_>, number: i32) -> std::io::Result<()> {
    // SAFETY: `dup2` takes any two numbers.
    if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the number was opened by the line above, and is borrowed for this call only.
    let placed = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(fcntl_setfd(placed, FdFlags::empty())?)
}
