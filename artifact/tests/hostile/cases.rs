//! Each refusal of a file by name: what is wrong with it, and the code that says so.

use crate::elf::{Elf, METADATA};
use crate::{code, judge};

/// A good file with one thing changed.
fn with(change: impl FnOnce(&mut Elf)) -> Vec<u8> {
    let mut elf = Elf::default();
    change(&mut elf);
    elf.build()
}

/// The good file with other bytes at `offset`.
fn patched(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = Elf::default().build();
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
    file
}

fn text(tag: u64, text: &str) -> Vec<u8> {
    with(|elf| elf.texts.push((tag, text.to_owned())))
}

fn entry(tag: u64, value: u64) -> Vec<u8> {
    with(|elf| elf.dynamic.push((tag, value)))
}

fn needed(name: &str) -> Vec<u8> {
    with(|elf| elf.needed.push(name.to_owned()))
}

fn metadata(lines: &str) -> Vec<u8> {
    with(|elf| elf.notes = vec![METADATA.to_owned() + lines])
}

fn segment(fields: [u64; 7]) -> Vec<u8> {
    with(|elf| elf.segments.push(fields))
}

fn version(library: &str, version: &str) -> Vec<u8> {
    with(|elf| elf.versions = vec![(library.to_owned(), vec![version.to_owned()])])
}

/// A table of the module with these first words.
fn table(words: &[u32]) -> Vec<u8> {
    with(|elf| elf.entry = words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

/// A file with an entry symbol of each of these versions.
fn versions(versions: &[u16]) -> Vec<u8> {
    with(|elf| {
        elf.entries = versions.len() as u64;
        elf.entry_versions = versions.to_vec();
    })
}

/// Name, file, code.
type Case = (&'static str, Vec<u8>, &'static str);

fn check(cases: Vec<Case>) {
    for (name, file, expected) in cases {
        let judged = judge(&file);
        let found = judged.as_ref().map_or_else(|refusal| refusal.code, |_file| "ok");
        assert_eq!(found, expected, "{name}: {judged:?}");
        let Err(refusal) = judged else { continue };
        for part in [&refusal.field, &refusal.found, &refusal.expected, &refusal.advice] {
            assert!(!part.is_empty() && !part.contains('\n'), "{name}: {refusal:?}");
        }
    }
}

#[test]
fn the_file_that_the_cases_change_is_good() {
    let file = judge(&Elf::default().build()).unwrap();
    assert_eq!(file.metadata.name.as_str(), "probe");
    assert_eq!(file.needed[0].versions, ["GLIBC_2.2.5"]);
    assert_eq!((file.entry.abi, file.entry.size), (0, 16));
}

#[test]
fn headers() {
    check(vec![
        ("empty", Vec::new(), "elf.not_elf"),
        ("text", b"remember the milk\n".to_vec(), "elf.not_elf"),
        ("32 bits", patched(4, &[1]), "elf.wrong_format"),
        ("big-endian", patched(5, &[2]), "elf.wrong_format"),
        ("ELF version 2", patched(6, &[2]), "elf.wrong_format"),
        ("e_version 2", patched(20, &[2]), "elf.wrong_format"),
        ("FreeBSD", patched(7, &[9]), "elf.wrong_format"),
        ("ABI version", patched(8, &[1]), "elf.wrong_format"),
        ("padding", patched(15, &[1]), "elf.wrong_format"),
        ("GNU extensions", patched(7, &[3]), "ok"),
        ("a program", patched(16, &[2]), "elf.not_shared"),
        ("an object file", patched(16, &[1]), "elf.not_shared"),
        ("a core dump", patched(16, &[4]), "elf.not_shared"),
        ("PIE", entry(0x6fff_fffb, 0x0800_0000), "elf.not_shared"),
        ("may not be opened", entry(0x6fff_fffb, 0x40), "elf.not_shared"),
        ("interpreter", segment([3, 4, 0, 0, 1, 1, 1]), "elf.not_shared"),
        ("MIPS", patched(18, &[8]), "elf.unknown_machine"),
        ("aarch64 on another machine", patched(18, &[183]), "compat.target"),
        ("no program headers", patched(56, &[0]), "elf.malformed"),
        ("65,535 program headers", patched(56, &[0xff, 0xff]), "elf.malformed"),
        ("program headers of 32 bytes", patched(54, &[32]), "elf.malformed"),
        ("program headers past the end", patched(32, &[0xff; 7]), "elf.cut_short"),
        ("program headers at the end of all", patched(32, &[0xff; 8]), "elf.cut_short"),
        ("section headers past the end", patched(40, &[0xff; 7]), "elf.cut_short"),
    ]);
}

#[test]
fn segments() {
    const LOAD: u64 = 1;
    const LAST_PAGE: u64 = !0xfff;
    const TLS: u64 = 7;
    const RELRO: u64 = 0x6474_e552;
    check(vec![
        ("overlap", segment([LOAD, 4, 0, 0, 8, 8, 4096]), "elf.malformed"),
        ("share a page", segment([LOAD, 6, 0xfff, 0xfff, 0, 8, 4096]), "elf.cut_short"),
        ("a page of another segment", segment([LOAD, 6, 0x2c0, 0x2c0, 8, 8, 4096]), "elf.malformed"),
        ("another place in the page", segment([LOAD, 6, 8, 0x2000, 8, 8, 4096]), "elf.malformed"),
        ("more memory", segment([LOAD, 6, 0, 0x2000, 8, 0x9000, 4096]), "ok"),
        ("huge memory", segment([LOAD, 6, 0, 0x2000, 8, 1 << 40, 4096]), "elf.too_much_memory"),
        ("all memory", segment([LOAD, 6, 0, 0x2000, 8, u64::MAX, 4096]), "elf.malformed"),
        ("the last address", segment([LOAD, 6, 0, LAST_PAGE, 8, 4096, 4096]), "elf.malformed"),
        ("less memory than file", segment([LOAD, 6, 0, 0x2000, 8, 4, 4096]), "elf.malformed"),
        ("alignment of 3", segment([LOAD, 6, 0, 0x2000, 8, 8, 3]), "elf.malformed"),
        ("alignment of 4 GiB", segment([LOAD, 6, 0, 0x2000, 8, 8, 1 << 32]), "elf.malformed"),
        ("past the end", segment([LOAD, 6, 0x9000, 0x9000, 8, 8, 4096]), "elf.cut_short"),
        ("offset overflows", segment([0, 0, u64::MAX, 0, u64::MAX, 0, 0]), "elf.cut_short"),
        ("thread-local", segment([TLS, 4, 0, 0, 8, 64, 8]), "ok"),
        ("thread-local, huge", segment([TLS, 4, 0, 0, 8, 1 << 30, 8]), "elf.too_much_memory"),
        ("thread-local, elsewhere", segment([TLS, 4, 8, 0, 8, 64, 8]), "elf.malformed"),
        ("thread-local, alignment", segment([TLS, 4, 0, 0, 8, 64, 12]), "elf.malformed"),
        ("read-only after all, elsewhere", segment([RELRO, 4, 0, 0x10_0000, 8, 8, 1]), "elf.malformed"),
        ("program headers elsewhere", segment([6, 4, 0, 0, 8, 8, 8]), "elf.malformed"),
        ("two dynamic segments", segment([2, 4, 0, 0, 8, 8, 8]), "elf.malformed"),
        ("two stacks", segment([0x6474_e551, 6, 0, 0, 0, 0, 16]), "elf.malformed"),
        ("a note outside of memory", segment([4, 4, 0, 0x10_0000, 8, 8, 4]), "elf.malformed"),
        ("a note elsewhere in memory", segment([4, 4, 8, 0, 8, 8, 4]), "elf.malformed"),
        ("writable and executable", with(|elf| elf.flags = 7), "elf.writable_code"),
        ("executable stack", with(|elf| elf.stack = Some(7)), "elf.executable_stack"),
        ("no word on the stack", with(|elf| elf.stack = None), "elf.executable_stack"),
    ]);
}

#[test]
fn what_the_loader_would_read_or_write() {
    check(vec![
        ("RPATH", text(15, "/opt/lib"), "elf.search_path"),
        ("RUNPATH", text(29, "/opt/lib"), "elf.search_path"),
        ("RUNPATH of nothing", text(29, ""), "elf.search_path"),
        ("$ORIGIN", text(29, "$ORIGIN"), "elf.search_path"),
        ("RPATH of 10,000 bytes", text(15, &"/x".repeat(5000)), "elf.search_path"),
        ("AUDIT", text(0x6fff_fefc, "libaudit.so"), "elf.audit"),
        ("DEPAUDIT", text(0x6fff_fefb, "libaudit.so"), "elf.audit"),
        ("FILTER", text(0x7fff_ffff, "libc.so.6"), "elf.filter"),
        ("AUXILIARY", text(0x7fff_fffd, "libc.so.6"), "elf.filter"),
        ("CONFIG", text(0x6fff_fefa, "/etc/ld.cfg"), "elf.config"),
        ("TEXTREL", entry(22, 0), "elf.text_relocations"),
        ("DF_TEXTREL", entry(30, 4), "elf.text_relocations"),
        ("absolute", needed("/lib/x86_64-linux-gnu/libm.so.6"), "elf.needed_path"),
        ("with a slash", needed("sub/libm.so.6"), "elf.needed_path"),
        ("with $LIB", needed("$LIB"), "elf.needed_path"),
        ("without a name", needed(""), "elf.needed_path"),
        ("missing", needed("libnowhere.so.7"), "compat.library_missing"),
        ("a folder", needed(".."), "compat.library_missing"),
        ("a name with a line break", needed("libm\n.so.6"), "compat.library_missing"),
        ("a name that is too long", needed(&"x".repeat(256)), "elf.malformed"),
        ("there", needed("libm.so.6"), "ok"),
    ]);
}

#[test]
fn dynamic_segment_and_versions() {
    check(vec![
        ("an entry twice", entry(4, 0), "elf.malformed"),
        ("an unknown entry twice", with(|elf| elf.dynamic = vec![(0x70, 1), (0x70, 1)]), "elf.malformed"),
        ("ends at once", entry(0, 0), "elf.malformed"),
        ("300 libraries", with(|elf| elf.needed = vec!["libm.so.6".into(); 300]), "elf.malformed"),
        (
            "2,000 entries",
            with(|elf| elf.dynamic = (1000..3000).map(|tag| (tag, 0)).collect()),
            "elf.malformed",
        ),
        ("a name past the strings", entry(14, 1 << 40), "elf.malformed"),
        ("a newer glibc", version("libc.so.6", "GLIBC_2.999"), "compat.library_version"),
        ("no version of that kind", version("libc.so.6", "GLIBCXX_3.4"), "compat.library_version"),
        ("of a library that is not needed", version("libm.so.6", "GLIBC_2.2.5"), "elf.malformed"),
        ("versions without a length", with(|elf| elf.dynamic.push((0x6fff_fffc, 8))), "elf.malformed"),
        (
            "versions that lead nowhere",
            with(|elf| {
                elf.versions = Vec::new();
                elf.dynamic = vec![(0x6fff_fffe, 1 << 40), (0x6fff_ffff, 1)];
            }),
            "elf.malformed",
        ),
        (
            "more versions than any",
            with(|elf| elf.versions[0].1 = vec!["GLIBC_2.2.5".into(); 2000]),
            "elf.malformed",
        ),
    ]);
    let mut file = Elf::default().build();
    let at = file.windows(12).position(|bytes| bytes == b"GLIBC_2.2.5\0").unwrap();
    file[at + 6] = b'3';
    assert_eq!(code(&file), "elf.malformed", "a version whose hash is another one");
}

#[test]
fn entry_symbol() {
    check(vec![
        ("a function", with(|elf| elf.entry_type = 2), "elf.entry_unusable"),
        ("thread-local", with(|elf| elf.entry_type = 6), "elf.entry_unusable"),
        ("of no type", with(|elf| elf.entry_type = 0), "elf.entry_unusable"),
        ("8 bytes", table(&[0, 8]), "elf.entry_unusable"),
        ("says that it is larger", table(&[0, 17, 0, 0]), "elf.entry_unusable"),
        ("says that it has nothing", table(&[0, 0, 0, 0]), "elf.entry_unusable"),
        ("larger than it says", table(&[0, 16, 0, 0, 0, 0]), "ok"),
        ("another ABI than the metadata", table(&[5, 16, 0, 0]), "compat.entry_abi"),
        ("two of that name", with(|elf| elf.entries = 2), "elf.entry_unusable"),
        ("two of that name, one of a version", versions(&[0x8002, 1]), "elf.entry_unusable"),
        ("without a word on its version", versions(&[0]), "ok"),
        ("without a version", versions(&[1]), "ok"),
        ("without a version, and hidden", versions(&[0x8001]), "elf.entry_unusable"),
        ("of a version", versions(&[2]), "elf.entry_unusable"),
        ("of a version, and hidden", versions(&[0x8002]), "elf.entry_unusable"),
        ("versions outside of what is loaded", entry(0x6fff_fff0, 1 << 40), "elf.malformed"),
    ]);
    let mut file = Elf::default().build();
    let at = file.windows(10).position(|bytes| bytes == b"hot_module").unwrap();
    file[at] = b'H';
    assert_eq!(code(&file), "elf.no_entry");
}

#[test]
fn metadata_notes() {
    let notes = |notes: &[&str]| with(|elf| elf.notes = notes.iter().map(|&note| note.to_owned()).collect());
    check(vec![
        ("none", notes(&[]), "elf.no_metadata"),
        ("two", notes(&[METADATA, METADATA]), "elf.several_metadata"),
        ("the same one twice", segment([4, 4, 0x120, 0x120, 0x58, 0x58, 4]), "elf.malformed"),
        ("unknown key", metadata("owner = \"me\"\n"), "metadata.unknown_key"),
        ("doubled key", metadata("abi = 0\n"), "metadata.syntax"),
        ("free key", metadata("x-owner = \"me\"\n"), "ok"),
        ("no version", notes(&["format = 1\nname = \"a\"\nabi = 0\n"]), "metadata.missing"),
        ("another format", notes(&["format = 2\n"]), "metadata.wrong_value"),
        ("too large", metadata(&"# remember the milk\n".repeat(4000)), "metadata.too_large"),
        ("wrong ABI", notes(&[&METADATA.replace("abi = 0", "abi = 9")]), "compat.abi"),
        ("state", metadata("state = { schema = 1, accepts = \"1\" }\n"), "compat.state_not_served"),
        ("requires", metadata("requires = [\"auth ^1\"]\n"), "compat.requires_not_served"),
    ]);
}
