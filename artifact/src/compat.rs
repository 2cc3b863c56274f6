//! [`check`]: whether a node can run a file, from what the file says of itself.

use thiserror::Error;

use crate::refusal::Refusal;
use crate::{Metadata, Target};

/// What a node can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Its machine and libc.
    pub target: Target,
    /// The ABI that its hosts speak.
    pub abi: u32,
}

impl Node {
    /// This machine, with the hosts of this version.
    #[must_use]
    pub const fn native() -> Self {
        Self { target: Target::native(), abi: hot_module::ABI }
    }
}

/// Why a node can't run a file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", self.refusal())]
#[non_exhaustive]
pub enum CompatError {
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

/// Checks that `node` can run a file that was built for `target` and says `metadata` of itself.
///
/// # Errors
/// The first reason why it can't.
pub fn check(metadata: &Metadata, target: Target, node: &Node) -> Result<(), CompatError> {
    if !target.runs_on(node.target) {
        return Err(CompatError::Target { found: target, expected: node.target });
    }
    if metadata.abi != node.abi {
        return Err(CompatError::Abi { found: metadata.abi, expected: node.abi });
    }
    if let Some(state) = &metadata.state {
        return Err(CompatError::StateNotServed { schema: state.schema });
    }
    if let Some(first) = metadata.requires.first() {
        return Err(CompatError::RequiresNotServed { first: first.to_string() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(lines: &str, target: &str) -> Option<&'static str> {
        let text = format!("format = 1\nname = \"m\"\nversion = \"1.0.0\"\n{lines}\n");
        let metadata = Metadata::parse(text.as_bytes()).unwrap();
        let node = Node { target: "x86_64-gnu".parse().unwrap(), abi: 0 };
        check(&metadata, target.parse().unwrap(), &node).err().map(|error| error.refusal().code)
    }

    #[test]
    fn each_reason_has_its_code() {
        assert_eq!(code("abi = 0", "x86_64-gnu"), None);
        assert_eq!(code("abi = 0", "x86_64-none"), None);
        assert_eq!(code("abi = 0", "x86_64-musl"), Some("compat.target"));
        assert_eq!(code("abi = 0", "aarch64-gnu"), Some("compat.target"));
        assert_eq!(code("abi = 1", "x86_64-gnu"), Some("compat.abi"));
        let state = "abi = 0\nstate = { schema = 1, accepts = \"1\" }";
        assert_eq!(code(state, "x86_64-gnu"), Some("compat.state_not_served"));
        assert_eq!(
            code("abi = 0\nrequires = [\"auth 1\"]", "x86_64-gnu"),
            Some("compat.requires_not_served")
        );
    }
}
