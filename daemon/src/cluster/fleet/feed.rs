//! What the nodes of a fleet say, told to the driver of the node that leads, as the agent tells it on a single node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hot_rollout::{Event, Labels, Module, Node};
use tokio::sync::mpsc;

use super::leader::Asked;
use super::reports::Inbox;
use super::values::{ReportValue, parse};
use super::{Fleet, State};
use crate::cluster::etcd::{Folder, Key, News, Watch};

/// How often it is told again that instances ended and can't be started: as long as that is so, no time runs in which they
/// should be ready.
const AGAIN: Duration = Duration::from_secs(1);

/// What was told of a node last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    /// It is there, by its hotd that began then, with these labels, and was rolled back alone of these modules.
    Up(u64, Labels, BTreeSet<Module>),
    /// It is not.
    Down,
}

impl Fleet {
    /// Feeds `events` until nobody takes them, or this is dropped. It begins with which nodes are there.
    pub async fn feed(&self, events: mpsc::Sender<Event>) {
        let folder = self.keys().folder(&Folder::AllReports);
        let mut reports = Watch::start(self.connection().clone(), folder);
        let (mut states, mut inbox, mut told) = (self.states(), Inbox::default(), BTreeMap::new());
        states.mark_changed();
        let mut asked = self.asked();
        let mut known = asked.borrow_and_update().clone();
        let mut tick = tokio::time::interval(AGAIN);
        loop {
            let news = tokio::select! {
                changed = states.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let state = states.borrow_and_update().clone();
                    presence(&state, &mut told, &inbox, &known)
                }
                changed = asked.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let before = std::mem::replace(&mut known, asked.borrow_and_update().clone());
                    answered(&inbox, &before, &known)
                }
                news = reports.next() => self.report(&news, &mut inbox, &known),
                _ = tick.tick() => inbox.lost(),
            };
            for event in news {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }

    fn report(&self, news: &News, inbox: &mut Inbox, asked: &Asked) -> Vec<Event> {
        let key = match news {
            News::Put(found) => &found.key,
            News::Gone(key) => key,
            News::Listed
            | News::Broken
            | News::Resumed
            | News::Silent(_)
            | News::StillSilent(_)
            | News::Heard => return Vec::new(),
        };
        let Some(Key::Report(name, node)) = self.keys().parse(key) else { return Vec::new() };
        let module = Module(name.to_string());
        let News::Put(found) = news else {
            inbox.gone(&node, &module);
            return Vec::new();
        };
        match parse::<ReportValue>(&found.key, &found.value) {
            Ok(report) => {
                let asked = asked.get(&(node.clone(), name)).copied();
                inbox.take(&node, &module, report, asked)
            }
            Err(malformed) => {
                self.alarm(&malformed);
                Vec::new()
            }
        }
    }
}

/// Who came, went or left.
fn presence(state: &State, told: &mut BTreeMap<Node, Told>, inbox: &Inbox, asked: &Asked) -> Vec<Event> {
    let mut events = Vec::new();
    let usable = state.usable();
    for node in &usable {
        let is = match state.alive.get(node) {
            Some(alive) => {
                let local = state.local_rollbacks(node).map(|(module, _)| Module(module.to_string()));
                Told::Up(alive.since, state.labels(node), local.collect())
            }
            None => Told::Down,
        };
        if told.insert(node.clone(), is.clone()).as_ref() == Some(&is) {
            continue;
        }
        match is {
            Told::Up(_, labels, _) => {
                events.push(Event::NodeUp { node: node.clone(), labels });
                events.extend(state.local_rollback_events(node));
                events.extend(inbox.again(node, asked));
            }
            Told::Down => events.push(Event::NodeDown { node: node.clone() }),
        }
    }
    let left: Vec<Node> = told.keys().filter(|node| !usable.contains(*node)).cloned().collect();
    for node in left {
        told.remove(&node);
        let why = state.why_left(&node);
        events.push(Event::NodeLeft { node, why });
    }
    events
}

/// That those are ready who were so before it was known here that they are asked. A refusal of before may be of another time:
/// they are asked again, and say so again.
fn answered(inbox: &Inbox, before: &Asked, asked: &Asked) -> Vec<Event> {
    let anew = asked.iter().filter(|(of, release)| before.get(of) != Some(release));
    anew.filter_map(|((node, module), release)| inbox.ready(node, module, *release)).collect()
}
