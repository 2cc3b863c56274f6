//! What the operator allows to modules, in the config: who may sign which, and which of the node's libraries they may
//! need. Narrowed, it counts at every load.

use anyhow::Result;
use hot_tests::{Key, Module, Output, Service, text};

/// A service and three signers.
struct Case {
    service: Service,
    _folder: tempfile::TempDir,
    ada: Key,
    bob: Key,
}

const TWO: &str = "[trust.modules]\n\"pro*\" = [\"ada@example.com\", \"bob@example.com\"]\n\"p*\" = [\"eve@example.com\"]\n";
const ONE: &str = "[trust.modules]\n\"pro*\" = [\"ada@example.com\"]\n";
const ALL: &str = "libraries = [\"*\"]\n";
const SOME: &str = "libraries = [\"libc.so*\", \"libpthread.so*\", \"ld-linux*\"]\n";

/// A version of `probe`.
fn probe(version: &str) -> Module {
    Module::new("good").version(version)
}

impl Case {
    fn new(config: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let key = |name: &str| Key::generate(folder.path().join(name));
        let (ada, bob) = (key("ada")?, key("bob")?);
        let signers = format!("{}{}", ada.signer("ada@example.com")?, bob.signer("bob@example.com")?);
        Ok(Self { service: Service::start(&signers, config)?, _folder: folder, ada, bob })
    }

    fn push(&self, module: &Module, key: &Key) -> Result<Output> {
        let file = module.build()?;
        let push = ["push", text(&file)?, "--key", text(key.path())?, "--steps", "100%", "--bake", "1s"];
        self.service.hotctl(&push)
    }

    /// With another config; the hosts live on.
    fn narrow(&mut self, config: &str) -> Result<()> {
        self.service.terminate()?;
        self.service.configure(config)?;
        self.service.boot()
    }

    fn serves(&self, version: &str) -> Result<()> {
        let reply = hot_tests::get(self.service.http(), "/probe")?;
        assert_eq!(String::from_utf8_lossy(reply.body()), format!("probe {version}\n"));
        Ok(())
    }
}

#[test]
fn who_may_sign_a_module_counts_at_the_push_and_for_the_way_back() -> Result<()> {
    let mut case = Case::new(TWO)?;
    case.push(&probe("1.0.0"), &case.bob)?.expect(0)?;
    case.push(&probe("1.1.0"), &case.ada)?.expect(0)?;
    // Of two patterns the more specific one decides, and what none matches may be signed by nobody.
    for name in ["pay", "greeter"] {
        let refused = case.push(&Module::new("good").name(name), &case.ada)?.expect(4)?;
        let sentence = refused.sentence()?;
        assert!(sentence.contains("found ada@example.com") && sentence.contains(name), "{sentence}");
    }

    case.narrow(ONE)?;
    // Bob's was the standby.
    case.service.wait_module("probe", |module| {
        module.stable_version() == "1.1.0" && module.instances().filter(|it| it.runs()).count() == 1
    })?;
    let refused = case.push(&probe("1.2.0"), &case.bob)?.expect(4)?;
    assert!(refused.sentence()?.contains("found bob@example.com"), "{}", refused.stderr);
    let refused = case.service.hotctl(&["rollback", "probe"])?.expect(1)?;
    assert!(refused.sentence()?.contains("found bob@example.com"), "{}", refused.stderr);
    case.serves("1.1.0")?;

    case.narrow(TWO)?;
    case.service.hotctl(&["rollback", "probe"])?.expect(0)?;
    case.serves("1.0.0")?;
    case.service.stop()
}

#[test]
fn a_stable_whose_signer_may_not_any_more_serves_until_it_is_loaded() -> Result<()> {
    let mut case = Case::new(TWO)?;
    case.push(&probe("1.0.0"), &case.bob)?.expect(0)?;
    case.narrow(ONE)?;
    case.serves("1.0.0")?;
    let refused = case.service.hotctl(&["restart", "probe"])?.expect(1)?;
    assert!(refused.sentence()?.contains("found bob@example.com"), "{}", refused.stderr);
    case.serves("1.0.0")?;
    case.service.power_off()?;
    case.service.power_on()?;
    let module =
        case.service.wait_module("probe", |module| module.instances().any(|it| it.state == "ended"))?;
    assert!(module.instances().any(|it| it.reason.contains("bob@example.com")), "{module:?}");
    assert!(case.service.hosts()?.is_empty(), "a host was started");
    case.service.stop()
}

#[test]
fn the_libraries_that_are_allowed_count_at_the_push_and_for_the_way_back() -> Result<()> {
    let mut case = Case::new(ALL)?;
    case.push(&probe("1.0.0").needs("libm.so.6"), &case.ada)?.expect(0)?;
    case.push(&probe("1.1.0"), &case.ada)?.expect(0)?;

    case.service.power_off()?;
    case.service.configure(SOME)?;
    case.service.power_on()?;
    case.service.wait_module("probe", |module| {
        module.instances().any(|it| it.version == "1.1.0" && it.state == "ready")
    })?;
    let refused = case.push(&probe("1.2.0").needs("libm.so.6"), &case.ada)?.expect(4)?;
    assert!(refused.sentence()?.contains("`libm.so.6`"), "{}", refused.stderr);
    let refused = case.service.hotctl(&["rollback", "probe"])?.expect(1)?;
    let sentence = refused.sentence()?;
    assert!(sentence.contains("`libm.so.6`") && sentence.contains("[trust]"), "{sentence}");
    case.serves("1.1.0")?;

    case.narrow(ALL)?;
    case.service.hotctl(&["rollback", "probe"])?.expect(0)?;
    case.serves("1.0.0")?;
    case.service.stop()
}
