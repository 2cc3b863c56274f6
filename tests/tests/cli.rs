//! `hotctl` as scripts use it: verbs, exit codes and JSON, against a real node.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use hot_tests::{Key, Module, Node, Rollout, WAIT};
use serde_json::Value;

/// A node that serves `probe 1.0.0`, and the file of 1.1.0.
fn serving() -> Result<(Node, String)> {
    let node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    let next = Module::new("good").version("1.1.0").build()?;
    Ok((node, next.to_str().context("UTF-8")?.to_owned()))
}

#[test]
fn status_has_the_documented_keys() -> Result<()> {
    let (node, next) = serving()?;
    let idle: Value = node.hotctl(&["status", "-o", "json"])?.expect(0)?.json()?;
    let module = &idle["modules"][0];
    assert_eq!(module["name"], "probe");
    assert_eq!((&module["candidate"], &module["share"]), (&Value::Null, &Value::from(0)));
    assert_eq!(
        (&module["stable"]["release"], &module["stable"]["version"]),
        (&Value::from(1), &Value::from("1.0.0"))
    );
    assert_eq!(module["stable"]["digest"].as_str().map(str::len), Some(64));

    node.hotctl(&["push", &next, "--canary", "10%", "--bake", "10m", "--detach"])?.expect(0)?;
    node.wait_module("probe", WAIT, |module| module.phase == "baking")?;
    for _ in 0..20 {
        assert_eq!(hot_tests::get(node.http(), "/probe")?.status(), 200);
    }
    let module = node.wait_module("probe", WAIT, |module| {
        module.instances().map(|instance| instance.requests).sum::<u64>() >= 20
    })?;
    assert_eq!(
        (module.share, module.candidate.map(|candidate| candidate.version)),
        (1000, Some("1.1.0".to_owned()))
    );
    let busy: Value = node.hotctl(&["status", "-o", "json"])?.expect(0)?.json()?;
    let instances = busy["modules"][0]["nodes"][0]["instances"].as_array().context("instances")?.clone();
    let weights: Vec<(u64, u64)> = instances
        .iter()
        .filter_map(|instance| Some((instance["release"].as_u64()?, instance["weight"].as_u64()?)))
        .collect();
    assert!(weights.contains(&(1, 9000)) && weights.contains(&(2, 1000)), "{weights:?}");
    for instance in &instances {
        for key in ["release", "version", "weight", "state", "requests", "errors", "p99_ms"] {
            assert!(!instance[key].is_null(), "{key} is missing in {instance}");
        }
    }
    node.stop()
}

#[test]
fn the_verbs_of_a_running_rollout() -> Result<()> {
    let (node, next) = serving()?;
    let id = node.hotctl(&["push", &next, "--canary", "10%", "--bake", "10m", "--detach"])?.expect(0)?;
    assert_eq!(id.stdout.split_whitespace().count(), 1, "the rollout's id alone: {:?}", id.stdout);
    assert!(id.stderr.contains("uploaded, signed by "), "{}", id.stderr);
    node.wait_module("probe", WAIT, |module| module.phase == "baking")?;

    let paused: Rollout = node.hotctl(&["pause", "probe", "-o", "json"])?.expect(0)?.json()?;
    assert_eq!(paused.phase, "paused");
    node.hotctl(&["pause", "probe"])?.expect(0)?;
    assert_eq!(node.module("probe")?.share, 1000, "a held rollout keeps its share");
    node.hotctl(&["resume", "probe"])?.expect(0)?;
    node.wait_module("probe", WAIT, |module| module.phase == "baking")?;

    node.hotctl(&["promote", "probe"])?.expect(0)?;
    let module = node.wait_module("probe", WAIT, |module| module.phase == "done")?;
    assert_eq!(module.stable_version(), "1.1.0");
    for verb in ["pause", "resume", "promote", "abort"] {
        let output = node.hotctl(&[verb, "probe"])?.expect(1)?;
        output.sentence().with_context(|| format!("{verb} with nothing running"))?;
    }
    node.stop()
}

#[test]
fn abort_takes_the_candidate_back_and_the_push_says_so() -> Result<()> {
    let (node, next) = serving()?;
    let mut push = node.ctl().follow(&["push", &next, "--canary", "10%", "--bake", "10m"])?;
    node.wait_module("probe", WAIT, |module| module.phase == "baking")?;
    node.hotctl(&["abort", "probe"])?.expect(0)?;
    assert_eq!(push.wait_end(WAIT)?, 3, "{:?}", push.seen());
    assert_eq!(node.module("probe")?.stable_version(), "1.0.0");
    node.stop()
}

#[test]
fn a_second_push_supersedes_the_first() -> Result<()> {
    let (node, next) = serving()?;
    let mut first = node.ctl().follow(&["push", &next, "--canary", "10%", "--bake", "10m"])?;
    node.wait_module("probe", WAIT, |module| module.phase == "baking")?;
    let third = Module::new("good").version("1.2.0").build()?;
    node.push(&third, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    assert_eq!(first.wait_end(WAIT)?, 3, "{:?}", first.seen());
    assert_eq!(node.module("probe")?.stable_version(), "1.2.0");
    node.stop()
}

#[test]
fn a_push_that_is_not_waited_for_long_enough_ends_with_5_and_goes_on() -> Result<()> {
    let (node, next) = serving()?;
    node.hotctl(&["push", &next, "--canary", "10%", "--bake", "10m", "--timeout", "1s"])?.expect(5)?;
    let module = node.module("probe")?;
    assert!(module.candidate.is_some(), "{module:?}");
    node.stop()
}

#[test]
fn what_is_not_there_is_told_with_what_is() -> Result<()> {
    let (node, _) = serving()?;
    for verb in [
        "status", "abort", "pause", "resume", "promote", "rollback", "restart", "versions", "history",
        "logs", "metrics", "remove", "events",
    ] {
        let output = node.hotctl(&[verb, "prob"])?.expect(1)?;
        let said = output.sentence()?;
        assert_eq!(said, "hotctl: no module is named prob. Did you mean probe, the only one here?", "{verb}");
    }
    for verb in ["logs", "metrics"] {
        let output = node.hotctl(&[verb, "probe", "--release", "99"])?.expect(1)?;
        assert_eq!(output.sentence()?, "hotctl: probe has no release 99. Its only release is 1.", "{verb}");
    }
    node.stop()
}

#[test]
fn the_address_that_modules_are_served_at_is_told_from_the_nodes() -> Result<()> {
    let (node, next) = serving()?;
    let gateway = format!("http://{}", node.http());
    for command in [&["status"][..], &["push", &next], &["plan", &next], &["remove", "probe"]] {
        let output = node.hotctl(&[command, &["--node", &gateway]].concat())?.expect(1)?;
        let said = output.stderr.lines().last().context("a sentence")?;
        let instead = format!("ask that node with --node unix:{}", node.socket().display());
        assert!(
            said.contains(&gateway) && said.contains("serves its modules over HTTP"),
            "{command:?}: {said}"
        );
        assert!(said.ends_with(&instead), "{command:?}: {said}");
    }
    node.stop()
}

#[test]
fn bakes_that_do_not_fit_are_refused_with_what_does() -> Result<()> {
    let (node, next) = serving()?;
    let refused = node.hotctl(&["push", &next, "--bake", "2h"])?.expect(4)?;
    let said = refused.sentence()?;
    assert!(
        said.contains("their bakes come to 6h (3 steps)") && said.contains("less than 1h in all"),
        "{said}"
    );
    node.stop()
}

/// Nothing is printed that would tell it: nothing happens on the node.
#[test]
fn a_reader_that_left_is_noticed_on_a_quiet_node() -> Result<()> {
    let (node, _) = serving()?;
    for arguments in [&["status", "--watch"][..], &["events", "-f"], &["logs", "probe", "-f"]] {
        let mut child = node.ctl().command(arguments).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
        if arguments[0] != "logs" {
            lines.read_line(&mut String::new())?;
        }
        drop(lines);
        let (sender, ended) = mpsc::channel();
        thread::spawn(move || sender.send(child.wait()));
        let status = ended.recv_timeout(WAIT).with_context(|| format!("{arguments:?} goes on"))??;
        assert_eq!(status.code(), Some(0), "{arguments:?}");
    }
    node.stop()
}

#[test]
fn what_was_removed_is_removed() -> Result<()> {
    let (node, next) = serving()?;
    node.hotctl(&["push", &next, "--steps", "100%", "--bake", "1s"])?.expect(0)?;
    let in_use = node.hotctl(&["remove", "probe", "--version", "1.1.0"])?.expect(1)?;
    assert!(
        in_use.sentence()?.starts_with("hotctl: probe 1.1.0 is stable (release 2), so it can't"),
        "{}",
        in_use.stderr
    );
    // Who is not asked, as there is no terminal, has to say that it is meant.
    let unasked = node.hotctl(&["remove", "probe"])?.expect(2)?;
    assert_eq!(
        unasked.sentence()?,
        "hotctl: probe 1.1.0 serves /probe now and will not any more; what is stored of probe goes (1.1.0, 1.0.0), and these \
         versions can never be pushed again; nothing was removed, as there is no terminal to ask at, expected --yes: say \
         `hotctl remove probe --yes` if that is meant"
    );
    assert_eq!(hot_tests::get(node.http(), "/probe")?.body().as_ref(), b"probe 1.1.0\n");
    assert_eq!(
        node.hotctl(&["remove", "probe", "--yes"])?.expect(0)?.stdout,
        "probe: removed 1.0.0, 1.1.0\n"
    );
    assert_eq!(node.hotctl(&["remove", "probe"])?.expect(0)?.stdout, "probe: was removed already\n");
    let status = node.hotctl(&["status", "probe"])?.expect(0)?;
    assert!(status.stdout.contains("removed: nothing of it runs"), "{}", status.stdout);
    let again = node.hotctl(&["remove", "probe", "--version", "1.0.0"])?.expect(0)?;
    assert_eq!(again.stdout, "probe 1.0.0: was removed already\n");
    node.hotctl(&["remove", "probe", "--version", "3.0.0"])?.expect(1)?.sentence()?;
    let versions = node.hotctl(&["versions", "probe"])?.expect(0)?.stdout;
    let removed = |line: &str| line.contains("  removed by ") && !line.contains(" B ");
    assert!(versions.lines().skip(1).all(removed) && versions.lines().count() == 3, "{versions}");
    node.stop()
}

#[test]
fn versions_history_and_events_tell_what_happened() -> Result<()> {
    let (node, next) = serving()?;
    let mut events = node.events()?;
    let push = ["push", &next, "--steps", "100%", "--bake", "1s", "--message", "a new greeting"];
    node.hotctl(&push)?.expect(0)?;
    node.hotctl(&["rollback", "probe", "--message", "did not like it"])?.expect(0)?;
    let mut last = 0;
    for _ in 0..3 {
        let event = events.wait(WAIT, |event| event.module == "probe")?;
        assert!(event.sequence > last && !event.kind.is_empty() && !event.text.is_empty(), "{event:?}");
        last = event.sequence;
    }

    let versions: Value = node.hotctl(&["versions", "probe", "-o", "json"])?.expect(0)?.json()?;
    let versions: Vec<&str> = versions["versions"]
        .as_array()
        .context("versions")?
        .iter()
        .filter_map(|v| v["version"].as_str())
        .collect();
    assert_eq!(versions, ["1.1.0", "1.0.0"], "newest first");

    let history: Value = node.hotctl(&["history", "probe", "-o", "json"])?.expect(0)?.json()?;
    let entries = history["entries"].as_array().context("entries")?;
    let told: Vec<(&str, bool)> =
        entries.iter().filter_map(|e| Some((e["message"].as_str()?, e["rollback"].as_bool()?))).collect();
    assert_eq!(told, [("did not like it", true), ("a new greeting", false), ("", false)]);
    node.stop()
}

#[test]
fn the_same_bytes_again_are_not_sent_again_and_other_bytes_never_take_a_version() -> Result<()> {
    let (node, next) = serving()?;
    node.hotctl(&["push", &next, "--steps", "100%", "--bake", "1s"])?.expect(0)?;
    let again = node.hotctl(&["push", &next, "--steps", "100%", "--bake", "1s"])?;
    assert!(again.stdout.contains("has it already"), "{again:?}");
    let other = Module::new("errors").version("1.1.0").build()?;
    let refused = node.push(&other, &[])?.expect(4)?;
    assert!(refused.sentence()?.contains("1.1.0"), "{}", refused.stderr);
    node.stop()
}

#[test]
fn files_are_inspected_signed_and_verified_without_a_node() -> Result<()> {
    let node = Node::start()?;
    let file = node.scratch().join("probe.so");
    fs::copy(Module::new("good").version("1.2.3").build()?, &file)?;
    let path = file.to_str().context("UTF-8")?;
    let key = Key::generate(node.scratch().join("key"))?;
    let signers = node.scratch().join("signers");
    fs::write(&signers, key.signer("anna")?)?;
    let signers = signers.to_str().context("UTF-8")?;

    node.hotctl(&["sign", path, "--key", key.path().to_str().context("UTF-8")?])?.expect(0)?;
    let verified: Value =
        node.hotctl(&["verify", path, "--allowed-signers", signers, "-o", "json"])?.expect(0)?.json()?;
    assert_eq!((&verified["principal"], &verified["version"]), (&Value::from("anna"), &Value::from("1.2.3")));
    let inspected: Value =
        node.hotctl(&["inspect", path, "--allowed-signers", signers, "-o", "json"])?.expect(0)?.json()?;
    assert_eq!((&inspected["name"], &inspected["digest"]), (&Value::from("probe"), &verified["digest"]));
    assert_eq!(inspected["routes"][0], "/probe");
    // As for a service, no list of revoked keys is known: a verdict without it says so.
    assert_eq!(verified["not_judged"], inspected["not_judged"]);
    let left_out = "not judged revoked keys (--revoked FILE); ";
    let shown = node.hotctl(&["verify", path, "--allowed-signers", signers])?.expect(0)?.stdout;
    assert!(shown.contains("is good, signed by anna") && shown.contains(left_out), "{shown}");
    let revoked = node.scratch().join("revoked");
    let revoked = ["--allowed-signers", signers, "--revoked", revoked.to_str().context("UTF-8")?];
    fs::write(revoked[3], "")?;
    let shown = node.hotctl(&[&["verify", path], &revoked[..]].concat())?.expect(0)?.stdout;
    assert!(shown.contains("not judged ") && !shown.contains("revoked keys"), "{shown}");
    fs::write(revoked[3], format!("{}\n", key.public()?))?;
    let refused = node.hotctl(&[&["verify", path], &revoked[..]].concat())?.expect(4)?;
    assert!(refused.stderr.contains("revoked"), "{}", refused.stderr);

    let mut bytes = fs::read(&file)?;
    *bytes.last_mut().context("bytes")? ^= 1;
    fs::write(&file, bytes)?;
    node.hotctl(&["verify", path, "--allowed-signers", signers])?.expect(4)?.sentence()?;
    node.stop()
}

#[test]
fn a_certificate_without_its_key_says_where_that_would_be() -> Result<()> {
    let node = Node::start()?;
    let file = node.scratch().join("probe.so");
    fs::copy(Module::new("good").build()?, &file)?;
    let key = Key::generate(node.scratch().join("key"))?;
    key.certify(&key, "anna", &[])?;
    let (path, cert) = (file.to_str().context("UTF-8")?, node.scratch().join("key-cert.pub"));
    let sign = ["sign", path, "--key", cert.to_str().context("UTF-8")?];
    fs::rename(key.path(), node.scratch().join("away"))?;
    let refused = node.hotctl(&sign)?.expect(1)?;
    let sentence = refused.sentence()?;
    let advice = format!("put it into {}, or add it to ssh-agent", key.path().display());
    assert!(sentence.contains(&advice) && sentence.contains("SSH_AUTH_SOCK is not set"), "{sentence}");
    fs::rename(node.scratch().join("away"), key.path())?;
    node.hotctl(&sign)?.expect(0)?;
    node.stop()
}

#[test]
fn logs_show_what_a_module_says() -> Result<()> {
    let node = Node::start()?;
    node.push(&hot_tests::example("hello-c.so")?, &[])?.expect(0)?;
    let mut logs = node.ctl().follow(&["logs", "hello-c", "-f"])?;
    logs.wait(WAIT, |line| line.contains("hello-c 1.0.0 starts").then_some(()))?;
    node.stop()
}

#[test]
fn nodes_says_what_a_dev_node_lacks() -> Result<()> {
    let node = Node::start()?;
    let nodes: Value = node.hotctl(&["nodes", "-o", "json"])?.expect(0)?.json()?;
    let only = &nodes["nodes"][0];
    assert_eq!((&only["dev"], &only["ready"]), (&Value::from(true), &Value::from(true)));
    assert_eq!(only["http"], node.http().to_string());
    assert!(!only["missing"].as_array().context("missing")?.is_empty());
    node.stop()
}

#[test]
fn completions_for_every_shell_and_usage_errors() -> Result<()> {
    let node = Node::start()?;
    for shell in ["bash", "zsh", "fish"] {
        let output = node.hotctl(&["completions", shell])?.expect(0)?;
        assert!(output.stdout.contains("rollback"), "{shell}");
    }
    for wrong in [&["pish"][..], &["push"], &["push", "x.so", "--canary", "150%"], &["status", "-o", "yaml"]]
    {
        let output = node.hotctl(wrong)?.expect(2)?;
        assert!(!output.stderr.is_empty(), "{wrong:?}");
    }
    node.stop()
}

#[test]
fn without_a_node_hotctl_says_where_it_looked() -> Result<()> {
    let mut node = Node::start()?;
    node.kill_all()?;
    let output = node.hotctl(&["status"])?.expect(1)?;
    output.sentence()?;
    assert!(output.took < Duration::from_secs(20), "{:?}", output.took);
    Ok(())
}
