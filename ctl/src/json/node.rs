//! Shapes of nodes, and of what people do with them.

use std::collections::BTreeMap;

use hot_proto::v1;
use serde::Serialize;

use super::{ProblemJson, time};

/// What `nodes -o json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct NodesJson {
    nodes: Vec<NodeJson>,
}

#[derive(Debug, Serialize)]
struct NodeJson {
    name: String,
    version: String,
    since: Option<String>,
    dev: bool,
    ready: bool,
    missing: Vec<String>,
    http: String,
    target: String,
    leads: bool,
    problems: Vec<ProblemJson>,
    /// Null: rollouts use it.
    cordon: Option<CordonJson>,
    away: bool,
    in_flight: u64,
    labels: BTreeMap<String, String>,
}

/// That a node is kept out of rollouts.
#[derive(Debug, Serialize)]
pub(crate) struct CordonJson {
    by: String,
    since: Option<String>,
    reason: String,
    drain: bool,
}

/// What `cordon -o json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct CordonedJson {
    pub node: String,
    pub already: bool,
    pub cordon: CordonJson,
}

/// What `drain -o json` prints.
pub(crate) type DrainedJson = CordonedJson;

/// What `uncordon -o json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct UncordonedJson {
    pub node: String,
    /// What was ended. Null: nothing was.
    pub cordon: Option<CordonJson>,
}

/// What `leave -o json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct LeftJson {
    pub node: String,
}

impl From<Vec<v1::Node>> for NodesJson {
    fn from(nodes: Vec<v1::Node>) -> Self {
        Self { nodes: nodes.into_iter().map(NodeJson::from).collect() }
    }
}

impl From<v1::Node> for NodeJson {
    fn from(node: v1::Node) -> Self {
        Self {
            name: node.name,
            version: node.version,
            since: time(node.since),
            dev: node.dev,
            ready: node.ready,
            missing: node.missing,
            http: node.http,
            target: node.target,
            leads: node.leads,
            problems: node.problems.into_iter().map(ProblemJson::from).collect(),
            cordon: node.cordon.map(CordonJson::from),
            away: node.away,
            in_flight: node.in_flight,
            labels: node.labels.into_iter().collect(),
        }
    }
}

impl From<v1::Cordon> for CordonJson {
    fn from(cordon: v1::Cordon) -> Self {
        Self { by: cordon.principal, since: time(cordon.since), reason: cordon.reason, drain: cordon.drain }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cordon() -> v1::Cordon {
        v1::Cordon {
            principal: "ann".to_owned(),
            since: Some(prost_types::Timestamp { seconds: 2, nanos: 0 }),
            reason: "disk".to_owned(),
            drain: true,
        }
    }

    #[test]
    fn nodes_hold_still() {
        let node = v1::Node {
            name: "n1".to_owned(),
            version: "0.1.0".to_owned(),
            since: None,
            dev: true,
            ready: true,
            missing: vec!["hosts run as its own user".to_owned()],
            http: "127.0.0.1:80".to_owned(),
            target: "x86_64-linux-gnu".to_owned(),
            leads: true,
            problems: vec![v1::NodeProblem {
                node: "n1".to_owned(),
                code: "trust.frozen".to_owned(),
                text: "line 3".to_owned(),
                since: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
            }],
            cordon: Some(cordon()),
            away: true,
            in_flight: 3,
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            ..v1::Node::default()
        };
        assert_eq!(
            serde_json::to_string(&NodesJson::from(vec![node])).expect("serialises"),
            r#"{"nodes":[{"name":"n1","version":"0.1.0","since":null,"dev":true,"ready":true,"missing":["hosts run as its own user"],"http":"127.0.0.1:80","target":"x86_64-linux-gnu","leads":true,"problems":[{"node":"n1","code":"trust.frozen","text":"line 3","since":"1970-01-01T00:00:01Z"}],"cordon":{"by":"ann","since":"1970-01-01T00:00:02Z","reason":"disk","drain":true},"away":true,"in_flight":3,"labels":{"zone":"a"}}]}"#
        );
    }

    #[test]
    fn what_is_done_with_nodes_holds_still() {
        let cordoned = CordonedJson { node: "n1".to_owned(), already: false, cordon: cordon().into() };
        assert_eq!(
            serde_json::to_string(&cordoned).expect("serialises"),
            r#"{"node":"n1","already":false,"cordon":{"by":"ann","since":"1970-01-01T00:00:02Z","reason":"disk","drain":true}}"#
        );
        let nothing = UncordonedJson { node: "n1".to_owned(), cordon: None };
        let nothing = serde_json::to_string(&nothing).expect("serialises");
        assert_eq!(nothing, r#"{"node":"n1","cordon":null}"#);
        let left = serde_json::to_string(&LeftJson { node: "n1".to_owned() }).expect("serialises");
        assert_eq!(left, r#"{"node":"n1"}"#);
    }
}
