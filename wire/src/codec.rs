//! Fields of the control messages: how integers, byte strings and texts are laid out in a packet.

use thiserror::Error;

/// The longest control message, in bytes. A packet of a Unix socket must fit into its send buffer (at least 208 KiB
/// by default on Linux), and the largest message is a `Start` with its config.
pub const MAX_MESSAGE: usize = 128 * 1024;

/// A message that can't be sent because it is longer than [`MAX_MESSAGE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the message has {found} bytes and a packet holds {MAX_MESSAGE}")]
pub struct TooLarge {
    /// The length that the message would have, in bytes.
    pub found: usize,
}

/// Why the bytes of a packet are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MessageError {
    /// The packet is longer than [`MAX_MESSAGE`].
    #[error("the packet has {found} bytes and at most {MAX_MESSAGE} are expected")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// The packet ends within a field.
    #[error("the packet ends within the field `{field}`")]
    Truncated {
        /// The field's name.
        field: &'static str,
    },
    /// A text is not UTF-8.
    #[error("the field `{field}` is not UTF-8")]
    NotUtf8 {
        /// The field's name.
        field: &'static str,
    },
    /// The first byte names no message of this direction.
    #[error("no message has the kind {found}")]
    UnknownKind {
        /// The first byte, or 0 in an empty packet.
        found: u8,
    },
    /// A field breaks the rules of its type.
    #[error("the field `{field}` breaks the rules of what it is")]
    Refused {
        /// The field's name.
        field: &'static str,
    },
    /// A field has a value without a meaning.
    #[error("the field `{field}` has the value {found}, which has no meaning")]
    UnknownValue {
        /// The field's name.
        field: &'static str,
        /// The value.
        found: u64,
    },
}

/// Appends fields to one message.
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Starts a message of `kind`.
    pub(crate) fn new(kind: u8) -> Self {
        Self { bytes: vec![kind] }
    }

    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.bytes.push(value);
        self
    }

    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn i32(mut self, value: i32) -> Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A byte string: `u32` length, then the bytes. One of 4 GiB or more writes a wrong length, which does no harm
    /// because [`Writer::finish`] refuses every message that long.
    pub(crate) fn bytes(self, value: &[u8]) -> Self {
        let mut this = self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        this.bytes.extend_from_slice(value);
        this
    }

    /// How many items follow. A message with too many of them is refused by [`Writer::finish`].
    pub(crate) fn count(self, value: usize) -> Self {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX))
    }

    /// The whole message.
    pub(crate) fn finish(self) -> Result<Vec<u8>, TooLarge> {
        if self.bytes.len() > MAX_MESSAGE {
            return Err(TooLarge { found: self.bytes.len() });
        }
        Ok(self.bytes)
    }
}

/// Takes fields off the front of one message.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts to read `packet` and takes its kind off.
    pub(crate) fn new(packet: &'a [u8]) -> Result<(u8, Self), MessageError> {
        if packet.len() > MAX_MESSAGE {
            return Err(MessageError::TooLong { found: packet.len() });
        }
        match packet.split_first() {
            Some((kind, rest)) => Ok((*kind, Self { rest })),
            None => Err(MessageError::UnknownKind { found: 0 }),
        }
    }

    fn take(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], MessageError> {
        let (value, rest) = self.rest.split_at_checked(len).ok_or(MessageError::Truncated { field })?;
        self.rest = rest;
        Ok(value)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], MessageError> {
        let (value, rest) = self.rest.split_first_chunk::<N>().ok_or(MessageError::Truncated { field })?;
        self.rest = rest;
        Ok(*value)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, MessageError> {
        self.array(field).map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, MessageError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, MessageError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, MessageError> {
        self.array(field).map(i32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, MessageError> {
        self.array(field).map(u64::from_le_bytes)
    }

    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool, MessageError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(MessageError::UnknownValue { field, found: u64::from(found) }),
        }
    }

    /// Whether nothing is left: older senders leave out what would follow.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// A field that older senders leave out, which then is 0.
    pub(crate) fn later_u8(&mut self, field: &'static str) -> Result<u8, MessageError> {
        if self.rest.is_empty() { Ok(0) } else { self.u8(field) }
    }

    /// A field that older senders leave out, which then is false.
    pub(crate) fn later_bool(&mut self, field: &'static str) -> Result<bool, MessageError> {
        if self.rest.is_empty() { Ok(false) } else { self.bool(field) }
    }

    /// How many items follow, at most `max`.
    pub(crate) fn count(&mut self, field: &'static str, max: usize) -> Result<usize, MessageError> {
        let count = usize::try_from(self.u32(field)?).unwrap_or(usize::MAX);
        if count > max { Err(MessageError::Refused { field }) } else { Ok(count) }
    }

    /// A number that is neither infinite nor none at all.
    pub(crate) fn finite(&mut self, field: &'static str) -> Result<f64, MessageError> {
        let value = f64::from_bits(self.u64(field)?);
        if value.is_finite() { Ok(value) } else { Err(MessageError::Refused { field }) }
    }

    /// A field that older senders leave out, which then is 0.
    pub(crate) fn later_u32(&mut self, field: &'static str) -> Result<u32, MessageError> {
        if self.rest.is_empty() { Ok(0) } else { self.u32(field) }
    }

    pub(crate) fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], MessageError> {
        let len = self.u32(field)?;
        let len = usize::try_from(len).map_err(|_too_long_for_memory| MessageError::Truncated { field })?;
        self.take(field, len)
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<String, MessageError> {
        let bytes = self.bytes(field)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_position) => Err(MessageError::NotUtf8 { field }),
        }
    }
}
