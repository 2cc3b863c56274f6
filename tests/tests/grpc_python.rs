//! A gRPC client that knows nothing of this project but what reflection tells it: Python's grpcio.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hot_tests::{Follow, Module, Node, WAIT};

/// The interpreter of the virtual environment that `make test` made.
fn python() -> Result<PathBuf> {
    let python = std::env::var_os("HOT_TEST_PYTHON").map(PathBuf::from);
    let python = python
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/venv/bin/python"));
    ensure!(python.exists(), "{} was not found; `make test` makes it", python.display());
    Ok(python)
}

#[test]
fn reflection_is_enough_to_list_follow_and_roll_back() -> Result<()> {
    let node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    let next = Module::new("good").version("1.1.0").build()?;
    node.push(&next, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;

    let mut command = Command::new(python()?);
    command.arg("-u").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/client.py"));
    command.arg(node.grpc().to_string()).arg("probe").env("HOT_TOKEN", node.token()?);
    let mut client = Follow::start(command)?;
    client
        .wait(WAIT, |line| (line == "module probe stable 1.1.0").then_some(()))
        .context("it lists modules")?;
    client.wait(WAIT, |line| line.starts_with("event ").then_some(())).context("it follows events")?;
    client
        .wait(WAIT, |line| (line == "rolled back to 1.0.0").then_some(()))
        .context("it starts a rollback")?;
    client
        .wait(WAIT, |line| line.starts_with("new event ").then_some(()))
        .context("it sees its own rollback")?;
    assert_eq!(client.wait_end(WAIT)?, 0, "{:?}", client.seen());
    assert_eq!(hot_tests::get(node.http(), "/probe")?.body().as_ref(), b"probe 1.0.0\n");
    node.stop()
}

#[test]
fn without_the_token_nothing_is_told() -> Result<()> {
    let node = Node::start()?;
    let mut command = Command::new(python()?);
    command.arg("-u").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/client.py"));
    command.arg(node.grpc().to_string()).arg("probe").env("HOT_TOKEN", "wrong");
    let mut client = Follow::start(command)?;
    client.wait(WAIT, |line| line.contains("UNAUTHENTICATED").then_some(()))?;
    assert_ne!(client.wait_end(WAIT)?, 0);
    node.stop()
}
