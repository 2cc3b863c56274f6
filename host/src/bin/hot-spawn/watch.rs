//! When a host is looked at, and what is a breach of its limits. Pure: `processes` and `cgroup` do the looking.

use std::time::{Duration, Instant};

use hot_wire::isolation::Breach;

/// The longest time between two looks at a host that has a limit.
const FAR: Duration = Duration::from_millis(100);
/// How fast a host can grow, in bytes per second: what one core clears and maps in pages of 4 KiB.
const GROWTH: u64 = 2 << 30;
/// How far apart two looks at a host at its limit of tasks are that make a breach.
const FULL: Duration = Duration::from_millis(100);

/// What a host used at one look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Resident memory of all its processes, in bytes.
    pub(crate) memory: u64,
    /// Its processes and threads.
    pub(crate) tasks: u64,
}

/// The limits of one host that are seen to by looking.
#[derive(Debug)]
pub(crate) struct Watch {
    memory: Option<u64>,
    tasks: Option<u64>,
    due: Instant,
    full_since: Option<Instant>,
}

impl Watch {
    /// The shortest time between two looks at a host: a look costs some microseconds, so this is below a thousandth of a core for each host.
    const NEAR: Duration = Duration::from_millis(20);

    /// The first look is due at once; without a limit there is nothing to watch.
    pub(crate) fn new(memory: Option<u64>, tasks: Option<u64>, now: Instant) -> Option<Self> {
        let something = memory.is_some() || tasks.is_some();
        something.then_some(Self { memory, tasks, due: now, full_since: None })
    }

    /// When to look next.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// The limit of memory, in bytes.
    pub(crate) fn memory(&self) -> Option<u64> {
        self.memory
    }

    /// Judges what was seen at `now` and says when to look next.
    pub(crate) fn judge(&mut self, seen: Seen, now: Instant) -> Option<Breach> {
        self.due = now + self.pause(seen);
        if let Some(limit) = self.memory.filter(|limit| seen.memory > *limit) {
            return Some(Breach::Memory { used: seen.memory, limit });
        }
        let limit = self.tasks?;
        if seen.tasks < limit {
            self.full_since = None;
            return None;
        }
        // Where the kernel enforces the limit nothing is ever seen above it: fork fails and nobody is told. A module that
        // needs more for a moment meets it once and goes on; one that forks for ever stands at it whenever it is looked
        // at, and would stand there for good. So to be full twice, as long apart as looks ever are, is to be past it.
        let full_since = *self.full_since.get_or_insert(now);
        let past = seen.tasks > limit || now.duration_since(full_since) >= FULL;
        past.then_some(Breach::Tasks { used: seen.tasks, limit })
    }

    /// The time in which it could get to its limit, within [`Watch::NEAR`] and [`FAR`].
    fn pause(&self, seen: Seen) -> Duration {
        let memory = self.memory.map_or(FAR, |limit| {
            let room = limit.saturating_sub(seen.memory);
            Duration::from_millis(room / (GROWTH / 1000))
        });
        // Tasks come by the ten thousand a second, so any limit can be reached between two looks.
        let tasks = self.tasks.map_or(FAR, |limit| if seen.tasks > limit / 2 { Self::NEAR } else { FAR });
        memory.min(tasks).clamp(Self::NEAR, FAR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn watch(memory: Option<u64>, tasks: Option<u64>) -> (Watch, Instant) {
        let now = Instant::now();
        (Watch::new(memory, tasks, now).unwrap(), now)
    }

    #[test]
    fn looks_are_closer_the_nearer_the_limit_is() {
        let (mut watch, now) = watch(Some(1024 * MIB), None);
        for (used, pause) in [(0, 100), (1024 - 128, 62), (1024 - 64, 31), (1023, 20), (1024, 20)] {
            assert_eq!(watch.judge(Seen { memory: used * MIB, tasks: 1 }, now), None);
            assert_eq!(watch.due(), now + Duration::from_millis(pause), "{used} MiB");
        }
    }

    #[test]
    fn memory_is_a_breach_at_the_first_look_beyond_its_limit() {
        let (mut watch, now) = watch(Some(MIB), None);
        assert_eq!(watch.judge(Seen { memory: MIB, tasks: 1000 }, now), None);
        let breach = Breach::Memory { used: MIB + 1, limit: MIB };
        assert_eq!(watch.judge(Seen { memory: MIB + 1, tasks: 1 }, now), Some(breach));
    }

    #[test]
    fn tasks_are_a_breach_beyond_the_limit_and_when_they_stay_at_it() {
        let (mut watch, now) = watch(None, Some(8));
        let mut at = |tasks, ms| watch.judge(Seen { memory: 0, tasks }, now + Duration::from_millis(ms));
        assert_eq!(at(9, 0), Some(Breach::Tasks { used: 9, limit: 8 }));
        assert_eq!(at(7, 20), None);
        assert_eq!((at(8, 40), at(8, 139)), (None, None));
        assert_eq!(at(7, 140), None, "it has room again");
        assert_eq!((at(8, 160), at(8, 180)), (None, None));
        assert_eq!(at(8, 260), Some(Breach::Tasks { used: 8, limit: 8 }));
    }

    #[test]
    fn nothing_is_watched_without_a_limit() {
        assert!(Watch::new(None, None, Instant::now()).is_none());
    }
}
