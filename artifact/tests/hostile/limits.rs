//! Files that make the most of every list: what is kept of them is bounded by their size.

use crate::code;
use crate::elf::{Elf, METADATA};

fn named(index: usize, len: usize) -> String {
    format!("{index:x<len$}")
}

/// Judges it (which asserts the bound) and says how far it went.
fn survived(elf: &Elf) -> &'static str {
    code(&elf.build())
}

#[test]
fn lists_at_their_bounds() {
    let needed = (0..256).map(|index| named(index, 240)).collect();
    assert_eq!(survived(&Elf { needed, versions: Vec::new(), ..Elf::default() }), "compat.library_missing");
    // More text than is kept.
    let needed: Vec<_> = (0..256).map(|index| named(index, 255)).collect();
    let versions = needed.iter().take(8).map(|name| (name.clone(), vec![name.clone()])).collect();
    assert_eq!(survived(&Elf { needed, versions, ..Elf::default() }), "elf.malformed");
    let versions = vec![("libc.so.6".to_owned(), (0..1000).map(|index| named(index, 60)).collect())];
    assert_eq!(survived(&Elf { versions, ..Elf::default() }), "compat.library_version");
    let segments = vec![[0x6000_0001, 0, 0, 0, 0, 0, 0]; 250];
    assert_eq!(survived(&Elf { segments, ..Elf::default() }), "ok");
}

#[test]
fn notes_of_every_size() {
    for (lines, expected) in [
        (1, "ok"),
        (400, "ok"),
        (700, "metadata.too_many_tokens"),
        (1000, "metadata.too_large"),
        (50_000, "metadata.too_large"),
        (200_000, "elf.malformed"),
    ] {
        let notes = vec![METADATA.to_owned() + &"# remember the milk\n".repeat(lines)];
        assert_eq!(survived(&Elf { notes, ..Elf::default() }), expected, "{lines}");
    }
    let long = METADATA.to_owned() + "x-a = \"" + &"a".repeat(16_000) + "\"\n";
    assert_eq!(survived(&Elf { notes: vec![long.clone()], ..Elf::default() }), "ok");
    assert_eq!(survived(&Elf { notes: vec![long; 60], ..Elf::default() }), "elf.several_metadata");
}

/// The costliest texts, both as long as a text may be and with as many parts as are parsed at all. What is not TOML
/// costs no less than what is.
#[test]
fn metadata_that_is_all_structure() {
    for (name, line, expected) in [
        ("keys", "x-#=1\n", "ok"),
        ("tables", "[x-#]\n", "ok"),
        ("dots", "x-#.a=1\n", "ok"),
        ("more dots", "x-#.a.a.a.a.a.a.a.a=1\n", "metadata.too_many_tables"),
        ("tables in a line", "x-#={a={a={a=1}}}\n", "ok"),
        ("arrays", "x-#=[[],[]]\n", "ok"),
        ("arrays of tables", "[[x-a]]\n", "ok"),
        ("spaces", " \n", "ok"),
        ("mistakes", "=\n", "metadata.syntax"),
        ("open strings", "'\n", "metadata.syntax"),
        ("open arrays", "[", "metadata.too_many_tables"),
    ] {
        for (bytes, expected) in [(16 << 10, "metadata.too_many_tokens"), (0, expected)] {
            let mut text = METADATA.to_owned();
            let words = |text: &str| text.matches(|c: char| !c.is_ascii_alphanumeric()).count() * 2;
            for index in 0.. {
                let line = line.replace('#', &format!("{index:x}"));
                let full = if bytes == 0 { words(&text) > 950 } else { text.len() + line.len() > bytes };
                if full {
                    break;
                }
                text += &line;
            }
            assert_eq!(survived(&Elf { notes: vec![text], ..Elf::default() }), expected, "{name}, {bytes}");
        }
    }
}

/// Each dot of a key is a table, and one without a name is the cheapest way to write one.
#[test]
fn keys_of_nothing_but_dots() {
    for (lines, expected) in [(4, "metadata.syntax"), (15, "metadata.too_many_tables")] {
        let dots = (0..lines).map(|index| format!("x-{index}{}=1\n", ".".repeat(60)));
        let notes = vec![METADATA.to_owned() + &dots.collect::<String>()];
        assert_eq!(survived(&Elf { notes, ..Elf::default() }), expected, "{lines}");
    }
}
