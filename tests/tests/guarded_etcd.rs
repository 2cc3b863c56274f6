//! An etcd that wants to know who calls, as one that others use as well does: by certificates, and by a password.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use hot_tests::{Etcd, Fleet, Module, pki};

const QUICK: [&str; 4] = ["--steps", "50%,100%", "--bake", "1s"];

/// So often a node is started until it hears why etcd closes the connection.
const TRIES: usize = 10;

fn good(version: &str) -> Result<PathBuf> {
    Module::new("good").version(version).build()
}

fn push(fleet: &Fleet, node: usize, version: &str) -> Result<()> {
    fleet.push(node, &good(version)?, &QUICK)?.expect(0)?;
    serve(fleet, version)
}

/// Waits until all nodes serve the version.
fn serve(fleet: &Fleet, version: &str) -> Result<()> {
    let expected = format!("probe {version}");
    fleet.wait(&format!("{version} everywhere"), || {
        (0..fleet.nodes().len()).try_fold(true, |all, node| Ok(all && fleet.serves(node)?.trim() == expected))
    })
}

/// Has the second node start anew with another way to etcd. Gives why it does not hear its fleet.
fn with_door(fleet: &mut Fleet, door: &str) -> Result<String> {
    fleet.node(1).configure(&Fleet::config_with(door))?;
    fleet.node(1).terminate()?;
    fleet.node(1).boot()?;
    let mut why = String::new();
    fleet.wait("the node to say that it hears nothing", || {
        let status = fleet.nodes()[1].status()?;
        why = status.problem("fleet.silent").map(|problem| problem.text.clone()).unwrap_or_default();
        Ok(!why.is_empty())
    })?;
    ensure!(fleet.serves(1)?.trim() == fleet.serves(0)?.trim(), "it serves what it was told last");
    Ok(why)
}

/// The way in is there again: the node is in its fleet, and follows.
fn comes_back(fleet: &mut Fleet) -> Result<()> {
    let door = fleet.etcd.door();
    fleet.node(1).configure(&Fleet::config_with(&door))?;
    fleet.node(1).terminate()?;
    fleet.node(1).boot()?;
    fleet.wait("the node to be back", || {
        let nodes = fleet.nodes()[0].hotctl(&["nodes"])?.expect(0)?.stdout;
        Ok(fleet.nodes()[1].status()?.problem("fleet.silent").is_none() && !nodes.contains("unreachable"))
    })
}

#[test]
fn a_fleet_gets_to_etcd_by_certificates() -> Result<()> {
    let mut fleet = Fleet::start_behind(Etcd::start_with_tls()?, 2)?;
    push(&fleet, 0, "1.0.0")?;
    push(&fleet, 1, "1.1.0")?;

    // Whose certificate etcd does not take, and who does not take etcd's, hears nothing and serves all the same.
    let folder = tempfile::tempdir()?;
    pki(folder.path(), &["init", "other"])?;
    pki(folder.path(), &["issue", "n2", "--dir", "other", "--address", "127.0.0.1"])?;
    let other = |name: &str| folder.path().join("other").join(name);
    let (etcd, own) = (fleet.etcd.endpoints(), fleet.etcd.pki());
    let stranger = format!(
        "etcd = {etcd:?}\nauthority = {:?}\ncertificate = {:?}\nkey = {:?}\n",
        own.join("ca.pem"),
        other("n2.pem"),
        other("n2.key")
    );
    // By TLS 1.3 etcd refuses a certificate after the handshake: that it closes the connection, or takes no more from it, may be
    // noticed before why, and the first reason is what a node keeps.
    let mut why = String::new();
    for _ in 0..TRIES {
        why = with_door(&mut fleet, &stranger)?;
        assert!(why.contains("can't be reached: "), "{why}");
        if why.contains("received fatal alert") {
            break;
        }
    }
    assert!(why.contains("can't be reached: received fatal alert: BadCertificate"), "{why}");
    let why = with_door(&mut fleet, &format!("etcd = {etcd:?}\nauthority = {:?}\n", other("ca.pem")))?;
    assert!(why.contains("can't be reached: invalid peer certificate: UnknownIssuer"), "{why}");
    comes_back(&mut fleet)?;
    push(&fleet, 1, "1.2.0")
}

#[test]
fn a_fleet_gets_to_etcd_by_a_password_and_a_role_for_its_prefix() -> Result<()> {
    let mut etcd = Etcd::start()?;
    etcd.want_password("hot/")?;
    let mut fleet = Fleet::start_behind(etcd, 2)?;
    push(&fleet, 0, "1.0.0")?;

    // etcd forgets the tokens that it gave, and those that nobody uses.
    fleet.etcd.kill(0)?;
    fleet.etcd.restart(0)?;
    fleet
        .wait("a push after etcd has begun anew", || Ok(fleet.push(1, &good("1.1.0")?, &QUICK)?.code == 0))?;
    serve(&fleet, "1.1.0")?;

    let (etcd, file) = (fleet.etcd.endpoints(), fleet.etcd.password_file());
    let wrong = file.with_file_name("wrong");
    fs::write(&wrong, "guessed\n")?;
    let door = |file: &Path, more: &str| {
        format!("etcd = {etcd:?}\nuser = \"hot\"\npassword_file = {file:?}\n{more}")
    };
    let why = with_door(&mut fleet, &door(&wrong, ""))?;
    assert!(why.contains("authentication failed"), "{why}");
    let why = with_door(&mut fleet, &door(&file, "prefix = \"other\"\n"))?;
    assert!(why.contains("permission denied"), "{why}");
    let why = with_door(&mut fleet, &format!("etcd = {etcd:?}\n"))?;
    assert!(why.contains("user name is empty") || why.contains("invalid auth token"), "{why}");
    comes_back(&mut fleet)?;
    push(&fleet, 1, "1.2.0")
}
