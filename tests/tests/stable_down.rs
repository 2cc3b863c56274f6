//! A stable release that cannot run any more does not hold up the push that replaces it.

use anyhow::Result;
use hot_tests::{Key, Module, Service, WAIT, text};

/// A service whose module `probe` can't run: after it was pushed, its signer's key was revoked and the machine began anew.
struct Down {
    service: Service,
    _folder: tempfile::TempDir,
    ada: Key,
}

fn probe(version: &str) -> Module {
    Module::new("good").version(version)
}

impl Down {
    /// Bob pushed 1.0.0.
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let key = |name: &str| Key::generate(folder.path().join(name));
        let (ada, bob) = (key("ada")?, key("bob")?);
        let signers = format!("{}{}", ada.signer("ada@example.com")?, bob.signer("bob@example.com")?);
        let mut service = Service::start(&signers, "")?;
        let first = probe("1.0.0").build()?;
        service.hotctl(&["push", text(&first)?, "--key", text(bob.path())?])?.expect(0)?;
        service.power_off()?;
        std::fs::write(service.revoked(), bob.public()?)?;
        service.power_on()?;
        service.wait_module("probe", |module| module.instances().any(|it| it.state == "ended"))?;
        Ok(Self { service, _folder: folder, ada })
    }
}

#[test]
fn a_push_mends_it() -> Result<()> {
    let down = Down::new()?;
    let mended = probe("1.1.0").build()?;
    let key = text(down.ada.path())?;
    let push = ["push", text(&mended)?, "--key", key, "--steps", "10%,100%", "--bake", "1s"];
    down.service.hotctl(&push)?.expect(0)?;
    let reply = hot_tests::get(down.service.http(), "/probe")?;
    assert_eq!(reply.body().as_ref(), b"probe 1.1.0\n");
    down.service.stop()
}

#[test]
fn a_push_beside_it_can_be_promoted() -> Result<()> {
    let down = Down::new()?;
    let (next, key) = (probe("1.1.0").build()?, text(down.ada.path())?);
    let push = ["push", text(&next)?, "--key", key, "--canary", "10%", "--bake", "10m"];
    let mut promoted = down.service.ctl().follow(&push)?;
    promoted.wait(WAIT, |line| line.contains("watch").then_some(()))?;
    down.service.hotctl(&["promote", "probe"])?.expect(0)?;
    assert_eq!(promoted.wait_end(WAIT)?, 0);
    assert_eq!(down.service.module("probe")?.stable_version(), "1.1.0");
    down.service.stop()
}
