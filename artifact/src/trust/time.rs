//! The times in `valid-after` and `valid-before`: `YYYYMMDD[HHMM[SS]]` in local time, or in UTC with a `Z` behind.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Which end of an interval a time is. Where the clocks go back, a local time is two: the one that allows less counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    After,
    Before,
}

/// Seconds since 1970 of a time, or what is wrong with it. As with `ssh-keygen`, 1970 itself is too early.
pub(super) fn parse(text: &str, bound: Bound) -> Result<i64, &'static str> {
    let (digits, utc) = match text.strip_suffix(['Z', 'z']) {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    let civil = civil(digits).ok_or("a time that is not YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS")?;
    let zone = if utc {
        TimeZone::UTC
    } else {
        TimeZone::try_system()
            .map_err(|_error| "a local time, but this machine's time zone is unknown; add a `Z` for UTC")?
    };
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    let timestamp = match bound {
        Bound::After => ambiguous.later(),
        Bound::Before => ambiguous.earlier(),
    };
    match timestamp {
        Ok(timestamp) if timestamp.as_second() > 0 => Ok(timestamp.as_second()),
        _ => Err("a time that is not after 1970"),
    }
}

fn civil(digits: &str) -> Option<DateTime> {
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number =
        |from: usize, len: usize| digits.get(from..from + len).map_or(Some(0), |part| part.parse().ok());
    let year: i16 = digits[..4].parse().ok()?;
    DateTime::new(year, number(4, 2)?, number(6, 2)?, number(8, 2)?, number(10, 2)?, number(12, 2)?, 0).ok()
}

/// A time for people, in UTC.
pub(super) fn shown(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_error| seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_lengths_in_utc() {
        assert_eq!(parse("20260102Z", Bound::After), Ok(1_767_312_000));
        assert_eq!(parse("202601020304Z", Bound::After), Ok(1_767_323_040));
        assert_eq!(parse("20260102030405z", Bound::Before), Ok(1_767_323_045));
        assert_eq!(shown(1_767_323_045), "2026-01-02T03:04:05Z");
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "Z",
            "2026",
            "2026010",
            "20261301Z",
            "20260230Z",
            "202601022460Z",
            "20260102030460Z",
            "19700101Z",
            "2026-1-2Z",
            "+2260102Z",
            "20260102UTC",
            "20260102 Z",
        ] {
            assert!(parse(bad, Bound::After).is_err(), "{bad}");
        }
    }
}
