//! [`Krl`]: a key revocation list in OpenSSH's binary format (`PROTOCOL.krl`), as `ssh-keygen -k` makes them.
//!
//! Nothing in it is skipped: a list with a part that is not understood is refused as a whole, because what it revokes
//! would count. Its parts stay in the form that they have in the file, so that it takes no more memory than that.

use std::collections::{HashMap, HashSet};

use sha2::Digest as _;

use crate::signature::{Certificate, PublicKey, Wire};

pub(super) const MAGIC: &[u8] = b"SSHKRL\n\0";

const FORMAT: u32 = 1;

const CERTIFICATES: u8 = 1;
const EXPLICIT_KEYS: u8 = 2;
const SHA1_FINGERPRINTS: u8 = 3;
const SIGNATURE: u8 = 4;
const SHA256_FINGERPRINTS: u8 = 5;

const SERIAL_LIST: u8 = 0x20;
const SERIAL_RANGE: u8 = 0x21;
const SERIAL_BITMAP: u8 = 0x22;
const KEY_ID: u8 = 0x23;

/// Most bytes of a bitmap of serial numbers, as OpenSSH has it (16384 bits).
const MAX_BITMAP: usize = 2048;

/// What a list revokes.
#[derive(Debug, Clone, Default)]
pub(super) struct Krl {
    keys: HashSet<Vec<u8>>,
    sha1: HashSet<[u8; 20]>,
    sha256: HashSet<[u8; 32]>,
    /// By the authority's key in SSH's wire format; under an empty one, of all authorities.
    certificates: HashMap<Vec<u8>, Certificates>,
}

/// What is revoked of one authority's certificates.
#[derive(Debug, Clone, Default)]
struct Certificates {
    serials: HashSet<u64>,
    /// Both ends are inside.
    ranges: Vec<(u64, u64)>,
    /// The serial number of the lowest bit, and the bits, highest first.
    bitmaps: Vec<(u64, Vec<u8>)>,
    ids: HashSet<String>,
}

/// Where in a list a key was found.
pub(super) const BY_KEY: &str = "its key is listed";
pub(super) const BY_FINGERPRINT: &str = "its key's fingerprint is listed";
pub(super) const BY_SERIAL: &str = "its certificate's serial number is listed";
pub(super) const BY_ID: &str = "its certificate's id is listed";

impl Krl {
    /// Parses a list, magic included.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        const CUT: &str = "a KRL that was cut short";
        let mut wire = Wire::new(bytes.strip_prefix(MAGIC).ok_or("no KRL")?);
        if wire.u32().ok_or(CUT)? != FORMAT {
            return Err("a KRL of an unknown format version");
        }
        let _version_date_flags = (wire.u64().ok_or(CUT)?, wire.u64().ok_or(CUT)?, wire.u64().ok_or(CUT)?);
        let _reserved = wire.string().ok_or(CUT)?;
        let _comment = wire.text().ok_or("a KRL whose comment is cut short or not text")?;
        let mut krl = Self::default();
        while let Some(kind) = wire.u8() {
            let section = Wire::new(wire.string().ok_or(CUT)?);
            match kind {
                CERTIFICATES => krl.certificates(section)?,
                EXPLICIT_KEYS => each(section, |blob| {
                    krl.keys.insert(blob.to_vec());
                    Some(())
                })?,
                SHA1_FINGERPRINTS => each(section, |hash| {
                    krl.sha1.insert(hash.try_into().ok()?);
                    Some(())
                })?,
                SHA256_FINGERPRINTS => each(section, |hash| {
                    krl.sha256.insert(hash.try_into().ok()?);
                    Some(())
                })?,
                SIGNATURE => return Err("a signed KRL, which is not supported; make it without a signature"),
                _ => return Err("a KRL with a section that is not known"),
            }
        }
        Ok(krl)
    }

    fn certificates(&mut self, mut section: Wire<'_>) -> Result<(), &'static str> {
        const WRONG: &str = "a KRL with a malformed list of certificates";
        let authority = section.string().ok_or(WRONG)?;
        let _reserved = section.string().ok_or(WRONG)?;
        if !authority.is_empty() {
            // One that is too weak to be an authority here may be listed all the same.
            if !PublicKey::is_readable(authority) {
                return Err("a KRL with an authority that is malformed or of a kind that is not supported");
            }
        }
        let of = self.certificates.entry(authority.to_vec()).or_default();
        while let Some(kind) = section.u8() {
            let part = Wire::new(section.string().ok_or(WRONG)?);
            of.add(kind, part).ok_or(WRONG)?;
        }
        Ok(())
    }

    /// By what a key is revoked, if it is.
    pub(super) fn revokes_key(&self, key: &PublicKey) -> Option<&'static str> {
        let blob = key.as_blob();
        if self.sha1.contains(<[u8; 20]>::from(sha1::Sha1::digest(blob)).as_slice())
            || self.sha256.contains(<[u8; 32]>::from(sha2::Sha256::digest(blob)).as_slice())
        {
            return Some(BY_FINGERPRINT);
        }
        self.keys.contains(blob).then_some(BY_KEY)
    }

    /// By what a certificate is revoked besides its keys, if it is.
    pub(super) fn revokes_certificate(&self, certificate: &Certificate) -> Option<&'static str> {
        let lists = [certificate.authority().as_blob(), &[]];
        lists.iter().filter_map(|authority| self.certificates.get(*authority)).find_map(|of| {
            if of.ids.contains(&certificate.id) {
                return Some(BY_ID);
            }
            of.has_serial(certificate.serial).then_some(BY_SERIAL)
        })
    }
}

impl Certificates {
    fn add(&mut self, kind: u8, mut part: Wire<'_>) -> Option<()> {
        // A serial number of zero is none: OpenSSH refuses lists that have it.
        let serial = |part: &mut Wire<'_>| part.u64().filter(|serial| *serial != 0);
        match kind {
            SERIAL_LIST => {
                while !part.is_empty() {
                    self.serials.insert(serial(&mut part)?);
                }
            }
            SERIAL_RANGE => {
                let (low, high) = (serial(&mut part)?, serial(&mut part)?);
                if low > high {
                    return None;
                }
                self.ranges.push((low, high));
            }
            SERIAL_BITMAP => {
                let low = part.u64()?;
                let bits = part.string()?;
                // An `mpint`, and so not negative; zeros before it are no matter.
                if bits.first().is_some_and(|byte| byte & 0x80 != 0) {
                    return None;
                }
                let len = bits.len();
                let bits = &bits[bits.iter().take_while(|byte| **byte == 0).count()..];
                let zeros = bits.first().map_or(0, |byte| byte.leading_zeros());
                let highest = (bits.len() as u64 * 8).saturating_sub(u64::from(zeros) + 1);
                let has_zero = low == 0 && bits.last().is_some_and(|byte| byte & 1 == 1);
                if len > MAX_BITMAP + 1
                    || bits.len() > MAX_BITMAP
                    || low.checked_add(highest).is_none()
                    || has_zero
                {
                    return None;
                }
                self.bitmaps.push((low, bits.to_vec()));
            }
            KEY_ID => {
                while !part.is_empty() {
                    self.ids.insert(part.text()?.to_owned());
                }
            }
            _ => return None,
        }
        part.end()
    }

    fn has_serial(&self, serial: u64) -> bool {
        let in_bitmap = |(low, bits): &(u64, Vec<u8>)| {
            let Some(bit) = serial.checked_sub(*low).and_then(|bit| usize::try_from(bit).ok()) else {
                return false;
            };
            bits.len().checked_sub(1 + bit / 8).is_some_and(|index| bits[index] >> (bit % 8) & 1 == 1)
        };
        serial != 0
            && (self.serials.contains(&serial)
                || self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&serial))
                || self.bitmaps.iter().any(in_bitmap))
    }
}

/// Each `string` of a section.
fn each(mut section: Wire<'_>, mut take: impl FnMut(&[u8]) -> Option<()>) -> Result<(), &'static str> {
    while !section.is_empty() {
        section.string().and_then(&mut take).ok_or("a KRL with a malformed list of keys")?;
    }
    Ok(())
}
