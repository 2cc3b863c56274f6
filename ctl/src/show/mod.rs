//! Modules, versions, history, nodes and events as text. Pure functions of what the node said.

pub(crate) mod inspect;
pub(crate) mod plan;

use std::collections::BTreeMap;
use std::time::SystemTime;

use hot_proto::v1::{
    DeniedCall, Event, HistoryEntry, Instance, InstanceState, Module, Node, NodeProblem, Outcome, Phase,
    ReleaseRef, Role, Swap, VersionsResponse,
};

use crate::on;
use crate::output::{Layout, Tone, paint};
use crate::progress::{alone, named};
use crate::table::{Cell, Table, folded, paragraph};
use crate::words;

/// Where what a field says begins.
const FIELD: usize = 13;

/// Every module in one line each.
pub(crate) fn modules(modules: &[Module], layout: Layout) -> Vec<String> {
    if modules.is_empty() {
        return vec!["no modules yet; push the first one with `hotctl push FILE`".to_owned()];
    }
    let mut table = Table::new(["NAME", "PHASE", "STABLE", "CANDIDATE", "SHARE", "REASON"]);
    for module in modules {
        table.row([
            Cell::from(&module.name),
            phase(module.phase),
            release(module.stable.as_ref()),
            release(module.candidate.as_ref()),
            share(module),
            Cell::from(why(module)),
        ]);
    }
    table.lines(layout)
}

/// One module in full, with each of its instances.
pub(crate) fn module(module: &Module, now: SystemTime, layout: Layout) -> Vec<String> {
    let mut lines = vec![paint(&words::clean(&module.name), Tone::Strong, layout.colour)];
    let mut field = |name: &str, text: &str| {
        if !text.is_empty() {
            lines.extend(folded(&format!("  {name:<11}{}", words::clean(text)), FIELD, layout));
        }
    };
    field("phase", &words::phase(module.phase).replace('_', " "));
    let release = |release: &ReleaseRef| {
        format!("{} {}{}", named(release), words::short_digest(&release.digest), on_nodes(release))
    };
    field("stable", &module.stable.as_ref().map_or_else(|| "none".to_owned(), release));
    if let Some(candidate) = &module.candidate {
        field("candidate", &format!("{} at {}", release(candidate), words::share(module.share)));
    }
    field("standby", &module.standby.as_ref().map(release).unwrap_or_default());
    field("reason", &module.reason);
    field("waiting on", &module.waiting_on);
    for failed in alone(&module.failed, &module.reason) {
        field("failed", &failed.reason);
    }
    field("rollout", &module.rollout);
    field("routes", &module.routes.join(" "));
    let instances = instances(module, now);
    if let Some(instances) = instances {
        lines.push(String::new());
        lines.extend(instances.lines(layout));
        lines.extend(held_without(module, layout));
    }
    for node in module.nodes.iter().filter(|node| !node.took_back.is_empty()) {
        let text = format!("{} decided by itself: {}", node.node, node.took_back);
        lines.extend(paragraph(&words::clean(&text), layout));
    }
    for instance in module.nodes.iter().flat_map(|node| &node.instances) {
        lines.extend(denied(instance, layout));
        lines.extend(last_lines(instance, layout));
    }
    lines
}

/// What an instance was refused, those calls first that it made most often.
fn denied(instance: &Instance, layout: Layout) -> Vec<String> {
    if instance.denied.is_empty() {
        return Vec::new();
    }
    let call = |of: &DeniedCall| match of.times {
        1 => format!("{} once", of.call),
        times => format!("{} {times} times", of.call),
    };
    let calls: Vec<String> = instance.denied.iter().map(call).collect();
    let text = format!("instance {} was refused system calls: {}", instance.id, calls.join(", "));
    paragraph(&words::clean(&text), layout)
}

/// What an instance that failed printed last.
pub(crate) fn last_lines(instance: &Instance, layout: Layout) -> Vec<String> {
    if instance.last_lines.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![format!("instance {} of release {} last printed:", instance.id, instance.release)];
    for line in &instance.last_lines {
        lines.extend(paragraph(
            &paint(&format!("  {}", words::clean(line)), Tone::Dim, layout.colour),
            layout,
        ));
    }
    lines
}

fn instances(module: &Module, now: SystemTime) -> Option<Table<11>> {
    let mut table = Table::new([
        "NODE", "INSTANCE", "VERSION", "ROLE", "STATE", "WEIGHT", "REQUESTS", "ERRORS", "P99 MS", "STARTED",
        "REASON",
    ]);
    let mut any = false;
    for node in &module.nodes {
        for instance in &node.instances {
            any = true;
            table.row([
                Cell::from(&node.node),
                Cell::from(instance.id.to_string()),
                Cell::from(format!("{} ({})", instance.version, instance.release)),
                Cell::from(words::role(instance.role).unwrap_or_default()),
                state(instance),
                Cell::from(words::share(instance.weight)),
                Cell::from(instance.requests.to_string()),
                Cell::toned(
                    &instance.errors.to_string(),
                    if instance.errors > 0 { Tone::Warn } else { Tone::Plain },
                ),
                Cell::from(if instance.requests > 0 {
                    words::millis(instance.p99_ms)
                } else {
                    String::new()
                }),
                Cell::from(instance.started.map(|then| words::ago(then, now)).unwrap_or_default()),
                Cell::from(&instance.reason),
            ]);
        }
    }
    any.then_some(table)
}

/// What instances that run are held without, one paragraph for all that lack the same.
fn held_without(module: &Module, layout: Layout) -> Vec<String> {
    let mut lacking: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let running = module.nodes.iter().flat_map(|node| &node.instances);
    for instance in running.filter(|it| it.state() != InstanceState::Ended && !it.missing.is_empty()) {
        lacking.entry(instance.missing.join(", ")).or_default().push(instance.id.to_string());
    }
    let line = |(missing, ids): (String, Vec<String>)| {
        let who = if ids.len() == 1 { "instance" } else { "instances" };
        paragraph(&words::clean(&format!("{who} {}: held without {missing}", ids.join(", "))), layout)
    };
    lacking.into_iter().flat_map(line).collect()
}

fn state(instance: &Instance) -> Cell {
    let tone = match instance.state() {
        InstanceState::Ready => Tone::Good,
        InstanceState::Ended => Tone::Bad,
        InstanceState::Starting | InstanceState::Stopping | InstanceState::Unspecified => Tone::Plain,
    };
    Cell::toned(words::state(instance.state), tone)
}

fn phase(value: i32) -> Cell {
    let tone = match Phase::try_from(value) {
        Ok(Phase::Done) => Tone::Good,
        Ok(Phase::RollingBack | Phase::RolledBack | Phase::Incomplete | Phase::Failed) => Tone::Bad,
        Ok(Phase::Paused | Phase::Superseded) => Tone::Warn,
        Ok(Phase::Unspecified | Phase::Preparing | Phase::Starting | Phase::Baking | Phase::Promoting)
        | Err(_) => Tone::Plain,
    };
    Cell::toned(&words::phase(value).replace('_', " "), tone)
}

fn release(release: Option<&ReleaseRef>) -> Cell {
    Cell::from(release.map(named).unwrap_or_default())
}

/// ` on zone=a`, where a release is not for all nodes.
fn on_nodes(release: &ReleaseRef) -> String {
    if release.on.is_empty() { String::new() } else { format!(" on {}", on::said(&release.on)) }
}

fn share(module: &Module) -> Cell {
    Cell::from(if module.candidate.is_some() { words::share(module.share) } else { String::new() })
}

/// The reason, and what it waits for.
fn why(module: &Module) -> String {
    match (module.reason.as_str(), module.waiting_on.as_str()) {
        ("", text) | (text, "") => text.to_owned(),
        (reason, waiting_on) => format!("{reason}; {waiting_on}"),
    }
}

/// The versions of a module, and below them which are not on all nodes of the fleet that answer.
pub(crate) fn versions(answer: &VersionsResponse, now: SystemTime, layout: Layout) -> Vec<String> {
    let mut table = Table::new(["VERSION", "TARGET", "DIGEST", "SIZE", "SIGNED BY", "COMMITTED", "STATE"]);
    for version in &answer.versions {
        let state = if version.removed {
            // A node of an older version does not say how.
            Cell::toned(if version.gone.is_empty() { "removed" } else { &version.gone }, Tone::Dim)
        } else if !version.quarantined.is_empty() {
            Cell::toned(&format!("quarantined: {}", version.quarantined), Tone::Bad)
        } else {
            match version.role() {
                Role::Stable => Cell::toned("stable", Tone::Good),
                Role::Candidate => Cell::toned("candidate", Tone::Warn),
                Role::Standby => Cell::from("standby"),
                Role::Unspecified => Cell::from("stored"),
            }
        };
        table.row([
            Cell::from(&version.version),
            Cell::from(&version.target),
            Cell::from(words::short_digest(&version.digest)),
            Cell::from(if version.removed { String::new() } else { words::size(version.size) }),
            Cell::from(&version.principal),
            Cell::from(version.committed.map(|then| words::ago(then, now)).unwrap_or_default()),
            state,
        ]);
    }
    let mut lines = table.lines(layout);
    let all = answer.heard.as_ref().map_or(0, |heard| heard.nodes.len());
    for version in answer.versions.iter().filter(|of| !of.removed && of.nodes.len() < all) {
        let text = format!("{} for {} is on {}", version.version, version.target, version.nodes.join(", "));
        lines.extend(paragraph(&words::clean(&text), layout));
    }
    lines
}

/// The history of a module.
pub(crate) fn history(entries: &[HistoryEntry], now: SystemTime, layout: Layout) -> Vec<String> {
    let mut table = Table::new(["RELEASE", "VERSION", "HOW", "ENDED AS", "BY", "STARTED", "SWAP", "WHY"]);
    // A rollback makes the release stable that an earlier push has made so before: the star is at what did it last.
    let stable = entries.iter().position(|entry| entry.stable);
    for (index, entry) in entries.iter().enumerate() {
        let release = entry.release.clone().unwrap_or_default();
        let mark = if stable == Some(index) { " *" } else { "" };
        let why = match (entry.message.as_str(), entry.reason.as_str()) {
            ("", reason) => reason.to_owned(),
            (message, "") => message.to_owned(),
            (message, reason) => format!("{message} ({reason})"),
        };
        table.row([
            Cell::from(format!("{}{mark}", release.release)),
            Cell::from(format!("{}{}", release.version, on_nodes(&release))),
            Cell::from(if entry.rollback { "rollback" } else { "push" }),
            ended(entry),
            Cell::from(&entry.principal),
            Cell::from(entry.started.map(|then| words::ago(then, now)).unwrap_or_default()),
            swaps(&entry.swaps),
            Cell::from(why),
        ]);
    }
    let mut lines = table.lines(layout);
    if stable.is_some() {
        lines.push(paint("* is stable now", Tone::Dim, layout.colour));
    }
    lines
}

/// How traffic moved by a rollout, the last time that it did: `12 in flight, 0 lost, p99 3.10, 3.30, 3.00 ms`, where the
/// latter are before, during and after. What was sent again is not lost to anybody. Bad where any of them lost something.
fn swaps(swaps: &[Swap]) -> Cell {
    let lost = |swap: &Swap| swap.lost.saturating_sub(swap.sent_again);
    let Some(last) = swaps.last() else { return Cell::from("") };
    let fate = match (lost(last), last.sent_again) {
        (0, again) if again > 0 => format!("{again} sent again"),
        (lost, _) => format!("{lost} lost"),
    };
    let p99 = [last.before, last.during, last.after].map(|window| window.and_then(|window| window.p99_ms));
    let known = if p99.iter().all(Option::is_none) {
        String::new()
    } else {
        let p99 = p99.map(|p99| p99.map_or_else(|| "-".to_owned(), words::millis));
        format!(", p99 {} ms", p99.join(", "))
    };
    let tone = if swaps.iter().any(|swap| lost(swap) > 0) { Tone::Bad } else { Tone::Plain };
    Cell::toned(&format!("{} in flight, {fate}{known}", last.in_flight), tone)
}

fn ended(entry: &HistoryEntry) -> Cell {
    let tone = match entry.outcome() {
        Outcome::Done => Tone::Good,
        Outcome::Failed | Outcome::RolledBack | Outcome::Incomplete => Tone::Bad,
        Outcome::Aborted | Outcome::Superseded | Outcome::Unspecified => Tone::Warn,
    };
    Cell::toned(&words::outcome(entry.outcome).unwrap_or("running").replace('_', " "), tone)
}

/// The nodes, and below them what each lacks.
pub(crate) fn nodes(nodes: &[Node], now: SystemTime, layout: Layout) -> Vec<String> {
    let mut table = Table::new(["NODE", "STATE", "VERSION", "TARGET", "HTTP", "RUNNING SINCE"]);
    for node in nodes {
        let state = node_state(node);
        table.row([
            Cell::from(if node.dev { format!("{} (dev)", node.name) } else { node.name.clone() }),
            state,
            Cell::from(&node.version),
            Cell::from(&node.target),
            Cell::from(&node.http),
            Cell::from(node.since.map(|then| words::ago(then, now)).unwrap_or_default()),
        ]);
    }
    let mut lines = table.lines(layout);
    for node in nodes {
        let missing = node.missing.iter();
        let missing = missing.map(|missing| words::clean(&format!("{} lacks: {missing}", node.name)));
        lines.extend(missing.flat_map(|missing| paragraph(&missing, layout)));
        lines.extend(problems(&node.problems, now, layout));
    }
    lines
}

fn node_state(node: &Node) -> Cell {
    let ready = if node.ready { "ready" } else { "not ready" };
    let ready = &if node.leads { format!("{ready}, leads") } else { ready.to_owned() };
    match &node.cordon {
        None => Cell::toned(ready, if node.ready { Tone::Good } else { Tone::Bad }),
        Some(cordon) if cordon.drain => Cell::toned(&format!("{ready}, drained"), Tone::Warn),
        Some(_) => Cell::toned(&format!("{ready}, cordoned"), Tone::Warn),
    }
}

/// What is wrong with nodes, a paragraph each.
pub(crate) fn problems(problems: &[NodeProblem], now: SystemTime, layout: Layout) -> Vec<String> {
    let line = |problem: &NodeProblem| {
        let since =
            problem.since.map(|then| format!(" (since {})", words::ago(then, now))).unwrap_or_default();
        let text = format!("{}: {}: {}{since}", problem.node, problem.code, problem.text);
        let pieces = paragraph(&words::clean(&text), layout);
        pieces.into_iter().map(|piece| paint(&piece, Tone::Bad, layout.colour))
    };
    problems.iter().flat_map(line).collect()
}

/// One event: a line, or a paragraph on a terminal that is too narrow for it; with its node in a column of that width.
pub(crate) fn event(event: &Event, column: Option<usize>, layout: Layout) -> Vec<String> {
    let time = event.time.map(words::time).unwrap_or_default();
    let by = if event.principal.is_empty() { String::new() } else { format!(" (by {})", event.principal) };
    // As a rule the text names the module; a reader of all modules' events must know it in any case.
    let mut names = event.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let module = match event.module.as_str() {
        "" => String::new(),
        module if names.any(|name| name == module) => String::new(),
        module => format!("{module}: "),
    };
    let node = column.map_or_else(String::new, |width| format!("{:<width$}  ", event.node));
    paragraph(&words::clean(&format!("{time}  {node}{}  {module}{}{by}", event.kind, event.text)), layout)
}

/// Events, a line each; what nodes say one after the other in the same words is one, with the time of the first.
pub(crate) fn events(events: &[Event], column: Option<usize>, layout: Layout) -> Vec<String> {
    let same = |one: &Event, other: &Event| {
        let what =
            |of: &Event| (of.kind.clone(), of.module.clone(), of.rollout.clone(), of.principal.clone());
        column.is_some() && one.node != other.node && what(one) == what(other) && one.text == other.text
    };
    let said: Vec<Event> = events
        .chunk_by(same)
        .filter_map(|all| {
            let mut first = all.first()?.clone();
            if all.len() > 1 {
                first.node = format!("{} nodes", all.len());
            }
            Some(first)
        })
        .collect();
    let width = said.iter().map(|event| event.node.chars().count()).max().unwrap_or(0);
    said.iter().flat_map(|of| event(of, column.map(|column| column.max(width)), layout)).collect()
}

#[cfg(test)]
pub(crate) mod examples;
#[cfg(test)]
mod tests;
