//! [`AllowedSigners`]: the keys of an `allowed_signers` file, and who signed with one of them.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::lines::{self, AllowedSignersError, Entry, Line, LineProblem};
use super::{SignerError, Validity, glob, time};
use crate::signature::PublicKey;

/// Largest file: a thousand signers with RSA keys fit ten times.
const MAX_FILE: usize = 8 << 20;

/// The keys that may sign.
///
/// Every entry that counts here counts for `ssh-keygen -Y verify` too. Stricter than that: an entry has to name its
/// namespaces, and principals are literal names. Entries of certificate authorities and of kinds of keys that are not
/// supported are skipped; [`Self::notes`] says which.
#[derive(Debug, Clone)]
pub struct AllowedSigners {
    file: PathBuf,
    entries: Vec<(usize, Entry)>,
    notes: Vec<Note>,
}

/// An entry that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The line, from 1.
    pub line: usize,
    /// Why it does not count, and what to do.
    pub reason: &'static str,
    key: Option<PublicKey>,
}

impl AllowedSigners {
    /// Parses the text of the file at `path`, which is only named in messages.
    ///
    /// # Errors
    /// Everything that is wrong in it, each with its line.
    pub fn parse(text: &str, path: &Path) -> Result<Self, AllowedSignersError> {
        let file = path.to_owned();
        if text.len() > MAX_FILE {
            let problem = format!("{} bytes, more than {MAX_FILE}", text.len());
            return Err(AllowedSignersError { file, problems: vec![LineProblem { line: 0, problem }] });
        }
        let (mut entries, mut notes, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for (line, text) in (1..).zip(text.split('\n')) {
            match lines::parse(text.strip_suffix('\r').unwrap_or(text)) {
                Ok(Line::Blank) => {}
                Ok(Line::Entry(entry)) => entries.push((line, entry)),
                Ok(Line::Skipped { reason, key }) => notes.push(Note { line, reason, key }),
                Err(problem) => problems.push(LineProblem { line, problem }),
            }
        }
        if problems.is_empty() {
            Ok(Self { file, entries, notes })
        } else {
            Err(AllowedSignersError { file, problems })
        }
    }

    /// The file that they are from.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The entries that do not count.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The keys that may sign in `namespace` at any time, each once, in the file's order: what a client asks for to
    /// choose the key to sign with.
    #[must_use]
    pub fn keys(&self, namespace: &str) -> Vec<&PublicKey> {
        let mut keys: Vec<&PublicKey> = Vec::new();
        for (_, entry) in &self.entries {
            if glob::list_matches(&entry.namespaces, namespace) && !keys.contains(&&entry.key) {
                keys.push(&entry.key);
            }
        }
        keys
    }

    /// The principals of the first entry that allows `key` in `namespace`, at the time if that counts. Never empty.
    ///
    /// # Errors
    /// When there is none: what comes closest of "not now", "not in this namespace" and "not at all".
    pub fn principals(
        &self,
        key: &PublicKey,
        namespace: &str,
        validity: Validity,
    ) -> Result<&[String], SignerError> {
        let mut out_of_time = None;
        let mut other_namespace = None;
        for (line, entry) in self.entries.iter().filter(|(_, entry)| entry.key == *key) {
            if !glob::list_matches(&entry.namespaces, namespace) {
                other_namespace.get_or_insert(*line);
                continue;
            }
            match self.out_of_time(*line, entry, validity) {
                None => return Ok(&entry.principals),
                Some(error) => out_of_time = out_of_time.or(Some(error)),
            }
        }
        let fingerprint = key.fingerprint();
        Err(match (out_of_time, other_namespace) {
            (Some(error), _) => error,
            (None, Some(line)) => SignerError::NotForNamespace {
                fingerprint,
                namespace: namespace.to_owned(),
                file: self.file.clone(),
                line,
            },
            (None, None) => {
                let near_miss = self.notes.iter().find(|note| note.key.as_ref() == Some(key));
                SignerError::NotAllowed {
                    fingerprint,
                    file: self.file.clone(),
                    near_miss: near_miss.map(|note| (note.line, note.reason)),
                }
            }
        })
    }

    /// Why an entry does not count at the time, if that counts.
    fn out_of_time(&self, line: usize, entry: &Entry, validity: Validity) -> Option<SignerError> {
        let Validity::At(now) = validity else { return None };
        let now = seconds(now);
        let principal = || entry.principals.join(",");
        let place = || format!("{}:{line}", self.file.display());
        if let Some(after) = entry.valid_after.filter(|after| now < *after) {
            return Some(SignerError::NotYetValid {
                principal: principal(),
                from: time::shown(after),
                place: place(),
            });
        }
        let before = entry.valid_before.filter(|before| now > *before)?;
        Some(SignerError::Expired { principal: principal(), until: time::shown(before), place: place() })
    }
}

/// Seconds since 1970, as OpenSSH counts them; before that, no key is valid that has a time.
fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
