//! What an instance is to be, and the label under which hot-spawn keeps that for the next `hotd`.

use std::fmt;
use std::time::{Duration, SystemTime};

use hot_artifact::Sha256;
use hot_wire::host::{Start, StartOptions};
use hot_wire::isolation::Confine;
use hot_wire::spawn::{Limits, MAX_LABEL};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The largest config, in bytes: with it, a label and a `Start` fit into their packets.
pub const MAX_CONFIG: usize = 64 * 1024;

/// The number of an instance, unique on this node over restarts. The agent mints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId(pub u64);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What to start and how to watch it. hot-spawn keeps it, so a newer `hotd` reads what an older one wrote: fields may
/// be added, with a default for their absence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Its number.
    pub instance: InstanceId,
    /// The module's name.
    pub module: String,
    /// The release's number.
    pub release: u64,
    /// The version, a semver.
    pub version: String,
    /// The artifact that it runs.
    pub digest: Sha256,
    /// It has routes, so that its module must have a function that answers requests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub serves: bool,
    /// When it was started; `None`: by a `hotd` that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<SystemTime>,
    /// The release's config, at most [`MAX_CONFIG`] bytes.
    #[serde(skip)]
    pub config: Vec<u8>,
    /// What its process may use.
    #[serde(with = "LimitsFields")]
    pub limits: Limits,
    /// From the start of the process until it says ready.
    pub start_deadline: Duration,
    /// Between two health questions.
    pub health_interval: Duration,
    /// So many bad answers in a row, or so many intervals without one, end the instance. At least 1 is used.
    pub health_threshold: u32,
}

/// The fields of [`Limits`] in a label.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Limits")]
struct LimitsFields {
    open_files: u64,
    file_size: u64,
    address_space: u64,
    #[serde(default = "unlimited", skip_serializing_if = "is_unlimited")]
    memory: u64,
    #[serde(default = "unlimited", skip_serializing_if = "is_unlimited")]
    tasks: u64,
    #[serde(default = "unlimited", skip_serializing_if = "is_unlimited")]
    folder: u64,
    #[serde(default, skip_serializing_if = "is_usual")]
    cpu_weight: u32,
}

const fn unlimited() -> u64 {
    Limits::UNLIMITED
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_unlimited(limit: &u64) -> bool {
    *limit == Limits::UNLIMITED
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_usual(cpu_weight: &u32) -> bool {
    *cpu_weight == 0
}

/// Why a spec can't be started.
#[derive(Debug, Error)]
pub enum LabelError {
    /// The config is too large.
    #[error("the config has {found} bytes, expected at most {MAX_CONFIG}")]
    ConfigTooLarge {
        /// Its length in bytes.
        found: usize,
    },
    /// The rest of the label is too large.
    #[error("the label has {found} bytes, expected at most {MAX_LABEL}")]
    TooLarge {
        /// Its length in bytes.
        found: usize,
    },
    /// The bytes are no label.
    #[error("the label is unreadable")]
    Unreadable(#[from] serde_json::Error),
}

impl Spec {
    /// As hot-spawn keeps it: one line of JSON, then the config as it is.
    pub(super) fn to_label(&self) -> Result<Vec<u8>, LabelError> {
        if self.config.len() > MAX_CONFIG {
            return Err(LabelError::ConfigTooLarge { found: self.config.len() });
        }
        let mut label = serde_json::to_vec(self)?;
        label.push(b'\n');
        label.extend_from_slice(&self.config);
        if label.len() > MAX_LABEL {
            return Err(LabelError::TooLarge { found: label.len() });
        }
        Ok(label)
    }

    /// The spec that `hotd`, this one or an older or newer one, gave to hot-spawn.
    pub(super) fn from_label(label: &[u8]) -> Result<Self, LabelError> {
        // JSON text has no raw line break.
        let end = label.iter().position(|byte| *byte == b'\n').unwrap_or(label.len());
        let (fields, config) = label.split_at(end);
        let mut spec: Self = serde_json::from_slice(fields)?;
        spec.config = config.get(1..).unwrap_or_default().to_vec();
        Ok(spec)
    }

    /// As the host is told.
    pub(super) fn to_start(&self, confine: Confine) -> Start {
        Start {
            instance: self.instance.0,
            module: self.module.clone(),
            release: self.release,
            version: self.version.clone(),
            config: self.config.clone(),
            options: StartOptions { serves: self.serves, ..StartOptions::default() },
            confine: Some(confine),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec {
            instance: InstanceId(7),
            module: "greeter".into(),
            release: 3,
            version: "1.2.0".into(),
            digest: Sha256::of(b"x"),
            serves: false,
            started: None,
            config: b"a\nb".to_vec(),
            limits: Limits::default(),
            start_deadline: Duration::from_secs(10),
            health_interval: Duration::from_millis(1500),
            health_threshold: 3,
        }
    }

    #[test]
    fn a_label_survives_and_a_newer_ones_fields_are_ignored() {
        let spec = spec();
        let label = spec.to_label().unwrap();
        assert_eq!(Spec::from_label(&label).unwrap(), spec);
        let serving = Spec { serves: true, started: Some(SystemTime::UNIX_EPOCH), ..spec.clone() };
        assert_eq!(Spec::from_label(&serving.to_label().unwrap()).unwrap(), serving);
        let newer = [b"{\"of a newer hotd\":1,", &label[1..]].concat();
        assert_eq!(Spec::from_label(&newer).unwrap(), spec);
    }

    /// A newer hotd adopts hosts whose labels an older one wrote.
    #[test]
    fn a_golden_label() {
        let golden = concat!(
            r#"{"instance":7,"module":"greeter","release":3,"version":"1.2.0","#,
            r#""digest":"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","#,
            r#""limits":{"open_files":4096,"file_size":18446744073709551615,"address_space":18446744073709551615},"#,
            r#""start_deadline":{"secs":10,"nanos":0},"health_interval":{"secs":1,"nanos":500000000},"#,
            r#""health_threshold":3}"#,
            "\na\nb"
        );
        assert_eq!(String::from_utf8(spec().to_label().unwrap()).unwrap(), golden);
    }

    /// The largest config with the longest lists that hotd's own config may have.
    #[test]
    fn the_largest_start_fits_into_its_packet() {
        let large = Spec { config: vec![0; MAX_CONFIG], ..spec() };
        let ports = || Some((0..256).collect());
        let paths = || (0..256).map(|_| "x".repeat(32)).collect();
        let confine =
            Confine { read: paths(), write: paths(), connect: ports(), bind: ports(), ..Confine::default() };
        assert!(hot_wire::host::ToHost::Start(large.to_start(confine)).encode().is_ok());
    }

    /// What limits there were before is all that an older label has; a newer one's are kept.
    #[test]
    fn limits_of_a_label_survive() {
        let limits =
            Limits { memory: 1 << 30, tasks: 512, folder: 1 << 26, cpu_weight: 100, ..Limits::default() };
        let bounded = Spec { limits, ..spec() };
        assert_eq!(Spec::from_label(&bounded.to_label().unwrap()).unwrap(), bounded);
    }

    #[test]
    fn a_config_beyond_its_bound_is_refused() {
        let large = Spec { config: vec![0; MAX_CONFIG + 1], ..spec() };
        assert!(matches!(large.to_label(), Err(LabelError::ConfigTooLarge { found: 65_537 })));
        assert!(Spec::from_label(b"\xff\n").is_err());
    }
}
