//! The words of the contract: enumerations, shares, times and sizes as people and JSON read them, and the way back for
//! what people type. The words of enumerations are stable: they are part of `-o json`.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use hot_proto::BASIS_POINTS;
use hot_proto::v1::{Cordon, InstanceState, LogSource, Outcome, Phase, Role};
use prost_types::Timestamp;
use thiserror::Error;

/// A value that a newer node knows and this version does not.
const UNKNOWN: &str = "unknown";

/// A phase's word, as in the design.
pub(crate) fn phase(value: i32) -> &'static str {
    match Phase::try_from(value) {
        Ok(Phase::Unspecified) => "none",
        Ok(Phase::Preparing) => "preparing",
        Ok(Phase::Starting) => "starting",
        Ok(Phase::Baking) => "baking",
        Ok(Phase::Promoting) => "promoting",
        Ok(Phase::Done) => "done",
        Ok(Phase::RollingBack) => "rolling_back",
        Ok(Phase::RolledBack) => "rolled_back",
        Ok(Phase::Paused) => "paused",
        Ok(Phase::Superseded) => "superseded",
        Ok(Phase::Incomplete) => "incomplete",
        Ok(Phase::Failed) => "failed",
        Err(_) => UNKNOWN,
    }
}

/// An outcome's word; `None` while there is none.
pub(crate) fn outcome(value: i32) -> Option<&'static str> {
    match Outcome::try_from(value) {
        Ok(Outcome::Unspecified) => None,
        Ok(Outcome::Done) => Some("done"),
        Ok(Outcome::Failed) => Some("failed"),
        Ok(Outcome::RolledBack) => Some("rolled_back"),
        Ok(Outcome::Aborted) => Some("aborted"),
        Ok(Outcome::Superseded) => Some("superseded"),
        Ok(Outcome::Incomplete) => Some("incomplete"),
        Err(_) => Some(UNKNOWN),
    }
}

/// A role's word; `None` where it has none.
pub(crate) fn role(value: i32) -> Option<&'static str> {
    match Role::try_from(value) {
        Ok(Role::Unspecified) => None,
        Ok(Role::Stable) => Some("stable"),
        Ok(Role::Candidate) => Some("candidate"),
        Ok(Role::Standby) => Some("standby"),
        Err(_) => Some(UNKNOWN),
    }
}

/// An instance state's word.
pub(crate) fn state(value: i32) -> &'static str {
    match InstanceState::try_from(value) {
        Ok(InstanceState::Starting) => "starting",
        Ok(InstanceState::Ready) => "ready",
        Ok(InstanceState::Stopping) => "stopping",
        Ok(InstanceState::Ended) => "ended",
        Ok(InstanceState::Unspecified) | Err(_) => UNKNOWN,
    }
}

/// A log source's word.
pub(crate) fn source(value: i32) -> &'static str {
    match LogSource::try_from(value) {
        Ok(LogSource::Stdout) => "stdout",
        Ok(LogSource::Stderr) => "stderr",
        Ok(LogSource::Log) => "log",
        Ok(LogSource::Output) => "output",
        Ok(LogSource::Unspecified) | Err(_) => UNKNOWN,
    }
}

/// A share in percent: `10%`, `2.5%`, `0.01%`.
pub(crate) fn share(basis_points: u32) -> String {
    let (whole, rest) = (basis_points / 100, basis_points % 100);
    match (rest, rest % 10) {
        (0, _) => format!("{whole}%"),
        (_, 0) => format!("{whole}.{}%", rest / 10),
        _ => format!("{whole}.{rest:02}%"),
    }
}

/// Why a text is no share.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is no share: expected a percentage above 0% and up to 100%, with at most two decimals, e.g. 10% or 2.5%"
)]
pub(crate) struct ShareError(String);

/// Reads `10%` or `2.5%` into basis points, 1 to 10000.
pub(crate) fn parse_share(text: &str) -> Result<u32, ShareError> {
    let error = || ShareError(text.to_owned());
    let number = text.trim().strip_suffix('%').ok_or_else(error)?;
    let (whole, decimals) =
        number.split_once('.').map_or((number, "0"), |(whole, decimals)| (whole, decimals));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || whole.len() > 3 || decimals.len() > 2 {
        return Err(error());
    }
    let whole: u32 = whole.parse().map_err(|_overflow| error())?;
    let hundredths: u32 = format!("{decimals:0<2}").parse().map_err(|_overflow| error())?;
    let basis_points = whole * 100 + hundredths;
    if (1..=BASIS_POINTS).contains(&basis_points) { Ok(basis_points) } else { Err(error()) }
}

/// A span of time for people: `350ms`, `12s`, `1m30s`, `2h`, `3d4h`. Two units at most.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds == 0 {
        return format!("{}ms", duration.as_millis());
    }
    let units =
        [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let first = units.iter().position(|(count, _)| *count > 0).unwrap_or(units.len() - 1);
    let mut text = String::new();
    for (count, unit) in units[first..].iter().take(2).filter(|(count, _)| *count > 0) {
        // Writing into a string does not fail.
        write!(text, "{count}{unit}").unwrap_or_default();
    }
    text
}

/// Why a text is no span of time.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no span of time: expected whole numbers with units ms, s, m, h or d, e.g. 30s or 1m30s")]
pub(crate) struct SpanError(String);

/// Reads `500ms`, `30s`, `1m30s`, `2h`, also with a blank in between: `30 s`. Zero is allowed as `0s`. A config takes the
/// same.
pub(crate) fn parse_span(text: &str) -> Result<Duration, SpanError> {
    let error = || SpanError(text.to_owned());
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(error());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_invalid| error())?;
        rest = &rest[digits..];
        rest = rest.strip_prefix(' ').unwrap_or(rest);
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let part = match &rest[..letters] {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60).ok_or_else(error)?),
            "h" => Duration::from_secs(number.checked_mul(3600).ok_or_else(error)?),
            "d" => Duration::from_secs(number.checked_mul(86_400).ok_or_else(error)?),
            _ => return Err(error()),
        };
        rest = &rest[letters..];
        rest = rest.strip_prefix(' ').unwrap_or(rest);
        total = total.checked_add(part).ok_or_else(error)?;
    }
    Ok(total)
}

/// A span of the contract in seconds, for JSON.
pub(crate) fn seconds(duration: prost_types::Duration) -> f64 {
    Duration::try_from(duration).unwrap_or_default().as_secs_f64()
}

/// A size for people: `812 B`, `1.5 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths of a unit, in integers: a float would be as long and need a cast that loses bits.
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Milliseconds for people: `0.42`, `3.1`, `250`.
pub(crate) fn millis(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.2}")
    } else if value < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// How long ago `then` was, for people. A time to come (another clock) is `just now`.
pub(crate) fn ago(then: Timestamp, now: SystemTime) -> String {
    let since = SystemTime::try_from(then).ok().and_then(|then| now.duration_since(then).ok());
    match since {
        Some(since) if since.as_secs() > 0 => format!("{} ago", span(since)),
        _ => "just now".to_owned(),
    }
}

/// A time in RFC 3339, UTC.
pub(crate) fn time(value: Timestamp) -> String {
    value.to_string()
}

/// How a node is kept out of rollouts: `drained by ann since 2026-01-01T00:00:00Z: kernel update`.
pub(crate) fn cordoned(cordon: &Cordon) -> String {
    let how = if cordon.drain { "drained" } else { "cordoned" };
    let since = cordon.since.map(|since| format!(" since {}", time(since))).unwrap_or_default();
    let because = if cordon.reason.is_empty() { String::new() } else { format!(": {}", cordon.reason) };
    format!("{how} by {}{since}{because}", cordon.principal)
}

/// `text` with every control character replaced, so that what a module or another machine says can't drive the
/// terminal. A tab is a space.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            // Overrides of the writing direction can make a text read as another.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// `text`, or a dash when it is empty.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { clean(text) }
}

/// A digest's first 12 digits: enough to tell files apart by eye.
pub(crate) fn short_digest(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_go_both_ways() {
        for (text, basis_points) in
            [("10%", 1000), ("100%", 10_000), ("0.01%", 1), ("2.5%", 250), ("33.33%", 3333), ("0.5%", 50)]
        {
            assert_eq!(parse_share(text), Ok(basis_points));
            assert_eq!(share(basis_points), text);
        }
        assert_eq!(parse_share("2.50%"), Ok(250));
        for text in
            ["", "10", "0%", "0.00%", "100.01%", "101%", "-1%", "1e1%", "1.234%", "%", ".5%", "1.%", "9999%"]
        {
            assert_eq!(parse_share(text), Err(ShareError(text.to_owned())), "{text}");
        }
        assert_eq!(share(0), "0%");
    }

    #[test]
    fn spans_go_both_ways() {
        for (text, millis) in [("500ms", 500), ("30s", 30_000), ("1m30s", 90_000), ("2h", 7_200_000)] {
            assert_eq!(parse_span(text), Ok(Duration::from_millis(millis)));
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
        assert_eq!(parse_span("0s"), Ok(Duration::ZERO));
        for (text, seconds) in [("30 s", 30), ("1m 30 s", 90), ("2d", 172_800)] {
            assert_eq!(parse_span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "30",
            "s",
            "1w",
            "30  s",
            "-1s",
            "1.5s",
            "1s 2s x",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(parse_span(text).is_err(), "{text}");
        }
        assert_eq!(span(Duration::from_secs(90_061)), "1d1h");
        assert_eq!(span(Duration::from_secs(3600)), "1h");
        assert_eq!(span(Duration::from_secs(3601)), "1h");
        assert_eq!(span(Duration::ZERO), "0ms");
    }

    #[test]
    fn sizes_and_times() {
        assert_eq!(size(812), "812 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(10 * 1024 * 1024), "10.0 MiB");
        assert_eq!(size(u64::MAX), "16777215.9 TiB");
        assert_eq!(millis(0.416), "0.42");
        assert_eq!(millis(31.26), "31.3");
        assert_eq!(millis(300.2), "300");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        assert_eq!(ago(Timestamp { seconds: 10, nanos: 0 }, now), "1m30s ago");
        assert_eq!(ago(Timestamp { seconds: 200, nanos: 0 }, now), "just now");
        assert_eq!(time(Timestamp { seconds: 0, nanos: 0 }), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\tc\u{202e}d"), "a\u{fffd}[2Jb c\u{fffd}d");
        assert_eq!(clean("grüße"), "grüße");
    }

    #[test]
    fn an_unknown_value_is_a_word_too() {
        assert_eq!(phase(99), "unknown");
        assert_eq!(outcome(99), Some("unknown"));
        assert_eq!(role(99), Some("unknown"));
        assert_eq!(state(99), "unknown");
    }
}
