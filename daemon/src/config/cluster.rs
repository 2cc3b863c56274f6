//! `[cluster]`: the fleet that a node is in.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use hot_wire::spawn::Limits;
use toml::de::DeValue;

use super::read::Section;
use super::values::{absolute_path, duration, is_host_name, or_unlimited, size};

/// The shortest lease: etcd has none shorter by default.
const MIN_LEASE: Duration = Duration::from_secs(2);
const MAX_LEASE: Duration = Duration::from_secs(300);
/// Labels of a node, and bytes of each name and value.
pub(crate) const MAX_LABELS: usize = 32;
const MAX_LABEL: usize = 63;
/// Bytes of artifacts a second. Others take a node for broken that gives less than 64 KiB in a second, and it gives to no more
/// than it has twice that for.
const RATES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 40;
/// Half of what a line of 1 Gbit/s carries: users' requests have the other half.
const RATE: u64 = 64 << 20;

/// `[cluster]`: where the fleet's etcd is, and what the fleet is to know of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// URLs of etcd's members.
    pub etcd: Vec<String>,
    /// What the names of all keys of this fleet begin with.
    pub prefix: String,
    /// Who signs the certificates of etcd; only with `https`.
    pub authority: Option<PathBuf>,
    /// What etcd is shown, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The user that etcd knows this node as, and the file of the password.
    pub user: Option<(String, PathBuf)>,
    /// How long the fleet takes this node for there without a word.
    pub lease: Duration,
    /// Where other nodes call this one. None: its control socket, which is enough for nodes of one machine.
    pub call: Option<String>,
    /// How many bytes of artifacts are taken from other nodes in a second, at most. None: as many as come.
    pub fetch_rate: Option<NonZeroU64>,
    /// How many are given to other nodes, all together. None: as many as they take.
    pub give_rate: Option<NonZeroU64>,
    /// What rollouts may choose nodes by.
    pub labels: BTreeMap<String, String>,
}

/// The table, if it is there.
pub(super) fn cluster(top: &Section<'_>) -> Option<Cluster> {
    const KEYS: [&str; 12] = [
        "etcd",
        "prefix",
        "authority",
        "certificate",
        "key",
        "user",
        "password_file",
        "lease",
        "call",
        "fetch_rate",
        "give_rate",
        "labels",
    ];
    if !top.has("cluster") {
        return None;
    }
    let section = top.section("cluster", "cluster", &KEYS);
    let expected = "URLs like [\"https://10.0.0.1:2379\"]";
    let etcd =
        section.required("etcd", expected, section.values("etcd", expected, etcd_url)).unwrap_or_default();
    if etcd.is_empty() && section.has("etcd") {
        section.mistake("etcd", &format!("names no member, expected at least one of {expected}"));
    }
    let authority = section.value("authority", absolute_path);
    let secure = etcd.iter().filter(|url| url.starts_with("https:")).count();
    if secure != 0 && secure != etcd.len() {
        section.mistake(
            "etcd",
            "some members are called with https and others with http; expected one of the two",
        );
    }
    if secure > 0 && !section.has("authority") {
        section.mistake(
            "authority",
            "is missing, expected the file of the certificates, PEM, that sign those of etcd",
        );
    }
    let lease = section.value("lease", duration).unwrap_or(Duration::from_secs(10));
    if !(MIN_LEASE..=MAX_LEASE).contains(&lease) || lease.subsec_nanos() != 0 {
        section.mistake("lease", "expected whole seconds from 2s to 5m");
    }
    Some(Cluster {
        prefix: section.value("prefix", prefix).unwrap_or_else(|| "hot".to_owned()),
        authority,
        identity: both(&section, "certificate", "key", section.value("certificate", absolute_path)),
        user: both(&section, "user", "password_file", section.value("user", text)),
        lease,
        call: section.value("call", call_url),
        fetch_rate: rate(&section, "fetch_rate"),
        give_rate: rate(&section, "give_rate"),
        labels: labels(&section),
        etcd,
    })
}

fn rate(section: &Section<'_>, key: &str) -> Option<NonZeroU64> {
    let rate = section.value(key, or_unlimited(size(RATES))).unwrap_or(RATE);
    NonZeroU64::new(rate).filter(|_| rate != Limits::UNLIMITED)
}

/// Two keys of which the second is a file: both or none of them.
fn both<T>(section: &Section<'_>, first: &str, second: &str, value: Option<T>) -> Option<(T, PathBuf)> {
    let file = section.value(second, absolute_path);
    for (there, missing) in [(first, second), (second, first)] {
        if section.has(there) && !section.has(missing) {
            section.mistake(missing, &format!("is missing, expected it beside `{there}`"));
        }
    }
    value.zip(file)
}

fn labels(cluster: &Section<'_>) -> BTreeMap<String, String> {
    let section = cluster.section("labels", "cluster.labels", &[]);
    let mut labels = BTreeMap::new();
    for (name, _) in section.entries() {
        if !is_label(name) {
            section.mistake(
                name,
                "is no name of a label, expected 1 to 63 letters, digits, `-`, `_`, `.` and `/`",
            );
        }
        if let Some(value) = section.value(name, text) {
            labels.insert(name.to_owned(), value);
        }
    }
    if labels.len() > MAX_LABELS {
        cluster.mistake("labels", &format!("has {} labels, expected at most {MAX_LABELS}", labels.len()));
    }
    labels
}

/// Whether a node's config may say so of it.
pub(crate) fn could_be_label(name: &str, value: &str) -> bool {
    is_label(name) && is_value(value)
}

fn is_label(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    (1..=MAX_LABEL).contains(&name.len()) && name.bytes().all(plain)
}

fn is_value(text: &str) -> bool {
    (1..=MAX_LABEL).contains(&text.len()) && !text.contains(char::is_control)
}

fn text(value: &DeValue<'_>) -> Result<String, String> {
    let text = value.as_str().filter(|text| is_value(text));
    text.map(str::to_owned).ok_or_else(|| format!("a text of at most {MAX_LABEL} bytes"))
}

fn prefix(value: &DeValue<'_>) -> Result<String, String> {
    let good = |part: &str| is_host_name(part);
    let text = value.as_str().filter(|text| text.split('/').all(good));
    text.map(str::to_owned)
        .ok_or_else(|| "names like \"hot\" or \"prod/hot\", with `/` between them".to_owned())
}

fn etcd_url(value: &DeValue<'_>) -> Result<String, String> {
    let expected = || "a URL like \"https://10.0.0.1:2379\"".to_owned();
    url(value, &["http://", "https://"]).ok_or_else(expected)
}

fn call_url(value: &DeValue<'_>) -> Result<String, String> {
    let expected = || "a URL like \"https://10.0.0.1:7443\"".to_owned();
    url(value, &["https://"]).ok_or_else(expected)
}

fn url(value: &DeValue<'_>, schemes: &[&str]) -> Option<String> {
    let text = value.as_str()?;
    let host = schemes.iter().find_map(|scheme| text.strip_prefix(scheme))?;
    let uri: http::Uri = text.parse().ok()?;
    (uri.port_u16().is_some() && !host.contains(['/', '?', '@'])).then(|| text.to_owned())
}
