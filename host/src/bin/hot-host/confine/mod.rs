//! What the host takes from itself before it loads the module: Landlock, then seccomp.
//!
//! What the kernel lacks is left out of the [`Parts`] that are told, and hotd judges; what the kernel has and refuses is
//! an error, after which nothing is loaded. docs/isolation.md has what this leaves a module.

mod calls;
mod domain;
mod filter;
#[cfg(test)]
mod tests;

use hot_wire::isolation::{Confine, Parts};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use thiserror::Error;

/// Why the host could not confine itself.
#[derive(Debug, Error)]
pub(crate) enum ConfineError {
    /// `/proc/self/task` can't be read.
    #[error("the host's own threads can't be counted")]
    Count(#[source] io::Error),
    /// Landlock and seccomp bind the thread that asks and what it makes from then on.
    #[error("the host has {0} threads already, and would confine one of them only")]
    Threads(usize),
    /// Landlock is there and refused the rules.
    #[error("the kernel refused the Landlock rules")]
    Landlock(#[from] landlock::RulesetError),
    /// Landlock is there and refused a file or folder that is to be in reach.
    #[error("the kernel refused a Landlock rule for {}", path.display())]
    Path {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: landlock::RulesetError,
    },
    /// seccomp is there and refused the filter.
    #[error("the kernel refused the filter of system calls")]
    Filter(#[source] Errno),
    /// Something that hotd requires is not in force: the kernel lacks it, or it was to be left out.
    #[error(
        "this node's kernel can't do what is required of it; missing: {}",
        missing.names().collect::<Vec<_>>().join(", ")
    )]
    Missing {
        /// What is in force.
        parts: Parts,
        /// What is required besides.
        missing: Parts,
    },
}

/// Puts `confine` in force, for this thread and all that it starts: the parts that are in force now. `report` is the
/// socket on which hot-spawn takes the listener by which it counts refused calls. no_new_privs must be set already.
pub(crate) fn take(confine: &Confine, report: Option<OwnedFd>) -> Result<Parts, ConfineError> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(ConfineError::Count)?.count();
    if threads != 1 {
        return Err(ConfineError::Threads(threads));
    }
    let domain = domain::enter(confine)?;
    let filter = filter::take(confine.leave_out, domain::wanted(confine).has(Parts::NETWORK), report)?;
    let parts = Parts::NO_NEW_PRIVILEGES.with(domain).with(filter);
    let missing = confine.require.without(parts);
    if missing.is_empty() { Ok(parts) } else { Err(ConfineError::Missing { parts, missing }) }
}
