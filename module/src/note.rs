//! The metadata note: its bytes, and how to make one at compile time.
//!
//! An ELF note (gABI, "Note Section") in the section [`crate::NOTE_SECTION`], aligned to four bytes: `u32` size of the
//! owner with its NUL (4), `u32` size of the content, `u32` type ([`crate::NOTE_TYPE`]), the owner `hot\0`, and the
//! content: metadata as TOML text in UTF-8, then NUL bytes up to a multiple of four (at least none, at most four).
//!
//! Reading notes out of a file, and checking what the text says, is for `hot-artifact`.

use crate::{ABI, METADATA_FORMAT, NOTE_TYPE};

/// A note as it lies in the file. `N` is the size of its content in bytes, a multiple of four.
#[repr(C, align(4))]
#[derive(Debug, Clone, Copy)]
pub struct Note<const N: usize> {
    owner_size: u32,
    content_size: u32,
    kind: u32,
    owner: [u8; 4],
    content: [u8; N],
}

const _: () = {
    assert!(size_of::<Note<8>>() == 16 + 8);
    assert!(align_of::<Note<8>>() == 4);
    assert!(core::mem::offset_of!(Note<8>, content) == 16);
};

impl<const N: usize> Note<N> {
    /// The content: the metadata's text and the NUL bytes behind it.
    #[must_use]
    pub const fn content(&self) -> &[u8] {
        &self.content
    }
}

/// What a module says of itself, as it is turned into a note by `export!`. All of it is constant.
#[derive(Debug, Clone, Copy)]
pub struct Metadata<'a> {
    /// The module's name: `[a-z][a-z0-9-]{0,62}`.
    pub name: &'a str,
    /// Its version: semver without build metadata.
    pub version: &'a str,
    /// Path prefixes that it serves, each with a leading slash. None: a background module.
    pub routes: &'a [&'a str],
    /// Further lines of TOML, or nothing. The text is taken as it is.
    pub lines: &'a str,
}

impl Metadata<'_> {
    /// The size in bytes of the content of this metadata's note: the text, padded to a multiple of four.
    ///
    /// # Panics
    /// As [`Self::note`].
    #[must_use]
    pub const fn content_size(&self) -> usize {
        self.write(Text::<0> { bytes: [], len: 0 }).len.next_multiple_of(4)
    }

    /// The note. `N` is what [`Self::content_size`] gives; meant for a constant, where a panic is a compile error.
    ///
    /// # Panics
    /// If name, version or a route has a quote, a backslash or a control character, or if `N` is another size.
    #[must_use]
    pub const fn note<const N: usize>(&self) -> Note<N> {
        assert!(N == self.content_size(), "the note's size is that of its metadata");
        let text = self.write(Text::<N> { bytes: [0; N], len: 0 });
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a text that the compiler holds is far below 4 GiB"
        )]
        let content_size = N as u32;
        Note { owner_size: 4, content_size, kind: NOTE_TYPE, owner: *b"hot\0", content: text.bytes }
    }

    const fn write<const N: usize>(&self, text: Text<N>) -> Text<N> {
        let text = text.add("format = ").add_digit(METADATA_FORMAT);
        let text = text.add("\nname = ").add_quoted(self.name);
        let text = text.add("\nversion = ").add_quoted(self.version);
        let mut text = text.add("\nabi = ").add_digit(ABI).add("\nroutes = [");
        let mut i = 0;
        while i < self.routes.len() {
            text = text.add(if i == 0 { "" } else { ", " }).add_quoted(self.routes[i]);
            i += 1;
        }
        text.add("]\n").add(self.lines)
    }
}

/// Text that grows in a constant. It counts past its room `N`, so that `Text<0>` measures.
#[derive(Clone, Copy)]
struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    const fn add(mut self, more: &str) -> Self {
        let more = more.as_bytes();
        let mut i = 0;
        while i < more.len() {
            if self.len < N {
                self.bytes[self.len] = more[i];
            }
            self.len += 1;
            i += 1;
        }
        self
    }

    /// A TOML basic string. What would need an escape is refused: no valid name, version or route has it.
    const fn add_quoted(self, value: &str) -> Self {
        let bytes = value.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            assert!(
                !matches!(bytes[i], b'"' | b'\\' | 0..0x20 | 0x7f),
                "a name, version or route has a quote, a backslash or a control character"
            );
            i += 1;
        }
        self.add("\"").add(value).add("\"")
    }

    const fn add_digit(self, digit: u32) -> Self {
        assert!(digit < 10, "numbers of one digit");
        const DIGITS: &str = "0123456789";
        let (_, from) = DIGITS.split_at(digit as usize);
        let (digit, _) = from.split_at(1);
        self.add(digit)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;

    fn text<const N: usize>(note: &Note<N>) -> String {
        let end = note.content.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        String::from_utf8(note.content[..end].to_vec()).unwrap()
    }

    #[test]
    fn text_has_every_key_in_order() {
        const META: Metadata<'_> = Metadata {
            name: "greeter",
            version: "1.2.0",
            routes: &["/greet", "/hi"],
            lines: "[x-a]\nb = 1\n",
        };
        const NOTE: Note<{ META.content_size() }> = META.note();
        assert_eq!(
            text(&NOTE),
            "format = 1\nname = \"greeter\"\nversion = \"1.2.0\"\nabi = 0\nroutes = [\"/greet\", \"/hi\"]\n\
             [x-a]\nb = 1\n"
        );
        assert_eq!((NOTE.owner_size, NOTE.kind, &NOTE.owner), (4, 1, b"hot\0"));
        assert_eq!(NOTE.content_size as usize, NOTE.content.len());
    }

    #[test]
    fn content_is_padded_to_a_multiple_of_four_by_less_than_four() {
        for lines in ["", "a", "ab", "abc", "abcd"] {
            let meta = Metadata { name: "m", version: "1.0.0", routes: &[], lines };
            let written = meta.write(Text::<0> { bytes: [], len: 0 }).len;
            assert_eq!(meta.content_size() % 4, 0);
            assert!(meta.content_size() - written < 4, "{lines}");
        }
    }

    #[test]
    #[should_panic(expected = "a quote")]
    fn a_quote_in_a_name_is_refused() {
        let meta = Metadata { name: "a\"b", version: "1.0.0", routes: &[], lines: "" };
        assert_ne!(meta.content_size(), 0);
    }
}
