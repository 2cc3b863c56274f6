//! What happened, for people: written to the store's history and told to those who follow.
//!
//! History, never truth: a line that can't be written is in the log instead, and nothing waits for it.

use std::sync::Arc;

use hot_rollout::{Cause, Command, Note, NoteKind, Reason, RolloutId};
use tokio::sync::{Mutex, broadcast};

use crate::driver::Record;
use crate::store::{Event, EventQuery, Sequenced, Store};

/// Events that a follower may lag behind before it is cut off; it can read the rest from the store.
const BACKLOG: usize = 256;

/// What a person should see to, and nothing else logs as a warning.
const TO_SEE_TO: [&str; 2] = ["tls.refused", "transfer.dropped"];

/// The kind of a rollout's first event.
pub(crate) const STARTED: &str = "rollout.started";

/// One thing that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// A stable dotted word, e.g. `rollout.started`.
    pub kind: &'static str,
    /// The module that it is about; empty: none or several.
    pub module: String,
    /// The rollout that it belongs to; empty: none.
    pub rollout: String,
    /// Who did it; empty: the machine.
    pub by: String,
    /// What happened, a sentence.
    pub text: String,
    /// Figures and names for programs.
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// The journal; clones are the same.
#[derive(Clone, Debug)]
pub struct Journal {
    store: Store,
    told: broadcast::Sender<Sequenced>,
    /// Held from when an event gets its number until it is told: followers hear them in order.
    order: Arc<Mutex<()>>,
}

impl Journal {
    /// The journal of this store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, told: broadcast::Sender::new(BACKLOG), order: Arc::default() }
    }

    /// Writes an entry and tells those who follow.
    pub async fn write(&self, entry: Entry) {
        if TO_SEE_TO.contains(&entry.kind) {
            tracing::warn!(kind = entry.kind, module = %entry.module, rollout = %entry.rollout, "{}", entry.text);
        } else {
            tracing::info!(kind = entry.kind, module = %entry.module, rollout = %entry.rollout, "{}", entry.text);
        }
        let mut fields = entry.fields;
        if !entry.by.is_empty() {
            fields.insert("by".to_owned(), entry.by.into());
        }
        let event = Event {
            at: crate::clock::of_day().0,
            module: entry.module.parse().ok(),
            rollout: entry.rollout.parse().ok(),
            kind: entry.kind.to_owned(),
            text: entry.text,
            fields,
        };
        let (store, kept) = (self.store.clone(), event.clone());
        let _in_order = self.order.lock().await;
        match crate::blocking(move || store.append_event(&kept)).await {
            // Nobody who follows is no error.
            Ok(seq) => drop(self.told.send(Sequenced { seq, event })),
            Err(error) => {
                tracing::error!(error = %crate::describe(&error), "an event is only in this log")
            }
        }
    }

    /// The latest events of these kinds, oldest first, also from before this start. None where the history can't be read.
    pub async fn newest(&self, kinds: &'static [&'static str], limit: usize) -> Vec<Event> {
        let (store, query) =
            (self.store.clone(), EventQuery { kinds, limit, newest: true, ..EventQuery::default() });
        match crate::blocking(move || store.events(&query)).await {
            Ok(found) => found.into_iter().map(|found| found.event).collect(),
            Err(error) => {
                tracing::debug!(error = %crate::describe(&error), "what was told lately is not known");
                Vec::new()
            }
        }
    }

    /// The latest event of these kinds, also from before this start. None where the history can't be read.
    pub async fn latest(&self, kinds: &'static [&'static str]) -> Option<Event> {
        let (store, query) =
            (self.store.clone(), EventQuery { kinds, limit: 1, newest: true, ..EventQuery::default() });
        match crate::blocking(move || store.events(&query)).await {
            Ok(mut found) => found.pop().map(|found| found.event),
            Err(error) => {
                tracing::debug!(error = %crate::describe(&error), "what was told last is not known");
                None
            }
        }
    }

    /// Each event from now on.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<Sequenced> {
        self.told.subscribe()
    }
}

impl Entry {
    /// What a rollout machine wants told.
    pub(crate) fn of_note(record: Option<&Record>, id: &RolloutId, note: &Note) -> Self {
        let mut modules = record.into_iter().flat_map(|record| record.machine.spec().moves.keys());
        // Of several it is about none alone.
        let module = modules.next().filter(|_| modules.next().is_none());
        let started_by = record.map(|record| record.machine.spec().by.as_str());
        Self {
            kind: kind(&note.kind),
            module: module.map(ToString::to_string).unwrap_or_default(),
            rollout: id.to_string(),
            by: by(&note.kind, started_by).unwrap_or_default().to_owned(),
            text: note.text.clone(),
            fields: serde_json::Map::new(),
        }
    }
}

/// Who did it, where somebody did.
fn by<'a>(kind: &'a NoteKind, started_by: Option<&'a str>) -> Option<&'a str> {
    match kind {
        NoteKind::Started => started_by,
        NoteKind::Command(command) | NoteKind::Ignored(command) => match command {
            Command::Promote { by, .. }
            | Command::Pause { by }
            | Command::Resume { by }
            | Command::Abort { by } => Some(by),
            Command::Supersede { .. } => None,
        },
        NoteKind::RollingBack { reason } => match reason {
            Reason::Aborted { by } | Reason::Rollback { by } => Some(by),
            Reason::Fast { cause: Cause::ByHand { by }, .. } => Some(by),
            _ => None,
        },
        NoteKind::Starting { .. }
        | NoteKind::Baking { .. }
        | NoteKind::Passed { .. }
        | NoteKind::Holding
        | NoteKind::Promoting
        | NoteKind::Node { .. }
        | NoteKind::NodeFailed { .. }
        | NoteKind::Finished => None,
    }
}

fn kind(kind: &NoteKind) -> &'static str {
    match kind {
        NoteKind::Started => STARTED,
        NoteKind::Starting { .. } => "rollout.starting",
        NoteKind::Baking { .. } => "rollout.baking",
        NoteKind::Passed { .. } => "rollout.passed",
        NoteKind::Holding => "rollout.holding",
        NoteKind::Promoting => "rollout.promoting",
        NoteKind::RollingBack { .. } => "rollout.rolling_back",
        NoteKind::Command(_) => "rollout.command",
        NoteKind::Ignored(_) => "rollout.ignored",
        NoteKind::Node { .. } => "rollout.node",
        NoteKind::NodeFailed { .. } => "rollout.node_failed",
        NoteKind::Finished => "rollout.finished",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_gave_a_command_is_named() {
        let ann = || "ann".to_owned();
        let aborted = NoteKind::RollingBack { reason: Reason::Aborted { by: ann() } };
        assert_eq!(by(&aborted, Some("bob")), Some("ann"));
        assert_eq!(by(&NoteKind::Command(Command::Pause { by: ann() }), Some("bob")), Some("ann"));
        assert_eq!(by(&NoteKind::Started, Some("bob")), Some("bob"));
        assert_eq!(by(&NoteKind::Promoting, Some("bob")), None, "the machine did");
    }
}
