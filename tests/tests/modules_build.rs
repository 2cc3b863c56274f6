//! Every source in `tests/modules/` compiles against the public header, and two builds at once do not disturb each
//! other.

use std::collections::BTreeSet;
use std::thread;

use anyhow::Result;
use hot_tests::Module;

/// Every source that is a module as it stands, so that one that no test uses fails here. Those of the contract are used in
/// `host/tests`, `kib`, `large` and `patient` in `bench/`.
const SOURCES: [&str; 22] = [
    "aborts",
    "big",
    "conforms",
    "echoes",
    "errors",
    "exits_in_constructor",
    "good",
    "hangs",
    "holds",
    "kib",
    "large",
    "lasts",
    "later",
    "misuses",
    "no_handle",
    "patient",
    "prints",
    "segfaults",
    "slow",
    "start_fails",
    "start_loops",
    "unhealthy",
];

/// Those that take options of the compiler to become what is refused: the tests of refusals build them.
const REFUSED: [&str; 6] =
    ["entry", "metadata", "newer_glibc", "program", "text_relocation", "writable_code"];

#[test]
fn every_source_compiles() -> Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("modules");
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "c") {
            found.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    assert_eq!(found, SOURCES.iter().chain(&REFUSED).map(|source| (*source).to_owned()).collect());
    for source in SOURCES {
        assert!(Module::new(source).build()?.is_file());
    }
    Ok(())
}

#[test]
fn two_builds_of_one_module_do_not_disturb_each_other() -> Result<()> {
    // A version of this run's own: it is not built yet.
    let version = format!("0.0.{}", std::process::id());
    let builds: Vec<_> = (0..4)
        .map(|_| {
            let version = version.clone();
            thread::spawn(move || Module::new("good").version(&version).build())
        })
        .collect();
    let mut files = BTreeSet::new();
    for build in builds {
        files.insert(build.join().expect("no panic")?);
    }
    assert_eq!(files.len(), 1);
    for file in files {
        assert_eq!(&std::fs::read(&file)?[..4], b"\x7fELF");
        std::fs::remove_file(file)?;
    }
    Ok(())
}
