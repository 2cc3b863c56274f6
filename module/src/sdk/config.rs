//! A config's bytes as a type, with errors that an operator can act on.

use core::fmt;
use core::str::Utf8Error;
use serde::de::DeserializeOwned;
use std::format;
use std::string::{String, ToString};

/// Why a config is not what the module wants. The text names the key, what was found and what was expected.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is no text.
    Encoding(Utf8Error),
    /// It is no TOML or JSON.
    Syntax {
        /// `TOML` or `JSON`.
        format: &'static str,
        /// What was found, where, and what was expected.
        text: String,
    },
    /// It is well formed, and a key has another value than the module takes, is unknown, or is missing.
    Value {
        /// The key with its path, as in `listen.port`; empty at the top.
        key: String,
        /// What was found and what was expected.
        text: String,
    },
    /// It looks like JSON, for which the module was not built.
    Json,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding(_) => f.write_str("the config is not UTF-8"),
            Self::Syntax { format, text } => write!(f, "the config is not {format}: {text}"),
            Self::Value { key, text } if key.is_empty() => write!(f, "the config: {text}"),
            Self::Value { key, text } => write!(f, "the config's key `{key}`: {text}"),
            Self::Json => f.write_str("the config begins with a brace, as JSON does; this module takes TOML"),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Encoding(error) => Some(error),
            _ => None,
        }
    }
}

/// Parses a config.
pub(super) fn parse<T: DeserializeOwned>(config: &[u8]) -> Result<T, ConfigError> {
    let text = core::str::from_utf8(config).map_err(ConfigError::Encoding)?;
    // No TOML document begins with a brace, and every JSON object does.
    if text.trim_start().starts_with('{') { json(text) } else { toml(text) }
}

fn toml<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    let document = toml::Deserializer::parse(text)
        .map_err(|error| ConfigError::Syntax { format: "TOML", text: toml_text(text, &error) })?;
    serde_path_to_error::deserialize(document)
        .map_err(|error| ConfigError::Value { key: key(error.path()), text: toml_text(text, error.inner()) })
}

/// The message with its line; toml's own `Display` draws the line over several lines.
fn toml_text(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', "; ");
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("{message} (line {})", before.matches('\n').count() + 1),
        None => message,
    }
}

#[cfg(feature = "json")]
fn json<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    use serde_json::error::Category;
    let mut document = serde_json::Deserializer::from_str(text);
    let value =
        serde_path_to_error::deserialize(&mut document).map_err(|error| match error.inner().classify() {
            Category::Data => ConfigError::Value { key: key(error.path()), text: error.inner().to_string() },
            _ => ConfigError::Syntax { format: "JSON", text: error.inner().to_string() },
        })?;
    document.end().map_err(|error| ConfigError::Syntax { format: "JSON", text: error.to_string() })?;
    Ok(value)
}

#[cfg(not(feature = "json"))]
const fn json<T>(_: &str) -> Result<T, ConfigError> {
    Err(ConfigError::Json)
}

fn key(path: &serde_path_to_error::Path) -> String {
    if path.iter().next().is_none() { String::new() } else { path.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        name: String,
        #[serde(default)]
        listen: Listen,
        #[serde(default)]
        limits: BTreeMap<String, u16>,
        #[serde(default)]
        mirrors: Vec<Listen>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    struct Listen {
        port: u16,
    }

    fn refusal(text: &str) -> String {
        parse::<Settings>(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn toml_becomes_the_type() {
        let found: Settings = parse(b"name = \"a\"\n[listen]\nport = 80\n").unwrap();
        assert_eq!((found.name.as_str(), found.listen.port), ("a", 80));
    }

    #[test]
    fn no_config_is_an_empty_table() {
        assert_eq!(parse::<BTreeMap<String, String>>(b"").unwrap(), BTreeMap::new());
        assert_eq!(refusal(""), "the config: missing field `name` (line 1)");
    }

    #[test]
    fn a_refusal_names_key_found_and_expected() {
        assert_eq!(
            refusal("name = \"a\"\n\n[listen]\nport = \"http\"\n"),
            "the config's key `listen.port`: invalid type: string \"http\", expected u16 (line 4)"
        );
        assert_eq!(
            refusal("name = \"a\"\nmirrors = [{ port = 1 }, { port = 70000 }]\n"),
            "the config's key `mirrors[1].port`: invalid value: integer `70000`, expected u16 (line 2)"
        );
        assert_eq!(
            refusal("name = \"a\"\nnmae = 1\n"),
            "the config's key `nmae`: unknown field `nmae`, expected one of `name`, `listen`, `limits`, `mirrors` \
             (line 2)"
        );
        assert!(refusal("name = \n").starts_with("the config is not TOML: "), "{}", refusal("name = \n"));
        assert_eq!(parse::<Settings>(b"\xff").unwrap_err().to_string(), "the config is not UTF-8");
    }

    #[cfg(feature = "json")]
    #[test]
    fn json_does_as_well() {
        let found: Settings = parse(b" {\"name\": \"a\", \"limits\": {\"x\": 7}}").unwrap();
        assert_eq!(found.limits["x"], 7);
        assert_eq!(
            refusal("{\"name\": \"a\", \"listen\": {\"port\": null}}"),
            "the config's key `listen.port`: invalid type: null, expected u16 at line 1 column 37"
        );
        assert!(refusal("{\"name\": \"a\"} x").starts_with("the config is not JSON: trailing characters"));
    }

    #[cfg(not(feature = "json"))]
    #[test]
    fn json_is_named_where_it_is_not_taken() {
        assert!(refusal("{}").contains("as JSON does"));
    }
}
