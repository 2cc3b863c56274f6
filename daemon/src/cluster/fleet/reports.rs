//! A node's reports on their way through etcd: what the agent says, gathered for each module, and what the leader makes of
//! it again. Pure.
//!
//! The agent restates what is so; of what it says the latest of each kind is kept, so that a report that is lost does no
//! harm. Failures are no state and are said once: each has a number, and the leader takes each once. They are said for a
//! while, so that the next leader hears of them, too, where there is none; later they would be of another rollout.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use hot_artifact::ModuleName;
use hot_rollout::{Event, InstanceState, Module, Node, ReleaseNumber};

use super::leader::Asked;
use super::values::{Prepared, ReportValue};

/// What is not restated for so long is not so any more: many times the agent's tick.
const STALE: Duration = Duration::from_secs(5);
/// Failures that are kept for a leader that has not heard of them.
const MAX_FAILED: usize = 8;
/// How long, at least.
const FAILED: Duration = Duration::from_secs(30);

/// What a node has to say of its modules.
#[derive(Debug)]
pub(super) struct Outbox {
    modules: BTreeMap<Module, Said>,
    failures: u64,
    answers: u64,
    /// How long a failure is said.
    failed_for: Duration,
}

#[derive(Debug, Default)]
struct Said {
    prepared: Option<Prepared>,
    /// By kind and release, so that they come in this order; with when they were said last.
    states: BTreeMap<(Kind, u64), (Event, Instant)>,
    /// With its number, and when it was.
    failed: VecDeque<(u64, Event, Instant)>,
    /// What was handed out last.
    told: Option<ReportValue>,
}

/// The order in which they are to be told: that a candidate was taken back comes before all else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    TookBack,
    Instance,
    Applied,
    Sample,
}

impl Outbox {
    /// Of a hotd that began at `since`: failures are numbered from there, above those of all before. Where a leader died there
    /// is another one within `elected`.
    pub(super) fn new(since: u64, elected: Duration) -> Self {
        let failures = since.saturating_mul(1000);
        Self { modules: BTreeMap::new(), failures, answers: 0, failed_for: FAILED.max(2 * elected) }
    }

    /// Takes in what the agent says.
    pub(super) fn note(&mut self, event: Event, now: Instant) {
        let Some((key, _, module)) = about(&event) else { return };
        let said = self.modules.entry(module.clone()).or_default();
        if matches!(&event, Event::Instance { state: InstanceState::Failed(_), .. }) {
            self.failures += 1;
            said.failed.push_back((self.failures, event, now));
            if said.failed.len() > MAX_FAILED {
                said.failed.pop_front();
            }
            said.states.remove(&key);
        } else {
            said.states.insert(key, (event, now));
        }
    }

    /// What came of getting ready for a release.
    pub(super) fn prepared(&mut self, module: &Module, release: ReleaseNumber, refused: Option<String>) {
        self.answers += 1;
        let prepared = Prepared { release, refused, answer: self.answers };
        self.modules.entry(module.clone()).or_default().prepared = Some(prepared);
    }

    /// The reports that are news, each to be written. With `anew` all of them: etcd has lost what was written.
    pub(super) fn news(&mut self, now: Instant, anew: bool) -> Vec<(Module, ReportValue)> {
        let mut news = Vec::new();
        for (module, said) in &mut self.modules {
            said.states.retain(|_, (_, at)| now.saturating_duration_since(*at) < STALE);
            said.failed.retain(|(.., at)| now.saturating_duration_since(*at) < self.failed_for);
            let value = ReportValue {
                prepared: said.prepared.clone(),
                states: said.states.values().map(|(event, _)| event.clone()).collect(),
                failed: said.failed.iter().map(|(number, event, _)| (*number, event.clone())).collect(),
            };
            if anew || said.told.as_ref() != Some(&value) {
                said.told = Some(value.clone());
                news.push((module.clone(), value));
            }
        }
        news
    }

    /// A report could not be written: it is news still.
    pub(super) fn untold(&mut self, module: &Module) {
        if let Some(said) = self.modules.get_mut(module) {
            said.told = None;
        }
    }
}

/// What a leader has heard.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    latest: BTreeMap<(Node, Module), ReportValue>,
    /// The last failure that was taken, of each module of a node: reports of two modules come in any order.
    failures: BTreeMap<(Node, Module), u64>,
}

impl Inbox {
    /// What a report says to the driver. `asked` is the release that the node was last told to get ready for.
    pub(super) fn take(
        &mut self,
        node: &Node,
        module: &Module,
        report: ReportValue,
        asked: Option<ReleaseNumber>,
    ) -> Vec<Event> {
        let mut events = said(node, module, &report, asked);
        let known = self.failures.entry((node.clone(), module.clone())).or_default();
        let newest = report.failed.iter().map(|(number, _)| *number).max();
        // Fewer than there were: another hotd counts, after the clock of its node was set back.
        let taken = if newest.is_some_and(|newest| newest < *known) { 0 } else { *known };
        let failed = report.failed.iter().filter(|(number, _)| *number > taken);
        let failed: Vec<Event> =
            failed.map(|(_, event)| event.clone()).filter(|it| is_of(it, node, module)).collect();
        *known = newest.unwrap_or(taken);
        self.latest.insert((node.clone(), module.clone()), report);
        // Before the states, which are newer: but after that a candidate was taken back.
        let first = events.iter().take_while(|event| matches!(event, Event::TookBack { .. })).count();
        events.splice(first..first, failed);
        events
    }

    /// What a node said last, told again: as after it came back.
    pub(super) fn again(&self, node: &Node, asked: &Asked) -> Vec<Event> {
        let of = self.latest.iter().filter(|((of, _), _)| of == node);
        let asked = |module: &Module| {
            let module = super::named(module).ok()?;
            asked.get(&(node.clone(), module)).copied()
        };
        of.flat_map(|((_, module), report)| said(node, module, report, asked(module))).collect()
    }

    /// That a node has said already that it is ready for a release.
    pub(super) fn ready(&self, node: &Node, module: &ModuleName, release: ReleaseNumber) -> Option<Event> {
        let (node, module) = (node.clone(), Module(module.to_string()));
        let prepared = self.latest.get(&(node.clone(), module.clone()))?.prepared.as_ref()?;
        let is_ready = prepared.release == release && prepared.refused.is_none();
        is_ready.then_some(Event::Prepared { node, module })
    }

    /// The instances of which nodes say still that they ended and can't be started, as where hot-spawn is lost.
    pub(super) fn lost(&self) -> Vec<Event> {
        let states = self.latest.iter().flat_map(|((node, module), report)| {
            report.states.iter().filter(|event| is_of(event, node, module))
        });
        let ended = |event: &&Event| matches!(event, Event::Instance { state: InstanceState::Ended, .. });
        states.filter(ended).cloned().collect()
    }

    /// The reports of a node are gone with its lease.
    pub(super) fn gone(&mut self, node: &Node, module: &Module) {
        self.latest.remove(&(node.clone(), module.clone()));
    }
}

/// What a report says of this node and module, and of no other: it may be anybody's.
fn said(node: &Node, module: &Module, report: &ReportValue, asked: Option<ReleaseNumber>) -> Vec<Event> {
    let mut events: Vec<Event> =
        report.states.iter().filter(|event| is_of(event, node, module)).cloned().collect();
    let first = events.iter().take_while(|event| matches!(event, Event::TookBack { .. })).count();
    let prepared = report.prepared.as_ref().filter(|prepared| Some(prepared.release) == asked);
    let prepared = prepared.map(|prepared| match prepared.refused.clone() {
        None => Event::Prepared { node: node.clone(), module: module.clone() },
        Some(text) => Event::PrepareFailed { node: node.clone(), module: module.clone(), text },
    });
    events.splice(first..first, prepared);
    events
}

fn is_of(event: &Event, node: &Node, module: &Module) -> bool {
    about(event).is_some_and(|(_, of, its)| of == node && its == module)
}

/// What a report may say: its place among what is said of a module, and of which node and module it is. What was asked for
/// is answered by [`Outbox::prepared`]; the rest no agent says.
fn about(event: &Event) -> Option<((Kind, u64), &Node, &Module)> {
    match event {
        Event::TookBack { node, module, .. } => Some(((Kind::TookBack, 0), node, module)),
        Event::Instance { node, module, release, .. } => Some(((Kind::Instance, release.0), node, module)),
        Event::Applied { node, module, .. } => Some(((Kind::Applied, 0), node, module)),
        Event::Sample(sample) => Some(((Kind::Sample, 0), &sample.node, &sample.module)),
        Event::Prepared { .. }
        | Event::PrepareFailed { .. }
        | Event::NodeUp { .. }
        | Event::NodeDown { .. }
        | Event::NodeLeft { .. }
        | Event::LocalRollback { .. }
        | Event::Command(_)
        | Event::Timeout => None,
    }
}

#[cfg(test)]
mod tests {
    use hot_rollout::{Cause, Revision};

    use super::*;

    fn said_since(since: u64) -> Outbox {
        Outbox::new(since, Duration::ZERO)
    }

    fn node() -> Node {
        Node("a".to_owned())
    }

    fn module() -> Module {
        Module("greeter".to_owned())
    }

    fn cause() -> Cause {
        Cause::Exited { code: 1, text: String::new() }
    }

    fn applied(revision: u64) -> Event {
        Event::Applied { node: node(), module: module(), revision: Revision(revision), serves: true }
    }

    fn instance(release: u64, state: InstanceState) -> Event {
        Event::Instance { node: node(), module: module(), release: ReleaseNumber(release), state }
    }

    fn took_back() -> Event {
        Event::TookBack { node: node(), module: module(), revision: Revision(1), cause: cause() }
    }

    fn failed(release: u64) -> Event {
        instance(release, InstanceState::Failed(cause()))
    }

    /// What a leader hears of what an agent says, by way of JSON.
    fn through(outbox: &mut Outbox, inbox: &mut Inbox, asked: Option<u64>) -> Vec<Event> {
        let news = outbox.news(Instant::now(), false);
        news.into_iter()
            .flat_map(|(module, value)| {
                let value = super::super::values::parse(b"k", &super::super::values::encode(&value)).unwrap();
                inbox.take(&node(), &module, value, asked.map(ReleaseNumber))
            })
            .collect()
    }

    #[test]
    fn what_is_so_arrives_in_order_and_once() {
        let (mut outbox, mut inbox, now) = (said_since(0), Inbox::default(), Instant::now());
        for event in
            [instance(2, InstanceState::Starting), applied(3), instance(2, InstanceState::Ready), took_back()]
        {
            outbox.note(event, now);
        }
        let expected = [took_back(), instance(2, InstanceState::Ready), applied(3)];
        assert_eq!(through(&mut outbox, &mut inbox, None), expected);
        outbox.note(applied(3), now);
        assert_eq!(through(&mut outbox, &mut inbox, None), [], "said again, it is no news");
        assert_eq!(inbox.again(&node(), &Asked::new()), expected);
    }

    #[test]
    fn a_failure_is_told_once_though_the_instance_is_up_again() {
        let (mut outbox, mut inbox, now) = (said_since(0), Inbox::default(), Instant::now());
        outbox.note(failed(2), now);
        outbox.note(instance(2, InstanceState::Starting), now);
        assert_eq!(through(&mut outbox, &mut inbox, None), [failed(2), instance(2, InstanceState::Starting)]);
        outbox.note(instance(2, InstanceState::Ready), now);
        assert_eq!(through(&mut outbox, &mut inbox, None), [instance(2, InstanceState::Ready)]);
        for _ in 0..20 {
            outbox.note(failed(2), now);
        }
        let heard = through(&mut outbox, &mut inbox, None);
        assert_eq!(heard.len(), MAX_FAILED, "the bound: {heard:?}");
        let mut anew = said_since(1);
        anew.note(failed(2), now);
        assert_eq!(
            through(&mut anew, &mut inbox, None),
            [failed(2)],
            "another hotd counts on from its start"
        );
    }

    #[test]
    fn a_failure_of_long_ago_is_told_to_no_leader() {
        let (mut outbox, now) = (said_since(0), Instant::now());
        outbox.note(failed(2), now);
        let later = now + FAILED - Duration::from_secs(1);
        assert_eq!(outbox.news(later, true).pop().unwrap().1.failed, [(1, failed(2))], "the next leader's");
        assert_eq!(outbox.news(now + FAILED, true).pop().unwrap().1.failed, []);
    }

    #[test]
    fn a_clock_that_was_set_back_hides_no_failure() {
        let mut inbox = Inbox::default();
        for since in [100, 50] {
            let mut outbox = said_since(since);
            outbox.note(failed(2), Instant::now());
            assert_eq!(through(&mut outbox, &mut inbox, None), [failed(2)], "of the hotd since {since}");
            assert_eq!(through(&mut outbox, &mut inbox, None), []);
        }
    }

    #[test]
    fn a_failure_of_one_module_hides_none_of_another() {
        let (mut outbox, mut inbox, other) = (said_since(0), Inbox::default(), Module("other".to_owned()));
        let of_other = Event::Instance {
            node: node(),
            module: other.clone(),
            release: ReleaseNumber(2),
            state: InstanceState::Failed(cause()),
        };
        outbox.note(failed(2), Instant::now());
        outbox.note(of_other.clone(), Instant::now());
        // As they may arrive: the later one first.
        let news = outbox.news(Instant::now(), false).into_iter().rev();
        let heard: Vec<Vec<Event>> =
            news.map(|(module, value)| inbox.take(&node(), &module, value, None)).collect();
        assert_eq!(heard, [vec![of_other], vec![failed(2)]]);
    }

    #[test]
    fn what_is_not_said_any_more_is_dropped() {
        let (mut outbox, now) = (said_since(0), Instant::now());
        outbox.note(instance(1, InstanceState::Ready), now);
        outbox.note(instance(2, InstanceState::Ready), now + STALE);
        let (_, value) = outbox.news(now + STALE, false).pop().unwrap();
        assert_eq!(value.states, [instance(2, InstanceState::Ready)]);
        outbox.untold(&module());
        assert_eq!(outbox.news(now + STALE, false).len(), 1, "what was not written is news still");
        assert_eq!(outbox.news(now + STALE, false).len(), 0);
        assert_eq!(outbox.news(now + STALE, true).len(), 1);
    }

    /// Without hot-spawn it says so all the time, and a report that says the same is written once.
    #[test]
    fn what_can_not_be_started_is_told_as_long_as_it_is_so() {
        let (mut outbox, mut inbox, now) = (said_since(0), Inbox::default(), Instant::now());
        outbox.note(instance(2, InstanceState::Ended), now);
        outbox.note(instance(1, InstanceState::Ready), now);
        through(&mut outbox, &mut inbox, None);
        outbox.note(instance(2, InstanceState::Ended), now);
        assert_eq!(through(&mut outbox, &mut inbox, None), []);
        assert_eq!(inbox.lost(), [instance(2, InstanceState::Ended)]);
        outbox.note(instance(2, InstanceState::Starting), now);
        through(&mut outbox, &mut inbox, None);
        assert_eq!(inbox.lost(), []);
    }

    #[test]
    fn an_answer_counts_for_what_was_asked() {
        let (mut outbox, mut inbox) = (said_since(0), Inbox::default());
        outbox.prepared(&module(), ReleaseNumber(2), None);
        assert_eq!(through(&mut outbox, &mut inbox, Some(3)), [], "of a rollout before");
        let name: ModuleName = module().as_str().parse().unwrap();
        let asked = Asked::from([((node(), name.clone()), ReleaseNumber(2))]);
        assert_eq!(inbox.again(&node(), &asked).len(), 1);
        // It was asked after all, which was known here only later.
        let ready = Event::Prepared { node: node(), module: module() };
        assert_eq!(inbox.ready(&node(), &name, ReleaseNumber(2)), Some(ready));
        assert_eq!(inbox.ready(&node(), &name, ReleaseNumber(3)), None);
        // Asked once more, it answers once more.
        for _ in 0..2 {
            outbox.prepared(&module(), ReleaseNumber(3), Some("no room".to_owned()));
            let heard = through(&mut outbox, &mut inbox, Some(3));
            assert!(
                matches!(&heard[..], [Event::PrepareFailed { text, .. }] if text == "no room"),
                "{heard:?}"
            );
        }
        assert_eq!(inbox.ready(&node(), &name, ReleaseNumber(3)), None, "a refusal may be of another time");
    }

    #[test]
    fn nobody_speaks_for_another_node() {
        let mut inbox = Inbox::default();
        let other = Node("b".to_owned());
        let report = ReportValue {
            prepared: None,
            states: vec![applied(1), Event::NodeDown { node: node() }, Event::Timeout],
            failed: vec![
                (1, failed(2)),
                (2, Event::NodeLeft { node: node(), why: hot_rollout::Left::Fleet }),
            ],
        };
        assert_eq!(inbox.take(&other, &module(), report, None), []);
    }
}
