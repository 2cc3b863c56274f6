//! One line of an `allowed_signers` file, as `ssh-keygen(1)` describes it under ALLOWED SIGNERS:
//! `principals [options] kind base64 [comment]`.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::time::{self, Bound};
use crate::refusal::quoted;
use crate::signature::{KeyError, PublicKey};

/// What is wrong in a file of allowed signers; all of it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct AllowedSignersError {
    /// The file.
    pub file: PathBuf,
    /// Each problem, in the file's order; at least one.
    pub problems: Vec<LineProblem>,
}

/// What is wrong in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineProblem {
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for AllowedSignersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, LineProblem { line, problem }) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{line}: {problem}", self.file.display())?;
        }
        Ok(())
    }
}

/// What a line says.
#[derive(Debug)]
pub(super) enum Line {
    /// Nothing: empty or a comment.
    Blank,
    /// A key that may sign.
    Entry(Entry),
    /// An entry that `ssh-keygen` knows and that does not count here, and why.
    Skipped { reason: &'static str, key: Option<PublicKey> },
}

/// A key that may sign.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) names: Names,
    pub(super) key: PublicKey,
    /// A list of patterns with commas.
    pub(super) namespaces: String,
    /// Seconds since 1970; both ends are inside.
    pub(super) valid_after: Option<i64>,
    pub(super) valid_before: Option<i64>,
}

/// For whom an entry is.
#[derive(Debug, Clone)]
pub(super) enum Names {
    /// The principals of a key, literally.
    Key(Vec<String>),
    /// A list of patterns with commas, and the key is an authority: it may make certificates for names that match.
    Authority(String),
}

#[derive(Debug, Default)]
struct Options {
    certificate_authority: bool,
    namespaces: Option<String>,
    valid_after: Option<i64>,
    valid_before: Option<i64>,
}

/// Parses one line, without its line end.
pub(super) fn parse(line: &str) -> Result<Line, String> {
    let line = line.trim_matches([' ', '\t']);
    if line.is_empty() || line.starts_with('#') {
        return Ok(Line::Blank);
    }
    if let Some(found) = line.chars().find(|c| c.is_control() && *c != '\t') {
        return Err(format!("a control character ({})", found.escape_unicode()));
    }
    let (names, rest) = word(line)?;
    let (second, after) = word(rest)?;
    let (option_text, kind, after) = if is_key_kind(second) {
        (None, second, after)
    } else {
        let (kind, after) = word(after)?;
        (Some(second), kind, after)
    };
    let (base64, _comment) = word(after)?;
    if base64.is_empty() {
        return Err("no key; a line is `principals namespaces=\"hot-module\" kind base64`".to_owned());
    }
    let options = option_text.map(options).transpose()?.unwrap_or_default();
    names_are_plain(names)?;
    let key = match PublicKey::from_words(kind, base64) {
        Ok(key) => key,
        Err(KeyError::Malformed) => return Err(format!("a malformed key of kind {}", quoted(kind))),
        Err(KeyError::Unsupported { .. }) => {
            return Ok(Line::Skipped { reason: "its kind or strength of key is not supported", key: None });
        }
    };
    let names = if options.certificate_authority {
        Names::Authority(names.to_owned())
    } else if names.contains(['*', '?', '!']) {
        return Ok(Line::Skipped {
            reason: "its principals are patterns; name them literally",
            key: Some(key),
        });
    } else {
        Names::Key(names.split(',').map(str::to_owned).collect())
    };
    let Some(namespaces) = options.namespaces else {
        // `ssh-keygen` would accept this key for every purpose there is, which nobody means who deploys code with it.
        let reason = "it names no namespaces; add namespaces=\"hot-module\"";
        return Ok(Line::Skipped { reason, key: Some(key) });
    };
    let (valid_after, valid_before) = (options.valid_after, options.valid_before);
    Ok(Line::Entry(Entry { names, key, namespaces, valid_after, valid_before }))
}

/// The text up to white space outside of double quotes, and what follows that white space.
fn word(text: &str) -> Result<(&str, &str), String> {
    let mut quoted = false;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            // Within quotes OpenSSH takes a backslash for an escape; nothing that we accept needs one.
            b'\\' if quoted => return Err("a backslash in quotes".to_owned()),
            b' ' | b'\t' if !quoted => {
                return Ok((&text[..index], text[index..].trim_start_matches([' ', '\t'])));
            }
            _ => {}
        }
    }
    if quoted { Err("a quote that is not closed".to_owned()) } else { Ok((text, "")) }
}

/// Whether a word is the kind of a key and not the options before one.
fn is_key_kind(word: &str) -> bool {
    let starts = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "rsa-sha2-", "webauthn-"];
    starts.iter().any(|start| word.starts_with(start)) && !word.contains(['=', '"', ','])
}

/// Longest pattern in a list: OpenSSH takes a list with a longer one to match nothing from there on.
const MAX_PATTERN: usize = 1022;

fn names_are_plain(names: &str) -> Result<(), String> {
    if names.contains('"') {
        return Err("principals in quotes; names have no white space here".to_owned());
    }
    if names.split(',').any(str::is_empty) {
        return Err("an empty name among the principals".to_owned());
    }
    patterns_are_short(names, "principals")
}

fn patterns_are_short(list: &str, of: &str) -> Result<(), String> {
    match list.split(',').find(|pattern| pattern.len() > MAX_PATTERN) {
        Some(long) => Err(format!("{} bytes in one of its {of}; at most {MAX_PATTERN}", long.len())),
        None => Ok(()),
    }
}

fn options(text: &str) -> Result<Options, String> {
    let mut options = Options::default();
    let mut rest = text;
    loop {
        let end = rest.find(['=', ',']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let lower = name.to_ascii_lowercase();
        let after = match after.strip_prefix("=\"") {
            None if lower == "cert-authority" => {
                options.certificate_authority = true;
                after
            }
            None => return Err(format!("the unknown option {}", quoted(name))),
            Some(value) => {
                let (value, after) = value.split_once('"').ok_or("a quote that is not closed")?;
                options.set(&lower, value)?;
                after
            }
        };
        rest = match after.strip_prefix(',') {
            Some(more) => more,
            None if after.is_empty() => break,
            None => return Err(format!("{} behind an option", quoted(after))),
        };
    }
    match (options.valid_after, options.valid_before) {
        (Some(after), Some(before)) if before <= after => {
            Err("a valid-before that is not later than its valid-after".to_owned())
        }
        _ => Ok(options),
    }
}

impl Options {
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let twice = match name {
            "namespaces" => {
                patterns_are_short(value, "namespaces")?;
                self.namespaces.replace(value.to_owned()).is_some()
            }
            "valid-after" => self.valid_after.replace(bound(name, value, Bound::After)?).is_some(),
            "valid-before" => self.valid_before.replace(bound(name, value, Bound::Before)?).is_some(),
            _ => return Err(format!("the unknown option {}", quoted(name))),
        };
        if twice { Err(format!("the option {name} twice")) } else { Ok(()) }
    }
}

fn bound(name: &str, value: &str, bound: Bound) -> Result<i64, String> {
    time::parse(value, bound).map_err(|problem| format!("{name} is {}, {problem}", quoted(value)))
}
