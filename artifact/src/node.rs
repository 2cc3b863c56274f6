//! [`Node`]: what a machine has for modules.

use std::collections::BTreeMap;

use crate::{CompatError, Inspection, Libraries, Library, NeededLibrary, Target, check};

/// What a node can run.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its machine and libc.
    pub target: Target,
    /// The ABI that its hosts speak.
    pub abi: u32,
    /// Its libraries.
    pub libraries: Libraries,
}

/// Libraries that were looked for and are there, by the name under which they are needed.
pub type Found = BTreeMap<String, Library>;

impl Node {
    /// This machine, with the hosts of this version and with the libraries of its system, all of them allowed.
    #[must_use]
    pub fn native() -> Self {
        let target = Target::native();
        Self { target, abi: hot_module::ABI, libraries: Libraries::of_system(target) }
    }

    /// Looks for the libraries that are needed, now: what is installed or upgraded meanwhile counts.
    #[must_use]
    pub fn find(&self, needed: &[NeededLibrary]) -> Found {
        let find =
            |library: &NeededLibrary| Some((library.name.clone(), self.libraries.find(&library.name)?));
        needed.iter().filter_map(find).collect()
    }

    /// Every reason why this node can't run a file, with its libraries as they are now.
    #[must_use]
    pub fn judge(&self, file: &Inspection) -> Vec<CompatError> {
        check(file, self, &self.find(&file.needed))
    }
}
