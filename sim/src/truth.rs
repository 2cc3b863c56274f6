//! What a release really does, which nobody in the simulation knows but the nodes that run it.

use hot_rollout::{Cause, Foreign, Millis, Share};

/// How long requests take, as (thousandths of the median, part of all requests). The tail is that of a web service: the
/// 99th percentile is some ten times the median.
pub const SHAPE: [(u64, f64); 10] = [
    (400, 0.10),
    (700, 0.20),
    (1000, 0.25),
    (1300, 0.18),
    (1800, 0.12),
    (2600, 0.08),
    (4000, 0.04),
    (6500, 0.018),
    (10_000, 0.008),
    (20_000, 0.004),
];

/// What one release of one module does on every node.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// The part of its requests that fail, 0.0 to 1.0.
    pub errors: f64,
    /// On the node with this place in the fleet another part of its requests fails.
    pub sick_node: Option<(usize, f64)>,
    /// Where it has all the traffic of a node another part of its requests fails.
    pub errors_at_whole: Option<f64>,
    /// The median of how long requests take, in microseconds; the rest follows from [`SHAPE`].
    pub median: u64,
    /// For so long after a start requests take so many times as long.
    pub cold: Option<(Millis, u64)>,
    /// Requests that do not end at once.
    pub holds: Option<Hold>,
    /// How it starts.
    pub start: Start,
    /// The node with this place refuses it before any code runs; `None` in the place: every node.
    pub refused: Option<Option<usize>>,
    /// What ends its instances.
    pub end: Option<End>,
}

/// Requests that stay open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// From so long after the start of an instance on.
    pub from: Millis,
    /// How long each is open.
    pub open: Millis,
    /// They fail in the end, as one does that runs into its deadline.
    pub fails: bool,
}

/// How an instance starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It is ready after so long.
    Ready(Millis),
    /// It says after so long that it can't.
    Fails(Millis),
    /// It fails so on the node with this place, and is ready on others.
    FailsOn(usize, Millis),
    /// It is never ready.
    Never,
}

/// What ends an instance by its own fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// When.
    pub when: When,
    /// How.
    pub how: How,
    /// Only on the node with this place.
    pub only: Option<usize>,
}

/// When an instance ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// With its so many-th request.
    Requests(u64),
    /// So long after it was ready.
    After(Millis),
}

/// How an instance ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A signal.
    Crash,
    /// By itself.
    Exit,
    /// It answers no more.
    Hang,
    /// Its health check fails.
    Health,
    /// Too much memory.
    Memory,
    /// Too many processes.
    Processes,
    /// A system call that is denied.
    Denied,
    /// A forged frame.
    Forged,
    /// The node refuses to load it again.
    Refused,
    /// In a way that only a node with a newer version has a word for.
    Newer,
}

/// All of [`How`].
pub const HOWS: [How; 10] = [
    How::Crash,
    How::Exit,
    How::Hang,
    How::Health,
    How::Memory,
    How::Processes,
    How::Denied,
    How::Forged,
    How::Refused,
    How::Newer,
];

impl Default for Truth {
    /// A good release: 0.1% of its requests fail, the median is 5 ms, and it is ready after half a second.
    fn default() -> Self {
        Self {
            errors: 0.001,
            sick_node: None,
            errors_at_whole: None,
            median: 5000,
            cold: None,
            holds: None,
            start: Start::Ready(Millis(500)),
            refused: None,
            end: None,
        }
    }
}

impl Truth {
    /// Users are worse off with it than with a good one.
    #[must_use]
    pub fn is_bad(&self, beside: &Self) -> bool {
        let worse = |errors: f64| errors > beside.errors;
        worse(self.errors)
            || self.sick_node.is_some_and(|(_, errors)| worse(errors))
            || self.errors_at_whole.is_some_and(worse)
            || self.median > beside.median
            || self.end.is_some()
            || self.holds.is_some_and(|hold| hold.fails)
            || !matches!(self.start, Start::Ready(_))
            || self.refused.is_some()
    }

    /// The part of requests that fail on the node with this place.
    #[must_use]
    pub fn error_rate(&self, node: usize, whole: bool) -> f64 {
        let sick = self.sick_node.filter(|(place, _)| *place == node).map(|(_, errors)| errors);
        sick.or_else(|| self.errors_at_whole.filter(|_| whole)).unwrap_or(self.errors)
    }

    /// Whether the node with this place refuses the artifact.
    #[must_use]
    pub fn is_refused(&self, node: usize) -> bool {
        self.refused.is_some_and(|place| place.is_none_or(|place| place == node))
    }

    /// How it starts on the node with this place: after how long it is ready, or has failed; never.
    #[must_use]
    pub fn starts(&self, node: usize) -> Option<Result<Millis, Millis>> {
        match self.start {
            Start::Ready(after) => Some(Ok(after)),
            Start::Fails(after) => Some(Err(after)),
            Start::FailsOn(place, after) if place == node => Some(Err(after)),
            Start::FailsOn(_, after) => Some(Ok(after)),
            Start::Never => None,
        }
    }
}

impl How {
    /// In the words of rollouts.
    #[must_use]
    pub fn cause(self) -> Cause {
        let text = String::new();
        let limit = Millis::seconds(3);
        match self {
            Self::Crash => Cause::Crashed { signal: 11, text },
            Self::Exit => Cause::Exited { code: 1, text },
            Self::Hang => Cause::Hung { silent: limit, limit },
            Self::Health => Cause::FailingHealth { failures: 3, limit: 3, text },
            Self::Memory => Cause::OverMemory { used: 300 << 20, limit: 256 << 20 },
            Self::Processes => Cause::OverProcesses { used: 64, limit: 64 },
            Self::Denied => Cause::Denied { call: "ptrace".to_owned(), times: 1 },
            Self::Forged => Cause::Forged { text },
            Self::Refused => Cause::Refused { text },
            Self::Newer => Foreign::try_from(serde_json::Value::from("possessed")).map_or_else(
                |_not_a_word| Cause::Errors { errors: 0, requests: 0, limit: Share::ZERO },
                Cause::Foreign,
            ),
        }
    }
}
