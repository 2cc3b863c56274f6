//! For which nodes a release is, by their labels. Pure; that a node alone has no labels is known here and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use hot_artifact::ModuleName;
use hot_rollout::placement::is_for;
use hot_rollout::{Labels, Node, Policy, ReleaseNumber};

use super::{Parts, Refusal};
use crate::cluster::Cluster;
use crate::ledger::Ledger;
use crate::store::ModuleRecord;

/// Labels that a refusal names at the most.
const NAMED: usize = 20;

/// What a release of a module is for.
pub(super) fn of(record: &ModuleRecord, release: ReleaseNumber) -> Labels {
    record.releases().get(&release.0).map(|release| release.on.clone()).unwrap_or_default()
}

/// What the next release of `module` is for: what was asked for, else what its stable release is for.
pub(super) fn meant(ledger: &Ledger, module: &ModuleName, asked: Option<&Labels>) -> Labels {
    let of_stable = || {
        let record = ledger.module(module)?;
        Some(of(&record, Ledger::stable(&record)?))
    };
    asked.cloned().or_else(of_stable).unwrap_or_default()
}

/// The nodes of a rollout of what is for `on`, and what the rollout is to go by: nothing on a node that is alone, whose
/// releases may be of a time in a fleet.
pub(super) fn nodes(cluster: &Cluster, on: Labels) -> Result<(BTreeSet<Node>, Labels), Refusal> {
    match cluster {
        Cluster::Local(local) => Ok((local.nodes(), Labels::new())),
        Cluster::Fleet(_) => Ok((matching(cluster.nodes(), &cluster.labels(), &on)?, on)),
    }
}

/// Whether a rollout to `release` has this node take part: one that is kept out, or is for nothing of it, is left as it is.
pub(super) fn is_for_here(parts: &Parts, module: &ModuleName, release: ReleaseNumber) -> bool {
    let Cluster::Fleet(_) = &parts.cluster else { return true };
    let labels = parts.cluster.labels();
    let (Some(labels), Some(record)) = (labels.get(&parts.node), parts.ledger.module(module)) else {
        return false;
    };
    is_for(&of(&record, release), labels)
}

/// Those of these nodes that what is for `from` is for, and what is for `to` is not: they lose a module that moves so.
pub(super) fn losing(nodes: &BTreeMap<Node, Labels>, from: &Labels, to: &Labels) -> BTreeSet<Node> {
    let loses = |labels: &Labels| is_for(from, labels) && !is_for(to, labels);
    nodes.iter().filter(|(_, labels)| loses(labels)).map(|(node, _)| node.clone()).collect()
}

/// That labels are asked for only where nodes have some.
pub(super) fn check(cluster: &Cluster, asked: Option<&Labels>) -> Result<(), Refusal> {
    match (cluster, asked) {
        (Cluster::Local(_), Some(asked)) if !asked.is_empty() => Err(Refusal::NoFleet { on: said(asked) }),
        _ => Ok(()),
    }
}

/// That steps are spread over a label that some node has.
pub(super) fn check_domains(cluster: &Cluster, policy: &Policy) -> Result<(), Refusal> {
    match (cluster, policy.spec().spread_over.as_ref()) {
        (Cluster::Fleet(_), Some(label)) => domains_of(&cluster.labels(), label),
        (Cluster::Local(_), _) | (Cluster::Fleet(_), None) => Ok(()),
    }
}

fn domains_of(labels: &BTreeMap<Node, Labels>, label: &str) -> Result<(), Refusal> {
    if labels.values().any(|labels| labels.contains_key(label)) {
        return Ok(());
    }
    let names: BTreeSet<&str> =
        labels.values().flat_map(|labels| labels.keys().map(String::as_str)).collect();
    let there: Vec<&str> = names.into_iter().take(NAMED).collect();
    Err(Refusal::NoDomains { label: label.to_owned(), there: there.join(", ") })
}

fn matching(
    nodes: BTreeSet<Node>,
    labels: &BTreeMap<Node, Labels>,
    on: &Labels,
) -> Result<BTreeSet<Node>, Refusal> {
    if on.is_empty() {
        return Ok(nodes);
    }
    let has = |node: &Node| labels.get(node).is_some_and(|labels| is_for(on, labels));
    let found: BTreeSet<Node> = nodes.into_iter().filter(has).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let all: BTreeSet<String> = labels.values().flatten().map(pair).collect();
    let mut there: Vec<String> = all.iter().take(NAMED).cloned().collect();
    if all.len() > NAMED {
        there.push(format!("{} more", all.len() - NAMED));
    }
    Err(Refusal::NoNodes { on: said(on), there: there.join(", ") })
}

/// Labels as people type them: `disk=fast, zone=a`.
pub(super) fn said(labels: &Labels) -> String {
    labels.iter().map(pair).collect::<Vec<_>>().join(", ")
}

fn pair((name, value): (&String, &String)) -> String {
    format!("{name}={value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        let pairs = text.split_whitespace().map(|pair| pair.split_once('=').unwrap());
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn fleet() -> BTreeMap<Node, Labels> {
        [("n1", "zone=a disk=fast"), ("n2", "zone=a"), ("n3", "zone=b"), ("n4", "")]
            .map(|(node, of)| (Node::from(node), labels(of)))
            .into()
    }

    #[test]
    fn steps_are_spread_over_a_label_that_there_is() {
        assert_eq!(domains_of(&fleet(), "disk"), Ok(()));
        let refused = domains_of(&fleet(), "zoen").unwrap_err();
        assert_eq!(refused.to_string(), "no node has the label `zoen` to spread over; there are disk, zone");
        let refused = domains_of(&BTreeMap::new(), "zone").unwrap_err();
        assert_eq!(refused.to_string(), "no node has the label `zone` to spread over; none has a label");
    }

    fn found(on: &str) -> Result<Vec<String>, Refusal> {
        let fleet = fleet();
        let nodes = matching(fleet.keys().cloned().collect(), &fleet, &labels(on))?;
        Ok(nodes.into_iter().map(|node| node.0).collect())
    }

    #[test]
    fn all_labels_must_hold() {
        assert_eq!(found("").unwrap(), ["n1", "n2", "n3", "n4"]);
        assert_eq!(found("zone=a").unwrap(), ["n1", "n2"]);
        assert_eq!(found("disk=fast zone=a").unwrap(), ["n1"]);
    }

    #[test]
    fn who_had_it_and_is_not_meant_any_more_loses_it() {
        let lost = |from: &str, to: &str| -> Vec<String> {
            losing(&fleet(), &labels(from), &labels(to)).into_iter().map(|node| node.0).collect()
        };
        assert_eq!(lost("", "zone=a"), ["n3", "n4"]);
        assert_eq!(lost("zone=a", "disk=fast"), ["n2"]);
        assert_eq!(lost("zone=a", "zone=b"), ["n1", "n2"]);
        assert!(lost("zone=a", "").is_empty() && lost("zone=a", "zone=a").is_empty());
    }

    #[test]
    fn without_a_node_what_there_is_is_said() {
        let refused = found("zone=c").unwrap_err().to_string();
        assert!(refused.contains("zone=c") && refused.contains("disk=fast, zone=a, zone=b"), "{refused}");
        assert!(found("disk=fast zone=b").is_err());
    }
}
