//! What people do, and what goes wrong.

use hot_rollout::{Command, Millis};

use super::World;
use crate::net::Happening;
use crate::node::Membership;
use crate::scenario::{Fault, Order};

/// A person whose command is not heard tries again after so long.
const TRIES_AGAIN: Millis = Millis::seconds(5);

impl World<'_> {
    pub(super) fn order(&mut self, number: usize) {
        let (_, order) = &self.scenario.orders[number];
        if let Some(place) = of_node(order) {
            return self.order_of_node(order, place);
        }
        if !self.driver.alive || !self.cluster.up {
            return self.queue.push(self.now.plus(TRIES_AGAIN), Happening::Order(number));
        }
        let by = || "bob".to_owned();
        let done = self.drive(|driver, hands| match order {
            Order::Push => driver.push(hands),
            Order::Rollback => driver.go_back(hands),
            Order::Abort => driver.command(Command::Abort { by: by() }, hands),
            Order::Pause => driver.command(Command::Pause { by: by() }, hands),
            Order::Resume => driver.command(Command::Resume { by: by() }, hands),
            Order::Promote { full } => driver.command(Command::Promote { by: by(), full: *full }, hands),
            Order::ByHand(_) | Order::Alone(_) | Order::Lift(_) | Order::Cordon(_) | Order::Uncordon(_) => {
                Ok(())
            }
        });
        self.survive(done);
    }

    fn order_of_node(&mut self, order: &Order, place: usize) {
        match order {
            Order::ByHand(_) | Order::Alone(_) => {
                self.nodes[place].alone |= matches!(order, Order::Alone(_));
                if self.nodes[place].runs {
                    let said = self.nodes[place].by_hand(self.scenario, self.now, &mut self.users);
                    self.report(place, said);
                }
            }
            Order::Lift(_) => {
                self.nodes[place].alone = false;
                self.read_again(place);
            }
            Order::Cordon(_) if self.nodes[place].membership == Membership::In => {
                self.nodes[place].membership = Membership::Cordoned;
            }
            Order::Uncordon(_) if self.nodes[place].membership == Membership::Cordoned => {
                self.nodes[place].membership = Membership::In;
            }
            Order::Cordon(_)
            | Order::Uncordon(_)
            | Order::Push
            | Order::Rollback
            | Order::Abort
            | Order::Pause
            | Order::Resume
            | Order::Promote { .. } => {}
        }
        self.look_at(place);
    }

    pub(super) fn fault(&mut self, number: usize) {
        let (_, fault) = &self.scenario.faults[number];
        match fault {
            Fault::Cut(place) => {
                self.nodes[*place].cut = true;
                self.lose_sight(*place);
            }
            Fault::Heal(place) => {
                self.nodes[*place].cut = false;
                self.come_into_sight(*place);
            }
            Fault::Down(place) => {
                self.nodes[*place].runs = false;
                self.lose_sight(*place);
            }
            Fault::Boots(place) if self.nodes[*place].membership != Membership::Out => {
                self.nodes[*place].restart(false, self.scenario, self.now, &mut self.users);
                self.come_into_sight(*place);
            }
            Fault::Restarts(place) if self.nodes[*place].runs => {
                self.nodes[*place].restart(true, self.scenario, self.now, &mut self.users);
                self.come_into_sight(*place);
            }
            Fault::Joins(place) if self.nodes[*place].membership == Membership::Out => {
                self.nodes[*place].membership = Membership::In;
                self.nodes[*place].restart(false, self.scenario, self.now, &mut self.users);
                self.come_into_sight(*place);
            }
            Fault::Leaves(place) => {
                self.nodes[*place].membership = Membership::Out;
                self.look_at(*place);
            }
            Fault::Relabels(place, zone) => {
                self.nodes[*place].zone = Some(zone.clone());
                self.look_at(*place);
            }
            Fault::LosesInstances(place) => {
                let said = self.nodes[*place].lose_instances(self.now);
                self.report(*place, said);
                self.schedule_wake(*place);
            }
            Fault::StoreDown => self.cluster.up = false,
            Fault::StoreUp => {
                self.cluster.up = true;
                (0..self.nodes.len()).for_each(|place| self.read_again(place));
                self.look_at_all();
            }
            Fault::ClockAhead(by) => self.driver.set_clock(*by, Millis(0)),
            Fault::ClockBack(by) => self.driver.set_clock(Millis(0), *by),
            Fault::Boots(_) | Fault::Restarts(_) | Fault::Joins(_) => {}
        }
    }

    /// A node can't be reached from now on; after its lease that is noticed.
    fn lose_sight(&mut self, place: usize) {
        if self.unheard[place].is_none() {
            self.unheard[place] = Some(self.now);
            self.queue.push(self.now.plus(self.scenario.net.lease), Happening::Presence(place));
        }
    }

    /// A node is there again, if nothing else is in its way: it reads what it is to run.
    fn come_into_sight(&mut self, place: usize) {
        if self.nodes[place].is_heard() {
            self.unheard[place] = None;
            self.read_again(place);
            let at = self.scenario.net.arrival(&mut self.net, self.now);
            self.queue.push(at, Happening::Presence(place));
            self.schedule_wake(place);
        }
    }

    /// A node hears what the cluster has for it.
    fn read_again(&mut self, place: usize) {
        let name = &self.nodes[place].name;
        let mine = self.cluster.assignments.iter().filter(|((of, _), _)| of == name);
        let mine: Vec<_> = mine.map(|(_, assignment)| assignment.clone()).collect();
        for assignment in mine {
            let at = self.scenario.net.arrival(&mut self.net, self.now);
            self.queue.push(at, Happening::Word(place, assignment, false));
        }
    }
}

/// The node that an order is for.
fn of_node(order: &Order) -> Option<usize> {
    match order {
        Order::ByHand(place)
        | Order::Alone(place)
        | Order::Lift(place)
        | Order::Cordon(place)
        | Order::Uncordon(place) => Some(*place),
        Order::Push
        | Order::Rollback
        | Order::Abort
        | Order::Pause
        | Order::Resume
        | Order::Promote { .. } => None,
    }
}
