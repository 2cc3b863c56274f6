//! The form of every small file: one line of JSON that says what the file is, then the record as JSON.
//!
//! ```text
//! {"format":1,"kind":"module","generation":7,"sha256":"<hex>"}
//! {"next_release":3,…}
//! ```
//!
//! The sum covers format, kind, generation and record, so a flipped bit anywhere is noticed. `generation` grows with
//! each write of a file: of two copies the higher one is the newer. A higher `format` is refused and the file is left
//! alone, because a newer `hotd` wrote it. To tell that from damage, the first line and its sum stay as they are in
//! every format; a member that is added to it is ignored by those who do not know it.

use hot_artifact::{Sha256, Sha256Hasher};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The format that is written. Raised only when an older `hotd` could not read a file rightly any more.
pub(super) const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    kind: String,
    generation: u64,
    sha256: Sha256,
}

/// Why bytes are no small file of the kind that was asked for.
#[derive(Debug, Error)]
pub(super) enum EnvelopeError {
    /// Cut short, overwritten, flipped, or of another kind.
    #[error("{0}")]
    Damaged(String),
    /// Written by a newer `hotd`.
    #[error("it has format {0}, and this hotd knows {FORMAT}")]
    Newer(u32),
}

/// Puts a record into its envelope.
pub(super) fn seal(kind: &str, generation: u64, record: &[u8]) -> Vec<u8> {
    let head = format!(
        "{{\"format\":{FORMAT},\"kind\":\"{kind}\",\"generation\":{generation},\"sha256\":\"{}\"}}\n",
        sum(FORMAT, kind, generation, record)
    );
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(record);
    bytes.push(b'\n');
    bytes
}

/// Takes a record out of its envelope: generation and record.
pub(super) fn open<'a>(kind: &str, bytes: &'a [u8]) -> Result<(u64, &'a [u8]), EnvelopeError> {
    let damaged = |why: &str| EnvelopeError::Damaged(why.to_owned());
    let end =
        bytes.iter().position(|b| *b == b'\n').ok_or_else(|| damaged("it has no complete first line"))?;
    let (head, rest) = bytes.split_at(end);
    let head: Head = serde_json::from_slice(head)
        .map_err(|e| EnvelopeError::Damaged(format!("its first line is not what a store writes ({e})")))?;
    let record = rest
        .strip_prefix(b"\n")
        .and_then(|r| r.strip_suffix(b"\n"))
        .ok_or_else(|| damaged("it is cut short"))?;
    if sum(head.format, &head.kind, head.generation, record) != head.sha256 {
        return Err(damaged("its content does not match its checksum"));
    }
    if head.format > FORMAT {
        return Err(EnvelopeError::Newer(head.format));
    }
    if head.kind != kind {
        return Err(EnvelopeError::Damaged(format!("it is a {:?} file, not a {kind:?} one", head.kind)));
    }
    Ok((head.generation, record))
}

fn sum(format: u32, kind: &str, generation: u64, record: &[u8]) -> Sha256 {
    let mut hasher = Sha256Hasher::default();
    hasher.update(format!("{format}\n{kind}\n{generation}\n").as_bytes());
    hasher.update(record);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = seal("module", 7, br#"{"a":1}"#);
        let (generation, record) = open("module", &bytes).unwrap();
        assert_eq!((generation, record), (7, &br#"{"a":1}"#[..]));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open("module", &flipped).is_err(), "bit {bit} of {}", String::from_utf8_lossy(&flipped));
        }
        for len in 0..bytes.len() {
            assert!(open("module", &bytes[..len]).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn a_newer_format_is_told_apart_from_damage() {
        let seal = |format: u32, kind: &str, extra: &str| {
            let sum = sum(format, kind, 1, b"{}");
            format!(
                "{{\"format\":{format},\"kind\":\"{kind}\",\"generation\":1,\"sha256\":\"{sum}\"{extra}}}\n{{}}\n"
            )
        };
        let open = |text: String| open("module", text.as_bytes()).map(|(generation, _)| generation);
        assert!(matches!(open(seal(1, "module", ",\"new\":true")), Ok(1)));
        assert!(matches!(open(seal(2, "module", "")), Err(EnvelopeError::Newer(2))));
        let flipped = seal(1, "module", "").replacen('1', "3", 1);
        assert!(matches!(open(flipped), Err(EnvelopeError::Damaged(_))));
        assert!(matches!(open(seal(1, "rollout", "")), Err(EnvelopeError::Damaged(_))));
    }
}
