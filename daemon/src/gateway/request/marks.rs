//! The fields of a request that say something to the gateway itself, found in one pass over the head: a lookup by name
//! costs more than a look at each name that is there.

use http::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::request::Parts;

/// Pins a request to a release, by number or version.
pub(in crate::gateway) const PIN: &str = "x-hot-version";
static PIN_NAME: HeaderName = HeaderName::from_static(PIN);

/// What is there of them.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::gateway) struct Marks<'a> {
    /// The first `Host`.
    host: Option<&'a HeaderValue>,
    /// There is another.
    pub(in crate::gateway) has_more_hosts: bool,
    pub(in crate::gateway) has_connection: bool,
    pub(in crate::gateway) has_upgrade: bool,
    pin: Option<&'a HeaderValue>,
}

impl<'a> Marks<'a> {
    pub(in crate::gateway) fn of(headers: &'a HeaderMap) -> Self {
        let mut marks = Self::default();
        for (name, value) in headers {
            if *name == HOST {
                marks.has_more_hosts |= marks.host.is_some();
                marks.host.get_or_insert(value);
            } else if *name == CONNECTION {
                marks.has_connection = true;
            } else if *name == UPGRADE {
                marks.has_upgrade = true;
            } else if *name == PIN_NAME {
                marks.pin.get_or_insert(value);
            }
        }
        marks
    }

    /// What the request says in its `Host`.
    pub(in crate::gateway) fn host_field(&self) -> Option<&'a [u8]> {
        self.host.map(HeaderValue::as_bytes)
    }

    /// The host that the request is to: that of its target, else that of its `Host` (RFC 9112, section 3.2.2).
    pub(in crate::gateway) fn host(&self, parts: &'a Parts) -> Option<&'a str> {
        let of_target = parts.uri.authority().map(|authority| authority.as_str());
        of_target.or_else(|| self.host.and_then(|host| host.to_str().ok()))
    }

    /// The text of its pin.
    pub(in crate::gateway) fn pin(&self) -> Option<&'a str> {
        self.pin.map(|value| value.to_str().unwrap_or("").trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_counts_and_a_second_host_is_seen() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("host", "a"), (PIN, " 7 "), ("accept", "x"), (PIN, "8")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let marks = Marks::of(&headers);
        assert_eq!((marks.host_field(), marks.pin()), (Some(&b"a"[..]), Some("7")));
        assert!(!marks.has_more_hosts && !marks.has_connection && !marks.has_upgrade);
        for (name, value) in [("host", "b"), ("connection", "upgrade"), ("upgrade", "x")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let marks = Marks::of(&headers);
        assert_eq!(marks.host_field(), Some(&b"a"[..]));
        assert!(marks.has_more_hosts && marks.has_connection && marks.has_upgrade);
    }
}
