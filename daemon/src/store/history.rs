//! What is kept for people and programs that ask, in the index: every release, ended rollouts, requests, events. It is
//! bounded, and losing it stops nothing.
//!
//! Keys sort: numbers are big-endian. Values are JSON and stay below 4 KiB, above which sled writes a file of its own
//! for each; a rollout's snapshot is cut into pieces.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use hot_artifact::ModuleName;
use serde::de::DeserializeOwned;

use super::index::{Index, IndexError, Trees, flush};
use super::names::{RequestId, RolloutId};
use super::records::{Event, Release, RolloutRecord, Sequenced};

/// Bytes of a value.
pub(super) const MAX_VALUE: usize = 3500;
/// Characters that are kept of a text that is too long. Each can take six bytes in JSON.
const MAX_CHARS: usize = 400;
/// Events that wait in memory while the index is not available.
const MAX_WAITING: usize = 1024;
/// Events beyond the bound that go with one that comes: more than come, so that the bound is reached, and so few that nobody
/// who needs the index waits for long. Far beyond it is what an older hotd left, which kept more.
const TRIMMED_AT_ONCE: usize = 256;

/// Which events are asked for.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Only those with a higher number.
    pub after: Option<u64>,
    /// Only those about this module.
    pub module: Option<ModuleName>,
    /// Only those of this rollout.
    pub rollout: Option<RolloutId>,
    /// Only those of these kinds; empty: of every kind.
    pub kinds: &'static [&'static str],
    /// At most this many.
    pub limit: usize,
    /// The newest of them rather than the oldest. They come oldest first either way.
    pub newest: bool,
    /// With `newest`: what is before the events of this kind of all these rollouts is not looked at.
    pub back_to: Option<(&'static str, BTreeSet<RolloutId>)>,
}

impl EventQuery {
    fn wants(&self, Sequenced { event, .. }: &Sequenced) -> bool {
        self.module.as_ref().is_none_or(|module| event.module.as_ref() == Some(module))
            && self.rollout.as_ref().is_none_or(|rollout| event.rollout.as_ref() == Some(rollout))
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind.as_str()))
    }
}

/// Bounds of the history.
#[derive(Debug, Clone)]
pub(super) struct HistoryLimits {
    /// Events.
    pub(super) events: usize,
    /// Ended rollouts.
    pub(super) rollouts: usize,
    /// Releases of one module.
    pub(super) releases: usize,
}

/// The typed trees.
#[derive(Debug)]
pub(super) struct History {
    index: Index,
    limits: HistoryLimits,
    waiting: Mutex<Waiting>,
    /// A release may be missing.
    incomplete: AtomicBool,
    /// Something was written since the last sync.
    unsynced: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<(u64, Vec<u8>)>,
    dropped: u64,
}

impl History {
    pub(super) fn new(index: Index, limits: HistoryLimits) -> Self {
        let incomplete = AtomicBool::new(true);
        Self { index, limits, waiting: Mutex::default(), incomplete, unsynced: AtomicBool::new(true) }
    }

    /// Returns once everything is on the disk, with what waited in memory.
    pub(super) fn flush(&self) -> Result<(), IndexError> {
        self.write_waiting()?;
        if self.unsynced.swap(false, Ordering::Relaxed) {
            self.index.flush().inspect_err(|_| self.unsynced.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    }

    /// Writes all releases, if any may be missing.
    pub(super) fn complete<'a>(
        &self,
        releases: impl Iterator<Item = (&'a ModuleName, &'a Release)> + Clone,
    ) -> Result<(), IndexError> {
        // Both are asked: each forgets by being asked.
        let opened = self.index.take_opened();
        if self.incomplete.swap(false, Ordering::Relaxed) || opened {
            self.put_releases(releases)
        } else {
            Ok(())
        }
    }

    /// Writes releases; those that are there already are left as they are.
    pub(super) fn put_releases<'a>(
        &self,
        releases: impl Iterator<Item = (&'a ModuleName, &'a Release)> + Clone,
    ) -> Result<(), IndexError> {
        self.unsynced.store(true, Ordering::Relaxed);
        let written = self.index.with(|trees| {
            for (module, release) in releases.clone() {
                let key = release_key(module, release.number);
                if !trees.releases.contains_key(&key)? {
                    trees.releases.insert(key, json(release)?)?;
                    let all =
                        trees.releases.range(release_key(module, 0)..=release_key(module, u64::MAX)).rev();
                    for oldest in all.skip(self.limits.releases) {
                        trees.releases.remove(oldest?.0)?;
                    }
                }
            }
            Ok(())
        });
        written.inspect_err(|_| self.incomplete.store(true, Ordering::Relaxed))
    }

    /// Releases of a module, newest first.
    pub(super) fn releases(&self, module: &ModuleName, limit: usize) -> Result<Vec<Release>, IndexError> {
        self.index.with(|trees| {
            let all = trees.releases.range(release_key(module, 0)..=release_key(module, u64::MAX)).rev();
            all.take(limit).filter_map(|entry| entry.map(|(_, value)| read(&value)).transpose()).collect()
        })
    }

    /// One release.
    pub(super) fn release(&self, module: &ModuleName, number: u64) -> Result<Option<Release>, IndexError> {
        self.index.with(|trees| Ok(trees.releases.get(release_key(module, number))?.and_then(|v| read(&v))))
    }

    /// Takes an ended rollout; on the disk when it returns `Ok`. `order` grows with each.
    pub(super) fn put_rollout(&self, record: &RolloutRecord, order: u64) -> Result<(), IndexError> {
        self.index.with(|trees| {
            if read_rollout(trees, &record.id)?.as_ref() == Some(record) {
                return flush(trees);
            }
            // The log keeps this order, so a rollout that can be read is listed too.
            trees.order.insert(order.to_be_bytes(), record.id.as_str())?;
            let snapshot = json(record)?;
            for (n, piece) in (0_u32..).zip(snapshot.chunks(MAX_VALUE)) {
                trees.rollouts.insert(piece_key(&record.id, n), piece)?;
            }
            if let Some(request) = &record.request {
                trees.requests.insert(request.as_str(), record.id.as_str())?;
            }
            while let Some((key, id)) = trees.order.first_beyond(self.limits.rollouts)? {
                if let Some(oldest) = std::str::from_utf8(&id).ok().and_then(|id| id.parse().ok()) {
                    forget_rollout(trees, &oldest)?;
                }
                trees.order.remove(key)?;
            }
            flush(trees)
        })
    }

    /// An ended rollout.
    pub(super) fn rollout(&self, id: &RolloutId) -> Result<Option<RolloutRecord>, IndexError> {
        self.index.with(|trees| read_rollout(trees, id))
    }

    /// Ended rollouts, newest first.
    pub(super) fn rollouts(&self, limit: usize) -> Result<Vec<RolloutRecord>, IndexError> {
        self.index.with(|trees| {
            let mut found: Vec<RolloutRecord> = Vec::new();
            for entry in trees.order.tree().iter().rev() {
                if found.len() >= limit {
                    break;
                }
                let (_, id) = entry?;
                let Some(id) = std::str::from_utf8(&id).ok().and_then(|id| id.parse().ok()) else { continue };
                if !found.iter().any(|there| there.id == id) {
                    found.extend(read_rollout(trees, &id)?);
                }
            }
            Ok(found)
        })
    }

    /// The ids of ended rollouts, newest first, each once.
    pub(super) fn rollout_ids(&self, limit: usize) -> Result<Vec<RolloutId>, IndexError> {
        self.index.with(|trees| {
            let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
            for entry in trees.order.tree().iter().rev() {
                if found.len() >= limit {
                    break;
                }
                let (_, id) = entry?;
                let id: Option<RolloutId> = std::str::from_utf8(&id).ok().and_then(|id| id.parse().ok());
                found.extend(id.filter(|id| seen.insert(id.clone())));
            }
            Ok(found)
        })
    }

    /// The ended rollout that a request started.
    pub(super) fn rollout_of(&self, request: &RequestId) -> Result<Option<RolloutId>, IndexError> {
        self.index.with(|trees| {
            let id = trees.requests.get(request.as_str())?;
            Ok(id.and_then(|id| std::str::from_utf8(&id).ok()?.parse().ok()))
        })
    }

    /// Takes an event; it waits in memory while the index is not available.
    pub(super) fn append(&self, seq: u64, event: &Event) {
        let bytes = fit(event);
        {
            let mut waiting = self.waiting();
            waiting.events.push_back((seq, bytes));
            if waiting.events.len() > MAX_WAITING {
                waiting.events.pop_front();
                waiting.dropped += 1;
            }
        }
        if let Err(error) = self.write_waiting() {
            tracing::debug!(%error, "an event waits in memory");
        }
    }

    /// Events, oldest first. Those that still wait in memory are among them.
    pub(super) fn events(&self, query: &EventQuery) -> Result<Vec<Sequenced>, IndexError> {
        self.write_waiting()?;
        self.index.with(|trees| {
            let from = query.after.map_or(0, |after| after.saturating_add(1));
            let range = trees.events.tree().range(from.to_be_bytes()..);
            let decoded = |entry: sled::Result<(sled::IVec, sled::IVec)>| match entry {
                Ok((key, value)) => {
                    let seq = u64::from_be_bytes(key.as_ref().try_into().ok()?);
                    Some(Ok(Sequenced { seq, event: read(&value)? }))
                }
                Err(error) => Some(Err(error)),
            };
            let wanted = |found: &sled::Result<Sequenced>| found.as_ref().map_or(true, |of| query.wants(of));
            if query.newest {
                let mut sought = query.back_to.clone();
                let not_past = |found: &sled::Result<Sequenced>| {
                    let Some((kind, rollouts)) = &mut sought else { return true };
                    let is_past = rollouts.is_empty();
                    if let Ok(Sequenced { event: Event { kind: of, rollout: Some(rollout), .. }, .. }) = found
                        && of == kind
                    {
                        rollouts.remove(rollout);
                    }
                    !is_past
                };
                let events = range.rev().filter_map(decoded).take_while(not_past).filter(wanted);
                let found: sled::Result<Vec<_>> = events.take(query.limit).collect();
                found.map(|mut found| {
                    found.reverse();
                    found
                })
            } else {
                range.filter_map(decoded).filter(wanted).take(query.limit).collect()
            }
        })
    }

    /// Writes what waits, and removes some of the oldest events if there are too many.
    fn write_waiting(&self) -> Result<(), IndexError> {
        let mut waiting = self.waiting();
        if waiting.events.is_empty() {
            return Ok(());
        }
        self.index.with(|trees| {
            // Under the lock under which they are synced: neither before nor behind it.
            self.unsynced.store(true, Ordering::Relaxed);
            for (seq, bytes) in &waiting.events {
                trees.events.insert(seq.to_be_bytes(), bytes.as_slice())?;
            }
            for _ in 0..waiting.events.len() + TRIMMED_AT_ONCE {
                let Some((oldest, _)) = trees.events.first_beyond(self.limits.events)? else { break };
                trees.events.remove(oldest)?;
            }
            Ok(())
        })?;
        waiting.events.clear();
        let dropped = std::mem::take(&mut waiting.dropped);
        if dropped > 0 {
            tracing::warn!(dropped, "events were lost while the history was not available");
        }
        Ok(())
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn release_key(module: &ModuleName, number: u64) -> Vec<u8> {
    [module.as_str().as_bytes(), &[0], &number.to_be_bytes()].concat()
}

fn piece_key(id: &RolloutId, n: u32) -> Vec<u8> {
    [id.as_str().as_bytes(), &[0], &n.to_be_bytes()].concat()
}

fn rollout_bytes(trees: &Trees, id: &RolloutId) -> sled::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for piece in trees.rollouts.range(piece_key(id, 0)..=piece_key(id, u32::MAX)) {
        bytes.extend_from_slice(&piece?.1);
    }
    Ok(bytes)
}

fn read_rollout(trees: &Trees, id: &RolloutId) -> sled::Result<Option<RolloutRecord>> {
    Ok(read(&rollout_bytes(trees, id)?))
}

fn forget_rollout(trees: &Trees, id: &RolloutId) -> sled::Result<()> {
    if let Some(request) = read_rollout(trees, id)?.and_then(|record| record.request) {
        trees.requests.remove(request.as_str())?;
    }
    for piece in trees.rollouts.range(piece_key(id, 0)..=piece_key(id, u32::MAX)) {
        trees.rollouts.remove(piece?.0)?;
    }
    Ok(())
}

fn json(value: &impl serde::Serialize) -> sled::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| sled::Error::Io(error.into()))
}

/// A value, or nothing for one that this version can't read: history is for reading, not for stopping at.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

/// An event as a value: without its fields if they make it too long, and with its text cut if that still is.
fn fit(event: &Event) -> Vec<u8> {
    let encode = |event: &Event| serde_json::to_vec(event).unwrap_or_default();
    let whole = encode(event);
    if whole.len() <= MAX_VALUE {
        return whole;
    }
    let mut cut = Event { fields: serde_json::Map::new(), ..event.clone() };
    if encode(&cut).len() > MAX_VALUE {
        cut.text = cut.text.chars().take(MAX_CHARS).chain(['…']).collect();
        cut.kind = cut.kind.chars().take(64).collect();
    }
    encode(&cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_any_size_becomes_a_value_that_reads() {
        for length in [0, 10, MAX_VALUE, 1 << 20] {
            for filler in ["a", "\u{0}", "ä", "🦀"] {
                let mut event = Event {
                    at: u64::MAX,
                    module: Some("m".repeat(63).parse().unwrap()),
                    rollout: Some("r".repeat(64).parse().unwrap()),
                    kind: filler.repeat(length),
                    text: filler.repeat(length),
                    fields: serde_json::Map::new(),
                };
                event.fields.insert("f".to_owned(), filler.repeat(length).into());
                let bytes = fit(&event);
                assert!(bytes.len() <= MAX_VALUE, "{length} x {filler:?} became {}", bytes.len());
                let back: Event = read(&bytes).unwrap();
                assert_eq!((back.at, back.module), (event.at, event.module));
                assert!(event.text.starts_with(back.text.trim_end_matches('…')));
            }
        }
    }
}
