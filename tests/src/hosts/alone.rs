//! A test in namespaces of its own: of network, mounts and processes.

use std::env;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::skipped;

/// Set for the run inside.
const INSIDE: &str = "HOT_TEST_ALONE";

/// What has to work for hosts: a bridge, a namespace with a cable, and nftables.
const TRY: &str = "ip link add hosts type bridge && ip link add cable type veth peer name end \
                   && nft add table inet cuts && unshare --net true";

/// Has a test run by itself: starts its program again, inside namespaces that nobody else is in, for the test of the
/// calling thread alone, and there does `test`. Whatever the test leaves is gone with its process: that is the first one
/// of its namespace of processes. Where the kernel or a tool is not up to it, the test is skipped.
///
/// # Errors
/// When the test fails.
pub fn alone(test: impl FnOnce() -> Result<()>) -> Result<()> {
    if env::var_os(INSIDE).is_some() {
        return test();
    }
    let tried = unshare().args(["sh", "-c", TRY]).stdin(Stdio::null()).output();
    match tried {
        Err(error) => return skipped(&format!("hosts of its own, for want of unshare: {error}")),
        Ok(tried) if !tried.status.success() => {
            let said = String::from_utf8_lossy(&tried.stderr);
            return skipped(&format!("hosts of its own, as this machine refuses them: {}", said.trim()));
        }
        Ok(_) => {}
    }
    let thread = std::thread::current();
    let name = thread.name().context("a test has a thread of its name")?;
    let mut command = unshare();
    command
        .arg(env::current_exe()?)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null());
    let output = command.stdout(Stdio::piped()).spawn()?.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "inside its namespaces:\n{said}");
    // Else it would pass by trying nothing.
    ensure!(said.contains("1 passed"), "there is no test {name}:\n{said}");
    Ok(())
}

/// `unshare` into namespaces: as root at once, else by way of one of users. All in it ends with it.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !rustix::process::geteuid().is_root() {
        // As itself, so that what the tests start is no more root's than outside.
        command.args(["--user", "--map-current-user", "--keep-caps"]);
    }
    command.arg("--");
    command
}
