//! Keys and signatures, made by OpenSSH's own `ssh-keygen`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A key pair in a file.
#[derive(Clone, Debug)]
pub struct Key {
    path: PathBuf,
}

impl Key {
    /// A key file that exists.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// A new ed25519 key at `path`, without a passphrase.
    ///
    /// # Errors
    /// When `ssh-keygen` fails.
    pub fn generate(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "a key of the tests", "-f"]).arg(&path);
        let output = crate::hotctl::run(command)?;
        ensure!(output.code == 0, "ssh-keygen could not make {}: {}", path.display(), output.stderr);
        Ok(Self { path })
    }

    /// The private key's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The public key as `allowed_signers` has it: `TYPE BASE64`.
    ///
    /// # Errors
    /// When the public key's file can't be read.
    pub fn public(&self) -> Result<String> {
        let path = self.path.with_extension("pub");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
    }

    /// The line of `allowed_signers` by which `who` may sign modules with it.
    ///
    /// # Errors
    /// When the public key's file can't be read.
    pub fn signer(&self, who: &str) -> Result<String> {
        Ok(format!("{who} namespaces=\"hot-module\" {}\n", self.public()?))
    }

    /// Makes a certificate for `key`, in the file beside it whose name ends with `-cert.pub`, with further arguments.
    ///
    /// # Errors
    /// When `ssh-keygen` fails.
    pub fn certify(&self, key: &Self, principal: &str, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-I", "a certificate of the tests", "-n", principal, "-s"]).arg(&self.path);
        command.args(arguments).arg(key.path.with_extension("pub"));
        let output = crate::hotctl::run(command)?;
        ensure!(output.code == 0, "ssh-keygen could not certify: {}", output.stderr);
        Ok(())
    }

    /// Signs `file` as any user of OpenSSH would, into `signature`.
    ///
    /// # Errors
    /// When `ssh-keygen` fails.
    pub fn sign(&self, namespace: &str, file: &Path, signature: &Path) -> Result<()> {
        // It puts the signature beside the file, where others who push that very file at this time would find it.
        let link = PathBuf::from(format!("{}.of", signature.display()));
        std::os::unix::fs::symlink(fs::canonicalize(file)?, &link).context("a name for the file")?;
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-Y", "sign", "-n", namespace, "-f"]).arg(&self.path).arg(&link);
        let output = crate::hotctl::run(command)?;
        ensure!(output.code == 0, "ssh-keygen could not sign {}: {}", file.display(), output.stderr);
        fs::remove_file(&link).context("the name for the file")?;
        fs::rename(format!("{}.sig", link.display()), signature).context("the signature")
    }
}
