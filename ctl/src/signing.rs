//! Which key a file is signed with, and signing it.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use hot_artifact::FileReader;
use hot_artifact::signature::{
    Agent, AgentError, Hash, MODULE_NAMESPACE, SignError, Signer, sign, sign_with,
};
use hot_proto::v1::{GetNodeRequest, Node};
use thiserror::Error;

use crate::failure::{Failure, chain};
use crate::node::{Address, Client, ask};
use crate::offer::Offer;

/// An armoured signature of an RSA key of 16384 bits has under 6 KiB.
const MAX_SIGNATURE: u64 = 64 * 1024;

/// How the files get their signatures. By default with a dev node's own key on a dev node, else with the first key of
/// ssh-agent that the node trusts.
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
    /// What was asked for, for this node.
    pub(crate) async fn means(self, client: &Client) -> Result<Means, Failure> {
        Ok(match self {
            Self { key: Some(key), .. } => {
                Means::Sign(Box::new(Signer::from_file(&key).map_err(SigningError::from)?))
            }
            Self { no_sign: true, .. } => Means::Nothing,
            Self { signature, .. } if !signature.is_empty() => Means::Made(signature),
            Self { .. } => Means::Sign(Box::new(default_signer(client).await?)),
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
    /// Not at all: the node has them.
    Nothing,
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
    #[error("no key to sign with: {0}. Name a key file with --key FILE")]
    NoAgentKey(String),
}

impl From<SigningError> for Failure {
    fn from(error: SigningError) -> Self {
        match error {
            SigningError::Count { .. } => Self::usage(error),
            SigningError::NoKey { .. } | SigningError::NoAgentKey(_) => {
                Self::refused("signature.no_key", error)
            }
            SigningError::Sign(_) | SigningError::Read { .. } => Self::failed("signature.not_made", error),
        }
    }
}

impl Means {
    /// The signature of each offer. Empty ones for [`Means::Nothing`].
    pub(crate) fn signatures(self, offers: &[(PathBuf, FileReader)]) -> Result<Vec<Vec<u8>>, SigningError> {
        match self {
            Self::Sign(mut signer) => {
                // Over the hash that is the artifact's identity and known here and there: no other one is computed.
                let sign = |(_, reader): &_| {
                    Ok(sign_with(reader, MODULE_NAMESPACE, Hash::Sha256, &mut signer)?.into_bytes())
                };
                offers.iter().map(sign).collect()
            }
            Self::Made(paths) if paths.len() == offers.len() => paths.iter().map(|path| read(path)).collect(),
            Self::Made(paths) => Err(SigningError::Count { signatures: paths.len(), files: offers.len() }),
            Self::Nothing => Ok(vec![Vec::new(); offers.len()]),
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

/// The signer when nothing was said: a dev node's own key, else the agent's first key that the node trusts.
async fn default_signer(client: &Client) -> Result<Signer, Failure> {
    let answer = ask(client.nodes().get(GetNodeRequest::default())).await?;
    let node = answer.node.unwrap_or_default();
    if let Some(key) = dev_key(client, &node) {
        return Ok(Signer::from_file(&key).map_err(SigningError::from)?);
    }
    Ok(from_agent(&node, Agent::from_env())?)
}

/// The key file of the dev node that we talk to, where it can be found.
fn dev_key(client: &Client, node: &Node) -> Option<PathBuf> {
    if !node.dev {
        return None;
    }
    let found = client.found();
    if let Some(dev) = &found.dev {
        return Some(dev.key());
    }
    // A dev node that was named by its socket: its key is in the same folder.
    match &found.address {
        Address::Unix(socket) => Some(socket.with_file_name("dev-key")).filter(|key| key.exists()),
        Address::Http(_) => None,
    }
}

fn from_agent(node: &Node, agent: Result<Agent, AgentError>) -> Result<Signer, SigningError> {
    let trusted: HashSet<&str> = node.trusted_keys.iter().map(|key| key.fingerprint.as_str()).collect();
    let no_key = |found: String| {
        let count = trusted.len();
        let trusted = match node.trusted_keys.first() {
            None => "no key at all".to_owned(),
            Some(key) if count == 1 => format!("only {} ({})", key.fingerprint, key.principal),
            Some(key) => format!("{count} keys, e.g. {} ({})", key.fingerprint, key.principal),
        };
        SigningError::NoKey { found, trusted }
    };
    let mut agent = agent.map_err(|error| no_key(chain(&error)))?;
    let identities = agent.identities().map_err(|error| no_key(chain(&error)))?;
    let count = identities.len();
    let chosen =
        identities.into_iter().find(|identity| trusted.contains(identity.key.fingerprint().as_str()));
    match chosen {
        Some(identity) => Ok(Signer::from_agent(agent, identity.key)),
        None => Err(no_key(format!("none of the {count} keys in ssh-agent is trusted"))),
    }
}

/// Signs `offer` with the key or the certificate in the file, or with the agent's first key when there is none.
pub(crate) fn sign_offline(offer: &Offer, key: Option<&Path>) -> Result<(Vec<u8>, Signer), SigningError> {
    let mut signer = match key {
        Some(key) => Signer::from_file(key)?,
        None => {
            let no_key = |error: AgentError| SigningError::NoAgentKey(chain(&error));
            let mut agent = Agent::from_env().map_err(no_key)?;
            let first = agent.identities().map_err(no_key)?.into_iter().next();
            let first = first
                .ok_or_else(|| SigningError::NoAgentKey("ssh-agent holds no key that can sign".to_owned()))?;
            Signer::from_agent(agent, first.key)
        }
    };
    let armoured = sign(&offer.reader, MODULE_NAMESPACE, &mut signer)?;
    Ok((armoured.into_bytes(), signer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hot_proto::v1::TrustedKey;

    fn file(folder: &Path, name: &str, text: &[u8]) -> (PathBuf, FileReader) {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("writes");
        let reader = FileReader::open(&path).expect("opens");
        (path, reader)
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

        let (sig_path, _) = file(folder.path(), "a.sig", &made[0]);
        let read = Means::Made(vec![sig_path.clone(), sig_path.clone()]).signatures(&offers).expect("reads");
        assert_eq!(read, [made[0].clone(), made[0].clone()]);
        let count =
            Means::Made(vec![sig_path]).signatures(&offers).map_err(Failure::from).expect_err("one for two");
        assert_eq!(count.exit.code(), 2);
        assert_eq!(Means::Nothing.signatures(&offers).expect("nothing"), [vec![], Vec::<u8>::new()]);
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
        let node = Node { trusted_keys: vec![key], ..Node::default() };
        let failure = Failure::from(from_agent(&node, Err(AgentError::NotSet)).expect_err("no agent"));
        assert_eq!(failure.exit.code(), 4);
        assert!(failure.sentence.contains("trusts only SHA256:abc (dev)"), "{}", failure.sentence);
        assert!(failure.sentence.contains("SSH_AUTH_SOCK"), "{}", failure.sentence);
        let offline = SigningError::NoAgentKey(chain(&AgentError::NotSet)).to_string();
        assert!(offline.ends_with("`eval $(ssh-agent)`. Name a key file with --key FILE"), "{offline}");
        assert!(failure.sentence.contains("--key FILE"), "{}", failure.sentence);
    }
}
