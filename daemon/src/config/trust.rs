//! [`Trust`]: where the allowed signers are, and reading them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use hot_artifact::signature::MODULE_NAMESPACE;
use hot_artifact::trust::{
    AllowedSigners, AllowedSignersError, LineProblem, MAX_REVOKED, ModuleRules, Note, Revoked, RevokedError,
};
use thiserror::Error;

use super::Mistake;

/// Largest file of allowed signers that is read.
const MAX_SIGNERS: u64 = 8 << 20;

/// `[trust]`: whose modules are let in.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The file of allowed signers, in OpenSSH's format.
    pub allowed_signers: PathBuf,
    /// The file of keys that count no more, if there is one: public keys, or a KRL.
    pub revoked: Option<PathBuf>,
    /// Which of them may sign which modules.
    pub modules: ModuleRules,
    /// Patterns of the libraries that modules may need; `None`: all that the node has.
    pub libraries: Option<Vec<String>>,
}

/// Why nobody can be trusted.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The file of allowed signers can't be read.
    #[error("can't read the allowed signers {}; make the file with lines `NAME namespaces=\"hot-module\" KEY`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are mistakes in it.
    #[error(transparent)]
    Invalid(#[from] AllowedSignersError),
    /// The file of revoked keys can't be read.
    #[error("can't read the revoked keys {}; make the file, empty at first, or take `revoked` out of [trust]", path.display())]
    ReadRevoked {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not understood.
    #[error(transparent)]
    Revoked(#[from] RevokedError),
}

/// A file of trust: its bytes, where there is such a file, and what they say.
pub(crate) type Reading<T> = (Option<Vec<u8>>, T);

/// The lines of the config that name the files of trust, or could, and those of the rules about modules.
#[derive(Debug)]
pub(super) struct TrustLines {
    pub signers: usize,
    pub revoked: usize,
    pub rules: Vec<RuleLine>,
}

/// A line under `[trust.modules]`.
#[derive(Debug)]
pub(super) struct RuleLine {
    pub line: usize,
    /// Of modules.
    pub pattern: String,
    pub principals: Vec<String>,
}

impl TrustError {
    /// Whether the file could not be read for a reason that may pass while the file stays as it is: not one of its own,
    /// as its size.
    pub(crate) fn is_unread(&self) -> bool {
        let of_the_file =
            [io::ErrorKind::InvalidData, io::ErrorKind::InvalidInput, io::ErrorKind::FileTooLarge];
        match self {
            Self::Read { source, .. } | Self::ReadRevoked { source, .. } => {
                !of_the_file.contains(&source.kind())
            }
            Self::Invalid(_) | Self::Revoked(_) => false,
        }
    }

    /// The key under `[trust]` that names the file.
    pub(crate) const fn key(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::Invalid(_) => "allowed_signers",
            Self::ReadRevoked { .. } | Self::Revoked(_) => "revoked",
        }
    }

    /// The same as mistakes: of the config at the line that names the file, or of that file's own lines.
    fn mistakes(&self, config: &Path, lines: &TrustLines) -> Vec<Mistake> {
        let unreadable = |key: &str, line| {
            let text = format!("[trust] {key}: {}", crate::describe(self));
            vec![Mistake { file: config.to_owned(), line, text }]
        };
        match self {
            Self::Read { .. } => unreadable("allowed_signers", lines.signers),
            Self::ReadRevoked { .. } => unreadable("revoked", lines.revoked),
            Self::Invalid(AllowedSignersError { file, problems }) => {
                let mistake = |of: &LineProblem| Mistake {
                    file: file.clone(),
                    line: of.line,
                    text: of.problem.clone(),
                };
                problems.iter().map(mistake).collect()
            }
            Self::Revoked(RevokedError { file, line, problem }) => {
                let (file, text) = (file.clone(), problem.clone());
                vec![Mistake { file, line: line.unwrap_or_default(), text }]
            }
        }
    }
}

impl Trust {
    /// What has no effect: lines of the allowed signers, and names in the rules. With mistakes in the files as they are now,
    /// all of those instead.
    pub(super) fn check(&self, config: &Path, lines: &TrustLines) -> Result<Vec<Mistake>, Vec<Mistake>> {
        match (self.read_signers(), self.read_revoked()) {
            (Ok((_, signers)), Ok(_)) => Ok(self.idle(&signers, config, lines)),
            (signers, revoked) => {
                let errors = signers.err().into_iter().chain(revoked.err());
                Err(errors.flat_map(|error| error.mistakes(config, lines)).collect())
            }
        }
    }

    fn idle(&self, signers: &AllowedSigners, config: &Path, lines: &TrustLines) -> Vec<Mistake> {
        let note = |note: &Note| Mistake {
            file: self.allowed_signers.clone(),
            line: note.line,
            text: format!("does not count: {}", note.reason),
        };
        let rule = |RuleLine { line, pattern, principals }: &RuleLine| -> Vec<Mistake> {
            let unknown = principals.iter().filter(|name| !signers.has_line_for(name, MODULE_NAMESPACE));
            let mistake = |name: &String| Mistake {
                file: config.to_owned(),
                line: *line,
                text: format!(
                    "[trust.modules] {pattern}: nobody can sign as {name}, which no line of {} for {MODULE_NAMESPACE} \
                     has, expected a name from there; mend the name, or add its key (`hotctl trust add`)",
                    self.allowed_signers.display()
                ),
            };
            unknown.map(mistake).collect()
        };
        // In the order of the lines, which is not that of the table's keys.
        let mut of_rules: Vec<Mistake> = lines.rules.iter().flat_map(rule).collect();
        of_rules.sort();
        signers.notes().iter().map(note).chain(of_rules).collect()
    }

    /// The file of allowed signers alone.
    pub(crate) fn read_signers(&self) -> Result<Reading<AllowedSigners>, TrustError> {
        let path = &self.allowed_signers;
        let text = read_bounded(path, MAX_SIGNERS)
            .map_err(|source| TrustError::Read { path: path.clone(), source })?;
        let signers = AllowedSigners::parse(&text, path)?;
        Ok((Some(text.into_bytes()), signers))
    }

    /// The file of revoked keys alone.
    pub(crate) fn read_revoked(&self) -> Result<Reading<Revoked>, TrustError> {
        let Some(path) = &self.revoked else { return Ok((None, Revoked::default())) };
        let bytes = read_bytes_bounded(path, MAX_REVOKED as u64)
            .map_err(|source| TrustError::ReadRevoked { path: path.clone(), source })?;
        let revoked = Revoked::parse(&bytes, path)?;
        Ok((Some(bytes), revoked))
    }
}

/// The text of a file, up to a bound: a path in a config may lead to anything.
pub(super) fn read_bounded(path: &Path, max: u64) -> io::Result<String> {
    let bytes = read_bytes_bounded(path, max)?;
    String::from_utf8(bytes).map_err(|_error| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
}

/// Its bytes.
pub(super) fn read_bytes_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {max} bytes")));
    }
    Ok(bytes)
}
