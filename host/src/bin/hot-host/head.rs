//! A request's head as the ABI lends it, and the check of what a module sends.

use hot_module::abi::{self, SWITCHING_PROTOCOLS};
use hot_wire::data::{Fields, MAX_FIELDS};

/// Header fields or trailers as the ABI lends them. The slices live as long as what `fields` lie in.
pub(crate) fn view(fields: &Fields) -> Box<[abi::Header]> {
    let slice = abi::Slice::of;
    fields.iter().map(|(name, value)| abi::Header { name: slice(name), value: slice(value) }).collect()
}

/// The value of the first field of that name, in any case.
pub(crate) fn find<'f>(fields: &'f Fields, name: &[u8]) -> Option<&'f [u8]> {
    fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
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
        && name.iter().all(|&byte| IN_TOKENS[usize::from(byte)])
        && is_text(value)
        && !is_of_connection
}

/// Stands for a status where the fields are trailers.
pub(crate) const TRAILERS: u16 = 0;

/// The most headers or trailers of one answer.
pub(crate) const MAX_HEADERS: usize = MAX_FIELDS;

/// Whether a byte may be in a token: a table, since every answer has some.
static IN_TOKENS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
        byte += 1;
    }
    table
};

/// Whether no byte is a control character but tab. All are looked at, without a branch for each.
fn is_text(value: &[u8]) -> bool {
    value.iter().fold(true, |is_text, &byte| is_text & (byte == b'\t' || (byte >= b' ' && byte != 0x7f)))
}

fn is_hop_by_hop(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 6] =
        [b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"];
    NAMES.iter().any(|hop| hop.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

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
