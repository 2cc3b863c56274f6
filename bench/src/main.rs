//! What the data path costs, beside its peers: the rows of DESIGN that one node has, measured in one run on one machine.
//!
//! `make bench` measures all and writes `docs/benchmarks.md`; `make bench-quick` takes a look. Servers run on the first
//! core with all their processes, the load on the last. The programs of Hot are the real ones, as a service with a signed
//! module; nginx and haproxy are the distribution's. Its own roles (a plain server, a naive proxy, the load) are this
//! program, started again.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a report is what this program is for")]

mod client;
mod compare;
mod cpu;
mod report;
mod rows;
mod server;
mod stats;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

use client::Plan;
use cpu::Side;
use report::{Machine, Section};
use rows::{Effort, ROWS};

/// Measures what the data path costs, beside its peers.
#[derive(Debug, Parser)]
#[command(name = "hot-bench", version)]
struct Arguments {
    /// Few and short runs: a look, not a measurement
    #[arg(long)]
    quick: bool,
    /// Only these rows
    #[arg(long, value_name = "ROW", value_parser = ROWS.map(|(name, _)| name))]
    only: Vec<String>,
    /// Write benchmarks.md and its plots into this folder, for a whole run
    #[arg(long, value_name = "DIR", conflicts_with_all = ["quick", "only"])]
    write: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What this program starts of itself
    #[command(hide = true, subcommand)]
    Role(Role),
}

#[derive(Debug, Subcommand)]
enum Role {
    Plain {
        socket: Option<String>,
    },
    Naive {
        socket: String,
    },
    Load {
        address: std::net::SocketAddr,
        path: String,
        connections: usize,
        millis: u64,
        per_second: Option<u32>,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // Before anything is pinned, which changes what the system says.
    let cores = std::thread::available_parallelism().context("the number of cores")?.get();
    if let Some(Command::Role(role)) = arguments.role {
        return act(role);
    }
    let effort = if arguments.quick { Effort::QUICK } else { Effort::FULL };
    let machine = Machine::this(cores);
    let folder =
        tempfile::Builder::new().prefix("hot-bench-").tempdir().context("a folder for the servers")?;
    // Whatever is started from here on is a server, but the load, which moves away.
    cpu::pin(Side::Server)?;
    let (mut sections, mut failed): (Vec<Section>, Vec<&str>) = (Vec::new(), Vec::new());
    for (name, measure) in ROWS {
        if arguments.only.is_empty() || arguments.only.iter().any(|only| only == name) {
            eprint(&format!("measuring: {name}"));
            // One that fails costs none of the others.
            match measure(folder.path(), effort) {
                Ok(section) => sections.push(section),
                Err(error) => {
                    eprint(&format!("{name} failed: {error:#}"));
                    failed.push(name);
                }
            }
        }
    }
    let command = if arguments.quick { "make bench-quick" } else { "make bench" };
    // What is written stands for a whole run.
    let page = match &arguments.write {
        Some(docs) if failed.is_empty() => report::write(docs, &machine, command, &sections)?,
        _ => report::show(&machine, command, &sections),
    };
    println!("{page}");
    ensure!(failed.is_empty(), "these rows could not be measured: {}", failed.join(", "));
    Ok(())
}

fn act(role: Role) -> Result<()> {
    match role {
        Role::Plain { socket } => server::plain(socket.as_deref()),
        Role::Naive { socket } => server::naive(&socket),
        Role::Load { address, path, connections, millis, per_second } => {
            let plan = Plan { address, path, connections, per_second };
            println!("{}", compare::load(&plan, Duration::from_millis(millis))?);
            Ok(())
        }
    }
}

/// Says what goes on, beside the report.
#[expect(clippy::print_stderr, reason = "progress is for whoever waits")]
fn eprint(text: &str) {
    eprintln!("{text}");
}
