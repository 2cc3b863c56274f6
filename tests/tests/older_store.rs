//! A store that is put back to an older day, as from a backup: the node says what is so by that store, and nothing of the
//! days between is taken for something else.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hot_tests::{Key, Module, Output, Service, WAIT};
use serde_json::Value;

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &to)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// A node, who signs its modules, and a copy of its store.
struct Case {
    service: Service,
    key: Key,
    _folder: tempfile::TempDir,
    backup: PathBuf,
}

impl Case {
    /// It serves 1.2.0 as release 3; the copy is of the day on which it served 1.0.0.
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let key = Key::generate(folder.path().join("ada"))?;
        let service = Service::start(&key.signer("ada")?, "")?;
        let mut case = Self { service, key, backup: folder.path().join("backup"), _folder: folder };
        case.push(&probe("1.0.0"))?.expect(0)?;
        case.service.power_off()?;
        copy(&case.service.data_dir(), &case.backup)?;
        case.service.power_on()?;
        case.push(&probe("1.1.0"))?.expect(0)?;
        case.push(&probe("1.2.0"))?.expect(0)?;
        Ok(case)
    }

    fn push(&self, module: &Module) -> Result<Output> {
        self.push_with(module, &["--steps", "100%", "--bake", "1s"])
    }

    fn push_with(&self, module: &Module, arguments: &[&str]) -> Result<Output> {
        let (file, key) = (module.build()?, self.key.path());
        let (file, key) = (file.to_str().context("UTF-8")?, key.to_str().context("UTF-8")?);
        self.service.hotctl(&[&["push", file, "--key", key], arguments].concat())
    }

    /// What it says that it serves is what it serves.
    fn serves(&self, version: &str, release: u64) -> Result<()> {
        let stable = self.service.module("probe")?.stable.context("a stable release")?;
        assert_eq!((&*stable.version, stable.release), (version, release));
        let reply = hot_tests::get(self.service.http(), "/probe")?;
        assert_eq!(String::from_utf8_lossy(reply.body()), format!("probe {version}\n"));
        Ok(())
    }
}

fn probe(version: &str) -> Module {
    Module::new("good").version(version)
}

#[test]
fn a_store_of_an_older_day_serves_what_it_served_then() -> Result<()> {
    let mut case = Case::new()?;
    // The hosts of the newer day still run: what they are is not in that store.
    case.service.kill()?;
    fs::remove_dir_all(case.service.data_dir())?;
    copy(&case.backup, &case.service.data_dir())?;
    case.service.boot()?;
    case.service.wait_module("probe", |module| {
        let mut running = module.instances().filter(|it| it.runs());
        let first = running.next().is_some_and(|it| it.version == "1.0.0" && it.state == "ready");
        first && running.next().is_none()
    })?;
    case.serves("1.0.0", 1)?;
    let list: Value = case.service.hotctl(&["versions", "probe", "-o", "json"])?.expect(0)?.json()?;
    let versions = list["versions"].as_array().context("a list of versions")?;
    assert!(versions.len() == 1 && versions[0]["version"] == "1.0.0", "{list}");
    // The version of the lost day has other bytes this time; a floor, which forbids to go back behind it, comes later.
    case.push(&probe("1.1.0").number("START_MS", 1))?.expect(0)?;
    case.serves("1.1.0", 2)?;
    // And from now on these are its bytes.
    let refused = case.push(&probe("1.1.0"))?.expect(4)?;
    assert!(refused.sentence()?.contains("1.1.0"), "{}", refused.stderr);
    case.service.hotctl(&["rollback", "probe"])?.expect(0)?;
    case.serves("1.0.0", 1)?;
    case.service.stop()
}

#[test]
fn a_record_of_an_older_day_among_newer_files_gives_no_number_twice() -> Result<()> {
    let mut case = Case::new()?;
    case.service.power_off()?;
    let record = Path::new("modules").join("probe.json");
    fs::copy(case.backup.join(&record), case.service.data_dir().join(&record))?;
    case.service.power_on()?;
    let mut events = case.service.events()?;
    events.wait(WAIT, |event| event.kind == "store.lost" && event.text.contains("releases 2 to 3"))?;
    case.service.wait_module("probe", |module| module.instances().any(|it| it.state == "ready"))?;
    case.serves("1.0.0", 1)?;
    case.push(&probe("1.3.0"))?.expect(0)?;
    case.serves("1.3.0", 4)?;
    case.service.stop()
}

/// As after a downgrade in the middle of a rollout: the older hotd can't read it, leaves it alone and begins others, and
/// the newer one finds it again.
#[test]
fn a_rollout_of_an_older_day_undoes_nothing_that_is_newer() -> Result<()> {
    let mut case = Case::new()?;
    let canary = ["--canary", "10%", "--bake", "10m", "--detach", "-o", "json"];
    let begun: Value = case.push_with(&probe("1.3.0"), &canary)?.expect(0)?.json()?;
    let id = begun["rollout"]["id"].as_str().context("an id")?;
    case.service.wait_module("probe", |module| module.phase == "baking")?;
    case.service.power_off()?;
    let file = case.service.data_dir().join(format!("rollouts/{id}.json"));
    let aside = case.backup.join("rollout");
    fs::copy(&file, &aside)?;
    fs::remove_file(&file)?;
    case.service.power_on()?;
    case.push(&probe("1.4.0"))?.expect(0)?;
    case.service.power_off()?;
    fs::copy(&aside, &file)?;
    case.service.power_on()?;
    let mut events = case.service.events()?;
    let ended = events.wait(WAIT, |event| event.text.contains("nobody went on with this one"))?;
    assert_eq!((&*ended.kind, &*ended.module), ("rollout.finished", "probe"));
    let module = case.service.wait_module("probe", |module| {
        module.instances().any(|it| it.version == "1.4.0" && it.state == "ready")
    })?;
    assert!(module.candidate.is_none() && module.instances().all(|it| it.version != "1.3.0"), "{module:?}");
    case.serves("1.4.0", 5)?;
    assert!(!file.exists(), "its end is history");
    case.service.stop()
}
