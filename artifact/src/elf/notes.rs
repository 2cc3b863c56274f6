//! The metadata note: found through `PT_NOTE`, exactly one.

use hot_module::{NOTE_OWNER, NOTE_TYPE};
use object::LittleEndian as LE;
use object::elf::{FileHeader64, PT_NOTE};
use object::read::elf::NoteIterator;

use super::image::Image;
use super::{ElfError, MAX_TABLE};
use crate::reader::ReadAt;

/// The text of the one metadata note. What pads it to a multiple of four (NUL bytes, which TOML has none of) is cut.
pub(super) fn metadata<R: ReadAt + ?Sized>(image: &Image<'_, R>) -> Result<Vec<u8>, ElfError> {
    const PART: &str = "note segment";
    let mut found = Vec::new();
    let mut budget = MAX_TABLE;
    for segment in image.segments(PT_NOTE) {
        let size = segment.p_filesz.get(LE);
        budget = budget
            .checked_sub(size)
            .ok_or_else(|| ElfError::malformed(PART, format!("notes of more than {MAX_TABLE} bytes")))?;
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        let bytes = image.read_file(PART, segment.p_offset.get(LE), len)?;
        let problem = |error: object::read::Error| ElfError::malformed(PART, error.to_string());
        let notes =
            NoteIterator::<FileHeader64<LE>>::new(LE, segment.p_align.get(LE), &bytes).map_err(problem)?;
        for note in notes {
            let note = note.map_err(problem)?;
            if note.name() == NOTE_OWNER.as_bytes() && note.n_type(LE).0 == NOTE_TYPE {
                found.push(note.desc().to_vec());
            }
        }
    }
    match (found.pop(), found.len()) {
        (None, _) => Err(ElfError::NoMetadata),
        (Some(mut text), 0) => {
            text.truncate(text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
            Ok(text)
        }
        (Some(_), more) => Err(ElfError::SeveralMetadata { found: more + 1 }),
    }
}
