//! What made room for newer versions is told from what a person removed, and may come back; and a removal is done to its
//! end.

use std::fs;

use anyhow::{Context, Result};
use hot_tests::{Key, Module, Series, Service, WAIT, remove_and_leave, sha256, text};
use serde_json::Value;

#[test]
fn a_version_that_keep_dropped_is_said_to_be_that_and_comes_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let key = Key::generate(folder.path().join("ada"))?;
    let service = Service::start(&key.signer("ada@example.com")?, "[store]\nkeep = 1\n")?;
    let key = text(key.path())?;
    let push = |version: &str| {
        let file = Module::new("good").version(version).build()?;
        service.hotctl(&["push", text(&file)?, "--key", key, "--steps", "100%", "--bake", "1s"])?.expect(0)
    };
    let mut events = service.events()?;
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.3.0"] {
        push(version)?;
    }
    // Stable and the way back are in use; of the others one is kept.
    let event = events.wait(WAIT, |event| event.kind == "version.dropped")?;
    assert!(
        event.text.starts_with("probe 1.0.0 was dropped: with `keep = 1` under [store]"),
        "{}",
        event.text
    );

    let back = service.hotctl(&["rollback", "probe", "--to", "1.0.0", "-o", "json"])?.expect(1)?;
    let error: Value = serde_json::from_str(back.stderr.trim())?;
    assert_eq!(error["error"]["code"], "version_dropped", "{error}");
    let says = error["error"]["message"].as_str().context("a message")?;
    assert!(says.contains("version 1.0.0 of probe was dropped at 2"), "{says}");
    assert!(says.contains("by `keep` under [store]") && says.contains("Push the same file again"), "{says}");

    push("1.4.0")?;
    events.wait(WAIT, |event| event.kind == "version.dropped" && event.text.contains("probe 1.1.0"))?;
    service.hotctl(&["remove", "probe", "--version", "1.2.0"])?.expect(0)?;
    let gone = |version: &str| -> Result<(bool, String, bool)> {
        let said: Value = service.hotctl(&["versions", "probe", "-o", "json"])?.expect(0)?.json()?;
        let mut all = said["versions"].as_array().context("versions")?.iter();
        let of = all.find(|of| of["version"] == version).with_context(|| format!("{version} in {said}"))?;
        let gone = of["gone"].as_str().context("a text")?.to_owned();
        Ok((of["removed"] == true, gone, of["may_return"] == true))
    };
    let dropped = "dropped by `keep`; the same file may be pushed again".to_owned();
    assert_eq!(gone("1.0.0")?, (true, dropped.clone(), true));
    let (removed, by, may_return) = gone("1.2.0")?;
    assert!(removed && by.starts_with("removed by ") && !may_return, "{by}");
    assert_eq!(gone("1.4.0")?, (false, String::new(), false));
    let table = service.hotctl(&["versions", "probe"])?.expect(0)?.stdout;
    assert!(table.contains(&dropped) && table.contains(&by), "{table}");

    push("1.0.0")?;
    assert_eq!(gone("1.0.0")?, (false, String::new(), false));
    let removed = Module::new("good").version("1.2.0").build()?;
    let refused = service.hotctl(&["push", text(&removed)?, "--key", key])?.expect(4)?;
    assert!(refused.sentence()?.contains("was removed by "), "{}", refused.stderr);
    service.stop()
}

/// The caller leaves when the first of several versions is gone.
#[test]
fn what_is_removed_is_so_to_the_last_and_told_also_where_its_caller_has_left() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let key = Key::generate(folder.path().join("ada"))?;
    let service = Service::start(&key.signer("ada@example.com")?, "[store]\nkeep = 40\n")?;
    let (series, signature) = (Series::new(service.scratch())?, folder.path().join("signature"));
    let (mut versions, mut files) = (Vec::new(), Vec::new());
    for number in 100..130 {
        versions.push(series.write(number)?);
        key.sign("hot-module", series.file(), &signature)?;
        let bytes = fs::read(series.file())?;
        service.door().upload(&bytes, &fs::read(&signature)?, 0, 64 * 1024)?;
        files.push(service.data_dir().join(format!("artifacts/{}.so", sha256(&bytes))));
    }
    let mut events = service.events()?;
    remove_and_leave(&service.door(), "probe", || !files[0].exists())?;
    let event = events.wait(WAIT, |event| event.kind == "version.removed")?;
    assert!(event.text.ends_with(&format!(" removed probe {}", versions.join(" "))), "{}", event.text);
    service.stop()
}
