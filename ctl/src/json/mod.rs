//! The shapes of `-o json`. Stable: keys are never renamed or removed, only added; `docs/cli.md` lists them and the
//! tests below hold them still. Text that is not known is an empty string, and what may be absent as a whole is null.

mod inspect;
mod metrics;
mod module;
mod node;
mod plan;
mod rollout;
mod swap;

use std::collections::BTreeMap;

use hot_proto::v1;
use serde::Serialize;

#[cfg(test)]
pub(crate) use inspect::{
    EntryJson, ExportedJson, ImportedJson, LibraryVersionJson, RefusalJson, StateJson, SymbolsJson,
};
pub(crate) use inspect::{ImportJson, InspectJson, LibraryJson, SignatureJson};
pub(crate) use metrics::MetricsJson;
pub(crate) use module::{HistoryJson, LogLineJson, ModulesJson, RemovedJson, RestartedJson, VersionsJson};
pub(crate) use node::{CordonedJson, DrainedJson, LeftJson, NodesJson, UncordonedJson};
pub(crate) use plan::PlanJson;
pub(crate) use rollout::{LiftJson, RollbackJson, RolloutJson};
use swap::SwapJson;

use crate::words;

/// One release of a module.
#[derive(Debug, Serialize)]
pub(crate) struct ReleaseJson {
    release: u64,
    version: String,
    digest: String,
    /// The labels of the nodes that it is for. Without any: all nodes.
    on: BTreeMap<String, String>,
}

impl From<v1::ReleaseRef> for ReleaseJson {
    fn from(release: v1::ReleaseRef) -> Self {
        let on = release.on.into_iter().collect();
        Self { release: release.release, version: release.version, digest: release.digest, on }
    }
}

/// A time in RFC 3339, or null.
fn time(value: Option<prost_types::Timestamp>) -> Option<String> {
    value.map(words::time)
}

/// A figure with three decimals, as many as mean something: `0.1 + 0.2` is 0.3.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// One event.
#[derive(Debug, Serialize)]
pub(crate) struct EventJson {
    sequence: u64,
    time: Option<String>,
    kind: String,
    node: String,
    module: String,
    rollout: String,
    principal: String,
    text: String,
    /// Of `swap.done`, else null.
    swap: Option<SwapJson>,
}

impl From<v1::Event> for EventJson {
    fn from(event: v1::Event) -> Self {
        Self {
            sequence: event.sequence,
            time: time(event.time),
            kind: event.kind,
            node: event.node,
            module: event.module,
            rollout: event.rollout,
            principal: event.principal,
            text: event.text,
            swap: event.swap.map(SwapJson::from),
        }
    }
}

/// Whose answers these are, and whose are missing.
#[derive(Debug, Serialize)]
pub(crate) struct HeardJson {
    heard: Vec<String>,
    silent: Vec<String>,
}

impl From<&v1::Heard> for HeardJson {
    fn from(heard: &v1::Heard) -> Self {
        Self { heard: heard.nodes.clone(), silent: heard.silent.clone() }
    }
}

/// Something that is wrong with a node now.
#[derive(Debug, Serialize)]
pub(crate) struct ProblemJson {
    node: String,
    code: String,
    text: String,
    since: Option<String>,
}

impl From<v1::NodeProblem> for ProblemJson {
    fn from(problem: v1::NodeProblem) -> Self {
        Self { node: problem.node, code: problem.code, text: problem.text, since: time(problem.since) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_holds_still() {
        let event = v1::Event {
            sequence: 7,
            time: Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }),
            kind: "rollout.started".to_owned(),
            node: "n1".to_owned(),
            module: "greeter".to_owned(),
            rollout: "r1".to_owned(),
            principal: "me".to_owned(),
            text: "started".to_owned(),
            swap: None,
        };
        assert_eq!(
            serde_json::to_string(&EventJson::from(event)).expect("serialises"),
            r#"{"sequence":7,"time":"1970-01-01T00:00:01.500Z","kind":"rollout.started","node":"n1","module":"greeter","rollout":"r1","principal":"me","text":"started","swap":null}"#
        );
    }
}
