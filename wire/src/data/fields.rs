//! A list of header fields or trailers as it lies in the buffer that was read.

use bytes::Bytes;

use super::{FrameError, MAX_FIELDS};

/// Header fields or trailers. Their lengths were checked once, when the frame was decoded; nothing is copied.
#[derive(Clone)]
pub struct Fields {
    bytes: Bytes,
    count: u16,
}

impl Fields {
    /// Checks that `count` fields are at the front of `bytes`; what is behind them is ignored.
    pub(super) fn parse(bytes: Bytes, count: u16) -> Result<Self, FrameError> {
        Self::parse_front(bytes, count).map(|(fields, _)| fields)
    }

    /// As [`Fields::parse`], with the length of what is behind them.
    pub(super) fn parse_front(mut bytes: Bytes, count: u16) -> Result<(Self, usize), FrameError> {
        if usize::from(count) > MAX_FIELDS {
            return Err(FrameError::TooManyFields { found: count });
        }
        let mut rest: &[u8] = &bytes;
        for _ in 0..count {
            (_, rest) = split_field(rest).ok_or(FrameError::Truncated { part: "fields" })?;
        }
        let behind = rest.len();
        bytes.truncate(bytes.len() - behind);
        Ok((Self { bytes, count }, behind))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Name and value of each, in the order of the sender.
    #[must_use]
    pub fn iter(&self) -> FieldsIter<'_> {
        FieldsIter { rest: &self.bytes, left: self.count }
    }

    /// The same in memory of their own, for what lives longer than the buffer that was read.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { bytes: Bytes::copy_from_slice(&self.bytes), count: self.count }
    }

    /// A value of these fields as a share of the buffer, e.g. to make a `HeaderValue` without a copy. The buffer stays
    /// as long as the share does. `value` must be a slice that [`Fields::iter`] gave; of any other, a copy is made.
    #[must_use]
    pub fn share(&self, value: &[u8]) -> Bytes {
        if self.bytes.as_ptr_range().contains(&value.as_ptr()) {
            self.bytes.slice_ref(value)
        } else {
            Bytes::copy_from_slice(value)
        }
    }
}

/// By name and value of each.
impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other)
    }
}

impl Eq for Fields {}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        f.debug_map().entries(self.iter().map(|(name, value)| (text(name), text(value)))).finish()
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = FieldsIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// See [`Fields::iter`].
#[derive(Debug, Clone)]
pub struct FieldsIter<'a> {
    rest: &'a [u8],
    left: u16,
}

impl<'a> Iterator for FieldsIter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (field, rest) = split_field(self.rest)?;
        self.rest = rest;
        Some(field)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for FieldsIter<'_> {}

type Field<'a> = (&'a [u8], &'a [u8]);

fn split_field(bytes: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let (lengths, rest) = bytes.split_first_chunk::<4>()?;
    let [n0, n1, v0, v1] = *lengths;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([n0, n1])))?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([v0, v1])))?;
    Some(((name, value), rest))
}
