//! What protects a node from a case, and how each of these is switched off to see that it does.

/// One protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Each instance has a user of its own.
    Users,
    /// System calls that no server needs are refused.
    Seccomp,
    /// It sees the files that it may.
    Files,
    /// It signals no process outside.
    Scopes,
    /// It connects to the ports that it may.
    Network,
    /// The limit of memory.
    Memory,
    /// The limit of processes and threads.
    Processes,
    /// The time that a start may take.
    StartDeadline,
    /// The bounds on errors.
    Errors,
    /// The bounds on how long answers take.
    Slow,
    /// The bound on failed checks.
    Health,
}

impl Guard {
    /// As the page says it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Users => "a user of its own",
            Self::Seccomp => "seccomp",
            Self::Files => "Landlock's file rules",
            Self::Scopes => "Landlock's scopes",
            Self::Network => "Landlock's port rules",
            Self::Memory => "`[limits] memory`",
            Self::Processes => "`[limits] tasks`",
            Self::StartDeadline => "`start_deadline`",
            Self::Errors => "`error_cap`, `error_rate`",
            Self::Slow => "`p99_ratio`, `p99_floor`",
            Self::Health => "`health_threshold`",
        }
    }

    /// The part of `[sandbox]` that it is.
    const fn part(self) -> Option<&'static str> {
        match self {
            Self::Seccomp => Some("seccomp"),
            Self::Files => Some("files"),
            Self::Scopes => Some("scopes"),
            Self::Network => Some("network"),
            _ => None,
        }
    }
}

/// The tables of the node's config behind `[trust]`: bounds with which a zoo takes no day, and none of `off`.
pub(crate) fn config(off: &[Guard]) -> String {
    let is_off = |guard: Guard| off.contains(&guard);
    let either =
        |guard: Guard, tight: &'static str, loose: &'static str| if is_off(guard) { loose } else { tight };
    let mut text = format!(
        "[policy]\nbake = \"1s\"\nstandby = \"1s\"\nexpiry = \"30s\"\nhealth_interval = \"200ms\"\n\
         start_deadline = \"{}\"\nhealth_threshold = {}\nerror_cap = \"{}\"\nerror_rate = \"{}\"\np99_ratio = {}\n\
         p99_floor = \"{}\"\n",
        either(Guard::StartDeadline, "2s", "50s"),
        either(Guard::Health, "3", "1000"),
        either(Guard::Errors, "50%", "100%"),
        either(Guard::Errors, "1%", "100%"),
        either(Guard::Slow, "2.0", "1000.0"),
        either(Guard::Slow, "50ms", "30s"),
    );
    let left_out: Vec<String> =
        off.iter().filter_map(|guard| guard.part()).map(|part| format!("{part:?}")).collect();
    // Only root gives users away.
    if !off.is_empty() || !rustix::process::geteuid().is_root() {
        text += &format!("[sandbox]\nrequire = []\nleave_out = [{}]\n", left_out.join(", "));
    }
    if !is_off(Guard::Network) && has_ports() {
        text += "[network]\nconnect = []\n";
    }
    let memory = either(Guard::Memory, "\"224MiB\"", "\"unlimited\"");
    let tasks = either(Guard::Processes, "256", "\"unlimited\"");
    text + &format!("[limits]\nmemory = {memory}\ntasks = {tasks}\n")
}

/// Whether this kernel has rules for ports, which came with Linux 6.7: where it has none, a node that names ports runs nothing.
pub(crate) fn has_ports() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(7))
}
