//! Shows what a rollout wants in lines that an operator can read.

use std::fmt::Write as _;

use hot_rollout::{Action, Assignment, Millis, Node, Outcome, Role, Rollout, Status};

/// Each action on a line, in order, with `(persist)` where the snapshot has to be written.
pub(crate) fn actions(actions: &[Action], told: &mut String) {
    let mut persisted = actions.first().is_none_or(|action| !action.toward_stable());
    let mut rest = actions;
    while let Some((first, _)) = rest.split_first() {
        if !persisted && !first.toward_stable() {
            writeln!(told, "(persist)").unwrap();
            persisted = true;
        }
        let alike = rest.iter().take_while(|action| alike(first, action)).count();
        let (group, later) = rest.split_at(alike.max(1));
        rest = later;
        writeln!(told, "{}{}", if first.toward_stable() { "first: " } else { "" }, action(group)).unwrap();
    }
}

/// Whether two actions differ in nothing but the node.
fn alike(left: &Action, right: &Action) -> bool {
    match (left, right) {
        (
            Action::Assign { assignment: left, direction: toward, .. },
            Action::Assign { assignment: right, direction, .. },
        ) => left == right && toward == direction,
        (Action::Prepare { modules: left, .. }, Action::Prepare { modules: right, .. }) => left == right,
        _ => false,
    }
}

fn node_of(action: &Action) -> Option<&Node> {
    if let Action::Assign { node, .. } | Action::Prepare { node, .. } = action { Some(node) } else { None }
}

fn group_name(group: &[Action]) -> String {
    let nodes: Vec<&Node> = group.iter().filter_map(node_of).collect();
    match nodes[..] {
        [first, .., last] if nodes.len() > 3 => format!("{first}..{last} ({} nodes)", nodes.len()),
        _ => nodes.iter().map(|node| node.as_str()).collect::<Vec<_>>().join(","),
    }
}

fn action(group: &[Action]) -> String {
    let nodes = group_name(group);
    match &group[0] {
        Action::Prepare { modules, .. } => {
            let modules: Vec<String> =
                modules.iter().map(|(module, release)| format!("{module}/{release}")).collect();
            format!("prepare {nodes} {}", modules.join(" "))
        }
        Action::Assign { assignment, .. } => format!("assign {nodes} {}", assigned(assignment)),
        Action::Renew { revision } => format!("renew up to {revision}"),
        Action::SetStable { module, release: Some(release), .. } => format!("stable {module}/{release}"),
        Action::SetStable { module, release: None, .. } => format!("stable {module}: none"),
        Action::Quarantine { module, release, .. } => format!("quarantine {module}/{release}"),
        Action::Note(note) => format!("note {}", note.text),
        Action::Finished(outcome) => finished(outcome),
    }
}

fn assigned(assignment: &Assignment) -> String {
    let mut text = format!("{} {}:", assignment.module, assignment.revision);
    for (release, role, weight) in assignment.weights() {
        let role = match role {
            Role::Stable => "stable",
            Role::Candidate => "candidate",
            Role::Standby => "standby",
        };
        write!(text, " {role}/{release} {weight}").unwrap();
    }
    if assignment.weights().is_empty() {
        text.push_str(" nothing");
    }
    text
}

fn finished(outcome: &Outcome) -> String {
    let code = outcome.code();
    match outcome {
        Outcome::Done => format!("finished {code}"),
        Outcome::Incomplete { nodes } => {
            let nodes: Vec<&str> = nodes.iter().map(Node::as_str).collect();
            format!("finished {code} without {}", nodes.join(","))
        }
        Outcome::RolledBack { reason, .. } | Outcome::Failed { reason } | Outcome::Superseded { reason } => {
            format!("finished {code} ({})", reason.code())
        }
    }
}

/// Where it stands, and what it waits for.
pub(crate) fn standing(rollout: &Rollout, passed: Millis) -> String {
    let status = rollout.status();
    let mut text = format!("{passed} {}", status.phase);
    if let Some(step) = status.step {
        write!(text, " {step}/{}", status.steps).unwrap();
    }
    if let Some(waiting) = status.waiting_on {
        write!(text, ": {waiting}").unwrap();
    }
    text
}

/// What `hotctl status` has to go by.
pub(crate) fn status(status: &Status) -> String {
    let mut text = String::new();
    for (node, reason) in &status.failed {
        writeln!(text, "failed {node}: {reason}").unwrap();
    }
    for module in &status.modules {
        let release = |release: Option<hot_rollout::ReleaseNumber>| {
            release.map_or_else(|| "none".to_owned(), |release| release.to_string())
        };
        writeln!(
            text,
            "{} {}: stable {}, candidate {}, share {}",
            module.module,
            module.phase,
            release(module.stable),
            release(module.candidate),
            module.share
        )
        .unwrap();
        for node in &module.nodes {
            let weight = node.weight.map_or_else(|| "no candidate".to_owned(), |weight| weight.to_string());
            writeln!(
                text,
                "  {}: {weight}{}{}{}{}, {} requests, {} errors",
                node.node,
                if node.up { "" } else { ", down" },
                if node.ready { ", ready" } else { "" },
                if node.applied { ", applied" } else { "" },
                if node.failed.is_some() { ", failed" } else { "" },
                node.figures.requests,
                node.figures.errors
            )
            .unwrap();
        }
    }
    text
}
