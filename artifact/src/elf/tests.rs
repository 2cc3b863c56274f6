use proptest::prelude::*;

use super::*;
use crate::Metadata;
use crate::testing::{PROBE, compile, source};

const SHARED: [&str; 2] = ["-shared", "-fPIC"];

fn code(bytes: &[u8]) -> &'static str {
    match read(bytes) {
        Ok(_) => "ok",
        Err(error) => error.refusal().code,
    }
}

/// `bytes` with others at `offset`.
fn patched(bytes: &[u8], offset: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[offset..offset + with.len()].copy_from_slice(with);
    bytes
}

fn segment_offsets(bytes: &[u8]) -> impl Iterator<Item = usize> + use<> {
    let start = usize::try_from(u64::from_le_bytes(bytes[32..40].try_into().unwrap())).unwrap();
    let count = u16::from_le_bytes(bytes[56..58].try_into().unwrap());
    (0..usize::from(count)).map(move |index| start + index * 56)
}

#[test]
fn a_good_file_says_what_it_is() {
    let facts = read(PROBE.as_slice()).unwrap();
    assert_eq!(facts.target, Target::native());
    assert!(facts.needed.iter().any(|library| library.name.starts_with("libc.")), "{:?}", facts.needed);
    assert_eq!(facts.soname, None);
    assert_eq!(Metadata::parse(&facts.metadata).unwrap().name.as_str(), "probe");
}

#[test]
fn every_way_to_link_gives_the_same() {
    let source = source("probe", "routes = [\"/probe\"]\n");
    let expected = read(PROBE.as_slice()).unwrap();
    for extra in [
        "-Wl,--hash-style=sysv",
        "-Wl,--hash-style=gnu",
        "-Wl,--hash-style=both",
        "-s",
        "-flto",
        "-Wl,--gc-sections",
        "-Wl,-z,separate-code",
    ] {
        let bytes = compile(&source, &[&SHARED[..], &[extra]].concat());
        assert_eq!(read(bytes.as_slice()).unwrap(), expected, "{extra}");
    }
    let named = compile(&source, &[&SHARED[..], &["-Wl,-soname,libprobe.so.1"]].concat());
    assert_eq!(read(named.as_slice()).unwrap().soname.as_deref(), Some("libprobe.so.1"));
}

#[test]
fn section_headers_are_not_needed() {
    // e_shoff, then e_shentsize, e_shnum and e_shstrndx.
    let without = patched(&patched(&PROBE, 40, &[0; 8]), 58, &[0; 6]);
    assert_eq!(read(without.as_slice()).unwrap(), read(PROBE.as_slice()).unwrap());
}

#[test]
fn many_symbols_do_not_hide_the_entry() {
    let many: String = (0..5000).map(|i| format!("int symbol_{i} = {i};\n")).collect();
    for style in ["-Wl,--hash-style=sysv", "-Wl,--hash-style=gnu"] {
        let with = compile(&(source("probe", "") + &many), &[&SHARED[..], &[style]].concat());
        assert_eq!(code(&with), "ok");
        let note_only =
            "#include \"hot_module.h\"\nHOT_MODULE_METADATA(\"probe\", \"1.0.0\", \"\");\n".to_owned();
        let without = compile(&(note_only + &many), &[&SHARED[..], &[style]].concat());
        assert_eq!(code(&without), "elf.no_entry");
    }
}

/// Exports `f` and what every module of these tests does, imports `puts`, and can do without `perhaps`.
fn with_symbols(more: &str, arguments: &[&str]) -> Symbols {
    let perhaps =
        "extern void perhaps(void) __attribute__((weak));\nvoid *f(void) { return (void *)perhaps; }\n";
    let hidden = "__attribute__((visibility(\"hidden\"))) int unseen(void) { return 1; }\n";
    let source = [&source("probe", ""), perhaps, hidden, more].concat();
    symbols(compile(&source, &[&SHARED[..], arguments].concat()).as_slice()).unwrap()
}

#[test]
fn symbols_are_those_that_the_loader_sees() {
    for arguments in
        [&["-Wl,--hash-style=gnu"][..], &["-Wl,--hash-style=sysv"], &["-Wl,--hash-style=both", "-s"]]
    {
        let Symbols { exported, imported } = with_symbols("", arguments);
        let mut names = exported.first.clone();
        names.sort();
        assert_eq!(names, ["f", "hot_module", "hot_module_note", "probe"], "{arguments:?}");
        assert_eq!(exported.count, 4);
        let import = |name: &str| imported.first.iter().find(|import| import.name == name).unwrap();
        let perhaps = import("perhaps");
        assert!(perhaps.is_weak && perhaps.version.is_none(), "{perhaps:?}");
        let puts = import("puts");
        assert!(!puts.is_weak);
        if Target::native().libc == Libc::Gnu {
            let (version, library) = puts.version.as_ref().unwrap();
            assert!(version.starts_with("GLIBC_2.") && library == "libc.so.6", "{puts:?}");
        }
        assert_eq!(usize::try_from(imported.count).unwrap(), imported.first.len());
    }
}

#[test]
fn many_symbols_are_counted_and_some_are_kept() {
    let many: String = (0..3000).map(|i| format!("int symbol_{i} = {i};\n")).collect();
    for style in ["-Wl,--hash-style=sysv", "-Wl,--hash-style=gnu"] {
        let exported = with_symbols(&many, &[style]).exported;
        assert_eq!((exported.count, exported.first.len()), (3004, 1024), "{style}");
    }
}

/// A note with content `a = 1`, without the header, which would declare the entry.
const NOTE: &str = "__asm__(\".pushsection .note.hot,\\\"a\\\",@note\\n.balign 4\\n.long 4,8,1\\n\"\n\
    \".asciz \\\"hot\\\"\\n.ascii \\\"a = 1\\\\n\\\\0\\\\0\\\"\\n.popsection\");\n";

const ENTRY: &str = "const int hot_module[4] = {0, 16};\n";

#[test]
fn what_is_no_module_is_refused_by_name() {
    let main = source("probe", "") + "int main(void) { return 0; }\n";
    let object = |parts: &[&str]| compile(&parts.concat(), &SHARED);
    let hidden = "__attribute__((visibility(\"hidden\"))) const int hot_module[4] = {0, 16};\n";
    let versioned = |style: &str| {
        compile(&[NOTE, ENTRY].concat(), &[&SHARED[..], &[&format!("-Wl,--default-symver,{style}")]].concat())
    };
    let cases = [
        ("good", object(&[NOTE, ENTRY]), "ok"),
        ("a program", compile(&main, &["-pie", "-fPIE", "-rdynamic"]), "elf.not_shared"),
        ("an old program", compile(&main, &["-no-pie"]), "elf.not_shared"),
        ("a static program", compile(&main, &["-static-pie", "-fPIE"]), "elf.not_shared"),
        ("an object file", compile(&main, &["-c", "-fPIC"]), "elf.not_shared"),
        ("no note", object(&[ENTRY]), "elf.no_metadata"),
        ("two notes", object(&[NOTE, NOTE, ENTRY]), "elf.several_metadata"),
        ("another owner", object(&[&NOTE.replace("hot\\\"", "hoo\\\""), ENTRY]), "elf.no_metadata"),
        ("another type", object(&[&NOTE.replace("4,8,1", "4,8,2"), ENTRY]), "elf.no_metadata"),
        ("a note too long", object(&[&NOTE.replace("4,8,1", "4,9999,1"), ENTRY]), "elf.malformed"),
        ("no entry", object(&[NOTE]), "elf.no_entry"),
        ("hidden", object(&[NOTE, hidden]), "elf.no_entry"),
        (
            "imported",
            object(&[NOTE, "extern const long hot_module[2]; long f(void) { return hot_module[0]; }"]),
            "elf.no_entry",
        ),
        ("a function", object(&[NOTE, "void hot_module(void) {}"]), "elf.entry_unusable"),
        ("thread-local", object(&[NOTE, "__thread long hot_module[2];"]), "elf.entry_unusable"),
        ("too small", object(&[NOTE, "const int hot_module = 1;"]), "elf.entry_unusable"),
        ("no size in it", object(&[NOTE, "const int hot_module[4] = {0};"]), "elf.entry_unusable"),
        ("smaller than it says", object(&[NOTE, "const int hot_module[4] = {0, 17};"]), "elf.entry_unusable"),
        ("no content", object(&[NOTE, "int hot_module[4];"]), "elf.entry_unusable"),
        ("of a version", versioned("--hash-style=gnu"), "elf.entry_unusable"),
        ("of a version, old hash", versioned("--hash-style=sysv"), "elf.entry_unusable"),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(code(&bytes), expected, "{name}");
    }
    assert_eq!(code(b""), "elf.not_elf");
    assert_eq!(code(b"#!/bin/sh\n"), "elf.not_elf");
    assert_eq!(code(b"\x7fELF"), "elf.cut_short");
}

#[test]
fn padding_is_not_content() {
    let bytes = compile(&(NOTE.to_owned() + ENTRY), &SHARED);
    assert_eq!(read(bytes.as_slice()).unwrap().metadata, b"a = 1\n");
}

#[test]
fn other_machines_and_formats_are_told_apart() {
    for (offset, with, expected) in [
        (4, &[1][..], "elf.wrong_format"), // EI_CLASS: 32 bits
        (5, &[2], "elf.wrong_format"),     // EI_DATA: big-endian
        (6, &[0], "elf.wrong_format"),     // EI_VERSION
        (7, &[9], "elf.wrong_format"),     // EI_OSABI: FreeBSD
        (8, &[1], "elf.wrong_format"),     // EI_ABIVERSION
        (9, &[1], "elf.wrong_format"),     // EI_PAD
        (20, &[2], "elf.wrong_format"),    // e_version
        (16, &[9, 9], "elf.not_shared"),   // e_type
        (18, &[40, 0], "elf.unknown_machine"),
        (54, &[32, 0], "elf.malformed"), // e_phentsize
        (56, &[0, 0], "elf.malformed"),  // e_phnum
        (56, &[0xff, 0xff], "elf.malformed"),
        (32, &[0xff; 8], "elf.cut_short"), // e_phoff
    ] {
        assert_eq!(code(&patched(&PROBE, offset, with)), expected, "offset {offset}");
    }
    let arm = patched(&PROBE, 18, &183_u16.to_le_bytes());
    assert_eq!(read(arm.as_slice()).unwrap().target.machine.as_str(), "aarch64");
}

#[test]
fn a_file_cut_short_anywhere_is_refused_or_says_the_same() {
    let whole = read(PROBE.as_slice()).unwrap();
    let loaded: u64 = segment_offsets(&PROBE)
        .map(|at| {
            let word = |at: usize| u64::from_le_bytes(PROBE[at..at + 8].try_into().unwrap());
            word(at + 8) + word(at + 32)
        })
        .max()
        .unwrap();
    // Its section headers are its end.
    for len in 0..PROBE.len() {
        assert_eq!(code(&PROBE[..len]).split('.').next(), Some("elf"), "{len} of {}", PROBE.len());
    }
    let without = patched(&patched(&PROBE, 40, &[0; 8]), 58, &[0; 6]);
    for len in 0..without.len() {
        match read(&without[..len]) {
            Err(error) => assert!((len as u64) < loaded, "{len} of {loaded}: {error}"),
            Ok(facts) => assert_eq!(facts, whole),
        }
    }
}

#[test]
fn every_word_of_a_program_header_may_lie() {
    for start in segment_offsets(&PROBE) {
        for field in (8..56).step_by(8) {
            for value in [0, 1, 1 << 31, 1 << 40, 1 << 63, u64::MAX - 1, u64::MAX] {
                // It may be a field that nothing depends on; then the file says the same as before.
                if let Ok(facts) = read(patched(&PROBE, start + field, &value.to_le_bytes()).as_slice()) {
                    assert_eq!(facts, read(PROBE.as_slice()).unwrap());
                }
            }
        }
    }
}

#[test]
fn overlapping_and_giant_segments_are_refused() {
    let loads: Vec<usize> = segment_offsets(&PROBE).filter(|at| PROBE[*at..at + 4] == [1, 0, 0, 0]).collect();
    let address = |at: usize| at + 16;
    let size = |at: usize| at + 40;
    let first = &PROBE[address(loads[0])..address(loads[0]) + 8];
    assert_eq!(code(&patched(&PROBE, address(loads[1]), first)), "elf.malformed");
    let last = *loads.last().unwrap();
    assert_eq!(code(&patched(&PROBE, size(last), &(1_u64 << 45).to_le_bytes())), "elf.too_much_memory");
    assert_eq!(code(&patched(&PROBE, size(last), &u64::MAX.to_le_bytes())), "elf.malformed");
    assert_eq!(code(&patched(&PROBE, size(last), &1_u64.to_le_bytes())), "elf.malformed");
}

#[test]
fn every_flipped_bit_of_the_first_kilobytes_is_survived() {
    let mut bytes = PROBE.clone();
    for bit in 0..8 * bytes.len().min(4096) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Err(error) = read(bytes.as_slice()) {
            assert!(!error.refusal().advice.is_empty());
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

proptest! {
    #[test]
    fn any_bytes_behind_the_magic_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 64..2048)) {
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[16..18].copy_from_slice(&[3, 0]);
        bytes[18..20].copy_from_slice(&[62, 0]);
        bytes[54..58].copy_from_slice(&[56, 0, 4, 0]);
        prop_assert!(read(bytes.as_slice()).is_err());
    }

    #[test]
    fn any_changes_of_a_good_file_are_survived(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..32),
    ) {
        let mut bytes = PROBE.clone();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        // Whatever it says, it ends, and no name in it is longer than allowed.
        if let Ok(facts) = read(bytes.as_slice()) {
            prop_assert!(facts.needed.iter().all(|library| library.name.len() <= MAX_NAME));
        }
    }
}
