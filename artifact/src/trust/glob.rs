//! OpenSSH's patterns (`match.c`): `*` is any run of characters, `?` any one; in a list, `!` before a pattern refuses.

/// Whether `text` matches the whole `pattern`. In time proportional to the product of both lengths at most.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on after the last star: behind it in the pattern, and one further in the text each time.
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                retry = Some((p, t));
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((after, from)) => {
                    p = after;
                    t = from + 1;
                    retry = Some((after, t));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Whether `text` matches a list of patterns with commas: one of them, and none that has an exclamation mark.
pub(super) fn list_matches(list: &str, text: &str) -> bool {
    let mut found = false;
    for pattern in list.split(',') {
        match pattern.strip_prefix('!') {
            Some(refused) if matches(refused, text) => return false,
            Some(_) => {}
            None => found |= matches(pattern, text),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text) in [
            ("*", ""),
            ("a*", "a"),
            ("a*c", "abbc"),
            ("*b*", "abc"),
            ("?", "x"),
            ("a?c", "abc"),
            ("**", "x"),
            ("*ab", "aab"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("?", ""), ("a", "b"), ("a*c", "ab"), ("a?", "a"), ("A", "a"), ("*a", "ab")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn an_exclamation_mark_wins_wherever_it_stands() {
        assert!(list_matches("git,hot-module", "hot-module"));
        assert!(list_matches("hot-*,!hot-config*", "hot-module"));
        assert!(!list_matches("hot-*,!hot-module", "hot-module"));
        assert!(!list_matches("!hot-module,*", "hot-module"));
        assert!(!list_matches("!git", "hot-module"));
        assert!(!list_matches("", "hot-module"));
    }

    /// The definition, exponential and plain.
    fn reference(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            ([b'*', rest @ ..], text) => (0..=text.len()).any(|skip| reference(rest, &text[skip..])),
            ([b'?', rest @ ..], [_, text @ ..]) => reference(rest, text),
            ([p, rest @ ..], [t, text @ ..]) => p == t && reference(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn equals_the_definition(pattern in "[ab?*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &text), reference(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
