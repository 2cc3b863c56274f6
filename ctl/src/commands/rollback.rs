//! `hotctl rollback`.

use hot_proto::v1::{RollbackRequest, RollbackResponse, RollbackTiming, Rollout, rollback_request};

use super::Context;
use super::steer::Aim;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::RollbackJson;
use crate::node::Wait;
use crate::output::{Tone, paint};
use crate::{progress, words};

/// Go back to the release before, at once
///
/// Aborts a running rollout; else returns to the preceding stable release, or to the one that --to names. Traffic has
/// moved when this returns with 0; with 5 that release has no instance that serves, and the text says why.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hotctl rollback greeter\n  hotctl rollback greeter --to 3        # a release\n  \
                        hotctl rollback greeter --to 1.0.0    # a version"
)]
pub(crate) struct Args {
    #[command(flatten)]
    aim: Aim,

    /// A release number or a version
    #[arg(long, value_name = "RELEASE|VERSION", value_parser = parse_goal)]
    to: Option<Goal>,
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
    let to = args.to.map(|goal| match goal {
        Goal::Release(release) => rollback_request::To::Release(release),
        Goal::Version(version) => rollback_request::To::Version(version.to_string()),
    });
    let module = args.aim.module;
    let request =
        RollbackRequest { module: module.clone(), to, message: args.aim.message, request_id: String::new() };
    let answer = client.ask_after(Wait::WayBack, client.rollouts().rollback(request)).await?;
    let unserved = unserved(answer.rollout.as_ref(), &module);
    if context.out.json() {
        context.out.object(&RollbackJson::of_rollback(&module, answer))?;
    } else {
        let text = sentence(&module, &answer, unserved.as_deref());
        context.out.text(&paint(&text, tone(unserved.as_ref()), context.out.colour()))?;
    }
    Ok(exit(unserved.as_ref()))
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
    let how = if answer.aborted { " (the running rollout was aborted)" } else { "" };
    let module = words::clean(module);
    let end = unserved.map_or_else(|| timing(answer.timing), |why| format!("; {why}"));
    format!("{module}: {} -> {}{how}{end}", named(&answer.from), named(&answer.to))
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
