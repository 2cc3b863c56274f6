//! A history that is as full as it gets, made of copies of the last rollout and of what it told.
//!
//! Written with hotd's own store while hotd is down: by pushes it would take an hour.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use hotd::store::{Event, EventQuery, Options, RolloutId, RolloutRecord, Store};

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Full {
    pub(crate) rollouts: usize,
    pub(crate) events: usize,
}

/// Fills the history in this data folder.
pub(super) fn fill(folder: &Path) -> Result<Full> {
    let options = Options::default();
    let full = Full { rollouts: options.max_ended_rollouts, events: options.max_events };
    let (store, _) = Store::open(folder, options).context("the store")?;
    let last = store.ended_rollouts(1).context("the rollouts that ended")?.pop();
    let last = last.context("found no rollout that has ended, expected one to copy")?;
    let query = EventQuery { rollout: Some(last.id.clone()), limit: full.events, ..EventQuery::default() };
    let told: Vec<Event> =
        store.events(&query).context("what it told")?.into_iter().map(|of| of.event).collect();
    ensure!(!told.is_empty(), "found no event of rollout {}, expected some to copy", last.id.as_str());
    let snapshot = last.snapshot.to_string();
    for number in 0..full.rollouts {
        let name = format!("{}-{number:04}", last.id.as_str());
        let id: RolloutId = name.parse().context("the name of a copy")?;
        for event in told.iter().cycle().take(full.events / full.rollouts) {
            store.append_event(&Event { rollout: Some(id.clone()), ..event.clone() }).context("an event")?;
        }
        let snapshot =
            serde_json::from_str(&snapshot.replace(last.id.as_str(), &name)).context("a snapshot")?;
        let request = Some(name.parse().context("the name of a request")?);
        store.end_rollout(RolloutRecord { id, request, snapshot }).context("a rollout")?;
    }
    Ok(full)
}
