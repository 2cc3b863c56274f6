//! [`Refusal`]: what every check says when it says no.

use serde::Serialize;
use thiserror::Error;

/// Why a file, its metadata or its signature is refused, in the four parts that a person needs, plus a code for
/// programs.
///
/// Each operation has an error enum of its own; each of those turns into a `Refusal`, and its text is this one
/// sentence.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize)]
#[error("{field}: found {found}, expected {expected}; {advice}")]
pub struct Refusal {
    /// Stable name of the reason, `area.reason`, e.g. `elf.wrong_machine`. Never renamed, only added to.
    pub code: &'static str,
    /// What was looked at, e.g. `signature` or `routes[1]`.
    pub field: String,
    /// What was there.
    pub found: String,
    /// What should have been there.
    pub expected: String,
    /// The next thing to do.
    pub advice: String,
}

impl Refusal {
    pub(crate) fn new(
        code: &'static str,
        field: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            code,
            field: field.into(),
            found: found.into(),
            expected: expected.into(),
            advice: advice.into(),
        }
    }
}

/// A foreign text as it may be shown: in backquotes, cut to 80 characters, control characters escaped.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars().take(80) {
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            other => shown.extend(other.escape_debug()),
        }
    }
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// The known word that `found` is most likely a misspelling of.
pub(crate) fn similar<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    // Two edits in a word of six letters is a slip; in a word of two it is another word.
    let budget = |word: &str| word.len().div_ceil(3).min(2);
    known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(found, word), *word))
        .filter(|(distance, word)| *distance <= budget(word))
        .min()
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_forge_lines_or_flood() {
        assert_eq!(quoted("a\nb\u{1b}[31m"), "`a\\nb\\u{1b}[31m`");
        assert_eq!(quoted("say \"it's\""), "`say \"it's\"`");
        assert_eq!(quoted(&"x".repeat(1000)).chars().count(), 83);
    }

    #[test]
    fn only_close_words_are_suggested() {
        assert_eq!(similar("rotues", &["routes", "requires"]), Some("routes"));
        assert_eq!(similar("abbi", &["abi", "name"]), Some("abi"));
        assert_eq!(similar("colour", &["name", "abi", "routes"]), None);
    }
}
