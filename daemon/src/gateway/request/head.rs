//! What a request's head must be before anybody is given the request. hyper has parsed it; this refuses what is read
//! differently by different servers: whom the request is for, and where its body ends.
//!
//! No look at the bytes is needed: a request goes on in frames that say where it ends, not as text.

use std::net::Ipv6Addr;

use http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Version};
use http_body::Body;

use super::marks::Marks;

/// Header fields of a request.
const MOST_FIELDS: usize = 100;

/// A request that is not served, and what its client is told. The connection ends with it: whoever sent such a head may
/// mean something else by what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) struct Refused(pub(in crate::gateway) StatusCode, pub(in crate::gateway) &'static str);

const fn bad(sentence: &'static str) -> Refused {
    Refused(StatusCode::BAD_REQUEST, sentence)
}

/// Checks a head. Of the body only its announced length is looked at.
pub(in crate::gateway) fn check(parts: &Parts, marks: &Marks<'_>, body: &impl Body) -> Result<(), Refused> {
    if parts.method == Method::CONNECT {
        let text = "this gateway is no proxy: CONNECT is not served";
        return Err(Refused(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    target(parts)?;
    host(parts, marks)?;
    if parts.version == Version::HTTP_2 {
        // Of HTTP/1 hyper takes no more.
        if parts.headers.len() > MOST_FIELDS {
            let text = "the request has more than 100 header fields";
            return Err(Refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text));
        }
        return one_length(&parts.headers);
    }
    let is_chunked = !body.is_end_stream() && body.size_hint().exact().is_none();
    if is_chunked { coding(&parts.headers) } else { Ok(()) }
}

/// The target: a path, a URL of HTTP, or `*` (RFC 9112, section 3.2).
fn target(parts: &Parts) -> Result<(), Refused> {
    let uri = &parts.uri;
    let path = uri.path();
    if path == "*" {
        let allowed = parts.method == Method::OPTIONS;
        return if allowed { Ok(()) } else { Err(bad("the target * is for OPTIONS alone")) };
    }
    if uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(bad("the target is a URL of another scheme than http and https"));
    }
    let goes_on = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    if !goes_on.starts_with('/') || (uri.authority().is_some() && uri.scheme().is_none()) {
        return Err(bad("the target is neither a path that begins with / nor a URL with one"));
    }
    // Its UTF-8 would be taken as it is by some and as Latin-1 by others.
    if !goes_on.is_ascii() {
        return Err(bad("the target has characters that must be percent-encoded in a URL"));
    }
    Ok(())
}

/// The host: said once, and what a host can be (RFC 9112, section 3.2).
fn host(parts: &Parts, marks: &Marks<'_>) -> Result<(), Refused> {
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let field = marks.host_field();
    if marks.has_more_hosts {
        return Err(bad("the request has more than one Host header; one is allowed"));
    }
    let Some(host) = authority.or(field) else {
        return match parts.version {
            Version::HTTP_10 => Ok(()),
            Version::HTTP_2 => Err(bad("the request has no :authority and no Host header")),
            _ => Err(bad("the request has no Host header, which HTTP/1.1 asks for")),
        };
    };
    if !is_host(host) || (authority.is_some() && !field.is_none_or(is_host)) {
        return Err(bad("the request's host is neither a name nor an address, with a port or without"));
    }
    // In HTTP/1 the target overrules the field. HTTP/2 knows no reason to send both (RFC 9113, section 8.3.1).
    let differs = |field: &[u8]| !field.eq_ignore_ascii_case(host);
    if parts.version == Version::HTTP_2 && field.is_some_and(differs) {
        return Err(bad("the request's :authority and its Host header differ"));
    }
    Ok(())
}

/// The longest name that DNS has, a dot at its end, a colon and a port.
const LONGEST_HOST: usize = 253 + 1 + 6;

/// Whether this can be a host with or without a port (RFC 3986, section 3.2.2). Without the name of a user, without what
/// would end it where it is a part of a URL, and without the marks that may be in names though there are none in hosts. A
/// colon stands in front of the port or in an address of IPv6: whoever reads `t:80:90` may take either end for the host.
fn is_host(host: &[u8]) -> bool {
    let end = host.iter().position(|&byte| !IN_NAMES[usize::from(byte)]);
    let rest = match end.map(|end| host.split_at(end)) {
        None => &[][..],
        Some(([], [b'[', address @ ..])) => match after_address(address) {
            Some(rest) => rest,
            None => return false,
        },
        Some((_name, rest)) => rest,
    };
    host.len() <= LONGEST_HOST && is_port(rest)
}

/// What follows an address of IPv6 in brackets, of which the first is left out.
fn after_address(text: &[u8]) -> Option<&[u8]> {
    let (address, rest) = text.split_at_checked(text.iter().position(|&byte| byte == b']')?)?;
    std::str::from_utf8(address).ok()?.parse::<Ipv6Addr>().ok()?;
    rest.get(1..)
}

/// Nothing, or a colon with a port behind it, which may be left out (RFC 3986, section 3.2.3).
fn is_port(text: &[u8]) -> bool {
    match text {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            digits.iter().all(u8::is_ascii_digit)
                && std::str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
        }
        _ => false,
    }
}

/// Whether a byte may be in the name of a host: a table, since every request has one.
static IN_NAMES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%');
        byte += 1;
    }
    table
};

/// Of several lengths that are equal HTTP/1 leaves one; HTTP/2 leaves all, and different ones are refused before this.
fn one_length(headers: &HeaderMap) -> Result<(), Refused> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter().skip(1);
    if lengths.next().is_some() {
        return Err(bad("the request has more than one Content-Length header; one is allowed"));
    }
    Ok(())
}

/// The one coding in which a body comes: `chunked`, once (RFC 9112, section 6.1). hyper looks at the last one.
fn coding(headers: &HeaderMap) -> Result<(), Refused> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let only = codings.next().is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !only || codings.next().is_some() {
        let text =
            "the request's Transfer-Encoding is other than chunked alone, and no other is understood here";
        return Err(Refused(StatusCode::NOT_IMPLEMENTED, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(version: Version, target: &str, fields: &[(&'static str, &'static str)]) -> Parts {
        let mut request = http::Request::get(target).version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn checked(parts: &Parts) -> Result<(), Refused> {
        check(parts, &Marks::of(&parts.headers), &String::new())
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for host in
            ["", "a", "a.example:80", "a:", "a:65535", "[::1]", "[::1]:8080", "192.0.2.1:80", "a_b", "%61"]
        {
            assert_eq!(checked(&parts(Version::HTTP_11, "/", &[("host", host)])), Ok(()), "{host}");
        }
        let ports = [
            "a:80:90",
            "::1",
            "a:8o",
            "a:+80",
            "a:65536",
            "[::1",
            "[::1]80",
            "[::1]:80:90",
            "[a]",
            "a[::1]",
            "a]",
        ];
        let others = ["a b", "user@a", "a/b", "a?b", "a#b", "a,b", "a\\b", "a\"", "b\t", "ä"];
        for host in ports.into_iter().chain(others) {
            let refused = checked(&parts(Version::HTTP_11, "/", &[("host", host)])).unwrap_err();
            assert_eq!(refused.0, StatusCode::BAD_REQUEST, "{host}");
        }
    }

    #[test]
    fn http_2_says_its_host_once() {
        let ask = |fields| checked(&parts(Version::HTTP_2, "http://a.example/", fields));
        assert_eq!(ask(&[]), Ok(()));
        assert_eq!(ask(&[("host", "A.example")]), Ok(()));
        assert!(ask(&[("host", "b.example")]).is_err());
        assert!(ask(&[("content-length", "1"), ("content-length", "1")]).is_err());
        assert!(checked(&parts(Version::HTTP_2, "/", &[])).is_err());
        assert_eq!(checked(&parts(Version::HTTP_2, "/", &[("host", "a")])), Ok(()));
    }
}
