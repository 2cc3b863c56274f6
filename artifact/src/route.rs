//! [`Route`]: a path prefix that a module serves, for all hosts or for one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A path prefix, e.g. `/greet` or `/` for everything; with a host in front of it, for requests to that host alone, e.g.
/// `api.example.com/greet`, and `*.example.com/` for all names below one.
///
/// It matches whole segments: `/greet` matches `/greet` and `/greet/anna`, not `/greeting`. It is kept in the one
/// spelling that requests are matched with: no empty, `.` or `..` segment, no slash at the end, nothing
/// percent-encoded; host names in lower case, without a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Route(Box<str>);

/// Why a text is not a route.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{}` is not a route: {reason}", found.escape_debug())]
pub struct RouteError {
    /// What was found, cut to the first 80 characters.
    pub found: String,
    /// What is wrong with it and what to write.
    pub reason: &'static str,
}

impl Route {
    /// Most bytes of a path prefix.
    pub const MAX_LEN: usize = 256;

    /// Most bytes of a host's name, as DNS has it.
    pub const MAX_HOST_LEN: usize = 253;

    /// Paths that start so belong to the gateway (`/-/ready`, `/-/live`).
    pub const RESERVED: &str = "/-";

    /// Host and prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, and the path prefix. No host: any.
    #[must_use]
    pub fn parts(&self) -> (Option<&str>, &str) {
        let (host, path) = split(&self.0);
        (Some(host).filter(|host| !host.is_empty()), path)
    }
}

/// What is in front of the first slash, and the rest.
fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find('/').unwrap_or(text.len()))
}

/// What is wrong with a route, or nothing.
fn complaint(text: &str) -> Option<&'static str> {
    let (host, path) = split(text);
    if !path.starts_with('/') {
        return Some(
            "a route is a path prefix and starts with a slash, like /greet, or with a host, like example.com/greet",
        );
    }
    if host.is_empty() {
        complaint_of_path(path)
    } else {
        complaint_of_host(host).or_else(|| complaint_of_path(path))
    }
}

/// A name of DNS as it is spelled in a `Host` header (RFC 1123, section 2.1).
fn complaint_of_host(host: &str) -> Option<&'static str> {
    if host.len() > Route::MAX_HOST_LEN {
        return Some("the host is longer than 253 bytes");
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some("write the host in lower case: it matches in any");
    }
    if matches!(name, "http:" | "https:") {
        return Some("leave out the scheme: a route is no URL, and begins with the host or with a slash");
    }
    if name.contains(':') {
        return Some("leave out the port: it matches with any");
    }
    let is_label = |label: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.split('.').all(is_label) {
        return Some("the host is a name like api.example.com, or *.example.com for all below example.com");
    }
    None
}

fn complaint_of_path(text: &str) -> Option<&'static str> {
    let rest = text.strip_prefix('/').unwrap_or_default();
    if text.len() > Route::MAX_LEN {
        return Some("it is longer than 256 bytes");
    }
    // `pchar` of RFC 3986 without percent-encoding: what can stand in a path as itself.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&b);
    if !text.bytes().all(plain) {
        return Some("only characters that stand in a path as they are, without percent signs, can be used");
    }
    if rest.is_empty() {
        return None;
    }
    if rest.ends_with('/') {
        return Some("leave out the slash at the end: /greet matches /greet and all below it");
    }
    if rest.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Some("empty segments, . and .. can never match");
    }
    if rest == "-" || rest.starts_with("-/") {
        return Some("paths below /-/ belong to the gateway");
    }
    None
}

impl FromStr for Route {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        match complaint(text) {
            None => Ok(Self(text.into())),
            Some(reason) => Err(RouteError { found: text.chars().take(80).collect(), reason }),
        }
    }
}

impl TryFrom<String> for Route {
    type Error = RouteError;

    fn try_from(text: String) -> Result<Self, RouteError> {
        text.parse()
    }
}

impl From<Route> for String {
    fn from(route: Route) -> Self {
        route.0.into()
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Route({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_may_begin_with_a_host() {
        for (text, host, path) in [
            ("/greet", None, "/greet"),
            ("example.com/", Some("example.com"), "/"),
            ("*.example.com/a/b", Some("*.example.com"), "/a/b"),
            ("localhost/x", Some("localhost"), "/x"),
            ("10.0.0.1/x", Some("10.0.0.1"), "/x"),
        ] {
            assert_eq!(text.parse::<Route>().unwrap().parts(), (host, path), "{text}");
        }
        let long = format!("{}.com/", "a".repeat(64));
        for bad in [
            "example.com",
            "Example.com/",
            "example.com:80/",
            "example.com./",
            ".example.com/",
            "*/",
            "*.*.com/",
            "a.*.com/",
            "-a.com/",
            "[::1]/",
            "exa mple.com/",
            "example.com//",
            "example.com/-/x",
            "*example.com/",
            &long,
        ] {
            assert!(bad.parse::<Route>().is_err(), "{bad}");
        }
        for (url, advice) in
            [("https://a.com/x", "the scheme"), ("a.com:80/", "the port"), ("a:80:90/", "the port")]
        {
            let refused = url.parse::<Route>().unwrap_err().to_string();
            assert!(refused.contains(&format!("leave out {advice}")), "{refused}");
        }
    }

    #[test]
    fn one_spelling_only() {
        let long = format!("/{}", "a".repeat(256));
        for bad in [
            "", "greet", "/greet/", "//", "/a//b", "/a/../b", "/.", "/a%20b", "/a b", "/ä", "/a?b", "/-",
            "/-/x", &long,
        ] {
            assert!(bad.parse::<Route>().is_err(), "{bad}");
        }
        for good in ["/", "/-x", "/a.b", "/a/b-c/d_e", "/v1:run", "/..."] {
            assert_eq!(good.parse::<Route>().unwrap().as_str(), good);
        }
    }
}
