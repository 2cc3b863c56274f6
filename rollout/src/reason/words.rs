//! Pieces of the sentences: rates, signals, and what somebody else said.

use std::fmt;

use crate::figures::Figures;

/// `figures` as a rate in words.
pub(crate) fn rate(figures: &Figures) -> impl fmt::Display {
    Percent { part: figures.errors, whole: figures.requests }
}

pub(super) struct Percent {
    pub(super) part: u64,
    pub(super) whole: u64,
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = u128::from(self.part.min(self.whole)) * 1000;
        let whole = u128::from(self.whole.max(1));
        let rounded = (tenths + whole / 2) / whole;
        write!(f, "{}.{}%", rounded / 10, rounded % 10)
    }
}

/// What somebody else said, after a colon, if they said anything.
pub(super) struct Tail<'a>(pub(super) &'a str);

impl fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

pub(super) struct LastWords<'a>(pub(super) &'a str);

impl fmt::Display for LastWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; it last printed: {}", self.0) }
    }
}

pub(super) struct Waited<'a>(pub(super) &'a str);

impl fmt::Display for Waited<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ", it was {}", self.0) }
    }
}

pub(super) struct Signal(pub(super) i32);

impl fmt::Display for Signal {
    /// Names of the signals that end programs, numbered as on Linux for every machine that we run on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            4 => "SIGILL",
            5 => "SIGTRAP",
            6 => "SIGABRT",
            7 => "SIGBUS",
            8 => "SIGFPE",
            9 => "SIGKILL",
            11 => "SIGSEGV",
            15 => "SIGTERM",
            31 => "SIGSYS",
            other => return write!(f, "signal {other}"),
        };
        f.write_str(name)
    }
}
