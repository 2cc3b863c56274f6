//! [`AllowedSigners`]: the keys of an `allowed_signers` file, and who signed with one of them.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::lines::{self, AllowedSignersError, Entry, Line, LineProblem, Names};
use super::{SignerError, Validity, certified, glob, time};
use crate::signature::{Certificate, PublicKey, Signature};

/// Largest file: a thousand signers with RSA keys fit ten times.
const MAX_FILE: usize = 8 << 20;

/// The keys that may sign.
///
/// Every entry that counts here counts for `ssh-keygen -Y verify` too. Stricter than that: an entry has to name its
/// namespaces, and the principals of a key are literal names (those of an authority may be patterns, since a certificate
/// says the name). Entries that do not count are skipped; [`Self::notes`] says which.
#[derive(Debug, Clone, Default)]
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
            let is_key = matches!(entry.names, Names::Key(_));
            if is_key && glob::list_matches(&entry.namespaces, namespace) && !keys.contains(&&entry.key) {
                keys.push(&entry.key);
            }
        }
        keys
    }

    /// Whether some entry for `namespace` could say that `principal` signed, at any time: one with the name or, since the
    /// name is then in a certificate, an authority's whose patterns match it.
    #[must_use]
    pub fn has_line_for(&self, principal: &str, namespace: &str) -> bool {
        let names = |entry: &Entry| match &entry.names {
            Names::Key(principals) => principals.iter().any(|name| name == principal),
            Names::Authority(patterns) => glob::list_matches(patterns, principal),
        };
        let mut entries = self.entries.iter().map(|(_, entry)| entry);
        entries.any(|entry| glob::list_matches(&entry.namespaces, namespace) && names(entry))
    }

    /// The principals of the first entry that allows what `signature` was made with, in `namespace`, at the time if
    /// that counts: those of the key, or those of the certificate that its authority may name. Never empty.
    ///
    /// # Errors
    /// When there is none: what comes closest of "not now", "not in this namespace" and "not at all".
    pub fn signers(
        &self,
        signature: &Signature,
        namespace: &str,
        validity: Validity,
    ) -> Result<Vec<String>, SignerError> {
        match signature.certificate() {
            None => self.principals(signature.key(), namespace, validity).map(<[String]>::to_vec),
            Some(certificate) => self.certified(certificate, namespace, validity),
        }
    }

    /// The principals of the first entry that allows `key` in `namespace`, at the time if that counts. Never empty.
    ///
    /// # Errors
    /// As [`Self::signers`].
    pub fn principals(
        &self,
        key: &PublicKey,
        namespace: &str,
        validity: Validity,
    ) -> Result<&[String], SignerError> {
        let mut closest = Closest::default();
        for (line, entry) in &self.entries {
            let Names::Key(principals) = &entry.names else { continue };
            if entry.key == *key && self.allows(*line, entry, namespace, validity, &mut closest) {
                return Ok(principals);
            }
        }
        let fingerprint = key.fingerprint();
        Err(closest.or_else(namespace, &self.file, &fingerprint, || SignerError::NotAllowed {
            fingerprint: fingerprint.clone(),
            file: self.file.clone(),
            near_miss: self.near_miss(key),
        }))
    }

    fn certified(
        &self,
        certificate: &Certificate,
        namespace: &str,
        validity: Validity,
    ) -> Result<Vec<String>, SignerError> {
        certified::is_usable(certificate)?;
        let mut closest = Closest::default();
        let mut is_authority = false;
        for (line, entry) in &self.entries {
            let Names::Authority(patterns) = &entry.names else { continue };
            if entry.key != *certificate.authority() {
                continue;
            }
            is_authority = true;
            let principals = certified::principals(certificate, patterns);
            if !principals.is_empty() && self.allows(*line, entry, namespace, validity, &mut closest) {
                certified::in_time(certificate, validity)?;
                return Ok(principals);
            }
        }
        let authority = certificate.authority().fingerprint();
        let near_miss = self.near_miss(certificate.authority());
        Err(closest.or_else(namespace, &self.file, &authority, || {
            let certificate = certified::shown(certificate);
            if is_authority {
                let problem = format!("for names that its authority may not give by {}", self.file.display());
                SignerError::Certificate { certificate, problem }
            } else {
                SignerError::AuthorityNotAllowed {
                    certificate,
                    authority: authority.clone(),
                    file: self.file.clone(),
                    near_miss,
                }
            }
        }))
    }

    /// A line with this key that does not count, and why.
    fn near_miss(&self, key: &PublicKey) -> Option<(usize, &'static str)> {
        let note = self.notes.iter().find(|note| note.key.as_ref() == Some(key))?;
        Some((note.line, note.reason))
    }

    /// Whether an entry counts in `namespace` and at the time; if not, why, kept for the answer.
    fn allows(
        &self,
        line: usize,
        entry: &Entry,
        namespace: &str,
        validity: Validity,
        closest: &mut Closest,
    ) -> bool {
        if !glob::list_matches(&entry.namespaces, namespace) {
            closest.other_namespace.get_or_insert(line);
            return false;
        }
        match self.out_of_time(line, entry, validity) {
            None => true,
            Some(error) => {
                closest.out_of_time.get_or_insert(error);
                false
            }
        }
    }

    /// Why an entry does not count at the time, if that counts.
    fn out_of_time(&self, line: usize, entry: &Entry, validity: Validity) -> Option<SignerError> {
        let Validity::At(now) = validity else { return None };
        let now = seconds(now);
        let principal = || match &entry.names {
            Names::Key(principals) => principals.join(","),
            Names::Authority(patterns) => patterns.clone(),
        };
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

/// What came closest among the entries that do not count.
#[derive(Debug, Default)]
struct Closest {
    out_of_time: Option<SignerError>,
    other_namespace: Option<usize>,
}

impl Closest {
    fn or_else(
        self,
        namespace: &str,
        file: &Path,
        fingerprint: &str,
        other: impl FnOnce() -> SignerError,
    ) -> SignerError {
        match (self.out_of_time, self.other_namespace) {
            (Some(error), _) => error,
            (None, Some(line)) => SignerError::NotForNamespace {
                fingerprint: fingerprint.to_owned(),
                namespace: namespace.to_owned(),
                file: file.to_owned(),
                line,
            },
            (None, None) => other(),
        }
    }
}

/// Seconds since 1970, as OpenSSH counts them; before that, no key is valid that has a time.
pub(super) fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
