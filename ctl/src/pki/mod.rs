//! A small authority in a folder: its certificate and key, and the certificates of nodes and people that it signs.
//!
//! Owns what is in a certificate and how the files are written. Asks no node, and knows of no revocation: whoever's
//! certificate must count no more gets another authority (docs/pki.md).

mod authority;
mod files;
mod leaf;
mod reading;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::SerialNumber;
use thiserror::Error;

pub(crate) use authority::Authority;
pub(crate) use files::{must_be_free, new_folder, write_new, write_over};
pub(crate) use leaf::{Address, Issued, Subject};

use crate::failure::Failure;

/// Clocks of machines differ by less than this.
const BACKDATED: Duration = Duration::from_secs(5 * 60);

const DAY: Duration = Duration::from_hours(24);

/// Why a certificate was not made, or a file not written.
#[derive(Debug, Error)]
pub(crate) enum PkiError {
    /// Files are there already.
    #[error("{} is there already, and nothing is overwritten; {advice}", path.display())]
    Exists { path: PathBuf, advice: &'static str },
    /// A file can't be read.
    #[error("{} can't be read: {source}; {advice}", path.display())]
    Read { path: PathBuf, source: io::Error, advice: &'static str },
    /// A file can't be written.
    #[error("{} can't be written: {source}; check the folder and its permissions", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// A key can't be given back to its user.
    #[error(
        "{} belongs to another user, and the new one can't be given to that user: {source}; nothing was changed: renew as that \
         user, or as root", path.display()
    )]
    Owner { path: PathBuf, source: io::Error },
    /// A file has something else in it.
    #[error("{} has no {expected}: {found}", path.display())]
    Content { path: PathBuf, expected: &'static str, found: String },
    /// The key is not the certificate's.
    #[error(
        "the key in {} is not that of the certificate in {}, expected those that `hotctl pki init` made together", key.display(),
        certificate.display()
    )]
    Mismatch { certificate: PathBuf, key: PathBuf },
    /// The authority is over.
    #[error(
        "the authority in {} has expired on {until}, and nobody takes what it signs; make another one with `hotctl pki init`",
        path.display()
    )]
    Expired { path: PathBuf, until: String },
    /// rcgen does not make it.
    #[error("the certificate can't be made: {0}")]
    Make(#[from] rcgen::Error),
}

impl PkiError {
    const fn code(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "pki.exists",
            Self::Read { .. } => "file.not_read",
            Self::Write { .. } | Self::Owner { .. } => "file.not_written",
            Self::Content { .. } | Self::Mismatch { .. } => "pki.malformed",
            Self::Expired { .. } => "pki.expired",
            Self::Make(_) => "pki.not_made",
        }
    }
}

impl From<PkiError> for Failure {
    fn from(error: PkiError) -> Self {
        Self::failed(error.code(), &error)
    }
}

/// A number that nobody can guess and no other certificate has.
fn serial() -> SerialNumber {
    let mut number: [u8; 16] = rand::random();
    // Positive, and always as long.
    number[0] = number[0] & 0x7f | 0x40;
    SerialNumber::from(number.to_vec())
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A time as it is shown.
fn shown(seconds: i64) -> String {
    crate::words::time(prost_types::Timestamp { seconds, nanos: 0 })
}

#[cfg(test)]
mod tests;
