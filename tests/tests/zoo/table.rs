//! The table: every line of the fault list about bad modules, what comes of it, in which time, and what protects from it.
//!
//! What is refused before any code runs is in `tests/refused`, requests in flight over a swap in `tests/in_flight.rs`, and a
//! stable release that crashes again and again in `tests/seen.rs`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use hot_tests::{Module, built, has_cpp};

use crate::guards::Guard;
use crate::verdict::{
    CRASHED, DENIED, ERROR_RATE, ERRORS, EXITED, FAILING_HEALTH, FORGED, HUNG, LOAD_FAILED, OVER_MEMORY,
    OVER_PROCESSES, SLOW, START_TIMEOUT, UNANSWERED, Verdict,
};

/// Cases that share a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Loading,
    Serving,
    Exhaustion,
    Attacks,
    Forging,
    Leftovers,
}

/// What comes of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ends {
    /// It is taken back with one of these verdicts, of which the page has the first.
    Back(&'static [Verdict]),
    /// It is promoted.
    Stays,
    /// It serves until a person takes it back; then it is gone.
    Leaves,
    /// All that it tries fails, each with one of these errors. It is taken back with one of the verdicts, or by a person.
    Denied(&'static [Attempt], Option<&'static [Verdict]>),
}

/// What is tried, and how it may fail.
pub(crate) type Attempt = (&'static str, &'static [&'static str]);

/// Where the source of a case is.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// `tests/modules`, where other tests use it as well.
    Modules(&'static str),
    /// `tests/zoo`.
    Zoo(&'static str),
    /// A module in Rust, which the workspace builds, in version 1.1.0.
    Rust(&'static str),
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    source: Source,
    /// Its setting `KIND`, where its source has several.
    kind: Option<u64>,
    /// A further setting.
    setting: Option<(&'static str, u64)>,
    flag: Option<&'static str>,
    /// Its minor version, which is its own within its group.
    minor: u32,
    pub(crate) ends: Ends,
    /// From the push to the end of its rollout.
    pub(crate) budget: Duration,
    /// For how long each of its steps is watched, seconds.
    pub(crate) bake: u32,
    /// Clients see that it serves badly, within its share.
    pub(crate) costs: bool,
    /// What protects, all of which must be off for it to do harm. Nothing: a process of its own does, always.
    pub(crate) guards: &'static [Guard],
}

impl Case {
    const fn new(name: &'static str, group: Group, source: Source, ends: Ends) -> Self {
        let budget = Duration::from_secs(10);
        Self {
            name,
            group,
            source,
            kind: None,
            setting: None,
            flag: None,
            minor: 0,
            ends,
            budget,
            bake: if matches!(ends, Ends::Leaves | Ends::Denied(..)) { 60 } else { 1 },
            costs: false,
            guards: &[],
        }
    }

    const fn kind(mut self, kind: u64) -> Self {
        self.kind = Some(kind);
        self
    }

    const fn set(mut self, name: &'static str, value: u64) -> Self {
        self.setting = Some((name, value));
        self
    }

    const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    const fn within(mut self, seconds: u64) -> Self {
        self.budget = Duration::from_secs(seconds);
        self
    }

    /// With longer steps.
    const fn bake(mut self, seconds: u32) -> Self {
        self.bake = seconds;
        self
    }

    const fn costs(mut self) -> Self {
        self.costs = true;
        self
    }

    const fn by(mut self, guards: &'static [Guard]) -> Self {
        self.guards = guards;
        self
    }

    /// Whether this machine can build it.
    pub(crate) fn can_be_built(&self) -> bool {
        !matches!(self.source, Source::Zoo("throws")) || has_cpp()
    }

    /// The source in `tests/zoo` that it is built from.
    pub(crate) const fn zoo_source(&self) -> Option<&'static str> {
        match self.source {
            Source::Zoo(source) => Some(source),
            Source::Modules(_) | Source::Rust(_) => None,
        }
    }

    /// Its budget on this machine, which may say by `HOT_TEST_PATIENCE` how many times slower it is.
    pub(crate) fn patience(&self) -> Duration {
        let times = std::env::var("HOT_TEST_PATIENCE").ok().and_then(|times| times.parse().ok());
        self.budget * times.unwrap_or(1)
    }

    /// The version that the candidate has.
    pub(crate) fn version(&self) -> String {
        format!("1.{}.0", self.minor)
    }

    /// Builds the candidate.
    pub(crate) fn build(&self) -> Result<PathBuf> {
        let module = match self.source {
            Source::Modules(source) => Module::new(source),
            Source::Zoo(source) => Module::zoo(source),
            Source::Rust(file) => return built(file),
        };
        let mut module = module.version(&self.version());
        if let Some(kind) = self.kind {
            module = module.number("KIND", kind);
        }
        if let Some((name, value)) = self.setting {
            module = module.number(name, value);
        }
        if let Some(flag) = self.flag {
            module = module.flag(flag);
        }
        module.build()
    }

    /// The verdict, as the page says it.
    pub(crate) fn verdict(&self) -> String {
        let code = |verdicts: &[Verdict]| {
            let mut codes: Vec<&str> = verdicts.iter().map(|verdict| verdict.code).collect();
            codes.dedup();
            codes.into_iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(" or ")
        };
        match self.ends {
            Ends::Back(verdicts) => code(verdicts),
            Ends::Stays => "promoted".to_owned(),
            Ends::Leaves => "serves; gone once taken back".to_owned(),
            Ends::Denied(_, Some(verdicts)) => format!("all denied, {}", code(verdicts)),
            Ends::Denied(_, None) => "all denied".to_owned(),
        }
    }

    /// What protects, as the page says it.
    pub(crate) fn protection(&self) -> String {
        if self.guards.is_empty() {
            return "a process of its own".to_owned();
        }
        self.guards.iter().map(|guard| guard.name()).collect::<Vec<_>>().join(", ")
    }
}

/// The cases of a group, each with a version of its own.
pub(crate) fn cases(group: Group) -> Vec<Case> {
    let rows = [LOADING, SERVING, EXHAUSTION, ATTACKS, FORGING, LEFTOVERS].concat();
    let rows = rows.into_iter().filter(|case| case.group == group);
    // 1.1.0 is the one in Rust, which says so itself.
    let numbered = rows.zip(2..).map(|(case, next)| {
        let minor = if matches!(case.source, Source::Rust(_)) { 1 } else { next };
        Case { minor, ..case }
    });
    numbered.collect()
}

const fn loading(name: &'static str, source: Source, verdicts: &'static [Verdict]) -> Case {
    Case::new(name, Group::Loading, source, Ends::Back(verdicts))
}

const LOADING: &[Case] = &[
    loading("constructor that exits", Source::Modules("exits_in_constructor"), &[LOAD_FAILED, EXITED]),
    loading("constructor that segfaults", Source::Zoo("constructor_segfaults"), &[LOAD_FAILED, CRASHED]),
    loading("constructor that loops", Source::Zoo("constructor_loops"), &[START_TIMEOUT])
        .by(&[Guard::StartDeadline])
        .within(6),
    loading(
        "constructor that forks a process that outlives it",
        Source::Zoo("constructor_forks"),
        &[LOAD_FAILED, EXITED],
    ),
    loading("closes every descriptor", Source::Zoo("closes_all"), &[START_TIMEOUT])
        .by(&[Guard::StartDeadline])
        .within(6),
    loading("unresolved symbol", Source::Zoo("unresolved"), &[LOAD_FAILED]),
    loading("`start` that panics", Source::Rust("libpanics_in_start.so"), &[LOAD_FAILED]),
    loading("`start` that returns an error", Source::Modules("start_fails"), &[LOAD_FAILED]),
    loading("`start` that never returns", Source::Modules("start_loops"), &[START_TIMEOUT])
        .by(&[Guard::StartDeadline])
        .within(6),
    Case::new("prints a gigabyte", Group::Loading, Source::Zoo("prints_much"), Ends::Stays).within(15),
    Case::new("a slow start within its budget", Group::Loading, Source::Modules("good"), Ends::Stays)
        .set("START_MS", 800)
        .within(15),
    Case::new("a good one", Group::Loading, Source::Modules("good"), Ends::Stays).within(15),
];

const fn serving(name: &'static str, source: Source, verdicts: &'static [Verdict]) -> Case {
    Case::new(name, Group::Serving, source, Ends::Back(verdicts))
}

const SERVING: &[Case] = &[
    serving("panic", Source::Rust("libpanics.so"), &[ERRORS, ERROR_RATE]).costs().by(&[Guard::Errors]),
    serving("C++ exception", Source::Zoo("throws"), &[CRASHED]),
    serving("abort under load", Source::Modules("aborts"), &[CRASHED]),
    serving("a null pointer under load", Source::Modules("segfaults"), &[CRASHED]),
    serving("100% CPU", Source::Zoo("burns"), &[SLOW, HUNG, UNANSWERED, ERRORS, ERROR_RATE]).costs(),
    serving("300 ms slower", Source::Modules("slow"), &[SLOW]).by(&[Guard::Slow]),
    serving("healthy probe and failing traffic", Source::Modules("errors"), &[ERRORS, ERROR_RATE])
        .costs()
        .by(&[Guard::Errors]),
    serving("failing probe and healthy traffic", Source::Modules("unhealthy"), &[FAILING_HEALTH])
        .by(&[Guard::Health]),
    serving("fails only at 100%", Source::Zoo("fails_when_full"), &[ERRORS, ERROR_RATE])
        .bake(3)
        .costs()
        .by(&[Guard::Errors])
        .within(15),
    serving("a response with a wrong length", Source::Zoo("wrong_length"), &[ERRORS, ERROR_RATE])
        .costs()
        .by(&[Guard::Errors]),
    serving("a response with a wrong pointer", Source::Zoo("wrong_pointer"), &[CRASHED]),
    serving(
        "a response that never ends",
        Source::Zoo("endless"),
        &[ERRORS, ERROR_RATE, SLOW, HUNG, UNANSWERED],
    )
    .costs()
    .within(15),
    serving("hangs", Source::Modules("hangs"), &[SLOW, HUNG, UNANSWERED]).costs().within(15),
];

const fn exhausting(name: &'static str, source: &'static str, verdicts: &'static [Verdict]) -> Case {
    Case::new(name, Group::Exhaustion, Source::Zoo(source), Ends::Back(verdicts))
}

const EXHAUSTION: &[Case] = &[
    exhausting("leak until memory is out", "leaks", &[OVER_MEMORY]).by(&[Guard::Memory]),
    exhausting("fork bomb", "forks", &[OVER_PROCESSES, FAILING_HEALTH]).costs().by(&[Guard::Processes]),
    exhausting("thread bomb", "threads", &[OVER_PROCESSES, ERRORS, ERROR_RATE])
        .costs()
        .by(&[Guard::Processes]),
    exhausting("descriptor bomb", "opens", &[ERRORS, ERROR_RATE]).costs().by(&[Guard::Errors]),
];

const NO: &[&str] = &["EPERM", "EACCES"];
/// Of its own file: it is sealed, and the host may have closed it.
const SEALED: &[&str] = &["EPERM", "EACCES", "EBADF", "ENOENT", "EINVAL"];

const fn attacking(
    name: &'static str,
    source: &'static str,
    attempts: &'static [Attempt],
    verdicts: Option<&'static [Verdict]>,
) -> Case {
    Case::new(name, Group::Attacks, Source::Zoo(source), Ends::Denied(attempts, verdicts)).within(6)
}

const ATTACKS: &[Case] = &[
    attacking(
        "kill, trace and read the daemon, hot-spawn and another instance",
        "attacks_processes",
        &[
            ("signal.hotd", NO),
            ("ptrace.hotd", NO),
            ("memory.hotd", NO),
            ("environment.hotd", NO),
            ("signal.hot-spawn", NO),
            ("ptrace.hot-spawn", NO),
            ("memory.hot-spawn", NO),
            ("environment.hot-spawn", NO),
            ("signal.neighbour", NO),
            ("ptrace.neighbour", NO),
            ("memory.neighbour", NO),
            ("environment.neighbour", NO),
        ],
        Some(&[DENIED]),
    )
    .by(&[Guard::Users, Guard::Seccomp, Guard::Files, Guard::Scopes]),
    attacking(
        "read keys, store, config, artifacts and another module's folder; write its own artifact",
        "attacks_files",
        &[
            ("read.key", NO),
            ("read.record", NO),
            ("read.artifact", NO),
            ("read.config", NO),
            ("read.shadow", NO),
            ("read.folder", NO),
            ("write.artifact", NO),
            ("write.own", SEALED),
            ("cut.own", SEALED),
            ("reopen.own", SEALED),
            ("write.folder", NO),
        ],
        None,
    )
    .by(&[Guard::Users, Guard::Files]),
    attacking(
        "connect to the control socket and hot-spawn's",
        "attacks_sockets",
        &[("connect.control", NO), ("connect.hot-spawn", NO)],
        None,
    )
    .by(&[Guard::Users]),
    attacking(
        "connect to a port that is not named (etcd's)",
        "attacks_sockets",
        &[("connect.port", NO)],
        None,
    )
    .by(&[Guard::Network]),
    attacking(
        "execve, io_uring, mount, a namespace of its own, raw sockets, bpf",
        "attacks_kernel",
        &[
            ("execve", NO),
            ("io_uring", &["EPERM", "ENOSYS"]),
            ("mount", NO),
            ("unshare", NO),
            ("socket.raw", NO),
            ("socket.packet", NO),
            ("bpf", NO),
        ],
        Some(&[DENIED]),
    )
    .by(&[Guard::Users, Guard::Seccomp, Guard::Files]),
];

const fn forging(name: &'static str, source: &'static str, kind: u64, verdicts: &'static [Verdict]) -> Case {
    Case::new(name, Group::Forging, Source::Zoo(source), Ends::Back(verdicts)).kind(kind)
}

const FORGING: &[Case] = &[
    forging("claims that it is ready and never is", "forges_control", 0, &[FORGED]).costs(),
    forging("an unknown message on the control socket", "forges_control", 1, &[FORGED]),
    forging("a giant message on the control socket", "forges_control", 2, &[FORGED]),
    forging("claims once more that it is ready", "forges_control", 3, &[FORGED]),
    forging("answers that it stops, which nobody told it", "forges_control", 4, &[FORGED]),
    forging("says that its host could not confine itself, and ends", "forges_control", 5, &[FORGED]),
    forging("noise on its links", "forges_links", 0, &[FORGED]),
    forging("a giant frame on its links", "forges_links", 1, &[FORGED]),
    forging("answers on its links that nobody asked for", "forges_links", 2, &[FORGED]),
];

const fn leaving(name: &'static str, source: &'static str) -> Case {
    Case::new(name, Group::Leftovers, Source::Zoo(source), Ends::Leaves)
}

const LEFTOVERS: &[Case] = &[
    leaving("threads still running", "leaves_threads"),
    leaving("thread-local destructors", "leaves_destructors"),
    leaving("`atexit`", "leaves_atexit"),
    leaving("ignores SIGTERM, and `stop` never returns", "ignores_term"),
    Case::new("the same SONAME in two versions", Group::Leftovers, Source::Modules("good"), Ends::Stays)
        .flag("-Wl,-soname,libsame.so.1")
        .within(15),
    leaving("a child that is nobody's any more", "daemonises"),
    leaving("a file in /tmp", "leaves_files").kind(0).by(&[Guard::Users, Guard::Files]),
    leaving("POSIX shared memory", "leaves_files").kind(1).by(&[Guard::Users, Guard::Files]),
    leaving("System V shared memory", "leaves_files").kind(2).by(&[Guard::Users, Guard::Seccomp]),
    leaving("a socket with a path", "leaves_files").kind(3).by(&[Guard::Users, Guard::Files]),
];
