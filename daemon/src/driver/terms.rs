//! The driver of a fleet's node: it drives while the node leads, and says who does otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::actor::Actor;
use super::{Ask, Refusal};
use crate::cluster::etcd::Term;
use crate::cluster::fleet::Standing;
use crate::cluster::{Cluster, Fleet, FleetError};
use crate::journal::Entry;

/// Events that may wait for the driver's task.
const WAITING_EVENTS: usize = 1024;
/// Between two tries to take over, and how many there are: what ails this node need not ail another.
const RETRY: Duration = Duration::from_secs(1);
const MAX_TRIES: u32 = 3;

/// Drives in each term of this node until `stopped`.
pub(super) async fn run(
    fleet: Fleet,
    mut actor: Actor,
    mut asks: mpsc::Receiver<Ask>,
    drives: Arc<AtomicBool>,
    stopped: CancellationToken,
) {
    let mut standing = fleet.standing();
    let mut tries = 0;
    loop {
        let term = tokio::select! {
            () = stopped.cancelled() => return,
            term = elected(&fleet, &mut standing, &mut asks) => term,
        };
        let Some(term) = term else { return };
        let taken_over = tokio::select! {
            () = stopped.cancelled() => return,
            () = over(&mut standing, &term) => {
                tries = 0;
                actor.step_down();
                continue;
            }
            taken_over = actor.take_over(&fleet) => taken_over,
        };
        if let Err(error) = taken_over {
            tries += 1;
            if tries < MAX_TRIES {
                tracing::warn!(error = %crate::describe(&error), "what the last leader left can't be read yet");
                tokio::select! {
                    () = stopped.cancelled() => return,
                    () = tokio::time::sleep(RETRY) => {}
                }
            } else {
                tries = 0;
                actor.step_down();
                give_up(&fleet, &actor, &term, &error).await;
            }
            continue;
        }
        tries = 0;
        drives.store(true, Ordering::Release);
        let (sender, mut events) = mpsc::channel(WAITING_EVENTS);
        // Before what is being done is dropped: whoever waits for it is to hear why.
        let ends = async {
            over(&mut standing, &term).await;
            drives.store(false, Ordering::Release);
        };
        tokio::select! {
            () = actor.run(&mut asks, &mut events, &stopped) => return,
            () = fleet.feed(sender) => {}
            () = ends => {}
        }
        drives.store(false, Ordering::Release);
        actor.step_down();
        // What this node wrote and did not hear the answer of.
        fleet.keep_modules().await;
    }
}

/// Lets another node lead: this one can't.
async fn give_up(fleet: &Fleet, actor: &Actor, term: &Term, error: &FleetError) {
    let text = format!(
        "this node was to lead its fleet and could not take over, so that another one is to: {}",
        crate::describe(error)
    );
    tracing::error!(epoch = term.epoch(), "{text}");
    fleet.give_up(term).await;
    actor.parts.journal.write(Entry { kind: "fleet.given_up", text, ..Entry::default() }).await;
}

/// The term in which this node leads. Who asks it for anything meanwhile hears who leads.
async fn elected(
    fleet: &Fleet,
    standing: &mut watch::Receiver<Standing>,
    asks: &mut mpsc::Receiver<Ask>,
) -> Option<Term> {
    loop {
        if let Some(term) = standing.borrow_and_update().term.clone() {
            return Some(term);
        }
        tokio::select! {
            changed = standing.changed() => changed.ok()?,
            ask = asks.recv() => {
                ask?.refuse(Refusal::not_leader(&Cluster::Fleet(fleet.clone())));
            }
        }
    }
}

/// Returns when this is not the term any more.
async fn over(standing: &mut watch::Receiver<Standing>, term: &Term) {
    // Where nobody says any more what is so, it is over as well.
    drop(standing.wait_for(|standing| standing.term.as_ref() != Some(term)).await);
}
