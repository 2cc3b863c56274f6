//! Where the programs under test are: in the folder of the profile that the running test or demo was built in.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// The programs, each checked to be there.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// Finds `hotd`, `hot-spawn`, `hot-host` and `hotctl` beside the running program (a test binary lies in `deps/`
    /// below them).
    ///
    /// # Errors
    /// When one of them was not built; the text says what to run.
    pub fn locate() -> Result<Self> {
        let folder = Self::profile()?;
        for name in ["hotd", "hot-spawn", "hot-host", "hotctl"] {
            let path = folder.join(name);
            ensure!(
                path.is_file(),
                "{} was not found; build it first: `make test` does (or `cargo build --workspace`)",
                path.display()
            );
        }
        Ok(Self { folder })
    }

    /// The folder of the profile that the running program was built in, for example `target/debug`.
    pub(crate) fn profile() -> Result<PathBuf> {
        let own = env::current_exe().context("the path of the running program is not known")?;
        let mut folder = own.parent().context("the running program has no folder")?;
        if folder.file_name().is_some_and(|name| name == "deps") {
            folder = folder.parent().context("deps/ has no parent")?;
        }
        Ok(folder.to_owned())
    }

    /// The daemon.
    pub fn hotd(&self) -> PathBuf {
        self.folder.join("hotd")
    }

    /// What starts hosts.
    pub fn hot_spawn(&self) -> PathBuf {
        self.folder.join("hot-spawn")
    }

    /// What loads a module.
    pub fn hot_host(&self) -> PathBuf {
        self.folder.join("hot-host")
    }

    /// The command line.
    pub fn hotctl(&self) -> PathBuf {
        self.folder.join("hotctl")
    }
}
