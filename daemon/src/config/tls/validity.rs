//! From when until when a certificate is good, and what is to be said around both ends.

use std::time::{Duration, SystemTime};

use der::asn1::{GeneralizedTime, UtcTime};
use der::{Decode as _, Reader, Tag};
use jiff::Timestamp;

use super::fields::Fields;

const DAY: Duration = Duration::from_hours(24);

/// What expires within this should have been renewed: whoever renews by a timer does so a month ahead.
const SOON: Duration = Duration::from_hours(14 * 24);

/// From when until when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    from: SystemTime,
    until: SystemTime,
}

impl Validity {
    /// That of this certificate.
    pub(super) fn of(certificate: &[u8]) -> der::Result<Self> {
        Ok(Fields::of(certificate)?.validity)
    }

    /// Both ends, from the sequence that has them.
    pub(super) fn read<'r>(both: &mut impl Reader<'r>) -> der::Result<Self> {
        both.sequence(|both| Ok(Self { from: time(both)?, until: time(both)? }))
    }

    /// When it ends.
    pub(crate) fn until(&self) -> Timestamp {
        shown(self.until)
    }

    /// What a person has to see to, if anything: the end of a sentence that begins with the certificate.
    pub(crate) fn trouble(&self, now: SystemTime) -> Option<String> {
        let (from, until) = (shown(self.from), shown(self.until));
        if now < self.from {
            return Some(format!(
                "is good only from {from} on, and until then clients refuse it; put one there that is good now, or mend this \
                 machine's clock"
            ));
        }
        match self.until.duration_since(now) {
            Err(ago) => {
                let ago = days(ago.duration());
                Some(format!("has expired on {until}, {ago} ago, and clients refuse it; put a new one there"))
            }
            Ok(left) if left < SOON => {
                Some(format!("expires on {until}, in {}; put a new one there before that", days(left)))
            }
            Ok(_) => None,
        }
    }

    /// The same of an authority's.
    pub(super) fn trouble_of_authority(&self, now: SystemTime) -> Option<String> {
        let (from, until) = (shown(self.from), shown(self.until));
        if now < self.from {
            return Some(format!(
                "is good only from {from} on: an authority that is not good yet; mend this machine's clock, or put one there \
                 that is good now"
            ));
        }
        match self.until.duration_since(now) {
            Err(ago) => Some(format!(
                "has expired on {until}, {} ago; put a new one there, and let it sign the callers' certificates anew",
                days(ago.duration())
            )),
            Ok(left) if left < SOON => Some(format!(
                "expires on {until}, in {}; put a new one beside it before that, and let it sign the callers' certificates anew",
                days(left)
            )),
            Ok(_) => None,
        }
    }
}

fn time<'r>(reader: &mut impl Reader<'r>) -> der::Result<SystemTime> {
    match reader.peek_tag()? {
        Tag::UtcTime => UtcTime::decode(reader).map(|time| time.to_system_time()),
        _ => GeneralizedTime::decode(reader).map(|time| time.to_system_time()),
    }
}

fn shown(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX)
}

fn days(span: Duration) -> String {
    match span.as_secs() / DAY.as_secs() {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn at(text: &str) -> SystemTime {
        text.parse::<Timestamp>().unwrap().into()
    }

    fn certificate(until: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2026, 1, 31);
        params.not_after = date_time_ymd(until, 3, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    /// Years from 2050 on are written in another way.
    #[test]
    fn it_is_read_out_of_the_certificate() {
        for until in [2026, 2049, 2050, 2999] {
            let validity = Validity::of(&certificate(until)).unwrap();
            let expected =
                Validity { from: at("2026-01-31T00:00:00Z"), until: at(&format!("{until}-03-01T00:00:00Z")) };
            assert_eq!(validity, expected);
        }
    }

    #[test]
    fn what_is_no_certificate_has_none() {
        let whole = certificate(2026);
        for wrong in [&[][..], b"\x30\x03\x02\x01\x01", &whole[..100]] {
            assert!(Validity::of(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn there_is_trouble_around_both_ends() {
        let validity = Validity { from: at("2026-01-31T00:00:00Z"), until: at("2026-03-01T00:00:00Z") };
        let trouble = |now| validity.trouble(at(now)).unwrap_or_default();
        assert!(trouble("2026-01-30T23:59:59Z").starts_with("is good only from 2026-01-31T00:00:00Z on"));
        assert_eq!(trouble("2026-01-31T00:00:00Z"), "");
        assert_eq!(trouble("2026-02-15T00:00:00Z"), "");
        assert!(trouble("2026-02-15T00:00:01Z").starts_with("expires on 2026-03-01T00:00:00Z, in 13 days;"));
        assert!(
            trouble("2026-03-01T00:00:00Z")
                .starts_with("expires on 2026-03-01T00:00:00Z, in less than a day;")
        );
        assert!(
            trouble("2026-03-02T12:00:00Z").starts_with("has expired on 2026-03-01T00:00:00Z, 1 day ago,")
        );
    }
}
