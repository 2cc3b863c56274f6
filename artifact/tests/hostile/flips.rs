//! A file that was cut short anywhere, or has one flipped bit, is refused or says the same as before.

use std::ops::Range;

use hot_artifact::{Inspection, Metadata};

use crate::elf::Elf;
use crate::{C, RUST, build, judge};

/// A part of a file, by the fields of its ELF header or of the program header of this type.
fn part(file: &[u8], kind: u32) -> Range<usize> {
    let word = |at: usize| usize::try_from(u64::from_le_bytes(file[at..at + 8].try_into().unwrap())).unwrap();
    let count = usize::from(u16::from_le_bytes([file[56], file[57]]));
    let headers = (0..count).map(|index| word(32) + index * 56);
    let found: Vec<usize> = headers.filter(|at| file[*at..*at + 4] == kind.to_le_bytes()).collect();
    let start = found.iter().map(|at| word(at + 8)).min().unwrap();
    let end = found.iter().map(|at| word(at + 8) + word(at + 32)).max().unwrap();
    start..end
}

const PT_DYNAMIC: u32 = 2;
const PT_NOTE: u32 = 4;

/// Real modules and one that is made byte by byte.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let shared = ["-shared", "-fPIC", "-O1"];
    let no_sections = |mut file: Vec<u8>| {
        // e_shoff; e_shentsize, e_shnum, e_shstrndx.
        file[40..48].fill(0);
        file[58..64].fill(0);
        file
    };
    vec![
        ("C", build("cc", C, "c", &shared)),
        ("C, stripped", build("cc", C, "c", &[&shared[..], &["-s"]].concat())),
        ("C, System V hash", build("cc", C, "c", &[&shared[..], &["-Wl,--hash-style=sysv"]].concat())),
        ("C, without section headers", no_sections(build("cc", C, "c", &shared))),
        ("by hand", Elf::default().build()),
    ]
}

/// In the text of the metadata a flip can make another module, and does so openly; everything else is as it was.
fn same_but_for_metadata(found: &Inspection, original: &Inspection) -> bool {
    let Inspection { metadata, metadata_text, .. } = original.clone();
    Inspection { metadata, metadata_text, ..found.clone() } == *original
}

#[test]
fn one_flipped_bit_is_refused_or_changes_nothing() {
    for (name, mut file) in files() {
        let original = judge(&file).unwrap();
        let note = part(&file, PT_NOTE);
        let dynamic = part(&file, PT_DYNAMIC);
        // vna_flags, behind the hash of `GLIBC_2.2.5`.
        let weak = file.windows(4).position(|bytes| bytes == 0x0969_1a75_u32.to_le_bytes()).map(|at| at + 4);
        let (mut refused, mut all) = (0, 0);
        let starts = 0..file.len().min(4096);
        let others = note.clone().chain(dynamic).filter(|at| !starts.contains(at));
        for byte in starts.clone().chain(others) {
            for bit in 0..8 {
                file[byte] ^= 1 << bit;
                let judged = judge(&file);
                file[byte] ^= 1 << bit;
                all += 1;
                match judged {
                    Err(refusal) => {
                        refused += 1;
                        assert!(!refusal.advice.is_empty(), "{name}: byte {byte}, bit {bit}: {refusal:?}");
                    }
                    // A version that may be missing is not needed; where the list ends early, the rest is not.
                    Ok(found) if weak == Some(byte) && bit == 1 => {
                        assert!(found.needed[0].versions.is_empty())
                    }
                    Ok(found) if note.contains(&byte) => {
                        let same = same_but_for_metadata(&found, &original);
                        assert!(same, "{name}: byte {byte}, bit {bit}: {found:?}");
                    }
                    Ok(found) => assert_eq!(found, original, "{name}: byte {byte}, bit {bit}"),
                }
            }
        }
        assert!(refused * 10 > all, "{name}: {refused} of {all} refused");
    }
}

#[test]
fn a_file_cut_short_is_refused_or_says_the_same() {
    for (name, file) in files() {
        let original = judge(&file).unwrap();
        let needed = part(&file, PT_DYNAMIC).end.max(part(&file, PT_NOTE).end);
        for len in 0..file.len() {
            match judge(&file[..len]) {
                Err(refusal) => assert!(refusal.code.starts_with("elf."), "{name}, {len} bytes: {refusal:?}"),
                Ok(found) => {
                    let size = len as u64;
                    assert_eq!(Inspection { size, ..original.clone() }, found, "{name}, {len} bytes");
                    assert!(len >= needed, "{name}: taken with {len} bytes");
                }
            }
        }
    }
}

#[test]
fn the_note_of_a_rust_module_is_read_with_and_without_strip() {
    let cdylib = ["--crate-type=cdylib", "--edition=2024", "-A", "non_upper_case_globals"];
    for extra in [&[][..], &["-C", "strip=symbols"], &["-O", "-C", "lto=fat"], &["-C", "panic=abort"]] {
        let file = build("rustc", RUST, "rs", &[&cdylib[..], extra].concat());
        let judged = judge(&file).unwrap();
        assert_eq!(judged.metadata, Metadata::parse(crate::elf::METADATA.as_bytes()).unwrap());
        assert!(judged.needed.iter().any(|library| library.versions.len() > 3), "{:?}", judged.needed);
    }
}
