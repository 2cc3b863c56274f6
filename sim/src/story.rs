//! What a rollout was told, as a story in the format of `rollout/tests/scenarios`, which replays.

use std::fmt::Write as _;

use hot_rollout::{
    Cause, Command, Event, Figures, InstanceState, Kind, Labels, Latency, Left, Millis, Policy, PolicySpec,
    Rollout, Sample, Spec, Time,
};

use crate::player::Player;
use crate::show;

/// The story with what comes of it: the lines of [`crate::Ran::story`] are played anew, and what the rollout wants done stands
/// below those that it follows from.
///
/// # Panics
/// If the text is not such a story.
#[must_use]
pub fn replay(story: &str) -> String {
    let mut player = Player::default();
    let (mut told, mut outcome, mut open) = (String::new(), String::new(), false);
    let close = |player: &mut Player, told: &mut String, outcome: &mut String| {
        player.close(outcome);
        told.push_str("----\n");
        told.push_str(outcome);
        told.push('\n');
        outcome.clear();
    };
    for line in story.lines().filter(|line| !line.is_empty()) {
        told.push_str(line);
        told.push('\n');
        player.play(line, &mut outcome);
        open = outcome.is_empty();
        if !open {
            close(&mut player, &mut told, &mut outcome);
        }
    }
    if open {
        close(&mut player, &mut told, &mut outcome);
    }
    told
}

/// Writes down the rollout that runs, from its begin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder {
    /// Nothing is written down: for runs of which nobody reads the story.
    off: bool,
    lines: Vec<String>,
    /// After how many lines the snapshot was written last.
    saved: usize,
    /// The time of the last line.
    last: Time,
    /// When the rollout wants to be asked again, as of its last line.
    due: Option<Time>,
    /// When it began.
    began: Time,
    /// Where it stands.
    pub(crate) stands: String,
}

impl Recorder {
    pub(crate) fn new(off: bool) -> Self {
        Self { off, ..Self::default() }
    }

    /// A rollout begins; the story of the one before is over.
    pub(crate) fn begins(&mut self, spec: &Spec, kind: Kind, machine: &Rollout, at: Time) {
        if self.off {
            return;
        }
        let verb = if kind == Kind::Push { "push" } else { "rollback" };
        self.lines = vec![format!("{verb} {}", opening(spec))];
        self.stands.clear();
        (self.saved, self.last, self.began) = (0, at, at);
        self.handled(machine);
    }

    /// It is about to be told something.
    pub(crate) fn event(&mut self, machine: &Rollout, event: &Event, at: Time) {
        if self.off {
            return;
        }
        let at = at.max(machine.now());
        self.pass(at, matches!(event, Event::Timeout));
        if let Some(line) = said(event) {
            self.lines.push(line);
        }
    }

    /// Time passes. Where nothing was due in it, or its time-out is what happens, time-outs may fire.
    fn pass(&mut self, at: Time, is_timeout: bool) {
        let span = at.since(self.last);
        let quiet = self.due.is_none_or(|due| due > at);
        self.last = at;
        if is_timeout {
            self.lines.push(format!("after {}ms", span.0));
        } else if span.0 > 0 {
            self.lines.push(format!("{} {}ms", if quiet { "after" } else { "asleep" }, span.0));
        }
    }

    /// It was told.
    pub(crate) fn handled(&mut self, machine: &Rollout) {
        self.due = machine.next_timeout();
    }

    /// The rollout stands so at the end.
    pub(crate) fn ends(&mut self, machine: &Rollout) {
        if !self.off {
            self.stands = show::standing(machine, self.last.since(self.began));
        }
    }

    /// Its snapshot is written.
    pub(crate) fn saved(&mut self) {
        self.saved = self.lines.len();
    }

    /// The driver died, and another one goes on from the snapshot.
    pub(crate) fn crash(&mut self, at: Time) {
        if self.off {
            return;
        }
        if self.lines.get(self.saved).is_none_or(|line| line != "save") {
            self.lines.insert(self.saved, "save".to_owned());
        }
        if at > self.last {
            self.lines.push(format!("asleep {}ms", at.since(self.last).0));
            self.last = at;
        }
        self.lines.push("crash".to_owned());
    }

    /// All that was told, a line each.
    pub(crate) fn story(&self) -> String {
        let mut story = self.lines.join("\n");
        if !story.is_empty() {
            story.push('\n');
        }
        story
    }
}

fn opening(spec: &Spec) -> String {
    let labels = |node| spec.labels.get(node).and_then(|labels: &Labels| labels.get("zone"));
    let nodes = spec.nodes.iter().map(|node| match labels(node) {
        Some(zone) => format!("{node}@{zone}"),
        None => node.to_string(),
    });
    let moves = spec.moves.iter().map(|(module, releases)| {
        let stable = releases.stable.map(|stable| stable.to_string()).unwrap_or_default();
        format!("{module}:{stable}->{}", releases.candidate)
    });
    let mut line = format!(
        "nodes={} modules={} revision={} {}",
        nodes.collect::<Vec<_>>().join(","),
        moves.collect::<Vec<_>>().join(","),
        spec.revision.0,
        rules(&spec.policy)
    );
    if let Some(zone) = spec.on.get("zone") {
        write_to(&mut line, format_args!(" on={zone}"));
    }
    line
}

fn rules(policy: &Policy) -> String {
    let spec: &PolicySpec = policy.spec();
    let steps: Vec<String> = spec.steps.iter().map(|step| step.share.to_string()).collect();
    let bake = spec.steps.first().map_or(Millis(0), |step| step.bake);
    let mut line = format!(
        "steps={} bake={}ms deadline={}ms patience={}ms expiry={}ms start={}ms requests={} standby={}ms failing={}",
        steps.join(","),
        bake.0,
        spec.deadline.0,
        spec.patience.0,
        spec.expiry.0,
        spec.start_deadline.0,
        spec.min_requests,
        spec.standby.0,
        spec.max_failing
    );
    if spec.spread {
        line.push_str(" spread=yes");
    }
    if let Some(label) = &spec.spread_over {
        write_to(&mut line, format_args!(" spread-over={label}"));
    }
    if let Some(most) = spec.max_parallel {
        write_to(&mut line, format_args!(" parallel={most}"));
    }
    line
}

/// The line of an event; a time-out is in the time that passes.
fn said(event: &Event) -> Option<String> {
    Some(match event {
        Event::NodeUp { node, labels } => match labels.get("zone") {
            Some(zone) => format!("up {node}@{zone}"),
            None => format!("up {node}"),
        },
        Event::NodeDown { node } => format!("down {node}"),
        Event::NodeLeft { node, why: Left::Cordoned } => format!("cordoned {node}"),
        Event::NodeLeft { node, why: Left::Fleet | Left::Labels } => format!("left {node}"),
        Event::Prepared { node, module } => format!("prepared {node} {module}"),
        Event::PrepareFailed { node, module, text } => format!("cannot {node} {module} {text}"),
        Event::Instance { node, module, release, state } => {
            let state = match state {
                InstanceState::Starting => "starting".to_owned(),
                InstanceState::Ready => "ready".to_owned(),
                InstanceState::Ended => "ended".to_owned(),
                InstanceState::Failed(cause) => {
                    return Some(format!("failed {node} {module}/{release} {}", words(cause)));
                }
            };
            format!("{state} {node} {module}/{release}")
        }
        Event::Sample(sample) => counted(sample),
        Event::Applied { node, module, revision, serves } => {
            format!("applied {node} {module} {revision}{}", if *serves { "" } else { " unserved" })
        }
        Event::TookBack { node, module, revision, cause } => {
            format!("took-back {node} {module} {revision} {}", words(cause))
        }
        Event::LocalRollback { node, module, by } => format!("alone {node} {module} {by}"),
        Event::Command(command) => match command {
            Command::Pause { by } => format!("pause {by}"),
            Command::Resume { by } => format!("resume {by}"),
            Command::Abort { by } => format!("abort {by}"),
            Command::Supersede { by } => format!("supersede {by}"),
            Command::Promote { by, full } => format!("promote {by}{}", if *full { " full" } else { "" }),
        },
        Event::Timeout => return None,
    })
}

fn counted(sample: &Sample) -> String {
    let Sample { node, module, revision, since, until, candidate, stable } = sample;
    format!(
        "counted {node} {module} {revision} from={} until={} candidate {} stable {}",
        since.0,
        until.0,
        figures(candidate),
        figures(stable)
    )
}

/// `3/200@5000us*190,20000us*10+4@2000000us*4`: errors, requests, how many took how long; then the open ones.
fn figures(figures: &Figures) -> String {
    let mut text = format!("{}/{}", figures.errors, figures.requests);
    if !figures.latency.is_empty() {
        write_to(&mut text, format_args!("@{}", times(&figures.latency)));
    }
    if !figures.open.is_empty() {
        write_to(&mut text, format_args!("+{}@{}", figures.open.count(), times(&figures.open)));
    }
    text
}

fn times(latency: &Latency) -> String {
    let each = latency.counts().map(|(micros, count)| format!("{micros}us*{count}"));
    each.collect::<Vec<_>>().join(",")
}

fn words(cause: &Cause) -> String {
    match cause {
        Cause::LoadFailed { text } => format!("load {text}"),
        Cause::StartTimeout { limit } => format!("start {}ms", limit.0),
        Cause::Crashed { text, .. } => format!("crash {text}"),
        Cause::Exited { text, .. } => format!("exit {text}"),
        Cause::Hung { .. } => "hang".to_owned(),
        Cause::FailingHealth { text, .. } => format!("health {text}"),
        Cause::OverMemory { .. } => "memory".to_owned(),
        Cause::OverProcesses { .. } => "processes".to_owned(),
        Cause::Denied { .. } => "denied".to_owned(),
        Cause::Forged { text } => format!("forged {text}"),
        Cause::Refused { text } => format!("refused {text}"),
        Cause::Errors { errors, requests, .. } => format!("errors {errors}/{requests}"),
        Cause::Unanswered { open, requests, .. } => format!("unanswered {open}/{requests}"),
        Cause::Expired { .. } => "expired".to_owned(),
        Cause::ByHand { by } => format!("by {by}"),
        Cause::Foreign(_) => "unknown".to_owned(),
    }
    .trim_end()
    .to_owned()
}

fn write_to(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _cannot_fail = text.write_fmt(what);
}
