//! How a run of `hotctl` ended, as its exit code. The codes are a contract: scripts branch on them.

use std::process::ExitCode;

use hot_proto::v1::Outcome;

/// What the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Promoted, done, or the question was answered.
    Success,
    /// It failed; also a first release that failed, and a node that can't be reached.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// Rolled back, aborted or superseded.
    TakenBack,
    /// Refused: signature, compatibility or permission.
    Refused,
    /// Not finished in time, left running, or incomplete; gone back on one node alone, or to what does not serve.
    Unfinished,
    /// A plan would change something.
    Changes,
    /// Ctrl-C before anything was started: what a shell says of a program that the signal ended.
    Interrupted,
}

impl Exit {
    /// The number that the process ends with.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::TakenBack => 3,
            Self::Refused => 4,
            Self::Unfinished => 5,
            Self::Changes => 10,
            Self::Interrupted => 130,
        }
    }

    /// How a rollout that ended (or was left, when it has no outcome yet) is told to the shell.
    pub(crate) const fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::Success,
            Outcome::Failed => Self::Failed,
            Outcome::RolledBack | Outcome::Aborted | Outcome::Superseded => Self::TakenBack,
            Outcome::Incomplete | Outcome::Unspecified => Self::Unfinished,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        let codes = [
            Exit::Success,
            Exit::Failed,
            Exit::Usage,
            Exit::TakenBack,
            Exit::Refused,
            Exit::Unfinished,
            Exit::Changes,
            Exit::Interrupted,
        ];
        assert_eq!(codes.map(Exit::code), [0, 1, 2, 3, 4, 5, 10, 130]);
    }

    #[test]
    fn outcomes_map_to_codes() {
        let expected = [
            (Outcome::Unspecified, 5),
            (Outcome::Done, 0),
            (Outcome::Failed, 1),
            (Outcome::RolledBack, 3),
            (Outcome::Aborted, 3),
            (Outcome::Superseded, 3),
            (Outcome::Incomplete, 5),
        ];
        for (outcome, code) in expected {
            assert_eq!(Exit::of(outcome).code(), code, "{outcome:?}");
        }
    }
}
