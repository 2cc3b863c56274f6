//! A rollout's progress as text: the line of a change, the block that a terminal redraws, the sentence at the end. Pure
//! functions of what the node said; nothing here prints or waits.

use std::time::Duration;

use hot_proto::v1::{FailedNode, Figures, Outcome, Phase, ReleaseRef, Rollout, RolloutModule};

use crate::output::{Tone, paint};
use crate::words;

/// Cells of the bar. Wide enough to see it move, narrow enough for 80 columns.
const BAR: usize = 20;

/// Nodes of a step that are named.
const NAMED: usize = 3;

/// How the node begins the reason of a rollout that was superseded; said once is enough.
const SUPERSEDED: &str = "superseded by ";

/// What a rollout moves: `greeter 1.1.0`, or several joined by `+`.
pub(crate) fn title(rollout: &Rollout) -> String {
    let module = |module: &RolloutModule| {
        let version = module.candidate.as_ref().map_or("", |release| release.version.as_str());
        format!("{} {version}", module.module).trim_end().to_owned()
    };
    words::clean(&rollout.modules.iter().map(module).collect::<Vec<_>>().join(" + "))
}

/// The line for a change from `before` to `now`; `None` when a reader would see nothing new. Figures and the passing
/// of time are no change.
pub(crate) fn change(before: Option<&Rollout>, now: &Rollout) -> Option<String> {
    if before.is_some_and(|before| key(before) == key(now)) {
        return None;
    }
    let mut line = format!("{}: {}", title(now), headline(now));
    if now.phase() == Phase::Superseded && now.reason.starts_with(SUPERSEDED) {
        line = format!("{}: {}", title(now), words::clean(&now.reason));
    } else if !now.reason.is_empty() {
        line.push_str(": ");
        line.push_str(&words::clean(&now.reason));
    }
    if !now.waiting_on.is_empty() {
        line.push_str("; ");
        line.push_str(&words::clean(&now.waiting_on));
    }
    let known = |failed: &FailedNode| before.is_some_and(|before| before.failed.contains(failed));
    for failed in alone(&now.failed, &now.reason).filter(|failed| !known(failed)) {
        line.push_str(&words::clean(&format!("; failed alone: {}", failed.reason)));
    }
    let told = before.map(unserved).is_some_and(|before| !before.is_empty());
    if !told {
        line.push_str(&unserved(now));
    }
    Some(line)
}

/// What makes one change differ from the last. Numbers in sentences count down and are left out with their units, as 1m5s
/// has other ones than 59s; and so is what is tried to have stable serve again, and which nodes are waited for: there may be
/// hundreds, and each comes in its turn.
fn key(rollout: &Rollout) -> (i32, i32, u32, u32, i32, String, String, Vec<bool>, usize) {
    let is_number = |word: &str| word.starts_with(|first: char| first.is_ascii_digit());
    let is_node = |word: &str| {
        let word = word.trim_end_matches([',', ';']);
        ["and", "more"].contains(&word) || rollout.nodes.iter().any(|node| node == word)
    };
    let counts = |word: &&str| !is_number(word) && !is_node(word);
    let still = |text: &str| text.split(' ').filter(counts).collect::<Vec<_>>().join(" ");
    (
        rollout.phase,
        rollout.paused_in,
        rollout.step,
        rollout.share,
        rollout.outcome,
        still(&rollout.reason),
        still(&rollout.waiting_on),
        rollout.modules.iter().map(|module| module.unserved.is_empty()).collect(),
        rollout.failed.len(),
    )
}

/// Where it is: `baking at 10%, step 1 of 3, for 30s`.
fn headline(rollout: &Rollout) -> String {
    let phase = words::phase(rollout.phase).replace('_', " ");
    let step = usize::try_from(rollout.step).ok().and_then(|step| rollout.steps.get(step));
    let of = || format!("step {} of {}", rollout.step.saturating_add(1), rollout.steps.len());
    match (rollout.phase(), step) {
        (Phase::Starting, Some(step)) => {
            format!("{phase} hosts for {}{}, {}", words::share(step.share), wave(rollout), of())
        }
        (Phase::Baking, Some(step)) => {
            let bake = step.bake.and_then(|bake| Duration::try_from(bake).ok());
            let bake = bake.map_or_else(String::new, |bake| format!(", for {}", words::span(bake)));
            format!("{phase} at {}{}, {}{bake}", words::share(rollout.share), wave(rollout), of())
        }
        (Phase::Paused, _) => {
            format!("{phase} at {} in {}", words::share(rollout.share), words::phase(rollout.paused_in))
        }
        _ => phase,
    }
}

/// ` on n1, n4 and 3 more`: the nodes of this step, where it is not the only node that there is.
fn wave(rollout: &Rollout) -> String {
    if rollout.nodes.len() < 2 || rollout.carriers.is_empty() {
        return String::new();
    }
    let named: Vec<String> = rollout.carriers.iter().take(NAMED).map(|node| words::clean(node)).collect();
    match rollout.carriers.len().saturating_sub(NAMED) {
        0 => format!(" on {}", named.join(", ")),
        more => format!(" on {} and {more} more", named.join(", ")),
    }
}

/// The block that a terminal redraws: where it is with a bar of the bake, the figures of both sides, and what it waits
/// for. No line is wider than `width` columns.
pub(crate) fn block(rollout: &Rollout, width: usize, colour: bool) -> Vec<String> {
    let mut lines =
        vec![(format!("{}: {}{}", title(rollout), headline(rollout), bar(rollout)), Tone::Strong)];
    for module in &rollout.modules {
        if rollout.phase() != Phase::Baking && rollout.phase() != Phase::Paused {
            break;
        }
        lines.push((side("candidate", module.candidate.as_ref(), module.candidate_figures), Tone::Plain));
        if module.stable.is_some() {
            lines.push((side("stable", module.stable.as_ref(), module.stable_figures), Tone::Plain));
        }
    }
    if !rollout.waiting_on.is_empty() {
        lines.push((format!("  {}", words::clean(&rollout.waiting_on)), Tone::Warn));
    }
    let failed = alone(&rollout.failed, &rollout.reason);
    lines.extend(failed.map(|failed| (words::clean(&format!("  failed: {}", failed.reason)), Tone::Bad)));
    for module in rollout.modules.iter().filter(|module| !module.unserved.is_empty()) {
        lines.push((words::clean(&format!("  {}: {}", module.module, module.unserved)), Tone::Bad));
    }
    lines.into_iter().map(|(line, tone)| paint(&cut(&line, width), tone, colour)).collect()
}

/// The nodes that failed while the others went on: not the one that is the reason for all.
pub(crate) fn alone<'a>(failed: &'a [FailedNode], reason: &str) -> impl Iterator<Item = &'a FailedNode> {
    failed.iter().filter(move |failed| !reason.contains(&failed.reason))
}

/// `text` in at most `width` columns less one (a full line would wrap on some terminals).
fn cut(text: &str, width: usize) -> String {
    text.chars().take(width.saturating_sub(1).max(1)).collect()
}

/// ` [######              ] 21s left`, or nothing outside of a bake.
fn bar(rollout: &Rollout) -> String {
    let step = usize::try_from(rollout.step).ok().and_then(|step| rollout.steps.get(step));
    let bake = step.and_then(|step| step.bake).and_then(|bake| Duration::try_from(bake).ok());
    let left = rollout.bake_left.and_then(|left| Duration::try_from(left).ok());
    let (Some(bake), Some(left)) = (bake, left) else { return String::new() };
    let left = left.min(bake);
    let done = (bake - left).as_millis();
    let cells = done.saturating_mul(BAR as u128).checked_div(bake.as_millis()).unwrap_or(BAR as u128);
    let cells = usize::try_from(cells).unwrap_or(BAR).min(BAR);
    format!(" [{}{}] {} left", "#".repeat(cells), " ".repeat(BAR - cells), words::span(round_up(left)))
}

/// Whole seconds: a countdown of milliseconds can't be read.
fn round_up(left: Duration) -> Duration {
    Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0))
}

/// One side's figures: `  candidate 1.1.0 (2)  120 requests  0 errors  p99 1.20 ms`.
fn side(name: &str, release: Option<&ReleaseRef>, figures: Option<Figures>) -> String {
    let release = release.map_or_else(|| "-".to_owned(), named);
    let figures = figures.unwrap_or_default();
    let p99 =
        if figures.requests == 0 { "-".to_owned() } else { format!("{} ms", words::millis(figures.p99_ms)) };
    format!(
        "  {name:<9} {release:<14} {:>8} requests {:>6} errors  p99 {p99}",
        figures.requests, figures.errors
    )
}

/// `1.1.0 (2)`: version and release number.
pub(crate) fn named(release: &ReleaseRef) -> String {
    format!("{} ({})", words::clean(&release.version), release.release)
}

/// The sentence for a rollout that ended, with its tone.
pub(crate) fn ending(rollout: &Rollout) -> (String, Tone) {
    let title = title(rollout);
    let why = match rollout.reason.as_str() {
        "" => String::new(),
        reason => format!(": {}", words::clean(reason)),
    };
    let serves = serving(rollout);
    match rollout.outcome() {
        Outcome::Done => {
            let releases = rollout.modules.iter().filter_map(|module| module.candidate.as_ref());
            let numbers: Vec<String> = releases.map(|release| release.release.to_string()).collect();
            let (serves, tone) = match unserved(rollout) {
                all if all.is_empty() => (all, Tone::Good),
                not => (not, Tone::Warn),
            };
            (format!("{title} (release {}) is stable{serves}", numbers.join(", ")), tone)
        }
        Outcome::Failed => (
            format!("{title} failed{why}; it was the first release, so there is nothing to go back to"),
            Tone::Bad,
        ),
        Outcome::RolledBack => (format!("{title} was taken back{why}{serves}"), Tone::Bad),
        Outcome::Aborted => (format!("{title} was aborted{why}{serves}"), Tone::Warn),
        Outcome::Superseded if rollout.reason.starts_with(SUPERSEDED) => {
            (format!("{title} was {}", words::clean(&rollout.reason)), Tone::Warn)
        }
        Outcome::Superseded => (format!("{title} was superseded by a later rollout{why}"), Tone::Warn),
        Outcome::Incomplete => {
            let failed: Vec<String> = alone(&rollout.failed, &rollout.reason)
                .map(|failed| words::clean(&format!("; failed alone: {}", failed.reason)))
                .collect();
            let failed = failed.concat();
            (
                format!(
                    "{title} is incomplete{why}{failed}; `hotctl nodes` shows which do not answer, and which were rolled back alone"
                ),
                Tone::Bad,
            )
        }
        Outcome::Unspecified => (format!("{title} has not ended{why}"), Tone::Warn),
    }
}

/// `; greeter 1.0.0 (release 1) serves`, for each module that has a stable release; of one that does not serve, why.
fn serving(rollout: &Rollout) -> String {
    let serve = rollout.modules.iter().filter(|module| module.unserved.is_empty());
    let named = serve.filter_map(|module| {
        let stable = module.stable.as_ref()?;
        Some(words::clean(&format!("{} {} (release {})", module.module, stable.version, stable.release)))
    });
    let named: Vec<String> = named.collect();
    let serves = if named.is_empty() { String::new() } else { format!("; {} serves", named.join(", ")) };
    serves + &unserved(rollout)
}

/// `; greeter: stable release 1 has no instance that serves: ...`, for each module of which that is so.
fn unserved(rollout: &Rollout) -> String {
    let unserved = rollout.modules.iter().filter(|module| !module.unserved.is_empty());
    unserved.map(|module| words::clean(&format!("; {}: {}", module.module, module.unserved))).collect()
}

#[cfg(test)]
pub(crate) mod examples {
    use super::*;
    use hot_proto::v1::Step;
    use prost_types::{Duration, Timestamp};

    fn release(release: u64, version: &str, digit: &str) -> ReleaseRef {
        ReleaseRef { release, version: version.to_owned(), digest: digit.repeat(64), ..ReleaseRef::default() }
    }

    /// A node that crashed with 1.1.0.
    pub(crate) fn failed(node: &str) -> FailedNode {
        let reason = format!("greeter release 2 on {node}: crashed with SIGSEGV, 0 crashes are allowed");
        FailedNode { node: node.to_owned(), code: "crashed".to_owned(), reason }
    }

    /// `greeter` 1.1.0 at 10%, 12.5 s before the end of a 30 s bake.
    pub(crate) fn baking() -> Rollout {
        let step = |share| Step { share, bake: Some(Duration { seconds: 30, nanos: 0 }) };
        Rollout {
            id: "r-7".to_owned(),
            modules: vec![RolloutModule {
                module: "greeter".to_owned(),
                stable: Some(release(1, "1.0.0", "a")),
                candidate: Some(release(2, "1.1.0", "b")),
                stable_figures: Some(Figures { requests: 1080, errors: 1, p50_ms: 0.5, p99_ms: 1.1 }),
                candidate_figures: Some(Figures { requests: 120, errors: 0, p50_ms: 0.5, p99_ms: 1.25 }),
                unserved: String::new(),
            }],
            phase: Phase::Baking.into(),
            step: 0,
            steps: vec![step(1000), step(5000), step(10_000)],
            share: 1000,
            bake_left: Some(Duration { seconds: 12, nanos: 500_000_000 }),
            started: Some(Timestamp { seconds: 100, nanos: 0 }),
            updated: Some(Timestamp { seconds: 117, nanos: 500_000_000 }),
            deadline: Some(Timestamp { seconds: 3700, nanos: 0 }),
            principal: "dev".to_owned(),
            message: "try it".to_owned(),
            nodes: vec!["n1".to_owned()],
            ..Rollout::default()
        }
    }
}

#[cfg(test)]
mod tests;
