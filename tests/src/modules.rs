//! Modules of the tests: small C sources in `tests/modules/` and `tests/zoo/`, built on demand, each combination of source
//! and settings once.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::Binaries;

/// A module to build: `tests/modules/SOURCE.c` with its settings.
#[derive(Clone, Debug)]
pub struct Module {
    /// Where the source is, below `tests/`.
    room: &'static str,
    source: &'static str,
    version: String,
    /// Values of macros, quoted where the source wants a string.
    defines: BTreeMap<&'static str, String>,
    /// Further arguments of the compiler.
    flags: Vec<String>,
    /// Names of libraries that it needs, though nothing is used of them.
    needs: Vec<&'static str>,
    program: bool,
}

impl Module {
    /// The module `probe` in version 1.0.0, built from `tests/modules/SOURCE.c`. It serves `/probe` and answers
    /// `probe 1.0.0`, as far as the source does not misbehave.
    pub fn new(source: &'static str) -> Self {
        Self::of("modules", source)
    }

    /// The same of `tests/zoo/SOURCE.c`, or of `SOURCE.cpp`.
    pub fn zoo(source: &'static str) -> Self {
        Self::of("zoo", source)
    }

    fn of(room: &'static str, source: &'static str) -> Self {
        let version = "1.0.0".to_owned();
        Self {
            room,
            source,
            version,
            defines: BTreeMap::new(),
            flags: Vec::new(),
            needs: Vec::new(),
            program: false,
        }
    }

    /// In another version.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// Its version.
    pub fn version_text(&self) -> &str {
        &self.version
    }

    /// Under another name, and with the route `/NAME`.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.text("NAME", name)
    }

    /// With a macro whose value is a string.
    #[must_use]
    pub fn text(mut self, name: &'static str, value: &str) -> Self {
        self.defines.insert(name, format!("{value:?}"));
        self
    }

    /// With a macro whose value is a number.
    #[must_use]
    pub fn number(mut self, name: &'static str, value: u64) -> Self {
        self.defines.insert(name, value.to_string());
        self
    }

    /// With a further argument of the compiler, which hands those that begin with `-Wl,` to the linker.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Needing a library of this name, which the linker finds, and the loader need not.
    #[must_use]
    pub fn needs(mut self, name: &'static str) -> Self {
        self.needs.push(name);
        self
    }

    /// As a position-independent program instead of a shared object.
    #[must_use]
    pub fn program(mut self) -> Self {
        self.program = true;
        self
    }

    /// The folder where they are built, which is the same in each run.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn folder() -> Result<PathBuf> {
        modules()
    }

    /// Builds it, or finds it built, and gives the file.
    ///
    /// # Errors
    /// When the compiler fails; the text has what it said.
    pub fn build(&self) -> Result<PathBuf> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
        let include = sources.join("../module/include");
        let stem = sources.join(self.room).join(self.source);
        let is_cpp = stem.with_extension("cpp").is_file();
        let source = stem.with_extension(if is_cpp { "cpp" } else { "c" });
        let mut hasher = DefaultHasher::new();
        let shared =
            ["probe.h", "good.c", "steps.h", "steps.def"].map(|name| sources.join("modules").join(name));
        let shared = shared.iter().chain([&source]);
        for file in shared.chain(&[include.join("hot_module.h"), sources.join("zoo/zoo.h")]) {
            fs::read(file).with_context(|| file.display().to_string())?.hash(&mut hasher);
        }
        (&self.version, &self.defines, &self.flags, &self.needs, self.program).hash(&mut hasher);

        let folder = modules()?;
        let file = folder.join(format!("{}-{:016x}.so", self.source, hasher.finish()));
        if file.exists() {
            return Ok(file);
        }
        // To a file of this build's own and then a rename: tests that build the same at the same time do not disturb
        // each other.
        let fresh =
            tempfile::Builder::new().prefix("build-").suffix(".so").tempfile_in(&folder).context("a file")?;
        let mut command = Command::new(if is_cpp { "c++" } else { "cc" });
        command.arg(if self.program { "-pie" } else { "-shared" });
        command.args(["-fPIC", "-O1", "-g0", "-Wall", "-Wextra", "-Werror", "-pthread", "-I"]);
        command.arg(&include).arg("-I").arg(sources.join("modules"));
        command.arg(format!("-DVERSION={:?}", self.version));
        command.args(self.defines.iter().map(|(name, value)| format!("-D{name}={value}")));
        command.arg(&source).args(&self.flags).arg("-Wl,--no-as-needed");
        for name in &self.needs {
            command.arg(stub(name)?);
        }
        command.arg("-o").arg(fresh.path());
        let output = crate::hotctl::run(command)?;
        ensure!(output.code == 0, "{} does not compile:\n{}", source.display(), output.stderr);
        fresh.persist(&file).with_context(|| file.display().to_string())?;
        Ok(file)
    }
}

/// A file that `make examples` built, for example `greeter-1.0.0.so`.
///
/// # Errors
/// When it is not there; the text says what to run.
pub fn example(name: &str) -> Result<PathBuf> {
    let file = target()?.join("release").join(name);
    ensure!(file.is_file(), "{} was not found; build it first: `make examples`", file.display());
    Ok(file)
}

/// Whether `make examples` builds modules in C++ here: there is a compiler for it.
pub fn has_cpp() -> bool {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    Command::new(compiler).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The module that panics on one request of two, `probe 1.1.0`, in Rust (`tests/modules/panics`).
///
/// # Errors
/// When it is not there; the text says what to run.
pub fn panics() -> Result<PathBuf> {
    built("libpanics.so")
}

/// A file that `cargo build --workspace` made of a member that is a module.
///
/// # Errors
/// When it is not there; the text says what to run.
pub fn built(name: &str) -> Result<PathBuf> {
    let file = Binaries::profile()?.join(name);
    ensure!(file.is_file(), "{} was not found; build it first: `cargo build --workspace`", file.display());
    Ok(file)
}

/// A library that says it is called `name` and defines `newest`, in a version that no library has yet.
fn stub(name: &str) -> Result<PathBuf> {
    let folder = tempfile::tempdir().context("a folder for a library")?;
    let (source, script) = (folder.path().join("stub.c"), folder.path().join("stub.map"));
    fs::write(&source, "void newest(void) {}\n").context("a library's source")?;
    fs::write(&script, "GLIBC_2.999 { global: newest; local: *; };\n").context("a library's versions")?;
    let fresh =
        tempfile::Builder::new().prefix("build-").suffix(".so").tempfile_in(modules()?).context("a file")?;
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-nostdlib"]).arg(format!("-Wl,-soname,{name}"));
    command.arg(format!("-Wl,--version-script,{}", script.display()));
    command.arg(&source).arg("-o").arg(fresh.path());
    let output = crate::hotctl::run(command)?;
    ensure!(output.code == 0, "the library {name:?} does not compile:\n{}", output.stderr);
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let file = modules()?.join(format!("stub-{:016x}.so", hasher.finish()));
    fresh.persist(&file).with_context(|| file.display().to_string())?;
    Ok(file)
}

/// The folder of all modules of the tests.
fn modules() -> Result<PathBuf> {
    let folder = target()?.join("test-modules");
    fs::create_dir_all(&folder).context("a folder for modules")?;
    Ok(folder)
}

/// The folder of all that is built.
///
/// # Errors
/// When the running program lies in none.
pub fn target() -> Result<PathBuf> {
    let profile = Binaries::profile()?;
    Ok(profile.parent().with_context(|| format!("{} is in no folder", profile.display()))?.to_owned())
}
