//! Which nodes are there, as the machine is told of it.

use hot_rollout::{Event, Left, Millis, Node, Time};

use super::{Died, Driver, Hands};
use crate::node::{Membership, Model};
use crate::scenario::labels;

/// What was told of a node last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is there, by the `hotd` with this number, in this zone, and was rolled back alone.
    Up(u64, Option<String>, bool),
    /// It is not, and was in this zone.
    Down(Option<String>),
    /// It takes no part.
    Left,
}

impl Driver {
    /// Looks at one node; `unheard` is since when it can't be reached.
    pub(crate) fn look_at(
        &mut self,
        node: &Model,
        unheard: Option<Time>,
        lease: Millis,
        hands: &mut Hands<'_>,
    ) -> Result<(), Died> {
        if !self.alive || !hands.cluster.up {
            return Ok(());
        }
        let gone = unheard.is_some_and(|since| hands.now.since(since) >= lease);
        let known = self.told.get(&node.name);
        let is = match node.membership {
            Membership::Cordoned | Membership::Out => Told::Left,
            Membership::In if gone => Told::Down(node.zone.clone()),
            // Within its lease it counts as it was.
            Membership::In if unheard.is_some() && matches!(known, Some(Told::Up(..))) => return Ok(()),
            Membership::In => Told::Up(node.incarnation, node.zone.clone(), node.alone),
        };
        if known == Some(&is) {
            return Ok(());
        }
        self.told.insert(node.name.clone(), is.clone());
        let name = node.name.clone();
        match is {
            Told::Up(_, zone, alone) => {
                self.feed(Event::NodeUp { node: name.clone(), labels: labels(zone.as_deref()) }, hands)?;
                for slot in node.slots.iter().filter(|_| alone) {
                    let (node, module) = (name.clone(), slot.module.clone());
                    self.feed(Event::LocalRollback { node, module, by: "bob".to_owned() }, hands)?;
                }
                self.behind.push(name);
                self.bring_up(hands)
            }
            Told::Down(_) => self.feed(Event::NodeDown { node: name }, hands),
            Told::Left => {
                let why = if node.membership == Membership::Cordoned { Left::Cordoned } else { Left::Fleet };
                self.feed(Event::NodeLeft { node: name, why }, hands)
            }
        }
    }

    /// The node is of no use to a rollout now.
    pub(super) fn is_absent(&self, node: &Node) -> bool {
        matches!(self.told.get(node), Some(Told::Down(_)))
    }

    /// The nodes that take part, each with its zone.
    pub(super) fn members(&self) -> impl Iterator<Item = (&Node, Option<&str>)> {
        self.told.iter().filter_map(|(node, told)| match told {
            Told::Up(_, zone, _) | Told::Down(zone) => Some((node, zone.as_deref())),
            Told::Left => None,
        })
    }
}
