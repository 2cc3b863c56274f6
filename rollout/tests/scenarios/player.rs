//! Turns the commands of a story into events.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hot_rollout::{
    Action, Cause, Command, Event, Figures, InstanceState, Labels, Latency, Left, Millis, Module, Move, Node,
    Policy, PolicySpec, ReleaseNumber, Revision, Rollout, Sample, Share, Spec, Step, Time,
};

use crate::show;

/// Plays one story.
#[derive(Default)]
pub(crate) struct Player {
    rollout: Option<Rollout>,
    /// What `save` wrote, for `crash`.
    saved: Option<Rollout>,
    now: Time,
    /// When each node began to count, by node and module.
    since: BTreeMap<(Node, Module), (Revision, Time)>,
}

const START: Time = Time(1_000_000);

impl Player {
    /// Plays one command and writes down what the rollout wants done.
    pub(crate) fn play(&mut self, line: &str, told: &mut String) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (verb, words) = words.split_first().unwrap();
        match *verb {
            "push" | "rollback" => {
                self.now = START;
                let spec = spec(words);
                let begin = if *verb == "push" { Rollout::start } else { Rollout::rollback };
                let (rollout, actions) = begin(spec, self.now);
                self.rollout = Some(rollout);
                show::actions(&actions, told);
            }
            "after" => self.wait(span(words[0]), told),
            "restart" => {
                let bytes = self.rollout().encode().unwrap();
                let mut rollout = Rollout::decode(&bytes).unwrap();
                assert_eq!(&rollout, self.rollout());
                let actions = rollout.resume(self.now);
                self.rollout = Some(rollout);
                show::actions(&actions, told);
            }
            "save" => self.saved = Some(self.rollout().clone()),
            "crash" => {
                let mut rollout = self.saved.clone().expect("something was saved");
                show::actions(&rollout.resume(self.now), told);
                self.rollout = Some(rollout);
            }
            "asleep" => self.now = self.now.plus(span(words[0])),
            "status" => told.push_str(&show::status(&self.rollout().status())),
            _ => {
                for event in self.events(verb, words) {
                    let now = self.now;
                    let actions = self.rollout.as_mut().unwrap().handle(event, now);
                    show::actions(&actions, told);
                }
            }
        }
    }

    /// Where it stands at the end of a block.
    pub(crate) fn close(&mut self, told: &mut String) {
        let rollout = self.rollout();
        writeln!(told, "= {}", show::standing(rollout, self.now.since(START))).unwrap();
        let moves_on = rollout.next_timeout().is_some() || rollout.waiting_on().is_some();
        assert!(moves_on || rollout.phase().is_final(), "nothing can move it: {rollout:?}");
    }

    fn rollout(&self) -> &Rollout {
        self.rollout.as_ref().expect("the story has begun")
    }

    /// Lets time pass, feeding each time-out when it is due.
    fn wait(&mut self, span: Millis, told: &mut String) {
        let end = self.now.plus(span);
        let mut actions = Vec::new();
        loop {
            let rollout = self.rollout.as_mut().expect("the story has begun");
            let due = rollout.next_timeout().filter(|due| *due <= end);
            self.now = due.unwrap_or(end);
            actions.extend(rollout.handle(Event::Timeout, self.now));
            if due.is_none() {
                break;
            }
        }
        let renewals = actions.iter().filter(|action| matches!(action, Action::Renew { .. })).count();
        actions.retain(|action| !matches!(action, Action::Renew { .. }));
        if renewals > 0 {
            writeln!(told, "renewed {renewals}x").unwrap();
        }
        show::actions(&actions, told);
    }

    fn events(&mut self, verb: &str, words: &[&str]) -> Vec<Event> {
        let by = || words.first().map_or_else(String::new, |word| (*word).to_owned());
        let node = || Node::from(words[0]);
        match verb {
            "up" => {
                let (node, labels) = labelled(words[0]);
                vec![Event::NodeUp { node, labels }]
            }
            "down" => vec![Event::NodeDown { node: node() }],
            "left" => vec![Event::NodeLeft { node: node(), why: Left::Fleet }],
            "cordoned" => vec![Event::NodeLeft { node: node(), why: Left::Cordoned }],
            "alone" => {
                vec![Event::LocalRollback { node: node(), module: words[1].into(), by: words[2].to_owned() }]
            }
            "pause" => vec![Event::Command(Command::Pause { by: by() })],
            "resume" => vec![Event::Command(Command::Resume { by: by() })],
            "abort" => vec![Event::Command(Command::Abort { by: by() })],
            "supersede" => vec![Event::Command(Command::Supersede { by: words[0].into() })],
            "promote" => {
                vec![Event::Command(Command::Promote { by: by(), full: words.get(1) == Some(&"full") })]
            }
            _ => self.node_events(verb, words),
        }
    }

    /// Events of one module on one node, or of `all` nodes and modules that were told anything.
    fn node_events(&mut self, verb: &str, words: &[&str]) -> Vec<Event> {
        let targets = if words[0] == "all" {
            let mut told = self.told();
            told.retain(|target| verb != "counted" || self.since.contains_key(target));
            told
        } else {
            vec![(Node::from(words[0]), Module::from(words[1].split('/').next().unwrap()))]
        };
        let rest = if words[0] == "all" { &words[1..] } else { &words[2..] };
        // `greeter/7`: of that release, and not of the candidate.
        let release = words.get(1).and_then(|word| word.split_once('/')).map(|(_, number)| number);
        let release = release.map(|number| ReleaseNumber(number.parse().unwrap()));
        let event = |(node, module)| self.node_event(verb, node, module, release, rest);
        targets.into_iter().map(event).collect()
    }

    fn node_event(
        &mut self,
        verb: &str,
        node: Node,
        module: Module,
        release: Option<ReleaseNumber>,
        rest: &[&str],
    ) -> Event {
        let text = rest.join(" ");
        match verb {
            "prepared" => Event::Prepared { node, module },
            "cannot" => Event::PrepareFailed { node, module, text },
            "applied" => {
                // `applied a greeter [r2] [unserved]`
                let serves = rest.last() != Some(&"unserved");
                let said = rest.first().filter(|word| **word != "unserved");
                let revision = said.map_or_else(|| self.given(&node, &module), |word| revision(word));
                self.since.insert((node.clone(), module.clone()), (revision, self.now));
                Event::Applied { node, module, revision, serves }
            }
            "took-back" => {
                let said = rest.first().filter(|word| is_revision(word));
                let revision = said.map_or_else(|| self.given(&node, &module), |word| revision(word));
                Event::TookBack { node, module, revision, cause: cause(&rest[usize::from(said.is_some())..]) }
            }
            "counted" => self.sample(node, module, rest),
            _ => {
                let release = release.unwrap_or_else(|| self.rollout().spec().moves[&module].candidate);
                let state = match verb {
                    "starting" => InstanceState::Starting,
                    "ready" => InstanceState::Ready,
                    "ended" => InstanceState::Ended,
                    "failed" => InstanceState::Failed(cause(rest)),
                    other => panic!("unknown command {other}"),
                };
                Event::Instance { node, module, release, state }
            }
        }
    }

    /// `counted a greeter candidate 3/200@5ms+4@2s stable 0/1800@5ms`: errors, requests, and how long each took; then
    /// how many are open, and for how long. Where they differ: `0/9@5ms*7,80ms*2`. With `r5 from=MS until=MS` before that,
    /// of another revision and time than those that the node applied last.
    fn sample(&self, node: Node, module: Module, rest: &[&str]) -> Event {
        let (revision, since, until, rest) = if let [said, from, until, rest @ ..] = rest
            && is_revision(said)
        {
            let time = |word: &str| Time(word.split_once('=').unwrap().1.parse().unwrap());
            (revision(said), time(from), time(until), rest)
        } else {
            let (revision, since) = self.since[&(node.clone(), module.clone())];
            (revision, since, self.now.plus(Millis(1)), rest)
        };
        let [_, candidate, _, stable] = rest else { panic!("not a sample: {rest:?}") };
        let (candidate, stable) = (figures(candidate), figures(stable));
        Event::Sample(Sample { node, module, revision, since, until, candidate, stable })
    }

    fn told(&self) -> Vec<(Node, Module)> {
        let status = self.rollout().status();
        let preparing = status.modules.iter().all(|module| module.nodes.is_empty());
        if preparing {
            let spec = self.rollout().spec();
            let nodes = spec.nodes.iter();
            return nodes
                .flat_map(|node| spec.moves.keys().map(|module| (node.clone(), module.clone())))
                .collect();
        }
        let modules = status.modules.iter();
        modules
            .flat_map(|module| {
                let nodes = module.nodes.iter().filter(|node| node.up);
                nodes.map(|node| (node.node.clone(), module.module.clone()))
            })
            .collect()
    }

    fn given(&self, node: &Node, module: &Module) -> Revision {
        self.rollout().assignment(node, module).expect("it was told something").revision
    }
}

/// `nodes=a,b modules=greeter:1->2 steps=10%,100% bake=30s ...`: what is not said is as in the default policy, except
/// for the steps' bakes.
fn spec(words: &[&str]) -> Spec {
    let given: BTreeMap<&str, &str> = words.iter().map(|word| word.split_once('=').unwrap()).collect();
    let mut policy = PolicySpec::default();
    if let Some(steps) = given.get("steps") {
        let shares = steps.split(',').map(|share| share.parse::<Share>().unwrap());
        policy.steps = shares.map(|share| Step { share, bake: Millis::seconds(30) }).collect();
    }
    for (key, value) in &given {
        match *key {
            "bake" => policy.steps.iter_mut().for_each(|step| step.bake = span(value)),
            "deadline" => policy.deadline = span(value),
            "expiry" => policy.expiry = span(value),
            "start" => policy.start_deadline = span(value),
            "standby" => policy.standby = span(value),
            "requests" => policy.min_requests = value.parse().unwrap(),
            "patience" => policy.patience = span(value),
            "spread" => policy.spread = *value == "yes",
            "spread-over" => policy.spread_over = Some((*value).to_owned()),
            "failing" => policy.max_failing = value.parse().unwrap(),
            "parallel" => policy.max_parallel = value.parse().ok(),
            "nodes" | "modules" | "steps" | "on" | "revision" => {}
            other => panic!("unknown key {other}"),
        }
    }
    let nodes = nodes(given["nodes"]);
    Spec {
        id: "ro-1".into(),
        by: "ada".to_owned(),
        moves: given["modules"].split(',').map(releases).collect(),
        nodes: nodes.keys().cloned().collect(),
        labels: nodes,
        on: given.get("on").map(|zone| ("zone".to_owned(), (*zone).to_owned())).into_iter().collect(),
        policy: Policy::new(policy).unwrap(),
        revision: given.get("revision").map_or(Revision(0), |number| revision(number)),
    }
}

/// `a,b,c`, `a@zone,b@zone`, or `n001..n100`.
fn nodes(text: &str) -> BTreeMap<Node, Labels> {
    match text.split_once("..") {
        None => text.split(',').map(labelled).collect(),
        Some((first, last)) => {
            let number = |name: &str| name.trim_start_matches('n').parse::<u32>().unwrap();
            (number(first)..=number(last))
                .map(|index| (Node(format!("n{index:03}")), Labels::new()))
                .collect()
        }
    }
}

/// `a`, or `a@zone`.
fn labelled(text: &str) -> (Node, Labels) {
    let (node, zone) = text.split_once('@').map_or((text, None), |(node, zone)| (node, Some(zone)));
    (node.into(), zone.map(|zone| ("zone".to_owned(), zone.to_owned())).into_iter().collect())
}

/// `greeter:1->2`, or `greeter:->1` for a first release.
fn releases(text: &str) -> (Module, Move) {
    let (module, releases) = text.split_once(':').unwrap();
    let (stable, candidate) = releases.split_once("->").unwrap();
    let stable = (!stable.is_empty()).then(|| ReleaseNumber(stable.parse().unwrap()));
    (module.into(), Move { stable, candidate: ReleaseNumber(candidate.parse().unwrap()) })
}

fn revision(text: &str) -> Revision {
    Revision(text.trim_start_matches('r').parse().unwrap())
}

fn span(text: &str) -> Millis {
    let number = |unit: &str| text.strip_suffix(unit).and_then(|number| number.parse::<u64>().ok());
    number("ms")
        .map(Millis)
        .or_else(|| number("s").map(Millis::seconds))
        .or_else(|| number("m").map(Millis::minutes))
        .unwrap_or_else(|| panic!("not a span of time: {text}"))
}

/// `r5`.
fn is_revision(word: &str) -> bool {
    word.strip_prefix('r')
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn figures(text: &str) -> Figures {
    let (errors, rest) = text.split_once('/').unwrap();
    let (ended, open) = rest.split_once('+').unwrap_or((rest, "0"));
    let (requests, took) = ended.split_once('@').unwrap_or((ended, "5ms"));
    let (errors, requests) = (errors.parse().unwrap(), requests.parse().unwrap());
    let (open, age) = open.split_once('@').unwrap_or((open, "0s"));
    Figures { requests, errors, latency: times(took, requests), open: times(age, open.parse().unwrap()) }
}

/// `5ms`: all of them took so long; `5ms*7,80ms*2`: so many did each.
fn times(text: &str, count: u64) -> Latency {
    let micros = |text: &str| match text.strip_suffix("us") {
        Some(number) => number.parse().unwrap(),
        None => span(text).0 * 1000,
    };
    Latency::from_counts(text.split(',').map(|part| match part.split_once('*') {
        Some((took, count)) => (micros(took), count.parse().unwrap()),
        None => (micros(part), count),
    }))
}

fn cause(words: &[&str]) -> Cause {
    let text = words[1..].join(" ");
    match words[0] {
        "load" => Cause::LoadFailed { text },
        "crash" => Cause::Crashed { signal: 11, text },
        "exit" => Cause::Exited { code: 1, text },
        "hang" => Cause::Hung { silent: Millis::seconds(3), limit: Millis::seconds(3) },
        "health" => Cause::FailingHealth { failures: 3, limit: 3, text },
        "memory" => Cause::OverMemory { used: 300 << 20, limit: 256 << 20 },
        "refused" => Cause::Refused { text },
        "start" => Cause::StartTimeout { limit: span(words[1]) },
        "processes" => Cause::OverProcesses { used: 64, limit: 64 },
        "denied" => Cause::Denied { call: "ptrace".to_owned(), times: 1 },
        "forged" => Cause::Forged { text },
        "unanswered" => {
            let Figures { errors: open, requests, .. } = figures(words[1]);
            Cause::Unanswered { open, requests, after: Millis::seconds(5), limit: Share::percent(50) }
        }
        "unknown" => serde_json::from_str(r#""possessed""#).unwrap(),
        "expired" => Cause::Expired { after: Millis::seconds(60) },
        "errors" => {
            let Figures { errors, requests, .. } = figures(words.get(1).copied().unwrap_or("20/20"));
            Cause::Errors { errors, requests, limit: Share::percent(50) }
        }
        "by" => Cause::ByHand { by: text },
        other => panic!("unknown cause {other}"),
    }
}
