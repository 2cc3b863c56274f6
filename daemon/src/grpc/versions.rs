//! Versions of a module over a fleet: which nodes store what.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use hot_artifact::{ModuleName, Version};
use hot_proto::v1;
use hot_proto::v1::module_service_client::ModuleServiceClient;
use hot_rollout::Node;

use super::Api;
use super::everywhere::Whose;

/// What all of these nodes store and remember, with `here` as this node's.
pub(super) async fn everywhere(
    api: &Api,
    name: &ModuleName,
    here: Vec<v1::Version>,
    whose: Whose,
) -> v1::VersionsResponse {
    let here = &here;
    let ask = |node: Node| async move {
        if api.is_this(&node) {
            return Some((node, here.clone()));
        }
        let request = v1::VersionsRequest { module: name.to_string() };
        let mut client = ModuleServiceClient::new(api.reach(&node).await?);
        let versions = client.versions(api.asking(request)).await.ok()?.into_inner().versions;
        Some((node, versions))
    };
    let (answers, heard) = api.ask_each(whose, ask).await;
    v1::VersionsResponse { versions: merged(answers), heard: Some(heard) }
}

/// Each version for a target once, newest first, with the nodes that store it. What is stored anywhere is no tombstone.
fn merged(answers: Vec<(Node, Vec<v1::Version>)>) -> Vec<v1::Version> {
    let mut all: BTreeMap<(String, String, String), v1::Version> = BTreeMap::new();
    for (node, versions) in answers {
        for version in versions {
            let key = (version.version.clone(), version.target.clone(), version.digest.clone());
            let known = all.entry(key).or_insert_with(|| version.clone());
            if known.removed && !version.removed {
                *known = version.clone();
            }
            if !version.removed {
                known.nodes.push(node.0.clone());
            }
            if known.quarantined.is_empty() {
                known.quarantined.clone_from(&version.quarantined);
            }
            // Stable comes before candidate, and that before standby.
            if version.role != 0 && (known.role == 0 || version.role < known.role) {
                known.role = version.role;
            }
        }
    }
    let mut versions: Vec<v1::Version> = all.into_values().collect();
    versions.sort_by_key(|of| Reverse(of.version.parse::<Version>().ok()));
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(version: &str, role: v1::Role, removed: bool) -> v1::Version {
        v1::Version { version: version.to_owned(), role: role.into(), removed, ..v1::Version::default() }
    }

    #[test]
    fn a_version_is_listed_once_with_those_that_store_it() {
        let none = v1::Role::Unspecified;
        let n1 = vec![version("1.0.0", none, true), version("1.9.0", v1::Role::Standby, false)];
        let n2 = vec![
            version("1.10.0", v1::Role::Candidate, false),
            version("1.9.0", v1::Role::Stable, false),
            version("1.0.0", none, false),
            version("0.9.0", none, true),
        ];
        let versions = merged(vec![(Node("n1".to_owned()), n1), (Node("n2".to_owned()), n2)]);
        let shown: Vec<_> = versions
            .iter()
            .map(|of| (of.version.as_str(), of.role(), of.removed, of.nodes.join(" ")))
            .collect();
        assert_eq!(
            shown,
            [
                ("1.10.0", v1::Role::Candidate, false, "n2".to_owned()),
                ("1.9.0", v1::Role::Stable, false, "n1 n2".to_owned()),
                ("1.0.0", none, false, "n2".to_owned()),
                ("0.9.0", none, true, String::new()),
            ]
        );
    }
}
