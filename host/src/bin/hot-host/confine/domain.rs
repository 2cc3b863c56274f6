//! The Landlock domain: files, TCP ports, scopes of signals and abstract sockets.

use super::ConfineError;
use hot_wire::isolation::{Confine, Parts};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, Scope, path_beneath_rules,
};
use std::path::{Path, PathBuf};

/// The rights on files that are handled: what the kernel does not know of them is passed over. ABI 5 was the last that
/// added one which is tried here.
const KNOWN: ABI = ABI::V5;

/// What every module may read. One that is absent is passed over.
pub(super) const READ: [&str; 33] = [
    // Libraries, and what the loader needs to find them.
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    // Names of hosts and services.
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    // The time of day.
    "/etc/localtime",
    "/usr/share/zoneinfo",
    // Whom TLS trusts.
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/etc/ca-certificates",
    "/etc/pki",
    "/dev/zero",
    "/dev/urandom",
    "/dev/random",
    // The process itself, as it is numbered now; never all of /proc, where other processes' environments are.
    "/proc/self",
    // What allocators and runtimes ask about the machine.
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/net/core/somaxconn",
    "/sys/devices/system/cpu",
];

/// What every module may read and write, beside the folder that it is started in.
pub(super) const WRITE: [&str; 1] = ["/dev/null"];

/// Enters a domain by `confine`: the parts that it has, none if the kernel has no Landlock.
pub(super) fn enter(confine: &Confine) -> Result<Parts, ConfineError> {
    let wanted = wanted(confine);
    if wanted.is_empty() {
        return Ok(Parts::NONE);
    }
    let mut rules = Ruleset::default();
    if wanted.has(Parts::FILES) {
        rules = rules.handle_access(AccessFs::from_all(KNOWN))?;
    }
    if wanted.has(Parts::NETWORK) {
        rules = rules.handle_access(handled_ports(confine))?;
    }
    if wanted.has(Parts::SCOPES) {
        rules = rules.scope(Scope::from_all(ABI::V6))?;
    }
    let mut rules = rules.create()?;
    if wanted.has(Parts::FILES) {
        let paths = |own: &[&str], told: &[String]| -> Vec<PathBuf> {
            own.iter().map(PathBuf::from).chain(told.iter().map(PathBuf::from)).collect()
        };
        for path in paths(&READ, &confine.read).into_iter().chain(quotas()) {
            rules = reach(rules, path, AccessFs::ReadFile | AccessFs::ReadDir)?;
        }
        for path in paths(&WRITE, &confine.write).into_iter().chain(own_folder()) {
            rules = reach(rules, path, writing())?;
        }
    }
    if wanted.has(Parts::NETWORK) {
        for (ports, access) in
            [(&confine.connect, AccessNet::ConnectTcp), (&confine.bind, AccessNet::BindTcp)]
        {
            for port in ports.iter().flatten() {
                rules = rules.add_rule(NetPort::new(*port, access))?;
            }
        }
    }
    Ok(match rules.restrict_self()?.landlock {
        LandlockStatus::Available { effective_abi, .. } => in_force(wanted, effective_abi),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => Parts::NONE,
    })
}

/// Allows that access at the path and below; a path that is absent is passed over.
fn reach(
    rules: RulesetCreated,
    path: PathBuf,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, ConfineError> {
    rules.add_rules(path_beneath_rules([&path], access)).map_err(|source| ConfineError::Path { path, source })
}

/// The parts that are Landlock's and asked for.
pub(super) fn wanted(confine: &Confine) -> Parts {
    let mut parts = Parts::FILES.with(Parts::SCOPES);
    if confine.connect.is_some() || confine.bind.is_some() {
        parts = parts.with(Parts::NETWORK);
    }
    parts.without(confine.leave_out)
}

/// Those of the parts that a kernel of this ABI has.
pub(super) fn in_force(wanted: Parts, abi: ABI) -> Parts {
    [(Parts::FILES, ABI::V1), (Parts::NETWORK, ABI::V4), (Parts::SCOPES, ABI::V6)]
        .into_iter()
        .filter_map(|(part, since)| (wanted.has(part) && abi >= since).then_some(part))
        .collect()
}

fn handled_ports(confine: &Confine) -> BitFlags<AccessNet> {
    let mut access = BitFlags::empty();
    if confine.connect.is_some() {
        access |= AccessNet::ConnectTcp;
    }
    if confine.bind.is_some() {
        access |= AccessNet::BindTcp;
    }
    access
}

/// All that can be done to files but to execute them, to make devices and to talk to them.
fn writing() -> BitFlags<AccessFs> {
    let never = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    AccessFs::from_all(KNOWN) & !never
}

/// The folder that the host is started in, unless it has none of its own.
fn own_folder() -> Option<PathBuf> {
    std::env::current_dir().ok().filter(|folder| folder != Path::new("/"))
}

/// The files by which a runtime learns how many processors its cgroup may use (version 2, every level).
fn quotas() -> impl Iterator<Item = PathBuf> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).map(str::to_owned);
    let levels: Vec<PathBuf> = own
        .map(|own| Path::new(&own).ancestors().map(|level| Path::new("/sys/fs/cgroup").join(level)).collect())
        .unwrap_or_default();
    levels.into_iter().map(|level| level.join("cpu.max"))
}
