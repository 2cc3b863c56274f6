//! `hotd`: the allocator, arguments, config, logs, one node, signals.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use hotd::args::{Args, ArgsError};
use hotd::config::{Checked, Config, ConfigError};
use hotd::node::Node;
use hotd::trust::Untrusted;
use tokio::signal::unix::{SignalKind, signal};

/// The config or the arguments are wrong, as clap itself says it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // Before there is any other thread.
    #[cfg(target_env = "gnu")]
    share_one_arena();
    let args = Args::parse();
    if let Some(path) = args.to_check() {
        return check(path);
    }
    let config = match args.config() {
        Ok(config) => config,
        Err(ArgsError::Config(error)) => return refuse(error),
        Err(error) => return complain(&anyhow::Error::new(error), USAGE),
    };
    if let Err(error) = hotd::telemetry::init(&config.log) {
        return complain(&anyhow::Error::new(error), USAGE);
    }
    hotd::descriptors::raise(config.http.gateway.max_connections, config.grpc.max_callers());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let served = runtime.context("the executor can't be started").and_then(|runtime| {
        let served = runtime.block_on(serve(config));
        // What still runs has been told to end; nothing waits for it.
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Untrusted>() => complain(&error, USAGE),
        Err(error) => complain(&error, 1),
    }
}

/// Has all threads allocate from the same arena. By itself glibc gives each an own one, up to eight for each core, and what
/// is freed in one is of no use to the others: memory creeps for hundreds of pushes (docs/decisions/0015). Whoever sets
/// `MALLOC_ARENA_MAX` has their own way.
#[cfg(target_env = "gnu")]
#[expect(
    unsafe_code,
    reason = "nothing safe sets it, and the environment is read before this program begins"
)]
fn share_one_arena() {
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        // SAFETY: it takes two numbers and keeps nothing of ours; it is not safe beside threads that allocate, and `main`
        // calls this before it starts one.
        let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
        debug_assert_eq!(set, 1, "glibc knows this option since 2.10");
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    // Before the node: a signal while it starts ends it in order, too.
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut node = Node::start(config).await?;
    node.say_ready(std::io::stdout())?;
    let failure = tokio::select! {
        _ = term.recv() => None,
        _ = int.recv() => None,
        error = node.failed() => Some(error),
    };
    tracing::info!("hotd stops");
    node.stop().await?;
    failure.map_or(Ok(()), Err)
}

/// Says what is wrong; where nothing is, what has no effect.
fn check(path: &Path) -> ExitCode {
    match Config::check(path) {
        Ok(Checked { idle, files }) => {
            idle.iter().for_each(|idle| warn(&idle.to_string()));
            let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
            // Who only asks for the exit code may have closed it.
            drop(writeln!(std::io::stdout(), "the config is good; read were {}", files.join(", ")));
            ExitCode::SUCCESS
        }
        Err(error) => refuse(error),
    }
}

/// Says what is wrong with a config: each mistake as `FILE:LINE: ...`, which editors jump to.
fn refuse(error: ConfigError) -> ExitCode {
    match error {
        ConfigError::Invalid(mistakes) => {
            warn(&mistakes.to_string());
            ExitCode::from(USAGE)
        }
        error => complain(&anyhow::Error::new(error), USAGE),
    }
}

#[expect(clippy::print_stderr, reason = "a config is mended by whoever runs hotd")]
fn warn(text: &str) {
    eprintln!("{text}");
}

#[expect(
    clippy::print_stderr,
    reason = "the one place where a failure to start is said to whoever started hotd"
)]
fn complain(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("hotd: {}", hotd::describe(error.as_ref()));
    ExitCode::from(code)
}
