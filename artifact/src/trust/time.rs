//! The times in `valid-after` and `valid-before`: `YYYYMMDD[HHMM[SS]]` in local time, or in UTC with a `Z` behind.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Which end of an interval a time is. Where a local time can mean several, the one that allows less counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    After,
    Before,
}

/// Seconds since 1970 of a time, or what is wrong with it. As with `ssh-keygen`, 1970 itself is too early.
pub(super) fn parse(text: &str, bound: Bound) -> Result<i64, &'static str> {
    parse_in(text, bound, || TimeZone::try_system().ok())
}

fn parse_in(text: &str, bound: Bound, local: impl FnOnce() -> Option<TimeZone>) -> Result<i64, &'static str> {
    let (digits, utc) = match text.strip_suffix(['Z', 'z']) {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    let civil = civil(digits).ok_or("a time that is not YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS")?;
    let zone = if utc { Some(TimeZone::UTC) } else { local() };
    let zone = zone.ok_or("a local time, but this machine's time zone is unknown; add a `Z` for UTC")?;
    let candidates = candidates(&zone, civil);
    let limit = match bound {
        Bound::After => candidates.iter().max(),
        Bound::Before => candidates.iter().min(),
    };
    match limit {
        Some(limit) if *limit > 0 => Ok(*limit),
        _ => Err("a time that is not after 1970"),
    }
}

/// All that a local time can mean, in seconds since 1970: what the clocks on the wall show, which where they go back is
/// two times, and what `ssh-keygen` takes it for, which is standard time in summer too (`mktime` with `tm_isdst` 0).
fn candidates(zone: &TimeZone, civil: DateTime) -> Vec<i64> {
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    let mut found: Vec<Timestamp> = [ambiguous.earlier(), ambiguous.later()].into_iter().flatten().collect();
    if let Some(shown) = found.first().copied()
        && zone.to_offset_info(shown).dst().is_dst()
    {
        // Standard time is what holds before or after the summer; in some year both may not be the same.
        let before = zone.preceding(shown).take(8).find(|change| !change.dst().is_dst());
        let after = zone.following(shown).take(8).find(|change| !change.dst().is_dst());
        found.extend(
            [before, after]
                .into_iter()
                .flatten()
                .filter_map(|change| change.offset().to_timestamp(civil).ok()),
        );
    }
    found.into_iter().map(Timestamp::as_second).collect()
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
    Timestamp::from_second(seconds).map_or_else(|_error| seconds.to_string(), |time| time.to_string())
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

    /// Central Europe: the clocks go forward at 02:00 on 2026-03-29 and back at 03:00 on 2026-10-25.
    const ZONE: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    fn in_zone(text: &str, bound: Bound) -> Result<i64, &'static str> {
        parse_in(text, bound, || TimeZone::posix(ZONE).ok())
    }

    #[test]
    fn local_times_are_of_the_zone() {
        assert_eq!(in_zone("202601020404", Bound::After), parse("202601020304Z", Bound::After));
        assert_eq!(in_zone("202606150200", Bound::Before), parse("202606150000Z", Bound::Before));
        // What `ssh-keygen` takes it for.
        assert_eq!(in_zone("202606150200", Bound::After), parse("202606150100Z", Bound::After));
        assert_eq!(parse_in("20260615", Bound::After, || None).unwrap_err().split(';').count(), 2);
    }

    #[test]
    fn where_a_local_time_is_two_or_none_the_one_that_allows_less_counts() {
        for (local, first, second) in [
            ("202610250230", "202610250030Z", "202610250130Z"),
            ("202603290230", "202603290030Z", "202603290130Z"),
        ] {
            assert_eq!(in_zone(local, Bound::Before), parse(first, Bound::Before), "{local}");
            assert_eq!(in_zone(local, Bound::After), parse(second, Bound::After), "{local}");
        }
    }

    #[test]
    fn local_times_allow_no_more_than_with_ssh_keygen() {
        use crate::testing::{Question, keygen_sign, keygen_verify, public};
        let signature = keygen_sign("ed25519", "hot-module", &[], b"bytes");
        let mut allowed_by_both = 0;
        for local in
            ["20260615120000", "20261025023000", "20261025013000", "20260329023000", "20260329033000"]
        {
            for (option, bound) in [("valid-after", Bound::After), ("valid-before", Bound::Before)] {
                let limit = in_zone(local, bound).unwrap();
                for now in [-3601, -3600, -1, 0, 1, 3600, 3601].map(|offset| limit + offset) {
                    let ours = if bound == Bound::After { now >= limit } else { now <= limit };
                    let verify_time = Timestamp::from_second(now)
                        .unwrap()
                        .strftime("verify-time=%Y%m%d%H%M%SZ")
                        .to_string();
                    let theirs = keygen_verify(&Question {
                        allowed_signers: &format!("anna {option}=\"{local}\" {}\n", public("ed25519")),
                        principal: "anna",
                        namespace: "hot-module",
                        signature: signature.as_bytes(),
                        bytes: b"bytes",
                        options: &["-O", &verify_time],
                        zone: ZONE,
                    });
                    assert!(!ours || theirs, "{option} {local}: we allow {verify_time}, ssh-keygen does not");
                    allowed_by_both += u32::from(ours && theirs);
                }
            }
        }
        assert!(allowed_by_both >= 30, "{allowed_by_both}");
    }
}
