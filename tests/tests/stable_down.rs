//! A stable release that cannot run any more holds nothing up: it is pushed over, aborted to, rolled back from.

use std::time::{Duration, Instant};

use anyhow::Result;
use hot_tests::{Key, Module, Output, Service, WAIT, text};

/// A service whose module `probe` can't run: after it was pushed, its signer's key was revoked and the machine began anew.
struct Down {
    service: Service,
    _folder: tempfile::TempDir,
    ada: Key,
}

fn probe(version: &str) -> Module {
    Module::new("good").version(version)
}

fn push(service: &Service, version: &str, key: &Key) -> Result<Output> {
    let file = probe(version).build()?;
    service.hotctl(&["push", text(&file)?, "--key", text(key.path())?, "--steps", "100%", "--bake", "1s"])
}

impl Down {
    /// Bob pushed `versions`; the last one is stable.
    fn new(versions: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let key = |name: &str| Key::generate(folder.path().join(name));
        let (ada, bob) = (key("ada")?, key("bob")?);
        let line = |who: &str, key: &Key| {
            Ok::<_, anyhow::Error>(format!("{who}@example.com namespaces=\"hot-module\" {}\n", key.public()?))
        };
        let signers = format!("{}{}", line("ada", &ada)?, line("bob", &bob)?);
        let mut service = Service::start(&signers, "")?;
        for version in versions {
            push(&service, version, &bob)?.expect(0)?;
        }
        service.power_off()?;
        std::fs::write(service.revoked(), bob.public()?)?;
        service.power_on()?;
        service.wait_module("probe", |module| module.instances().any(|it| it.state == "ended"))?;
        Ok(Self { service, _folder: folder, ada })
    }

    /// Nothing of it runs, and `version` is what should.
    fn is_down(&self, version: &str) -> Result<()> {
        let module = self.service.module("probe")?;
        assert_eq!((module.stable_version(), module.candidate.is_none()), (version, true), "{module:?}");
        assert!(self.service.hosts()?.is_empty(), "{module:?}");
        Ok(())
    }
}

#[test]
fn a_push_mends_it() -> Result<()> {
    let down = Down::new(&["1.0.0"])?;
    let mended = probe("1.1.0").build()?;
    let key = text(down.ada.path())?;
    let push = ["push", text(&mended)?, "--key", key, "--steps", "10%,100%", "--bake", "1s"];
    down.service.hotctl(&push)?.expect(0)?;
    let reply = hot_tests::get(down.service.http(), "/probe")?;
    assert_eq!(reply.body().as_ref(), b"probe 1.1.0\n");
    down.service.stop()
}

#[test]
fn a_push_beside_it_can_be_aborted_and_then_promoted() -> Result<()> {
    let down = Down::new(&["1.0.0"])?;
    let (next, key) = (probe("1.1.0").build()?, text(down.ada.path())?);
    let push = ["push", text(&next)?, "--key", key, "--canary", "10%", "--bake", "10m"];
    let watched = |line: &str| line.contains("watch").then_some(());

    let mut aborted = down.service.ctl().follow(&push)?;
    aborted.wait(WAIT, watched)?;
    down.service.hotctl(&["abort", "probe"])?.expect(0)?;
    assert_ne!(aborted.wait_end(WAIT)?, 0);
    down.is_down("1.0.0")?;

    let mut promoted = down.service.ctl().follow(&push)?;
    promoted.wait(WAIT, watched)?;
    down.service.hotctl(&["promote", "probe"])?.expect(0)?;
    assert_eq!(promoted.wait_end(WAIT)?, 0);
    assert_eq!(down.service.module("probe")?.stable_version(), "1.1.0");
    down.service.stop()
}

#[test]
fn a_rollback_to_one_that_is_refused_fails_at_once() -> Result<()> {
    let down = Down::new(&["1.0.0", "1.1.0"])?;
    let begun = Instant::now();
    let refused = down.service.hotctl(&["rollback", "probe"])?.expect(1)?;
    assert!(refused.sentence()?.contains("revoked"), "{}", refused.stderr);
    // Well before the node's silence would have ended it.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    down.is_down("1.1.0")?;
    down.service.stop()
}
