//! [`Reader`] and [`Section`]: a walk over a TOML document that goes on after a mistake and knows every line.

use std::cell::RefCell;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Mistake;
use crate::near;

/// Collects the mistakes of one file.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    mistakes: RefCell<Vec<Mistake>>,
}

/// One table of the file, present or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section<'a> {
    reader: &'a Reader<'a>,
    /// `` for the top, else e.g. `http`.
    name: &'static str,
    /// The key under which it stands in the table of that name, where that is one of many.
    entry: Option<&'a str>,
    table: Option<&'a DeTable<'a>>,
    /// Whether it is something else than a table, which is a mistake of its own.
    broken: bool,
    /// Offset of what a missing key is missing from.
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, mistakes: RefCell::new(Vec::new()) }
    }

    /// Notes a mistake at an offset of the text.
    pub(super) fn mistake(&self, offset: usize, text: impl Into<String>) {
        let mistake = Mistake { file: self.file.to_owned(), line: self.line(offset), text: text.into() };
        self.mistakes.borrow_mut().push(mistake);
    }

    /// All that was noted since the last call, in the order of the file.
    pub(super) fn take_mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes.take();
        mistakes.sort();
        mistakes.dedup();
        mistakes
    }

    /// The line of an offset, from 1.
    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn top(reader: &'a Reader<'a>, table: &'a DeTable<'a>, known: &[&str]) -> Self {
        let section = Self { reader, name: "", entry: None, table: Some(table), broken: false, at: 0 };
        section.refuse_unknown(known);
        section
    }

    /// The table `key` of this one; empty if it is not there.
    pub(super) fn section(&self, key: &str, name: &'static str, known: &[&str]) -> Self {
        self.table(key, name, None, known)
    }

    /// The table `key` of this one, which has many by names of the operator's choice.
    pub(super) fn entry(&self, key: &'a str, known: &[&str]) -> Self {
        self.table(key, self.name, Some(key), known)
    }

    fn table(&self, key: &str, name: &'static str, entry: Option<&'a str>, known: &[&str]) -> Self {
        let found = self.get(key);
        let table = found.and_then(|value| value.get_ref().as_table());
        let broken = found.is_some() && table.is_none();
        if let Some(value) = found.filter(|_| broken) {
            self.reader.mistake(
                value.span().start,
                format!("`{key}` is {}, expected a table [{}]", shown(value), titled(name, entry)),
            );
        }
        let at = found.map_or(self.at, |value| value.span().start);
        let section = Self { reader: self.reader, name, entry, table, broken, at };
        section.refuse_unknown(known);
        section
    }

    /// What `key` holds, if it is there and `parse` takes it. `parse` fails with what was expected.
    pub(super) fn value<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&'a DeValue<'a>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.get(key)?;
        match parse(value.get_ref()) {
            Ok(parsed) => Some(parsed),
            Err(expected) => {
                let text = format!("{}: found {}, expected {expected}", self.path(key), shown(value));
                self.reader.mistake(value.span().start, text);
                None
            }
        }
    }

    /// [`Self::value`] of each entry of an array.
    pub(super) fn values<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl Fn(&'a DeValue<'a>) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let array =
            self.value(key, |value| value.as_array().ok_or_else(|| format!("a list of {expected}")))?;
        let mut all = Vec::new();
        for (index, entry) in array.iter().enumerate() {
            match parse(entry.get_ref()) {
                Ok(parsed) => all.push(parsed),
                Err(expected) => {
                    let place = self.path(key);
                    let text = format!("{place}[{index}]: found {}, expected {expected}", shown(entry));
                    self.reader.mistake(entry.span().start, text);
                }
            }
        }
        // With an entry missing there is a mistake already, and another about the rest would confuse.
        (all.len() == array.len()).then_some(all)
    }

    /// [`Self::value`], and a mistake if the key is not there.
    pub(super) fn required<T>(&self, key: &str, expected: &str, value: Option<T>) -> Option<T> {
        if self.get(key).is_none() && !self.broken {
            self.reader.mistake(self.at, format!("{}: is missing, expected {expected}", self.path(key)));
        }
        value
    }

    /// Notes a mistake about `key`, at its line or, without it, at the table's.
    pub(super) fn mistake(&self, key: &str, text: &str) {
        self.reader.mistake(self.offset(key), format!("{}: {text}", self.path(key)));
    }

    /// The line of `key` or, without it, of the table, from 1.
    pub(super) fn line(&self, key: &str) -> usize {
        self.reader.line(self.offset(key))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// All keys with what they hold.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Spanned<DeValue<'a>>)> {
        self.table.into_iter().flatten().map(|(key, value)| (key.get_ref().as_ref(), value))
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get(key)
    }

    fn offset(&self, key: &str) -> usize {
        self.get(key).map_or(self.at, |value| value.span().start)
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("[{}] {key}", titled(self.name, self.entry))
        }
    }

    fn refuse_unknown(&self, known: &[&str]) {
        if known.is_empty() {
            return;
        }
        for (key, _) in self.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let title = titled(self.name, self.entry);
            let place = if title.is_empty() { title } else { format!(" in [{title}]") };
            let advice = match near::similar(name, known) {
                Some(word) => format!("did you mean \"{word}\"?"),
                None => format!("known are {}", known.join(", ")),
            };
            let text = format!("unknown key \"{}\"{place}; {advice}", name.escape_debug());
            self.reader.mistake(key.span().start, text);
        }
    }
}

/// As a person writes the table: `http`, or `limits.modules."pay-*"`.
fn titled(name: &str, entry: Option<&str>) -> String {
    entry.map_or_else(|| name.to_owned(), |entry| format!("{name}.\"{}\"", entry.escape_debug()))
}

/// A value as a person wrote it: scalars themselves, the rest by kind.
fn shown(value: &Spanned<DeValue<'_>>) -> String {
    match value.get_ref() {
        DeValue::String(text) => {
            let short: String = text.chars().take(80).collect();
            format!("\"{}\"", short.escape_debug())
        }
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
