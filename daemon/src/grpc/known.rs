//! What a caller names and this node must know: modules and their releases. Where it does not, the answer says which there
//! are, those first that the name is most likely a slip for.

use std::sync::Arc;

use hot_artifact::ModuleName;
use hot_rollout::{Module, ReleaseNumber};
use tonic::Status;

use super::Api;
use super::status::not_found;
use crate::near;
use crate::store::ModuleRecord;

/// So many names are said; a longer sentence would be a list.
const MAX_NAMED: usize = 8;

impl Api {
    /// The record of a module that is or was here.
    pub(super) fn known(&self, name: &ModuleName) -> Result<Arc<ModuleRecord>, Status> {
        self.ledger.module(name).ok_or_else(|| {
            let listed = self.listed();
            let names: Vec<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
            not_found("module", format!("no module is named {name}"), modules(name.as_str(), names))
        })
    }

    /// The release that a caller names, 0 for none in particular.
    pub(super) fn known_release(
        name: &ModuleName,
        record: &ModuleRecord,
        release: u64,
    ) -> Result<Option<ReleaseNumber>, Status> {
        if release == 0 || record.releases().contains_key(&release) {
            return Ok((release != 0).then_some(ReleaseNumber(release)));
        }
        let numbers: Vec<u64> = record.releases().keys().copied().collect();
        Err(not_found("release", format!("{name} has no release {release}"), releases(name, &numbers)))
    }

    /// The modules that a list shows: of one that was removed only its versions' tombstones are left.
    pub(super) fn listed(&self) -> Vec<(ModuleName, Arc<ModuleRecord>)> {
        let mut modules = self.ledger.modules();
        modules.retain(|(name, record)| self.is_here(name, record));
        modules
    }

    /// Something of the module is stored or runs.
    pub(super) fn is_here(&self, name: &ModuleName, record: &ModuleRecord) -> bool {
        !record.versions().is_empty() || self.agent.runs(&Module(name.to_string()))
    }
}

/// Which modules there are, for one who asked for `name`.
fn modules(name: &str, mut known: Vec<&str>) -> String {
    known.sort_by_cached_key(|known| (near::distance(name, known), (*known).to_owned()));
    let meant = near::similar(name, &known);
    let there = match (known.as_slice(), meant) {
        ([], _) => return "This node has no module yet; push one with `hotctl push FILE`.".to_owned(),
        ([only], Some(_)) => return format!("Did you mean {only}, the only one here?"),
        ([only], None) => format!("The only one here is {only}."),
        ([all @ .., last], _) if known.len() <= MAX_NAMED => {
            format!("Here are {} and {last}.", all.join(", "))
        }
        (many, _) => format!(
            "Here are {} and {} more; `hotctl status` lists them.",
            many[..MAX_NAMED].join(", "),
            many.len() - MAX_NAMED
        ),
    };
    match meant {
        Some(meant) => format!("Did you mean {meant}? {there}"),
        None => there,
    }
}

/// Which releases a module has, for one who asked for another.
fn releases(name: &ModuleName, numbers: &[u64]) -> String {
    match numbers {
        [] => format!("It has none; `hotctl history {name}` says what became of it."),
        [only] => format!("Its only release is {only}."),
        [first, .., last] => {
            format!("Its releases are {first} to {last}; `hotctl history {name}` says what each is.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first() {
        assert_eq!(
            modules("greetr", vec!["auth", "greeter", "hello-c"]),
            "Did you mean greeter? Here are greeter, auth and hello-c."
        );
        assert_eq!(modules("greetr", vec!["greeter"]), "Did you mean greeter, the only one here?");
        assert_eq!(modules("x", vec!["greeter"]), "The only one here is greeter.");
        assert_eq!(modules("x", vec![]), "This node has no module yet; push one with `hotctl push FILE`.");
        let many: Vec<String> = (0..30).map(|n| format!("module-{n}")).collect();
        let text = modules("module-x", many.iter().map(String::as_str).collect());
        assert!(text.starts_with("Did you mean module-0? Here are module-0, module-1, "), "{text}");
        assert!(text.ends_with(" and 22 more; `hotctl status` lists them."), "{text}");
    }

    #[test]
    fn the_releases_are_said() {
        let name: ModuleName = "greeter".parse().unwrap();
        assert_eq!(releases(&name, &[3]), "Its only release is 3.");
        assert!(releases(&name, &[2, 3, 5]).starts_with("Its releases are 2 to 5; `hotctl history greeter`"));
        assert!(releases(&name, &[]).starts_with("It has none"));
    }
}
