//! A node for the zoo: a service with a good neighbour and a good stable release of `probe`, light load on both, and what is
//! seen of each candidate that is pushed to it.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hot_tests::{
    Counts, Key, Load, LoadOptions, Module, ModuleStatus, Process, Service, Status, WAIT, exchange, text,
};
use http_body_util::Full;

use crate::guards::{self, Guard};
use crate::table::{Case, Ends};
use crate::traces;

/// The version of `probe` that all is held against.
pub(crate) const STABLE: &str = "1.0.0";
/// What `hotd` may ever have of the machine's memory, KiB (DESIGN, section 13).
const RESIDENT_KIB: u64 = 64 << 10;
/// Answers after a verdict that must all be good.
const AFTER: u64 = 60;
/// Phases in which a rollout moves no more.
const FINAL: [&str; 5] = ["done", "rolled_back", "failed", "superseded", "incomplete"];

/// The node.
pub(crate) struct Bench {
    service: Service,
    key: Key,
    keys: tempfile::TempDir,
    near: Load,
    own: Load,
    hotd: Process,
    spawn: Process,
    /// Somebody else's port.
    port: TcpListener,
}

/// What was seen of a case.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Where its rollout ended; `None`: it had not within the budget and was aborted.
    pub(crate) phase: Option<String>,
    pub(crate) reason: String,
    /// From the push to that end.
    pub(crate) took: Duration,
    /// What the neighbour's clients saw, and those of `probe`; `after` is of those whose requests began behind the end.
    pub(crate) near: Counts,
    pub(crate) own: Counts,
    pub(crate) after: Counts,
    /// What it said that it got by what it tried.
    pub(crate) got: Vec<(String, String)>,
    /// What it left behind.
    pub(crate) left: Vec<String>,
    /// Which of the node's programs is not the process of before.
    pub(crate) lost: Vec<&'static str>,
}

impl Bench {
    /// Starts the node without these guards.
    pub(crate) fn start(off: &[Guard]) -> Result<Self> {
        traces::clear()?;
        let keys = tempfile::tempdir().context("a folder for keys")?;
        let key = Key::generate(keys.path().join("ada"))?;
        let http = "pin_from = [\"127.0.0.0/8\"]\nrequest_deadline = \"4s\"\ndrain_deadline = \"1s\"\nstream_grace = \"1s\"\n";
        let mut service =
            Service::start_with_http(&key.signer("ada@example.com")?, http, &guards::config(off))?;
        if off.contains(&Guard::Users) {
            let mut events = service.events()?;
            service.lose_spawn()?;
            service.start_spawn_with(|mut command| {
                command.args(["--users", "none"]);
                Ok(command)
            })?;
            events.wait(WAIT, |event| event.kind == "spawn.back")?;
        }
        let push = |module: &Module| -> Result<()> {
            let file = module.build()?;
            service.hotctl(&["push", text(&file)?, "--key", text(key.path())?])?.expect(0).map(drop)
        };
        push(&Module::new("good").name("neighbour"))?;
        push(&Module::new("good"))?;
        let near = Load::start(LoadOptions::closed(service.http(), "/neighbour", 4).at(100))?;
        // So many that those who wait for a candidate that hangs do not leave stable without requests.
        let own = Load::start(LoadOptions::closed(service.http(), "/probe", 256).at(200))?;
        for load in [&near, &own] {
            load.wait_requests(load.begin_window(), AFTER, WAIT)?;
        }
        let (hotd, spawn) = (service.daemon()?, service.spawn().clone());
        let port = TcpListener::bind("127.0.0.1:0").context("a port")?;
        Ok(Self { service, key, keys, near, own, hotd, spawn, port })
    }

    /// Pushes the candidate of a case and watches it to its end.
    pub(crate) fn run(&self, case: &Case) -> Result<Seen> {
        let file = case.build()?;
        let mounts = traces::mounts(&self.service)?;
        let (near, own) = (self.near.begin_window(), self.own.begin_window());
        let began = Instant::now();
        self.push(&file, case)?;
        let mut got = Vec::new();
        if matches!(case.ends, Ends::Leaves | Ends::Denied(..)) {
            let version = case.version();
            let serves = |module: &ModuleStatus| {
                module.instances().any(|it| it.version == version && it.state == "ready" && it.weight > 0)
            };
            let baking = self.wait(case.patience(), |module| serves(module) || is_final(module))?;
            if matches!(case.ends, Ends::Denied(..)) && baking.is_some() {
                got = self.ask(case)?;
            }
            if !matches!(case.ends, Ends::Denied(_, Some(_))) {
                // Each of its threads has had requests by then.
                self.own.wait_requests(self.own.begin_window(), AFTER, WAIT)?;
                self.service.hotctl(&["abort", "probe"])?.expect(0)?;
            }
        }
        let ended = self.wait(case.patience(), is_final)?;
        let took = began.elapsed();
        if ended.is_none() {
            self.service.hotctl(&["abort", "probe"])?.expect(0)?;
        } else if ended.as_ref().is_some_and(|module| module.stable_version() != STABLE) {
            self.service.hotctl(&["rollback", "probe"])?.expect(0)?;
        }
        let (known, after) = self.settle()?;
        let left = traces::left(&self.service, &known, mounts)?;
        traces::clear()?;
        let after = self.own.end_window(after)?;
        let lost = [(&self.hotd, "hotd"), (&self.spawn, "hot-spawn")];
        Ok(Seen {
            phase: ended.as_ref().map(|module| module.phase.clone()),
            reason: ended.map(|module| module.reason).unwrap_or_default(),
            took,
            near: self.near.end_window(near)?,
            own: self.own.end_window(own)?,
            after,
            got,
            left,
            lost: lost.into_iter().filter(|(process, _)| !process.alive()).map(|(_, name)| name).collect(),
        })
    }

    fn push(&self, file: &std::path::Path, case: &Case) -> Result<()> {
        let bake = format!("{}s", case.bake);
        let key = text(self.key.path())?;
        let push = ["push", text(file)?, "--key", key, "--steps", "50%,100%", "--bake", &bake, "--detach"];
        self.service.hotctl(&push)?.expect(0).map(drop)
    }

    /// Waits until `probe` is as wanted; `None` when it is not within the time.
    fn wait(&self, within: Duration, wanted: impl Fn(&ModuleStatus) -> bool) -> Result<Option<ModuleStatus>> {
        let mut watch = self.service.ctl().follow(&["status", "probe", "--watch", "-o", "json"])?;
        let found = watch.wait(within, |line| {
            let status: Status = serde_json::from_str(line).ok()?;
            status.module("probe").filter(|module| wanted(module)).cloned()
        });
        match found {
            Ok(module) => Ok(Some(module)),
            Err(_) if self.hotd.alive() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until nothing but the releases of before runs. The pids of these, and the window of the requests from then on.
    fn settle(&self) -> Result<(BTreeSet<i32>, hot_tests::Window)> {
        let calm = self.wait(WAIT, |module| {
            let mut running = module.instances().filter(|instance| instance.runs());
            module.stable_version() == STABLE
                && is_final(module)
                && running.all(|instance| instance.version == STABLE && instance.state == "ready")
        })?;
        let calm = calm.context("the candidate still runs")?;
        let after = self.own.begin_window();
        self.own.wait_requests(after, AFTER, WAIT)?;
        let neighbour = self.service.module("neighbour")?;
        let known = calm.instances().chain(neighbour.instances()).map(|instance| instance.pid).collect();
        Ok((known, after))
    }

    /// Asks the candidate to try what it is there for, and gives what it says that it got.
    fn ask(&self, case: &Case) -> Result<Vec<(String, String)>> {
        let query = self.facts()?;
        let address = self.service.http();
        let deadline = Instant::now() + WAIT;
        loop {
            let request = http::Request::get(format!("/probe?try=1&{query}"))
                .header("host", address.to_string())
                .header("x-hot-version", case.version());
            let reply = exchange(address, request.body(Full::new(Bytes::new())).context("a request")?)?;
            let answer = String::from_utf8_lossy(reply.body()).into_owned();
            // Its weight is told a moment before each thread of the gateway has it.
            let said = self.said(case)?;
            let is_answer = reply.headers().get("x-zoo").is_some();
            let was_taken_back = matches!(case.ends, Ends::Denied(_, Some(_))) && !said.is_empty();
            if is_answer || was_taken_back {
                return Ok(said);
            }
            ensure!(Instant::now() < deadline, "{}: not the candidate answered: {answer}", case.name);
        }
    }

    /// What the candidate has printed of what it tried.
    fn said(&self, case: &Case) -> Result<Vec<(String, String)>> {
        let logs = self.service.hotctl(&["logs", "probe", "-o", "json"])?.expect(0)?.stdout;
        let mut said = Vec::new();
        for line in logs.lines() {
            let line: serde_json::Value = serde_json::from_str(line).context("a line of the log")?;
            let text = line["text"].as_str().and_then(|text| text.strip_prefix("zoo "));
            if let Some((what, how)) =
                text.and_then(|text| text.split_once(' ')).filter(|_| line["version"] == case.version())
            {
                said.push((what.to_owned(), how.to_owned()));
            }
        }
        Ok(said)
    }

    /// Where everything is that a module has no business with.
    fn facts(&self) -> Result<String> {
        let neighbour = self.service.module("neighbour")?;
        let pid = neighbour.instances().find(|instance| instance.runs()).context("the neighbour")?.pid;
        let digest = neighbour.stable.context("the neighbour's release")?.digest;
        let data = self.service.data_dir();
        let run = self.service.scratch().join("run");
        let facts: [(&str, String); 12] = [
            ("hotd", self.hotd.pid().to_string()),
            ("hot-spawn", self.spawn.pid().to_string()),
            ("neighbour", pid.to_string()),
            ("key", shown(self.key.path().to_owned())),
            ("record", shown(data.join("modules/neighbour.json"))),
            ("artifact", shown(data.join(format!("artifacts/{digest}.so")))),
            ("config", shown(self.service.config())),
            ("shadow", "/etc/shadow".to_owned()),
            // Its folder, as it sees it itself. Without one of its own a process is in `/`.
            ("folder", format!("/proc/{pid}/cwd")),
            ("control", shown(self.service.socket())),
            ("spawn", shown(run.join("spawn.sock"))),
            ("port", self.port.local_addr().context("a port")?.port().to_string()),
        ];
        Ok(facts.map(|(name, value)| format!("{name}={value}")).join("&"))
    }

    /// Ends a node that was not protected: whatever came of it.
    pub(crate) fn abandon(self) -> Result<()> {
        drop((self.near, self.own, self.service));
        traces::clear()
    }

    /// Ends the node, and says what it should not have come to.
    pub(crate) fn stop(self) -> Result<()> {
        let peak = self.hotd.holds()?.peak;
        ensure!(peak < RESIDENT_KIB, "hotd had {peak} KiB, expected less than {RESIDENT_KIB}");
        let near = self.near.stop()?;
        ensure!(near.failed() == 0 && near.of(STABLE) == near.requests, "the neighbour: {near}");
        self.own.stop()?;
        self.service.stop()?;
        drop(self.keys);
        Ok(())
    }
}

fn is_final(module: &ModuleStatus) -> bool {
    FINAL.contains(&&*module.phase) && module.candidate.is_none()
}

fn shown(path: PathBuf) -> String {
    path.display().to_string()
}
