//! For tests: a disk that can be filled, since there is no other way to do that without harming the machine. A small tmpfs
//! of our own, in a mount namespace of our own, with the test that needs it as a process of its own there.

use std::path::PathBuf;
use std::process::Command;

const FOLDER: &str = "HOT_SMALL_DISK";

/// Runs the ignored test of this name on a disk of this size, e.g. `64k`. Where no namespace is to be had it says so and
/// runs nothing.
pub(crate) fn run(size: &str, test: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size={size},mode=0700 tmpfs '{}'", folder.path().display());
    let Some(unshare) = [&["-Urm"][..], &["-m"]].into_iter().find(|arguments| {
        let tried = Command::new("unshare").args(*arguments).args(["sh", "-c", &mount]).output();
        tried.is_ok_and(|tried| tried.status.success())
    }) else {
        eprintln!("skipped: neither as this user nor in a user namespace may a tmpfs be mounted here");
        return;
    };
    let exe = std::env::current_exe().unwrap();
    let inside = format!("{mount} && exec '{}' {test} --exact --ignored --nocapture", exe.display());
    let done = Command::new("unshare")
        .args(unshare)
        .args(["sh", "-c", &inside])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && text.contains("1 passed"), "{text}");
}

/// The disk, for the test that runs on it.
pub(crate) fn here() -> PathBuf {
    PathBuf::from(std::env::var(FOLDER).expect("this is no test by itself: another one starts it"))
}
