//! [`check`]: whether a node can run a file, from what the file says of itself and from what the node has.

use thiserror::Error;

use crate::refusal::{Refusal, quoted};
use crate::{Found, Hazard, Inspection, NeededLibrary, Node, Target};

/// Why a node can't run a file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", self.refusal())]
#[non_exhaustive]
pub enum CompatError {
    /// It asks the loader for something that no module may, on any node.
    Hazard(Hazard),
    /// Built for another machine or libc.
    Target {
        /// What it was built for.
        found: Target,
        /// What the node is.
        expected: Target,
    },
    /// Built for another ABI.
    Abi {
        /// The ABI that it was built for.
        found: u32,
        /// The ABI that the node's hosts speak.
        expected: u32,
    },
    /// The exported table is of another ABI than the metadata says.
    EntryAbi {
        /// The ABI in the table.
        found: u32,
        /// The ABI in the metadata.
        expected: u32,
    },
    /// It needs a library that the node does not have.
    LibraryMissing {
        /// The library.
        name: String,
    },
    /// It needs a library that the node has, but not for modules.
    LibraryNotAllowed {
        /// The library.
        name: String,
    },
    /// It needs a symbol version that the node's library does not define.
    LibraryVersion {
        /// The library.
        library: String,
        /// The version.
        version: String,
        /// The newest version of the same name that the library defines.
        newest: Option<String>,
    },
    /// It keeps state, which is not served yet.
    StateNotServed {
        /// The schema of its state.
        schema: u32,
    },
    /// It calls other modules, which is not served yet.
    RequiresNotServed {
        /// The first one, with its range.
        first: String,
    },
}

impl CompatError {
    /// The same in four parts and with a stable code.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Hazard(hazard) => hazard.refusal(),
            Self::Target { found, expected } => Refusal::new(
                "compat.target",
                "target",
                found.to_string(),
                expected.to_string(),
                "build the module for this node's machine and libc",
            ),
            Self::Abi { found, expected } => Refusal::new(
                "compat.abi",
                "abi",
                found.to_string(),
                expected.to_string(),
                if found > expected {
                    "update hotd, or build the module with an older SDK"
                } else {
                    "build the module again with the SDK of this hotd"
                },
            ),
            Self::EntryAbi { found, expected } => Refusal::new(
                "compat.entry_abi",
                hot_module::ENTRY_SYMBOL,
                format!("a table of ABI {found}"),
                format!("ABI {expected}, as the metadata says"),
                "build metadata and table with one SDK",
            ),
            Self::LibraryMissing { name } => Refusal::new(
                "compat.library_missing",
                "needed library",
                format!("no {} on this node", quoted(name)),
                "a library that the node's loader finds",
                "install it on the node, or link it into the module",
            ),
            Self::LibraryNotAllowed { name } => Refusal::new(
                "compat.library_not_allowed",
                "needed library",
                quoted(name),
                "a library that this node allows to modules",
                "link it into the module, or allow it in libraries under [trust]",
            ),
            Self::LibraryVersion { library, version, newest } => Refusal::new(
                "compat.library_version",
                "needed symbol version",
                format!("{} of {}", quoted(version), quoted(library)),
                match newest {
                    Some(newest) => {
                        format!("a version that this node's library has, up to {}", quoted(newest))
                    }
                    None => "a version that this node's library has".to_owned(),
                },
                "build the module on a system that is as old as the node, or update the node",
            ),
            Self::StateNotServed { schema } => Refusal::new(
                "compat.state_not_served",
                "state",
                format!("a state of schema {schema}"),
                "a stateless module",
                "this version of hotd does not keep state yet and a later one will; remove `state`",
            ),
            Self::RequiresNotServed { first } => Refusal::new(
                "compat.requires_not_served",
                "requires",
                format!("`{first}`"),
                "a module that calls no others",
                "this version of hotd does not serve calls between modules yet and a later one will; remove `requires`",
            ),
        }
    }
}

/// Every reason why `node`, on which the libraries `found` are, can't run `file`: what no node can first, then what this
/// one can't, then what is not served yet. None: it can.
///
/// Pure: the caller has looked for the libraries ([`Node::find`]; [`Node::judge`] does both).
#[must_use]
pub fn check(file: &Inspection, node: &Node, found: &Found) -> Vec<CompatError> {
    let mut reasons: Vec<_> = file.hazards.iter().cloned().map(CompatError::Hazard).collect();
    let metadata = &file.metadata;
    if metadata.abi != node.abi {
        reasons.push(CompatError::Abi { found: metadata.abi, expected: node.abi });
    }
    if file.entry.abi != metadata.abi {
        reasons.push(CompatError::EntryAbi { found: file.entry.abi, expected: metadata.abi });
    }
    if file.target.runs_on(node.target) {
        reasons.extend(file.needed.iter().flat_map(|library| check_library(library, node, found)));
    } else {
        // Its libraries are those of another machine; that they are missing is no news.
        reasons.push(CompatError::Target { found: file.target, expected: node.target });
    }
    if let Some(state) = &metadata.state {
        reasons.push(CompatError::StateNotServed { schema: state.schema });
    }
    if let Some(first) = metadata.requires.first() {
        reasons.push(CompatError::RequiresNotServed { first: first.to_string() });
    }
    reasons
}

fn check_library(needed: &NeededLibrary, node: &Node, found: &Found) -> Vec<CompatError> {
    let name = &needed.name;
    if Hazard::of_name(name).is_some() {
        // Said already.
        return Vec::new();
    }
    if !node.libraries.allows(name) {
        return vec![CompatError::LibraryNotAllowed { name: name.clone() }];
    }
    let Some(library) = found.get(name) else {
        return vec![CompatError::LibraryMissing { name: name.clone() }];
    };
    // The loader asks a library without versions for none.
    let lacks = |version: &&String| !library.versions.is_empty() && !library.versions.contains(version);
    let error = |version: &String| CompatError::LibraryVersion {
        library: name.clone(),
        version: version.clone(),
        newest: newest_like(version, &library.versions),
    };
    needed.versions.iter().filter(lacks).map(error).collect()
}

/// The newest of the versions that have the same name as `version` before their numbers, e.g. `GLIBC_`.
fn newest_like(version: &str, versions: &[String]) -> Option<String> {
    let (name, _) = split(version)?;
    let same = versions.iter().filter_map(|other| Some((split(other)?, other)));
    same.filter(|((other, _), _)| *other == name)
        .max_by_key(|((_, numbers), _)| numbers.clone())
        .map(|(_, other)| other.clone())
}

/// `GLIBC_2.34` as `GLIBC` and [2, 34].
fn split(version: &str) -> Option<(&str, Vec<u32>)> {
    let (name, numbers) = version.rsplit_once('_')?;
    Some((name, numbers.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests;
