//! One file for each command: its arguments and what it does. What several of them share is in the rooms beside this
//! folder.

pub(crate) mod abort;
pub(crate) mod choose;
pub(crate) mod completions;
pub(crate) mod contexts;
pub(crate) mod cordon;
pub(crate) mod drain;
pub(crate) mod events;
pub(crate) mod history;
pub(crate) mod inspect;
pub(crate) mod leave;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod new;
pub(crate) mod nodes;
pub(crate) mod pause;
pub(crate) mod pki;
pub(crate) mod plan;
pub(crate) mod promote;
pub(crate) mod push;
pub(crate) mod remove;
pub(crate) mod restart;
pub(crate) mod resume;
pub(crate) mod rollback;
pub(crate) mod sign;
pub(crate) mod status;
pub(crate) mod steer;
pub(crate) mod trust;
pub(crate) mod uncordon;
pub(crate) mod verify;
pub(crate) mod versions;

use std::path::Path;

use crate::args::Command;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::{Client, Found, SEVERAL_NODES, Surroundings, Token, Wanted, search};
use crate::output::Out;
use crate::trust::TrustFiles;

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// Which node, and by which files.
    wanted: Wanted,
    pub out: &'a mut Out,
}

impl<'a> Context<'a> {
    pub(crate) const fn new(wanted: Wanted, out: &'a mut Out) -> Self {
        Self { wanted, out }
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings::of_process(self.wanted.clone())
    }

    /// Finds the node. Nothing is connected to.
    pub(crate) fn find(&self) -> Result<Found, Failure> {
        search(&self.surroundings())
    }

    /// The files that signatures are judged by without asking a node: `signers` where they are named. `None`: there are
    /// none.
    fn trust_files(
        &self,
        signers: Option<&Path>,
        revoked: Option<&Path>,
    ) -> Result<Option<TrustFiles>, Failure> {
        let found = match self.find() {
            // Which of them would be a guess.
            Err(failure) if signers.is_none() && failure.code == SEVERAL_NODES => return Err(failure),
            found => found.ok(),
        };
        Ok(TrustFiles::find(signers, revoked, found.as_ref()))
    }

    /// Finds the node and connects to it.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let found = self.find()?;
        let token = Token::choose(std::env::var("HOTCTL_TOKEN").ok().as_deref(), &found)?;
        Client::connect(found, token, self.out.notice()).await
    }
}

/// What was asked for, in words: `of greeter`, or of one of its releases, where that is not 0.
fn of_release(module: &str, release: u64) -> String {
    match release {
        0 => format!("of {module}"),
        release => format!("of {module} in release {release}"),
    }
}

/// Runs one command.
pub(crate) async fn run(command: Command, context: &mut Context<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Push(args) => push::run(args, context).await,
        Command::Plan(args) => plan::run(args, context).await,
        Command::Status(args) => status::run(args, context).await,
        Command::Rollback(args) => rollback::run(args, context).await,
        Command::Promote(args) => Box::pin(promote::run(args, context)).await,
        Command::Pause(args) => pause::run(args, context).await,
        Command::Resume(args) => resume::run(args, context).await,
        Command::Abort(args) => abort::run(args, context).await,
        Command::Restart(args) => restart::run(args, context).await,
        Command::Versions(args) => versions::run(args, context).await,
        Command::History(args) => history::run(args, context).await,
        Command::Nodes(args) => nodes::run(args, context).await,
        Command::Cordon(args) => cordon::run(args, context).await,
        Command::Uncordon(args) => uncordon::run(args, context).await,
        Command::Drain(args) => drain::run(args, context).await,
        Command::Leave(args) => leave::run(args, context).await,
        Command::Events(args) => events::run(args, context).await,
        Command::Logs(args) => logs::run(args, context).await,
        Command::Metrics(args) => metrics::run(args, context).await,
        Command::New(args) => new::run(&args, context),
        Command::Inspect(args) => inspect::run(&args, context),
        Command::Sign(args) => sign::run(args, context).await,
        Command::Verify(args) => verify::run(&args, context),
        Command::Trust(args) => trust::run(&args, context),
        Command::Pki(args) => pki::run(&args, context),
        Command::Remove(args) => remove::run(args, context).await,
        Command::Contexts(args) => contexts::run(&args, context),
        Command::Use(args) => choose::run(&args, context),
        Command::Completions(args) => completions::run(&args, context),
    }
}
