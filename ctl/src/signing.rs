//! Which key a file is signed with, and signing it.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use hot_artifact::signature::{
    Agent, AgentError, FileHashes, Hash, MODULE_NAMESPACE, SignError, Signature, Signer, sign_digest,
};
use hot_artifact::{FileReader, Refusal, Sha256};
use hot_proto::v1::{GetNodeRequest, TrustedKey};
use thiserror::Error;

use crate::failure::{Failure, chain};
use crate::node::{Address, Client};
use crate::offer::named;
use crate::output::{Out, OutputError};
use crate::words;

/// An armoured signature of an RSA key of 16384 bits has under 6 KiB.
const MAX_SIGNATURE: u64 = 64 * 1024;

/// How the files get their signatures. By default it is FILE.sig, where that lies beside a file; else it is made with a dev
/// node's own key on a dev node, and with the first key of ssh-agent that the node trusts elsewhere.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(crate) struct SigningArgs {
    /// Sign with this OpenSSH private key, or with a certificate, KEY-cert.pub
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    /// Use this signature (ssh-keygen -Y sign -n hot-module); once for each file
    #[arg(long, value_name = "FILE")]
    signature: Vec<PathBuf>,

    /// Send no signature: for files that the node has already
    #[arg(long)]
    no_sign: bool,
}

impl SigningArgs {
    /// What was asked for, for these files on this node.
    pub(crate) async fn means(self, files: &[PathBuf], client: &Client) -> Result<Means, Failure> {
        Ok(match self {
            Self { key: Some(key), .. } => {
                Means::Sign(Box::new(Signer::from_file(&key).map_err(SigningError::from)?))
            }
            Self { no_sign: true, .. } => Means::Nothing,
            Self { signature, .. } if !signature.is_empty() => Means::Made(signature),
            Self { .. } => {
                let there = |file: &PathBuf| Some(beside(file)).filter(|signature| signature.exists());
                let made: Vec<_> = files.iter().map(there).collect();
                let signer = if made.iter().all(Option::is_some) {
                    None
                } else {
                    Some(Box::new(default_signer(Some(Keys::of(client).await?))?))
                };
                Means::Beside(made, signer)
            }
        })
    }
}

/// How the files of a push get their signatures.
#[derive(Debug)]
pub(crate) enum Means {
    /// Signed here and now.
    Sign(Box<Signer>),
    /// Signed before; one signature for each file, in their order.
    Made(Vec<PathBuf>),
    /// Each by the signature that lies beside it; those without one are signed here and now, for which there is a signer.
    Beside(Vec<Option<PathBuf>>, Option<Box<Signer>>),
    /// Not at all: the node has them.
    Nothing,
}

/// A file that a signature is for.
#[derive(Debug)]
pub(crate) struct Unsigned {
    pub path: PathBuf,
    pub reader: FileReader,
    /// Of what was read of it: what is signed, and what a node is to get.
    pub digest: Sha256,
}

/// Where the signature of `file` is when nothing else is said.
pub(crate) fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

/// Why there is no signature.
#[derive(Debug, Error)]
pub(crate) enum SigningError {
    /// The key can't be used.
    #[error("{}", chain(.0))]
    Sign(#[from] SignError),
    /// A signature file can't be read.
    #[error("the signature {} can't be read: {source}; make it with `hotctl sign FILE`, or with `ssh-keygen -Y sign -n hot-module -f KEY FILE`", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// What lies beside a file is not its signature.
    #[error("{}: {refusal}", file.display())]
    Stale { file: PathBuf, refusal: Box<Refusal> },
    /// A file can't be read.
    #[error("{} can't be read: {source}; check the name and the permissions", path.display())]
    File { path: PathBuf, source: io::Error },
    /// Not one signature for each file.
    #[error("{signatures} --signature for {files} files: expected one for each, in the same order")]
    Count { signatures: usize, files: usize },
    /// The agent has no key that the node trusts, or there is no agent.
    #[error(
        "no key to sign with: {found}. The node trusts {trusted}: name a key file with --key FILE, or a signature with \
         --signature FILE"
    )]
    NoKey { found: String, trusted: String },
    /// There is no agent, or no key in it, and no node to ask.
    #[error(
        "no key to sign with: {0}, and no node was found to ask for one. Name a key file with --key FILE"
    )]
    NoAgentKey(String),
}

impl From<SigningError> for Failure {
    fn from(error: SigningError) -> Self {
        match error {
            SigningError::Count { .. } => Self::usage(error),
            SigningError::NoKey { .. } | SigningError::NoAgentKey(_) => {
                Self::refused("signature.no_key", error)
            }
            SigningError::Stale { file, refusal } => named(&file, (*refusal).into()),
            SigningError::File { .. } => Self::failed("file.unreadable", error),
            SigningError::Sign(_) | SigningError::Read { .. } => Self::failed("signature.not_made", error),
        }
    }
}

impl Means {
    /// Tells which signatures are taken because they are there.
    pub(crate) fn announce(&self, out: &mut Out) -> Result<(), OutputError> {
        let Self::Beside(made, _) = self else { return Ok(()) };
        made.iter().flatten().try_for_each(|path| {
            let path = path.display();
            out.tell(&words::clean(&format!(
                "the signature is {path}, which was there (--key FILE makes another)"
            )))
        })
    }

    /// The signature of each file. Empty ones for [`Means::Nothing`].
    pub(crate) fn signatures(self, files: &[Unsigned]) -> Result<Vec<Vec<u8>>, SigningError> {
        match self {
            Self::Sign(mut signer) => files.iter().map(|file| made(file, &mut signer)).collect(),
            Self::Made(paths) if paths.len() == files.len() => paths.iter().map(|path| read(path)).collect(),
            Self::Made(paths) => Err(SigningError::Count { signatures: paths.len(), files: files.len() }),
            Self::Beside(there, mut signer) => {
                let signatures = files.iter().zip(there).map(|(file, there)| match there {
                    Some(signature) => read_checked(file, &signature),
                    None => signer.as_mut().map_or_else(|| Ok(Vec::new()), |signer| made(file, signer)),
                });
                signatures.collect()
            }
            Self::Nothing => Ok(vec![Vec::new(); files.len()]),
        }
    }
}

/// Signs over the hash that is the artifact's identity and known here and there: no other one is computed.
fn made(file: &Unsigned, signer: &mut Signer) -> Result<Vec<u8>, SigningError> {
    Ok(sign_digest(file.digest, MODULE_NAMESPACE, signer)?.into_bytes())
}

/// Reads the signature that lies beside a file. Nobody said that it is the file's, so that is looked at before a node
/// is asked, which has never seen the name.
fn read_checked(file: &Unsigned, signature: &Path) -> Result<Vec<u8>, SigningError> {
    let text = read(signature)?;
    let checked = match Signature::parse(&text) {
        Ok(parsed) if parsed.hash() == Hash::Sha256 => parsed.check(MODULE_NAMESPACE, file.digest.as_bytes()),
        Ok(parsed) => {
            let unreadable = |source| SigningError::File { path: file.path.clone(), source };
            let hashes = FileHashes::of(&file.reader).map_err(unreadable)?;
            parsed.check(MODULE_NAMESPACE, hashes.by(parsed.hash()))
        }
        Err(error) => Err(error),
    };
    match checked {
        Ok(()) => Ok(text),
        Err(error) => {
            let refusal = error.refusal();
            let refusal = Box::new(Refusal {
                found: format!("{} with {}", signature.display(), refusal.found),
                advice: format!(
                    "sign it again with `hotctl sign --force`, or remove {} to have it signed here",
                    signature.display()
                ),
                ..refusal
            });
            Err(SigningError::Stale { file: file.path.clone(), refusal })
        }
    }
}

/// Reads a signature file. What is in it is the node's to judge.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, SigningError> {
    use hot_artifact::ReadAt;
    let read = || {
        let reader = FileReader::open(path)?;
        if reader.size() > MAX_SIGNATURE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large for a signature"));
        }
        let mut text = vec![0; usize::try_from(reader.size()).unwrap_or_default()];
        reader.read_exact_at(&mut text, 0)?;
        Ok(text)
    };
    read().map_err(|source| SigningError::Read { path: path.to_owned(), source })
}

/// What a node says of the keys to sign with.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Its own, where it is a dev node and the key can be found.
    dev: Option<PathBuf>,
    /// Those that it trusts.
    trusted: Vec<TrustedKey>,
}

impl Keys {
    /// Asks a node.
    pub(crate) async fn of(client: &Client) -> Result<Self, Failure> {
        let answer = client.ask(client.nodes().get(GetNodeRequest::default())).await?;
        let node = answer.node.unwrap_or_default();
        let dev = if node.dev { dev_key(client) } else { None };
        Ok(Self { dev, trusted: node.trusted_keys })
    }
}

/// The key file of the dev node that we talk to, where it can be found.
fn dev_key(client: &Client) -> Option<PathBuf> {
    let found = client.found();
    if let Some(dev) = &found.dev {
        return Some(dev.key());
    }
    // A dev node that was named by its socket: its key is in the same folder.
    match &found.address {
        Address::Unix(socket) => Some(socket.with_file_name("dev-key")).filter(|key| key.exists()),
        Address::Http(_) | Address::Https(_) => None,
    }
}

/// The signer when nothing was said: a dev node's own key, else the agent's first key that the node trusts. Without a
/// node to ask, the agent's first key.
pub(crate) fn default_signer(keys: Option<Keys>) -> Result<Signer, SigningError> {
    match keys {
        Some(Keys { dev: Some(key), .. }) => Ok(Signer::from_file(&key)?),
        Some(Keys { dev: None, trusted }) => trusted_by(&trusted, Agent::from_env()),
        None => first_of(Agent::from_env()),
    }
}

fn trusted_by(trusted: &[TrustedKey], agent: Result<Agent, AgentError>) -> Result<Signer, SigningError> {
    let known: HashSet<&str> = trusted.iter().map(|key| key.fingerprint.as_str()).collect();
    let no_key = |found: String| {
        let count = known.len();
        let trusted = match trusted.first() {
            None => "no key at all".to_owned(),
            Some(key) if count == 1 => format!("only {} ({})", key.fingerprint, key.principal),
            Some(key) => format!("{count} keys, e.g. {} ({})", key.fingerprint, key.principal),
        };
        SigningError::NoKey { found, trusted }
    };
    let mut agent = agent.map_err(|error| no_key(chain(&error)))?;
    let identities = agent.identities().map_err(|error| no_key(chain(&error)))?;
    let count = identities.len();
    let chosen = identities.into_iter().find(|identity| known.contains(identity.key.fingerprint().as_str()));
    match chosen {
        Some(identity) => Ok(Signer::from_agent(agent, identity.key)),
        None => Err(no_key(format!("none of the {count} keys in ssh-agent is trusted"))),
    }
}

fn first_of(agent: Result<Agent, AgentError>) -> Result<Signer, SigningError> {
    let no_key = |error: AgentError| SigningError::NoAgentKey(chain(&error));
    let mut agent = agent.map_err(no_key)?;
    let first = agent.identities().map_err(no_key)?.into_iter().next();
    let first =
        first.ok_or_else(|| SigningError::NoAgentKey("ssh-agent holds no key that can sign".to_owned()))?;
    Ok(Signer::from_agent(agent, first.key))
}

#[cfg(test)]
mod tests {
    use hot_artifact::signature::sign_with;

    use super::*;

    fn file(folder: &Path, name: &str, text: &[u8]) -> Unsigned {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("writes");
        let reader = FileReader::open(&path).expect("opens");
        Unsigned { path, reader, digest: Sha256::of(text) }
    }

    #[test]
    fn signatures_are_made_or_read_or_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let offers = [file(folder.path(), "a", b"first"), file(folder.path(), "b", b"second")];
        let key = hot_artifact::signature::generate_key("test").expect("a key");
        let key_path = folder.path().join("key");
        std::fs::write(&key_path, key.private).expect("writes");
        let signer = Signer::from_file(&key_path).expect("a signer");
        let made = Means::Sign(Box::new(signer)).signatures(&offers).expect("signs");
        assert!(made.iter().all(|text| text.starts_with(b"-----BEGIN SSH SIGNATURE-----")));
        assert_ne!(made[0], made[1], "each file has its own");

        let sig_path = file(folder.path(), "a.sig", &made[0]).path;
        let read = Means::Made(vec![sig_path.clone(), sig_path.clone()]).signatures(&offers).expect("reads");
        assert_eq!(read, [made[0].clone(), made[0].clone()]);
        let count =
            Means::Made(vec![sig_path]).signatures(&offers).map_err(Failure::from).expect_err("one for two");
        assert_eq!(count.exit.code(), 2);
        assert_eq!(Means::Nothing.signatures(&offers).expect("nothing"), [vec![], Vec::<u8>::new()]);
    }

    #[test]
    fn what_lies_beside_a_file_must_be_its_signature() {
        let folder = tempfile::tempdir().expect("a folder");
        let offers = [file(folder.path(), "a", b"first"), file(folder.path(), "b", b"second")];
        let key_path = folder.path().join("key");
        let key = hot_artifact::signature::generate_key("test").expect("a key");
        std::fs::write(&key_path, key.private).expect("writes");
        let signer = || Box::new(Signer::from_file(&key_path).expect("a signer"));
        let made = Means::Sign(signer()).signatures(&offers).expect("signs");
        let there = beside(&offers[0].path);
        assert!(there.ends_with("a.sig"));
        // As `ssh-keygen` does it, over the other hash.
        let by_sha512 =
            sign_with(&offers[0].reader, MODULE_NAMESPACE, Hash::Sha512, &mut signer()).expect("signs");
        std::fs::write(&there, &by_sha512).expect("writes");
        let mixed = || Means::Beside(vec![Some(there.clone()), None], Some(signer())).signatures(&offers);
        assert_eq!(mixed().expect("one is there"), [by_sha512.into_bytes(), made[1].clone()]);

        for (stale, code) in [(made[1].as_slice(), "signature.other_bytes"), (b"PGP", "signature.malformed")]
        {
            std::fs::write(&there, stale).expect("writes");
            let failure = Failure::from(mixed().expect_err("of something else"));
            assert_eq!((failure.exit.code(), failure.code.as_str()), (4, code));
            let sentence = failure.sentence;
            let advice = format!("or remove {} to have it signed here", there.display());
            assert!(sentence.contains("`hotctl sign --force`") && sentence.ends_with(&advice), "{sentence}");
        }
    }

    #[test]
    fn a_signature_that_is_not_there_says_how_to_make_one() {
        let failure = Failure::from(read(Path::new("/nonexistent.sig")).expect_err("no file"));
        assert_eq!(failure.exit.code(), 1);
        for way in ["`hotctl sign FILE`", "`ssh-keygen -Y sign -n hot-module"] {
            assert!(failure.sentence.contains(way), "{}", failure.sentence);
        }
    }

    #[test]
    fn without_an_agent_it_says_what_the_node_trusts() {
        let key = TrustedKey { fingerprint: "SHA256:abc".to_owned(), principal: "dev".to_owned() };
        let failure = Failure::from(trusted_by(&[key], Err(AgentError::NotSet)).expect_err("no agent"));
        assert_eq!(failure.exit.code(), 4);
        assert!(failure.sentence.contains("trusts only SHA256:abc (dev)"), "{}", failure.sentence);
        assert!(failure.sentence.contains("SSH_AUTH_SOCK"), "{}", failure.sentence);
        let offline = first_of(Err(AgentError::NotSet)).expect_err("no agent").to_string();
        assert!(offline.contains("SSH_AUTH_SOCK") && offline.contains("no node was found"), "{offline}");
        assert!(offline.ends_with("Name a key file with --key FILE"), "{offline}");
        assert!(failure.sentence.contains("--key FILE"), "{}", failure.sentence);
    }
}
