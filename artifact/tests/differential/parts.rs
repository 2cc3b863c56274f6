//! The bytes that cases are put together of: SSH's wire format, SSHSIG, armour, and KRLs, all with room for mistakes.

use base64ct::{Base64, Encoding as _};
use jiff::Timestamp;

use crate::Case;

pub(crate) fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let len = u32::try_from(bytes.len()).expect("short");
    [&len.to_be_bytes(), bytes].concat()
}

/// The content of an `mpint` that is positive, from bytes of a fixed length.
pub(crate) fn mpint(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let number = &bytes[start..];
    if number.first().is_some_and(|byte| byte & 0x80 != 0) {
        [&[0], number].concat()
    } else {
        number.to_vec()
    }
}

/// The strings that `bytes` is made of, to its end; whatever is left over is the last.
pub(crate) fn strings(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        let len = u32::from_be_bytes(*len) as usize;
        let Some((head, tail)) = rest.split_at_checked(len) else { break };
        found.push(head.to_vec());
        bytes = tail;
    }
    if !bytes.is_empty() {
        found.push(bytes.to_vec());
    }
    found
}

/// The blob of an SSHSIG, in its parts: any of them may be wrong.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) magic: Vec<u8>,
    pub(crate) version: u32,
    pub(crate) key: Vec<u8>,
    pub(crate) namespace: Vec<u8>,
    pub(crate) reserved: Vec<u8>,
    pub(crate) hash: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) behind: Vec<u8>,
}

impl Blob {
    pub(crate) fn new(key: Vec<u8>, namespace: &str, hash: &str, value: Vec<u8>) -> Self {
        Self {
            magic: b"SSHSIG".to_vec(),
            version: 1,
            key,
            namespace: namespace.into(),
            reserved: Vec::new(),
            hash: hash.into(),
            value,
            behind: Vec::new(),
        }
    }

    /// Out of an armour that is good.
    pub(crate) fn read(armoured: &[u8]) -> Self {
        let bytes = unarmour(armoured);
        let mut fields = strings(&bytes[10..]).into_iter();
        let mut field = || fields.next().expect("a field");
        Self {
            magic: bytes[..6].to_vec(),
            version: u32::from_be_bytes(bytes[6..10].try_into().expect("four")),
            key: field(),
            namespace: field(),
            reserved: field(),
            hash: field(),
            value: field(),
            behind: Vec::new(),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let fields = [&self.key, &self.namespace, &self.reserved, &self.hash, &self.value];
        let fields = fields.map(string).concat();
        [self.magic.as_slice(), &self.version.to_be_bytes(), &fields, &self.behind].concat()
    }

    pub(crate) fn armoured(&self) -> Vec<u8> {
        armour(&self.bytes(), 70)
    }
}

/// What a signature of bytes with this digest is of.
pub(crate) fn signed_data(namespace: &str, hash: &str, digest: &[u8]) -> Vec<u8> {
    [b"SSHSIG".to_vec(), string(namespace), string(""), string(hash), string(digest)].concat()
}

pub(crate) const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
pub(crate) const END: &str = "-----END SSH SIGNATURE-----";

pub(crate) fn armour(blob: &[u8], columns: usize) -> Vec<u8> {
    let base64 = Base64::encode_string(blob);
    let mut text = format!("{BEGIN}\n");
    for line in base64.as_bytes().chunks(columns) {
        text.push_str(std::str::from_utf8(line).expect("base64"));
        text.push('\n');
    }
    format!("{text}{END}\n").into_bytes()
}

pub(crate) fn unarmour(armoured: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(armoured).expect("text");
    let body =
        text.trim_end().strip_prefix(BEGIN).and_then(|text| text.strip_suffix(END)).expect("an armour");
    Base64::decode_vec(&body.replace('\n', "")).expect("base64")
}

/// [`unarmour`] of what may no longer be an armour.
pub(crate) fn unarmour_or_empty(armoured: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(armoured);
    let body = text.trim_end().strip_prefix(BEGIN).and_then(|text| text.split(END).next());
    body.and_then(|body| Base64::decode_vec(&body.replace('\n', "")).ok()).unwrap_or_default()
}

/// A KRL out of sections, each a kind and its content.
pub(crate) fn krl(sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"SSHKRL\n\0\0\0\0\x01".to_vec();
    for number in [1_u64, 1_700_000_000, 0] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend([string(""), string("made by the tests")].concat());
    for (kind, content) in sections {
        bytes.push(*kind);
        bytes.extend(string(content));
    }
    bytes
}

/// The content of a section about certificates of one authority (or of all, if empty).
pub(crate) fn krl_certificates(authority: &[u8], parts: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = [string(authority), string("")].concat();
    for (kind, content) in parts {
        bytes.push(*kind);
        bytes.extend(string(content));
    }
    bytes
}

/// A time as the options of `allowed_signers` have it.
pub(crate) fn utc(seconds: u64) -> String {
    let time = Timestamp::from_second(seconds.try_into().expect("a time")).expect("a time");
    time.strftime("%Y%m%d%H%M%SZ").to_string()
}

/// A case as a person can look into it.
pub(crate) fn shown(case: &Case) -> String {
    format!(
        "now: {} principal: {}\nallowed_signers: {:?}\nrevoked: {:?}\nsignature: {:?}\nbytes: {:?}",
        utc(case.now),
        case.principal,
        String::from_utf8_lossy(&case.signers),
        case.revoked.as_ref().map(|bytes| Base64::encode_string(bytes)),
        String::from_utf8_lossy(&case.signature),
        String::from_utf8_lossy(&case.bytes),
    )
}
