//! Runs of several servers in turns: what changes slowly on the machine weighs on all alike, and each round gives one
//! ratio of neighbours in time.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::client::{self, Plan};
use crate::cpu::{self, Side};
use crate::server::{Kind, Server};
use crate::stats::Spread;

/// One run of one server.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Run {
    /// Good responses per second.
    pub(crate) per_second: f64,
    /// CPU time of the server's processes per response, microseconds.
    pub(crate) cpu_us: f64,
    /// Quantiles of the time of a request, microseconds.
    pub(crate) p50_us: f64,
    /// The 99th of a hundred.
    pub(crate) p99_us: f64,
}

/// All runs, by server in the order of the tables, and in each by round.
#[derive(Clone, Debug)]
pub(crate) struct Rounds(pub(crate) Vec<(Kind, Vec<Run>)>);

/// What each run asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// Connections, each with one request in flight at most.
    pub(crate) connections: usize,
    /// Requests per second at even times; none: as fast as they go.
    pub(crate) per_second: Option<u32>,
    /// How long it lasts.
    pub(crate) time: Duration,
}

/// Lets each server have its runs.
pub(crate) fn rounds(servers: &[Server], rounds: usize, ask: Ask) -> Result<Rounds> {
    let mut runs: Vec<(Kind, Vec<Run>)> = servers.iter().map(|server| (server.kind, Vec::new())).collect();
    for server in servers {
        let shorter = Ask { time: ask.time.min(Duration::from_millis(500)), ..ask };
        run(server, shorter).context("warming up")?;
    }
    for round in 0..rounds {
        // Each begins as often as any other.
        for turn in 0..servers.len() {
            let at = (round + turn) % servers.len();
            let done = run(&servers[at], ask);
            runs[at].1.push(done.with_context(|| servers[at].kind.name())?);
        }
    }
    Ok(Rounds(runs))
}

/// Lets one server have a run.
pub(crate) fn run(server: &Server, ask: Ask) -> Result<Run> {
    let processes = server.processes()?;
    let before = cpu::used(&processes)?;
    let (connections, millis) = (ask.connections.to_string(), ask.time.as_millis().to_string());
    let output = Command::new(std::env::current_exe().context("this program's path")?)
        .args(["role", "load", &server.address.to_string(), server.path, &connections, &millis])
        .args(ask.per_second.map(|per_second| per_second.to_string()))
        .output()
        .context("could not start the load")?;
    let used = cpu::used(&processes)?.saturating_sub(before);
    ensure!(output.status.success(), "the load failed: {}", String::from_utf8_lossy(&output.stderr));
    let seen: Seen = serde_json::from_slice(&output.stdout).context("what the load printed")?;
    ensure!(seen.failed == 0 && seen.closed == 0, "found {seen:?}, expected no failure");
    Ok(Run {
        per_second: seen.per_second,
        cpu_us: used.as_secs_f64() * 1e6 / seen.good,
        p50_us: seen.p50_us,
        p99_us: seen.p99_us,
    })
}

/// What the role `load` prints.
#[derive(Debug, Deserialize, Serialize)]
struct Seen {
    good: f64,
    failed: u64,
    closed: u64,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

/// The role `load`, on a core of its own.
pub(crate) fn load(plan: &Plan, time: Duration) -> Result<String> {
    cpu::pin(Side::Load)?;
    let seen = client::run_for(plan, time)?;
    let seen = Seen {
        good: seen.per_second() * seen.time.as_secs_f64(),
        failed: seen.failed,
        closed: seen.closed,
        per_second: seen.per_second(),
        p50_us: seen.micros(0.5),
        p99_us: seen.micros(0.99),
    };
    serde_json::to_string(&seen).context("what was seen")
}

impl Rounds {
    /// A figure of one server over its rounds.
    pub(crate) fn of(&self, kind: Kind, figure: impl Fn(&Run) -> f64) -> Option<Spread> {
        Some(Spread::of(self.runs(kind)?.iter().map(figure)))
    }

    /// What two servers' runs of the same round make of each other, over the rounds.
    pub(crate) fn pairs(&self, first: Kind, second: Kind, of: impl Fn(&Run, &Run) -> f64) -> Option<Spread> {
        let (first, second) = (self.runs(first)?, self.runs(second)?);
        Some(Spread::of(first.iter().zip(second).map(|(first, second)| of(first, second))))
    }

    fn runs(&self, kind: Kind) -> Option<&[Run]> {
        self.0.iter().find(|(other, _)| *other == kind).map(|(_, runs)| &**runs)
    }
}
