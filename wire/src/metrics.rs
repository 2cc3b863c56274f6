//! A module's metrics: what a series is, which names it may have, and its bytes within a message.
//!
//! The host holds the module to these rules and `hotd` holds the host to them, since both read foreign input: what
//! decodes can be printed as a metric without a further look. Names are those of Prometheus' data model
//! (prometheus.io/docs/concepts/data_model).

use crate::codec::{MessageError, Reader, Writer};

/// Series of one host. A label without bounds would fill memory here and in whatever scrapes it.
pub const MAX_SERIES: usize = 256;

/// Labels of one series.
pub const MAX_LABELS: usize = 8;

/// Bytes of a metric's or label's name.
pub const MAX_NAME: usize = 63;

/// Bytes of a label's value.
pub const MAX_LABEL_VALUE: usize = 128;

/// Upper bounds of a histogram's buckets: the defaults of Prometheus' own libraries.
pub const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The metric's name.
    pub name: String,
    /// Names and values, by name.
    pub labels: Vec<(String, String)>,
    /// What it has come to.
    pub value: Value,
}

/// What a series has come to.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// All that was added.
    Counter(f64),
    /// What was set last.
    Gauge(f64),
    /// What was observed.
    Histogram {
        /// For each bucket its upper bound, which belongs to it, and how many were in it and in no lower one.
        buckets: Vec<(f64, u64)>,
        /// How many were above the last bound.
        beyond: u64,
        /// The sum of all.
        sum: f64,
    },
}

/// Whether a metric may have this name.
#[must_use]
pub fn is_name(name: &str) -> bool {
    is_identifier(name, |byte| byte == b':')
}

/// Whether a module may give a label this name: those that the node adds, and Prometheus' own, are taken.
#[must_use]
pub fn is_label(name: &str) -> bool {
    is_identifier(name, |_| false)
        && !name.starts_with("__")
        && !matches!(name, "le" | "module" | "release" | "version" | "instance")
}

/// Whether a label may have this value. Control characters are refused: it is shown to people on terminals.
#[must_use]
pub fn is_label_value(value: &str) -> bool {
    value.len() <= MAX_LABEL_VALUE && !value.contains(char::is_control)
}

fn is_identifier(name: &str, also: impl Fn(u8) -> bool) -> bool {
    let may_begin = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || also(byte);
    name.len() <= MAX_NAME
        && name.bytes().next().is_some_and(may_begin)
        && name.bytes().all(|byte| may_begin(byte) || byte.is_ascii_digit())
}

const COUNTER: u8 = 1;
const GAUGE: u8 = 2;
const HISTOGRAM: u8 = 3;

impl Series {
    /// An upper bound of the bytes that it takes in a message.
    #[must_use]
    pub fn encoded_size(&self) -> usize {
        let labels: usize = self.labels.iter().map(|(name, value)| 8 + name.len() + value.len()).sum();
        let value = match &self.value {
            Value::Counter(_) | Value::Gauge(_) => 8,
            Value::Histogram { buckets, .. } => 4 + 16 * buckets.len() + 16,
        };
        4 + self.name.len() + 4 + labels + 1 + value
    }

    pub(crate) fn write(&self, out: Writer) -> Writer {
        let mut out = out.bytes(self.name.as_bytes()).count(self.labels.len());
        for (name, value) in &self.labels {
            out = out.bytes(name.as_bytes()).bytes(value.as_bytes());
        }
        match &self.value {
            Value::Counter(value) => out.u8(COUNTER).u64(value.to_bits()),
            Value::Gauge(value) => out.u8(GAUGE).u64(value.to_bits()),
            Value::Histogram { buckets, beyond, sum } => {
                let out = out.u8(HISTOGRAM).count(buckets.len());
                let out =
                    buckets.iter().fold(out, |out, (bound, number)| out.u64(bound.to_bits()).u64(*number));
                out.u64(*beyond).u64(sum.to_bits())
            }
        }
    }

    pub(crate) fn read(fields: &mut Reader<'_>) -> Result<Self, MessageError> {
        let name = fields.text("series.name")?;
        if !is_name(&name) {
            return Err(MessageError::Refused { field: "series.name" });
        }
        let mut labels: Vec<(String, String)> = Vec::new();
        for _ in 0..fields.count("series.labels", MAX_LABELS)? {
            let (name, value) = (fields.text("series.label")?, fields.text("series.label_value")?);
            let is_in_order = labels.last().is_none_or(|(last, _)| *last < name);
            if !is_label(&name) || !is_label_value(&value) || !is_in_order {
                return Err(MessageError::Refused { field: "series.label" });
            }
            labels.push((name, value));
        }
        let value = match fields.u8("series.kind")? {
            COUNTER => Value::Counter(fields.finite("series.value")?),
            GAUGE => Value::Gauge(fields.finite("series.value")?),
            HISTOGRAM => {
                let mut buckets: Vec<(f64, u64)> = Vec::new();
                for _ in 0..fields.count("series.buckets", MAX_BUCKETS)? {
                    let bound = fields.finite("series.bound")?;
                    if buckets.last().is_some_and(|(last, _)| *last >= bound) {
                        return Err(MessageError::Refused { field: "series.bound" });
                    }
                    buckets.push((bound, fields.u64("series.bucket")?));
                }
                Value::Histogram {
                    buckets,
                    beyond: fields.u64("series.beyond")?,
                    sum: fields.finite("series.sum")?,
                }
            }
            found => {
                return Err(MessageError::UnknownValue { field: "series.kind", found: u64::from(found) });
            }
        };
        Ok(Self { name, labels, value })
    }
}

/// Buckets that a newer host may send.
const MAX_BUCKETS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_prometheus() {
        for name in ["a", "_", ":", "http_requests_total", "a:b", "A9", &"x".repeat(63)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "9a", "a-b", "a b", "\u{e9}", "a\n", &"x".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_label("code") && is_label("_x"));
        for name in ["", "a:b", "__name__", "le", "module", "release", "version", "instance"] {
            assert!(!is_label(name), "{name}");
        }
    }
}
