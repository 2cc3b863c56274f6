//! [`Libraries`]: the shared libraries of a system, found as its loader finds them for a host.
//!
//! For a name without a slash that is: `/etc/ld.so.cache`, then the system's own folders. A host has no
//! `LD_LIBRARY_PATH` and no search path of its own, and a module that brings one is refused. What is found is read only
//! as far as the symbol versions that it defines; whether *its* libraries are there is the system's own affair.

mod cache;

use std::path::{Path, PathBuf};

use crate::reader::FileReader;
use crate::target::{Libc, Machine, Target};
use crate::trust::pattern_matches;
use crate::{ElfError, elf};
use cache::Cache;

/// Where a node's loader looks for libraries, and which of them modules may need.
#[derive(Debug, Clone)]
pub struct Libraries {
    machine: Machine,
    cache: Option<PathBuf>,
    folders: Vec<PathBuf>,
    allowed: Option<Vec<String>>,
}

/// A library that a node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// Its file.
    pub path: PathBuf,
    /// The symbol versions that it defines. Empty: it has none, and the loader asks for none.
    pub versions: Vec<String>,
}

impl Libraries {
    /// The libraries of a system of this target, where its loader looks for them.
    #[must_use]
    pub fn of_system(target: Target) -> Self {
        let machine = target.machine;
        let (cache, folders) = match target.libc {
            Libc::Musl => (None, vec!["/lib".into(), "/usr/local/lib".into(), "/usr/lib".into()]),
            Libc::Gnu | Libc::None => {
                let multiarch = format!("{}-linux-gnu", machine.as_str());
                let folder = |start: &str, end: &str| Path::new(start).join(end);
                let folders = vec![
                    folder("/lib", &multiarch),
                    folder("/usr/lib", &multiarch),
                    "/lib64".into(),
                    "/usr/lib64".into(),
                    "/lib".into(),
                    "/usr/lib".into(),
                ];
                (Some("/etc/ld.so.cache".into()), folders)
            }
        };
        Self { machine, cache, folders, allowed: None }
    }

    /// The libraries in these folders alone.
    #[must_use]
    pub fn in_folders(target: Target, folders: Vec<PathBuf>) -> Self {
        Self { machine: target.machine, cache: None, folders, allowed: None }
    }

    /// With only those allowed whose name matches one of the patterns, where `*` is any run of characters and `?` any
    /// one.
    #[must_use]
    pub fn only(mut self, patterns: Vec<String>) -> Self {
        self.allowed = Some(patterns);
        self
    }

    /// Whether modules may need a library of this name.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        let matches = |patterns: &Vec<String>| patterns.iter().any(|pattern| pattern_matches(pattern, name));
        self.allowed.as_ref().is_none_or(matches)
    }

    /// The library that the loader would take for `name`, if there is one.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Library> {
        if name.is_empty() || name.contains('/') {
            return None;
        }
        // Read anew each time: it changes with every package that is installed. A system without one has its folders.
        let cache = self.cache.as_deref().and_then(|path| Cache::read(path).ok());
        let cached = cache.iter().flat_map(|cache| cache.paths(name));
        let folders = self.folders.iter().map(|folder| folder.join(name));
        cached.map(PathBuf::from).chain(folders).find_map(|path| self.read(path))
    }

    /// The library at `path`; not one for another machine, which the loader passes over as well.
    fn read(&self, path: PathBuf) -> Option<Library> {
        let versions = match open(&path) {
            Ok((machine, versions)) if machine == self.machine => versions,
            // It is there, and what it is we can't tell: the loader will.
            Err(ElfError::Malformed { .. } | ElfError::TooMuchMemory { .. }) => Vec::new(),
            Ok(_) | Err(_) => return None,
        };
        Some(Library { path, versions })
    }
}

fn open(path: &Path) -> Result<(Machine, Vec<String>), ElfError> {
    let reader = FileReader::open(path).map_err(ElfError::Io)?;
    elf::library(&reader)
}

#[cfg(test)]
mod tests;
