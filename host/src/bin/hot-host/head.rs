//! A request's head as the host keeps it, and the check of what a module sends.
//!
//! A decoded frame is a share of the whole buffer that was read, up to 256 KiB. A module may keep an exchange for hours,
//! so its head is copied into one allocation of its own size.

use hot_module::abi::{self, SWITCHING_PROTOCOLS};
use hot_wire::data::{Fields, MAX_FIELDS, Request};
use std::ops::Range;

/// Method, target, peer and header fields of one request.
#[derive(Debug)]
pub(crate) struct Head {
    /// Method, target and peer one after the other, then name and value of each field.
    bytes: Box<[u8]>,
    method: usize,
    target: usize,
    peer: usize,
    /// Lengths of name and value of each field.
    fields: FieldLengths,
}

type FieldLengths = Box<[(u16, u16)]>;

impl Head {
    /// Copies the head of a request.
    pub(crate) fn of(request: &Request) -> Self {
        let (method, target, peer) = (request.method(), request.target(), request.peer());
        let (bytes, fields) = copy(&[method, target, peer], &request.fields);
        Self { bytes, method: method.len(), target: target.len(), peer: peer.len(), fields }
    }

    pub(crate) fn method(&self) -> &[u8] {
        &self.bytes[..self.method]
    }

    pub(crate) fn target(&self) -> &[u8] {
        &self.bytes[self.method..][..self.target]
    }

    pub(crate) fn peer(&self) -> &[u8] {
        &self.bytes[self.method + self.target..][..self.peer]
    }

    /// The fields as the ABI lends them. The slices live as long as `self`.
    pub(crate) fn view(&self) -> Box<[abi::Header]> {
        view(&self.bytes[self.method + self.target + self.peer..], &self.fields)
    }

    /// The value of the first field of that name, in any case.
    pub(crate) fn find(&self, name: &[u8]) -> Option<&[u8]> {
        let rest = &self.bytes[self.method + self.target + self.peer..];
        ranges(&self.fields)
            .find(|(found, _)| rest[found.clone()].eq_ignore_ascii_case(name))
            .map(|(_, value)| &rest[value])
    }
}

/// A request's trailers, kept like its head.
#[derive(Debug)]
pub(crate) struct Trailers {
    bytes: Box<[u8]>,
    fields: FieldLengths,
}

impl Trailers {
    pub(crate) fn of(fields: &Fields) -> Self {
        let (bytes, fields) = copy(&[], fields);
        Self { bytes, fields }
    }

    /// As [`Head::view`].
    pub(crate) fn view(&self) -> Box<[abi::Header]> {
        view(&self.bytes, &self.fields)
    }
}

fn copy(texts: &[&[u8]], fields: &Fields) -> (Box<[u8]>, FieldLengths) {
    let before: usize = texts.iter().map(|text| text.len()).sum();
    let behind: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    let mut bytes = Vec::with_capacity(before + behind);
    texts.iter().for_each(|text| bytes.extend_from_slice(text));
    let mut lengths = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value);
        // The frame has these lengths as u16 too, so nothing is cut here.
        let short = |len: usize| u16::try_from(len).unwrap_or(u16::MAX);
        lengths.push((short(name.len()), short(value.len())));
    }
    (bytes.into_boxed_slice(), lengths.into_boxed_slice())
}

/// Where name and value of each field lie.
fn ranges(fields: &FieldLengths) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let mut at = 0;
    fields.iter().map(move |&(name, value)| {
        let middle = at + usize::from(name);
        let field = (at..middle, middle..middle + usize::from(value));
        at = field.1.end;
        field
    })
}

fn view(bytes: &[u8], fields: &FieldLengths) -> Box<[abi::Header]> {
    ranges(fields)
        .map(|(name, value)| abi::Header {
            name: abi::Slice::of(&bytes[name]),
            value: abi::Slice::of(&bytes[value]),
        })
        .collect()
}

/// Whether a module may send this header: a token as name (RFC 9110, 5.6.2), no control characters in the value but tab
/// (5.5), and nothing that is the connection's business (7.6.1), which the gateway alone decides. With status 101 it says to
/// what the connection is upgraded, and no length: what follows is no body. `trailer` is about the message: it announces what
/// comes behind the body (6.6.2).
pub(crate) fn is_allowed(name: &[u8], value: &[u8], status: u16) -> bool {
    let is_of_connection = match status {
        SWITCHING_PROTOCOLS => {
            name.eq_ignore_ascii_case(b"content-length")
                || (is_hop_by_hop(name) && !name.eq_ignore_ascii_case(b"upgrade"))
        }
        _ => is_hop_by_hop(name),
    };
    !name.is_empty()
        && name.iter().all(|&byte| is_token(byte))
        && value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
        && !is_of_connection
}

/// Stands for a status where the fields are trailers.
pub(crate) const TRAILERS: u16 = 0;

/// The most headers or trailers of one answer.
pub(crate) const MAX_HEADERS: usize = MAX_FIELDS;

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

fn is_hop_by_hop(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 6] =
        [b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"];
    NAMES.iter().any(|hop| hop.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use hot_wire::data::{self, Decoder, FromGateway, RequestHead};

    fn request(fields: &[(&[u8], &[u8])]) -> Request {
        let mut decoder = Decoder::<FromGateway>::new();
        let head = RequestHead {
            method: b"PUT",
            target: b"/a?b",
            peer: b"[::1]:9",
            deadline_ms: 5,
            window: data::INITIAL_WINDOW,
        };
        let mut frame = BytesMut::new();
        data::request(&mut frame, 7, &head, fields.iter().copied(), b"body", true).unwrap();
        decoder.read_buf().extend_from_slice(&frame);
        match decoder.next_frame().unwrap().unwrap().message {
            FromGateway::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_copied_head_says_what_the_frame_said() {
        let head = Head::of(&request(&[(b"accept", b"*/*"), (b"x-empty", b""), (b"accept", b"second")]));
        assert_eq!((head.method(), head.target(), head.peer()), (&b"PUT"[..], &b"/a?b"[..], &b"[::1]:9"[..]));
        assert_eq!(head.find(b"ACCEPT"), Some(&b"*/*"[..]));
        assert_eq!(head.find(b"x-empty"), Some(&b""[..]));
        assert_eq!(head.find(b"accep"), None);
        assert_eq!(head.view().iter().map(|field| field.value.len).collect::<Vec<_>>(), [3, 0, 6]);
    }

    #[test]
    fn headers_that_would_break_the_message_are_refused() {
        for (name, value) in [
            ("", "a"),
            ("a b", "a"),
            ("a:", "a"),
            ("a", "b\r\nc: d"),
            ("a", "\0"),
            ("Transfer-Encoding", "chunked"),
        ] {
            assert!(!is_allowed(name.as_bytes(), value.as_bytes(), 200), "{name}: {value}");
        }
        for (name, value) in [
            ("x-a_b.c~1!", "any \t value \u{e9}"),
            ("Content-Type", ""),
            ("content-length", "5"),
            ("Trailer", "a"),
        ] {
            assert!(is_allowed(name.as_bytes(), value.as_bytes(), 200), "{name}: {value}");
        }
    }

    #[test]
    fn an_upgrade_says_to_what_and_has_no_length() {
        for (name, status, allowed) in [
            ("Upgrade", 101, true),
            ("Upgrade", 200, false),
            ("upgrade", TRAILERS, false),
            ("content-length", 101, false),
            ("connection", 101, false),
            ("sec-websocket-accept", 101, true),
        ] {
            assert_eq!(is_allowed(name.as_bytes(), b"x", status), allowed, "{name} with {status}");
        }
    }
}
