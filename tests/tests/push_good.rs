//! A good push under load: nobody notices, and the share is what was asked for, as the clients count it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hot_tests::{Ended, Load, LoadOptions, Module, Node, WAIT, example, has_cpp, skipped};

/// Requests over which the share is counted.
const COUNTED: u64 = 10_000;

#[test]
fn nobody_notices_a_good_push_and_its_share_is_exact() -> Result<()> {
    let node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    let load = Load::start(LoadOptions::closed(node.http(), "/probe", 64))?;

    let next = Module::new("good").version("1.1.0").build()?;
    let next = next.to_str().context("a path in UTF-8")?;
    let mut push = node.ctl().follow(&["push", next, "--canary", "10%", "--bake", "8s", "-o", "json"])?;
    node.wait_module("probe", WAIT, |module| module.phase == "baking" && module.share == 1000)?;
    let window = load.begin_window();
    load.wait_requests(window, COUNTED, Duration::from_secs(60))?;
    let counts = load.end_window(window)?;
    let during = node.module("probe")?;
    ensure!(during.share == 1000, "the step ended before {COUNTED} requests were counted: {during:?}");
    let share = counts.percent("1.1.0");
    assert!((share - 10.0).abs() <= 0.5, "the clients counted {share:.2}%, expected 10.0% +- 0.5: {counts}");

    let code = push.wait_end(Duration::from_secs(120))?;
    assert_eq!(code, 0, "{:?}", push.seen());
    let ended: Ended = serde_json::from_str(push.seen().last().context("no output")?)?;
    assert_eq!((ended.outcome.as_deref(), ended.exit_code), (Some("done"), 0));

    let after = load.begin_window();
    load.wait_requests(after, 1000, WAIT)?;
    let after = load.end_window(after)?;
    assert_eq!(after.of("1.1.0"), after.requests, "all of it is promoted: {after}");
    let total = load.stop()?;
    assert_eq!((total.failed(), total.closed), (0, 0), "{total}");
    let module = node.module("probe")?;
    assert_eq!((module.stable_version(), module.phase.as_str()), ("1.1.0", "done"));
    assert!(module.candidate.is_none(), "{module:?}");
    node.stop()
}

#[test]
fn the_examples_in_rust_c_and_cpp_serve() -> Result<()> {
    let node = Node::start()?;
    for (file, path, expected) in [
        ("greeter-1.0.0.so", "/greet?name=Ada", "hello Ada from greeter 1.0.0\n"),
        ("greeter-1.1.0.so", "/greet?name=Ada", "good day Ada from greeter 1.1.0\n"),
        ("hello-c.so", "/hello", "hello from hello-c 1.0.0\n"),
        ("hello-cpp.so", "/hello-cpp?name=Ada", "hello Ada from hello-cpp 1.0.0\n"),
    ] {
        if file == "hello-cpp.so" && !has_cpp() {
            skipped("there is no C++ compiler here, so hello-cpp was not built")?;
            continue;
        }
        node.push(&example(file)?, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
        let reply = hot_tests::get(node.http(), path)?;
        assert_eq!((reply.status().as_u16(), reply.body().as_ref()), (200, expected.as_bytes()));
    }
    let status = node.status()?;
    let names: Vec<&str> = status.modules.iter().map(|module| module.name.as_str()).collect();
    let expected = ["greeter", "hello-c", "hello-cpp"];
    assert_eq!(names, expected[..if has_cpp() { 3 } else { 2 }]);
    node.stop()
}
