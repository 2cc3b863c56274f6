//! Changing the default: that one value, and nothing else of the text.

use toml::de::DeTable;

use super::{Contexts, names};
use crate::failure::Failure;
use crate::whole::replace;

/// Has the file name another context as the one that is used unless one is named.
pub(crate) fn choose(contexts: &Contexts, name: &str) -> Result<(), Failure> {
    let file = contexts.file.display();
    if !contexts.all.contains_key(name) {
        let sentence = format!("there is no context {name:?} in {file}: {}", names(contexts));
        return Err(Failure::failed("not_found", sentence));
    }
    if contexts.chosen.as_deref() == Some(name) {
        return Ok(());
    }
    let text = std::fs::read_to_string(&contexts.file)
        .map_err(|error| Failure::failed("file.not_read", format!("{file} can't be read: {error}")))?;
    replace(&contexts.file, &with_chosen(&text, name))
}

/// The text with that context as the default. Comments and everything else stay.
pub(super) fn with_chosen(text: &str, name: &str) -> String {
    let value = toml::Value::from(name).to_string();
    let document = DeTable::parse(text).ok();
    let before =
        document.as_ref().and_then(|document| document.get_ref().get("context")).map(toml::Spanned::span);
    match before {
        Some(span) => [&text[..span.start], &value, &text[span.end..]].concat(),
        // In front of the first table, to which it would belong behind it.
        None => format!("context = {value}\n{text}"),
    }
}
