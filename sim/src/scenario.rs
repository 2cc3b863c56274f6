//! Everything that is settled before a rollout begins: the fleet, the releases, the users, and what will go wrong when.

use hot_rollout::{Labels, Millis, Module, Node, Policy, PolicySpec};

use crate::traffic::Traffic;
use crate::truth::Truth;

/// One simulated world, as data. What is left to chance in it (how many requests come in a second, how long a message
/// takes) is drawn from the seed that [`crate::run`] is given besides.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The machines. The place in this list is what other members name a node by.
    pub machines: Vec<Machine>,
    /// The modules that move together.
    pub modules: Vec<Releases>,
    /// The zone that the candidates are for; `None`: every node.
    pub on: Option<String>,
    /// The rules.
    pub policy: Policy,
    /// What users do; times count from the begin.
    pub traffic: Traffic,
    /// Something that all releases need fails for a while: so long after the begin, for so long, and this part of all
    /// requests with it.
    pub shared_outage: Option<(Millis, Millis, f64)>,
    /// How often a node counts, decides and speaks.
    pub tick: Millis,
    /// How messages travel.
    pub net: Net,
    /// What people do, and when. The first push is at 0 and not among them.
    pub orders: Vec<(Millis, Order)>,
    /// What goes wrong, and when.
    pub faults: Vec<(Millis, Fault)>,
    /// The driver dies after so many effects, and is there again so much later: what it does to the cluster and each
    /// snapshot that it writes are effects.
    pub crashes: Vec<(u64, Millis)>,
    /// A fault of the driver's own, for the test that the simulation would find it.
    pub planted: Option<Planted>,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: Node,
    /// Its label `zone`.
    pub zone: Option<String>,
    /// It is there from the begin; if not, it joins by [`Fault::Joins`].
    pub member: bool,
}

/// A module with what its releases do.
#[derive(Clone, Debug, PartialEq)]
pub struct Releases {
    /// Its name.
    pub module: Module,
    /// Release 1 is stable at the begin. If not, the first push is the module's first release.
    pub has_stable: bool,
    /// Release 1, 2 and so on; each push takes the next.
    pub truths: Vec<Truth>,
}

/// How messages travel between nodes and the one that leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    /// The longest that one takes; the shortest is 1 ms. Since each takes its own time, they overtake each other.
    pub delay: Millis,
    /// So many of a hundred reports and renewals are lost. Reports are said again with the next tick. What a node is told to
    /// run is not lost, but comes when the node can be reached.
    pub lost: u64,
    /// So many of a hundred messages come twice.
    pub twice: u64,
    /// After so many ticks a node says again how its instances are and what it has applied, in case that was lost. What it
    /// counted it says with each tick.
    pub again: u64,
    /// From a node's last sign until it counts as gone.
    pub lease: Millis,
}

/// What a person does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The next release is pushed, which supersedes what runs.
    Push,
    /// Back to the preceding stable; what runs is aborted.
    Rollback,
    /// Ends what runs.
    Abort,
    /// Holds it in its step.
    Pause,
    /// Ends the pause.
    Resume,
    /// Goes on without waiting, with `full` all the way.
    Promote {
        /// All the way.
        full: bool,
    },
    /// On the node alone its candidates are taken back.
    ByHand(usize),
    /// The node goes back alone, and takes nothing that goes another way until it is lifted.
    Alone(usize),
    /// Ends that.
    Lift(usize),
    /// The node takes part in no rollout.
    Cordon(usize),
    /// Ends that.
    Uncordon(usize),
}

/// What goes wrong, or is healed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The node is cut off: it serves on, hears nothing, and is not heard.
    Cut(usize),
    /// It can be reached again.
    Heal(usize),
    /// The machine goes down.
    Down(usize),
    /// It is there again; its instances start anew.
    Boots(usize),
    /// `hotd` restarts there; instances go on.
    Restarts(usize),
    /// It joins the fleet.
    Joins(usize),
    /// It leaves the fleet for good.
    Leaves(usize),
    /// Its zone is another one from now on.
    Relabels(usize, String),
    /// Its instances end with no fault of theirs, and are started again.
    LosesInstances(usize),
    /// Nothing can be written to the cluster, and nobody hears anything of it.
    StoreDown,
    /// The cluster is there again.
    StoreUp,
    /// The leader's clock jumps so far ahead.
    ClockAhead(Millis),
    /// The leader's clock is set back by so much.
    ClockBack(Millis),
}

/// A fault of the driver, put there on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// On a step away from stable it acts first and writes the snapshot after that.
    PersistsAfterActing,
}

impl Default for Scenario {
    /// Three nodes, one module, two good releases, ten requests per second, and nothing goes wrong.
    fn default() -> Self {
        Self {
            machines: (0..3).map(Machine::numbered).collect(),
            modules: vec![Releases {
                module: "greeter".into(),
                has_stable: true,
                truths: vec![Truth::default(), Truth::default()],
            }],
            on: None,
            policy: Policy::default(),
            traffic: Traffic::Poisson(10_000),
            shared_outage: None,
            tick: Millis::seconds(1),
            net: Net { delay: Millis(20), lost: 0, twice: 0, again: 10, lease: Millis::seconds(10) },
            orders: Vec::new(),
            faults: Vec::new(),
            crashes: Vec::new(),
            planted: None,
        }
    }
}

impl Machine {
    /// The machine with this place: `n1` is the first.
    #[must_use]
    pub fn numbered(place: usize) -> Self {
        Self { name: Node(format!("n{}", place + 1)), zone: None, member: true }
    }
}

impl Scenario {
    /// The labels that a node must have.
    #[must_use]
    pub fn labels_needed(&self) -> Labels {
        labels(self.on.as_deref())
    }

    /// The policy's values.
    #[must_use]
    pub fn rules(&self) -> &PolicySpec {
        self.policy.spec()
    }
}

/// The labels of a node in a zone, or in none.
#[must_use]
pub fn labels(zone: Option<&str>) -> Labels {
    zone.map(|zone| ("zone".to_owned(), zone.to_owned())).into_iter().collect()
}
