use std::process::Command;

use super::*;
use crate::testing::compile;

fn system() -> Libraries {
    Libraries::of_system(Target::native())
}

#[test]
fn the_libraries_of_this_system_are_found_with_their_versions() {
    let libc = system().find("libc.so.6").unwrap();
    assert!(libc.versions.iter().any(|version| version == "GLIBC_2.34"), "{libc:?}");
    assert!(!libc.versions.iter().any(|version| version == "GLIBC_9.0"));
    assert!(system().find("libm.so.6").is_some());
    assert_eq!(system().find("libnowhere.so.1"), None);
    for name in ["", "/lib/x86_64-linux-gnu/libc.so.6", "../lib/libc.so.6", ".", ".."] {
        assert_eq!(system().find(name), None, "{name:?}");
    }
}

/// What `ldconfig -p` prints is what the cache says, and each of those for this machine is found.
#[test]
fn the_loaders_cache_is_read_as_ldconfig_reads_it() {
    let printed = Command::new("/sbin/ldconfig").arg("-p").output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let cache = Cache::read(Path::new("/etc/ld.so.cache")).unwrap();
    let mut count = 0;
    for line in printed.lines() {
        let Some((name, path)) = line.trim().split_once(" => ") else { continue };
        let name = name.split(" (").next().unwrap();
        assert!(cache.paths(name).any(|found| found == path), "{name} => {path}");
        count += 1;
    }
    assert!(count > 10, "{printed}");
}

#[test]
fn a_cache_that_is_none_or_cut_short_is_none_and_its_names_end() {
    let bytes = std::fs::read("/etc/ld.so.cache").unwrap();
    assert!(Cache::parse(Vec::new()).is_none());
    assert!(Cache::parse(b"glibc-ld.so.cache1.1".to_vec()).is_none());
    for len in (0..bytes.len()).step_by(97) {
        if let Some(cache) = Cache::parse(bytes[..len].to_vec()) {
            assert!(cache.paths("libc.so.6").count() <= 3);
        }
    }
    let mut huge = bytes.clone();
    huge[20..24].copy_from_slice(&[0xff; 4]);
    assert!(Cache::parse(huge).is_none());
    // As glibc before 2.32 writes it: a list in the old format first.
    let mut old = b"ld.so-1.7.0\0\x02\0\0\0".to_vec();
    old.resize(OLD_LIST, 0);
    old.extend_from_slice(&bytes);
    assert!(Cache::parse(old).unwrap().paths("libc.so.6").next().is_some());
}

/// 16 bytes of header and two entries of 12, rounded up to a multiple of 8.
const OLD_LIST: usize = 40;

#[test]
fn a_library_of_another_machine_is_passed_over() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [first, second] = folders.each_ref().map(|folder| folder.path().join("libx.so"));
    let good = compile("int x;", &["-shared", "-fPIC"]);
    let mut other = good.clone();
    // e_machine
    other[18..20].copy_from_slice(&[40, 0]);
    std::fs::write(&first, other).unwrap();
    std::fs::write(&second, &good).unwrap();
    let folders = folders.each_ref().map(|folder| folder.path().to_owned());
    let libraries = Libraries::in_folders(Target::native(), folders.into());
    assert_eq!(libraries.find("libx.so"), Some(Library { path: second, versions: Vec::new() }));
}
