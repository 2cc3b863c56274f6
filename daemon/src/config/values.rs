//! What a key can hold: each function takes a TOML value or says what was expected.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hot_rollout::{Millis, PolicySpec, Ratio, Share, Step};
use hot_wire::spawn::Limits;
use toml::de::DeValue;

use super::units;
use crate::gateway::Network;

/// Longest path of a Unix socket on Linux, in bytes (`sun_path` less its NUL).
pub(super) const MAX_SOCKET_PATH: usize = 107;

/// What a duration looks like.
const DURATION: &str =
    "a duration in whole numbers with ms, s, m, h or d, like \"500ms\", \"30s\" or \"1m30s\"";

pub(super) fn duration(value: &DeValue<'_>) -> Result<Duration, String> {
    match value.as_str().and_then(units::duration) {
        Some(duration) if duration.is_zero() => Err("more than 0".to_owned()),
        Some(duration) if duration > Duration::from_hours(24 * 365) => Err("at most \"365d\"".to_owned()),
        Some(duration) => Ok(duration),
        None => Err(DURATION.to_owned()),
    }
}

/// Unlike [`duration`] it may be zero; the policy has bounds of its own.
pub(super) fn millis(value: &DeValue<'_>) -> Result<Millis, String> {
    let millis =
        value.as_str().and_then(units::duration).and_then(|span| u64::try_from(span.as_millis()).ok());
    millis.map(Millis).ok_or_else(|| DURATION.to_owned())
}

pub(super) fn size(bounds: std::ops::RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Result<u64, String> {
    move |value| match value.as_str().and_then(units::size) {
        Some(size) if bounds.contains(&size) => Ok(size),
        Some(_) => Err(format!("a size of {} to {} bytes", bounds.start(), bounds.end())),
        None => Err("a size like \"64MiB\" or \"512KiB\"".to_owned()),
    }
}

pub(super) fn count<T: TryFrom<u32>>(
    bounds: std::ops::RangeInclusive<u32>,
) -> impl Fn(&DeValue<'_>) -> Result<T, String> {
    move |value| {
        let number = value.as_integer().and_then(|n| u32::from_str_radix(n.as_str(), n.radix()).ok());
        number
            .filter(|number| bounds.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("a number from {} to {}", bounds.start(), bounds.end()))
    }
}

/// What `limit` takes, or `"unlimited"`: what no limit is, in the messages to hot-spawn.
pub(super) fn or_unlimited(
    limit: impl Fn(&DeValue<'_>) -> Result<u64, String>,
) -> impl Fn(&DeValue<'_>) -> Result<u64, String> {
    move |value| match value.as_str() {
        Some("unlimited") => Ok(Limits::UNLIMITED),
        _ => limit(value).map_err(|expected| format!("{expected}, or \"unlimited\"")),
    }
}

pub(super) fn share(value: &DeValue<'_>) -> Result<Share, String> {
    let text = value.as_str().filter(|text| text.ends_with('%'));
    text.and_then(|text| text.parse().ok()).ok_or_else(|| "a percentage like \"10%\" or \"0.5%\"".to_owned())
}

/// A share, and behind a space its bake time where it is not that of all.
pub(super) fn step(value: &DeValue<'_>, bake: Option<Millis>) -> Result<Step, String> {
    const EXPECTED: &str = "a share, and its bake time if it has one of its own, like \"10%\" or \"10% 5m\"";
    let bake = bake.or_else(|| PolicySpec::default().steps.first().map(|step| step.bake)).unwrap_or_default();
    let text = value.as_str().ok_or(EXPECTED)?;
    let (share, own) = text.split_once(' ').map_or((text, None), |(share, own)| (share, Some(own)));
    let bake = match own {
        None => bake,
        Some(own) => units::duration(own)
            .and_then(|span| u64::try_from(span.as_millis()).ok())
            .map(Millis)
            .ok_or(EXPECTED)?,
    };
    let share = Some(share).filter(|share| share.ends_with('%')).and_then(|share| share.parse().ok());
    Ok(Step { share: share.ok_or(EXPECTED)?, bake })
}

pub(super) fn ratio(value: &DeValue<'_>) -> Result<Ratio, String> {
    let text = match value {
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str()),
        DeValue::Float(number) => Some(number.as_str()),
        _ => None,
    };
    text.and_then(units::ten_thousandths).map(Ratio).ok_or_else(|| "a number like 2.0".to_owned())
}

pub(super) fn address(value: &DeValue<'_>) -> Result<SocketAddr, String> {
    let address = value.as_str().and_then(|text| text.parse().ok());
    address.ok_or_else(|| "an address and a port like \"0.0.0.0:8080\" or \"[::]:8080\"".to_owned())
}

pub(super) fn network(value: &DeValue<'_>) -> Result<Network, String> {
    let network = value.as_str().and_then(|text| text.parse().ok());
    network.ok_or_else(|| "a network like \"10.0.0.0/8\", or an address".to_owned())
}

pub(super) fn flag(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "true or false".to_owned())
}

pub(super) fn absolute_path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let path = value.as_str().map(PathBuf::from).filter(|path| path.is_absolute());
    path.ok_or_else(|| "an absolute path like \"/var/lib/hotd\"".to_owned())
}

pub(super) fn socket_path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let path = value.as_str().map(PathBuf::from).filter(|path| path.is_absolute());
    let path =
        path.ok_or("the path of a socket like \"/run/hot/hotd.sock\", absolute and without `unix:`")?;
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        return Err(format!(
            "a path of at most {MAX_SOCKET_PATH} bytes, which is all that a Unix socket can have"
        ));
    }
    Ok(path)
}

/// What names a node in tables, labels and the cluster store: a host name.
pub(super) fn node_name(value: &DeValue<'_>) -> Result<String, String> {
    let text = value.as_str().filter(|text| is_host_name(text));
    text.map(str::to_owned)
        .ok_or_else(|| "a host name like \"web-1\" (a-z, A-Z, 0-9, - and ., at most 63)".to_owned())
}

pub(crate) fn is_host_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    (1..=63).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with(['.', '-'])
}
