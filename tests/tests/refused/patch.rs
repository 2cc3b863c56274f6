//! Bytes of a good module, changed where a linker would not: each function says what the loader would read.

use anyhow::{Context, Result};

/// `PT_LOAD` and its like.
pub(crate) const LOAD: u32 = 1;
pub(crate) const DYNAMIC: u32 = 2;
pub(crate) const STACK: u32 = 0x6474_e551;

/// Members of a program header, from its start.
pub(crate) const KIND: usize = 0;
pub(crate) const OFFSET: usize = 8;
pub(crate) const ADDRESS: usize = 16;
pub(crate) const MEMORY: usize = 40;

fn word(bytes: &[u8], at: usize) -> Result<usize> {
    let bytes = bytes.get(at..at + 8).context("a word within the file")?;
    usize::try_from(u64::from_le_bytes(bytes.try_into()?)).context("a place in the file")
}

/// Bytes of the ELF header and the program headers.
pub(crate) fn headers(bytes: &[u8]) -> Result<usize> {
    Ok(word(bytes, 32)? + 56 * usize::from(u16::from_le_bytes([bytes[56], bytes[57]])))
}

/// The file with other bytes at `at`.
pub(crate) fn at(mut bytes: Vec<u8>, at: usize, with: &[u8]) -> Vec<u8> {
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

/// Where the n-th program header of this type is.
fn segment(bytes: &[u8], kind: u32, nth: usize) -> Result<usize> {
    let mut all = (word(bytes, 32)?..headers(bytes)?).step_by(56);
    all.by_ref().filter(|at| bytes[*at..*at + 4] == kind.to_le_bytes()).nth(nth).context("such a segment")
}

/// With another value in a member of the n-th program header of this type.
pub(crate) fn header(bytes: &[u8], kind: u32, nth: usize, member: usize, value: u64) -> Result<Vec<u8>> {
    let place = segment(bytes, kind, nth)? + member;
    let len = if member == KIND { 4 } else { 8 };
    Ok(at(bytes.to_vec(), place, &value.to_le_bytes()[..len]))
}

/// With another tag, and another value where one is given, in the dynamic segment's entry that has this tag.
pub(crate) fn entry(bytes: &[u8], tag: u64, other: u64, value: Option<u64>) -> Result<Vec<u8>> {
    let start = word(bytes, segment(bytes, DYNAMIC, 0)? + OFFSET)?;
    let mut places = (start..bytes.len() - 16).step_by(16);
    let place = places.find(|at| bytes[*at..*at + 8] == tag.to_le_bytes()).context("such an entry")?;
    let bytes = at(bytes.to_vec(), place, &other.to_le_bytes());
    Ok(match value {
        None => bytes,
        Some(value) => at(bytes, place + 8, &value.to_le_bytes()),
    })
}
