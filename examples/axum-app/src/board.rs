//! The notes, and who follows them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::{Stream, StreamExt as _};
use serde::Serialize;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

/// How many notes are kept; the oldest go first.
const MAX_NOTES: usize = 1_000;

/// How many notes a follower may lag behind before it misses some.
const MAX_LAG: usize = 64;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Note {
    pub(crate) id: u64,
    pub(crate) text: String,
}

#[derive(Debug)]
pub(crate) struct Board {
    notes: Mutex<Notes>,
    added: broadcast::Sender<Note>,
}

#[derive(Debug, Default)]
struct Notes {
    last_id: u64,
    kept: VecDeque<Note>,
}

impl Default for Board {
    fn default() -> Self {
        Self { notes: Mutex::default(), added: broadcast::channel(MAX_LAG).0 }
    }
}

impl Board {
    pub(crate) fn add(&self, text: String) -> Note {
        let mut notes = self.notes();
        notes.last_id += 1;
        let note = Note { id: notes.last_id, text };
        if notes.kept.len() == MAX_NOTES {
            notes.kept.pop_front();
        }
        notes.kept.push_back(note.clone());
        // An error says that nobody follows.
        drop(self.added.send(note.clone()));
        note
    }

    pub(crate) fn get(&self, id: u64) -> Option<Note> {
        self.notes().kept.iter().find(|note| note.id == id).cloned()
    }

    /// The newest notes, newest first.
    pub(crate) fn last(&self, limit: usize) -> Vec<Note> {
        self.notes().kept.iter().rev().take(limit).cloned().collect()
    }

    /// Notes that are added from now on.
    pub(crate) fn follow(&self) -> impl Stream<Item = Note> + use<> {
        let added = BroadcastStream::new(self.added.subscribe());
        added.filter_map(async |note| note.ok())
    }

    pub(crate) fn followers(&self) -> usize {
        self.added.receiver_count()
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
