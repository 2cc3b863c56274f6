//! What this version does not know, kept for one that does.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::words::Tail;

/// What a newer version wrote in the place of a cause or reason that this one knows. It is kept as it is, so that it is
/// whole again for that version, and holds nothing else up: that something went back is known all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Foreign(Value);

/// It is neither a word nor one word with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a cause or a reason")]
pub struct NotForeign;

impl TryFrom<Value> for Foreign {
    type Error = NotForeign;

    fn try_from(value: Value) -> Result<Self, NotForeign> {
        let named = value.is_string() || value.as_object().is_some_and(|object| object.len() == 1);
        if named { Ok(Self(value)) } else { Err(NotForeign) }
    }
}

/// Its word, and its text if it has one.
impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.0.as_object().and_then(|object| object.iter().next());
        let Some((word, content)) = named else { return f.write_str(self.0.as_str().unwrap_or_default()) };
        let text = content.get("text").and_then(Value::as_str).unwrap_or_default();
        write!(f, "{word}{}", Tail(text))
    }
}
