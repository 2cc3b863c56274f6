//! The file's text, with every mistake at its line.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Contexts, Files, Fleet};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::Address;

/// What stands at the top.
const TOP: [&str; 2] = ["context", "contexts"];

/// What a context has.
const KEYS: [&str; 4] = ["nodes", "authority", "certificate", "key"];

/// Code of the failure for a file with mistakes.
const CODE: &str = "contexts.mistake";

/// What the file says. `None`: there is none.
pub(crate) fn read(file: &Path) -> Result<Option<Contexts>, Failure> {
    match std::fs::read_to_string(file) {
        Ok(text) => parse(&text, file).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::failed(
            "file.not_read",
            format!("{} can't be read: {error}; expected hotctl's file of contexts", file.display()),
        )),
    }
}

pub(super) fn parse(text: &str, file: &Path) -> Result<Contexts, Failure> {
    let walk = Walk { text, file, mistakes: Vec::new() };
    let document = match DeTable::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            return Err(Walk { mistakes: vec![(at, error.message().replace('\n', " "))], ..walk }.failure());
        }
    };
    walk.document(document.get_ref())
}

struct Walk<'a> {
    text: &'a str,
    file: &'a Path,
    /// By offset.
    mistakes: Vec<(usize, String)>,
}

impl Walk<'_> {
    fn document(mut self, top: &DeTable<'_>) -> Result<Contexts, Failure> {
        self.refuse_unknown(top, &TOP, "");
        let mut all = BTreeMap::new();
        if let Some(contexts) = top.get("contexts") {
            match contexts.get_ref().as_table() {
                None => self.mistake(contexts.span().start, "contexts: expected tables like [contexts.prod]"),
                Some(table) => {
                    for (name, value) in table {
                        all.insert(name.get_ref().to_string(), self.fleet(name.get_ref(), value));
                    }
                }
            }
        }
        let mut chosen = None;
        if let Some(value) = top.get("context") {
            match value.get_ref().as_str() {
                Some(name) if all.contains_key(name) => chosen = Some(name.to_owned()),
                Some(name) => {
                    let known: Vec<_> = all.keys().map(String::as_str).collect();
                    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                    self.mistake(
                        value.span().start,
                        format!("context: there is no [contexts.{name}], expected the name of one that is there: {known}"),
                    );
                }
                None => self.mistake(value.span().start, "context: expected the name of a context in quotes"),
            }
        }
        if self.mistakes.is_empty() {
            Ok(Contexts { file: self.file.to_owned(), chosen, all })
        } else {
            Err(self.failure())
        }
    }

    fn fleet(&mut self, name: &str, value: &Spanned<DeValue<'_>>) -> Fleet {
        let title = format!("[contexts.{name}]");
        let mut fleet = Fleet { nodes: Vec::new(), files: Files::default() };
        let Some(table) = value.get_ref().as_table() else {
            self.mistake(value.span().start, format!("contexts.{name}: expected a table {title}"));
            return fleet;
        };
        self.refuse_unknown(table, &KEYS, &title);
        fleet.nodes = self.nodes(table, &title, value.span().start);
        let mut missing = Vec::new();
        for key in ["authority", "certificate", "key"] {
            let path = self.path(table, key, &title);
            if path.is_none() && !table.contains_key(key) {
                missing.push(key);
            }
            match key {
                "authority" => fleet.files.authority = path,
                "certificate" => fleet.files.certificate = path,
                _ => fleet.files.key = path,
            }
        }
        let is_tls = fleet.nodes.iter().any(|node| matches!(node, Address::Https(_)));
        if (is_tls || missing.len() < 3) && !missing.is_empty() {
            let text = format!(
                "{title}: {} missing, expected authority, certificate and key, by which nodes at https:// and the user trust \
                 each other",
                if let [one] = missing[..] {
                    format!("{one} is")
                } else {
                    format!("{} are", missing.join(" and "))
                }
            );
            self.mistake(value.span().start, text);
        }
        fleet
    }

    fn nodes(&mut self, table: &DeTable<'_>, title: &str, at: usize) -> Vec<Address> {
        const EXPECTED: &str = "a list of addresses like [\"https://10.0.0.1:7443\"]";
        let Some(value) = table.get("nodes") else {
            self.mistake(at, format!("{title}: nodes is missing, expected {EXPECTED}"));
            return Vec::new();
        };
        let list = value.get_ref().as_array().filter(|list| !list.is_empty());
        let Some(list) = list else {
            self.mistake(value.span().start, format!("{title} nodes: expected {EXPECTED}"));
            return Vec::new();
        };
        let mut nodes: Vec<Address> = Vec::new();
        for entry in list.iter() {
            match entry.get_ref().as_str().map(str::parse::<Address>) {
                Some(Ok(address)) if nodes.contains(&address) => {
                    self.mistake(entry.span().start, format!("{title} nodes: {address} stands there twice"));
                }
                Some(Ok(address)) => nodes.push(address),
                Some(Err(error)) => self.mistake(entry.span().start, format!("{title} nodes: {error}")),
                None => self.mistake(entry.span().start, format!("{title} nodes: expected {EXPECTED}")),
            }
        }
        nodes
    }

    /// Relative to the file.
    fn path(&mut self, table: &DeTable<'_>, key: &str, title: &str) -> Option<PathBuf> {
        let value = table.get(key)?;
        let Some(text) = value.get_ref().as_str().filter(|text| !text.is_empty()) else {
            self.mistake(value.span().start, format!("{title} {key}: expected the path of a file in quotes"));
            return None;
        };
        Some(self.file.parent().unwrap_or_else(|| Path::new("/")).join(text))
    }

    fn refuse_unknown(&mut self, table: &DeTable<'_>, known: &[&str], title: &str) {
        for (key, _) in table {
            let name = key.get_ref();
            if !known.contains(&name.as_ref()) {
                let place = if title.is_empty() { String::new() } else { format!(" in {title}") };
                let text =
                    format!("unknown key \"{}\"{place}; known are {}", name.escape_debug(), known.join(", "));
                self.mistake(key.span().start, text);
            }
        }
    }

    fn mistake(&mut self, at: usize, text: impl Into<String>) {
        self.mistakes.push((at, text.into()));
    }

    /// All mistakes, in the order of the file.
    fn failure(mut self) -> Failure {
        self.mistakes.sort();
        let line = |at: usize| 1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        let sentence =
            |(at, text): &(usize, String)| format!("{}:{}: {text}", self.file.display(), line(*at));
        let mut all = self.mistakes.iter().map(|mistake| Failure::new(Exit::Usage, CODE, sentence(mistake)));
        let first = all
            .next()
            .unwrap_or_else(|| Failure::new(Exit::Usage, CODE, "the file of contexts has a mistake"));
        Failure { more: all.collect(), ..first }
    }
}
