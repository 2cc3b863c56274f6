//! Shapes of modules, their versions, history and logs.

use hot_proto::v1;
use serde::Serialize;

use super::rollout::{FailedNodeJson, LocalRollbackJson};
use super::{ProblemJson, ReleaseJson, SwapJson, rounded, time};
use crate::words;

/// What `status -o json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct ModulesJson {
    modules: Vec<ModuleJson>,
    problems: Vec<ProblemJson>,
}

impl ModulesJson {
    pub(crate) fn new(modules: Vec<v1::Module>, problems: Vec<v1::NodeProblem>) -> Self {
        Self {
            modules: modules.into_iter().map(ModuleJson::from).collect(),
            problems: problems.into_iter().map(ProblemJson::from).collect(),
        }
    }
}

/// A module at one moment.
#[derive(Debug, Serialize)]
struct ModuleJson {
    name: String,
    stable: Option<ReleaseJson>,
    candidate: Option<ReleaseJson>,
    standby: Option<ReleaseJson>,
    phase: &'static str,
    /// Basis points.
    share: u32,
    reason: String,
    waiting_on: String,
    failed: Vec<FailedNodeJson>,
    rollout: String,
    routes: Vec<String>,
    nodes: Vec<ModuleNodeJson>,
}

#[derive(Debug, Serialize)]
struct ModuleNodeJson {
    node: String,
    instances: Vec<InstanceJson>,
    /// A person went back on it alone; else null.
    local_rollback: Option<LocalRollbackJson>,
    /// That it took a candidate back by itself, and why; empty: it did not.
    took_back: String,
}

#[derive(Debug, Serialize)]
struct InstanceJson {
    id: u64,
    release: u64,
    version: String,
    digest: String,
    role: Option<&'static str>,
    /// Basis points.
    weight: u32,
    state: &'static str,
    reason: String,
    requests: u64,
    errors: u64,
    in_flight: u64,
    p50_ms: f64,
    p99_ms: f64,
    started: Option<String>,
    pid: u32,
    start_ms: Option<f64>,
    streams: u64,
    streams_failed: u64,
    denied: Vec<DeniedJson>,
    last_lines: Vec<String>,
    missing: Vec<String>,
    user: Option<u32>,
}

/// A system call that was refused.
#[derive(Debug, Serialize)]
struct DeniedJson {
    call: String,
    times: u64,
}

impl From<v1::Module> for ModuleJson {
    fn from(module: v1::Module) -> Self {
        Self {
            phase: words::phase(module.phase),
            name: module.name,
            stable: module.stable.map(ReleaseJson::from),
            candidate: module.candidate.map(ReleaseJson::from),
            standby: module.standby.map(ReleaseJson::from),
            share: module.share,
            reason: module.reason,
            waiting_on: module.waiting_on,
            failed: module.failed.into_iter().map(FailedNodeJson::from).collect(),
            rollout: module.rollout,
            routes: module.routes,
            nodes: module
                .nodes
                .into_iter()
                .map(|node| ModuleNodeJson {
                    node: node.node,
                    instances: node.instances.into_iter().map(InstanceJson::from).collect(),
                    local_rollback: node.local_rollback.map(LocalRollbackJson::from),
                    took_back: node.took_back,
                })
                .collect(),
        }
    }
}

impl From<v1::Instance> for InstanceJson {
    fn from(instance: v1::Instance) -> Self {
        Self {
            id: instance.id,
            release: instance.release,
            role: words::role(instance.role),
            state: words::state(instance.state),
            version: instance.version,
            digest: instance.digest,
            weight: instance.weight,
            reason: instance.reason,
            requests: instance.requests,
            errors: instance.errors,
            in_flight: instance.in_flight,
            p50_ms: rounded(instance.p50_ms),
            p99_ms: rounded(instance.p99_ms),
            started: time(instance.started),
            pid: instance.pid,
            start_ms: instance.start_ms.map(rounded),
            streams: instance.streams,
            streams_failed: instance.streams_failed,
            denied: instance
                .denied
                .into_iter()
                .map(|of| DeniedJson { call: of.call, times: of.times })
                .collect(),
            last_lines: instance.last_lines,
            missing: instance.missing,
            user: instance.user,
        }
    }
}

/// What `versions -o json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct VersionsJson {
    module: String,
    versions: Vec<VersionJson>,
    /// Nodes that did not answer.
    silent: Vec<String>,
}

#[derive(Debug, Serialize)]
struct VersionJson {
    version: String,
    target: String,
    digest: String,
    /// Bytes.
    size: u64,
    principal: String,
    committed: Option<String>,
    role: Option<&'static str>,
    removed: bool,
    quarantined: String,
    gone: String,
    may_return: bool,
    /// Nodes that store it.
    nodes: Vec<String>,
}

impl VersionsJson {
    pub(crate) fn new(module: &str, answer: v1::VersionsResponse) -> Self {
        let versions = answer
            .versions
            .into_iter()
            .map(|version| VersionJson {
                role: words::role(version.role),
                version: version.version,
                target: version.target,
                digest: version.digest,
                size: version.size,
                principal: version.principal,
                committed: time(version.committed),
                removed: version.removed,
                quarantined: version.quarantined,
                gone: version.gone,
                may_return: version.may_return,
                nodes: version.nodes,
            })
            .collect();
        Self { module: module.to_owned(), versions, silent: answer.heard.unwrap_or_default().silent }
    }
}

/// What `history -o json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct HistoryJson {
    module: String,
    entries: Vec<EntryJson>,
}

#[derive(Debug, Serialize)]
struct EntryJson {
    release: Option<ReleaseJson>,
    before: Option<ReleaseJson>,
    rollout: String,
    principal: String,
    started: Option<String>,
    ended: Option<String>,
    message: String,
    /// Null while it runs.
    outcome: Option<&'static str>,
    reason: String,
    rollback: bool,
    stable: bool,
    swaps: Vec<SwapJson>,
}

impl HistoryJson {
    pub(crate) fn new(module: &str, entries: Vec<v1::HistoryEntry>) -> Self {
        let entries = entries
            .into_iter()
            .map(|entry| EntryJson {
                outcome: words::outcome(entry.outcome),
                release: entry.release.map(ReleaseJson::from),
                before: entry.before.map(ReleaseJson::from),
                rollout: entry.rollout,
                principal: entry.principal,
                started: time(entry.started),
                ended: time(entry.ended),
                message: entry.message,
                reason: entry.reason,
                rollback: entry.rollback,
                stable: entry.stable,
                swaps: entry.swaps.into_iter().map(SwapJson::from).collect(),
            })
            .collect();
        Self { module: module.to_owned(), entries }
    }
}

/// One line of `logs -o json`.
#[derive(Debug, Serialize)]
pub(crate) struct LogLineJson {
    time: Option<String>,
    node: String,
    instance: u64,
    release: u64,
    version: String,
    source: &'static str,
    text: String,
}

impl From<v1::LogLine> for LogLineJson {
    fn from(line: v1::LogLine) -> Self {
        Self {
            time: time(line.time),
            node: line.node,
            instance: line.instance,
            release: line.release,
            version: line.version,
            source: words::source(line.source),
            text: line.text,
        }
    }
}

/// What `remove -o json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct RemovedJson {
    pub module: String,
    pub versions: Vec<String>,
    /// Nodes that are not there, and follow when they are back.
    pub away: Vec<String>,
}

/// What `restart -o json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct RestartedJson {
    pub module: String,
    /// Instances that were replaced.
    pub instances: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::examples;

    #[test]
    fn status_holds_still() {
        let problem = v1::NodeProblem {
            node: "n1".to_owned(),
            code: "trust.frozen".to_owned(),
            text: "/etc/hotd/allowed_signers:3: no key".to_owned(),
            since: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        };
        let modules = ModulesJson::new(examples::modules(), vec![problem]);
        let json = serde_json::to_string_pretty(&modules).expect("serialises");
        assert_eq!(json, include_str!("../../tests/shapes/status.json").trim_end());
    }

    #[test]
    fn versions_hold_still() {
        let heard = Some(v1::Heard { nodes: vec!["n1".to_owned()], silent: vec!["n2".to_owned()] });
        let mut versions = examples::versions();
        versions[1].nodes = vec!["n1".to_owned()];
        let answer = v1::VersionsResponse { versions, heard };
        let json = serde_json::to_string_pretty(&VersionsJson::new("greeter", answer));
        assert_eq!(json.expect("serialises"), include_str!("../../tests/shapes/versions.json").trim_end());
    }

    #[test]
    fn history_holds_still() {
        let json = serde_json::to_string_pretty(&HistoryJson::new("greeter", examples::history()));
        assert_eq!(json.expect("serialises"), include_str!("../../tests/shapes/history.json").trim_end());
    }
}
