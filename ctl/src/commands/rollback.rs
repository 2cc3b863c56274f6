//! `hotctl rollback`.

use hot_proto::v1::{
    LiftRequest, LiftResponse, LocalRollback, RollbackRequest, RollbackResponse, RollbackTiming, Rollout,
    rollback_request,
};

use super::Context;
use super::steer::Aim;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::{LiftJson, RollbackJson};
use crate::node::{Client, Wait};
use crate::output::{Out, Tone, paint};
use crate::{progress, words};

/// Go back to the release before, at once
///
/// Aborts a running rollout; else returns to the preceding stable release, or to the one that --to names. Traffic has
/// moved when this returns with 0; with 5 that release has no instance that serves, and the text says why. A node that
/// can't tell its fleet, as while etcd is gone, goes back alone, which is 5 as well: so say it on each node, by its socket. That
/// stands until the fleet goes the same way, or --lift has the node follow it again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hotctl rollback greeter\n  hotctl rollback greeter --to 3        # a release\n  \
                        hotctl rollback greeter --to 1.0.0    # a version\n  \
                        hotctl rollback greeter --lift        # nodes that went back alone follow their fleet again"
)]
pub(crate) struct Args {
    #[command(flatten)]
    aim: Aim,

    /// A release number or a version
    #[arg(long, value_name = "RELEASE|VERSION", value_parser = parse_goal)]
    to: Option<Goal>,

    /// Have the nodes that went back alone follow their fleet again
    #[arg(long, conflicts_with_all = ["to", "message"])]
    lift: bool,
}

/// Where to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Goal {
    Release(u64),
    Version(semver::Version),
}

/// A whole number is a release, everything else must be a version.
fn parse_goal(text: &str) -> Result<Goal, String> {
    if let Ok(release) = text.parse::<u64>() {
        return if release == 0 {
            Err("releases count from 1; `hotctl history MODULE` shows them".to_owned())
        } else {
            Ok(Goal::Release(release))
        };
    }
    semver::Version::parse(text).map(Goal::Version).map_err(|error| {
        format!("neither a release number nor a version ({error}); `hotctl history MODULE` shows both")
    })
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    if args.lift {
        return lift(&client, args.aim.module, context.out).await;
    }
    let to = args.to.map(|goal| match goal {
        Goal::Release(release) => rollback_request::To::Release(release),
        Goal::Version(version) => rollback_request::To::Version(version.to_string()),
    });
    let module = args.aim.module;
    let request =
        RollbackRequest { module: module.clone(), to, message: args.aim.message, request_id: String::new() };
    let answer = client.ask_after(Wait::WayBack, client.rollouts().rollback(request)).await?;
    let unserved = unserved(answer.rollout.as_ref(), &module);
    let exit = if answer.alone.is_some() { Exit::Unfinished } else { exit(unserved.as_ref()) };
    if context.out.json() {
        context.out.object(&RollbackJson::of_rollback(&module, answer))?;
    } else {
        let text = sentence(&module, &answer, unserved.as_deref());
        let tone = if answer.alone.is_some() { Tone::Warn } else { tone(unserved.as_ref()) };
        context.out.text(&paint(&text, tone, context.out.colour()))?;
    }
    Ok(exit)
}

/// Has the nodes that went back alone follow their fleet again.
async fn lift(client: &Client, module: String, out: &mut Out) -> Result<Exit, Failure> {
    let answer = client.ask(client.rollouts().lift(LiftRequest { module: module.clone() })).await?;
    let exit = if answer.silent.is_empty() { Exit::Success } else { Exit::Unfinished };
    if out.json() {
        out.object(&LiftJson::new(&module, answer))?;
    } else {
        out.text(&lifted(&module, &answer).join("\n"))?;
    }
    Ok(exit)
}

/// What `--lift` has done, a line for each node.
fn lifted(module: &str, answer: &LiftResponse) -> Vec<String> {
    let module = words::clean(module);
    let mut lines: Vec<String> = answer
        .lifted
        .iter()
        .map(|of| {
            let (node, by) = (words::clean(&of.node), words::clean(&of.principal));
            format!("{module}: {node} follows its fleet again, which {by} had taken back alone")
        })
        .collect();
    for node in answer.silent.iter().map(|node| words::clean(node)) {
        lines.push(format!(
            "{module}: {node} does not answer, and stands alone still if it went back alone: say it once more when `hotctl nodes` \
             shows it as ready"
        ));
    }
    if lines.is_empty() {
        lines.push(format!("{module}: no node went back alone, so there is nothing to lift"));
    }
    lines
}

/// ` on n2 alone, since its fleet could not be told: ...`; empty where the fleet was told.
pub(crate) fn alone(of: Option<&LocalRollback>) -> String {
    let Some(of) = of else { return String::new() };
    let (node, module) = (words::clean(&of.node), words::clean(&of.module));
    let unserved =
        if of.unserved.is_empty() { String::new() } else { format!("; {}", words::clean(&of.unserved)) };
    let to = of.to.as_ref().map_or(0, |to| to.release);
    format!(
        " on {node} alone, since its fleet could not be told: {}{unserved}. That stands until the fleet goes the same way: when it \
         can be told, `hotctl rollback {module} --to {to}` has all of it do so, and `hotctl rollback {module} --lift` has {node} \
         follow it again",
        words::clean(&of.why)
    )
}

/// Why the stable release of `module` does not serve, of which the node says so.
pub(crate) fn unserved(rollout: Option<&Rollout>, module: &str) -> Option<String> {
    let moved = rollout?.modules.iter().find(|moved| moved.module == module)?;
    (!moved.unserved.is_empty()).then(|| words::clean(&moved.unserved))
}

/// How going back ended: what was left has no traffic any more, and yet it is not done while nothing serves instead.
pub(crate) fn exit(unserved: Option<&String>) -> Exit {
    if unserved.is_some() { Exit::Unfinished } else { Exit::Success }
}

pub(crate) fn tone(unserved: Option<&String>) -> Tone {
    if unserved.is_some() { Tone::Bad } else { Tone::Good }
}

/// `greeter: 1.1.0 (2) -> 1.0.0 (1), traffic moved in 75 us`, or why nothing serves there.
fn sentence(module: &str, answer: &RollbackResponse, unserved: Option<&str>) -> String {
    let named = |release: &Option<_>| release.as_ref().map_or_else(|| "?".to_owned(), progress::named);
    let how = if answer.alone.is_some() {
        ""
    } else if answer.aborted {
        " (the running rollout was aborted)"
    } else {
        ""
    };
    let module = words::clean(module);
    let end = unserved.map_or_else(|| timing(answer.timing), |why| format!("; {why}"));
    let alone = alone(answer.alone.as_ref());
    format!("{module}: {} -> {}{how}{end}{alone}", named(&answer.from), named(&answer.to))
}

/// `, traffic moved in 75 us`, by the node's clock; nothing when the node did not say.
pub(crate) fn timing(timing: Option<RollbackTiming>) -> String {
    timing.map_or_else(String::new, |timing| {
        // The last pick of the old release is what users see; the flip may be later than it when there is no load.
        let us = timing.last_pick_us.map_or(timing.flip_us, |last| last.max(timing.flip_us));
        let [whole, rest] = [us / 1000, us % 1000];
        format!(", traffic moved in {whole}.{rest:03} ms")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hot_proto::v1::ReleaseRef;

    #[test]
    fn a_goal_is_a_release_or_a_version() {
        assert_eq!(parse_goal("3"), Ok(Goal::Release(3)));
        assert_eq!(parse_goal("1.0.0-rc.1"), Ok(Goal::Version("1.0.0-rc.1".parse().expect("a version"))));
        assert!(parse_goal("0").is_err());
        assert!(parse_goal("1.0").is_err());
        assert!(parse_goal("-1").is_err());
    }

    #[test]
    fn the_sentence_has_the_time() {
        let release = |release, version: &str| {
            Some(ReleaseRef { release, version: version.to_owned(), ..ReleaseRef::default() })
        };
        let mut answer = RollbackResponse {
            from: release(2, "1.1.0"),
            to: release(1, "1.0.0"),
            timing: Some(RollbackTiming { received: None, flip_us: 80, last_pick_us: Some(1234) }),
            ..RollbackResponse::default()
        };
        assert_eq!(
            sentence("greeter", &answer, None),
            "greeter: 1.1.0 (2) -> 1.0.0 (1), traffic moved in 1.234 ms"
        );
        answer.aborted = true;
        answer.timing = None;
        assert_eq!(
            sentence("greeter", &answer, None),
            "greeter: 1.1.0 (2) -> 1.0.0 (1) (the running rollout was aborted)"
        );
        let mut rollout = progress::examples::baking();
        assert_eq!(unserved(Some(&rollout), "greeter"), None);
        rollout.modules[0].unserved = "stable release 1 has no instance that serves".to_owned();
        let why = unserved(Some(&rollout), "greeter");
        assert_eq!((exit(why.as_ref()), exit(None)), (Exit::Unfinished, Exit::Success));
        answer.timing = Some(RollbackTiming::default());
        assert_eq!(
            sentence("greeter", &answer, why.as_deref()),
            "greeter: 1.1.0 (2) -> 1.0.0 (1) (the running rollout was aborted); stable release 1 has no instance that \
             serves"
        );
    }
}
