//! What is told of the system calls of an instance that were refused, and what follows from them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hot_rollout::Module;

use super::calls::{attack, name};
use super::{Agent, RunState};
use crate::supervisor::{Denials, Instance, InstanceId};

/// A call that is made all the time is told of so often.
const AGAIN: Duration = Duration::from_secs(60);
/// Calls that one event names.
const NAMED: usize = 8;

/// The refused calls of one instance, with what was told of them.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) sums: Denials,
    told: BTreeMap<u32, (u64, Instant)>,
}

impl Told {
    /// Takes the new sums, and gives what is to be told now: calls that are new, and what has come of the others once
    /// [`AGAIN`] has passed since they were told.
    fn news(&mut self, sums: Denials, now: Instant) -> Vec<(u32, u64)> {
        let mut news = Vec::new();
        for (call, times) in sums.calls() {
            let before = self.told.get(&call).copied();
            let due = before.is_none_or(|(_, at)| now.saturating_duration_since(at) >= AGAIN);
            let more = times - before.map_or(0, |(told, _)| told.min(times));
            if due && more > 0 {
                news.push((call, more));
                self.told.insert(call, (times, now));
            }
        }
        self.sums = sums;
        news
    }
}

impl Agent {
    /// Some more calls of an instance were refused: tells of it, and takes a candidate back that made one of an attack.
    pub(super) fn denied(&self, module: &Module, id: InstanceId, instance: &Instance) {
        let sums = instance.denied().borrow().clone();
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(module) else { return };
        let candidate = slot.orders.candidate();
        let Some(run) = slot.run_mut(id) else { return };
        let news = run.denied.news(sums, Instant::now());
        if !news.is_empty() {
            let what = format!("instance {id} of {module} {} (release {})", run.version, run.release);
            self.tell(
                "module.denied",
                module,
                format!("{what} made system calls that were refused: {}", said(&news)),
            );
        }
        let is_candidate = candidate == Some(run.release) && run.state != RunState::Stopping;
        let cause = attack(&run.denied.sums).filter(|_| is_candidate);
        drop(slots);
        self.shared.note_change();
        if let Some(cause) = cause {
            self.failing(module, id, &cause);
            let instance = instance.clone();
            self.shared.tasks.spawn(async move { instance.stop(Duration::ZERO).await });
        }
    }
}

/// `ptrace 2 times, bpf once`.
fn said(calls: &[(u32, u64)]) -> String {
    let one = |(call, times): &(u32, u64)| match times {
        1 => format!("{} once", name(*call)),
        times => format!("{} {times} times", name(*call)),
    };
    let mut text = calls.iter().take(NAMED).map(one).collect::<Vec<_>>().join(", ");
    if calls.len() > NAMED {
        text.push_str(&format!(" and {} others", calls.len() - NAMED));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(calls: &[(u32, u64)]) -> Denials {
        calls.iter().copied().collect()
    }

    #[test]
    fn a_call_is_told_when_it_is_new_and_then_once_a_minute() {
        let (mut told, now) = (Told::default(), Instant::now());
        assert_eq!(told.news(sums(&[(1, 2)]), now), [(1, 2)]);
        assert_eq!(told.news(sums(&[(1, 900), (2, 1)]), now + Duration::from_secs(59)), [(2, 1)]);
        assert_eq!(told.news(sums(&[(1, 1000), (2, 1)]), now + AGAIN), [(1, 998)]);
        assert_eq!(told.news(sums(&[(1, 1000), (2, 1)]), now + AGAIN * 9), []);
        assert_eq!(told.sums, sums(&[(1, 1000), (2, 1)]));
    }

    #[test]
    fn an_event_names_few_calls() {
        let many: Vec<(u32, u64)> = (9000..9010).map(|call| (call, 1)).collect();
        let text = said(&many);
        assert!(text.starts_with("number 9000 once, ") && text.ends_with(" and 2 others"), "{text}");
    }
}
