//! The keys of each table, their bounds and what holds without them.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use hot_artifact::trust::ModuleRules;
use hot_rollout::{Policy, PolicySpec, Step};
use toml::de::{DeTable, DeValue};

use super::cluster;
use super::listen::{grpc, listen, tls};
use super::places::PlaceLines;
use super::read::{Reader, Section};
use super::sandbox;
use super::tls::TlsLines;
use super::trust::{RuleLine, TrustLines};
use super::values::{
    absolute_path, count, duration, flag, is_host_name, millis, network, node_name, ratio, share, size,
    socket_path, step,
};
use super::{Config, Http, Log, LogFormat, Mistake, Mode, Spawn, Store, Trust};
use crate::driver::OnCrashLoop;
use crate::gateway::{GatewayConfig, Sources};

/// What a config file says, with defaults where it says something wrong.
#[derive(Debug)]
pub(super) struct Draft {
    pub config: Config,
    /// All that is wrong in the file; without any, the config is as good as its text.
    pub mistakes: Vec<Mistake>,
    /// Where it names folders and sockets; none of a text that is no TOML.
    pub place_lines: Option<PlaceLines>,
    /// Where it names the files of trust; none where what it says of one is no path.
    pub trust_lines: Option<TrustLines>,
    /// Where it names the files of TLS of each table; none where it names not all, or what it says of one is no path.
    pub tls_lines: [Option<TlsLines>; 2],
}

pub(super) fn parse(text: &str, path: &Path) -> Draft {
    const TABLES: [&str; 13] = [
        "data_dir", "node", "http", "grpc", "cluster", "trust", "sandbox", "network", "limits", "store",
        "policy", "spawn", "log",
    ];
    let reader = Reader::new(path, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    let at = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
    if let Some(error) = errors.into_iter().min_by_key(at) {
        reader.mistake(at(&error), error.message().replace('\n', " "));
    }
    let syntax = reader.take_mistakes();
    let top = Section::top(&reader, document.get_ref(), &TABLES);
    let (trust, trust_lines) = trust(&top);
    let (http, http_lines) = http(&top);
    let (grpc, grpc_lines) = grpc(&top, &http);
    let tls_lines = [http_lines, grpc_lines];
    let (sandbox, network) = sandbox::sandbox(&top);
    let config = Config {
        mode: Mode::Service,
        node: top.value("node", node_name).unwrap_or_else(|| default_node(&top)),
        data_dir: top.value("data_dir", absolute_path).unwrap_or_else(|| "/var/lib/hotd".into()),
        http,
        grpc,
        cluster: cluster::cluster(&top),
        trust,
        sandbox,
        network,
        limits: sandbox::limits(&top),
        store: store(&top),
        policy: policy(&top),
        on_crash_loop: on_crash_loop(&top),
        spawn: spawn(&top),
        log: log(&top),
    };
    if syntax.is_empty() {
        let place_lines = Some(place_lines(&top));
        Draft { config, mistakes: reader.take_mistakes(), place_lines, trust_lines, tls_lines }
    } else {
        // What is missing or strange in the rest follows from that, as a rule, and so do further errors of the parser.
        Draft { config, mistakes: syntax, place_lines: None, trust_lines: None, tls_lines: [None, None] }
    }
}

/// The lines of the keys or, without them, of their tables.
fn place_lines(top: &Section<'_>) -> PlaceLines {
    // What is unknown in the tables was said when they were read.
    let line = |table, key| top.section(table, table, &[]).line(key);
    PlaceLines {
        data_dir: top.line("data_dir"),
        control: line("grpc", "socket"),
        spawn: line("spawn", "socket"),
        access_log: line("http", "access_log"),
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            tls: None,
            // Uploads pass through; what a module can't take it refuses itself.
            gateway: GatewayConfig { max_body_bytes: 64 << 20, ..GatewayConfig::default() },
            request_deadline: Duration::from_secs(30),
            max_in_flight: 1024,
            max_waiting: 1024,
            max_streams: 10_000,
            drain_deadline: Duration::from_secs(30),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            keep: 5,
            max_artifact: hot_artifact::DEFAULT_MAX_SIZE,
            upload_patience: Duration::from_secs(60),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// The second is where it names the certificate and its key.
fn http(top: &Section<'_>) -> (Http, Option<TlsLines>) {
    const KEYS: [&str; 20] = [
        "listen",
        "tls",
        "threads",
        "max_body",
        "max_header",
        "max_connections",
        "request_deadline",
        "max_in_flight",
        "max_waiting",
        "max_streams",
        "max_wait",
        "header_timeout",
        "idle_timeout",
        "stall_timeout",
        "stream_grace",
        "drain_deadline",
        "pin_from",
        "forwarded_from",
        "access_log",
        "show_release",
    ];
    let section = top.section("http", "http", &KEYS);
    let default = Http::default();
    // One of the two is enough.
    let listen = if section.has("listen") || !section.has("tls") {
        listen(&section, "addresses like [\"0.0.0.0:8080\"]")
    } else {
        Vec::new()
    };
    let (tls, tls_lines) = tls(&section, &listen);
    let http = Http {
        listen,
        tls,
        gateway: gateway(&section, default.gateway),
        request_deadline: section.value("request_deadline", duration).unwrap_or(default.request_deadline),
        max_in_flight: section.value("max_in_flight", count(1..=10_000_000)).unwrap_or(default.max_in_flight),
        max_waiting: section.value("max_waiting", count(0..=10_000_000)).unwrap_or(default.max_waiting),
        max_streams: section.value("max_streams", count(0..=10_000_000)).unwrap_or(default.max_streams),
        drain_deadline: section.value("drain_deadline", duration).unwrap_or(default.drain_deadline),
    };
    contradictions(&section, &http);
    (http, tls_lines)
}

/// Bounds of which one makes another one mean nothing. Only what the file says can: a default gives way.
fn contradictions(section: &Section<'_>, http: &Http) {
    let Http { gateway, request_deadline, drain_deadline, .. } = http;
    let (grace, wait) = (gateway.stream_grace, gateway.max_wait);
    if grace > *drain_deadline && section.has("stream_grace") {
        let text = format!(
            "{grace:?} is longer than drain_deadline ({drain_deadline:?}), which ends streams when hotd stops; expected at most \
             that"
        );
        section.mistake("stream_grace", &text);
    }
    if wait > *request_deadline && section.has("max_wait") {
        let text = format!(
            "{wait:?} is longer than request_deadline ({request_deadline:?}), which ends the wait as well; expected at most that"
        );
        section.mistake("max_wait", &text);
    }
    let (threads, connections) = (gateway.threads, gateway.max_connections);
    if threads > connections && section.has("threads") {
        let text = format!(
            "{threads} is more than max_connections ({connections}), and each thread takes one at least; expected at most that"
        );
        section.mistake("threads", &text);
    }
}

/// The keys of `[http]` that are about clients, not about modules.
fn gateway(section: &Section<'_>, default: GatewayConfig) -> GatewayConfig {
    let span = |key, default| section.value(key, duration).unwrap_or(default);
    let sources = |key, default| match section.values(key, "networks like [\"10.0.0.0/8\"]", network) {
        None => default,
        Some(networks) if networks.is_empty() => Sources::None,
        Some(networks) => Sources::In(networks),
    };
    let max_header = section.value("max_header", size(8 << 10..=64 << 10));
    let max_connections = section.value("max_connections", count(1..=10_000_000));
    let max_connections = max_connections.unwrap_or(default.max_connections);
    GatewayConfig {
        threads: section
            .value("threads", count(1..=256))
            .unwrap_or_else(|| default.threads.min(max_connections)),
        max_connections,
        max_header_bytes: max_header
            .and_then(|size| usize::try_from(size).ok())
            .unwrap_or(default.max_header_bytes),
        max_body_bytes: section.value("max_body", size(0..=1 << 40)).unwrap_or(default.max_body_bytes),
        header_timeout: span("header_timeout", default.header_timeout),
        idle_timeout: span("idle_timeout", default.idle_timeout),
        drain_linger: default.drain_linger,
        parting: default.parting,
        stall_timeout: span("stall_timeout", default.stall_timeout),
        stream_grace: span("stream_grace", default.stream_grace),
        max_wait: span("max_wait", default.max_wait),
        pin_from: sources("pin_from", default.pin_from),
        forwarded_from: sources("forwarded_from", default.forwarded_from),
        access_log: section.value("access_log", absolute_path),
        show_release: section.value("show_release", flag).unwrap_or(default.show_release),
    }
}

/// The second is where it names its files.
fn trust(top: &Section<'_>) -> (Trust, Option<TrustLines>) {
    let section = top.section("trust", "trust", &["allowed_signers", "revoked", "libraries", "modules"]);
    let rules = section.section("modules", "trust.modules", &[]);
    let (mut pairs, mut rule_lines) = (Vec::new(), Vec::new());
    for (pattern, _) in rules.entries() {
        let name = |value: &DeValue<'_>| match value.as_str() {
            Some(name) if !name.is_empty() => Ok(name.to_owned()),
            _ => Err("the name of a principal".to_owned()),
        };
        let principals =
            rules.values(pattern, "principals like [\"ci@example.com\"]", name).unwrap_or_default();
        if let Err(error) = ModuleRules::new([(pattern.to_owned(), Vec::new())]) {
            rules.mistake(pattern, &error.to_string());
        } else {
            let line = rules.line(pattern);
            rule_lines.push(RuleLine { line, pattern: pattern.to_owned(), principals: principals.clone() });
            pairs.push((pattern.to_owned(), principals));
        }
    }
    let named = section.value("allowed_signers", absolute_path);
    let revoked = section.value("revoked", absolute_path);
    let wrong =
        (named.is_none() && section.has("allowed_signers")) || (revoked.is_none() && section.has("revoked"));
    let lines = TrustLines {
        signers: section.line("allowed_signers"),
        revoked: section.line("revoked"),
        rules: rule_lines,
    };
    let trust = Trust {
        allowed_signers: named.unwrap_or_else(|| "/etc/hotd/allowed_signers".into()),
        revoked,
        modules: ModuleRules::new(pairs).unwrap_or_default(),
        libraries: section.values("libraries", "names of libraries like [\"libc.so.6\"]", library),
    };
    (trust, (!wrong).then_some(lines))
}

fn library(value: &DeValue<'_>) -> Result<String, String> {
    match value.as_str() {
        Some(name) if !name.is_empty() && !name.contains('/') => Ok(name.to_owned()),
        _ => Err("the name of a library, or a pattern with * and ?".to_owned()),
    }
}

fn store(top: &Section<'_>) -> Store {
    let section = top.section("store", "store", &["keep", "max_artifact", "upload_patience"]);
    let default = Store::default();
    Store {
        keep: section.value("keep", count(1..=1000)).unwrap_or(default.keep),
        max_artifact: section.value("max_artifact", size(4096..=4 << 30)).unwrap_or(default.max_artifact),
        upload_patience: section.value("upload_patience", patience).unwrap_or(default.upload_patience),
    }
}

/// Shorter than a second is a hiccup of any network.
fn patience(value: &DeValue<'_>) -> Result<Duration, String> {
    let patience = duration(value)?;
    if patience < Duration::from_secs(1) { Err("at least \"1s\"".to_owned()) } else { Ok(patience) }
}

fn policy(top: &Section<'_>) -> Policy {
    const KEYS: [&str; 19] = [
        "steps",
        "bake",
        "error_rate",
        "p99_ratio",
        "p99_floor",
        "min_requests",
        "patience",
        "start_deadline",
        "health_interval",
        "health_threshold",
        "standby",
        "deadline",
        "expiry",
        "error_cap",
        "spread",
        "spread_over",
        "max_parallel",
        "max_failing",
        "on_crash_loop",
    ];
    let section = top.section("policy", "policy", &KEYS);
    let default = PolicySpec::default();
    let bake = section.value("bake", millis);
    let steps = section.values("steps", "steps like [\"10% 5m\", \"100%\"]", |value| step(value, bake));
    let steps = steps.unwrap_or_else(|| {
        default.steps.iter().map(|step| Step { bake: bake.unwrap_or(step.bake), ..*step }).collect()
    });
    let span = |key, default| section.value(key, millis).unwrap_or(default);
    let share = |key, default| section.value(key, share).unwrap_or(default);
    let number = |key, default| section.value(key, count(0..=1_000_000_000)).unwrap_or(default);
    let spec = PolicySpec {
        steps,
        error_rate: share("error_rate", default.error_rate),
        p99_ratio: section.value("p99_ratio", ratio).unwrap_or(default.p99_ratio),
        p99_floor: span("p99_floor", default.p99_floor),
        min_requests: number("min_requests", default.min_requests),
        patience: span("patience", default.patience),
        start_deadline: span("start_deadline", default.start_deadline),
        health_interval: span("health_interval", default.health_interval),
        health_threshold: section
            .value("health_threshold", count(0..=1_000_000))
            .unwrap_or(default.health_threshold),
        standby: span("standby", default.standby),
        deadline: span("deadline", default.deadline),
        expiry: span("expiry", default.expiry),
        error_cap: share("error_cap", default.error_cap),
        spread: section.value("spread", flag).unwrap_or(default.spread),
        spread_over: section.value("spread_over", label).filter(|label| !label.is_empty()),
        max_parallel: section.value("max_parallel", count(0..=1_000_000)).and_then(NonZeroU32::new),
        max_failing: section.value("max_failing", count(0..=1_000_000)).unwrap_or(default.max_failing),
    };
    Policy::new(spec).unwrap_or_else(|error| {
        for mistake in error.mistakes {
            let text = mistake.to_string();
            let text =
                text.strip_prefix(mistake.field()).and_then(|text| text.strip_prefix(": ")).unwrap_or(&text);
            section.mistake(mistake.field(), text);
        }
        Policy::default()
    })
}

/// What of it can be a label, the policy says.
fn label(value: &DeValue<'_>) -> Result<String, String> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| "a label of nodes like \"zone\", or \"\" for none".to_owned())
}

fn on_crash_loop(top: &Section<'_>) -> OnCrashLoop {
    // What is unknown in the section is said with the rest of it.
    let value = |value: &DeValue<'_>| match value.as_str() {
        Some("keep") => Ok(OnCrashLoop::Keep),
        Some("go_back") => Ok(OnCrashLoop::GoBack),
        _ => Err("\"keep\" or \"go_back\"".to_owned()),
    };
    top.section("policy", "policy", &[]).value("on_crash_loop", value).unwrap_or_default()
}

fn spawn(top: &Section<'_>) -> Spawn {
    let section = top.section("spawn", "spawn", &["socket"]);
    Spawn::Socket(section.value("socket", socket_path).unwrap_or_else(|| "/run/hot-spawn/spawn.sock".into()))
}

fn log(top: &Section<'_>) -> Log {
    let section = top.section("log", "log", &["level", "format"]);
    let default = Log::default();
    let level = |value: &DeValue<'_>| {
        const EXPECTED: &str =
            "a level (error, warn, info, debug, trace) or levels by target like \"info,hotd::gateway=debug\"";
        let text = value.as_str().ok_or(EXPECTED)?;
        crate::telemetry::filter(text).map(|_| text.to_owned()).map_err(|_no_filter| EXPECTED.to_owned())
    };
    let format = |value: &DeValue<'_>| match value.as_str() {
        Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        _ => Err("\"text\" or \"json\"".to_owned()),
    };
    Log {
        level: section.value("level", level).unwrap_or(default.level),
        format: section.value("format", format).unwrap_or(default.format),
    }
}

/// The machine's host name, unless the config says another.
pub(super) fn host_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(text.trim_end().to_owned()).filter(|name| is_host_name(name))
}

fn default_node(top: &Section<'_>) -> String {
    host_name().unwrap_or_else(|| {
        if !top.has("node") {
            top.mistake(
                "node",
                "is missing and this machine has no usable host name, expected a name like \"web-1\"",
            );
        }
        String::new()
    })
}
