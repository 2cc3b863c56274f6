//! `hotctl push`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hot_artifact::{FileReader, ReadAt as _};
use hot_proto::BASIS_POINTS;
use hot_proto::v1::{PolicyOverrides, StartModule, StartRequest, StartResponse, Step, UploadResponse};
use serde::Serialize;
use tonic::Status;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{self, is_lost};
use crate::json::RolloutJson;
use crate::node::{Client, Wait, answer_after};
use crate::offer::{Offer, named};
use crate::output::{Out, OutputError, Tone, paint};
use crate::signing::{self, Means};
use crate::upload::{self, Patience, Source};
use crate::{progress, words};

/// Starting is idempotent, so a lost answer is asked for again; a node that restarts is back within seconds.
const START_ATTEMPTS: u32 = 5;
const START_PAUSE: Duration = Duration::from_secs(1);

/// Sign a module, upload it, and roll it out
///
/// Follows the rollout to its end; the exit code says how it ended. Several files of one version are its targets. In
/// this version a rollout moves one module: push several one after the other. A push supersedes a rollout of the module
/// that runs. Ctrl-C leaves the rollout running.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hotctl push greeter-1.1.0.so\n  \
                        hotctl push greeter-1.1.0.so --canary 10% --bake 30s\n  \
                        hotctl push greeter-1.1.0.so --steps 1%,10%,50%,100% --message 'new greeting'\n  \
                        hotctl push greeter-1.1.0.so --key ~/.ssh/id_ed25519 --detach")]
pub(crate) struct Args {
    /// The module's files, one for each target
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Try it with this share of the traffic, then all: short for --steps SHARE,100%
    #[arg(long, value_name = "SHARE", allow_hyphen_values = true, value_parser = words::parse_share, conflicts_with = "steps")]
    canary: Option<u32>,

    /// The shares to go through; the last one is 100% [default: the node's policy]
    #[arg(long, value_name = "SHARE,...", allow_hyphen_values = true, value_parser = parse_steps)]
    steps: Option<Steps>,

    /// How long each step is watched, e.g. 30s [default: the node's policy]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = words::parse_span)]
    bake: Option<Duration>,

    /// Why, for the history
    #[arg(short, long, value_name = "TEXT", default_value_t, hide_default_value = true)]
    message: String,

    /// Print the rollout's id and return instead of following it
    #[arg(long)]
    detach: bool,

    /// Stop following after this time (exit code 5); the rollout goes on
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = words::parse_span, conflicts_with = "detach")]
    timeout: Option<Duration>,

    #[command(flatten)]
    signing: SigningArgs,
}

/// How the files get their signatures. By default with a dev node's own key on a dev node, else with the first key of
/// ssh-agent that the node trusts.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct SigningArgs {
    /// Sign with this OpenSSH private key
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    /// Use this signature (ssh-keygen -Y sign -n hot-module); once for each file
    #[arg(long, value_name = "FILE")]
    signature: Vec<PathBuf>,

    /// Send no signature: for files that the node has already
    #[arg(long)]
    no_sign: bool,
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

/// One line of `-o json` before the rollout runs; from then on see [`follow`].
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum PushJson<'a> {
    /// A file is on the node.
    Uploaded {
        file: &'a Path,
        module: &'a str,
        version: &'a str,
        target: &'a str,
        digest: &'a str,
        size: u64,
        principal: &'a str,
        already_had: bool,
    },
    /// The rollout runs on the node.
    Started { rollout: Box<RolloutJson>, already_started: bool },
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let offers = args.files.iter().map(|path| Offer::open(path)).collect::<Result<Vec<_>, _>>()?;
    let modules = modules(&offers)?;
    one_module(&modules)?;
    let client = context.connect().await?;
    for offer in &offers {
        announce(context.out, offer)?;
    }
    let request_id = format!("{:032x}", rand::random::<u128>());
    upload_all(&client, context.out, offers, &args.signing, &request_id).await?;

    let interrupt = follow::Interrupt::listen()?;
    let policy = policy(args.steps.as_ref(), args.canary, args.bake);
    let request = StartRequest { request_id, modules, policy, message: args.message };
    let started = start(&client, &request).await.map_err(|status| Failure::of_offer(&status))?;
    let rollout = started.rollout.unwrap_or_default();
    if context.out.json() {
        let rollout = Box::new(rollout.clone().into());
        context.out.object(&PushJson::Started { rollout, already_started: started.already_started })?;
    } else if args.detach {
        context.out.text(&words::clean(&rollout.id))?;
    } else {
        context.out.text(&format!(
            "rollout {} of {}",
            words::clean(&rollout.id),
            progress::title(&rollout)
        ))?;
    }
    if args.detach {
        return Ok(Exit::Success);
    }
    follow::follow(&client, context.out, rollout, args.timeout, interrupt.pressed()).await
}

/// What the files are to the node: files of one version are its targets.
fn modules(offers: &[Offer]) -> Result<Vec<StartModule>, Failure> {
    let mut modules: BTreeMap<String, (StartModule, BTreeMap<String, &Path>)> = BTreeMap::new();
    for offer in offers {
        let (name, version) = (offer.module(), offer.version());
        let (module, targets) = modules.entry(name.clone()).or_insert_with(|| {
            let module = StartModule { module: name.clone(), version: version.clone(), digests: Vec::new() };
            (module, BTreeMap::new())
        });
        if module.version != version {
            return Err(Failure::usage(format!(
                "{name} is there in versions {} and {version}: expected one version of a module in a push",
                module.version
            )));
        }
        let target = offer.inspection.target.to_string();
        if let Some(other) = targets.insert(target.clone(), &offer.path) {
            return Err(Failure::usage(format!(
                "{} and {} are both {name} {version} for {target}: expected one file for each target",
                other.display(),
                offer.path.display()
            )));
        }
        module.digests.push(offer.digest());
    }
    Ok(modules.into_values().map(|(module, _)| module).collect())
}

/// A rollout of this version moves one module; said before anything is sent.
fn one_module(modules: &[StartModule]) -> Result<(), Failure> {
    if modules.len() <= 1 {
        return Ok(());
    }
    let names: Vec<&str> = modules.iter().map(|module| module.module.as_str()).collect();
    Err(Failure::refused(
        "several_modules",
        format!(
            "these files are of {} modules ({}), and a rollout moves one in this version; push them one after the \
             other, nothing was sent",
            names.len(),
            names.join(", ")
        ),
    ))
}

/// What differs from the node's policy, or nothing.
fn policy(steps: Option<&Steps>, canary: Option<u32>, bake: Option<Duration>) -> Option<PolicyOverrides> {
    let mut shares = steps.map_or_else(Vec::new, |steps| steps.0.clone());
    if let Some(share) = canary {
        shares = vec![share, BASIS_POINTS];
        // `--canary 100%` is one step, not two alike.
        shares.dedup();
    }
    if shares.is_empty() && bake.is_none() {
        return None;
    }
    let steps = shares.into_iter().map(|share| Step { share, bake: None }).collect();
    // Longer than a contract duration can say is as good as for ever; the node says what is too long.
    let bake = bake.map(|bake| {
        prost_types::Duration::try_from(bake).unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
    });
    Some(PolicyOverrides { steps, bake, ..PolicyOverrides::default() })
}

/// Tells what a file is, before it is sent.
fn announce(out: &mut Out, offer: &Offer) -> Result<(), OutputError> {
    if out.json() {
        return Ok(());
    }
    let (digest, size) = (offer.digest(), words::size(offer.reader.size()));
    let name = paint(&format!("{} {}", offer.module(), offer.version()), Tone::Strong, out.colour());
    let target = offer.inspection.target;
    out.text(&format!("{name} for {target}, {size}, sha256 {}", words::short_digest(&digest)))
}

/// Signs and uploads every file.
async fn upload_all(
    client: &Client,
    out: &mut Out,
    offers: Vec<Offer>,
    args: &SigningArgs,
    request_id: &str,
) -> Result<(), Failure> {
    let means = match args {
        SigningArgs { key: Some(key), .. } => {
            let signer =
                hot_artifact::signature::Signer::from_file(key).map_err(signing::SigningError::from)?;
            Means::Sign(Box::new(signer))
        }
        SigningArgs { no_sign: true, .. } => Means::Nothing,
        SigningArgs { signature, .. } if !signature.is_empty() => Means::Made(signature.clone()),
        SigningArgs { .. } => Means::Sign(Box::new(signing::default_signer(client).await?)),
    };
    let mut files = Vec::new();
    for offer in &offers {
        let reader =
            FileReader::new(offer.file()?).map_err(|error| crate::offer::unreadable(&offer.path, &error))?;
        files.push((offer.path.clone(), reader));
    }
    // Beside the connection, not in its way: hashing takes a while, and an agent may wait for a person.
    let signatures = tokio::task::spawn_blocking(move || means.signatures(&files));
    let signatures = signatures.await.map_err(|error| Failure::failed("internal", error))??;
    for (offer, signature) in offers.into_iter().zip(signatures) {
        let source = Source {
            file: Arc::new(offer.file()?),
            digest: offer.digest(),
            size: offer.reader.size(),
            path: offer.path,
            signature,
            request_id: request_id.to_owned(),
        };
        let answer = send(client, out, &source).await?;
        uploaded(out, &source, &answer)?;
    }
    Ok(())
}

/// Uploads one file with its progress on a terminal.
async fn send(client: &Client, out: &mut Out, source: &Source) -> Result<UploadResponse, Failure> {
    let mut broken = None;
    let answer = upload::upload(client, source, Patience::default(), |bytes| {
        let percent = bytes.saturating_mul(100).checked_div(source.size).unwrap_or(100);
        let line = format!("uploading {} of {} ({percent}%)", words::size(bytes), words::size(source.size));
        if let Err(error) = out.redraw(&[line]) {
            broken.get_or_insert(error);
        }
    })
    .await;
    out.redraw(&[])?;
    match broken {
        Some(error) => Err(error.into()),
        None => answer.map_err(|error| named(&source.path, error.into())),
    }
}

fn uploaded(out: &mut Out, source: &Source, answer: &UploadResponse) -> Result<(), OutputError> {
    let artifact = answer.artifact.clone().unwrap_or_default();
    if out.json() {
        return out.object(&PushJson::Uploaded {
            file: &source.path,
            module: &artifact.module,
            version: &artifact.version,
            target: &artifact.target,
            digest: &artifact.digest,
            size: artifact.size,
            principal: &artifact.principal,
            already_had: answer.already_had,
        });
    }
    let how = if answer.already_had { "the node has it already" } else { "uploaded" };
    out.text(&format!("{how}, signed by {}", words::or_dash(&artifact.principal)))
}

/// Starts the rollout. The request id makes a repeated call the same call.
async fn start(client: &Client, request: &StartRequest) -> Result<StartResponse, Status> {
    let mut attempt = 1;
    loop {
        match answer_after(Wait::WayBack, client.rollouts().start(request.clone())).await {
            Ok(started) => return Ok(started),
            Err(status) if is_lost(&status) && attempt < START_ATTEMPTS => attempt += 1,
            Err(status) => return Err(status),
        }
        tokio::time::sleep(START_PAUSE).await;
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
    fn a_rollout_moves_one_module() {
        let module = |name: &str| StartModule { module: name.to_owned(), ..StartModule::default() };
        assert!(one_module(&[module("a")]).is_ok());
        let failure = one_module(&[module("a"), module("b")]).expect_err("two");
        assert_eq!((failure.exit.code(), failure.code.as_str()), (4, "several_modules"));
        assert!(failure.sentence.contains("2 modules (a, b)"), "{}", failure.sentence);
    }

    #[test]
    fn what_was_not_said_is_the_nodes_policy() {
        assert_eq!(policy(None, None, None), None);
        let shares = |policy: Option<PolicyOverrides>| {
            policy.expect("overrides").steps.iter().map(|step| step.share).collect::<Vec<_>>()
        };
        assert_eq!(shares(policy(None, Some(1000), None)), [1000, 10_000]);
        assert_eq!(shares(policy(None, Some(10_000), None)), [10_000]);
        assert_eq!(shares(policy(Some(&Steps(vec![500, 10_000])), None, None)), [500, 10_000]);
        let bake = policy(None, None, Some(Duration::from_millis(1500))).expect("overrides");
        assert!(bake.steps.is_empty(), "only the bake time is overridden");
        assert_eq!(bake.bake, Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }));
    }
}
