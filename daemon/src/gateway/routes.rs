//! A table compiled for picking: paths to modules by the longest prefix on segment boundaries, and for each route the
//! instances that serve it with their deck.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::deck::Deck;
use super::limits::Gate;
use super::table::{Backend, ModuleTable, Role, Table, normal};

/// A table that answers where a path goes. Decks and gates live on from one to the next, so that shares stay exact
/// and requests in flight stay counted over a publication.
#[derive(Debug)]
pub(super) struct Routes {
    root: Node,
    pub(super) modules: Vec<Arc<Module>>,
}

/// One module of a compiled table.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) table: ModuleTable,
    pub(super) gate: Arc<Gate>,
}

impl Module {
    /// The backends of this role.
    pub(super) fn with_role(&self, role: Role) -> impl Iterator<Item = &Backend> {
        self.table.backends.iter().filter(move |backend| backend.role == role)
    }

    /// The backend whose release has this number or version, written as text.
    pub(super) fn release(&self, wanted: &str) -> Option<&Backend> {
        let by_number = wanted
            .parse()
            .ok()
            .and_then(|number: u64| self.table.backends.iter().find(|backend| backend.release == number));
        by_number.or_else(|| self.table.backends.iter().find(|backend| backend.version == wanted))
    }
}

/// Where the requests of one path go.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) module: Arc<Module>,
    /// Indices into the module's backends, of those that get requests of this path.
    eligible: Vec<usize>,
    deck: Arc<Deck>,
    /// In which order others are asked when the picked one has no link: stable first, whatever its weight, since that
    /// is the way back that needs nobody's leave.
    instead: Vec<usize>,
}

impl Target {
    /// The next pick by weight.
    pub(super) fn draw(&self) -> &Backend {
        &self.module.table.backends[self.eligible[self.deck.draw()]]
    }

    /// All that may get a request of this path when the picked one has no link or was lost, stable first.
    pub(super) fn instead(&self) -> impl Iterator<Item = &Backend> {
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
    pub(super) fn compile(table: Table, previous: Option<&Self>, mut seed: impl FnMut() -> u64) -> Self {
        let mut root = Node::default();
        let mut modules = Vec::with_capacity(table.modules.len());
        for table in table.modules {
            let before =
                previous.and_then(|routes| routes.modules.iter().find(|m| m.table.module == table.module));
            let gate = before.map_or_else(|| Arc::new(Gate::default()), |module| Arc::clone(&module.gate));
            gate.set_limits(table.max_in_flight, table.max_waiting);
            let module = Arc::new(Module { table, gate });
            let mut decks: BTreeMap<Vec<usize>, Arc<Deck>> = BTreeMap::new();
            let prefixes: BTreeSet<&str> =
                module.table.backends.iter().flat_map(|b| &b.routes).map(|route| normal(route)).collect();
            for prefix in prefixes {
                let eligible = eligible(&module.table.backends, prefix);
                if eligible.is_empty() {
                    continue;
                }
                let node = root.insert(prefix);
                if node.target.is_some() {
                    continue;
                }
                let deck = decks.entry(eligible.clone()).or_insert_with(|| {
                    let same = previous.and_then(|routes| routes.deck_of(prefix, &module, &eligible));
                    same.unwrap_or_else(|| new_deck(&module, &eligible, &mut seed))
                });
                let instead = instead(&module.table.backends, prefix, &eligible);
                let (deck, module) = (Arc::clone(deck), Arc::clone(&module));
                node.target = Some(Target { module, eligible, deck, instead });
            }
            modules.push(module);
        }
        Self { root, modules }
    }

    /// Where requests of this path go: the longest prefix that ends where a segment of the path ends.
    pub(super) fn find(&self, path: &str) -> Option<&Target> {
        let mut node = &self.root;
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

    /// The deck that this prefix had, if the same instances have the same weights in it.
    fn deck_of(&self, prefix: &str, module: &Arc<Module>, eligible: &[usize]) -> Option<Arc<Deck>> {
        let before = self.find(if prefix.is_empty() { "/" } else { prefix })?;
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
    fn insert(&mut self, prefix: &str) -> &mut Self {
        let Some(segments) = prefix.strip_prefix('/') else { return self };
        segments.split('/').fold(self, |node, segment| node.children.entry(segment.into()).or_default())
    }
}

/// Those that get requests of the paths under `prefix`: all with a weight that have a route to it, which need not be
/// this very prefix, so that a release with an additional route inside another one gets no more than its share. If
/// none has a weight, stable: it serves until it is replaced. A standby serves nobody.
fn eligible(backends: &[Backend], prefix: &str) -> Vec<usize> {
    let of = |wanted: &dyn Fn(&Backend) -> bool| -> Vec<usize> {
        let serving = |(_, backend): &(usize, &Backend)| wanted(backend) && serves(backend, prefix);
        backends.iter().enumerate().filter(serving).map(|(index, _)| index).collect()
    };
    let weighted = of(&|backend| backend.weight > 0);
    if weighted.is_empty() { of(&|backend| backend.role == Role::Stable) } else { weighted }
}

fn instead(backends: &[Backend], prefix: &str, eligible: &[usize]) -> Vec<usize> {
    let is_stable = |&index: &usize| backends[index].role == Role::Stable;
    let stable = (0..backends.len()).filter(|index| is_stable(index) && serves(&backends[*index], prefix));
    stable.chain(eligible.iter().copied().filter(|index| !is_stable(index))).collect()
}

fn serves(backend: &Backend, path: &str) -> bool {
    backend.routes.iter().any(|route| {
        path.strip_prefix(normal(route)).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn new_deck(module: &Module, eligible: &[usize], seed: &mut impl FnMut() -> u64) -> Arc<Deck> {
    let weights: Vec<u16> = eligible.iter().map(|&index| module.table.backends[index].weight).collect();
    let seed = seed();
    let deck = Deck::new(&weights, seed).or_else(|| Deck::new(&vec![1; weights.len()], seed));
    Arc::new(deck.unwrap_or_else(|| unreachable!("a target has at least one backend")))
}
