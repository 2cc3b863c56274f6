//! The armour: `-----BEGIN SSH SIGNATURE-----`, base64, `-----END SSH SIGNATURE-----`.

use base64ct::{Base64, Encoding as _};

use super::SignatureError;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";

/// Columns of base64 in what `ssh-keygen` writes.
const COLUMNS: usize = 70;

/// Most bytes of an armoured signature: one by a 4096-bit RSA key, the largest accepted, has 1.7 KiB.
const MAX_ARMOUR: usize = 8 * 1024;

/// The blob inside of an armour.
///
/// As with `ssh-keygen`, nothing may stand before the first line. Stricter than it: nothing may follow but the end of
/// the last line (it ignores the rest, even a second armour), within there is base64 and line ends only (it skips white
/// space everywhere), and lines end with LF (it refuses CRLF in the first line only).
pub(super) fn decode(text: &[u8]) -> Result<Vec<u8>, SignatureError> {
    let malformed = |problem| SignatureError::Malformed { problem };
    if text.is_empty() {
        return Err(SignatureError::Missing);
    }
    if text.len() > MAX_ARMOUR {
        return Err(malformed("more than 8 KiB"));
    }
    let text = std::str::from_utf8(text).map_err(|_error| malformed("bytes that are not text"))?;
    let body = text
        .strip_prefix(BEGIN)
        .ok_or_else(|| malformed("no `-----BEGIN SSH SIGNATURE-----` at the start"))?;
    if !body.starts_with('\n') {
        return Err(malformed("more than the BEGIN marker on its line"));
    }
    let (body, rest) = body.split_once(END).ok_or_else(|| malformed("no `-----END SSH SIGNATURE-----`"))?;
    if !matches!(rest, "" | "\n") {
        return Err(malformed("something behind the END marker"));
    }
    if !body.ends_with('\n') {
        return Err(malformed("an END marker that is not at the start of its line"));
    }
    match Base64::decode_vec(&body.replace('\n', "")) {
        Ok(blob) if !blob.is_empty() => Ok(blob),
        Ok(_) => Err(malformed("nothing between the markers")),
        Err(_) => Err(malformed("something else than base64 between the markers")),
    }
}

/// The armour of a blob, byte for byte as `ssh-keygen -Y sign` writes it.
pub(super) fn encode(blob: &[u8]) -> String {
    let base64 = Base64::encode_string(blob);
    let mut text = format!("{BEGIN}\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(COLUMNS));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(END);
    text.push('\n');
    text
}
