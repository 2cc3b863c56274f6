//! `[sandbox]`, `[network]` and `[limits]`: what holds an instance, what it may reach, and what it may use.

use hot_artifact::ModuleName;
use hot_artifact::trust::{ModulePattern, ModulePatternError};
use hot_wire::isolation::{MAX_LISTED, Parts};
use hot_wire::spawn::Limits;
use toml::de::DeValue;

use super::read::Section;
use super::values::{absolute_path, count, or_unlimited, size};

/// The most that the paths of `[sandbox]` have together, in bytes: beside the largest config of a release they fit into the
/// message by which a host is told to start.
const MAX_PATHS: usize = 16 * 1024;

/// Parts that `hot-host` sees to and that can be left out.
const LEFT_OUT: [(&str, Parts); 5] = [
    ("seccomp", Parts::SECCOMP),
    ("counted", Parts::COUNTED),
    ("files", Parts::FILES),
    ("network", Parts::NETWORK),
    ("scopes", Parts::SCOPES),
];

/// `[sandbox]`: how instances are kept apart from everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Parts without which no instance runs.
    pub require: Parts,
    /// Parts without which none runs where the kernel has what they are made of.
    pub require_if_there: Parts,
    /// Parts that are switched off.
    pub leave_out: Parts,
    /// Files and folders that modules may read besides, absolute.
    pub read: Vec<String>,
    /// Files and folders that modules may read and write besides, absolute.
    pub write: Vec<String>,
}

/// `[network]`: what modules may reach by TCP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Ports that they may connect to; `None`: any.
    pub connect: Option<Vec<u16>>,
    /// Ports that they may listen on; `None`: any.
    pub bind: Option<Vec<u16>>,
}

/// `[limits]`: what an instance may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleLimits {
    /// Of a module that no pattern matches.
    pub general: Limits,
    /// What differs, by patterns of module names.
    pub modules: Vec<(ModulePattern, OwnLimits)>,
}

/// The limits of a pattern; what is absent is as for all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnLimits {
    memory: Option<u64>,
    tasks: Option<u64>,
    open_files: Option<u64>,
    folder: Option<u64>,
    cpu_weight: Option<u32>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            require: Parts::USER.with(Parts::SECCOMP).with(Parts::NO_NEW_PRIVILEGES),
            require_if_there: Parts::FILES,
            leave_out: Parts::NONE,
            read: Vec::new(),
            write: Vec::new(),
        }
    }
}

impl Default for ModuleLimits {
    fn default() -> Self {
        let general = Limits {
            memory: 1 << 30,
            tasks: 512,
            open_files: 4096,
            folder: 64 << 20,
            cpu_weight: 100,
            ..Limits::default()
        };
        Self { general, modules: Vec::new() }
    }
}

impl ModuleLimits {
    /// The limits of `module`: those of the most specific pattern that matches it, as in `[trust.modules]`, and of all where
    /// that has none. Where two are equally specific, the smaller limit counts.
    #[must_use]
    pub fn of(&self, module: &ModuleName) -> Limits {
        let matching = || self.modules.iter().filter(|(pattern, _)| pattern.matches(module));
        let best = matching().map(|(pattern, _)| pattern.specificity()).max();
        let own = matching()
            .filter(|(pattern, _)| Some(pattern.specificity()) == best)
            .fold(OwnLimits::default(), |own, (_, other)| own.stricter(*other));
        let general = self.general;
        Limits {
            memory: own.memory.unwrap_or(general.memory),
            tasks: own.tasks.unwrap_or(general.tasks),
            open_files: own.open_files.unwrap_or(general.open_files),
            folder: own.folder.unwrap_or(general.folder),
            cpu_weight: own.cpu_weight.unwrap_or(general.cpu_weight),
            ..general
        }
    }
}

impl OwnLimits {
    fn stricter(self, other: Self) -> Self {
        fn smaller<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
            one.into_iter().chain(other).min()
        }
        Self {
            memory: smaller(self.memory, other.memory),
            tasks: smaller(self.tasks, other.tasks),
            open_files: smaller(self.open_files, other.open_files),
            folder: smaller(self.folder, other.folder),
            cpu_weight: smaller(self.cpu_weight, other.cpu_weight),
        }
    }
}

/// `[sandbox]` and `[network]`: what the one asks for depends on the other.
pub(super) fn sandbox(top: &Section<'_>) -> (Sandbox, Network) {
    let section = top.section("sandbox", "sandbox", &["require", "read", "write", "leave_out"]);
    let network = network(top);
    let has_ports = network.connect.is_some() || network.bind.is_some();
    let default = Sandbox::default();
    let leave_out = parts(&section, "leave_out", &LEFT_OUT).unwrap_or_default();
    let named = parts(&section, "require", &Parts::NAMED);
    if let Some(both) = named.map(|named| named.without(named.without(leave_out))).filter(|it| !it.is_empty())
    {
        let text = format!("{} is required as well; expected in one of the two", names(both));
        section.mistake("leave_out", &text);
    }
    if has_ports && leave_out.has(Parts::NETWORK) {
        let text = "network is left out, though [network] names ports; expected one of the two";
        section.mistake("leave_out", text);
    }
    if named.is_some_and(|named| named.has(Parts::NETWORK)) && !has_ports {
        section.mistake(
            "require",
            "network is required, and [network] names no ports; expected `connect` or `bind` there",
        );
    }
    if named.is_some_and(|named| named.has(Parts::COUNTED)) && leave_out.has(Parts::SECCOMP) {
        section.mistake(
            "require",
            "counted is required, and leave_out has seccomp: calls that nobody refuses are not counted",
        );
    }
    // What the file does not say gives way.
    let require = named.unwrap_or_else(|| default.require.without(leave_out));
    let require_if_there =
        if named.is_some() { Parts::NONE } else { default.require_if_there.without(leave_out) };
    let (read, write) = (paths(&section, "read"), paths(&section, "write"));
    for (key, paths) in [("read", &read), ("write", &write)] {
        if leave_out.has(Parts::FILES) && !paths.is_empty() {
            let text = "means nothing where leave_out has files: then modules see all that their user may";
            section.mistake(key, text);
        }
    }
    if let Some(both) = read.iter().find(|path| write.contains(path)) {
        let text = format!(
            "{both:?} stands in write as well, which is for reading, too; expected it in one of the two"
        );
        section.mistake("read", &text);
    }
    let length: usize = read.iter().chain(&write).map(String::len).sum();
    if length > MAX_PATHS {
        let text =
            format!("the paths of read and write have {length} bytes, expected at most {MAX_PATHS} together");
        section.mistake(if section.has("read") { "read" } else { "write" }, &text);
    }
    let require = if has_ports { require.with(Parts::NETWORK) } else { require };
    (Sandbox { require, require_if_there, leave_out, read, write }, network)
}

/// The names of parts, for a sentence.
fn names(parts: Parts) -> String {
    parts.names().collect::<Vec<_>>().join(", ")
}

fn parts(section: &Section<'_>, key: &str, known: &[(&'static str, Parts)]) -> Option<Parts> {
    let expected = || known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let part = |value: &DeValue<'_>| {
        let part = value.as_str().and_then(|text| known.iter().find(|(name, _)| *name == text));
        part.map(|(_, part)| *part).ok_or_else(|| format!("one of {}", expected()))
    };
    let parts = section.values(key, "parts like [\"seccomp\"]", part)?;
    once(section, key, &parts, |part| names(*part));
    Some(parts.into_iter().collect())
}

fn paths(section: &Section<'_>, key: &str) -> Vec<String> {
    let path = |value: &DeValue<'_>| {
        let path = absolute_path(value)?.into_os_string().into_string();
        let plain = path.ok().filter(|path| !path.contains(char::is_control));
        plain.ok_or_else(|| "a path without control characters".to_owned())
    };
    let paths = section.values(key, "paths like [\"/etc/x\"]", path).unwrap_or_default();
    once(section, key, &paths, |path| format!("{path:?}"));
    bounded(section, key, paths.len());
    paths
}

fn network(top: &Section<'_>) -> Network {
    let section = top.section("network", "network", &["connect", "bind"]);
    let ports = |key: &str| {
        let ports = section.values(key, "ports like [443]", count::<u16>(1..=65535))?;
        once(&section, key, &ports, ToString::to_string);
        bounded(&section, key, ports.len());
        Some(ports)
    };
    Network { connect: ports("connect"), bind: ports("bind") }
}

/// A value that stands there twice was meant to be another one.
fn once<T: PartialEq>(section: &Section<'_>, key: &str, all: &[T], show: impl Fn(&T) -> String) {
    let again = all.iter().enumerate().find(|(at, one)| all[..*at].contains(one));
    if let Some((_, again)) = again {
        section.mistake(key, &format!("{} stands there twice, expected it once", show(again)));
    }
}

fn bounded(section: &Section<'_>, key: &str, found: usize) {
    if found > MAX_LISTED {
        section.mistake(key, &format!("has {found} entries, expected at most {MAX_LISTED}"));
    }
}

const LIMITS: [&str; 5] = ["memory", "tasks", "open_files", "folder", "cpu_weight"];

pub(super) fn limits(top: &Section<'_>) -> ModuleLimits {
    const KEYS: [&str; 6] = ["memory", "tasks", "open_files", "folder", "cpu_weight", "modules"];
    let section = top.section("limits", "limits", &KEYS);
    let default = ModuleLimits::default().general;
    let general = own_limits(&section);
    let general = Limits {
        memory: general.memory.unwrap_or(default.memory),
        tasks: general.tasks.unwrap_or(default.tasks),
        open_files: general.open_files.unwrap_or(default.open_files),
        folder: general.folder.unwrap_or(default.folder),
        cpu_weight: general.cpu_weight.unwrap_or(default.cpu_weight),
        ..default
    };
    let of_modules = section.section("modules", "limits.modules", &[]);
    let mut modules = Vec::new();
    for (name, _) in of_modules.entries() {
        let own = own_limits(&of_modules.entry(name, &LIMITS));
        match name.parse() {
            Ok(pattern) => modules.push((pattern, own)),
            Err(error @ ModulePatternError { .. }) => of_modules.mistake(name, &error.to_string()),
        }
    }
    ModuleLimits { general, modules }
}

/// The keys of one table of limits.
fn own_limits(section: &Section<'_>) -> OwnLimits {
    let wide = |from, to| or_unlimited(move |value| count::<u32>(from..=to)(value).map(u64::from));
    OwnLimits {
        memory: section.value("memory", or_unlimited(size(16 << 20..=1 << 50))),
        tasks: section.value("tasks", wide(16, 1_000_000)),
        open_files: section.value("open_files", wide(64, 10_000_000)),
        folder: section.value("folder", or_unlimited(size(0..=1 << 50))),
        cpu_weight: section.value("cpu_weight", count(1..=10_000)),
    }
}
