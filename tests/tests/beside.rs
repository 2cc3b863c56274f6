//! A signature that lies beside the file, and the key that is found without being named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use hot_tests::{Key, Module, Node, Output, Service, text};
use serde_json::Value;

/// For a second release, which would take its time else.
const AT_ONCE: [&str; 4] = ["--steps", "100%", "--bake", "1s"];

/// A node, a module's file of its own folder, and where its signature would be.
struct Case {
    node: Node,
    file: PathBuf,
    signature: PathBuf,
}

impl Case {
    fn new() -> Result<Self> {
        let node = Node::start()?;
        let file = node.scratch().join("probe.so");
        let case = Self { signature: node.scratch().join("probe.so.sig"), node, file };
        case.build("1.0.0")?;
        Ok(case)
    }

    fn build(&self, version: &str) -> Result<()> {
        fs::copy(Module::new("good").version(version).build()?, &self.file)?;
        Ok(())
    }

    /// As any user of OpenSSH does it.
    fn sign(&self, key: &Key) -> Result<()> {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-Y", "sign", "-n", "hot-module", "-f"]).arg(key.path()).arg(&self.file);
        hot_tests::run(command)?.expect(0)?;
        assert!(self.signature.exists());
        Ok(())
    }

    fn trusted(&self, name: &str) -> Result<Key> {
        let key = Key::generate(self.node.scratch().join(name))?;
        let public = key.path().with_extension("pub");
        self.node.hotctl(&["trust", "add", name, text(&public)?])?.expect(0)?;
        Ok(key)
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Result<Output> {
        self.node.hotctl(&[&[command, text(&self.file)?], arguments].concat())
    }

    fn principal(&self) -> Result<Value> {
        let versions: Value = self.node.hotctl(&["versions", "probe", "-o", "json"])?.expect(0)?.json()?;
        Ok(versions["versions"][0]["principal"].clone())
    }
}

#[test]
fn the_signature_beside_a_file_is_sent_unless_another_is_asked_for() -> Result<()> {
    let case = Case::new()?;
    case.sign(&case.trusted("carla")?)?;
    let line = format!("the signature is {}, which was there", case.signature.display());
    let planned = case.run("plan", &[])?.expect(10)?;
    assert!(planned.stdout.contains(&line) && planned.stdout.contains("carla"), "{}", planned.stdout);
    let pushed = case.run("push", &[])?.expect(0)?;
    assert!(pushed.stdout.contains(&line), "{}", pushed.stdout);
    assert!(pushed.stdout.contains("uploaded, signed by carla"), "{}", pushed.stdout);
    assert_eq!(case.principal()?, "carla");

    let dora = case.trusted("dora")?;
    let pushed = case.run("push", &[&["--key", text(dora.path())?][..], &AT_ONCE].concat())?.expect(0)?;
    assert!(!pushed.stdout.contains("which was there"), "{}", pushed.stdout);
    assert_eq!(case.principal()?, "dora");
    case.node.stop()
}

#[test]
fn a_stale_signature_beside_a_file_is_refused_with_what_to_do() -> Result<()> {
    let case = Case::new()?;
    case.run("sign", &[])?.expect(0)?;
    // Built anew, and not signed.
    case.build("1.1.0")?;
    for command in ["plan", "push"] {
        let refused = case.run(command, &[])?.expect(4)?;
        let sentence = refused.sentence()?;
        let words = ["probe.so.sig with one by key SHA256:", "not of these bytes", "`hotctl sign --force`"];
        assert!(words.iter().all(|word| sentence.contains(word)), "{sentence}");
    }
    assert!(case.node.status()?.module("probe").is_none());
    case.run("sign", &["--force"])?.expect(0)?;
    case.run("push", &[])?.expect(0)?;
    case.build("1.2.0")?;
    fs::remove_file(&case.signature)?;
    assert!(case.run("push", &AT_ONCE)?.expect(0)?.stdout.contains("uploaded, signed by dev"));
    case.node.stop()
}

/// A signature that belongs to the file is the node's to judge, and its key is none that the node trusts.
#[test]
fn a_good_signature_of_a_foreign_key_is_refused_by_the_node() -> Result<()> {
    let case = Case::new()?;
    let foreign = Key::generate(case.node.scratch().join("foreign"))?;
    case.sign(&foreign)?;
    for command in ["plan", "push"] {
        let refused = case.run(command, &[])?.expect(4)?;
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains("which was there") && said.contains("expected a key in"), "{said}");
    }
    case.node.stop()
}

/// Runs `hotctl sign` with an ssh-agent that holds these keys, in this order, and the node at this socket or none.
fn sign_with_agent(case: &Case, keys: &[&Key], node: Option<&Path>) -> Result<String> {
    let keys = keys.iter().map(|key| text(key.path())).collect::<Result<Vec<_>>>()?.join(" ");
    let hotctl = case.node.binaries().hotctl();
    let script = format!("ssh-add -q {keys} && {} sign {} --force", text(&hotctl)?, text(&case.file)?);
    let mut command = Command::new("ssh-agent");
    alone(case, command.args(["sh", "-c", &script]));
    if let Some(socket) = node {
        command.env("HOTCTL_NODE", format!("unix:{}", socket.display()));
    }
    Ok(hot_tests::run(command)?.expect(0)?.stdout)
}

/// Leads it to no node and no agent.
fn alone(case: &Case, command: &mut Command) {
    for name in ["XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"] {
        command.env(name, case.node.scratch().join("nowhere"));
    }
    command.env_remove("HOTCTL_NODE").env_remove("SSH_AUTH_SOCK");
}

fn fingerprint(key: &Key) -> Result<String> {
    let mut command = Command::new("ssh-keygen");
    command.arg("-lf").arg(key.path());
    let line = hot_tests::run(command)?.expect(0)?.stdout;
    Ok(line.split_whitespace().nth(1).unwrap_or_default().to_owned())
}

#[test]
fn sign_finds_the_key_that_push_finds() -> Result<()> {
    let case = Case::new()?;
    let signed = case.run("sign", &[])?.expect(0)?.stdout;
    assert!(signed.contains(&fingerprint(&case.node.key())?), "a dev node's own: {signed}");
    case.run("push", &[])?.expect(0)?;
    assert_eq!(case.principal()?, "dev");

    let keys: Vec<Key> =
        ["a", "b"].iter().map(|name| Key::generate(case.node.scratch().join(name))).collect::<Result<_>>()?;
    let both = [&keys[0], &keys[1]];
    let service = Service::start(&keys[1].signer("bob")?, "")?;
    let signed = sign_with_agent(&case, &both, Some(&service.socket()))?;
    assert!(signed.contains(&fingerprint(&keys[1])?), "the first that the node trusts: {signed}");
    service.stop()?;
    let signed = sign_with_agent(&case, &both, None)?;
    assert!(signed.contains(&fingerprint(&keys[0])?), "without a node the first: {signed}");
    case.node.stop()
}

#[test]
fn without_any_key_sign_says_where_it_looked() -> Result<()> {
    let case = Case::new()?;
    let mut command = Command::new(case.node.binaries().hotctl());
    alone(&case, command.arg("sign").arg(&case.file));
    let refused = hot_tests::run(command)?.expect(4)?;
    let sentence = refused.sentence()?;
    assert!(sentence.contains("no node was found") && sentence.contains("--key FILE"), "{sentence}");
    assert!(!case.signature.exists());
    case.node.stop()
}
