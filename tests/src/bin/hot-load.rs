//! Makes load on one URL and counts what clients see, by the version that response bodies name.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program whose result is what it prints")]

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use hot_tests::{Load, LoadOptions};

/// Makes load on one URL and counts what clients see.
///
/// A response is good when it has status 200 and its body names a version (three numbers between dots). Ends with 1
/// when a request failed.
#[derive(Debug, Parser)]
#[command(name = "hot-load", version)]
struct Arguments {
    /// What to ask for, e.g. http://127.0.0.1:8080/greet
    url: http::Uri,
    /// Kept-alive connections, each with one request at a time
    #[arg(short, long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Requests per second over all connections, at even times; without it as fast as they go
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Seconds
    #[arg(short, long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration: u64,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let address = address(&arguments.url)?;
    let path = arguments.url.path_and_query().map_or("/", |path| path.as_str());
    let mut options = LoadOptions::closed(address, path, arguments.connections);
    if let Some(rate) = arguments.rate {
        options = options.at(rate);
    }
    let load = Load::start(options)?;
    std::thread::sleep(Duration::from_secs(arguments.duration));
    let counts = load.stop()?;
    println!("{counts}");
    Ok(if counts.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The address that the URL names.
fn address(url: &http::Uri) -> Result<SocketAddr> {
    ensure!(url.scheme_str() == Some("http"), "found {url}, expected a URL that begins with http://");
    let host = url.host().context("the URL names no host")?.trim_matches(['[', ']']);
    let port = url.port_u16().unwrap_or(80);
    (host, port).to_socket_addrs().with_context(|| host.to_owned())?.next().context("the host has no address")
}
