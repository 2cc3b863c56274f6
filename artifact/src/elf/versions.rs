//! Symbol versions: which ones a file needs of which library, and which ones a library defines. See "Symbol
//! Versioning" in the LSB, and `_dl_check_map_versions` in glibc: it walks the lists by their links, until one is 0.

use object::LittleEndian as LE;
use object::elf::{self, Verdaux, Verdef, Vernaux, Verneed};

use super::dynamic::Dynamic;
use super::image::Image;
use super::{ElfError, MAX_VERSIONS, NeededLibrary};
use crate::reader::ReadAt;

const NEEDED: &str = "needed versions";

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

/// A version that a file needs of a library.
#[derive(Debug)]
pub(super) struct Need {
    pub(super) version: String,
    /// By which the table of the symbols' versions names it.
    pub(super) number: u16,
    /// The library need not define it.
    is_weak: bool,
}

/// Adds to each of the `libraries` the versions that are needed of it. A version that may be missing (weak) is not
/// needed.
pub(super) fn needed<R: ReadAt + ?Sized>(
    image: &Image<'_, R>,
    dynamic: &Dynamic,
    libraries: &mut [NeededLibrary],
) -> Result<(), ElfError> {
    // The loader looks at the list alone; that one of the two is gone means that an entry was changed.
    for (list, count) in [(elf::DT_VERNEED, elf::DT_VERNEEDNUM), (elf::DT_VERDEF, elf::DT_VERDEFNUM)] {
        if dynamic.get(list).is_some() != dynamic.get(count).is_some() {
            return Err(ElfError::malformed(NEEDED, "a list of versions without its length, or the reverse"));
        }
    }
    each_need(image, dynamic, |name, need| {
        let library = libraries.iter_mut().find(|library| library.name == name).ok_or_else(|| {
            ElfError::malformed(NEEDED, "versions of a library that the file does not need")
        })?;
        if !need.is_weak && !library.versions.contains(&need.version) {
            library.versions.push(need.version);
        }
        Ok(())
    })
}

/// Calls `take` with each needed version and the library that is to define it, in the file's order.
pub(super) fn each_need<R: ReadAt + ?Sized>(
    image: &Image<'_, R>,
    dynamic: &Dynamic,
    mut take: impl FnMut(&str, Need) -> Result<(), ElfError>,
) -> Result<(), ElfError> {
    let mut steps = Steps(0);
    let mut at = dynamic.get(elf::DT_VERNEED);
    while let Some(address) = at {
        steps.take(NEEDED)?;
        let file: Verneed<LE> = image.value(NEEDED, address)?;
        if file.vn_version.get(LE) != elf::VER_NEED_CURRENT {
            return Err(ElfError::malformed(NEEDED, format!("format {}", file.vn_version.get(LE))));
        }
        let library = dynamic.strings().get(image, file.vn_file.get(LE).into())?;
        let mut aux = Some(address.saturating_add(file.vn_aux.get(LE).into()));
        while let Some(address) = aux {
            steps.take(NEEDED)?;
            let entry: Vernaux<LE> = image.value(NEEDED, address)?;
            let version = dynamic.strings().get(image, entry.vna_name.get(LE).into())?;
            // The loader compares both, so a version whose hash is another one is in no library.
            if entry.vna_hash.get(LE) != elf::hash(version.as_bytes()) {
                return Err(ElfError::malformed(NEEDED, "a version whose hash is not that of its name"));
            }
            let is_weak = entry.vna_flags.get(LE).0 & elf::VER_FLG_WEAK.0 != 0;
            take(&library, Need { version, number: entry.vna_other.get(LE).0, is_weak })?;
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
