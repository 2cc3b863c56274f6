//! What a push wants of its rollout that differs from the node's policy, as it is typed.

use std::time::Duration;

use hot_proto::BASIS_POINTS;
use hot_proto::v1::{PolicyOverrides, Step};

use crate::words;

/// How the rollout goes.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct PolicyArgs {
    /// Try it with this share of the traffic, then all: short for --steps SHARE,100%
    #[arg(long, value_name = "SHARE", allow_hyphen_values = true, value_parser = words::parse_share, conflicts_with = "steps")]
    canary: Option<u32>,

    /// The shares to go through; the last one is 100% [default: the node's policy]
    #[arg(long, value_name = "SHARE,...", allow_hyphen_values = true, value_parser = parse_steps)]
    steps: Option<Steps>,

    /// How long each step is watched, e.g. 30s [default: the node's policy]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = words::parse_span)]
    bake: Option<Duration>,

    /// Put the share on every node instead of on few
    #[arg(long)]
    spread: bool,

    /// Have each step's nodes evenly over the values of this label, e.g. zone [default: the node's policy]
    #[arg(long, value_name = "LABEL")]
    spread_over: Option<String>,

    /// Let at most so many nodes start it at once within a step; 0 for no bound [default: the node's policy]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    max_parallel: Option<u32>,

    /// Let so many nodes fail alone before all go back [default: the node's policy]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    max_failing: Option<u32>,
}

/// Shares in basis points, rising, the last one all. A type of its own because clap takes a `Vec` for many values.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Steps(Vec<u32>);

fn parse_steps(text: &str) -> Result<Steps, String> {
    let shares: Vec<u32> = text
        .split(',')
        .map(words::parse_share)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if let Some(pair) = shares.windows(2).find(|pair| pair[0] >= pair[1]) {
        let [before, after] = [words::share(pair[0]), words::share(pair[1])];
        return Err(format!("{after} comes after {before}: expected shares that rise"));
    }
    match shares.last() {
        Some(&BASIS_POINTS) => Ok(Steps(shares)),
        _ => Err(format!("the last step must be 100%, e.g. {text},100%")),
    }
}

impl PolicyArgs {
    /// What differs from the node's policy, or nothing.
    pub(crate) fn overrides(&self) -> Option<PolicyOverrides> {
        let mut shares = self.steps.as_ref().map_or_else(Vec::new, |steps| steps.0.clone());
        if let Some(share) = self.canary {
            shares = vec![share, BASIS_POINTS];
            // `--canary 100%` is one step, not two alike.
            shares.dedup();
        }
        let steps = shares.into_iter().map(|share| Step { share, bake: None }).collect();
        // Longer than a contract duration can say is as good as for ever; the node says what is too long.
        let bake = self.bake.map(|bake| {
            let for_ever = prost_types::Duration { seconds: i64::MAX, nanos: 0 };
            prost_types::Duration::try_from(bake).unwrap_or(for_ever)
        });
        let overrides = PolicyOverrides {
            steps,
            bake,
            // What is not typed is as the node has it: there is no way to type `false`.
            spread: self.spread.then_some(true),
            spread_over: self.spread_over.clone(),
            max_parallel: self.max_parallel,
            max_failing: self.max_failing,
            ..PolicyOverrides::default()
        };
        (overrides != PolicyOverrides::default()).then_some(overrides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_rise_to_all() {
        assert_eq!(parse_steps("10%,50%,100%"), Ok(Steps(vec![1000, 5000, 10_000])));
        assert_eq!(parse_steps("100%"), Ok(Steps(vec![10_000])));
        assert!(parse_steps("10%,50%").expect_err("no end").contains("10%,50%,100%"));
        assert!(parse_steps("50%,10%,100%").expect_err("falls").contains("10% comes after 50%"));
        assert!(parse_steps("50%,50%,100%").is_err());
        assert!(parse_steps("10,100%").expect_err("no percent").contains("\"10\""));
        assert!(parse_steps("").is_err());
    }

    #[test]
    fn what_was_not_said_is_the_nodes_policy() {
        let overrides = |steps: Option<&str>, canary, bake| {
            let steps = steps.map(|steps| parse_steps(steps).expect("steps"));
            PolicyArgs { canary, steps, bake, ..PolicyArgs::default() }.overrides()
        };
        assert_eq!(overrides(None, None, None), None);
        let shares = |policy: Option<PolicyOverrides>| {
            policy.expect("overrides").steps.iter().map(|step| step.share).collect::<Vec<_>>()
        };
        assert_eq!(shares(overrides(None, Some(1000), None)), [1000, 10_000]);
        assert_eq!(shares(overrides(None, Some(10_000), None)), [10_000]);
        assert_eq!(shares(overrides(Some("5%,100%"), None, None)), [500, 10_000]);
        let bake = overrides(None, None, Some(Duration::from_millis(1500))).expect("overrides");
        assert!(bake.steps.is_empty(), "only the bake time is overridden");
        assert_eq!(bake.bake, Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }));
        let waves = PolicyArgs {
            spread: true,
            spread_over: Some("zone".to_owned()),
            max_parallel: Some(2),
            max_failing: Some(0),
            ..PolicyArgs::default()
        };
        let expected = PolicyOverrides {
            spread: Some(true),
            spread_over: Some("zone".to_owned()),
            max_parallel: Some(2),
            max_failing: Some(0),
            ..PolicyOverrides::default()
        };
        assert_eq!(waves.overrides(), Some(expected), "a 0 that was typed is said");
    }
}
