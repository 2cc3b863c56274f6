//! How the lines of a file of allowed signers stand now, and saying it.

use std::time::SystemTime;

use hot_artifact::signature::MODULE_NAMESPACE;
use hot_artifact::trust::{Allowed, Listed, Standing, standings};

use crate::failure::Failure;
use crate::trust::TrustFiles;

/// How each line stands now, by the revoked keys that are known.
pub(super) fn now(listed: &[Listed], files: &TrustFiles) -> Result<Vec<Option<Standing>>, Failure> {
    Ok(standings(listed, MODULE_NAMESPACE, &files.read_revoked()?, SystemTime::now()))
}

/// Why an entry does not count now, as the end of a sentence. `None`: it counts.
pub(super) fn why_not(standing: &Standing, of: &Allowed) -> Option<String> {
    let time = |time: Option<String>| time.unwrap_or_default();
    Some(match standing {
        Standing::Counts => return None,
        Standing::Revoked { by } => format!("revoked: {by}"),
        Standing::OtherNamespace => format!("not for {MODULE_NAMESPACE}"),
        Standing::Expired => format!("expired since {}", time(of.valid_before())),
        Standing::NotYet => format!("not before {}", time(of.valid_after())),
        Standing::Behind { line, until: None } => {
            format!("never reached: line {line} has the same key and comes first")
        }
        Standing::Behind { line, until: Some(until) } => {
            format!("not reached until {until}: line {line} has the same key and comes first")
        }
    })
}

/// What to say where no list of revoked keys is known.
pub(super) const NO_REVOKED: &str = "revoked keys were not looked at: name their file with --revoked FILE";
