//! The policy of one rollout: the node's, with what the caller wants otherwise.

use std::num::NonZeroU32;
use std::time::Duration;

use hot_proto::v1;
use hot_rollout::{Millis, Policy, PolicySpec, Ratio, Share, Step};
use tonic::Status;

use super::status::invalid;

/// The node's policy with what the caller wants otherwise.
pub(super) fn overridden(base: &Policy, wanted: v1::PolicyOverrides) -> Result<Policy, Status> {
    let mut spec: PolicySpec = base.spec().clone();
    let bake = wanted.bake.map(|bake| span("bake", bake)).transpose()?;
    if !wanted.steps.is_empty() {
        let own = bake.or_else(|| spec.steps.first().map(|step| step.bake)).unwrap_or_default();
        spec.steps =
            wanted.steps.into_iter().map(|wanted| step(wanted, own)).collect::<Result<_, Status>>()?;
    } else if let Some(bake) = bake {
        spec.steps.iter_mut().for_each(|step| step.bake = bake);
    }
    if let Some(rate) = wanted.max_error_rate {
        spec.error_rate = share("max_error_rate", rate)?;
    }
    if let Some(percent) = wanted.max_p99_ratio {
        spec.p99_ratio = Ratio(percent.saturating_mul(100));
    }
    spec.min_requests = wanted.min_requests.unwrap_or(spec.min_requests);
    spec.health_threshold = wanted.health_threshold.unwrap_or(spec.health_threshold);
    spec.spread = wanted.spread.unwrap_or(spec.spread);
    if let Some(label) = wanted.spread_over {
        spec.spread_over = Some(label).filter(|label| !label.is_empty());
    }
    if let Some(most) = wanted.max_parallel {
        spec.max_parallel = NonZeroU32::new(most);
    }
    spec.max_failing = wanted.max_failing.unwrap_or(spec.max_failing);
    for (field, wanted, into) in [
        ("start_deadline", wanted.start_deadline, &mut spec.start_deadline),
        ("health_interval", wanted.health_interval, &mut spec.health_interval),
        ("standby", wanted.standby, &mut spec.standby),
        ("deadline", wanted.deadline, &mut spec.deadline),
    ] {
        if let Some(wanted) = wanted {
            *into = span(field, wanted)?;
        }
    }
    Policy::new(spec).map_err(|error| {
        let field = error.mistakes.first().map_or("policy", |mistake| mistake.field());
        invalid(field, error.to_string(), "")
    })
}

fn step(wanted: v1::Step, bake: Millis) -> Result<Step, Status> {
    let bake = wanted.bake.map_or(Ok(bake), |own| span("steps.bake", own))?;
    Ok(Step { share: share("steps.share", wanted.share)?, bake })
}

fn share(field: &'static str, basis_points: u32) -> Result<Share, Status> {
    let found = u16::try_from(basis_points).ok().and_then(Share::new);
    found.ok_or_else(|| invalid(field, basis_points.to_string(), "at most 10000 basis points"))
}

fn span(field: &'static str, wanted: prost_types::Duration) -> Result<Millis, Status> {
    let found = format!("{} s", wanted.seconds);
    let span: Duration =
        wanted.try_into().map_err(|_negative| invalid(field, found, "a duration of 0 or more"))?;
    Ok(span.into())
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn base() -> Policy {
        Policy::new(PolicySpec::default()).unwrap()
    }

    #[test]
    fn what_is_not_said_is_the_nodes_policy() {
        assert_eq!(overridden(&base(), v1::PolicyOverrides::default()).unwrap(), base());
    }

    #[test]
    fn a_bake_counts_for_every_step_without_its_own() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let steps = vec![v1::Step { share: 1000, bake: None }, v1::Step { share: 10_000, bake: seconds(7) }];
        let wanted = v1::PolicyOverrides { steps, bake: seconds(3), ..v1::PolicyOverrides::default() };
        let policy = overridden(&base(), wanted).unwrap();
        let bakes: Vec<u64> = policy.spec().steps.iter().map(|step| step.bake.0).collect();
        assert_eq!(bakes, [3000, 7000]);

        let wanted = v1::PolicyOverrides { bake: seconds(3), ..v1::PolicyOverrides::default() };
        let policy = overridden(&base(), wanted).unwrap();
        assert!(policy.spec().steps.iter().all(|step| step.bake.0 == 3000));
    }

    #[test]
    fn waves_are_taken_over_and_lifted() {
        let wanted = v1::PolicyOverrides {
            spread_over: Some("zone".to_owned()),
            max_parallel: Some(2),
            max_failing: Some(1),
            ..v1::PolicyOverrides::default()
        };
        let waves = overridden(&base(), wanted).unwrap();
        let spec = waves.spec();
        assert_eq!(
            (spec.spread_over.as_deref(), spec.max_parallel, spec.max_failing),
            (Some("zone"), NonZeroU32::new(2), 1)
        );
        assert_eq!(overridden(&waves, v1::PolicyOverrides::default()).unwrap(), waves);
        let none = v1::PolicyOverrides {
            spread_over: Some(String::new()),
            max_parallel: Some(0),
            max_failing: Some(0),
            ..v1::PolicyOverrides::default()
        };
        assert_eq!(overridden(&waves, none).unwrap(), base());
    }

    #[test]
    fn a_policy_that_makes_no_sense_names_what_is_wrong() {
        let falling = vec![v1::Step { share: 5000, bake: None }, v1::Step { share: 1000, bake: None }];
        let over = vec![v1::Step { share: 12_000, bake: None }];
        let no_label = Some("a zone".to_owned());
        let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
        for wanted in [
            v1::PolicyOverrides { steps: falling, ..v1::PolicyOverrides::default() },
            v1::PolicyOverrides { steps: over, ..v1::PolicyOverrides::default() },
            v1::PolicyOverrides { deadline: negative, ..v1::PolicyOverrides::default() },
            v1::PolicyOverrides { spread_over: no_label, ..v1::PolicyOverrides::default() },
        ] {
            let status = overridden(&base(), wanted).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(!hot_proto::status::detail(&status).unwrap().field.is_empty(), "{status}");
        }
    }
}
