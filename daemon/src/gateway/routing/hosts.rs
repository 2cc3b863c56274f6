//! To which host a request is, and which routes are for it.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// What stands in front of the name of a route for all hosts below it.
const BELOW: &str = "*.";

/// Something for each host that a route names, and for all others.
#[derive(Debug)]
pub(in crate::gateway) struct Hosts<T> {
    any: T,
    exact: BTreeMap<Box<str>, T>,
    /// By the name that they are below of.
    below: BTreeMap<Box<str>, T>,
}

impl<T: Default> Default for Hosts<T> {
    fn default() -> Self {
        Self { any: T::default(), exact: BTreeMap::new(), below: BTreeMap::new() }
    }
}

impl<T: Default> Hosts<T> {
    /// That of a host as a route has it.
    pub(in crate::gateway) fn entry(&mut self, host: &str) -> &mut T {
        match host.strip_prefix(BELOW) {
            Some(name) => self.below.entry(name.into()).or_default(),
            None if host.is_empty() => &mut self.any,
            None => self.exact.entry(host.into()).or_default(),
        }
    }
}

impl<T> Hosts<T> {
    /// What `look` finds first among those of a request to this host, from the closest on: its own name, the names that it is
    /// below of from the longest on, then any.
    pub(in crate::gateway) fn find<'t, R>(
        &'t self,
        host: Option<&str>,
        mut look: impl FnMut(&'t T) -> Option<R>,
    ) -> Option<R> {
        // Most tables name no host, and then no request is looked at for one.
        let names_some = !self.exact.is_empty() || !self.below.is_empty();
        if let Some(name) = host.filter(|_| names_some).map(name) {
            if let Some(found) = self.exact.get(&*name).and_then(&mut look) {
                return Some(found);
            }
            let mut rest: &str = &name;
            while let Some((_, parent)) = rest.split_once('.') {
                if let Some(found) = self.below.get(parent).and_then(&mut look) {
                    return Some(found);
                }
                rest = parent;
            }
        }
        look(&self.any)
    }

    /// That of a host as a route has it.
    pub(in crate::gateway) fn get(&self, host: &str) -> Option<&T> {
        match host.strip_prefix(BELOW) {
            Some(name) => self.below.get(name),
            None if host.is_empty() => Some(&self.any),
            None => self.exact.get(host),
        }
    }
}

/// The name in a `Host` header or an authority: without port, user and the dot at the end, in lower case.
fn name(host: &str) -> Cow<'_, str> {
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    // An address of IPv6 has colons of its own, in brackets, and no route names one.
    let name = host.split_once(':').map_or(host, |(name, _port)| name);
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Whether requests of `host`, as a route has it, are among those of `of`.
pub(in crate::gateway) fn covers(of: &str, host: &str) -> bool {
    let is_below = |name: &str| host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    of.is_empty() || of == host || of.strip_prefix(BELOW).is_some_and(is_below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(host: Option<&str>) -> Vec<&'static str> {
        let mut hosts = Hosts::<&str>::default();
        for name in ["", "example.com", "*.example.com", "*.a.example.com", "b.a.example.com"] {
            *hosts.entry(name) = name;
        }
        let mut found = Vec::new();
        let none: Option<()> = hosts.find(host, |name| {
            found.push(*name);
            None
        });
        assert_eq!(none, None);
        found
    }

    #[test]
    fn the_closest_host_comes_first() {
        assert_eq!(found(None), [""]);
        assert_eq!(found(Some("other.org")), [""]);
        assert_eq!(found(Some("example.com")), ["example.com", ""]);
        assert_eq!(found(Some("x.example.com")), ["*.example.com", ""]);
        assert_eq!(found(Some("x.a.example.com")), ["*.a.example.com", "*.example.com", ""]);
        assert_eq!(
            found(Some("b.a.example.com")),
            ["b.a.example.com", "*.a.example.com", "*.example.com", ""]
        );
        assert_eq!(found(Some("notexample.com")), [""]);
    }

    #[test]
    fn a_host_is_the_same_with_a_port_in_capitals_and_with_a_dot() {
        for host in
            ["example.com:8080", "EXAMPLE.com", "example.com.", "Example.Com.:80", "user@example.com:1"]
        {
            assert_eq!(found(Some(host))[0], "example.com", "{host}");
        }
        for host in ["[::1]:80", "", ":80", "."] {
            assert_eq!(found(Some(host)), [""], "{host}");
        }
    }

    #[test]
    fn a_wildcard_covers_what_is_below_it() {
        for (of, host, covered) in [
            ("", "example.com", true),
            ("example.com", "example.com", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "*.a.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "notexample.com", false),
            ("example.com", "a.example.com", false),
            ("example.com", "", false),
            ("*.example.com", "", false),
        ] {
            assert_eq!(covers(of, host), covered, "{of} over {host}");
        }
    }
}
