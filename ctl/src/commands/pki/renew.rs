//! `hotctl pki renew`.

use std::path::PathBuf;

use super::{Context, span, tell};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::pki::{Authority, Subject, write_over};

/// Replace a certificate by a new one with the same name and addresses, and a new key
///
/// FILE.key, beside it, is replaced as well, and both keep their users and permissions. A node that runs reads both anew:
/// nothing is to be restarted. By another authority's folder it becomes that one's.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl pki renew /etc/hotd/tls/web-1.pem --dir ~/hot-ca --days 365")]
pub(super) struct Args {
    /// The certificate; its key has the same name and ends with `.key`
    #[arg(value_name = "FILE.pem", value_parser = certificate)]
    file: PathBuf,

    /// The authority's folder
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// For how many days it is good [default: as many as the one before]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: Option<u32>,
}

fn certificate(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.extension().is_some_and(|extension| extension != "key") {
        Ok(path)
    } else {
        Err("expected a certificate like web-1.pem, whose key is web-1.key beside it".to_owned())
    }
}

pub(super) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let key = args.file.with_extension("key");
    if !key.is_file() {
        let sentence = format!(
            "there is no {}, expected the certificate's key beside it: whoever uses another one would not find the new one; name \
             the two files alike, in the node's config as well",
            key.display()
        );
        return Err(Failure::failed("file.not_read", sentence));
    }
    let (subject, before) = Subject::read(&args.file)?;
    let authority = Authority::open(&args.dir)?;
    let issued = authority.issue(&subject, args.days.map_or(before, span))?;
    write_over([(&args.file, &issued.certificate), (&key, &issued.key)])?;
    let next = "a hotd that runs with them reads both anew within seconds, and hotctl at its next call";
    tell(context, &subject, &issued, [&args.file, &key, authority.certificate()], next)
}
