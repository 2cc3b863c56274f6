//! `hotctl push`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hot_proto::v1::{PlanRequest, StartRequest, StartResponse, UploadResponse};
use serde::Serialize;
use tonic::{Code, Status};

use super::Context;
use crate::bundle::{Bundle, Signed};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{self, is_lost};
use crate::json::RolloutJson;
use crate::node::{Client, Wait};
use crate::offer::named;
use crate::on::OnArgs;
use crate::output::{Out, OutputError};
use crate::policy::PolicyArgs;
use crate::signing::SigningArgs;
use crate::upload::{self, Patience, Source};
use crate::{plan, progress, show, words};

/// Starting is idempotent, so a lost answer is asked for again; a node that restarts is back within seconds.
const START_ATTEMPTS: u32 = 5;
/// The same where the node answers that this can't be done now: a fleet whose leader has died has another one within two of
/// its leases.
const UNAVAILABLE_ATTEMPTS: u32 = 20;
const START_PAUSE: Duration = Duration::from_secs(1);

/// Sign a module, upload it, and roll it out
///
/// Follows the rollout to its end; the exit code says how it ended. Several files of one version are its targets. In
/// this version a rollout moves one module: push several one after the other. A push supersedes a rollout of the module
/// that runs. With --on it ends on nodes that serve it and do not have these labels: they are named. Ctrl-C leaves the rollout
/// running.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hotctl push greeter-1.1.0.so\n  \
                        hotctl push greeter-1.1.0.so --canary 10% --bake 30s\n  \
                        hotctl push greeter-1.1.0.so --steps 1%,10%,50%,100% --message 'new greeting'\n  \
                        hotctl push greeter-1.1.0.so --spread-over zone --max-parallel 10 --max-failing 2\n  \
                        hotctl push greeter-1.1.0.so --on zone=a --on disk=fast\n  \
                        hotctl push greeter-1.1.0.so --retry --message 'its database was down'\n  \
                        hotctl push greeter-1.1.0.so --key ~/.ssh/id_ed25519 --detach")]
pub(crate) struct Args {
    /// The module's files, one for each target
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    on: OnArgs,

    /// Why, for the history
    #[arg(short, long, value_name = "TEXT", default_value_t, hide_default_value = true)]
    message: String,

    /// Try it again although these bytes failed before and are quarantined; who asked is an event
    #[arg(long)]
    retry: bool,

    /// Print the rollout's id and return instead of following it
    #[arg(long)]
    detach: bool,

    /// Stop following after this time (exit code 5); the rollout goes on
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = words::parse_span, conflicts_with = "detach")]
    timeout: Option<Duration>,

    #[command(flatten)]
    signing: SigningArgs,
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
    let on = args.on.labels().map_err(Failure::usage)?;
    let bundle = Bundle::open(&args.files)?;
    let client = context.connect().await?;
    if args.detach {
        context.out.result_alone();
    }
    bundle.announce(context.out)?;
    let (modules, policy) = (bundle.modules.clone(), args.policy.overrides());
    let means = args.signing.means(&args.files, &client).await?;
    means.announce(context.out)?;
    let files = bundle.sign(means).await?;
    // Before any byte is sent: what is uploaded has used up its version.
    let wish =
        PlanRequest { policy: policy.clone(), retry: args.retry, on: on.clone(), ..PlanRequest::default() };
    let planned = plan::refused_early(&client, &files, wish).await?;
    for text in planned.modules.iter().filter_map(show::plan::losing) {
        context.out.hint(&text);
    }
    let request_id = format!("{:032x}", rand::random::<u128>());
    let mut interrupt = follow::Interrupt::listen()?;
    let upload = upload_all(&client, context.out, files, &request_id);
    let uploaded = follow::unless(interrupt.pressed(), upload, broken_off).await;
    // Where it was broken off its progress is on the screen still.
    context.out.redraw(&[])?;
    uploaded?;

    let request = StartRequest { request_id, modules, policy, message: args.message, retry: args.retry, on };
    let module = request.modules.first().map_or("MODULE", |module| module.module.as_str());
    // On the heap: it is large, and so is what follows it.
    let start =
        Box::pin(async { start(&client, &request).await.map_err(|status| Failure::of_offer(&status)) });
    let started = follow::unless(interrupt.pressed(), start, || follow::unanswered(module)).await?;
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

/// Ctrl-C during the upload.
fn broken_off() -> Failure {
    Failure::new(
        Exit::Interrupted,
        "interrupted",
        "the upload was broken off and nothing was started; the same push again goes on where this one stopped",
    )
}

/// Uploads every file.
async fn upload_all(
    client: &Client,
    out: &mut Out,
    files: Vec<Signed>,
    request_id: &str,
) -> Result<(), Failure> {
    for Signed { offer, signature, .. } in files {
        let source = Source {
            file: Arc::new(offer.file()?),
            digest: offer.digest(),
            size: offer.inspection.size,
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
    out.tell(&format!("{how}, signed by {}", words::or_dash(&artifact.principal)))
}

fn attempts(status: &Status) -> u32 {
    if status.code() == Code::Unavailable { UNAVAILABLE_ATTEMPTS } else { START_ATTEMPTS }
}

/// Starts the rollout. The request id makes a repeated call the same call.
async fn start(client: &Client, request: &StartRequest) -> Result<StartResponse, Status> {
    let mut attempt = 1;
    loop {
        match client.answer_after(Wait::WayBack, client.rollouts().start(request.clone())).await {
            Ok(started) => return Ok(started),
            Err(status) if is_lost(&status) && attempt < attempts(&status) => attempt += 1,
            Err(status) => return Err(status),
        }
        tokio::time::sleep(START_PAUSE).await;
    }
}
