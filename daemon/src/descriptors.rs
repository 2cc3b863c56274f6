//! How many descriptors hotd may have open: one for each client, and some for all else.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What hotd needs besides one for each client: its store and listeners, some dozens; a control socket, a pipe, and two
/// for the link of each gateway thread, of each instance; its callers on the socket.
const BESIDES: u64 = 256;

/// Takes as many as the system lets it have. The limit that a shell or a unit starts with, 1,024 as a rule, is for
/// programs that wait with `select`, which knows no more; hotd does not.
/// `callers` are those that it takes from elsewhere.
pub fn raise(max_connections: usize, callers: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let may = match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit on open files can't be raised");
            current
        }
    };
    // Without a limit there is nothing to say.
    let Some(may) = may else { return };
    let wanted = wanted(max_connections.saturating_add(callers));
    if may < wanted {
        tracing::warn!(
            "hotd may have {may} files open, and max_connections = {max_connections} with what it needs besides is {wanted}: beyond \
             its limit it accepts nobody. Raise the limit (LimitNOFILE= of the unit), or lower max_connections."
        );
    }
}

fn wanted(max_connections: usize) -> u64 {
    u64::try_from(max_connections).unwrap_or(u64::MAX).saturating_add(BESIDES)
}
