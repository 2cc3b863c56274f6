//! [`Target`]: the machine and libc that a file was built for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a module was built for: machine and libc, e.g. `x86_64-gnu`.
///
/// (module, version, target) names one digest for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    /// The instruction set.
    pub machine: Machine,
    /// The C library.
    pub libc: Libc,
}

/// Instruction set of a module: 64-bit and little-endian, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Machine {
    /// `EM_X86_64`
    X86_64,
    /// `EM_AARCH64`
    Aarch64,
    /// `EM_RISCV` of 64 bits
    Riscv64,
}

/// C library that a module needs, as its list of needed libraries tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Libc {
    /// glibc: needs `libc.so.6`.
    Gnu,
    /// musl: needs `libc.so` or `libc.musl-*.so.1`.
    Musl,
    /// Needs no C library by itself, so it fits into a host of any.
    None,
}

/// Why a text is not a target.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{}` is not a target; one is a machine and a libc, like x86_64-gnu", found.escape_debug())]
pub struct TargetError {
    /// What was found, cut to the first 80 characters.
    pub found: String,
}

impl Target {
    /// The target of this machine: of the hosts that this daemon starts.
    #[must_use]
    pub const fn native() -> Self {
        Self { machine: Machine::native(), libc: Libc::native() }
    }

    /// Whether a file of this target can be loaded on a node of target `node`.
    #[must_use]
    pub fn runs_on(self, node: Self) -> bool {
        self.machine == node.machine && (self.libc == node.libc || self.libc == Libc::None)
    }

    /// Which of `targets` a node of target `node` runs: the one for its own C library, else one that needs none,
    /// whatever the order in which they are named.
    pub fn best_for(targets: impl IntoIterator<Item = Self>, node: Self) -> Option<Self> {
        targets
            .into_iter()
            .filter(|target| target.runs_on(node))
            .max_by_key(|target| target.libc == node.libc)
    }
}

impl Machine {
    const fn native() -> Self {
        #[cfg(target_arch = "x86_64")]
        return Self::X86_64;
        #[cfg(target_arch = "aarch64")]
        return Self::Aarch64;
        #[cfg(target_arch = "riscv64")]
        return Self::Riscv64;
    }

    /// The sizes that a page may have on its kernels, smallest first.
    pub(crate) const fn pages(self) -> &'static [u64] {
        match self {
            Self::X86_64 | Self::Riscv64 => &[4 << 10],
            Self::Aarch64 => &[4 << 10, 16 << 10, 64 << 10],
        }
    }

    /// The name that Rust and GNU triples start with.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Riscv64 => "riscv64",
        }
    }
}

impl Libc {
    const fn native() -> Self {
        if cfg!(target_env = "musl") { Self::Musl } else { Self::Gnu }
    }

    /// The name that triples end with; `none` where no C library is needed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gnu => "gnu",
            Self::Musl => "musl",
            Self::None => "none",
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let parse = || {
            let (machine, libc) = text.split_once('-')?;
            let machine = [Machine::X86_64, Machine::Aarch64, Machine::Riscv64]
                .into_iter()
                .find(|known| known.as_str() == machine)?;
            let libc =
                [Libc::Gnu, Libc::Musl, Libc::None].into_iter().find(|known| known.as_str() == libc)?;
            Some(Self { machine, libc })
        };
        parse().ok_or_else(|| TargetError { found: text.chars().take(80).collect() })
    }
}

impl TryFrom<String> for Target {
    type Error = TargetError;

    fn try_from(text: String) -> Result<Self, TargetError> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.machine.as_str(), self.libc.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_one_spelling() {
        for machine in ["x86_64", "aarch64", "riscv64"] {
            for libc in ["gnu", "musl", "none"] {
                let text = format!("{machine}-{libc}");
                assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
            }
        }
        for bad in ["", "x86_64", "x86_64-", "x86_64-gnu-x", "X86_64-gnu", "i686-gnu"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_without_libc_runs_with_any_on_the_same_machine() {
        let target = |text: &str| text.parse::<Target>().unwrap();
        assert!(target("x86_64-none").runs_on(target("x86_64-musl")));
        assert!(target("x86_64-gnu").runs_on(target("x86_64-gnu")));
        assert!(!target("x86_64-gnu").runs_on(target("x86_64-musl")));
        assert!(!target("aarch64-none").runs_on(target("x86_64-gnu")));
    }

    #[test]
    fn the_nodes_own_libc_is_preferred_to_none() {
        let target = |text: &str| text.parse::<Target>().unwrap();
        let best = |targets: &[&str], node: &str| {
            let named = |targets: &mut dyn Iterator<Item = &&str>| {
                let targets: Vec<Target> = targets.map(|text| target(text)).collect();
                Target::best_for(targets, target(node)).map(|best| best.to_string())
            };
            let best = named(&mut targets.iter());
            assert_eq!(named(&mut targets.iter().rev()), best, "the order does not matter");
            best
        };
        let all = ["x86_64-none", "x86_64-gnu", "aarch64-gnu", "aarch64-none"];
        assert_eq!(best(&all, "x86_64-gnu").as_deref(), Some("x86_64-gnu"));
        assert_eq!(best(&all, "x86_64-musl").as_deref(), Some("x86_64-none"));
        assert_eq!(best(&all, "aarch64-gnu").as_deref(), Some("aarch64-gnu"));
        assert_eq!(best(&all, "riscv64-gnu"), None);
    }
}
