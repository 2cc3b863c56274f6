//! What the host takes from itself before it is told anything. What is taken here the module can't get back.
//!
//! Landlock and seccomp come later, when hotd has said what the module may do: [`confine`](crate::confine).

use rustix::process::{Resource, Rlimit, setrlimit};
use thiserror::Error;

/// Why the host could not limit itself; it does not go on then.
#[derive(Debug, Error)]
pub(crate) enum LimitError {
    /// `PR_SET_NO_NEW_PRIVS` failed.
    #[error("no_new_privs can't be set")]
    NoNewPrivs(#[source] rustix::io::Errno),
    /// A resource limit can't be set.
    #[error("the limit on core files can't be set")]
    CoreFiles(#[source] rustix::io::Errno),
}

/// Limits this process. Must be called while it has one thread.
pub(crate) fn take() -> Result<(), LimitError> {
    // No program that the module executes gains rights by its file's mode.
    rustix::thread::set_no_new_privs(true).map_err(LimitError::NoNewPrivs)?;
    // A core file would hold other people's requests, and a crash loop would fill the disk with them.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(LimitError::CoreFiles)
}
