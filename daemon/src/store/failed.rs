//! What went wrong with the store, in words.

use std::error::Error;
use std::io::ErrorKind;

/// What went wrong as a sentence without the places of files, and whether the disk is full.
pub(crate) fn failed(error: &(dyn Error + 'static)) -> (String, bool) {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    ("the disk of this node is full".to_owned(), true)
                }
                kind => (format!("the disk of this node failed: {kind}"), false),
            };
        }
        cause = error.source();
    }
    (crate::describe(error), false)
}
