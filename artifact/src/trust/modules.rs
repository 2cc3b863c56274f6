//! [`ModuleRules`]: `[trust.modules]`, which principals may sign which modules, and the [`ModulePattern`]s that they go by.

use std::collections::BTreeSet;
use std::str::FromStr;

use thiserror::Error;

use super::glob;
use crate::ModuleName;
use crate::refusal::quoted;

/// Which principals may sign which modules, by patterns of module names.
///
/// Without any rule, every allowed signer may sign every module. With rules, the most specific pattern that matches a
/// name decides (the name itself, else the one with the most characters besides stars; where two are equal, both must
/// allow), and a name that no pattern matches may be signed by nobody: `"*" = [...]` says who else.
#[derive(Debug, Clone, Default)]
pub struct ModuleRules {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: ModulePattern,
    principals: BTreeSet<String>,
}

/// A pattern of module names: a name in which each star stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModulePattern(String);

/// Why a pattern of module names is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{} is not a pattern of module names; one has a-z, 0-9, - and *", quoted(found))]
pub struct ModulePatternError {
    /// What was found.
    pub found: String,
}

impl FromStr for ModulePattern {
    type Err = ModulePatternError;

    /// Takes what the name of some module could match.
    fn from_str(text: &str) -> Result<Self, ModulePatternError> {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'*';
        if text.is_empty() || text.len() > ModuleName::MAX_LEN + 1 || !text.bytes().all(known) {
            return Err(ModulePatternError { found: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }
}

impl ModulePattern {
    /// Whether the whole name is one of those that it means.
    #[must_use]
    pub fn matches(&self, module: &ModuleName) -> bool {
        glob::matches(&self.0, module.as_str())
    }

    /// The greater, the more specific: a name without a star before all patterns; then by the number of characters that are
    /// not stars.
    #[must_use]
    pub fn specificity(&self) -> (bool, usize) {
        let literal = self.0.bytes().filter(|byte| *byte != b'*').count();
        (literal == self.0.len(), literal)
    }
}

impl ModuleRules {
    /// The rules from pairs of a pattern and its principals.
    ///
    /// # Errors
    /// The first pattern that no module's name could match.
    pub fn new(rules: impl IntoIterator<Item = (String, Vec<String>)>) -> Result<Self, ModulePatternError> {
        let rule = |(pattern, principals): (String, Vec<String>)| {
            Ok(Rule { pattern: pattern.parse()?, principals: principals.into_iter().collect() })
        };
        Ok(Self { rules: rules.into_iter().map(rule).collect::<Result<_, _>>()? })
    }

    /// Whether `principal` may sign `module`.
    #[must_use]
    pub fn allow(&self, module: &ModuleName, principal: &str) -> bool {
        if self.rules.is_empty() {
            return true;
        }
        let matching = || self.rules.iter().filter(|rule| rule.pattern.matches(module));
        let specificity = |rule: &Rule| rule.pattern.specificity();
        let Some(best) = matching().map(specificity).max() else { return false };
        matching().filter(|rule| specificity(rule) == best).all(|rule| rule.principals.contains(principal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(pairs: &[(&str, &[&str])]) -> ModuleRules {
        let owned = |(pattern, names): &(&str, &[&str])| {
            ((*pattern).to_owned(), names.iter().map(|name| (*name).to_owned()).collect())
        };
        ModuleRules::new(pairs.iter().map(owned)).unwrap()
    }

    fn allow(rules: &ModuleRules, module: &str, principal: &str) -> bool {
        rules.allow(&module.parse().unwrap(), principal)
    }

    #[test]
    fn without_rules_all_may() {
        assert!(allow(&ModuleRules::default(), "pay", "anyone"));
    }

    #[test]
    fn the_most_specific_rule_decides() {
        let rules = rules(&[("*", &["ci"]), ("pay-*", &["alice"]), ("pay-test", &["ci", "bob"])]);
        assert!(allow(&rules, "greeter", "ci") && !allow(&rules, "greeter", "alice"));
        assert!(allow(&rules, "pay-core", "alice") && !allow(&rules, "pay-core", "ci"));
        assert!(allow(&rules, "pay-test", "bob") && !allow(&rules, "pay-test", "alice"));
    }

    #[test]
    fn what_no_rule_names_is_closed_and_a_tie_needs_both() {
        let rules = rules(&[("pay*", &["a", "b"]), ("*ing", &["b", "c"])]);
        assert!(!allow(&rules, "greeter", "a"));
        assert!(allow(&rules, "paying", "b"));
        assert!(!allow(&rules, "paying", "a") && !allow(&rules, "paying", "c"));
    }

    #[test]
    fn patterns_that_match_no_name_are_refused() {
        for bad in ["", "Pay", "a.b", "a?", "[a]"] {
            assert!(ModuleRules::new([(bad.to_owned(), vec![])]).is_err(), "{bad}");
        }
    }
}
