//! `ssh-keygen` as the judge: one process for each question, with its files in a folder in memory.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::Case;
use crate::keys::NAMESPACE;

/// Asks `ssh-keygen -Y verify`.
#[derive(Debug)]
pub(crate) struct Oracle {
    folder: TempDir,
}

/// What it said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) accepted: bool,
    pub(crate) text: String,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }
            .expect("a folder of our own");
        Self { folder }
    }

    pub(crate) fn verify(&self, case: &Case, principal: &str) -> Answer {
        let put = |name: &str, bytes: &[u8]| {
            let path = self.folder.path().join(name);
            fs::write(&path, bytes).expect("writes");
            path
        };
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-Y", "verify", "-n", NAMESPACE, "-I", principal]);
        command.arg("-O").arg(format!("verify-time={}", crate::parts::utc(case.now)));
        command.arg("-f").arg(put("allowed_signers", &case.signers));
        command.arg("-s").arg(put("signature", &case.signature));
        if let Some(revoked) = &case.revoked {
            command.arg("-r").arg(put("revoked", revoked));
        }
        let bytes = File::open(put("bytes", &case.bytes)).expect("opens");
        let output = command
            .stdin(bytes)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .expect("ssh-keygen runs");
        Answer {
            accepted: output.status.success(),
            text: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }
    }
}

/// `OpenSSH_9.2p1 ...`: which one judged.
pub(crate) fn version() -> String {
    let output = Command::new("ssh").arg("-V").output().expect("ssh runs");
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

/// Runs `ssh-keygen` for something that has to succeed.
pub(crate) fn run(arguments: &[&str]) {
    let output =
        Command::new("ssh-keygen").args(arguments).stdin(Stdio::null()).output().expect("ssh-keygen runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ssh-keygen {arguments:?}: {text}");
}
