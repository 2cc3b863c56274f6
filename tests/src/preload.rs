//! Libraries that stand between a program and the C library: small C sources in `tests/preload/`, built on demand.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::Module;

/// Builds `tests/preload/NAME.c`.
///
/// # Errors
/// When the compiler fails; the text has what it said.
pub(crate) fn library(name: &str) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("preload").join(name).with_extension("c");
    let library = Module::folder()?.join(format!("preload-{name}.so"));
    // To a file of this build's own and then a rename: others may build the same, or have it loaded.
    let fresh = tempfile::Builder::new().prefix("build-").suffix(".so").tempfile_in(Module::folder()?)?;
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]).arg(&source);
    command.arg("-o").arg(fresh.path()).arg("-ldl");
    let output = crate::run(command)?;
    ensure!(output.code == 0, "{} does not compile:\n{}", source.display(), output.stderr);
    fresh.persist(&library).with_context(|| library.display().to_string())?;
    Ok(library)
}

/// `command`, whose program sees a clock that is so many seconds ahead of the machine's.
///
/// # Errors
/// When what does that can't be built.
pub fn clock_ahead(mut command: Command, seconds: i64) -> Result<Command> {
    command.env("LD_PRELOAD", library("clock")?).env("HOT_CLOCK_AHEAD", seconds.to_string());
    Ok(command)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_clock_is_ahead() -> Result<()> {
        let mut date = Command::new("date");
        date.arg("+%s");
        let seen: u64 = crate::run(clock_ahead(date, 3600)?)?.expect(0)?.stdout.trim().parse()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        ensure!((now + 3590..=now + 3600).contains(&seen), "{seen} is not an hour after {now}");
        Ok(())
    }
}
