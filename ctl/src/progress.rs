//! A rollout's progress as text: the line of a change, the block that a terminal redraws, the sentence at the end. Pure
//! functions of what the node said; nothing here prints or waits.

use std::time::Duration;

use hot_proto::v1::{FailedNode, Figures, Outcome, Phase, ReleaseRef, Rollout, RolloutModule};

use crate::output::{Tone, paint};
use crate::words;

/// Cells of the bar. Wide enough to see it move, narrow enough for 80 columns.
const BAR: usize = 20;

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
/// has other ones than 59s; and so is what is tried to have stable serve again.
fn key(rollout: &Rollout) -> (i32, i32, u32, u32, i32, String, String, Vec<bool>, usize) {
    let is_number = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    let still = |text: &str| text.split(' ').filter(|word| !is_number(word)).collect::<Vec<_>>().join(" ");
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
        (Phase::Starting, Some(step)) => format!("{phase} hosts for {}, {}", words::share(step.share), of()),
        (Phase::Baking, Some(step)) => {
            let bake = step.bake.and_then(|bake| Duration::try_from(bake).ok());
            let bake = bake.map_or_else(String::new, |bake| format!(", for {}", words::span(bake)));
            format!("{phase} at {}, {}{bake}", words::share(rollout.share), of())
        }
        (Phase::Paused, _) => {
            format!("{phase} at {} in {}", words::share(rollout.share), words::phase(rollout.paused_in))
        }
        _ => phase,
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
                format!("{title} is incomplete{why}{failed}; `hotctl nodes` shows which nodes answer"),
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
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once() {
        let before = examples::baking();
        assert_eq!(
            change(None, &before).as_deref(),
            Some("greeter 1.1.0: baking at 10%, step 1 of 3, for 30s")
        );
        let mut now = before.clone();
        now.bake_left = None;
        now.modules[0].candidate_figures = None;
        assert_eq!(change(Some(&before), &now), None, "figures and time are no change");
        now.waiting_on = "12 more requests".to_owned();
        assert_eq!(
            change(Some(&before), &now).as_deref(),
            Some("greeter 1.1.0: baking at 10%, step 1 of 3, for 30s; 12 more requests")
        );
        let mut later = now.clone();
        later.waiting_on = "9 more requests".to_owned();
        assert_eq!(change(Some(&now), &later), None, "a count down is no change");
        now.waiting_on = "holding: 9 of 20; goes on with what there is in 1m1s".to_owned();
        later.waiting_on = "holding: 10 of 20; goes on with what there is in 59s".to_owned();
        assert_eq!(change(Some(&now), &later), None, "nor is one that loses a unit");
        later.set_phase(Phase::RollingBack);
        later.reason = "errors 5.00% > 1.00%".to_owned();
        later.waiting_on = String::new();
        assert_eq!(
            change(Some(&now), &later).as_deref(),
            Some("greeter 1.1.0: rolling back: errors 5.00% > 1.00%")
        );
        later.set_phase(Phase::Superseded);
        later.reason = "superseded by rollout r-8".to_owned();
        assert_eq!(change(Some(&now), &later).as_deref(), Some("greeter 1.1.0: superseded by rollout r-8"));
    }

    #[test]
    fn headlines() {
        let mut rollout = examples::baking();
        rollout.set_phase(Phase::Starting);
        rollout.step = 1;
        assert_eq!(headline(&rollout), "starting hosts for 50%, step 2 of 3");
        rollout.set_phase(Phase::Paused);
        rollout.set_paused_in(Phase::Baking);
        assert_eq!(headline(&rollout), "paused at 10% in baking");
        rollout.set_phase(Phase::Preparing);
        assert_eq!(headline(&rollout), "preparing");
        rollout.set_phase(Phase::Baking);
        rollout.step = u32::MAX;
        assert_eq!(headline(&rollout), "baking", "a step that does not exist");
    }

    #[test]
    fn the_block_shows_both_sides() {
        let mut rollout = examples::baking();
        rollout.waiting_on = "30 requests on the candidate".to_owned();
        assert_eq!(
            block(&rollout, 100, false),
            [
                "greeter 1.1.0: baking at 10%, step 1 of 3, for 30s [###########         ] 13s left",
                "  candidate 1.1.0 (2)           120 requests      0 errors  p99 1.25 ms",
                "  stable    1.0.0 (1)          1080 requests      1 errors  p99 1.10 ms",
                "  30 requests on the candidate",
            ]
        );
        assert!(
            block(&rollout, 40, true).iter().all(|line| line.contains('\x1b') || line.chars().count() < 40)
        );
        assert!(block(&rollout, 40, false).iter().all(|line| line.chars().count() < 40));
        assert_eq!(block(&rollout, 0, false).len(), 4, "a terminal without columns");
        rollout.set_phase(Phase::Preparing);
        rollout.bake_left = None;
        assert_eq!(block(&rollout, 100, false).len(), 2, "no figures before a bake");
    }

    #[test]
    fn the_bar_takes_odd_times() {
        let mut rollout = examples::baking();
        rollout.bake_left = Some(prost_types::Duration { seconds: 99, nanos: 0 });
        assert_eq!(bar(&rollout), format!(" [{}] 30s left", " ".repeat(20)));
        rollout.steps[0].bake = Some(prost_types::Duration { seconds: 0, nanos: 0 });
        assert_eq!(bar(&rollout), format!(" [{}] 0ms left", "#".repeat(20)));
        rollout.bake_left = Some(prost_types::Duration { seconds: -5, nanos: 0 });
        assert_eq!(bar(&rollout), "");
    }

    #[test]
    fn endings_say_what_serves() {
        let mut rollout = examples::baking();
        let mut told = |outcome, reason: &str| {
            rollout.set_outcome(outcome);
            rollout.reason = reason.to_owned();
            ending(&rollout).0
        };
        assert_eq!(told(Outcome::Done, ""), "greeter 1.1.0 (release 2) is stable");
        assert_eq!(
            told(Outcome::RolledBack, "errors 5.00% > 1.00%"),
            "greeter 1.1.0 was taken back: errors 5.00% > 1.00%; greeter 1.0.0 (release 1) serves"
        );
        assert_eq!(
            told(Outcome::Failed, "exited with 3"),
            "greeter 1.1.0 failed: exited with 3; it was the first release, so there is nothing to go back to"
        );
        assert_eq!(
            told(Outcome::Superseded, "superseded by rollout r-8"),
            "greeter 1.1.0 was superseded by rollout r-8"
        );
        assert_eq!(told(Outcome::Superseded, ""), "greeter 1.1.0 was superseded by a later rollout");
    }

    #[test]
    fn nothing_is_said_to_serve_that_does_not() {
        let before = examples::baking();
        let mut rollout = before.clone();
        rollout.modules[0].unserved = "stable release 1 has no instance that serves: it is gone".to_owned();
        let why = "greeter: stable release 1 has no instance that serves: it is gone";
        let line = change(Some(&before), &rollout).expect("a change");
        assert_eq!(line, format!("greeter 1.1.0: baking at 10%, step 1 of 3, for 30s; {why}"));
        assert_eq!(block(&rollout, 100, false).last(), Some(&format!("  {why}")));
        let mut later = rollout.clone();
        later.modules[0].unserved.push_str("; the next one is starting");
        assert_eq!(change(Some(&rollout), &later), None);
        later.set_phase(Phase::Promoting);
        assert_eq!(
            change(Some(&rollout), &later).as_deref(),
            Some("greeter 1.1.0: promoting"),
            "it was told"
        );
        let mut told = |outcome| {
            rollout.set_outcome(outcome);
            ending(&rollout)
        };
        assert_eq!(told(Outcome::Aborted).0, format!("greeter 1.1.0 was aborted; {why}"));
        assert_eq!(told(Outcome::RolledBack).0, format!("greeter 1.1.0 was taken back; {why}"));
        assert_eq!(told(Outcome::Done), (format!("greeter 1.1.0 (release 2) is stable; {why}"), Tone::Warn));
    }

    #[test]
    fn a_node_that_failed_alone_is_told_once_and_at_the_end() {
        let before = examples::baking();
        let mut rollout = before.clone();
        rollout.failed = vec![examples::failed("n3")];
        let why = &examples::failed("n3").reason;
        let line = change(Some(&before), &rollout).expect("a change");
        assert_eq!(line, format!("greeter 1.1.0: baking at 10%, step 1 of 3, for 30s; failed alone: {why}"));
        assert_eq!(block(&rollout, 100, false).last(), Some(&format!("  failed: {why}")));
        let mut later = rollout.clone();
        later.failed.push(examples::failed("n5"));
        later.set_phase(Phase::RollingBack);
        later.reason =
            format!("2 of 9 nodes failed (n3, n5), at most 1 may: {}", examples::failed("n5").reason);
        let line = change(Some(&rollout), &later).expect("a change");
        assert_eq!(line, format!("greeter 1.1.0: rolling back: {}", later.reason));
        rollout.set_outcome(Outcome::Incomplete);
        let ending = ending(&rollout).0;
        assert!(
            ending.starts_with(&format!("greeter 1.1.0 is incomplete; failed alone: {why}; ")),
            "{ending}"
        );
    }

    #[test]
    fn foreign_text_is_cleaned() {
        let mut rollout = examples::baking();
        rollout.reason = "\x1b[2J".to_owned();
        rollout.waiting_on = "\x1b[2J".to_owned();
        rollout.modules[0].module = "\x1b[2J".to_owned();
        rollout.failed = vec![FailedNode { reason: "\x1b[2Jx".to_owned(), ..FailedNode::default() }];
        let all = [
            change(None, &rollout).expect("a change"),
            block(&rollout, 100, false).concat(),
            ending(&rollout).0,
        ];
        assert!(all.iter().all(|text| !text.contains('\x1b')), "{all:?}");
    }
}
