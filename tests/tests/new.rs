//! `hotctl new` as a newcomer meets it: what it tells to type is typed, and the module serves.
//!
//! The commands are those that it prints. Only cargo is told two things more: to stay off the network, and to keep what it
//! builds in the workspace's target folder, so that the next run is fast.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hot_tests::{Node, has_cpp, skipped};
use serde_json::Value;

/// Has a module written, tested, built and pushed, and asks it: what it answers.
fn from_nothing_to_an_answer(language: &str, options: &[&str]) -> Result<(Node, String)> {
    let node = Node::start()?;
    let name = format!("new-{language}");
    let mut new = node.ctl().command(&[&["new", &name, "--lang", language, "-o", "json"], options].concat());
    new.current_dir(node.scratch());
    let made: Value = hot_tests::run(new)?.expect(0)?.json()?;
    let next: Vec<&str> = made["next"].as_array().context("next")?.iter().filter_map(Value::as_str).collect();
    ensure!(next.len() <= 4, "with `hotctl new` more than five commands: {next:?}");

    let kept = hot_tests::target()?.join("new-modules");
    fs::create_dir_all(&kept)?;
    symlink(kept, node.scratch().join(&name).join("target"))?;
    type_in(&node, &next)?.expect(0)?;
    let reply = hot_tests::get(node.http(), &format!("/{name}?name=Ada"))?;
    assert_eq!(reply.status(), 200);
    let body = String::from_utf8(reply.body().to_vec())?;
    let echoed = hot_tests::exchange(
        node.http(),
        http::Request::post(format!("/{name}/echo"))
            .header("host", node.http().to_string())
            .body("and back".into())?,
    )?;
    assert_eq!(echoed.body().as_ref(), b"and back");
    Ok((node, body))
}

/// Types the commands into one shell, in the folder of the test, until one fails.
fn type_in(node: &Node, commands: &[&str]) -> Result<hot_tests::Output> {
    let hotctl = node.binaries().hotctl();
    let programs = hotctl.parent().context("a folder")?;
    let path = std::env::var("PATH").context("PATH")?;
    // The environment in which hotctl finds this node and no other.
    let of_node = node.ctl().command(&[""; 0]);
    let mut shell = Command::new("sh");
    shell.args(["-exc", &commands.join("\n")]).current_dir(node.scratch());
    for (name, value) in of_node.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.env("PATH", format!("{}:{path}", programs.display())).env("CARGO_NET_OFFLINE", "true");
    for name in ["CARGO_TARGET_DIR", "MAKEFLAGS", "MAKELEVEL", "RUSTFLAGS"] {
        shell.env_remove(name);
    }
    hot_tests::run_for(shell, hot_tests::BUILD)
}

#[test]
fn a_module_in_rust() -> Result<()> {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../module");
    let sdk = sdk.to_str().context("UTF-8")?;
    let (node, body) = from_nothing_to_an_answer("rust", &["--sdk", sdk])?;
    assert_eq!(body, "hello Ada from new-rust 0.1.0\n");
    node.stop()
}

#[test]
fn a_module_in_c() -> Result<()> {
    let (node, body) = from_nothing_to_an_answer("c", &[])?;
    assert_eq!(body, "hello from new-c 0.1.0\n");
    node.stop()
}

#[test]
fn a_module_in_cpp() -> Result<()> {
    if !has_cpp() {
        return skipped("there is no C++ compiler here");
    }
    let (node, body) = from_nothing_to_an_answer("cpp", &[])?;
    assert_eq!(body, "hello Ada from new-cpp 0.1.0\n");
    node.stop()
}
