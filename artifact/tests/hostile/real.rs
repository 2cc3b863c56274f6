//! The libraries of this machine, made by all kinds of linkers: what is no module is told by its missing note alone.

use std::collections::BTreeMap;
use std::path::Path;

use crate::code;

/// All libraries of the system, each file once. The largest would only take time.
fn libraries() -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> =
        ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"]
            .iter()
            .filter_map(|folder| std::fs::read_dir(Path::new(folder)).ok())
            .flat_map(|folder| folder.map(|entry| entry.unwrap().path()))
            .filter(|path| path.to_string_lossy().contains(".so"))
            .filter_map(|path| path.canonicalize().ok())
            .filter(|path| {
                path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() < 16 << 20)
            })
            .collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn the_libraries_of_this_machine_are_read() {
    let mut codes: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for path in libraries() {
        let file = std::fs::read(&path).unwrap();
        codes.entry(code(&file)).or_default().push(path.display().to_string());
    }
    let read = codes.remove("elf.no_metadata").unwrap_or_default();
    assert!(read.len() >= 12, "only {read:?}");
    // glibc's own are programs as well, and a few names are linker scripts.
    for (code, paths) in &codes {
        assert!(matches!(*code, "elf.not_shared" | "elf.not_elf"), "{code}: {paths:?}");
    }
    let others: usize = codes.values().map(Vec::len).sum();
    assert!(others * 4 < read.len(), "{} read, but {codes:?}", read.len());
}
