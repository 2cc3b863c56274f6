//! Which known word a typed one is most likely a slip for.

/// The known word that `found` is most likely a slip for: at most two edits, and in short words one.
pub(crate) fn similar<'k>(found: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|word| (distance(found, word), *word))
        .filter(|(distance, word)| *distance <= word.len().div_ceil(3).min(2))
        .min()
        .map(|(_, word)| word)
}

/// Edits from one word to the other.
pub(crate) fn distance(one: &str, other: &str) -> usize {
    strsim::damerau_levenshtein(one, other)
}
