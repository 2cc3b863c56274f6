//! [`listing`]: what each line of a file of allowed signers says, mistakes too, for people who look after one, and
//! [`standings`]: which of them count now.

use std::collections::HashMap;
use std::time::SystemTime;

use super::allowed_signers::seconds;
use super::lines::{self, Line, Names};
use super::{Revoked, glob, time};
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
    after: Option<i64>,
    before: Option<i64>,
}

/// How an entry stands at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It counts.
    Counts,
    /// What it allows is among the revoked keys.
    Revoked {
        /// What of it is listed.
        by: &'static str,
    },
    /// It is for other namespaces.
    OtherNamespace,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYet,
    /// An entry above it that counts allows the same key, and the first one decides.
    Behind {
        /// The line of that entry.
        line: usize,
        /// When that one ends, in UTC, where this one goes on.
        until: Option<String>,
    },
}

impl Allowed {
    /// From when on it counts, in UTC.
    #[must_use]
    pub fn valid_after(&self) -> Option<String> {
        self.after.map(time::shown)
    }

    /// Until when it counts, in UTC.
    #[must_use]
    pub fn valid_before(&self) -> Option<String> {
        self.before.map(time::shown)
    }

    /// How it stands if nothing is above it.
    fn alone(&self, namespace: &str, revoked: &Revoked, now: i64) -> Standing {
        if let Some(by) = revoked.key(&self.key) {
            Standing::Revoked { by }
        } else if !glob::list_matches(&self.namespaces, namespace) {
            Standing::OtherNamespace
        } else if self.before.is_some_and(|before| now > before) {
            Standing::Expired
        } else if self.after.is_some_and(|after| now < after) {
            Standing::NotYet
        } else {
            Standing::Counts
        }
    }

    /// Whether it allows everybody whom `other` allows. Of patterns that is said only where it is plain.
    fn covers(&self, other: &Self) -> bool {
        let negates = |of: &Self| of.principals.iter().any(|pattern| pattern.starts_with('!'));
        if !self.authority {
            return true;
        }
        let has = |pattern: &str| self.principals.iter().any(|own| own == pattern);
        !negates(self) && !negates(other) && (has("*") || other.principals.iter().all(|pattern| has(pattern)))
    }
}

/// An entry that counts, and its line.
type Above<'a> = (usize, &'a Allowed);

/// How each line stands at this time: `None` for those that allow nothing.
#[must_use]
pub fn standings(
    listed: &[Listed],
    namespace: &str,
    revoked: &Revoked,
    now: SystemTime,
) -> Vec<Option<Standing>> {
    let now = seconds(now);
    let mut counting: HashMap<(&[u8], bool), Vec<Above<'_>>> = HashMap::new();
    listed
        .iter()
        .map(|Listed { line, says }| {
            let Says::Allows(of) = says else { return None };
            let standing = of.alone(namespace, revoked, now);
            if standing != Standing::Counts {
                return Some(standing);
            }
            let above = counting.entry((of.key.as_blob(), of.authority)).or_default();
            if let Some((first, other)) = above.iter().find(|(_, other)| other.covers(of)) {
                let until = other.before.filter(|end| of.before.is_none_or(|own| own > *end));
                return Some(Standing::Behind { line: *first, until: until.map(time::shown) });
            }
            above.push((*line, of));
            Some(Standing::Counts)
        })
        .collect()
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
                after: entry.valid_after,
                before: entry.valid_before,
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, UNIX_EPOCH};

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
        assert_eq!(first.valid_after().as_deref(), Some("2026-01-01T00:00:00Z"));
        assert!(
            matches!(&found[1].says, Says::Allows(second) if second.authority && second.namespaces == "*")
        );
        assert!(matches!(&found[2].says, Says::Nothing { reason, .. } if reason.contains("namespaces")));
        assert!(matches!(&found[3].says, Says::Mistake { problem } if problem.starts_with("no key")));
    }

    /// The standings at the beginning of 2026 in UTC.
    fn stands(text: &str, revoked: &str) -> Vec<Option<Standing>> {
        let revoked = Revoked::parse(revoked.as_bytes(), Path::new("revoked")).unwrap();
        standings(&listing(text), "hot-module", &revoked, UNIX_EPOCH + Duration::from_secs(1_767_225_600))
    }

    fn lines(options: &[(&str, &str)], key: &str) -> String {
        let line =
            |(who, options): &(&str, &str)| format!("{who} namespaces=\"hot-module\"{options} {key}\n");
        options.iter().map(line).collect()
    }

    #[test]
    fn a_line_counts_by_its_time_its_namespaces_and_the_revoked_keys() {
        let key = public("ed25519");
        let one = |options: &str| stands(&lines(&[("anna", options)], &key), "")[0].clone();
        assert_eq!(one(""), Some(Standing::Counts));
        assert_eq!(one(",valid-before=\"20251231Z\""), Some(Standing::Expired));
        assert_eq!(one(",valid-before=\"20260101Z\""), Some(Standing::Counts), "the end is inside");
        assert_eq!(one(",valid-after=\"20260102Z\""), Some(Standing::NotYet));
        let other = stands(&format!("anna namespaces=\"file\" {key}\nanna {key}\nanna what\n"), "");
        assert_eq!(other, [Some(Standing::OtherNamespace), None, None]);
        let revoked = stands(&lines(&[("anna", ""), ("*", ",cert-authority")], &key), &key);
        assert!(revoked.iter().all(|of| matches!(of, Some(Standing::Revoked { .. }))), "{revoked:?}");
    }

    #[test]
    fn the_first_line_of_a_key_that_counts_decides() {
        let key = public("ed25519");
        let ends = ",valid-before=\"20270101Z\"";
        let behind =
            |line, until: Option<&str>| Some(Standing::Behind { line, until: until.map(str::to_owned) });
        let of = |options: &[(&str, &str)]| stands(&lines(options, &key), "");
        assert_eq!(of(&[("anna", ""), ("berta", "")]), [Some(Standing::Counts), behind(1, None)]);
        let until = behind(1, Some("2027-01-01T00:00:00Z"));
        assert_eq!(of(&[("anna", ends), ("berta", "")]), [Some(Standing::Counts), until]);
        assert_eq!(of(&[("anna", ends), ("berta", ends)])[1], behind(1, None));
        let expired = ",valid-before=\"20250101Z\"";
        assert_eq!(of(&[("anna", expired), ("berta", "")])[1], Some(Standing::Counts));
        // Another key, and the same one as an authority, are others.
        let authority = ",cert-authority";
        assert_eq!(of(&[("anna", ""), ("*", authority)])[1], Some(Standing::Counts));
        let two = lines(&[("anna", "")], &key) + &lines(&[("anna", "")], &public("p256"));
        assert_eq!(stands(&two, "")[1], Some(Standing::Counts));
    }

    #[test]
    fn an_authority_is_behind_one_that_names_all_that_it_names() {
        let key = public("ed25519");
        let second = |first: &str, second: &str| {
            let options = [(first, ",cert-authority"), (second, ",cert-authority")];
            stands(&lines(&options, &key), "")[1] != Some(Standing::Counts)
        };
        assert!(second("*", "*@example.com") && second("a,b", "b"));
        assert!(!second("a", "a,b") && !second("*@example.com", "*") && !second("!a,*", "a"));
    }
}
