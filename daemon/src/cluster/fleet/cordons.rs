//! The nodes that people keep out of rollouts, or take out of the fleet for good: what the leader writes of them.

use std::time::Duration;

use hot_rollout::Node;

use super::values::{AssignmentValue, CordonValue, encode, parse};
use super::{Fleet, FleetError, State};
use crate::cluster::etcd::{Folder, Key, MAX_OPERATIONS, Write};

/// How long a call waits until this node has heard what it wrote, so that a rollout that begins next goes by it.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

/// What came of a call that keeps a node out of rollouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cordoned {
    /// What is in etcd now.
    pub value: CordonValue,
    /// It was so already, and nothing has changed.
    pub already: bool,
}

impl Cordoned {
    /// Of what is there and what is asked for: a node that is drained stays so, and who asks for what is so already, and
    /// gives no reason, leaves the first word standing.
    fn of(there: Option<CordonValue>, asked: CordonValue) -> Self {
        let Some(there) = there else { return Self { value: asked, already: false } };
        let is_more = asked.drain && !there.drain;
        if !is_more && (asked.reason.is_empty() || asked.reason == there.reason) {
            return Self { value: there, already: true };
        }
        let reason = if asked.reason.is_empty() { there.reason } else { asked.reason };
        Self { value: CordonValue { drain: there.drain || asked.drain, reason, ..asked }, already: false }
    }
}

impl Fleet {
    /// Keeps a node out of rollouts until [`Fleet::uncordon`].
    ///
    /// # Errors
    /// There is no such node, this one does not lead, or etcd can't be written.
    pub async fn cordon(&self, node: &Node, asked: CordonValue) -> Result<Cordoned, FleetError> {
        self.known(node)?;
        let (fleet, of) = (self.clone(), node.clone());
        let cordoned = crate::to_its_end(async move {
            let _cordoning = fleet.0.cordoning.lock().await;
            let cordoned = Cordoned::of(fleet.cordon_of(&of).await?, asked);
            fleet.lead(vec![Write::Put(Key::Cordon(of), encode(&cordoned.value))]).await?;
            Ok::<_, FleetError>(cordoned)
        });
        let cordoned = cordoned.await?;
        self.hear(|state| state.cordons.get(node) == Some(&cordoned.value)).await;
        Ok(cordoned)
    }

    /// Lets rollouts use a node again. Gives what was ended; none: it was not kept out.
    ///
    /// # Errors
    /// As [`Fleet::cordon`].
    pub async fn uncordon(&self, node: &Node) -> Result<Option<CordonValue>, FleetError> {
        self.known(node)?;
        let (fleet, of) = (self.clone(), node.clone());
        let there = crate::to_its_end(async move {
            let _cordoning = fleet.0.cordoning.lock().await;
            let there = fleet.cordon_of(&of).await?;
            fleet.lead(vec![Write::Delete(Key::Cordon(of))]).await?;
            Ok::<_, FleetError>(there)
        });
        let there = there.await?;
        self.hear(|state| !state.cordons.contains_key(node)).await;
        Ok(there)
    }

    /// Takes a node that is gone out of the fleet: all that only it had in etcd goes.
    ///
    /// # Errors
    /// As [`Fleet::cordon`], and for a node that is there.
    pub async fn remove_node(&self, node: &Node) -> Result<(), FleetError> {
        self.known(node)?;
        if self.state().is_up(node) {
            return Err(FleetError::NodeUp { node: node.clone() });
        }
        let mut writes =
            vec![Write::Delete(Key::Node(node.clone())), Write::Delete(Key::Cordon(node.clone()))];
        for found in self.list(&Folder::Assignments(node.clone())).await? {
            let Some(Key::Assignment(_, module)) = self.keys().parse(&found.key) else { continue };
            let given = parse::<AssignmentValue>(&found.key, &found.value).ok().and_then(|value| value.given);
            if let Some(given) = given {
                let mut written = self.written();
                let left = written.left.entry(module.clone()).or_default();
                *left = given.assignment.revision.max(*left);
            }
            writes.push(Write::Delete(Key::Assignment(node.clone(), module)));
        }
        let local = self.state();
        let local =
            local.local_rollbacks(node).map(|(module, _)| Key::LocalRollback(node.clone(), module.clone()));
        writes.extend(local.map(Write::Delete));
        // What it reported, and which artifacts it had, went with its lease. The node itself comes last: until it is gone
        // the call can be made once more.
        writes.reverse();
        for some in writes.chunks(MAX_OPERATIONS / 2) {
            self.lead(some.to_vec()).await?;
        }
        self.written().assignments.retain(|(of, _), _| of != node);
        self.hear(|state| !state.nodes.contains_key(node)).await;
        Ok(())
    }

    /// Whether the fleet has this node, as the leader must know.
    fn known(&self, node: &Node) -> Result<(), FleetError> {
        self.term()?;
        if self.state().nodes.contains_key(node) {
            return Ok(());
        }
        Err(FleetError::NoNode { node: node.clone() })
    }

    /// What is in etcd now: this node may not have heard of it yet.
    async fn cordon_of(&self, node: &Node) -> Result<Option<CordonValue>, FleetError> {
        let found = self.connection().get(&self.keys().of(&Key::Cordon(node.clone()))).await?;
        Ok(found.and_then(|found| parse(&found.key, &found.value).ok()))
    }

    /// Waits until this node has heard something that is in etcd. It is so, heard or not.
    pub(super) async fn hear(&self, is_so: impl FnMut(&std::sync::Arc<State>) -> bool) {
        drop(tokio::time::timeout(HEARD_WITHIN, self.states().wait_for(is_so)).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(by: &str, reason: &str, drain: bool) -> CordonValue {
        CordonValue { by: by.to_owned(), at: 1, reason: reason.to_owned(), drain }
    }

    fn of(there: Option<CordonValue>, asked: CordonValue) -> (CordonValue, bool) {
        let Cordoned { value, already } = Cordoned::of(there, asked);
        (value, already)
    }

    #[test]
    fn the_first_word_stands_until_there_is_more_to_say() {
        let ann = || value("ann", "disk", false);
        assert_eq!(of(None, ann()), (ann(), false));
        assert_eq!(of(Some(ann()), value("bob", "", false)), (ann(), true));
        assert_eq!(of(Some(ann()), value("bob", "disk", false)), (ann(), true));
        assert_eq!(of(Some(ann()), value("bob", "fan", false)), (value("bob", "fan", false), false));
    }

    #[test]
    fn a_drain_goes_beyond_a_cordon_and_is_not_undone_by_one() {
        let (cordon, drain) = (value("ann", "disk", false), value("ann", "disk", true));
        let more = of(Some(cordon), value("bob", "", true));
        assert_eq!(more, (value("bob", "disk", true), false));
        assert_eq!(of(Some(drain.clone()), value("bob", "", false)), (drain.clone(), true));
        assert_eq!(of(Some(drain), value("bob", "fan", false)), (value("bob", "fan", true), false));
    }

    #[test]
    fn a_cordon_of_an_older_hotd_is_no_drain() {
        let old: CordonValue = serde_json::from_str(r#"{"by":"ann","at":1}"#).unwrap();
        assert_eq!(old, value("ann", "", false));
        assert_eq!(serde_json::to_string(&old).unwrap(), r#"{"by":"ann","at":1,"reason":""}"#);
    }
}
