//! The metadata note: found through `PT_NOTE`, exactly one.

use hot_module::{NOTE_OWNER, NOTE_TYPE};
use object::LittleEndian as LE;
use object::elf::{FileHeader64, PT_NOTE};
use object::read::elf::NoteIterator;

use super::image::Image;
use super::{ElfError, MAX_NOTES};
use crate::metadata::MAX_METADATA;
use crate::reader::ReadAt;

/// The text of the one metadata note. What pads it to a multiple of four (NUL bytes, which TOML has none of) is cut.
pub(super) fn metadata<R: ReadAt + ?Sized>(image: &Image<'_, R>) -> Result<Vec<u8>, ElfError> {
    const PART: &str = "note segment";
    let (mut found, mut count) = (None, 0);
    let mut budget = MAX_NOTES;
    for segment in image.segments(PT_NOTE) {
        // Allocated, as the contract has it: a note that is not loaded is one that a tool may drop unseen.
        image.check_content(PART, segment)?;
        let size = segment.p_filesz.get(LE);
        budget = budget
            .checked_sub(size)
            .ok_or_else(|| ElfError::malformed(PART, format!("notes of more than {MAX_NOTES} bytes")))?;
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        image.read_file(PART, segment.p_offset.get(LE), &mut bytes)?;
        let problem = |error: object::read::Error| ElfError::malformed(PART, error.to_string());
        let notes =
            NoteIterator::<FileHeader64<LE>>::new(LE, segment.p_align.get(LE), &bytes).map_err(problem)?;
        for note in notes {
            let note = note.map_err(problem)?;
            if note.name() == NOTE_OWNER.as_bytes() && note.n_type(LE).0 == NOTE_TYPE {
                count += 1;
                found.get_or_insert_with(|| text(note.desc()).to_vec());
            }
        }
    }
    match (found, count) {
        (None, _) => Err(ElfError::NoMetadata),
        (Some(text), 1) => Ok(text),
        (Some(_), found) => Err(ElfError::SeveralMetadata { found }),
    }
}

/// The content without its padding, and of one that is too large no more than shows that it is.
fn text(content: &[u8]) -> &[u8] {
    let end = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &content[..end.min(MAX_METADATA + 1)]
}
