//! `hotctl pki issue`.

use std::path::PathBuf;

use super::{Context, span, tell};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::pki::{Address, Authority, Subject, must_be_free, new_folder, write_new};

/// Make a certificate and its key: NAME.pem and NAME.key
///
/// With --address a node's, which callers find there and which calls other nodes by it as well; without, a person's, for
/// hotctl. Nothing is overwritten: `hotctl pki renew` makes a new one in the place of an old one.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hotctl pki issue web-1 --dir ~/hot-ca --address 10.0.0.1 --address web-1.example\n  \
                        hotctl pki issue ann@example.com --dir ~/hot-ca --days 90"
)]
pub(super) struct Args {
    /// Whose, as the certificate's common name: a node's is its `node` in the config, or other nodes of its fleet refuse it; a
    /// person's is what the history names them by
    #[arg(value_parser = Subject::name)]
    name: String,

    /// The authority's folder
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// Where the node is called, as in `[cluster] call` and in people's contexts: a host name or an IP address; once for each
    #[arg(long = "address", value_name = "HOST")]
    addresses: Vec<Address>,

    /// For how many days it is good
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,

    /// Where to put them [default: the authority's folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

const ADVICE: &str =
    "renew it with `hotctl pki renew FILE.pem --dir DIR`, or put the new one elsewhere with --out DIR";

pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let out = args.out.as_ref().unwrap_or(&args.dir);
    let [certificate, key] = ["pem", "key"].map(|kind| out.join(format!("{}.{kind}", args.name)));
    must_be_free(&[&certificate, &key], ADVICE)?;
    let authority = Authority::open(&args.dir)?;
    let subject = Subject { name: args.name.clone(), addresses: args.addresses.clone() };
    let issued = authority.issue(&subject, span(args.days))?;
    new_folder(out)?;
    write_new([(&certificate, &issued.certificate), (&key, &issued.key)], ADVICE)?;
    let next = if subject.addresses.is_empty() {
        "name both in a context of hotctl, with the authority's certificate"
    } else {
        "put both on the node, the key for the user who runs hotd alone, and name them below [grpc.tls] in its config, with the \
         authority's certificate"
    };
    tell(context, &subject, &issued, [&certificate, &key, authority.certificate()], next)
}
