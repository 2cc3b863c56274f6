//! Whether hot-spawn is there: as it is now, and each time that it changes.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{broadcast, watch};

/// Losses of hot-spawn that whoever listens may lag behind.
const LAG: usize = 16;

/// A change of whether hot-spawn is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// It was lost, and so many hosts with it.
    Lost {
        /// Hosts that ran.
        hosts: usize,
        /// What happened.
        text: String,
    },
    /// It is there again, with none of those hosts.
    Back,
}

/// hot-spawn is gone: no host runs, and none can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    /// Since when.
    pub since: SystemTime,
    /// What happened.
    pub text: String,
}

/// What the connection knows, for everybody; clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Presences {
    told: broadcast::Sender<Presence>,
    now: watch::Sender<Option<Arc<Absence>>>,
}

impl Presences {
    /// It is there.
    pub(super) fn new() -> Self {
        Self { told: broadcast::Sender::new(LAG), now: watch::Sender::new(None) }
    }

    pub(super) fn lost(&self, hosts: usize, text: &str) {
        let absence = Absence { since: SystemTime::now(), text: text.to_owned() };
        self.now.send_replace(Some(Arc::new(absence)));
        // Nobody may be listening.
        self.told.send(Presence::Lost { hosts, text: text.to_owned() }).unwrap_or_default();
    }

    /// It is still gone, for a reason that says more.
    pub(super) fn still_lost(&self, text: &str) {
        self.now.send_if_modified(|now| {
            let Some(absence) = now.as_ref().filter(|absence| absence.text != text) else { return false };
            *now = Some(Arc::new(Absence { since: absence.since, text: text.to_owned() }));
            true
        });
    }

    pub(super) fn back(&self) {
        self.now.send_replace(None);
        self.told.send(Presence::Back).unwrap_or_default();
    }

    /// Each loss and each return from now on.
    pub(super) fn changes(&self) -> broadcast::Receiver<Presence> {
        self.told.subscribe()
    }

    /// As it is.
    pub(super) fn now(&self) -> watch::Receiver<Option<Arc<Absence>>> {
        self.now.subscribe()
    }
}
