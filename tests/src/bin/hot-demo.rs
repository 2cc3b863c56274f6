//! The demo: the whole story on one machine, with the real programs and real load, in less than a minute.
//!
//! It runs `hotctl` as a person would and shows what that prints. What users saw is counted by the clients from the
//! bodies of the responses, and checked: the demo ends with 1 when a promise is broken.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program whose result is what it prints")]

use std::path::Path;
use std::process::{Child, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hot_tests::{Counts, Load, LoadOptions, Node, Process, WAIT, Window, example};

/// Requests per second. Enough for the share to be exact within seconds, and little enough for a laptop's battery.
const RATE: u32 = 2_000;

/// Kept-alive connections.
const CONNECTIONS: u32 = 64;

/// Requests over which the canary's share is counted.
const COUNTED: u64 = 10_000;

/// Longest that one command may take. A good push takes its two bakes.
const LONGEST: Duration = Duration::from_secs(120);

fn main() -> Result<ExitCode> {
    let start = Instant::now();
    let [first, second, bad] =
        ["1.0.0", "1.1.0", "1.2.0"].map(|version| example(&format!("greeter-{version}.so")));
    let story = Story::begin()?;

    story.say("push the first release");
    story.push(&first?, &[], 0)?;

    story.say(&format!("from now on {CONNECTIONS} clients ask {RATE} times a second"));
    let load = LoadOptions::closed(story.node.http(), "/greet", CONNECTIONS).at(RATE);
    let mut seen = Seen { load: Load::start(load)?, phases: Vec::new() };
    seen.during("1.0.0 alone", |load, window| load.wait_requests(window, COUNTED / 5, WAIT))?;

    story.say("push 1.1.0: 10% of the traffic first, all of it when it proves to be good");
    let mut push = story.start_push(&second?, &["--canary", "10%", "--bake", "8s"])?;
    story.node.wait_module("greeter", WAIT, |module| module.phase == "baking" && module.share == 1000)?;
    seen.during("1.1.0 gets 10%", |load, window| load.wait_requests(window, COUNTED, WAIT))?;
    let share = seen.last()?.percent("1.1.0");
    seen.during("1.1.0 is promoted", |_, _| expect_code(&mut push, 0))?;

    story.say("push 1.2.0, which fails one request of four: watch it being taken back");
    seen.during("1.2.0 is tried", |_, _| story.push(&bad?, &["--canary", "10%", "--bake", "20s"], 3))?;
    seen.during("1.1.0 as before", |load, window| load.wait_requests(window, COUNTED / 5, WAIT))?;

    story.say("1.1.0 was not to our liking after all");
    seen.during("rollback to 1.0.0", |load, window| {
        story.hotctl(&["rollback", "greeter"], 0)?;
        load.wait_requests(window, COUNTED / 5, WAIT)
    })?;
    story.hotctl(&["status", "greeter"], 0)?;

    println!("\nWhat users saw, counted by the clients from the bodies of the responses:\n");
    let total = seen.load.stop()?;
    for (title, counts) in &seen.phases {
        println!("{}", line(title, counts));
    }
    println!("{}", line("in all", &total));
    println!("\nshare of 1.1.0 while its step was 10%: {share:.2}%");
    story.node.stop().context("stopping the node")?;
    let broken = broken(&seen.phases, &total, share);
    for promise in &broken {
        println!("broken: {promise}");
    }
    println!("everything is stopped; that took {:.0} s", start.elapsed().as_secs_f64());
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A node and the person in front of it.
struct Story {
    node: Node,
}

impl Story {
    fn begin() -> Result<Self> {
        println!("\n$ hotd --dev");
        let node = Node::start()?;
        println!("serves http://{}, data in {}", node.http(), node.data_dir().display());
        Ok(Self { node })
    }

    fn say(&self, text: &str) {
        println!("\n# {text}");
    }

    /// Runs `hotctl` for all to see, and expects its exit code.
    fn hotctl(&self, arguments: &[&str], code: i32) -> Result<()> {
        expect_code(&mut self.start(arguments)?, code)
    }

    fn push(&self, file: &Path, arguments: &[&str], code: i32) -> Result<()> {
        expect_code(&mut self.start_push(file, arguments)?, code)
    }

    fn start_push(&self, file: &Path, arguments: &[&str]) -> Result<Child> {
        let file = file.to_str().context("a path in UTF-8")?;
        self.start(&[&["push", file], arguments].concat())
    }

    fn start(&self, arguments: &[&str]) -> Result<Child> {
        // A person would type the name of the file in front of them.
        let typed: Vec<&str> =
            arguments.iter().map(|word| word.rsplit_once('/').map_or(*word, |(_, name)| name)).collect();
        println!("$ hotctl {}", typed.join(" "));
        self.node.ctl().command(arguments).spawn().context("could not start hotctl")
    }
}

/// The load, and what was seen phase by phase.
struct Seen {
    load: Load,
    phases: Vec<(&'static str, Counts)>,
}

impl Seen {
    /// Counts the requests that start while `act` runs.
    fn during(&mut self, title: &'static str, act: impl FnOnce(&Load, Window) -> Result<()>) -> Result<()> {
        let window = self.load.begin_window();
        act(&self.load, window)?;
        self.phases.push((title, self.load.end_window(window)?));
        Ok(())
    }

    fn last(&self) -> Result<&Counts> {
        self.phases.last().map(|(_, counts)| counts).context("nothing was counted")
    }
}

/// Waits for a run of `hotctl` and expects its exit code.
fn expect_code(child: &mut Child, code: i32) -> Result<()> {
    if let Some(process) = Process::of(i32::try_from(child.id()).context("a pid")?) {
        process.wait_gone(LONGEST)?;
    }
    let status = child.wait().context("waiting for hotctl")?;
    ensure!(status.code() == Some(code), "hotctl ended with {status}, expected {code}");
    println!("(exit code {code})");
    Ok(())
}

/// One phase as a line of the table.
fn line(title: &str, counts: &Counts) -> String {
    let versions: Vec<String> =
        counts.versions.iter().map(|(version, count)| format!("{version}: {count}")).collect();
    let [p50, p99] = [0.5, 0.99].map(|quantile| counts.latency(quantile).as_micros() as f64 / 1000.0);
    format!(
        "  {title:<18} {:>7} requests  {:>4} failed  p50 {p50:>5.1} ms  p99 {p99:>5.1} ms   {}",
        counts.requests,
        counts.failed(),
        versions.join("  ")
    )
}

/// The promises that were not kept.
fn broken(phases: &[(&str, Counts)], total: &Counts, share: f64) -> Vec<String> {
    let mut broken = Vec::new();
    if (share - 10.0).abs() > 0.5 {
        broken.push(format!("the share was {share:.2}%, expected 10.0% +- 0.5"));
    }
    for (title, counts) in phases.iter().filter(|(title, _)| *title != "1.2.0 is tried") {
        if counts.failed() > 0 {
            broken.push(format!("requests failed in phase {title:?}: {counts}"));
        }
    }
    if total.closed > 0 {
        broken.push(format!("{} connections were closed", total.closed));
    }
    if let Some((_, last)) = phases.last()
        && last.of("1.2.0") > 0
    {
        broken.push(format!("1.2.0 still answered after it was taken back: {last}"));
    }
    broken
}
