//! [`Route`]: a path prefix that a module serves.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A path prefix, e.g. `/greet` or `/` for everything.
///
/// It matches whole segments: `/greet` matches `/greet` and `/greet/anna`, not `/greeting`. It is kept in the one
/// spelling that requests are matched with: no empty, `.` or `..` segment, no slash at the end, nothing
/// percent-encoded.
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
    /// Most bytes of a route.
    pub const MAX_LEN: usize = 256;

    /// Paths that start so belong to the gateway (`/-/ready`, `/-/live`).
    pub const RESERVED: &str = "/-";

    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a request for `path` (without query) is for this route.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        if &*self.0 == "/" {
            return path.starts_with('/');
        }
        path.strip_prefix(&*self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// What is wrong with a route, or nothing.
fn complaint(text: &str) -> Option<&'static str> {
    let Some(rest) = text.strip_prefix('/') else {
        return Some("a route is a path prefix and starts with a slash, like /greet");
    };
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
    fn matches_whole_segments() {
        let route: Route = "/greet".parse().unwrap();
        assert!(route.matches("/greet") && route.matches("/greet/") && route.matches("/greet/a/b"));
        assert!(!route.matches("/greeting") && !route.matches("/") && !route.matches("greet"));
        let root: Route = "/".parse().unwrap();
        assert!(root.matches("/") && root.matches("/x/y") && !root.matches("*"));
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
