//! [`listing`]: what each line of a file of allowed signers says, mistakes too, for people who look after one.

use super::lines::{self, Line, Names};
use super::time;
use crate::signature::PublicKey;

/// A line that says something: not an empty one and no comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The line, from 1.
    pub line: usize,
    /// What it says.
    pub says: Says,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// It allows a key or an authority.
    Allows(Allowed),
    /// `ssh-keygen` would take it, and it does not count here.
    Nothing {
        /// Why, and what to do.
        reason: &'static str,
        /// The key, if it is of a kind that is supported.
        key: Option<PublicKey>,
    },
    /// It is not understood: a node does not take the file.
    Mistake {
        /// What is wrong.
        problem: String,
    },
}

/// An entry that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// The principals of a key; of an authority, patterns of them.
    pub principals: Vec<String>,
    /// It makes certificates, and does not sign itself.
    pub authority: bool,
    /// The key.
    pub key: PublicKey,
    /// A list of patterns with commas.
    pub namespaces: String,
    /// From when on it counts, in UTC.
    pub valid_after: Option<String>,
    /// Until when it counts, in UTC.
    pub valid_before: Option<String>,
}

/// Every line of the text that says something.
#[must_use]
pub fn listing(text: &str) -> Vec<Listed> {
    let lines = (1..).zip(text.split('\n'));
    lines.filter_map(|(line, text)| Some(Listed { line, says: says(text)? })).collect()
}

fn says(text: &str) -> Option<Says> {
    match lines::parse(text.strip_suffix('\r').unwrap_or(text)) {
        Ok(Line::Blank) => None,
        Ok(Line::Skipped { reason, key }) => Some(Says::Nothing { reason, key }),
        Err(problem) => Some(Says::Mistake { problem }),
        Ok(Line::Entry(entry)) => {
            let (principals, authority) = match entry.names {
                Names::Key(principals) => (principals, false),
                Names::Authority(patterns) => (patterns.split(',').map(str::to_owned).collect(), true),
            };
            Some(Says::Allows(Allowed {
                principals,
                authority,
                key: entry.key,
                namespaces: entry.namespaces,
                valid_after: entry.valid_after.map(time::shown),
                valid_before: entry.valid_before.map(time::shown),
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::public;

    #[test]
    fn every_line_is_told_with_its_number() {
        let key = public("ed25519");
        let text = format!(
            "# signers\nanna,berta namespaces=\"hot-module\",valid-after=\"20260101Z\" {key} work\r\n\n\
             *@example.com cert-authority,namespaces=\"*\" {key}\nanna {key}\nanna what\n"
        );
        let found = listing(&text);
        assert_eq!(found.iter().map(|listed| listed.line).collect::<Vec<_>>(), [2, 4, 5, 6]);
        let Says::Allows(first) = &found[0].says else { panic!("{found:?}") };
        assert_eq!((first.principals.join(" "), first.authority), ("anna berta".to_owned(), false));
        assert_eq!(first.valid_after.as_deref(), Some("2026-01-01T00:00:00Z"));
        assert!(
            matches!(&found[1].says, Says::Allows(second) if second.authority && second.namespaces == "*")
        );
        assert!(matches!(&found[2].says, Says::Nothing { reason, .. } if reason.contains("namespaces")));
        assert!(matches!(&found[3].says, Says::Mistake { problem } if problem.starts_with("no key")));
    }
}
