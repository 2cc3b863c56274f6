//! A full disk: pushes are refused with a clear sentence, traffic and rollbacks go on, and freed space is used again.
//!
//! The disk is a small tmpfs in a mount namespace: the test starts itself again inside one (`unshare`), so that nothing
//! of it is left on the machine, whatever happens.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hot_tests::{Module, Node, NodeOptions, skipped};

/// Set for the inner run: the folder that the tmpfs is mounted on.
const INNER: &str = "HOT_TEST_SMALL_DISK";

#[test]
fn a_full_disk_refuses_pushes_and_serves_on() -> Result<()> {
    if let Some(folder) = env::var_os(INNER) {
        return inside(&PathBuf::from(folder));
    }
    if let Err(reason) = namespace(&["true"]) {
        // The one thing that this test can't bring along: leave of the kernel for a mount of its own.
        return skipped(&format!("no mount namespace here: {reason:#}"));
    }
    let folder = tempfile::tempdir()?;
    let test = env::current_exe()?;
    let test = test.to_str().context("UTF-8")?;
    let script = "mount -t tmpfs -o size=24m,mode=0700 tmpfs \"$HOT_TEST_SMALL_DISK\" && exec \"$@\"";
    let name = "a_full_disk_refuses_pushes_and_serves_on";
    let mut command = unshare();
    command.args(["sh", "-c", script, "sh", test, "--exact", name, "--nocapture"]).env(INNER, folder.path());
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// `unshare` into a mount namespace: as root at once, else by way of a user namespace.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--");
    command
}

fn namespace(program: &[&str]) -> Result<()> {
    let output = unshare().args(program).output().context("unshare")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn inside(disk: &Path) -> Result<()> {
    let node = Node::start_with(NodeOptions { data_dir: Some(disk.join("data")), ..NodeOptions::default() })?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    node.push(&Module::new("good").version("1.1.0").build()?, &["--steps", "100%", "--bake", "1s"])?
        .expect(0)?;

    let filler = disk.join("filler");
    fill(&filler)?;
    let next = Module::new("good").version("1.2.0").build()?;
    for _ in 0..3 {
        let output = node.push(&next, &[])?;
        ensure!(
            matches!(output.code, 1 | 4),
            "a push on a full disk ended with {}: {}",
            output.code,
            output.stderr
        );
        let sentence = output.sentence()?;
        ensure!(
            sentence.contains("space") || sentence.contains("disk"),
            "expected the cause in {sentence:?}"
        );
    }
    ensure!(hot_tests::get(node.http(), "/probe")?.body().as_ref() == b"probe 1.1.0\n", "traffic goes on");
    node.hotctl(&["rollback", "probe"])?.expect(0)?;
    ensure!(
        hot_tests::get(node.http(), "/probe")?.body().as_ref() == b"probe 1.0.0\n",
        "the way back needs no space"
    );

    fs::remove_file(filler)?;
    node.push(&next, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    ensure!(
        hot_tests::get(node.http(), "/probe")?.body().as_ref() == b"probe 1.2.0\n",
        "freed space is used again"
    );
    node.stop()
}

/// Writes until nothing more fits, and down to the last byte.
fn fill(path: &Path) -> Result<()> {
    let mut file = File::create(path)?;
    for size in [1 << 20, 1 << 12, 1] {
        let piece = vec![0; size];
        loop {
            match file.write(&piece) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error).context("filling the disk"),
            }
        }
    }
    Ok(())
}
