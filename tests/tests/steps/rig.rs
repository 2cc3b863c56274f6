//! A node, the story that it is told, and what must be so after it, whatever came between.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hot_tests::{Harm, Instance, Key, ModuleStatus, Series, Service, Steps, WAIT, get, sha256};
use tonic::{Code, Status};

/// Bytes of a chunk: the module has several.
const CHUNK: usize = 4096;

/// How long a call may be refused after a step failed: the history is opened again once a second.
const MENDED: Duration = Duration::from_secs(10);

/// Candidates stay where they are put until they are told.
const POLICY: &str = "[policy]\nsteps = [\"10%\", \"100%\"]\nbake = \"10m\"\n";

/// What is done about a call without a good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing: `hotd` was killed.
    End,
    /// It was refused and is repeated until it is good.
    Repeat,
    /// It was refused, and nothing follows.
    Stop,
}

/// What a node was told, and what it said to that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// What was called last, for messages; whether there was no good answer; and whether the answer was no.
    pub(crate) call: &'static str,
    pub(crate) unanswered: bool,
    refused: bool,
    /// The digest of what was uploaded, acknowledged.
    uploaded: Option<String>,
    /// The rollout that was begun, acknowledged.
    started: Option<String>,
    promoted: bool,
    pub(crate) gone_back: bool,
}

impl Told {
    /// A call. None: no good answer. One that is refused says why, and is good when it is repeated.
    fn call<T>(
        &mut self,
        name: &'static str,
        then: Then,
        call: impl Fn() -> Result<T, Status>,
    ) -> Result<Option<T>> {
        self.call = name;
        match call() {
            Ok(answer) => Ok(Some(answer)),
            Err(mut refused) if then == Then::Repeat => {
                let deadline = Instant::now() + MENDED;
                loop {
                    refusal(name, &refused)?;
                    match call() {
                        Ok(answer) => return Ok(Some(answer)),
                        Err(again) => refused = again,
                    }
                    ensure!(Instant::now() < deadline, "{name} is refused again and again: {refused}");
                }
            }
            Err(refused) => {
                if then == Then::Stop {
                    refusal(name, &refused)?;
                    self.refused = true;
                }
                self.unanswered = true;
                Ok(None)
            }
        }
    }
}

pub(crate) struct Rig {
    pub(crate) service: Service,
    pub(crate) steps: Steps,
    key: Key,
    pub(crate) series: Series,
    /// What is stable before and after each story, and the process that serves it all the time.
    stable: String,
    host: i32,
}

impl Rig {
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let key = Key::generate(folder.path().join("ada"))?;
        let service = Service::start(&key.signer("ada@example.com")?, POLICY)?;
        let at = service.scratch().join("ada");
        fs::rename(key.path(), &at)?;
        let steps = Steps::on(&service.data_dir(), &service.scratch().join("steps"))?;
        let series = Series::new(service.scratch())?;
        let mut rig = Self { service, steps, key: Key::at(at), series, stable: String::new(), host: 0 };
        rig.stable = rig.series.write(100)?;
        rig.upload()?;
        let first = rig.service.door().start("probe", &rig.stable, "first")?.id;
        rig.wait_over(&first)?;
        let ready = rig.service.wait_module("probe", |module| {
            module.instances().any(|instance| instance.state == "ready" && instance.pid != 0)
        })?;
        rig.host = ready.instances().next().context("an instance")?.pid;
        Ok(rig)
    }

    fn upload(&self) -> Result<String, Status> {
        let signed = || -> Result<_> {
            let (file, signature) = (self.series.file(), self.service.scratch().join("signature"));
            self.key.sign("hot-module", file, &signature)?;
            Ok((fs::read(file)?, fs::read(signature)?))
        };
        let (bytes, signature) = signed().map_err(|error| Status::internal(format!("{error:#}")))?;
        let (door, digest) = (self.service.door(), sha256(&bytes));
        let offset = door.begin(&digest, bytes.len() as u64)?;
        door.upload(&bytes, &signature, offset, CHUNK)?;
        Ok(digest)
    }

    /// Neither `hotd` nor `hot-spawn` has ended.
    fn lives(&self) -> Result<bool> {
        Ok(self.service.daemon()?.alive() && self.service.spawn().alive())
    }

    /// Waits until a rollout is as wanted by its record (none: it is over), or one of both has ended.
    fn wait(&self, id: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let record = self.service.data_dir().join(format!("rollouts/{id}.json"));
        let deadline = Instant::now() + WAIT;
        loop {
            let text = fs::read_to_string(&record).unwrap_or_default();
            if wanted(&text) || !self.lives()? {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "rollout {id} is not as wanted: {text}");
            std::thread::yield_now();
        }
    }

    fn wait_over(&self, id: &str) -> Result<()> {
        self.wait(id, str::is_empty)
    }

    /// The story, or as much of it as `hotd` lives to hear.
    pub(crate) fn tell(&self, version: &str, then: Then) -> Result<Told> {
        let door = self.service.door();
        let mut told = Told::default();
        let Some(digest) = told.call("upload", then, || self.upload())? else { return Ok(told) };
        told.uploaded = Some(digest);
        let Some(rollout) = told.call("start", then, || door.start("probe", version, version))? else {
            return Ok(told);
        };
        let id = rollout.id;
        told.started = Some(id.clone());
        self.wait(&id, |text| text.contains("\"phase\":{\"baking\""))?;
        let promoted = told.call("promote", then, || {
            door.promote("probe").or_else(|refused| {
                // What took effect and could not be acknowledged may have been written since.
                let over = refused.code() == Code::FailedPrecondition;
                if then == Then::Repeat && over && self.stable_now() == version {
                    Ok(())
                } else {
                    Err(refused)
                }
            })
        })?;
        if promoted.is_none() {
            return Ok(told);
        }
        told.promoted = true;
        self.wait_over(&id)?;
        if !self.lives()? {
            return Ok(told);
        }
        told.call = "rollback";
        match door.rollback("probe") {
            Ok(back) => {
                told.gone_back = true;
                self.wait_over(&back.id)?;
            }
            Err(refused) if then != Then::End => bail!("the way back was refused: {refused}"),
            Err(_) => told.unanswered = true,
        }
        Ok(told)
    }

    fn stable_now(&self) -> String {
        self.service.module("probe").map(|module| module.stable_version().to_owned()).unwrap_or_default()
    }

    /// Looks at a node whose `hotd` has just started, after a story of `version`.
    pub(crate) fn check(&self, version: &str, told: &Told) -> Result<()> {
        let module = self.service.wait_module("probe", |module| {
            module.instances().any(|instance| instance.state == "ready" && instance.pid == self.host)
        });
        module.context("the host of stable was not adopted")?;
        self.check_kept(version, told)
    }

    /// Looks at a node whose hosts came to their end, once those of its stable release serve again.
    pub(crate) fn check_anew(&self, version: &str, told: &Told) -> Result<()> {
        let serves = |module: &ModuleStatus| {
            let stable = module.stable.as_ref().map(|stable| stable.release);
            let mut ready = module.instances().filter(|instance| instance.state == "ready");
            ready.any(|instance| Some(instance.release) == stable && instance.pid != 0)
        };
        self.service.wait_module("probe", serves).context("stable does not serve again")?;
        self.check_kept(version, told)
    }

    /// What was acknowledged is there, what was not is not served, and no host is left over.
    fn check_kept(&self, version: &str, told: &Told) -> Result<()> {
        // One that was replaced may still be ending.
        let deadline = Instant::now() + WAIT;
        while self.service.hosts()?.len() > 3 {
            ensure!(Instant::now() < deadline, "hosts are left over: {:?}", self.service.hosts()?);
            std::thread::sleep(Duration::from_millis(20));
        }
        let in_flight = |call: &str| told.unanswered && told.call == call;

        if let Some(id) = &told.started {
            let rollout = self.service.door().rollout(id);
            ensure!(rollout.is_ok(), "the rollout {id} was acknowledged and is missing: {rollout:?}");
        }
        if told.started.is_some() && !told.promoted && !in_flight("promote") {
            let serves = |instance: &Instance| instance.version == version && instance.state == "ready";
            self.service
                .wait_module("probe", |module| module.instances().any(serves))
                .context("the candidate of a rollout that was acknowledged does not come to serve")?;
        }
        if told.promoted && !told.gone_back && !in_flight("rollback") {
            self.service
                .wait_module("probe", |module| {
                    module.stable_version() == version && module.candidate.is_none()
                })
                .context("a promotion was acknowledged and did not come to its end")?;
        }
        let module = self.service.module("probe")?;
        let stable = module.stable_version();
        let news = in_flight("promote") || (told.promoted && !told.gone_back);
        let former = !told.promoted || told.gone_back || in_flight("rollback");
        ensure!(
            (stable == version && news) || (stable == self.stable && former),
            "{stable} is stable, of {} before and {version} after",
            self.stable
        );
        // One that was refused never was, and what is refused later is not there after a restart either.
        let begun = told.started.is_some() || (in_flight("start") && !told.refused);
        let answer = String::from_utf8_lossy(get(self.service.http(), "/probe")?.body()).into_owned();
        let answers = |version: &str| answer == format!("probe {version}\n");
        ensure!(answers(&self.stable) || (begun && answers(version)), "found the answer {answer:?}");
        ensure!(begun || module.candidate.is_none(), "a rollout was not asked for: {:?}", module.candidate);
        let versions = self.service.hotctl(&["versions", "probe", "-o", "json"])?.expect(0)?.stdout;
        if let Some(digest) = &told.uploaded {
            ensure!(versions.contains(digest), "{version} was acknowledged and is missing: {versions}");
        }
        let is_there = versions.contains(&format!("\"{version}\""));
        ensure!(
            !is_there || !in_flight("upload") || !told.refused,
            "{version} was refused and is there: {versions}"
        );
        Ok(())
    }

    /// Back to where the story began; on the way everything is done once more that may have been cut short.
    pub(crate) fn again(&self, version: &str) -> Result<()> {
        let door = self.service.door();
        let over = || self.service.wait_module("probe", |module| module.candidate.is_none());
        if self.service.module("probe")?.candidate.is_some() {
            door.abort("probe")?;
        }
        over()?;
        if self.stable_now() == version {
            door.rollback("probe")?;
            over()?;
        }
        self.upload()?;
        let id = door.start("probe", version, &format!("{version}-again"))?.id;
        self.wait(&id, |text| text.contains("\"phase\":{\"baking\""))?;
        door.abort("probe")?;
        self.wait_over(&id)?;
        ensure!(self.stable_now() == self.stable, "{} is stable at the end", self.stable_now());
        Ok(())
    }

    /// The story without harm: what its steps are.
    pub(crate) fn steps(&mut self) -> Result<Vec<String>> {
        let version = self.series.write(101)?;
        self.service.terminate()?;
        self.service.boot_with(|hotd| self.steps.around(hotd, None))?;
        let told = self.tell(&version, Then::Stop)?;
        ensure!(told.gone_back, "the story has an end: {told:?}");
        let taken = self.steps.taken()?;
        for step in [
            "rename artifacts/",
            "fsync modules/probe.json.tmp",
            "fsync rollouts",
            "remove rollouts/",
            "fsync index/db",
        ] {
            ensure!(taken.iter().any(|taken| taken.starts_with(step)), "no `{step}` among {taken:?}");
        }
        self.again(&version)?;
        Ok(taken)
    }

    /// Starts `hotd` with harm at the n-th step and tells it the story. None: it did not come to serve.
    pub(crate) fn harmed(
        &mut self,
        version: &str,
        harm: Harm,
        at: usize,
        then: Then,
    ) -> Result<Option<Told>> {
        let steps = self.steps.clone();
        match self.service.boot_with(|hotd| steps.around(hotd, Some((harm, at)))) {
            Ok(()) => Ok(Some(self.tell(version, then)?)),
            Err(error) => {
                let said = format!("{error:#}");
                ensure!(harm == Harm::Kill || said.contains("hotd: "), "hotd gave no reason: {said}");
                Ok(None)
            }
        }
    }
}

/// A refusal is a sentence that says what failed.
fn refusal(call: &str, refused: &Status) -> Result<()> {
    let detail = hot_proto::status::detail(refused);
    let detail = detail.with_context(|| format!("{call} was refused without details: {refused:?}"))?;
    ensure!(!detail.code.is_empty() && !refused.message().is_empty(), "{call} was refused without a reason");
    Ok(())
}
