//! The verdicts of the table, and the words by which a sentence is known to give one.

/// A verdict: its code in docs/rollouts.md, and what only its sentence has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) code: &'static str,
    words: &'static str,
}

impl Verdict {
    const fn new(code: &'static str, words: &'static str) -> Self {
        Self { code, words }
    }

    /// Whether a rollout's reason gives this verdict.
    pub(crate) fn is_said_by(self, reason: &str) -> bool {
        reason.contains(self.words)
    }
}

pub(crate) const LOAD_FAILED: Verdict = Verdict::new("load_failed", ": failed to load");
pub(crate) const START_TIMEOUT: Verdict = Verdict::new("start_timeout", ": was not ready within");
pub(crate) const CRASHED: Verdict = Verdict::new("crashed", ": crashed with SIG");
pub(crate) const EXITED: Verdict = Verdict::new("exited", ": exited with code");
pub(crate) const HUNG: Verdict = Verdict::new("hung", " answered, the oldest waits for");
pub(crate) const UNANSWERED: Verdict = Verdict::new("hung", " without an answer for more than");
pub(crate) const FAILING_HEALTH: Verdict = Verdict::new("failing_health", ": failed its health check");
pub(crate) const ERRORS: Verdict = Verdict::new("errors", " requests, limit 50% on any node");
pub(crate) const ERROR_RATE: Verdict = Verdict::new("error_rate", " above stable");
pub(crate) const SLOW: Verdict = Verdict::new("slow", ": p99 ");
pub(crate) const OVER_MEMORY: Verdict = Verdict::new("over_memory", " MiB of memory, limit ");
pub(crate) const OVER_PROCESSES: Verdict = Verdict::new("over_processes", " processes and threads, limit ");
pub(crate) const DENIED: Verdict = Verdict::new("denied", ": made the system call ");
pub(crate) const FORGED: Verdict = Verdict::new("forged", ": forged a message of its host");
