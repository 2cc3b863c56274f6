//! The file of contexts: several fleets by name, each with its nodes and the certificate that they know the user by.
//!
//! Knows where the file is, what it says and how its default is changed. Calls no node, and reads no certificate.

mod edit;
mod read;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

pub(crate) use edit::choose;
pub(crate) use read::read;

use crate::node::Address;

/// Below the user's folder of settings.
const FILE: &str = "hot/hotctl.toml";

/// What a file of contexts says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contexts {
    pub file: PathBuf,
    /// The one that is used unless another is named.
    pub chosen: Option<String>,
    pub all: BTreeMap<String, Fleet>,
}

/// One context: a fleet, and how its nodes are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fleet {
    /// At least one, in the order in which they are tried.
    pub nodes: Vec<Address>,
    pub files: Files,
}

/// Files by which both sides of a connection trust each other, as far as they are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Files {
    /// Whose certificates nodes have.
    pub authority: Option<PathBuf>,
    /// The user's own.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// Where the file is: `$XDG_CONFIG_HOME/hot/hotctl.toml`, else `$HOME/.config/hot/hotctl.toml`. `None` without a home.
pub(crate) fn place(config_home: Option<&OsStr>, home: Option<&OsStr>) -> Option<PathBuf> {
    let folder =
        |text: Option<&OsStr>| text.map(Path::new).filter(|path| path.is_absolute()).map(Path::to_owned);
    let config = folder(config_home).or_else(|| folder(home).map(|home| home.join(".config")))?;
    Some(config.join(FILE))
}

/// The names of contexts, for a sentence.
pub(crate) fn names(contexts: &Contexts) -> String {
    match contexts.all.len() {
        0 => "it has none".to_owned(),
        _ => format!("it has {}", contexts.all.keys().cloned().collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests;
