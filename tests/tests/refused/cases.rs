//! The bad files: made by the compiler and the linker where they make such, else by bytes.

use std::fs;
use std::path::Path;

use anyhow::Result;
use hot_tests::Module;

use crate::lines::PATTERN;
use crate::patch::{ADDRESS, KIND, LOAD, MEMORY, OFFSET, STACK, at, entry, header};

/// One bad file.
pub(crate) struct Case {
    /// What is wrong with it, in words for the page.
    pub(crate) name: &'static str,
    /// The stable code.
    pub(crate) code: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// `DT_RELACOUNT`, which nothing needs, so that it can become another entry.
const SPARE: u64 = 0x6fff_fff9;
const CONFIG: u64 = 0x6fff_fefa;
const NEEDED: u64 = 1;

/// Every bad file, in the order of the page.
pub(crate) fn all(marker: &Path) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for group in [headers, segments, loader, libraries, metadata] {
        group(marker, &mut cases)?;
    }
    Ok(cases)
}

/// A module that says so to the marker when any code of it runs.
pub(crate) fn marked(source: &'static str, marker: &Path) -> Module {
    Module::new(source).name(PATTERN).text("CONSTRUCTED", &marker.to_string_lossy())
}

fn built(module: &Module) -> Result<Vec<u8>> {
    Ok(fs::read(module.build()?)?)
}

fn headers(marker: &Path, cases: &mut Vec<Case>) -> Result<()> {
    let good = built(&marked("good", marker))?;
    let program = built(&marked("program", marker).program())?;
    let text = b"remember the milk\n".repeat(100);
    cases.extend([
        Case { name: "a text file", code: "elf.not_elf", bytes: text },
        Case { name: "cut short in the ELF header", code: "elf.cut_short", bytes: good[..40].to_vec() },
        Case { name: "cut short in the program headers", code: "elf.cut_short", bytes: good[..100].to_vec() },
        Case { name: "cut short later", code: "elf.cut_short", bytes: good[..good.len() - 1].to_vec() },
        Case { name: "32 bits", code: "elf.wrong_format", bytes: at(good.clone(), 4, &[1]) },
        Case { name: "big-endian", code: "elf.wrong_format", bytes: at(good.clone(), 5, &[2]) },
        Case { name: "for another system", code: "elf.wrong_format", bytes: at(good.clone(), 7, &[9]) },
        Case {
            name: "for an unknown machine",
            code: "elf.unknown_machine",
            bytes: at(good.clone(), 18, &[8, 0]),
        },
        Case {
            name: "for another machine",
            code: "compat.target",
            bytes: at(good.clone(), 18, &other_machine()),
        },
        Case { name: "an object file", code: "elf.not_shared", bytes: at(good.clone(), 16, &[1]) },
        Case { name: "a position-independent program", code: "elf.not_shared", bytes: program.clone() },
        Case { name: "an old program", code: "elf.not_shared", bytes: at(program, 16, &[2]) },
    ]);
    Ok(())
}

/// `e_machine` of a machine that this one is not.
const fn other_machine() -> [u8; 2] {
    if cfg!(target_arch = "x86_64") { [183, 0] } else { [62, 0] }
}

fn segments(marker: &Path, cases: &mut Vec<Case>) -> Result<()> {
    let good = built(&marked("good", marker))?;
    let change = |nth, member, value| header(&good, LOAD, nth, member, value);
    cases.extend([
        Case { name: "an offset that overflows", code: "elf.cut_short", bytes: change(1, OFFSET, u64::MAX)? },
        Case { name: "an address that overflows", code: "elf.malformed", bytes: change(3, ADDRESS, !0xfff)? },
        Case { name: "segments that overlap", code: "elf.malformed", bytes: change(1, ADDRESS, 0)? },
        Case { name: "a huge `p_memsz`", code: "elf.too_much_memory", bytes: change(3, MEMORY, 1 << 45)? },
        Case {
            name: "a `p_memsz` that overflows",
            code: "elf.malformed",
            bytes: change(3, MEMORY, u64::MAX)?,
        },
        Case {
            name: "a segment that is writable and executable",
            code: "elf.writable_code",
            bytes: built(&marked("writable_code", marker))?,
        },
        Case {
            name: "an executable stack",
            code: "elf.executable_stack",
            bytes: built(&marked("good", marker).flag("-Wl,-z,execstack"))?,
        },
        Case {
            name: "no word about the stack",
            code: "elf.executable_stack",
            bytes: header(&good, STACK, 0, KIND, 0)?,
        },
    ]);
    Ok(())
}

fn loader(marker: &Path, cases: &mut Vec<Case>) -> Result<()> {
    for (name, code, flag) in [
        ("RPATH", "elf.search_path", "-Wl,--disable-new-dtags,-rpath,/opt/lib"),
        ("RUNPATH", "elf.search_path", "-Wl,--enable-new-dtags,-rpath,/opt/lib"),
        ("`$ORIGIN`", "elf.search_path", "-Wl,-rpath,$ORIGIN/lib"),
        ("`DT_AUDIT`", "elf.audit", "-Wl,--audit=libaudit.so"),
        ("`DT_DEPAUDIT`", "elf.audit", "-Wl,--depaudit=libaudit.so"),
        ("`DT_FILTER`", "elf.filter", "-Wl,--filter=libother.so"),
        ("`DT_AUXILIARY`", "elf.filter", "-Wl,--auxiliary=libother.so"),
    ] {
        cases.push(Case { name, code, bytes: built(&marked("good", marker).flag(flag))? });
    }
    let good = built(&marked("good", marker))?;
    let relocation = marked("text_relocation", marker).flag("-Wl,-z,notext");
    cases.extend([
        Case { name: "`DT_CONFIG`", code: "elf.config", bytes: entry(&good, SPARE, CONFIG, Some(0))? },
        Case { name: "text relocations", code: "elf.text_relocations", bytes: built(&relocation)? },
    ]);
    Ok(())
}

fn libraries(marker: &Path, cases: &mut Vec<Case>) -> Result<()> {
    for (name, code, library) in [
        ("a needed library by absolute path", "elf.needed_path", "/opt/lib/libother.so"),
        ("a needed library with a slash", "elf.needed_path", "lib/libother.so"),
        ("a needed library in `$ORIGIN`", "elf.needed_path", "$ORIGIN/libother.so"),
        ("a needed library that the node lacks", "compat.library_missing", "libnowhere.so.7"),
        ("a needed library that the operator does not allow", "compat.library_not_allowed", "libm.so.6"),
    ] {
        cases.push(Case { name, code, bytes: built(&marked("good", marker).needs(library))? });
    }
    let good = built(&marked("good", marker))?;
    let newer = built(&marked("newer_glibc", marker).needs("libc.so.6"))?;
    cases.extend([
        Case {
            name: "a needed library without a name",
            code: "elf.needed_path",
            // The spare entry becomes a needed library whose name is the empty one at the start of the names.
            bytes: entry(&good, SPARE, NEEDED, Some(0))?,
        },
        Case { name: "a glibc version above the node's", code: "compat.library_version", bytes: newer },
    ]);
    Ok(())
}

fn metadata(marker: &Path, cases: &mut Vec<Case>) -> Result<()> {
    let lines = |text: &str| built(&marked("metadata", marker).text("LINES", text));
    let notes = |count| built(&marked("metadata", marker).number("NOTES", count));
    let entry = |kind| built(&marked("entry", marker).number("KIND", kind));
    let abi = marked("metadata", marker).text("ABI_LINE", "abi = 9");
    let path = marked("metadata", marker).name("../../probe").text("ROUTE", "/probe");
    let version = |version: &str| built(&marked("metadata", marker).version(version));
    cases.extend([
        Case { name: "a name that is a path", code: "metadata.wrong_value", bytes: built(&path)? },
        Case {
            name: "a version that is a path",
            code: "metadata.wrong_value",
            bytes: version("1.0.0-../../../probe")?,
        },
        Case {
            name: "a version above every number",
            code: "metadata.wrong_value",
            bytes: version("18446744073709551616.0.0")?,
        },
        Case { name: "no metadata", code: "elf.no_metadata", bytes: notes(0)? },
        Case { name: "two notes of metadata", code: "elf.several_metadata", bytes: notes(2)? },
        Case { name: "an unknown key", code: "metadata.unknown_key", bytes: lines("owner = \"me\"\n")? },
        Case { name: "a key that stands twice", code: "metadata.syntax", bytes: lines("abi = 0\n")? },
        Case {
            name: "a wrong value",
            code: "metadata.wrong_value",
            bytes: lines("requires = [\"auth\"]\n")?,
        },
        Case {
            name: "no ABI",
            code: "metadata.missing",
            bytes: built(&marked("metadata", marker).text("ABI_LINE", ""))?,
        },
        Case { name: "too many keys", code: "metadata.too_many_tokens", bytes: lines(&many_keys())? },
        Case { name: "too much text", code: "metadata.too_large", bytes: lines(&"# milk\n".repeat(3000))? },
        Case { name: "another ABI in the metadata", code: "compat.abi", bytes: built(&abi)? },
        Case { name: "another ABI in the table", code: "compat.entry_abi", bytes: entry(3)? },
        Case { name: "no entry symbol", code: "elf.no_entry", bytes: entry(0)? },
        Case { name: "an entry symbol that is a function", code: "elf.entry_unusable", bytes: entry(1)? },
        Case {
            name: "an entry symbol of a version",
            code: "elf.entry_unusable",
            bytes: built(&marked("good", marker).flag("-Wl,--default-symver"))?,
        },
        Case { name: "a table that is smaller than it says", code: "elf.entry_unusable", bytes: entry(2)? },
        Case {
            name: "state, which is not served yet",
            code: "compat.state_not_served",
            bytes: lines("state = { schema = 1, accepts = \"1\" }\n")?,
        },
        Case {
            name: "calls to other modules, which are not served yet",
            code: "compat.requires_not_served",
            bytes: lines("requires = [\"auth ^1.4\"]\n")?,
        },
    ]);
    Ok(())
}

fn many_keys() -> String {
    (0..400).map(|index| format!("x-{index} = 1\n")).collect()
}
