//! What a push would do is told before it does it, and what would be refused before any byte is sent.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use hot_proto::v1::PlannedFile;
use hot_tests::{Key, Module, Node, WAIT, text};
use serde_json::Value;

/// `plan -o json` with further arguments; its exit code is the one in it.
fn plan(node: &Node, file: &Path, arguments: &[&str], code: i32) -> Result<Value> {
    let plan: Value =
        node.hotctl(&[&["plan", text(file)?, "-o", "json"], arguments].concat())?.expect(code)?.json()?;
    assert_eq!(plan["exit_code"], code);
    Ok(plan)
}

fn codes(plan: &Value) -> Vec<&str> {
    let refusals = plan["refusals"].as_array().into_iter().flatten();
    refusals.filter_map(|refusal| refusal["code"].as_str()).collect()
}

/// The node knows no module of this name: nothing of it was stored.
fn is_unknown(node: &Node, module: &str) -> Result<()> {
    let versions = node.hotctl(&["versions", module, "-o", "json"])?.expect(1)?;
    assert!(versions.stderr.contains("\"code\":\"not_found\""), "{}", versions.stderr);
    Ok(())
}

#[test]
fn what_would_change_is_told_and_nothing_is_done() -> Result<()> {
    let node = Node::start()?;
    let first = Module::new("good").build()?;
    let before = plan(&node, &first, &[], 10)?;
    let module = &before["modules"][0];
    assert_eq!(
        (&module["module"], &module["release"], &module["stable"]),
        (&"probe".into(), &1.into(), &Value::Null)
    );
    assert_eq!(
        (&module["files"][0]["present"], &module["files"][0]["principal"]),
        (&false.into(), &"dev".into())
    );
    assert_eq!(
        module["steps"].as_array().map(Vec::len),
        Some(1),
        "a first release has nothing beside it: {module}"
    );
    is_unknown(&node, "probe")?;
    let shown = node.hotctl(&["plan", text(&first)?])?.expect(10)?.stdout;
    assert!(shown.contains("probe 1.0.0 would be release 1, the first one"), "{shown}");

    node.push(&first, &[])?.expect(0)?;
    let same = plan(&node, &first, &[], 0)?;
    let module = &same["modules"][0];
    assert_eq!((&module["changes"], &module["stable"]["release"]), (&false.into(), &1.into()));
    assert_eq!(module["files"][0]["present"], true);
    let shown = node.hotctl(&["plan", text(&first)?])?.expect(0)?.stdout;
    assert!(shown.contains("is stable already: nothing would change"), "{shown}");

    // The share that the node will carry, step by step, and what it supersedes.
    let next = Module::new("good").version("1.1.0").build()?;
    node.hotctl(&["push", text(&next)?, "--canary", "10%", "--bake", "10m", "--detach"])?.expect(0)?;
    let baking = node.wait_module("probe", WAIT, |module| module.phase == "baking")?;
    assert_eq!(baking.share, 1000);
    let third = Module::new("good").version("1.2.0").build()?;
    let changed = plan(&node, &third, &["--steps", "20%,100%", "--bake", "7s"], 10)?;
    let module = &changed["modules"][0];
    assert!(module["supersedes"].as_str().is_some_and(|id| id.starts_with('r')), "{module}");
    assert_eq!((&module["release"], &module["stable"]["version"]), (&3.into(), &"1.0.0".into()));
    let steps = module["steps"].as_array().context("steps")?;
    let shown: Vec<(&Value, &Value, &Value)> =
        steps.iter().map(|step| (&step["share"], &step["bake_s"], &step["nodes"][0]["weight"])).collect();
    let [two_thousand, all, seven] = [Value::from(2000), Value::from(10_000), Value::from(7.0)];
    assert_eq!(shown, [(&two_thousand, &seven, &two_thousand), (&all, &seven, &all)]);
    // Going on with what is baking would begin anew.
    assert_eq!(plan(&node, &next, &[], 10)?["modules"][0]["changes"], true);
    assert_eq!(node.module("probe")?.phase, "baking", "plans change nothing");
    node.stop()
}

#[test]
fn a_route_that_another_module_has_costs_no_version() -> Result<()> {
    let node = Node::start()?;
    node.push(&Module::new("good").name("one").build()?, &[])?.expect(0)?;
    let two = Module::new("good").name("two").text("ROUTE", "/one").build()?;
    let planned = plan(&node, &two, &[], 4)?;
    assert_eq!(codes(&planned), ["route_taken"]);
    let refused = node.push(&two, &[])?.expect(4)?;
    let sentence = refused.sentence()?;
    assert!(sentence.contains("/one") && sentence.contains("prefix"), "{sentence}");
    is_unknown(&node, "two")?;
    // The same version with a route of its own.
    node.push(&Module::new("good").name("two").build()?, &[])?.expect(0)?;
    assert_eq!(hot_tests::get(node.http(), "/two")?.body().as_ref(), b"two 1.0.0\n");
    node.stop()
}

#[test]
fn every_reason_is_told_at_once_and_before_any_byte() -> Result<()> {
    let node = Node::start()?;
    node.push(&Module::new("good").name("one").build()?, &[])?.expect(0)?;
    let two = Module::new("good").name("two").text("ROUTE", "/one").build()?;
    let all = plan(&node, &two, &["--no-sign", "--bake", "2h"], 4)?;
    assert_eq!(codes(&all), ["signature.missing", "invalid", "route_taken"], "{all}");
    assert_eq!(all["refusals"][0]["file"], text(&two)?);
    assert_eq!((&all["refusals"][1]["field"], &all["refusals"][1]["file"]), (&"steps".into(), &Value::Null));

    let unsigned = node.push(&two, &["--no-sign", "--bake", "2h"])?.expect(4)?;
    let sentence = unsigned.sentence()?;
    assert!(sentence.contains("signature") && sentence.contains("and 2 more reasons"), "{sentence}");
    let good = Module::new("good").name("two").build()?;
    let policy = node.push(&good, &["--bake", "2h"])?.expect(4)?;
    assert!(policy.sentence()?.contains("deadline"), "{}", policy.stderr);
    is_unknown(&node, "two")?;
    node.stop()
}

/// As `ssh-keygen` signs it, unless told otherwise.
#[test]
fn what_the_node_has_needs_no_signature_again_whatever_that_is_over() -> Result<()> {
    let node = Node::start()?;
    let (file, signature) = (Module::new("good").build()?, node.scratch().join("signature"));
    Key::at(node.data_dir().join("dev-key")).sign("hot-module", &file, &signature)?;
    node.push(&file, &["--signature", text(&signature)?])?.expect(0)?;
    let same = plan(&node, &file, &["--no-sign"], 0)?;
    assert_eq!(codes(&same), [""; 0], "{same}");
    assert_eq!(same["modules"][0]["files"][0]["principal"], "dev");
    node.stop()
}

#[test]
fn a_version_that_is_taken_removed_or_quarantined() -> Result<()> {
    let node = Node::start()?;
    for version in ["1.0.0", "1.1.0"] {
        node.push(&Module::new("good").version(version).build()?, &["--steps", "100%", "--bake", "1s"])?
            .expect(0)?;
    }
    let other = Module::new("errors").version("1.1.0").build()?;
    assert_eq!(codes(&plan(&node, &other, &[], 4)?), ["version_taken"]);

    let bad = Module::new("start_fails").version("1.2.0").build()?;
    node.push(&bad, &["--steps", "100%", "--bake", "1s"])?.expect(3)?;
    let quarantined = plan(&node, &bad, &[], 4)?;
    assert_eq!(codes(&quarantined), ["quarantined"], "{quarantined}");

    node.push(&Module::new("good").version("1.3.0").build()?, &["--steps", "100%", "--bake", "1s"])?
        .expect(0)?;
    node.hotctl(&["remove", "probe", "--version", "1.0.0"])?.expect(0)?;
    assert_eq!(codes(&plan(&node, &Module::new("good").build()?, &[], 4)?), ["version_removed"]);
    node.stop()
}

#[test]
fn a_stored_file_that_is_gone_hides_no_other_reason() -> Result<()> {
    let node = Node::start()?;
    let good = Module::new("good").build()?;
    let (file, signature) = (node.scratch().join("probe.so"), node.scratch().join("signature"));
    fs::copy(&good, &file)?;
    // As ssh-keygen makes it, over a hash that the caller of the plan does not say.
    node.key().sign("hot-module", &file, &signature)?;
    node.push(&file, &["--signature", text(&signature)?])?.expect(0)?;
    let inspected: Value = node.hotctl(&["inspect", text(&file)?, "-o", "json"])?.expect(0)?.json()?;
    let part = |name: &str| inspected[name].as_str().unwrap_or_default().to_owned();
    let planned = PlannedFile {
        digest: part("digest"),
        size: u64::MAX,
        target: part("target"),
        metadata: part("metadata"),
        ..PlannedFile::default()
    };
    assert_eq!(hot_tests::plan(node.door()?, planned.clone())?, ["file.too_large"]);
    fs::remove_file(node.data_dir().join(format!("artifacts/{}.so", planned.digest)))?;
    assert_eq!(hot_tests::plan(node.door()?, planned)?, ["file.too_large", "stored_damaged"]);
    node.stop()
}
