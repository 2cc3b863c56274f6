//! Amounts with their units: basis points and milliseconds, all integers, so that a replay on another machine gives
//! the same result to the last digit.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Basis points in a whole.
pub const WHOLE: u16 = 10_000;

/// Says why a text is no share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// It is not a number with an optional `%` and at most two decimals.
    #[error(
        "`{0}` is not a percentage: expected a number from 0% to 100% with at most two decimals, e.g. 10% or 0.5%"
    )]
    Malformed(String),
    /// It is more than the whole.
    #[error("`{0}` is above 100%")]
    TooLarge(String),
}

macro_rules! basis_points {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u16", into = "u16")]
        pub struct $name(u16);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);
            /// All: 10,000 basis points.
            pub const WHOLE: Self = Self(WHOLE);

            /// From basis points; `None` above 10,000.
            #[must_use]
            pub const fn new(basis_points: u16) -> Option<Self> {
                if basis_points > WHOLE { None } else { Some(Self(basis_points)) }
            }

            /// From whole percents; more than 100 is 100.
            #[must_use]
            pub const fn percent(percent: u8) -> Self {
                if percent >= 100 { Self::WHOLE } else { Self(percent as u16 * 100) }
            }

            /// In basis points, 0 to 10,000.
            #[must_use]
            pub const fn basis_points(self) -> u16 {
                self.0
            }

            /// As a part of one, 0.0 to 1.0.
            #[must_use]
            pub fn fraction(self) -> f64 {
                f64::from(self.0) / f64::from(WHOLE)
            }

            /// What is left of the whole.
            #[must_use]
            pub const fn rest(self) -> Self {
                Self(WHOLE - self.0)
            }
        }

        impl TryFrom<u16> for $name {
            type Error = ShareError;

            fn try_from(basis_points: u16) -> Result<Self, ShareError> {
                Self::new(basis_points).ok_or_else(|| ShareError::TooLarge(format!("{basis_points} basis points")))
            }
        }

        impl From<$name> for u16 {
            fn from(amount: $name) -> Self {
                amount.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let (whole, part) = (self.0 / 100, self.0 % 100);
                match part {
                    0 => write!(f, "{whole}%"),
                    tenths if tenths % 10 == 0 => write!(f, "{whole}.{}%", tenths / 10),
                    hundredths => write!(f, "{whole}.{hundredths:02}%"),
                }
            }
        }
    };
}

basis_points! {
    /// A part of the fleet's traffic for a module, in basis points. Written `10%` or `0.5%`.
    Share
}
basis_points! {
    /// A part of one node's traffic for a module, in basis points.
    Weight
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let malformed = || ShareError::Malformed(text.to_owned());
        let number = text.trim();
        let number = number.strip_suffix('%').unwrap_or(number).trim_end();
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str, most: usize| {
            !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !digits(whole, 9) || !digits(part, 2) {
            return Err(malformed());
        }
        let whole: u32 = whole.parse().map_err(|_not_a_number| malformed())?;
        let hundredths: u32 = format!("{part:0<2}").parse().map_err(|_not_a_number| malformed())?;
        let basis_points = whole.saturating_mul(100).saturating_add(hundredths);
        u16::try_from(basis_points)
            .ok()
            .and_then(Self::new)
            .ok_or_else(|| ShareError::TooLarge(text.to_owned()))
    }
}

/// A ratio in basis points: 20,000 is twice as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ratio(pub u32);

impl Ratio {
    /// `amount` times this ratio, rounded down; saturates.
    #[must_use]
    pub fn of(self, amount: u64) -> u64 {
        let product = u128::from(amount) * u128::from(self.0) / u128::from(WHOLE);
        u64::try_from(product).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0 + 500) / 1000;
        write!(f, "{}.{} times", tenths / 10, tenths % 10)
    }
}

/// A moment on the driver's clock: milliseconds since the Unix epoch. The machine never lets it run backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub u64);

impl Time {
    /// This moment and `span` more; saturates.
    #[must_use]
    pub const fn plus(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// How long since `earlier`; zero if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

/// A span of time in milliseconds. Shown as people write it: `500ms`, `30s`, `1m30s`, `1h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// From microseconds, rounded up.
    #[must_use]
    pub const fn of_micros(micros: u64) -> Self {
        Self(micros.div_ceil(1000))
    }

    /// `seconds` seconds; saturates.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// `minutes` minutes; saturates.
    #[must_use]
    pub const fn minutes(minutes: u64) -> Self {
        Self::seconds(minutes.saturating_mul(60))
    }

    /// The two spans one after the other; saturates.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl From<Millis> for std::time::Duration {
    fn from(span: Millis) -> Self {
        Self::from_millis(span.0)
    }
}

impl From<std::time::Duration> for Millis {
    /// Whole milliseconds, rounded down; saturates.
    fn from(span: std::time::Duration) -> Self {
        Self(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1000 {
            return write!(f, "{}ms", self.0);
        }
        let (seconds, millis) = (self.0 / 1000, self.0 % 1000);
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        match (seconds, millis) {
            (0, 0) => Ok(()),
            (_, 0) => write!(f, "{seconds}s"),
            _ => write!(f, "{seconds}.{millis:03}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_as_people_write_them() {
        for (text, basis_points) in
            [("10%", 1000), ("10", 1000), (" 100 % ", 10_000), ("0.5%", 50), ("12.34%", 1234), ("0%", 0)]
        {
            assert_eq!(text.parse::<Share>().unwrap().basis_points(), basis_points, "{text}");
        }
    }

    #[test]
    fn what_is_no_share_is_refused_with_the_text_in_it() {
        for text in ["", "%", "ten", "-1%", "+1%", "1.", ".5%", "1.234%", "1e2%", "1%%", "10 %x"] {
            assert_eq!(text.parse::<Share>(), Err(ShareError::Malformed(text.to_owned())));
        }
        for text in ["100.01%", "101%", "999999999%"] {
            assert_eq!(text.parse::<Share>(), Err(ShareError::TooLarge(text.to_owned())));
        }
    }

    #[test]
    fn a_share_survives_being_shown_and_read() {
        for basis_points in 0..=WHOLE {
            let share = Share::new(basis_points).unwrap();
            assert_eq!(share.to_string().parse::<Share>(), Ok(share));
        }
    }

    #[test]
    fn more_than_the_whole_does_not_deserialise() {
        assert!(serde_json::from_str::<Share>("10000").is_ok());
        assert!(serde_json::from_str::<Share>("10001").is_err());
    }

    #[test]
    fn spans_are_shown_as_people_write_them() {
        for (millis, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1500, "1.500s"),
            (30_000, "30s"),
            (90_000, "1m30s"),
            (3_600_000, "1h"),
        ] {
            assert_eq!(Millis(millis).to_string(), text);
        }
    }

    #[test]
    fn a_ratio_does_not_overflow() {
        assert_eq!(Ratio(20_000).of(21), 42);
        assert_eq!(Ratio(u32::MAX).of(u64::MAX), u64::MAX);
        assert_eq!(Ratio(20_000).to_string(), "2.0 times");
    }
}
