//! Symbol versions: which ones a file needs of which library, and which ones a library defines. See "Symbol
//! Versioning" in the LSB, and `_dl_check_map_versions` in glibc: it walks the lists by their links, until one is 0.

use object::LittleEndian as LE;
use object::elf::{self, Verdaux, Verdef, Vernaux, Verneed};

use super::dynamic::Dynamic;
use super::image::Image;
use super::{ElfError, MAX_VERSIONS, NeededLibrary};
use crate::reader::ReadAt;

/// Counts the steps of a walk along links, which may be as many as there are bytes.
struct Steps(usize);

impl Steps {
    fn take(&mut self, part: &'static str) -> Result<(), ElfError> {
        self.0 += 1;
        if self.0 > MAX_VERSIONS {
            return Err(ElfError::malformed(part, format!("more than {MAX_VERSIONS} entries")));
        }
        Ok(())
    }
}

/// The next entry of a list, or the end.
fn next(at: u64, link: u32) -> Option<u64> {
    (link != 0).then(|| at.saturating_add(link.into()))
}

/// Adds to each of the `libraries` the versions that are needed of it. A version that may be missing (weak) is not
/// needed.
pub(super) fn needed<R: ReadAt + ?Sized>(
    image: &Image<'_, R>,
    dynamic: &Dynamic,
    libraries: &mut [NeededLibrary],
) -> Result<(), ElfError> {
    const PART: &str = "needed versions";
    // The loader looks at the list alone; that one of the two is gone means that an entry was changed.
    for (list, count) in [(elf::DT_VERNEED, elf::DT_VERNEEDNUM), (elf::DT_VERDEF, elf::DT_VERDEFNUM)] {
        if dynamic.get(list).is_some() != dynamic.get(count).is_some() {
            return Err(ElfError::malformed(PART, "a list of versions without its length, or the reverse"));
        }
    }
    let mut steps = Steps(0);
    let mut at = dynamic.get(elf::DT_VERNEED);
    while let Some(address) = at {
        steps.take(PART)?;
        let file: Verneed<LE> = image.value(PART, address)?;
        if file.vn_version.get(LE) != elf::VER_NEED_CURRENT {
            return Err(ElfError::malformed(PART, format!("format {}", file.vn_version.get(LE))));
        }
        let name = dynamic.strings().get(image, file.vn_file.get(LE).into())?;
        let library = libraries
            .iter_mut()
            .find(|library| library.name == name)
            .ok_or_else(|| ElfError::malformed(PART, "versions of a library that the file does not need"))?;
        let mut aux = Some(address.saturating_add(file.vn_aux.get(LE).into()));
        while let Some(address) = aux {
            steps.take(PART)?;
            let entry: Vernaux<LE> = image.value(PART, address)?;
            let version = dynamic.strings().get(image, entry.vna_name.get(LE).into())?;
            // The loader compares both, so a version whose hash is another one is in no library.
            if entry.vna_hash.get(LE) != elf::hash(version.as_bytes()) {
                return Err(ElfError::malformed(PART, "a version whose hash is not that of its name"));
            }
            let weak = entry.vna_flags.get(LE).0 & elf::VER_FLG_WEAK.0 != 0;
            if !weak && !library.versions.contains(&version) {
                library.versions.push(version);
            }
            aux = next(address, entry.vna_next.get(LE));
        }
        at = next(address, file.vn_next.get(LE));
    }
    Ok(())
}

/// The versions that a library defines, in its order, with its own name, which is the first as a rule.
pub(super) fn defined<R: ReadAt + ?Sized>(
    image: &Image<'_, R>,
    dynamic: &Dynamic,
) -> Result<Vec<String>, ElfError> {
    const PART: &str = "defined versions";
    let mut steps = Steps(0);
    let mut found = Vec::new();
    let mut at = dynamic.get(elf::DT_VERDEF);
    while let Some(address) = at {
        steps.take(PART)?;
        let version: Verdef<LE> = image.value(PART, address)?;
        if version.vd_version.get(LE) != elf::VER_DEF_CURRENT {
            return Err(ElfError::malformed(PART, format!("format {}", version.vd_version.get(LE))));
        }
        let aux: Verdaux<LE> = image.value(PART, address.saturating_add(version.vd_aux.get(LE).into()))?;
        found.push(dynamic.strings().get(image, aux.vda_name.get(LE).into())?);
        at = next(address, version.vd_next.get(LE));
    }
    Ok(found)
}
