//! Harm to a program at one step that it takes on a folder: `kill -9`, or a failing call. The program is as it is built;
//! `tests/preload/steps.c` stands between it and the C library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// What happens at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// The process ends before it takes the step.
    Kill,
    /// A call of this name, as [`Steps::taken`] has it, fails with EIO.
    Failing(&'static str),
    /// A write finds the disk full, half of it written.
    FullDisk,
}

impl Harm {
    /// `HOT_STEPS_HARM`, and `HOT_STEPS_CALL` where only one call is meant.
    fn settings(self) -> (String, Option<&'static str>) {
        use rustix::io::Errno;
        match self {
            Self::Kill => ("kill".to_owned(), None),
            Self::Failing(call) => (Errno::IO.raw_os_error().to_string(), Some(call)),
            Self::FullDisk => (Errno::NOSPC.raw_os_error().to_string(), Some("write")),
        }
    }

    /// Whether such a step, as [`Steps::taken`] has it, is one that this harm is done at.
    pub fn is_at(self, step: &str) -> bool {
        self.settings().1.is_none_or(|call| step.starts_with(call))
    }
}

/// Steps on a folder, counted.
#[derive(Clone, Debug)]
pub struct Steps {
    library: PathBuf,
    folder: PathBuf,
    log: PathBuf,
}

impl Steps {
    /// Steps on `folder`, written down in `log`.
    ///
    /// # Errors
    /// When what counts them can't be built.
    pub fn on(folder: &Path, log: &Path) -> Result<Self> {
        let library = crate::preload::library("steps")?;
        Ok(Self { library, folder: folder.to_owned(), log: log.to_owned() })
    }

    /// `command`, with its steps counted from its start, and harm done at the `at`-th that the harm is for.
    ///
    /// # Errors
    /// When a former log can't be removed.
    pub fn around(&self, mut command: Command, harm: Option<(Harm, usize)>) -> Result<Command> {
        if self.log.exists() {
            fs::remove_file(&self.log).context("the former log of steps")?;
        }
        command.env("LD_PRELOAD", &self.library).env("HOT_STEPS_FOLDER", &self.folder);
        command.env("HOT_STEPS_LOG", &self.log).env("HOT_STEPS_BROKEN", self.broken());
        if let Some((harm, at)) = harm {
            let (what, call) = harm.settings();
            command.env("HOT_STEPS_HARM", what).env("HOT_STEPS_AT", at.to_string());
            command.envs(call.map(|call| ("HOT_STEPS_CALL", call)));
        }
        Ok(command)
    }

    /// From now on these steps fail with EIO, each a call and a path as [`Steps::taken`] has them; and no others.
    ///
    /// # Errors
    /// When that can't be said.
    pub fn fail(&self, steps: &[&str]) -> Result<()> {
        let fresh = self.broken().with_extension("fresh");
        fs::write(&fresh, format!("{}\n", steps.join("\n")))?;
        fs::rename(fresh, self.broken()).context("which steps fail")
    }

    fn broken(&self) -> PathBuf {
        self.log.with_extension("broken")
    }

    /// The steps so far, each a call and a path within the folder: `fsync modules/probe.json.tmp`.
    ///
    /// # Errors
    /// When none were counted.
    pub fn taken(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(&self.log).context("the log of steps")?;
        let steps = text.lines().filter_map(|line| Some(line.split_once(' ')?.1.to_owned()));
        Ok(steps.collect())
    }

    /// Whether harm was done at one of them.
    ///
    /// # Errors
    /// When none were counted.
    pub fn was_harmed(&self) -> Result<bool> {
        let text = fs::read_to_string(&self.log).context("the log of steps")?;
        Ok(text.lines().any(|line| line == "HARM"))
    }
}
