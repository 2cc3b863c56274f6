//! The demo of a fleet: etcd and five nodes on one machine, which call each other by TLS, with the real programs and real
//! load, in about a minute.
//!
//! What users saw is counted by the clients from the bodies of the responses, and checked: the demo ends with 1 when a
//! promise is broken.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program whose result is what it prints")]

use std::path::Path;
use std::process::{Child, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hot_tests::{Counts, Fleet, Load, LoadOptions, Process, example};

/// Nodes.
const NODES: usize = 5;
/// Requests per second on each of them.
const RATE: u32 = 200;
/// Kept-alive connections to each of them.
const CONNECTIONS: u32 = 8;
/// Longest that one command may take.
const LONGEST: Duration = Duration::from_secs(120);

fn main() -> Result<ExitCode> {
    let start = Instant::now();
    let [first, second, bad] =
        ["1.0.0", "1.1.0", "1.2.0"].map(|version| example(&format!("greeter-{version}.so")));
    println!("\n$ etcd, and five times hotd with its etcd in [cluster]");
    let mut story = Story { fleet: Fleet::start_with_tls(NODES)? };
    story.hotctl(0, &["nodes"], 0)?;

    say("push the first release by way of n1: every node serves it");
    story.push(0, &first?, &[], 0)?;

    say(&format!("from now on clients ask each node {RATE} times a second"));
    let loads = story.load()?;

    say(
        "push 1.2.0, which fails one request of four, by way of n2: one node of five tries it, and takes it back",
    );
    story.push(1, &bad?, &["--canary", "10%", "--bake", "20s"], 3)?;

    let leader = story.fleet.leader(2)?;
    let other = (leader + 1) % NODES;
    say(&format!("push 1.1.0 by way of n{}, and kill the node that leads in the middle", other + 1));
    let mut push = story.start_push(other, &second?, &["--canary", "10%", "--bake", "8s"])?;
    story.fleet.nodes()[other].wait_module("greeter", |module| module.phase == "baking")?;
    let killed = Instant::now();
    story.fleet.node(leader).kill()?;
    println!("killed hotd of n{}, which led", leader + 1);
    story.fleet.wait("another leader", || Ok(story.fleet.leader(other)? != leader))?;
    println!("n{} leads {:.1} s later", story.fleet.leader(other)? + 1, killed.elapsed().as_secs_f64());
    story.fleet.node(leader).boot()?;
    println!("hotd of n{} is started again", leader + 1);
    expect_code(&mut push, 0)?;
    story.hotctl(other, &["status", "greeter"], 0)?;
    story.hotctl(other, &["history", "greeter"], 0)?;

    println!("\nWhat users saw, counted by the clients from the bodies of the responses:\n");
    let mut broken = Vec::new();
    for (node, load) in loads.into_iter().enumerate() {
        let counts = load.stop()?;
        println!("{}", line(node, leader, &counts));
        let was_hit = node == leader || counts.of("1.2.0") > 0;
        if !was_hit && counts.failed() > 0 {
            broken.push(format!("n{} lost requests, and nothing of it was hit", node + 1));
        }
        if counts.of("1.1.0") == 0 {
            broken.push(format!("n{} never served 1.1.0", node + 1));
        }
    }
    drop(story);
    for promise in &broken {
        println!("broken: {promise}");
    }
    println!("\neverything is stopped; that took {:.0} s", start.elapsed().as_secs_f64());
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A fleet and the person in front of it.
struct Story {
    fleet: Fleet,
}

impl Story {
    fn load(&self) -> Result<Vec<Load>> {
        let of = |http| LoadOptions::closed(http, "/greet", CONNECTIONS).at(RATE);
        self.fleet.nodes().iter().map(|node| Load::start(of(node.http()))).collect()
    }

    /// Runs `hotctl` for all to see, and expects its exit code.
    fn hotctl(&self, node: usize, arguments: &[&str], code: i32) -> Result<()> {
        expect_code(&mut self.start(node, arguments)?, code)
    }

    fn push(&self, node: usize, file: &Path, arguments: &[&str], code: i32) -> Result<()> {
        expect_code(&mut self.start_push(node, file, arguments)?, code)
    }

    fn start_push(&self, node: usize, file: &Path, arguments: &[&str]) -> Result<Child> {
        let (file, key) = (file.to_str().context("a path in UTF-8")?, self.fleet.key_file());
        let key = key.to_str().context("a path in UTF-8")?.to_owned();
        self.start(node, &[&["push", file, "--key", &key], arguments].concat())
    }

    fn start(&self, node: usize, arguments: &[&str]) -> Result<Child> {
        // A person would type the name of the file in front of them.
        let typed: Vec<&str> =
            arguments.iter().map(|word| word.rsplit_once('/').map_or(*word, |(_, name)| name)).collect();
        println!("n{}$ hotctl {}", node + 1, typed.join(" "));
        let command = self.fleet.nodes()[node].ctl().command(arguments).spawn();
        command.context("could not start hotctl")
    }
}

fn say(text: &str) {
    println!("\n# {text}");
}

fn line(node: usize, leader: usize, counts: &Counts) -> String {
    let note = if node == leader { "  (its hotd was killed)" } else { "" };
    format!(
        "  n{}  {:>6} requests: {:>6} by 1.0.0, {:>6} by 1.1.0, {:>4} by 1.2.0; {} failed{note}",
        node + 1,
        counts.requests,
        counts.of("1.0.0"),
        counts.of("1.1.0"),
        counts.of("1.2.0"),
        counts.failed(),
    )
}

/// Waits for a run of `hotctl` and expects its exit code.
fn expect_code(child: &mut Child, code: i32) -> Result<()> {
    if let Some(process) = Process::of(i32::try_from(child.id()).context("a pid")?) {
        process.wait_gone(LONGEST)?;
    }
    let status = child.wait().context("waiting for hotctl")?;
    anyhow::ensure!(status.code() == Some(code), "hotctl ended with {status}, expected {code}");
    Ok(())
}
