//! The data types of SSH's wire format (RFC 4251, section 5), each with one spelling.

/// Bytes that are read from the front. Each method gives `None` where they are cut short or spelled otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What was not read yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `Some` at the end: nothing may follow.
    pub(crate) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (head, tail) = self.0.split_first()?;
        self.0 = tail;
        Some(*head)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(u32::from_be_bytes(*head))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(u64::from_be_bytes(*head))
    }

    /// A `string`: its length as 32 bits, then its bytes.
    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let mut after = *self;
        let len = usize::try_from(after.u32()?).ok()?;
        let bytes = after.bytes(len)?;
        *self = after;
        Some(bytes)
    }

    /// A `string` that is UTF-8 without a NUL: to OpenSSH a NUL ends it, so that two spellings would be one text.
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok().filter(|text| !text.contains('\0'))
    }

    /// An `mpint` above zero, as its bytes without leading zeros. OpenSSH takes one with more zeros before it as well.
    pub(crate) fn positive(&mut self) -> Option<&'a [u8]> {
        match self.string()? {
            [0, rest @ ..] if rest.first().is_some_and(|byte| byte & 0x80 != 0) => Some(rest),
            [first, ..] if *first == 0 || first & 0x80 != 0 => None,
            [] => None,
            bytes => Some(bytes),
        }
    }
}

pub(crate) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    // Every caller's bytes come out of a text or frame that is bounded far below 4 GiB.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend(len.to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_spelling() {
        let read = |bytes: &[u8]| {
            let mut out = Vec::new();
            put_string(&mut out, bytes);
            Wire::new(&out).positive().map(<[u8]>::to_vec)
        };
        assert_eq!(read(&[1]), Some(vec![1]));
        assert_eq!(read(&[0x7f, 0]), Some(vec![0x7f, 0]));
        assert_eq!(read(&[0, 0x80]), Some(vec![0x80]));
        for other in [&[][..], &[0], &[0, 0], &[0, 1], &[0, 0, 0x80], &[0x80], &[0xff, 1]] {
            assert_eq!(read(other), None, "{other:?}");
        }
    }

    #[test]
    fn what_is_cut_short_is_not_read() {
        let mut wire = Wire::new(&[0, 0, 0, 2, b'a']);
        assert!(wire.string().is_none());
        assert_eq!(wire.rest().len(), 5);
        assert!(wire.u64().is_none());
        assert_eq!(wire.u32(), Some(2));
        assert_eq!((wire.u8(), wire.u8(), wire.end()), (Some(b'a'), None, Some(())));
    }

    #[test]
    fn a_text_has_no_end_within() {
        assert_eq!(Wire::new(b"\0\0\0\x02ab").text(), Some("ab"));
        assert_eq!(Wire::new(b"\0\0\0\x02a\0").text(), None);
        assert_eq!(Wire::new(b"\0\0\0\x01\xff").text(), None);
    }
}
