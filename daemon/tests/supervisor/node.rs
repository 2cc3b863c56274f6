//! A dev node's hot-spawn with real hosts, and `hotd`s that come and go: each is a runtime that can be dropped whole.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, SystemTime};

use hot_artifact::signature::{MODULE_NAMESPACE, Signer, generate_key, sign};
use hot_artifact::trust::{AllowedSigners, ModuleRules, Revoked, Trust};
use hot_artifact::{Checks, DEFAULT_MAX_SIZE, Node as Machine, Verified};
use hot_wire::data::{self, Decoder, FromHost, INITIAL_WINDOW, RequestHead};
use hotd::supervisor::{Adopted, End, Instance, InstanceId, Sandbox, SpawnAddress, Spec, State, Supervisor};
use tokio::runtime::Runtime;

/// Longer than anything takes on a machine that is busy with something else.
const DEADLINE: Duration = Duration::from_secs(30);

/// The folder of one hot-spawn.
pub(crate) struct Node {
    folder: tempfile::TempDir,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("spawn.sock")
    }

    /// A `hotd` on this node, which starts hot-spawn if there is none.
    pub(crate) fn hotd(&self) -> Hotd {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = SpawnAddress::Dev {
            socket: self.socket(),
            binary: BINARIES.join("hot-spawn"),
            arguments: ["--dev-grace-ms", "300", "--stop-grace-ms", "100"].map(String::from).into(),
        };
        let (supervisor, adopted) =
            runtime.block_on(Supervisor::connect(address, Sandbox::default())).unwrap();
        Hotd { runtime, supervisor, adopted }
    }

    /// The process of the hot-spawn that holds the lock.
    pub(crate) fn spawn_pid(&self) -> u32 {
        let socket = self.socket();
        let is_ours = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut arguments = line.split(|byte| *byte == 0);
            let first = arguments.next().is_some_and(|name| name.ends_with(b"hot-spawn"));
            first && arguments.any(|argument| argument == socket.as_os_str().as_encoded_bytes())
        };
        let names = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
        names.filter_map(|name| name.to_str()?.parse().ok()).find(is_ours).unwrap()
    }
}

impl Drop for Node {
    /// Waits for hot-spawn to end, which it does only after all that it started has ended.
    fn drop(&mut self) {
        let lock = std::fs::File::open(self.folder.path().join("spawn.sock.lock")).unwrap();
        let (done, waited) = mpsc::channel();
        std::thread::spawn(move || {
            lock.lock().unwrap();
            done.send(()).unwrap();
        });
        waited.recv_timeout(DEADLINE).unwrap();
    }
}

/// One life of a `hotd`.
pub(crate) struct Hotd {
    pub(crate) runtime: Runtime,
    pub(crate) supervisor: Supervisor,
    pub(crate) adopted: Vec<Adopted>,
}

impl Hotd {
    /// Starts the subject with this config.
    pub(crate) fn start(&self, id: u64, config: &str) -> Instance {
        self.start_with(Spec { config: config.into(), ..spec(id) })
    }

    pub(crate) fn start_with(&self, spec: Spec) -> Instance {
        self.runtime.block_on(self.supervisor.start(spec, &SUBJECT)).unwrap()
    }

    /// Waits until the instance is in a state like this.
    pub(crate) fn wait(&self, instance: &Instance, wanted: impl FnMut(&State) -> bool) -> State {
        let mut state = instance.state();
        self.runtime.block_on(async {
            let waited = tokio::time::timeout(DEADLINE, state.wait_for(wanted)).await;
            waited.unwrap_or_else(|_| panic!("still {:?}", instance.state().borrow())).unwrap().clone()
        })
    }

    pub(crate) fn ready(&self, instance: &Instance) {
        let state = self.wait(instance, |state| !matches!(state, State::Starting));
        assert_eq!(state, State::Ready);
    }

    pub(crate) fn end(&self, instance: &Instance) -> End {
        match self.wait(instance, |state| matches!(state, State::Ended(_))) {
            State::Ended(end) => end,
            other => panic!("{other:?}"),
        }
    }

    /// Asks the instance over a fresh link; `None`: the link ended first.
    pub(crate) fn ask(&self, instance: &Instance, target: &str) -> Option<String> {
        let link = self.runtime.block_on(instance.attach(1)).unwrap().remove(0);
        exchange(link, target)
    }

    /// Ends as by kill -9: nobody says good-bye, every descriptor is closed.
    pub(crate) fn crash(self) {
        drop((self.supervisor, self.adopted));
        self.runtime.shutdown_timeout(DEADLINE);
    }
}

fn exchange(mut link: UnixStream, target: &str) -> Option<String> {
    link.set_nonblocking(false).unwrap();
    link.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut out = Vec::new();
    let head = RequestHead {
        method: b"GET",
        target: target.as_bytes(),
        peer: b"127.0.0.1:1",
        deadline_ms: 30_000,
        window: INITIAL_WINDOW,
    };
    data::request(&mut out, 1, &head, [], b"", true).unwrap();
    link.write_all(&out).unwrap();
    let mut decoder = Decoder::<FromHost>::new();
    loop {
        if let Some(frame) = decoder.next_frame().unwrap() {
            let FromHost::Response(response) = frame.message else { panic!("{frame:?}") };
            assert_eq!((frame.exchange, response.status, response.end), (1, 200, true));
            return Some(String::from_utf8(response.body.to_vec()).unwrap());
        }
        let mut bytes = [0; 4096];
        match link.read(&mut bytes) {
            Ok(0) => return None,
            Ok(len) => decoder.read_buf().extend_from_slice(&bytes[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The subject with times that suit a busy machine.
pub(crate) fn spec(id: u64) -> Spec {
    Spec {
        instance: InstanceId(id),
        module: "subject".into(),
        release: 1,
        version: "1.0.0".into(),
        digest: SUBJECT.digest(),
        serves: false,
        started: None,
        config: Vec::new(),
        limits: hot_wire::spawn::Limits::default(),
        start_deadline: DEADLINE,
        health_interval: Duration::from_millis(100),
        health_threshold: 100,
    }
}

/// Where the binaries are. Those of hot-host belong to another package, so cargo does not build them for this one's
/// tests; to build them from here would hold every other test up, and replace what end-to-end tests run meanwhile.
static BINARIES: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_BIN_EXE_hotd")).parent().unwrap();
    for program in ["hot-spawn", "hot-host"] {
        let path = folder.join(program);
        assert!(path.exists(), "{} is not there: run `cargo build --workspace --bins` first", path.display());
    }
    folder.to_owned()
});

/// The subject, built, signed and verified.
static SUBJECT: LazyLock<Verified> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = folder.path().join("subject.so");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-I"]);
    compile
        .arg(own.join("../module/include"))
        .arg(own.join("tests/supervisor/module.c"))
        .arg("-o")
        .arg(&built);
    assert!(compile.status().unwrap().success());
    let bytes = std::fs::read(built).unwrap();

    let key = generate_key("test").unwrap();
    let path = folder.path().join("key");
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(key.private.as_bytes()).unwrap();
    let signature = sign(&bytes, MODULE_NAMESPACE, &mut Signer::from_file(&path).unwrap()).unwrap();
    let allowed = format!("test namespaces=\"{MODULE_NAMESPACE}\" {}\n", key.public);
    let signers = AllowedSigners::parse(&allowed, Path::new("allowed_signers")).unwrap();
    let trust = Trust { signers, revoked: Revoked::default(), modules: ModuleRules::default() };
    let checks = Checks { trust: &trust, node: &Machine::native(), max_size: DEFAULT_MAX_SIZE };
    Verified::admit(bytes.as_slice(), signature.as_bytes(), &checks, SystemTime::now()).unwrap()
});

pub(crate) fn subject() -> &'static Verified {
    &SUBJECT
}
