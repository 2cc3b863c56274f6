//! The query of a target as names and values: `application/x-www-form-urlencoded`, as the URL standard decodes it.

use std::borrow::Cow;
use std::string::String;
use std::vec::Vec;

/// The pairs of a query or of a form, in their order, decoded. An empty part between two `&` is no pair.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    text.split('&').filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(name), decode(value))
    })
}

/// `+` is a space, `%41` is `A`, any other percent sign is itself; what is not UTF-8 then becomes U+FFFD.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match (first, tail) {
            (b'+', tail) => (b' ', tail),
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high * 16 + low, after),
                _ => (b'%', tail),
            },
            (other, tail) => (*other, tail),
        };
        out.push(byte);
        rest = tail;
    }
    Cow::Owned(match String::from_utf8(out) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<(String, String)> {
        pairs(text).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    }

    #[test]
    fn pairs_come_decoded_and_in_order() {
        let expected = [("a", "1"), ("b c", "d e"), ("é", "100%"), ("", "x"), ("bare", "")];
        let expected: Vec<_> = expected.map(|(name, value)| (name.into(), value.into())).into();
        assert_eq!(all("a=1&b+c=d%20e&&%C3%A9=100%&=x&bare"), expected);
        assert!(all("").is_empty());
    }

    #[test]
    fn what_is_no_escape_stays_and_what_is_no_text_is_replaced() {
        assert_eq!(
            all("a=%4&b=%zz&c=%%41&d=%ff"),
            [
                ("a".into(), "%4".into()),
                ("b".into(), "%zz".into()),
                ("c".into(), "%A".into()),
                ("d".into(), "\u{fffd}".into())
            ]
        );
    }
}
