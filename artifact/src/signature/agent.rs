//! [`Agent`]: the two requests of ssh-agent's protocol that signing needs (OpenSSH's `PROTOCOL.agent`,
//! draft-ietf-sshm-ssh-agent): list the identities, sign.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::key::PublicKey;
use super::wire::{Wire, put_string};

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// Asks for rsa-sha2-512 where the agent would make a SHA-1 signature; other kinds of keys ignore it.
const FLAG_RSA_SHA2_512: u32 = 4;

/// Largest frame: what OpenSSH's agent sends and takes at most.
const MAX_FRAME: u32 = 256 * 1024;

/// A list of keys takes an agent no time.
const LIST_DEADLINE: Duration = Duration::from_secs(10);

/// A signature may wait for a person to confirm it or to touch a token.
const SIGN_DEADLINE: Duration = Duration::from_secs(120);

/// A connection to ssh-agent.
#[derive(Debug)]
pub struct Agent {
    stream: UnixStream,
    socket: PathBuf,
}

/// A key that an agent holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The public half.
    pub key: PublicKey,
    /// What its owner calls it.
    pub comment: String,
}

/// Why an agent gave no answer or no signature.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AgentError {
    /// `SSH_AUTH_SOCK` is not set.
    #[error("no ssh-agent: SSH_AUTH_SOCK is not set; start one with `eval $(ssh-agent)`")]
    NotSet,
    /// The agent's socket can't be connected to.
    #[error("can't connect to ssh-agent at {}; check SSH_AUTH_SOCK", socket.display())]
    Connect {
        /// The agent's socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke, or the deadline passed.
    #[error("ssh-agent at {} did not answer", socket.display())]
    Io {
        /// The agent's socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer is not one of the protocol's.
    #[error("ssh-agent at {} answered with {problem}", socket.display())]
    Protocol {
        /// The agent's socket.
        socket: PathBuf,
        /// What is wrong with the answer.
        problem: &'static str,
    },
    /// The agent said no.
    #[error(
        "ssh-agent refused to sign with key {fingerprint}; it may be locked, or the use was not confirmed"
    )]
    Refused {
        /// Fingerprint of the key.
        fingerprint: String,
    },
}

impl Agent {
    /// Connects to the agent that `SSH_AUTH_SOCK` names.
    ///
    /// # Errors
    /// When the variable is not set or nothing answers there.
    pub fn from_env() -> Result<Self, AgentError> {
        match std::env::var_os("SSH_AUTH_SOCK") {
            Some(socket) if !socket.is_empty() => Self::connect(Path::new(&socket)),
            _ => Err(AgentError::NotSet),
        }
    }

    /// Connects to the agent at `socket`.
    ///
    /// # Errors
    /// [`AgentError::Connect`].
    pub fn connect(socket: &Path) -> Result<Self, AgentError> {
        match UnixStream::connect(socket) {
            Ok(stream) => Ok(Self { stream, socket: socket.to_owned() }),
            Err(source) => Err(AgentError::Connect { socket: socket.to_owned(), source }),
        }
    }

    /// The keys that it holds and that signatures are accepted of, in its order. Others are left out.
    ///
    /// # Errors
    /// When it does not answer within 10 s, or not with a list of keys.
    pub fn identities(&mut self) -> Result<Vec<Identity>, AgentError> {
        let answer = self.ask(&[REQUEST_IDENTITIES], LIST_DEADLINE)?;
        let cut_short = || self.protocol("a list of keys that was cut short");
        let mut wire = Wire::new(&answer);
        if wire.u8() != Some(IDENTITIES_ANSWER) {
            return Err(self.protocol("something else than a list of keys"));
        }
        let count = wire.u32().ok_or_else(cut_short)?;
        let mut identities = Vec::new();
        for _ in 0..count {
            let blob = wire.string().ok_or_else(cut_short)?;
            let comment = wire.string().ok_or_else(cut_short)?;
            if let Ok(key) = PublicKey::from_blob(blob) {
                identities.push(Identity { key, comment: String::from_utf8_lossy(comment).into_owned() });
            }
        }
        Ok(identities)
    }

    /// The signature value, in SSH's wire format, that `key` makes of `data`.
    pub(super) fn sign(&mut self, key: &PublicKey, data: &[u8]) -> Result<Vec<u8>, AgentError> {
        let mut request = vec![SIGN_REQUEST];
        put_string(&mut request, key.as_blob());
        put_string(&mut request, data);
        request.extend(FLAG_RSA_SHA2_512.to_be_bytes());
        let answer = self.ask(&request, SIGN_DEADLINE)?;
        let mut wire = Wire::new(&answer);
        match wire.u8() {
            Some(SIGN_RESPONSE) => match wire.string() {
                Some(signature) if wire.is_empty() => Ok(signature.to_vec()),
                _ => Err(self.protocol("a signature that was cut short")),
            },
            Some(FAILURE) => Err(AgentError::Refused { fingerprint: key.fingerprint() }),
            _ => Err(self.protocol("something else than a signature")),
        }
    }

    /// One request and its answer. The deadline is for each read and write: a frame comes in very few.
    fn ask(&mut self, request: &[u8], deadline: Duration) -> Result<Vec<u8>, AgentError> {
        let exchange = |stream: &mut UnixStream| -> io::Result<Option<Vec<u8>>> {
            stream.set_read_timeout(Some(deadline))?;
            stream.set_write_timeout(Some(deadline))?;
            let mut frame = Vec::with_capacity(request.len() + 4);
            put_string(&mut frame, request);
            stream.write_all(&frame)?;
            let mut len = [0; 4];
            stream.read_exact(&mut len)?;
            let len = u32::from_be_bytes(len);
            if len == 0 || len > MAX_FRAME {
                return Ok(None);
            }
            let mut answer = Vec::new();
            stream.take(len.into()).read_to_end(&mut answer)?;
            Ok((answer.len() as u64 == u64::from(len)).then_some(answer))
        };
        match exchange(&mut self.stream) {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.protocol("a frame of a wrong length")),
            Err(source) => Err(AgentError::Io { socket: self.socket.clone(), source }),
        }
    }

    fn protocol(&self, problem: &'static str) -> AgentError {
        AgentError::Protocol { socket: self.socket.clone(), problem }
    }
}
