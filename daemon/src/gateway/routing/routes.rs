//! A table compiled for picking: hosts and paths to modules by the longest prefix on segment boundaries, and for each route the
//! instances that serve it with their deck.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::deck::Deck;
use super::hosts::{Hosts, covers};
use super::limits::Gate;
use super::table::{Backend, ModuleTable, Role, Table, normal, parts};

/// A table that answers where a path goes. Decks and gates live on from one to the next, so that shares stay exact
/// and requests in flight stay counted over a publication.
#[derive(Debug)]
pub(in crate::gateway) struct Routes {
    paths: Hosts<Node>,
    pub(in crate::gateway) modules: Vec<Arc<Module>>,
}

/// One module of a compiled table.
#[derive(Debug)]
pub(in crate::gateway) struct Module {
    pub(in crate::gateway) table: ModuleTable,
    pub(in crate::gateway) gate: Arc<Gate>,
}

impl Module {
    /// The backends of this role.
    pub(in crate::gateway) fn with_role(&self, role: Role) -> impl Iterator<Item = &Backend> {
        self.table.backends.iter().filter(move |backend| backend.role == role)
    }

    /// The backend whose release has this number or version, written as text.
    pub(in crate::gateway) fn release(&self, wanted: &str) -> Option<&Backend> {
        let by_number = wanted
            .parse()
            .ok()
            .and_then(|number: u64| self.table.backends.iter().find(|backend| backend.release == number));
        by_number.or_else(|| self.table.backends.iter().find(|backend| backend.version == wanted))
    }
}

/// Where the requests of one path go.
#[derive(Debug)]
pub(in crate::gateway) struct Target {
    pub(in crate::gateway) module: Arc<Module>,
    /// Indices into the module's backends, of those that get requests of this path.
    eligible: Vec<usize>,
    deck: Arc<Deck>,
    /// Who is asked when the picked one has no link or was lost: stable, whatever its weight, since that is the way back
    /// that needs nobody's leave; where none has this path, all that are eligible.
    instead: Vec<usize>,
}

impl Target {
    /// The next pick by weight.
    pub(in crate::gateway) fn draw(&self) -> &Backend {
        &self.module.table.backends[self.eligible[self.deck.draw()]]
    }

    /// Who may get a request of this path when the picked one has no link or was lost.
    pub(in crate::gateway) fn instead(&self) -> impl Iterator<Item = &Backend> {
        self.instead.iter().map(|&index| &self.module.table.backends[index])
    }

    fn weights(&self) -> impl Iterator<Item = (u64, u16)> {
        self.eligible.iter().map(|&index| {
            let backend = &self.module.table.backends[index];
            (backend.instance.0, backend.weight)
        })
    }
}

/// A place in the tree of path segments.
#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<Box<str>, Self>,
    target: Option<Target>,
}

impl Routes {
    /// Compiles a table. What it shares with `previous` goes on; `seed` chooses the shuffles of new decks.
    pub(in crate::gateway) fn compile(
        table: Table,
        previous: Option<&Self>,
        mut seed: impl FnMut() -> u64,
    ) -> Self {
        let mut paths = Hosts::<Node>::default();
        let mut modules = Vec::with_capacity(table.modules.len());
        for table in table.modules {
            let before =
                previous.and_then(|routes| routes.modules.iter().find(|m| m.table.module == table.module));
            let gate = before.map_or_else(|| Arc::new(Gate::default()), |module| Arc::clone(&module.gate));
            gate.set_limits(table.max_in_flight, table.max_waiting, table.max_streams);
            let module = Arc::new(Module { table, gate });
            let mut decks: BTreeMap<Vec<usize>, Arc<Deck>> = BTreeMap::new();
            let prefixes: BTreeSet<&str> =
                module.table.backends.iter().flat_map(|b| &b.routes).map(|route| normal(route)).collect();
            for route in prefixes {
                let (host, prefix) = parts(route);
                let eligible = eligible(&module.table.backends, route);
                if eligible.is_empty() {
                    continue;
                }
                let node = paths.entry(host).insert(prefix);
                if node.target.is_some() {
                    continue;
                }
                let deck = decks.entry(eligible.clone()).or_insert_with(|| {
                    let same = previous.and_then(|routes| routes.deck_of(route, &module, &eligible));
                    same.unwrap_or_else(|| new_deck(&module, &eligible, &mut seed))
                });
                let instead = instead(&module.table.backends, route, &eligible);
                let (deck, module) = (Arc::clone(deck), Arc::clone(&module));
                node.target = Some(Target { module, eligible, deck, instead });
            }
            modules.push(module);
        }
        Self { paths, modules }
    }

    /// Where requests of this host and path go: the closest host that has a prefix of the path.
    pub(in crate::gateway) fn find<'t>(&'t self, host: Option<&str>, path: &str) -> Option<&'t Target> {
        self.paths.find(host, |paths| paths.find(path))
    }

    /// The deck that this route had, if the same instances have the same weights in it.
    fn deck_of(&self, route: &str, module: &Arc<Module>, eligible: &[usize]) -> Option<Arc<Deck>> {
        let (host, prefix) = parts(route);
        let before = self.paths.get(host)?.find(if prefix.is_empty() { "/" } else { prefix })?;
        if before.module.table.module != module.table.module {
            return None;
        }
        let now = eligible.iter().map(|&index| {
            let backend = &module.table.backends[index];
            (backend.instance.0, backend.weight)
        });
        before.weights().eq(now).then(|| Arc::clone(&before.deck))
    }
}

impl Node {
    /// The longest prefix that ends where a segment of the path ends.
    fn find(&self, path: &str) -> Option<&Target> {
        let mut node = self;
        let mut found = node.target.as_ref();
        let mut rest = path.strip_prefix('/')?;
        // Each step goes one node down, so a long path costs no more than the longest route.
        while !node.children.is_empty() {
            let (segment, after) = rest.split_once('/').unwrap_or((rest, ""));
            let Some(child) = node.children.get(segment) else { break };
            node = child;
            found = node.target.as_ref().or(found);
            rest = after;
        }
        found
    }

    fn insert(&mut self, prefix: &str) -> &mut Self {
        let Some(segments) = prefix.strip_prefix('/') else { return self };
        segments.split('/').fold(self, |node, segment| node.children.entry(segment.into()).or_default())
    }
}

/// Those that get requests of the paths under `route`: all with a weight that have a route to it, which need not be
/// this very prefix, so that a release with an additional route inside another one gets no more than its share. If
/// none has a weight, stable: it serves until it is replaced. A standby serves nobody.
fn eligible(backends: &[Backend], route: &str) -> Vec<usize> {
    let of = |wanted: &dyn Fn(&Backend) -> bool| -> Vec<usize> {
        let serving = |(_, backend): &(usize, &Backend)| wanted(backend) && serves(backend, route);
        backends.iter().enumerate().filter(serving).map(|(index, _)| index).collect()
    };
    let weighted = of(&|backend| backend.weight > 0);
    if weighted.is_empty() { of(&|backend| backend.role == Role::Stable) } else { weighted }
}

fn instead(backends: &[Backend], route: &str, eligible: &[usize]) -> Vec<usize> {
    let serves_as_stable = |backend: &Backend| backend.role == Role::Stable && serves(backend, route);
    let stable: Vec<usize> =
        (0..backends.len()).filter(|&index| serves_as_stable(&backends[index])).collect();
    if stable.is_empty() { eligible.to_vec() } else { stable }
}

/// Whether a backend has a route for all requests of this one.
fn serves(backend: &Backend, route: &str) -> bool {
    let (host, path) = parts(route);
    backend.routes.iter().any(|own| {
        let (of, prefix) = parts(normal(own));
        let is_below = |rest: &str| rest.is_empty() || rest.starts_with('/');
        covers(of, host) && path.strip_prefix(prefix).is_some_and(is_below)
    })
}

fn new_deck(module: &Module, eligible: &[usize], seed: &mut impl FnMut() -> u64) -> Arc<Deck> {
    let weights: Vec<u16> = eligible.iter().map(|&index| module.table.backends[index].weight).collect();
    let seed = seed();
    let deck = Deck::new(&weights, seed).or_else(|| Deck::new(&vec![1; weights.len()], seed));
    Arc::new(deck.unwrap_or_else(|| unreachable!("a target has at least one backend")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::supervisor::InstanceId;

    fn backend(instance: u64, weight: u16, routes: &[String]) -> Backend {
        Backend {
            instance: InstanceId(instance),
            release: instance,
            version: format!("{instance}.0.0"),
            role: Role::Stable,
            weight,
            routes: routes.to_vec(),
        }
    }

    fn module(name: &str, backends: Vec<Backend>) -> ModuleTable {
        ModuleTable {
            module: name.to_owned(),
            deadline: Duration::from_secs(1),
            max_in_flight: 1,
            max_waiting: 1,
            max_streams: 1,
            backends,
        }
    }

    /// What the documentation says, without a tree: the longest prefix that ends where a segment ends.
    fn by_the_book(modules: &[(String, Vec<String>)], path: &str) -> Option<String> {
        let all =
            modules.iter().flat_map(|(name, routes)| routes.iter().map(move |route| (name, normal(route))));
        let matching = all.filter(|(_, prefix)| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        let longest = matching.max_by_key(|(_, prefix)| prefix.len());
        longest.map(|(name, _)| name.clone())
    }

    fn path() -> impl Strategy<Value = String> {
        prop::collection::vec("[ab]{0,2}", 0..4).prop_map(|segments| format!("/{}", segments.join("/")))
    }

    proptest! {
        #[test]
        fn a_path_goes_where_the_longest_prefix_says(
            routes in prop::collection::vec(prop::collection::vec(path(), 1..4), 1..4),
            paths in prop::collection::vec(path(), 20),
        ) {
            // Each prefix belongs to one module, as is checked at the push.
            let mut owned = BTreeSet::new();
            let modules: Vec<(String, Vec<String>)> = routes
                .into_iter()
                .enumerate()
                .map(|(index, mut routes)| {
                    routes.retain(|route| owned.insert(normal(route).to_owned()));
                    (format!("m{index}"), routes)
                })
                .collect();
            let tables = modules.iter().zip(1..).map(|((name, routes), instance)| {
                module(name, vec![backend(instance, 10_000, routes)])
            });
            let routes = Routes::compile(Table { modules: tables.collect() }, None, || 1);
            for path in paths {
                let found = routes.find(None, &path).map(|target| target.module.table.module.clone());
                prop_assert_eq!(found, by_the_book(&modules, &path), "{}", path);
            }
        }
    }

    #[test]
    fn a_host_of_its_own_comes_before_any() {
        let routes = |routes: &[&str]| routes.iter().map(|route| (*route).to_owned()).collect::<Vec<_>>();
        let table = Table {
            modules: vec![
                module("any", vec![backend(1, 10_000, &routes(&["/", "/a/b"]))]),
                module("one", vec![backend(2, 10_000, &routes(&["example.com/a"]))]),
                module("below", vec![backend(3, 10_000, &routes(&["*.example.com/"]))]),
            ],
        };
        let routes = Routes::compile(table, None, || 1);
        for (host, path, expected) in [
            (None, "/a", "any"),
            (Some("other.org"), "/a", "any"),
            (Some("example.com"), "/a/b", "one"),
            // What its own host has no route for goes where that of any host goes.
            (Some("example.com"), "/x", "any"),
            (Some("x.example.com:8080"), "/a/b", "below"),
        ] {
            let found = routes.find(host, path).map(|target| target.module.table.module.as_str());
            assert_eq!(found, Some(expected), "{host:?} {path}");
        }
    }

    #[test]
    fn a_path_that_is_no_path_goes_nowhere() {
        let table = Table { modules: vec![module("m", vec![backend(1, 10_000, &["/".to_owned()])])] };
        let routes = Routes::compile(table, None, || 1);
        for path in ["", "*", "x"] {
            assert!(routes.find(None, path).is_none(), "{path:?}");
        }
    }

    #[test]
    fn decks_and_gates_live_on_as_long_as_what_they_count_is_the_same() {
        let route = ["/x".to_owned()];
        let of = |weights: [u16; 2]| Table {
            modules: vec![module("m", vec![backend(1, weights[0], &route), backend(2, weights[1], &route)])],
        };
        let first = Routes::compile(of([9_000, 1_000]), None, || 1);
        let same = Routes::compile(of([9_000, 1_000]), Some(&first), || 2);
        let other = Routes::compile(of([5_000, 5_000]), Some(&same), || 3);
        let target = |routes: &Routes| {
            let target = routes.find(None, "/x").expect("there is a route");
            (Arc::as_ptr(&target.deck), Arc::as_ptr(&target.module.gate))
        };
        assert_eq!(target(&first), target(&same));
        assert_ne!(target(&same).0, target(&other).0);
        assert_eq!(target(&same).1, target(&other).1);
    }
}
