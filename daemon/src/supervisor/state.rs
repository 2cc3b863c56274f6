//! Where an instance stands, and how one ends, in types and in words.

use std::fmt;
use std::time::Duration;

use hot_wire::host::Stage;
use hot_wire::isolation::Breach;
use hot_wire::spawn::{Cause, Ending};

/// Where an instance stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Its process runs; the module is not ready.
    Starting,
    /// It serves.
    Ready,
    /// It was told to end.
    Stopping,
    /// It failed, which nobody told it to: it ends by itself or is killed. What that comes to is known.
    Failing(End),
    /// Its process is gone, with all that it started. Final.
    Ended(End),
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The module did not come up: refused, failed or died before it was ready.
    LoadFailed {
        /// Where, if the host lived to tell.
        stage: Option<Stage>,
        /// Why.
        text: String,
    },
    /// It was not ready in time and was killed.
    StartTimeout {
        /// The start deadline.
        limit: Duration,
    },
    /// A signal that nobody here sent killed it after it was ready.
    Crashed {
        /// The signal's number.
        signal: i32,
        /// The last line that it printed; may be empty.
        text: String,
    },
    /// It exited by itself after it was ready.
    Exited {
        /// The exit code.
        code: i32,
        /// The last line that it printed; may be empty.
        text: String,
    },
    /// It gave no answer to health questions and was killed.
    Hung {
        /// Time since its last answer.
        silent: Duration,
        /// The limit on that.
        limit: Duration,
    },
    /// Its module said that it is not healthy, and it was killed.
    FailingHealth {
        /// Bad answers in a row.
        failures: u32,
        /// The limit on them.
        limit: u32,
        /// What the module said last.
        text: String,
    },
    /// It took more memory than it may, and was killed for that, before it was ready or after.
    OverMemory {
        /// Bytes that were seen.
        used: u64,
        /// Bytes that it may have.
        limit: u64,
    },
    /// It had more processes and threads than it may, and was killed for that, before it was ready or after.
    OverTasks {
        /// What was seen.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// It sent what no host sends, and was killed.
    Forged {
        /// What came, and what was expected.
        text: String,
    },
    /// It is not held as it must be, and nothing of its module ran. Says nothing about the module.
    Refused {
        /// What is missing, and what to do.
        text: String,
    },
    /// It was told to end.
    Stopped,
    /// hot-spawn is gone: nobody here can watch it any more, and it was let go. Says nothing
    /// about the module.
    Lost {
        /// What happened.
        text: String,
    },
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoadFailed { stage: Some(stage), text } => write!(f, "failed at {}: {text}", stage.name()),
            Self::LoadFailed { stage: None, text } => write!(f, "failed to load: {text}"),
            Self::StartTimeout { limit } => write!(f, "was not ready within {limit:?}"),
            Self::Crashed { signal, text } => f.write_str(&describe(Cause::Killed(*signal), text)),
            Self::Exited { code, text } => f.write_str(&describe(Cause::Exited(*code), text)),
            Self::Hung { silent, limit } => {
                write!(f, "gave no sign of life for {silent:?}, the limit is {limit:?}")
            }
            Self::FailingHealth { failures, limit, text } => {
                write!(f, "failed {failures} health checks in a row, the limit is {limit}: {text}")
            }
            Self::OverMemory { used, limit } => {
                write!(f, "used {} MiB of memory, limit {} MiB", used >> 20, limit >> 20)
            }
            Self::OverTasks { used, limit } => {
                write!(f, "had {used} processes and threads, limit {limit}")
            }
            Self::Forged { text } => write!(f, "forged a message of its host: {text}"),
            Self::Refused { text } => write!(f, "was refused: {text}"),
            Self::Stopped => f.write_str("was stopped"),
            Self::Lost { text } => write!(f, "was lost: {text}"),
        }
    }
}

/// The end of a process in words, with the last line that it printed.
pub(super) fn describe(cause: Cause, last_line: &str) -> String {
    let mut text = match cause {
        Cause::Exited(code) => format!("exited with code {code}"),
        Cause::Killed(signal) => match signal_name(signal) {
            Some(name) => format!("was killed by {name}"),
            None => format!("was killed by signal {signal}"),
        },
    };
    if !last_line.is_empty() {
        text.push_str("; it last printed: ");
        text.push_str(last_line);
    }
    text
}

/// The limit that a host was ended for, if it was.
pub(super) fn breach_of(ending: Ending) -> Option<End> {
    Some(match ending.breach? {
        Breach::Memory { used, limit } => End::OverMemory { used, limit },
        Breach::Tasks { used, limit } => End::OverTasks { used, limit },
    })
}

/// The end of a host that was ready, with its last words.
pub(super) fn end_of(ending: Ending, text: String) -> End {
    if let Some(end) = breach_of(ending) {
        return end;
    }
    match ending.cause {
        Cause::Killed(signal) => End::Crashed { signal, text },
        Cause::Exited(code) => End::Exited { code, text },
    }
}

/// The end of a host that said itself why there is nothing in it.
pub(super) fn failed(stage: Stage, text: String) -> End {
    let text = bounded(text);
    match stage {
        // Before it loaded anything.
        Stage::Confine => End::Refused { text },
        Stage::Load | Stage::Entry | Stage::Abi | Stage::Start => {
            End::LoadFailed { stage: Some(stage), text }
        }
    }
}

/// A text of a host for people: of bounded length.
pub(super) fn bounded(mut text: String) -> String {
    const MAX_TEXT: usize = 1024;
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        text.push_str(" ...");
    }
    text
}

/// The name of a signal that ends a process.
fn signal_name(signal: i32) -> Option<&'static str> {
    use rustix::process::Signal;
    let names = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::SYS, "SIGSYS"),
    ];
    names.iter().find(|(known, _)| known.as_raw() == signal).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use hot_wire::spawn::Usage;

    use super::*;

    #[test]
    fn a_breach_says_more_than_the_signal_that_ended_it() {
        let ending =
            |breach| Ending { cause: Cause::Killed(9), usage: Usage::default(), breach, told: false };
        let memory = ending(Some(Breach::Memory { used: 65 << 20, limit: 64 << 20 }));
        let end = end_of(memory, "last".to_owned());
        assert_eq!(end.to_string(), "used 65 MiB of memory, limit 64 MiB");
        let tasks = end_of(ending(Some(Breach::Tasks { used: 33, limit: 32 })), String::new());
        assert_eq!(tasks, End::OverTasks { used: 33, limit: 32 });
        assert_eq!(end_of(ending(None), String::new()), End::Crashed { signal: 9, text: String::new() });
    }

    #[test]
    fn a_host_that_could_not_confine_itself_says_nothing_about_its_module() {
        let text = || "no".to_owned();
        assert_eq!(failed(Stage::Confine, text()), End::Refused { text: text() });
        let load = End::LoadFailed { stage: Some(Stage::Load), text: text() };
        assert_eq!(failed(Stage::Load, text()), load);
    }

    #[test]
    fn an_end_is_told_with_the_signals_name_and_the_last_line() {
        assert_eq!(describe(Cause::Killed(11), ""), "was killed by SIGSEGV");
        assert_eq!(describe(Cause::Killed(50), ""), "was killed by signal 50");
        assert_eq!(describe(Cause::Exited(3), "oh no"), "exited with code 3; it last printed: oh no");
    }
}
