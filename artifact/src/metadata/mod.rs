//! [`Metadata`]: what a module says of itself, as TOML text in its note. The format is described in
//! `docs/modules.md`; this is the only parser of it.
//!
//! It does not decide whether a node serves what the metadata asks for: that is [`crate::compat`].

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::{Table, Value};
use toml_parser::lexer::TokenKind;

use crate::refusal::{Refusal, quoted, similar};
use crate::{ModuleName, Route, Version};

/// Most bytes of metadata: 64 routes and 64 requirements of a hundred bytes each fit, with room for what is the
/// author's own. Parsing a text takes some eight times its size.
pub const MAX_METADATA: usize = 16 * 1024;

/// Most tokens of TOML in it (a word, a sign, a comment, a run of spaces): the longest lists need about 600. Each may
/// become some hundred bytes of a tree, so this bounds the memory that parsing takes.
const MAX_TOKENS: usize = 1024;

/// Most of them that begin a table or a list, dots in keys too: format 1 needs three. Each takes more than 1 KiB.
const MAX_TABLES: usize = 256;

/// Most entries of `routes` and of `requires`.
pub const MAX_ENTRIES: usize = 64;

/// The one `format` that this parser knows.
pub const FORMAT: i64 = 1;

const KEYS: [&str; 7] = ["format", "name", "version", "abi", "routes", "requires", "state"];

/// What a module says of itself, parsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The module's name.
    pub name: ModuleName,
    /// The version of the module that this file is.
    pub version: Version,
    /// The ABI that it was built for.
    pub abi: u32,
    /// Path prefixes that it serves, each once; empty for a background module.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Other modules that it calls.
    #[serde(default)]
    pub requires: Vec<Requirement>,
    /// The state that it keeps over a swap; `None` for a stateless module.
    #[serde(default)]
    pub state: Option<State>,
}

/// Another module that is called, and the versions of it that will do: `auth ^1.4`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The other module.
    pub module: ModuleName,
    /// Which versions of it will do.
    pub versions: semver::VersionReq,
}

/// How a module's state is written, and what it can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The schema that `save` writes.
    pub schema: u32,
    /// The schemas that `load` reads; contains `schema`.
    pub accepts: RangeInclusive<u32>,
}

/// Why a text is not the metadata of a module.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", self.refusal())]
#[non_exhaustive]
pub enum MetadataError {
    /// More than [`MAX_METADATA`] bytes.
    TooLarge {
        /// How many bytes there are.
        found: usize,
    },
    /// More than 1024 tokens of TOML.
    TooManyTokens,
    /// More than 256 tables and lists, dots in keys included.
    TooManyTables,
    /// Not UTF-8.
    NotText {
        /// How many bytes at the start are.
        valid_up_to: usize,
    },
    /// Not TOML; a key that stands twice is this as well.
    Syntax {
        /// Line, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A key that must be there is not.
    Missing {
        /// The key.
        field: &'static str,
        /// What it holds.
        expected: &'static str,
    },
    /// A key that this format does not have.
    UnknownKey {
        /// The key, with its table.
        field: String,
        /// The key that may be meant.
        similar: Option<&'static str>,
    },
    /// A key that holds something else than it should.
    Wrong {
        /// The key, e.g. `routes[1]`.
        field: String,
        /// What it holds.
        found: String,
        /// What it should hold.
        expected: String,
        /// What to write.
        advice: String,
    },
}

impl MetadataError {
    /// The same in four parts and with a stable code.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::TooLarge { found } => Refusal::new(
                "metadata.too_large",
                "metadata",
                format!("{found} bytes"),
                format!("at most {MAX_METADATA} bytes"),
                "move what is not about deployment out of the note",
            ),
            Self::TooManyTokens => Refusal::new(
                "metadata.too_many_tokens",
                "metadata",
                format!("more than {MAX_TOKENS} words, signs and comments"),
                format!("at most {MAX_TOKENS}"),
                "move what is not about deployment out of the note",
            ),
            Self::TooManyTables => Refusal::new(
                "metadata.too_many_tables",
                "metadata",
                format!("more than {MAX_TABLES} tables and lists"),
                format!("at most {MAX_TABLES}, dots in keys included"),
                "move what is not about deployment out of the note",
            ),
            Self::NotText { valid_up_to } => Refusal::new(
                "metadata.not_text",
                "metadata",
                format!("a byte that is not UTF-8 at offset {valid_up_to}"),
                "TOML text in UTF-8",
                "let the SDK's macro write the note",
            ),
            Self::Syntax { line, message } => Refusal::new(
                "metadata.syntax",
                format!("metadata line {line}"),
                message.clone(),
                "TOML, each key once",
                "correct that line",
            ),
            Self::Missing { field, expected } => Refusal::new(
                "metadata.missing",
                *field,
                "nothing",
                *expected,
                format!("add `{field}` to the metadata"),
            ),
            Self::UnknownKey { field, similar } => Refusal::new(
                "metadata.unknown_key",
                "metadata",
                format!("the unknown key {}", quoted(field)),
                "only keys of format 1, or x-*",
                match similar {
                    Some(known) => format!("did you mean `{known}`?"),
                    None => "remove it, or start its name with `x-` if it is your own".to_owned(),
                },
            ),
            Self::Wrong { field, found, expected, advice } => {
                Refusal::new("metadata.wrong_value", field, found, expected, advice)
            }
        }
    }
}

impl Metadata {
    /// Parses the text of a note.
    ///
    /// # Errors
    /// The first mistake found. Keys are looked at in the order of the format, unknown ones first.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        if bytes.len() > MAX_METADATA {
            return Err(MetadataError::TooLarge { found: bytes.len() });
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| MetadataError::NotText { valid_up_to: error.valid_up_to() })?;
        bounded(text)?;
        let table: Table = text.parse().map_err(|error: toml::de::Error| MetadataError::Syntax {
            line: error.span().map_or(1, |span| line_of(text, span.start)),
            message: error.message().replace('\n', " "),
        })?;
        refuse_unknown(&table, &KEYS, "")?;
        let format = integer(&table, "format", "the integer 1")?;
        if format != FORMAT {
            return Err(wrong(
                "format",
                format.to_string(),
                "1",
                "update hotd, or build the module with the SDK of this hotd",
            ));
        }
        Ok(Self {
            name: parsed(&table, "name", "a module name like \"greeter\"")?,
            version: parsed(&table, "version", "a semver like \"1.2.0\"")?,
            abi: number(&table, "abi", "the ABI's number")?,
            routes: routes(&table)?,
            requires: requires(&table)?,
            state: table.get("state").map(state).transpose()?,
        })
    }
}

/// Refuses a text that would take much memory to parse, before it is parsed.
fn bounded(text: &str) -> Result<(), MetadataError> {
    let (mut tokens, mut tables) = (0, 0);
    for token in toml_parser::Source::new(text).lex() {
        tokens += 1;
        tables += usize::from(matches!(
            token.kind(),
            TokenKind::Dot | TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket
        ));
        if tokens > MAX_TOKENS {
            return Err(MetadataError::TooManyTokens);
        }
    }
    if tables > MAX_TABLES { Err(MetadataError::TooManyTables) } else { Ok(()) }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.module, self.versions)
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

fn wrong(field: &str, found: String, expected: &str, advice: &str) -> MetadataError {
    MetadataError::Wrong { field: field.into(), found, expected: expected.into(), advice: advice.into() }
}

/// A value as a person would name it: the text of scalars, the kind of the rest.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => value.to_string(),
        Value::Array(_) => "an array".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

fn refuse_unknown(table: &Table, known: &[&'static str], prefix: &str) -> Result<(), MetadataError> {
    let free = |key: &str| prefix.is_empty() && key.starts_with("x-");
    match table.keys().find(|key| !known.contains(&key.as_str()) && !free(key)) {
        None => Ok(()),
        Some(key) => {
            Err(MetadataError::UnknownKey { field: format!("{prefix}{key}"), similar: similar(key, known) })
        }
    }
}

fn required<'a>(
    table: &'a Table,
    field: &'static str,
    expected: &'static str,
) -> Result<&'a Value, MetadataError> {
    // A field is named with its table, e.g. `state.schema`.
    let key = field.rsplit('.').next().unwrap_or(field);
    table.get(key).ok_or(MetadataError::Missing { field, expected })
}

fn integer(table: &Table, field: &'static str, expected: &'static str) -> Result<i64, MetadataError> {
    let value = required(table, field, expected)?;
    value.as_integer().ok_or_else(|| wrong(field, shown(value), expected, "write a number without quotes"))
}

fn number(table: &Table, field: &'static str, expected: &'static str) -> Result<u32, MetadataError> {
    let value = integer(table, field, expected)?;
    u32::try_from(value).map_err(|_out_of_range| {
        wrong(field, value.to_string(), expected, "write a number from 0 to 4294967295")
    })
}

fn parsed<T>(table: &Table, field: &'static str, expected: &'static str) -> Result<T, MetadataError>
where
    T: std::str::FromStr<Err: fmt::Display>,
{
    let value = required(table, field, expected)?;
    let text = value.as_str().ok_or_else(|| wrong(field, shown(value), expected, "write it in quotes"))?;
    text.parse().map_err(|error: T::Err| wrong(field, quoted(text), expected, &error.to_string()))
}

/// The texts of an optional array, each with the name of its place.
fn texts<'a>(
    table: &'a Table,
    field: &'static str,
    expected: &'static str,
) -> Result<Vec<(String, &'a str)>, MetadataError> {
    let Some(value) = table.get(field) else { return Ok(Vec::new()) };
    let entries = value
        .as_array()
        .ok_or_else(|| wrong(field, shown(value), expected, "write a list in square brackets"))?;
    if entries.len() > MAX_ENTRIES {
        let found = format!("{} entries", entries.len());
        return Err(wrong(field, found, "at most 64 entries", "split the module or shorten the list"));
    }
    let text = |(index, entry): (usize, &'a Value)| {
        let place = format!("{field}[{index}]");
        match entry.as_str() {
            Some(text) => Ok((place, text)),
            None => Err(wrong(&place, shown(entry), expected, "write each entry in quotes")),
        }
    };
    entries.iter().enumerate().map(text).collect()
}

fn routes(table: &Table) -> Result<Vec<Route>, MetadataError> {
    let mut routes = Vec::new();
    for (place, text) in texts(table, "routes", "path prefixes like [\"/greet\"]")? {
        let route: Route = text
            .parse()
            .map_err(|error: crate::RouteError| wrong(&place, quoted(text), "a path prefix", error.reason))?;
        if routes.contains(&route) {
            return Err(wrong(&place, quoted(text), "each prefix once", "remove the second one"));
        }
        routes.push(route);
    }
    Ok(routes)
}

fn requires(table: &Table) -> Result<Vec<Requirement>, MetadataError> {
    const EXPECTED: &str = "a module and a semver range like \"auth ^1.4\"";
    let mut all: Vec<Requirement> = Vec::new();
    for (place, text) in texts(table, "requires", EXPECTED)? {
        let refuse = |advice: String| wrong(&place, quoted(text), EXPECTED, &advice);
        let (module, versions) =
            text.split_once(' ').ok_or_else(|| refuse("add the range after a space".to_owned()))?;
        let module: ModuleName =
            module.parse().map_err(|error: crate::NameError| refuse(error.to_string()))?;
        let versions = semver::VersionReq::parse(versions)
            .map_err(|error| refuse(format!("the range is wrong: {error}")))?;
        if all.iter().any(|other| other.module == module) {
            return Err(refuse(format!("`{module}` is required twice; keep one range")));
        }
        all.push(Requirement { module, versions });
    }
    Ok(all)
}

fn state(value: &Value) -> Result<State, MetadataError> {
    const EXPECTED: &str = "a table like { schema = 3, accepts = \"1..=3\" }";
    let table = value
        .as_table()
        .ok_or_else(|| wrong("state", shown(value), EXPECTED, "leave it out for a stateless module"))?;
    refuse_unknown(table, &["schema", "accepts"], "state.")?;
    let schema = number(table, "state.schema", "the number of the schema that `save` writes")?;
    let accepts: Accepts = parsed(table, "state.accepts", "a range of schemas like \"1..=3\"")?;
    if !accepts.0.contains(&schema) {
        return Err(wrong(
            "state.accepts",
            format!("{}..={}", accepts.0.start(), accepts.0.end()),
            "a range that contains `schema`",
            "a version must load what it saved itself",
        ));
    }
    Ok(State { schema, accepts: accepts.0 })
}

/// `1..=3`, or `3` for that one alone.
struct Accepts(RangeInclusive<u32>);

impl std::str::FromStr for Accepts {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ADVICE: &str = "write the lowest and the highest schema, like 1..=3";
        let (low, high) = text.split_once("..=").unwrap_or((text, text));
        match (low.parse(), high.parse()) {
            (Ok(low), Ok(high)) if low <= high => Ok(Self(low..=high)),
            _ => Err(ADVICE),
        }
    }
}

#[cfg(test)]
mod tests;
