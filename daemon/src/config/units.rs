//! Amounts as people write them: `30s`, `64MiB`, `2.5`.

use std::time::Duration;

/// A duration: whole numbers with `ms`, `s`, `m`, `h` or `d`, largest or smallest first: `30s`, `1m30s`, `30 s`. `hotctl`
/// takes the same.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text, 0_u64);
    loop {
        let (number, behind) = split(rest)?;
        let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let millis = match &behind[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(millis)?)?;
        rest = &behind[letters..];
        if rest.is_empty() {
            return Some(Duration::from_millis(total));
        }
        rest = rest.strip_prefix(' ').unwrap_or(rest);
    }
}

/// A size in bytes: a whole number and `B`, `KiB`, `MiB` or `GiB`.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let bytes = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes)
}

/// A number with up to four decimals, in ten-thousandths.
pub(super) fn ten_thousandths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 4 || !digits(whole) || !digits(part) {
        return None;
    }
    let whole: u32 = whole.parse().ok()?;
    let part: u32 = format!("{part:0<4}").parse().ok()?;
    whole.checked_mul(10_000)?.checked_add(part)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.strip_prefix(' ').unwrap_or(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("30 s"), Some(Duration::from_secs(30)));
        assert_eq!(duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("1h 30 m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("2d"), Some(Duration::from_secs(172_800)));
        assert_eq!(size("64MiB"), Some(64 << 20));
        assert_eq!(size("0B"), Some(0));
        assert_eq!(ten_thousandths("2"), Some(20_000));
        assert_eq!(ten_thousandths("1.25"), Some(12_500));
    }

    #[test]
    fn anything_else_is_none() {
        for bad in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "1 hour",
            "30  s",
            "1m 30",
            "99999999999999999999s",
            "18446744073709551615d",
            "1s ",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        for bad in ["", "64", "64M", "64MB", "64mib", "18446744073709551615GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
        for bad in ["", ".5", "1.23456", "-1", "1e3", "inf", "999999"] {
            assert_eq!(ten_thousandths(bad), None, "{bad}");
        }
    }
}
