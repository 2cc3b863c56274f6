//! `hotctl`, the command line of Hot: parses, runs one command, tells how it ended.
//!
//! Owns what people type and read. Does not own what a node does, nor what makes a file valid: it asks the node
//! (`hot-proto`) and the checks of files (`hot-artifact`).

#![forbid(unsafe_code)]

mod args;
mod bundle;
mod commands;
mod contexts;
mod exit;
mod exposition;
mod failure;
#[cfg(test)]
mod fake;
mod follow;
mod heard;
mod json;
mod node;
mod offer;
mod on;
mod output;
mod pki;
mod plan;
mod policy;
mod progress;
mod show;
mod signing;
mod table;
mod trust;
mod upload;
mod whole;
mod words;

use std::process::ExitCode;

use crate::args::Cli;
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Out};

fn main() -> ExitCode {
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(mut error) => {
            args::name_both(&mut error);
            args::name_the_way_back(&mut error);
            return unreadable(&error);
        }
    };
    let mut out = Out::new(cli.output);
    let exit = run(cli, &mut out).unwrap_or_else(|failure| {
        out.failure(&failure);
        failure.exit
    });
    exit.into()
}

/// Tells what is wrong with the command line, or what it asked to be told of it (`--help`, `--version`).
fn unreadable(error: &clap::Error) -> ExitCode {
    let is_mistake = error.use_stderr();
    if is_mistake && args::ask_for_json(std::env::args_os()) {
        Out::new(Format::Json).failure(&args::failure(error));
    } else {
        // Where help goes that nobody reads is nobody's business.
        drop(error.print());
    }
    if is_mistake { Exit::Usage.into() } else { Exit::Success.into() }
}

fn run(cli: Cli, out: &mut Out) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("runtime", format!("can't start: {error}")))?;
    let exit = runtime.block_on(commands::run(cli.command, &mut Context::new(cli.place.wanted(), out)));
    // A thread that still reads a file ahead has nothing left to do.
    runtime.shutdown_background();
    exit
}
