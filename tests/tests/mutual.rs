//! Callers from elsewhere: certificates of `hotctl pki`, contexts of `hotctl`, a node that lets in whoever they name.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hot_tests::{Binaries, Follow, Key, Module, Output, Service, WAIT, run, text};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
};
use serde_json::Value;
use tempfile::TempDir;

/// Somebody with an authority, and with a context for a fleet.
struct Person {
    folder: TempDir,
}

impl Person {
    fn new() -> Result<Self> {
        let person = Self { folder: tempfile::tempdir()? };
        person.pki(&["init", "ca", "--name", "test"])?;
        person.pki(&["issue", "ann@example.com", "--dir", "ca"])?;
        Ok(person)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `hotctl` as that person runs it: there is a file of contexts, and nothing else to find a node by.
    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(Binaries::locate()?.hotctl());
        command.args(arguments).current_dir(self.folder.path()).env("NO_COLOR", "1");
        command.env("XDG_CONFIG_HOME", self.folder.path()).env("XDG_RUNTIME_DIR", self.at("nowhere"));
        for name in ["HOTCTL_NODE", "HOTCTL_CONTEXT", "HOTCTL_TOKEN", "HOTCTL_KEY", "SSH_AUTH_SOCK"] {
            command.env_remove(name);
        }
        Ok(command)
    }

    fn hotctl(&self, arguments: &[&str]) -> Result<Output> {
        run(self.command(arguments)?)
    }

    fn pki(&self, arguments: &[&str]) -> Result<Output> {
        self.hotctl(&[&["pki"], arguments].concat())?.expect(0)
    }

    /// The lines of a node's config for a certificate of its own.
    fn node(&self, name: &str) -> Result<String> {
        self.pki(&["issue", name, "--dir", "ca", "--address", "127.0.0.1"])?;
        let at = |file: &str| self.at(file);
        Ok(format!(
            "[grpc.tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = {:?}\nkey = {:?}\nauthority = {:?}\n",
            at(&format!("ca/{name}.pem")),
            at(&format!("ca/{name}.key")),
            at("trusted.pem"),
        ))
    }

    /// Whose certificates nodes take.
    fn trust(&self, authorities: &[&str]) -> Result<()> {
        let all = authorities.iter().map(|file| fs::read_to_string(self.at(file)));
        let text = all.collect::<Result<Vec<_>, _>>()?.concat();
        fs::write(self.at("new"), text)?;
        Ok(fs::rename(self.at("new"), self.at("trusted.pem"))?)
    }

    /// Writes the file of contexts: `prod` with these nodes, and the certificate of this name.
    fn context(&self, nodes: &[String], name: &str) -> Result<()> {
        fs::create_dir_all(self.at("hot"))?;
        let text = format!(
            "context = \"prod\" # the fleet\n[contexts.prod]\nnodes = {nodes:?}\nauthority = \"../trusted.pem\"\n\
             certificate = \"../{name}.pem\"\nkey = \"../{name}.key\"\n"
        );
        Ok(fs::write(self.at("hot/hotctl.toml"), text)?)
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        self.hotctl(&[arguments, &["-o", "json"]].concat())?.expect(0)?.json()
    }
}

const ANN: &str = "ca/ann@example.com";

fn address(service: &Service) -> Result<String> {
    Ok(format!("https://{}", service.grpc().context("it takes calls by TCP")?))
}

/// A service that takes calls from whom the person's authority has signed for, and a context for it.
fn start(person: &Person, signers: &str) -> Result<Service> {
    person.trust(&["ca/ca.pem"])?;
    let service = Service::start(signers, &person.node("web-1")?)?;
    person.context(&[address(&service)?], ANN)?;
    Ok(service)
}

#[test]
fn every_call_works_by_a_certificate_and_history_says_whose_it_is() -> Result<()> {
    let person = Person::new()?;
    let key = Key::generate(person.at("signer"))?;
    let service = start(&person, &key.signer("ada@example.com")?)?;
    let [first, second] = ["1.0.0", "1.1.0"].map(|version| Module::new("good").version(version).build());
    let (first, second, key) = (first?, second?, text(key.path())?.to_owned());
    person.hotctl(&["plan", text(&first)?, "--key", &key])?.expect(10)?;
    person.hotctl(&["push", text(&first)?, "--key", &key])?.expect(0)?;
    person
        .hotctl(&["push", text(&second)?, "--key", &key, "--detach", "--canary", "10%", "--bake", "10m"])?
        .expect(0)?;
    for command in ["pause", "resume", "promote"] {
        person.hotctl(&[command, "probe"])?.expect(0)?;
    }
    let history = person.json(&["history", "probe"])?;
    let by: Vec<_> =
        history["entries"].as_array().into_iter().flatten().map(|entry| &entry["principal"]).collect();
    assert_eq!(by, ["ann@example.com"; 2], "{history}");
    for command in [
        &["restart", "probe"][..],
        &["rollback", "probe"],
        &["status"],
        &["status", "probe"],
        &["versions", "probe"],
        &["nodes"],
        &["events"],
        &["logs", "probe"],
        &["metrics", "probe"],
        &["remove", "probe", "--yes"],
    ] {
        person.hotctl(command)?.expect(0)?;
    }
    let check = Command::new(service.binaries().hotd())
        .arg("--config")
        .arg(service.config())
        .arg("--check")
        .output()?;
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success() && said.contains("trusted.pem"), "{check:?}");
    service.stop()
}

#[test]
fn who_has_no_certificate_that_counts_is_not_let_in() -> Result<()> {
    let (person, stranger) = (Person::new()?, Person::new()?);
    let odd = Odd::new(&person)?;
    person.trust(&["ca/ca.pem", "odd/ca.pem"])?;
    let service = Service::start("", &person.node("web-1")?)?;
    let node = address(&service)?;
    fs::create_dir(person.at("stranger"))?;
    for file in ["ann@example.com.pem", "ann@example.com.key"] {
        fs::copy(stranger.at("ca").join(file), person.at("stranger").join(file))?;
    }
    for (name, alert) in [
        ("stranger/ann@example.com", "UnknownCA"),
        (odd.sign("odd/over", Some("ann"), 2000, 2001)?, "CertificateExpired"),
        (odd.sign("odd/early", Some("ann"), 3000, 4000)?, "CertificateExpired"),
        (odd.sign("odd/nobody", None, 2000, 4000)?, "CertificateUnknown"),
    ] {
        person.context(std::slice::from_ref(&node), name)?;
        let refused = person.hotctl(&["nodes"])?.expect(4)?;
        let sentence = refused.sentence()?;
        assert!(sentence.contains("does not take the certificate") && sentence.contains(alert), "{sentence}");
    }
    if let Some(said) = without_certificate(&person.at("ca/ca.pem"), &node)? {
        assert!(said.contains("certificate required"), "{said}");
    }
    // The other way round: what has no certificate of the authority is no node.
    person.context(std::slice::from_ref(&node), ANN)?;
    let other = text(&stranger.at("ca/ca.pem"))?.to_owned();
    let untrusted = person.hotctl(&["nodes", "--node-authority", &other, "-o", "json"])?.expect(1)?;
    assert!(untrusted.stderr.contains("\"node_untrusted\""), "{}", untrusted.stderr);
    let named = person.hotctl(&["nodes", "--node", &node.replace("127.0.0.1", "localhost")])?.expect(1)?;
    assert!(named.sentence()?.contains("not valid for name"), "{}", named.stderr);
    // The default is known by its certificate, also where the node is named.
    person.hotctl(&["nodes", "--node", &node])?.expect(0)?;
    service.stop()
}

/// What curl says that shows none; nothing where there is no curl.
fn without_certificate(authority: &Path, node: &str) -> Result<Option<String>> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "30", "--http2", "--cacert"])
        .arg(authority)
        .arg(node);
    match curl.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        output => Ok(Some(String::from_utf8_lossy(&output.context("curl")?.stderr).into_owned())),
    }
}

/// An authority that signs what `hotctl pki` does not.
struct Odd<'a> {
    person: &'a Person,
    issuer: Issuer<'static, KeyPair>,
}

impl<'a> Odd<'a> {
    fn new(person: &'a Person) -> Result<Self> {
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(DnType::CommonName, "odd");
        let key = KeyPair::generate()?;
        fs::create_dir(person.at("odd"))?;
        fs::write(person.at("odd/ca.pem"), params.self_signed(&key)?.pem())?;
        Ok(Self { person, issuer: Issuer::new(params, key) })
    }

    /// From one first of January to another, into these files.
    fn sign(&self, files: &'static str, name: Option<&str>, from: i32, until: i32) -> Result<&'static str> {
        let mut params = CertificateParams::new([])?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "odd");
        if let Some(name) = name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        let key = KeyPair::generate()?;
        fs::write(self.person.at(&format!("{files}.pem")), params.signed_by(&key, &self.issuer)?.pem())?;
        fs::write(self.person.at(&format!("{files}.key")), key.serialize_pem())?;
        Ok(files)
    }
}

/// Waits until the node has told of so many renewals.
fn wait_renewed(service: &Service, wanted: usize) -> Result<()> {
    let until = Instant::now() + WAIT;
    loop {
        let events = service.hotctl(&["events", "-o", "json"])?.expect(0)?.stdout;
        if events.matches("\"kind\":\"tls.renewed\"").count() >= wanted {
            return Ok(());
        }
        ensure!(Instant::now() < until, "not renewed {wanted} times: {events}");
    }
}

#[test]
fn certificates_and_authorities_are_replaced_while_it_runs() -> Result<()> {
    let person = Person::new()?;
    let service = start(&person, "")?;
    let pem = person.at("ca/web-1.pem");
    let before = fs::read(&pem)?;
    person.hotctl(&["nodes"])?.expect(0)?;
    person.pki(&["renew", "ca/web-1.pem", "--dir", "ca"])?;
    assert!(fs::read(&pem)? != before);
    wait_renewed(&service, 1)?;
    person.hotctl(&["nodes"])?.expect(0)?;

    // Another authority, as it is for a key that is lost: both count, all is renewed, the old one goes.
    person.pki(&["init", "ca-2", "--name", "second"])?;
    person.trust(&["ca/ca.pem", "ca-2/ca.pem"])?;
    wait_renewed(&service, 2)?;
    person.pki(&["issue", "bob", "--dir", "ca-2"])?;
    let mut ann = Follow::start(person.command(&["events", "-f", "-o", "json"])?)?;
    ann.wait(WAIT, |line| line.contains("tls.renewed").then_some(()))?;
    person.pki(&["renew", "ca/web-1.pem", "--dir", "ca-2"])?;
    wait_renewed(&service, 3)?;
    person.hotctl(&["nodes"])?.expect(0)?;
    person.trust(&["ca-2/ca.pem"])?;
    assert_eq!(ann.wait_end(WAIT)?, 1, "who is connected by the old one is cut off: {:?}", ann.seen());
    person.hotctl(&["nodes"])?.expect(4)?;
    person.context(&[address(&service)?], "ca-2/bob")?;
    person.hotctl(&["nodes"])?.expect(0)?;
    assert!(service.status()?.problem("tls.refused").is_none());
    service.stop()
}

#[test]
fn half_a_handshake_holds_nobody_up() -> Result<()> {
    let person = Person::new()?;
    let service = start(&person, "")?;
    let at = service.grpc().context("it takes calls by TCP")?;
    let silent: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(at)).collect::<Result<_, _>>()?;
    let asked = person.hotctl(&["nodes"])?.expect(0)?;
    assert!(asked.took < WAIT / 2, "{:?}", asked.took);
    drop(silent);
    service.stop()
}

#[test]
fn a_node_that_is_gone_is_none_to_wait_for() -> Result<()> {
    let person = Person::new()?;
    let mut first = start(&person, "")?;
    let second = Service::start("", &person.node("web-2")?)?;
    person.context(&[address(&first)?, address(&second)?], ANN)?;
    let http = |asked: &Value| asked["nodes"][0]["http"].as_str().unwrap_or_default().to_owned();
    assert_eq!(http(&person.json(&["nodes"])?), first.http().to_string());
    let mut watch = Follow::start(person.command(&["status", "--watch", "-o", "json"])?)?;
    watch.wait(WAIT, |_| Some(()))?;
    first.kill()?;
    assert_eq!(http(&person.json(&["nodes"])?), second.http().to_string());
    // More than its own node can have said before it was gone.
    let mut lines = 0..3;
    watch.wait(WAIT, |_| lines.next().is_none().then_some(()))?;
    drop(watch);
    let names = [address(&first)?, address(&second)?];
    second.stop()?;
    let none = person.hotctl(&["nodes"])?.expect(1)?;
    assert!(
        names.iter().all(|name| none.sentence().is_ok_and(|text| text.contains(name))),
        "{}",
        none.stderr
    );
    first.boot()?;
    first.stop()
}
