//! `hotctl pki`: certificates for those who have no authority, without a node.

mod init;
mod issue;
mod renew;

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::pki::{Issued, Subject};
use crate::words;

/// Make the certificates by which nodes and people trust each other
///
/// For those who have no authority of their own: a folder with one, the certificates that it signs for nodes and people, and
/// their renewal. Nodes read them anew when they change.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hotctl pki init ~/hot-ca --name prod\n  \
                        hotctl pki issue web-1 --dir ~/hot-ca --address 10.0.0.1 --address web-1.example\n  \
                        hotctl pki issue ann@example.com --dir ~/hot-ca --days 90\n  \
                        hotctl pki renew /etc/hotd/tls/web-1.pem --dir ~/hot-ca")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Init(init::Args),
    Issue(issue::Args),
    Renew(renew::Args),
}

pub(crate) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    match &args.command {
        Command::Init(args) => init::run(args, context),
        Command::Issue(args) => issue::run(args, context),
        Command::Renew(args) => renew::run(args, context),
    }
}

/// What `issue` and `renew` print with `-o json`.
#[derive(Debug, Serialize)]
struct IssuedJson<'a> {
    name: &'a str,
    certificate: &'a Path,
    key: &'a Path,
    authority: &'a Path,
    addresses: Vec<String>,
    usages: &'a [&'a str],
    until: &'a str,
}

/// Tells of a certificate that was written, and ends with what is next.
fn tell(
    context: &mut Context<'_>,
    subject: &Subject,
    issued: &Issued,
    [certificate, key, authority]: [&Path; 3],
    next: &str,
) -> Result<Exit, Failure> {
    let addresses: Vec<String> = subject.addresses.iter().map(ToString::to_string).collect();
    if context.out.json() {
        let (name, usages, until) = (&*subject.name, subject.usages(), &*issued.until);
        context.out.object(&IssuedJson { name, certificate, key, authority, addresses, usages, until })?;
        return Ok(Exit::Success);
    }
    let at = if addresses.is_empty() { String::new() } else { format!(" at {}", addresses.join(", ")) };
    let cut = if issued.is_cut_short { ", as its authority is" } else { "" };
    let text = format!(
        "{} and {} are for {}{at}, good until {}{cut}; {next}",
        certificate.display(),
        key.display(),
        subject.name,
        issued.until
    );
    context.out.text(&words::clean(&text))?;
    Ok(Exit::Success)
}

/// So many days.
fn span(days: u32) -> Duration {
    Duration::from_hours(24) * days
}
