//! What the gateway is told to serve: modules, their bounds, and the instances with their weights and routes.
//!
//! A table is replaced as a whole by [`Gateway::publish`](crate::gateway::Gateway::publish); what it says is checked here and
//! compiled in `routes`.

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;

use crate::supervisor::InstanceId;

/// Paths that the gateway answers itself; no module can have them.
pub const RESERVED_PREFIX: &str = "/-";

/// All that the gateway serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// In any order; each name once.
    pub modules: Vec<ModuleTable>,
}

/// One module's instances and bounds on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleTable {
    /// The module's name.
    pub module: String,
    /// From the request's head to the last byte of the response, waits for the client left out; past it the request ends
    /// with 504.
    pub deadline: Duration,
    /// Requests of this module that hosts may have in flight at once, over all threads.
    pub max_in_flight: u32,
    /// Requests of this module that may wait beyond that, or for a backend; past it they end with 503.
    pub max_waiting: u32,
    /// Streams of this module at once, over all threads; past it they end with 503.
    pub max_streams: u32,
    /// The instances that may be picked, and standbys.
    pub backends: Vec<Backend>,
}

/// One instance, as the gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Which instance: its links come by [`Gateway::attach`](crate::gateway::Gateway::attach).
    pub instance: InstanceId,
    /// Its release's number within the module.
    pub release: u64,
    /// Its release's version.
    pub version: String,
    /// What it is to the rollout.
    pub role: Role,
    /// Its part of this module's requests on this node, in basis points; zero gets none.
    pub weight: u16,
    /// What its version serves: path prefixes, those of one host alone with its name in front.
    pub routes: Vec<String>,
}

/// What an instance is to its module's rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The release that the fleet serves: retries go here.
    Stable,
    /// The release that a rollout tries.
    Candidate,
    /// The former stable, kept for the way back.
    Standby,
}

/// Two modules claim one route, or one claims a path of the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Conflict {
    /// Requests could go to either.
    #[error(
        "route {prefix} is claimed by the modules {first} and {second}; each prefix belongs to one module"
    )]
    Claimed {
        /// The prefix, without a slash at its end.
        prefix: String,
        /// The module that had it first in the table's order.
        first: String,
        /// The other module.
        second: String,
    },
    /// The gateway answers these paths itself.
    #[error("route {prefix} of module {module} is under {RESERVED_PREFIX}, which the gateway answers itself")]
    Reserved {
        /// The prefix as the module has it.
        prefix: String,
        /// The module.
        module: String,
    },
}

impl Table {
    /// All conflicts among the routes of this table. A push whose routes would make one is refused; should a table
    /// with one be published all the same, the module that comes first has the prefix.
    #[must_use]
    pub fn conflicts(&self) -> Vec<Conflict> {
        let routes = self.modules.iter().flat_map(|module| {
            let prefixes = module.backends.iter().flat_map(|backend| &backend.routes);
            prefixes.map(|prefix| (module.module.as_str(), prefix.as_str()))
        });
        conflicts(routes)
    }
}

/// All conflicts among `(module, prefix)` pairs, in the order in which they come. One module may say a prefix often:
/// each of its releases does.
#[must_use]
pub fn conflicts<'a>(routes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Conflict> {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let mut found = Vec::new();
    for (module, route) in routes {
        let prefix = normal(route);
        let (_, path) = parts(prefix);
        if path == RESERVED_PREFIX || path.starts_with("/-/") {
            found.push(Conflict::Reserved { prefix: route.to_owned(), module: module.to_owned() });
            continue;
        }
        let owner = *owners.entry(prefix).or_insert(module);
        let conflict = || Conflict::Claimed {
            prefix: if path.is_empty() { format!("{prefix}/") } else { prefix.to_owned() },
            first: owner.to_owned(),
            second: module.to_owned(),
        };
        if owner != module {
            let conflict = conflict();
            if !found.contains(&conflict) {
                found.push(conflict);
            }
        }
    }
    found
}

/// A prefix without the slashes at its end: `/greet/` and `/greet` are one route, and `/` is the empty prefix.
pub(in crate::gateway) fn normal(route: &str) -> &str {
    route.trim_end_matches('/')
}

/// The host of a route, which is empty where it is for any, and its path prefix.
pub(in crate::gateway) fn parts(route: &str) -> (&str, &str) {
    route.split_at(route.find('/').unwrap_or(route.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_modules_with_one_prefix_conflict_however_it_is_written() {
        let found = conflicts([("a", "/greet"), ("b", "/greet/"), ("b", "/other"), ("a", "/greet")]);
        let [Conflict::Claimed { prefix, first, second }] = &found[..] else { panic!("{found:?}") };
        assert_eq!((prefix.as_str(), first.as_str(), second.as_str()), ("/greet", "a", "b"));
        assert_eq!(
            found[0].to_string(),
            "route /greet is claimed by the modules a and b; each prefix belongs to one module"
        );
        let roots = conflicts([("a", "/"), ("b", "/")]);
        assert!(matches!(&roots[..], [Conflict::Claimed { prefix, .. }] if prefix == "/"));
    }

    #[test]
    fn nested_and_similar_prefixes_do_not_conflict() {
        assert_eq!(conflicts([("a", "/"), ("b", "/greet"), ("c", "/greet/x"), ("d", "/greeting")]), []);
        assert_eq!(conflicts([("a", "/greet"), ("a", "/greet"), ("a", "/greet/")]), []);
    }

    #[test]
    fn a_prefix_of_one_host_is_another_than_that_of_all() {
        assert_eq!(conflicts([("a", "/x"), ("b", "example.com/x"), ("c", "*.example.com/x")]), []);
        let found = conflicts([("a", "example.com/"), ("b", "example.com/"), ("b", "example.com/-/x")]);
        let [Conflict::Claimed { prefix, .. }, Conflict::Reserved { .. }] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(prefix, "example.com/");
    }

    #[test]
    fn a_conflict_is_said_once_for_all_releases() {
        assert_eq!(conflicts([("a", "/x"), ("b", "/x"), ("b", "/x")]).len(), 1);
    }

    #[test]
    fn the_gateways_own_paths_are_refused() {
        let found = conflicts([("a", "/-/ready"), ("a", "/-"), ("b", "/-x")]);
        assert_eq!(found.len(), 2);
        assert!(
            found
                .iter()
                .all(|conflict| matches!(conflict, Conflict::Reserved { module, .. } if module == "a"))
        );
    }
}
