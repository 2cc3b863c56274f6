//! The list of steps (`steps.def`) as the tests and the module in Rust read it: both include this file.

/// A step of a scenario, and the word in the list for how it must be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) scenario: &'static str,
    pub(crate) name: &'static str,
    pub(crate) expected: &'static str,
}

/// All steps, in the order of the list.
pub(crate) fn steps() -> impl Iterator<Item = Step> {
    let mut scenario = "";
    include_str!("steps.def").lines().filter_map(move |line| {
        if let Some(name) = within(line, "SCENARIO") {
            scenario = name;
        }
        let (name, expected) = within(line, "STEP")?.split_once(", ")?;
        Some(Step { scenario, name, expected })
    })
}

/// What stands within the parentheses behind `word`.
fn within<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    line.strip_prefix(word)?.strip_prefix('(')?.strip_suffix(')')
}
