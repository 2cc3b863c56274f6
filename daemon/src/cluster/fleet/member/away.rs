//! Whether this node tells load balancers to go away, as its cordon in etcd says, and kept in a file over a restart: a node
//! that can't hear etcd stays as it last was.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::MemberParts;
use crate::cluster::fleet::values::CordonValue;
use crate::gateway::Gateway;
use crate::journal::Entry;

/// The file below the data folder: there while the node is away, with why.
const FILE: &str = "fleet/away";

/// Keeps whether the node is away; clones are the same.
#[derive(Clone, Debug)]
pub struct Away {
    gateway: Gateway,
    file: Arc<PathBuf>,
}

impl Away {
    /// As it was when the node ended last. To be called before the gateway has its first table: from then on it says that
    /// it is ready.
    #[must_use]
    pub fn open(data_dir: &Path, gateway: Gateway) -> Self {
        let file = data_dir.join(FILE);
        match std::fs::read_to_string(&file) {
            Ok(why) => gateway.send_away(Some(why)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, "whether this node was drained is not known until etcd says so")
            }
        }
        Self { gateway, file: Arc::new(file) }
    }

    /// A node that is in no fleet is kept out of nothing.
    pub fn forget(data_dir: &Path) {
        if let Err(error) = crate::store::keep_file(&data_dir.join(FILE), None) {
            tracing::warn!(%error, "the record that this node was drained stays behind");
        }
    }

    /// Sends load balancers away, or has them come again, and keeps that.
    async fn set(&self, why: Option<String>) -> io::Result<()> {
        self.gateway.send_away(why.clone());
        let file = Arc::clone(&self.file);
        crate::blocking(move || crate::store::keep_file(&file, why.as_deref().map(str::as_bytes))).await
    }
}

impl super::Member {
    /// Does what the node's own cordon says, whenever that changes.
    pub(super) async fn follow_cordon(self) {
        let MemberParts { fleet, away, journal, agent, .. } = &*self.parts;
        let mut states = fleet.states();
        // Load balancers are not to come to a node that was never told what to serve.
        let is_new = agent.slots(|slots| slots.is_empty()) && away.gateway.away().is_none();
        if is_new {
            away.gateway.send_away(Some("this node is new, and has not heard its fleet yet".to_owned()));
        }
        // Before all is heard, that there is no cordon says nothing.
        if fleet.standing().wait_for(|standing| standing.heard).await.is_err() {
            return;
        }
        if is_new {
            away.gateway.send_away(None);
        }
        // What is kept; what could not be is tried again at the next word.
        let mut kept = None;
        loop {
            let cordon = states.borrow_and_update().cordons.get(fleet.node()).cloned();
            let drain = cordon.filter(|cordon| cordon.drain);
            let why = drain.as_ref().map(|cordon| match cordon.reason.as_str() {
                "" => format!("this node is drained by {}", cordon.by),
                reason => format!("this node is drained by {}: {reason}", cordon.by),
            });
            if kept.as_ref() != Some(&why) {
                let was = away.gateway.away();
                match away.set(why.clone()).await {
                    Ok(()) => kept = Some(why.clone()),
                    Err(error) => {
                        tracing::error!(%error, "that this node is drained, or not, may be lost with a restart");
                    }
                }
                if was.is_some() != why.is_some() {
                    journal.write(news(drain.as_ref())).await;
                }
            }
            if states.changed().await.is_err() {
                return;
            }
        }
    }
}

/// That the node goes away, or is back.
fn news(drain: Option<&CordonValue>) -> Entry {
    let (kind, text) = match drain {
        Some(_) => ("node.away", "this node tells load balancers to go away: /-/ready answers 503"),
        None => ("node.back", "this node is ready for load balancers again"),
    };
    let by = drain.map(|cordon| cordon.by.clone()).unwrap_or_default();
    Entry { kind, by, text: text.to_owned(), ..Entry::default() }
}
