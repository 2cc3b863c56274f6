//! `hotctl inspect` and `verify` say of a file, without a node, what a node says of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hot_proto::v1::ErrorDetail;
use hot_tests::{Key, Module, Node, text, upload_refused};
use serde_json::Value;

/// Files that no node takes, and how many reasons there are against each.
fn bad() -> Result<Vec<(PathBuf, usize)>> {
    let good = || Module::new("good");
    let metadata = || Module::new("metadata");
    let (rpath, stack) = ("-Wl,-rpath,/opt/lib", "-Wl,-z,execstack");
    let several = metadata().flag(rpath).flag(stack).needs("libnowhere.so.7");
    let several = several.text("LINES", "requires = [\"auth ^1.4\"]\n");
    let built = [
        (good().flag(rpath), 1),
        (good().flag(stack), 1),
        (good().flag("-Wl,--audit=libaudit.so"), 1),
        (good().needs("lib/libother.so"), 1),
        (good().needs("libnowhere.so.7"), 1),
        (Module::new("writable_code"), 1),
        (Module::new("newer_glibc").needs("libc.so.6"), 1),
        (metadata().text("LINES", "state = { schema = 1, accepts = \"1\" }\n"), 1),
        (metadata().text("ABI_LINE", "abi = 9"), 2),
        (several, 4),
    ];
    built.into_iter().map(|(module, reasons)| Ok((module.build()?, reasons))).collect()
}

/// Files that are no modules: there is one reason, and nothing to show.
fn no_modules(node: &Node) -> Result<Vec<PathBuf>> {
    let (text, cut) = (node.scratch().join("text.so"), node.scratch().join("cut.so"));
    fs::write(&text, "remember the milk\n")?;
    let good = fs::read(Module::new("good").build()?)?;
    fs::write(&cut, &good[..good.len() - 1])?;
    let metadata = Module::new("metadata");
    let unknown = metadata.clone().text("LINES", "owner = \"me\"\n").build()?;
    Ok(vec![text, cut, metadata.number("NOTES", 0).build()?, unknown])
}

/// A signature by this key in the node's own folder.
fn sign(node: &Node, key: &Key, file: &Path) -> Result<PathBuf> {
    let signature = node.scratch().join("module.sig");
    key.sign("hot-module", file, &signature)?;
    Ok(signature)
}

/// The codes of `refusals`, in order.
fn codes(object: &Value) -> Vec<String> {
    let refusals = object["refusals"].as_array().into_iter().flatten();
    let mut codes: Vec<String> =
        refusals.filter_map(|refusal| Some(refusal["code"].as_str()?.to_owned())).collect();
    codes.sort();
    codes
}

/// What the node itself says against a file.
fn refused_by(node: &Node, file: &Path, signature: &Path) -> Result<ErrorDetail> {
    upload_refused(node.door()?, &fs::read(file)?, &fs::read(signature)?)
}

#[test]
fn every_reason_of_a_node_is_said_without_one() -> Result<()> {
    let node = Node::start()?;
    for (file, reasons) in bad()? {
        let signature = sign(&node, &node.key(), &file)?;
        let with = ["--signature", text(&signature)?];
        let ask = |command: &str| node.hotctl(&[&[command, text(&file)?, "-o", "json"], &with[..]].concat());
        let inspected: Value = ask("inspect")?.expect(4)?.json()?;
        let name = file.display();
        ensure!(inspected["exit_code"] == 4 && codes(&inspected).len() == reasons, "{name}: {inspected}");
        ensure!(inspected["signature"]["principal"] == "dev", "{name}: {inspected}");
        for refusal in inspected["refusals"].as_array().context("refusals")? {
            for part in ["message", "field", "found", "expected", "advice"] {
                ensure!(refusal[part].as_str().is_some_and(|part| !part.is_empty()), "{name}: {refusal}");
            }
        }
        let planned: Value = ask("plan")?.expect(4)?.json()?;
        ensure!(codes(&planned) == codes(&inspected), "{name}: {inspected} but {planned}");
        let at_the_door = refused_by(&node, &file, &signature)?;
        ensure!(
            inspected["refusals"][0]["code"] == at_the_door.code,
            "{name}: {inspected} but {at_the_door:?}"
        );

        let verified = ask("verify")?.expect(4)?;
        let failure: Value = serde_json::from_str(&verified.stderr)?;
        let first = &failure["error"]["code"];
        let more = failure["more"].as_array().context("further reasons")?;
        ensure!(*first == at_the_door.code && more.len() + 1 == reasons, "{name}: {failure}");
        let shown = node.hotctl(&[&["verify", text(&file)?], &with[..]].concat())?.expect(4)?;
        ensure!(shown.stderr.lines().count() == reasons, "{name}: {}", shown.stderr);
    }
    for file in no_modules(&node)? {
        let signature = sign(&node, &node.key(), &file)?;
        let output = node.hotctl(&["inspect", text(&file)?, "-o", "json"])?.expect(4)?;
        let failure: Value = serde_json::from_str(&output.stderr)?;
        let at_the_door = refused_by(&node, &file, &signature)?;
        ensure!(failure["error"]["code"] == at_the_door.code, "{failure} but {at_the_door:?}");
    }
    node.stop()
}

#[test]
fn a_good_file_is_shown_with_all_that_it_is() -> Result<()> {
    let node = Node::start()?;
    let file = node.scratch().join("probe.so");
    // One that needs libc, and so has something to import.
    fs::copy(Module::new("good").needs("libc.so.6").build()?, &file)?;
    let unsigned: Value = node.hotctl(&["inspect", text(&file)?, "-o", "json"])?.expect(0)?.json()?;
    ensure!(unsigned["signature"].is_null() && codes(&unsigned).is_empty(), "{unsigned}");
    ensure!(unsigned["not_judged"][0].as_str().is_some_and(|text| text.contains("signature")), "{unsigned}");
    let lines = node.hotctl(&["inspect", text(&file)?])?.expect(0)?.stdout;
    ensure!(lines.contains("would take it once it is signed\n"), "{lines}");

    let key = node.key();
    node.hotctl(&["sign", text(&file)?, "--key", text(key.path())?])?.expect(0)?;
    let shown: Value = node.hotctl(&["inspect", text(&file)?, "-o", "json"])?.expect(0)?.json()?;
    ensure!(
        shown["signature"]["principal"] == "dev" && shown["signature"]["namespace"] == "hot-module",
        "{shown}"
    );
    for (file, name) in [("signers", "allowed_signers"), ("revoked", "revoked_keys")] {
        let expected = node.data_dir().join(name);
        ensure!(shown["signature"][file] == text(&expected)?, "{name}: {shown}");
    }
    let names = shown["symbols"]["exported"]["names"].as_array().context("names")?;
    ensure!(names.contains(&"hot_module".into()), "{shown}");
    let library = &shown["libraries"][0];
    ensure!(library["name"] == "libc.so.6" && library["state"] == "found", "{library}");
    ensure!(library["path"].as_str().is_some_and(|path| Path::new(path).exists()), "{library}");
    let lines = node.hotctl(&["inspect", text(&file)?])?.expect(0)?.stdout;
    ensure!(lines.contains("verdict    a node like this machine would take it\n"), "{lines}");
    ensure!(lines.lines().last().is_some_and(|line| line.starts_with("  not judged ")), "{lines}");
    node.push(&file, &[])?.expect(0)?;

    // A key that this node revoked.
    let signers = fs::read_to_string(node.data_dir().join("allowed_signers"))?;
    let public = &signers[signers.find("ssh-ed25519 ").context("the dev key")?..];
    fs::write(node.data_dir().join("revoked_keys"), public)?;
    let revoked: Value = node.hotctl(&["inspect", text(&file)?, "-o", "json"])?.expect(4)?.json()?;
    ensure!(codes(&revoked) == ["signer.revoked"], "{revoked}");
    let checked = node.hotctl(&["trust", "check", text(&file)?, "-o", "json"])?.expect(4)?;
    ensure!(checked.stdout.contains("signer.revoked"), "{checked:?}");
    node.stop()
}

#[test]
fn a_stranger_is_refused_as_by_the_node() -> Result<()> {
    let node = Node::start()?;
    let file = Module::new("good").build()?;
    let stranger = Key::generate(node.scratch().join("stranger"))?;
    let signature = sign(&node, &stranger, &file)?;
    let arguments = ["inspect", text(&file)?, "--signature", text(&signature)?, "-o", "json"];
    let inspected: Value = node.hotctl(&arguments)?.expect(4)?.json()?;
    let said = refused_by(&node, &file, &signature)?;
    ensure!(
        inspected["refusals"][0]["found"] == said.found && codes(&inspected) == [said.code],
        "{inspected}"
    );
    ensure!(inspected["signature"]["principal"].is_null(), "{inspected}");
    ensure!(inspected["signature"]["problem"] == inspected["refusals"][0]["message"], "{inspected}");
    node.stop()
}
