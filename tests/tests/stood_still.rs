//! A `hotd` that itself stood still for longer than any host may: stopped by a signal here, as a debugger, a frozen cgroup
//! or a machine without CPU to spare would.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use hot_tests::{Module, Node, Process, WAIT, get};
use rustix::process::Signal;
use serde_json::Value;

/// Longer than the silence that ends a host: three questions, one a second.
const PAUSE: Duration = Duration::from_secs(5);

/// A process that is stopped until this is dropped.
struct Stopped(Process);

impl Stopped {
    fn stop(process: Process) -> Result<Self> {
        process.signal(Signal::STOP)?;
        Ok(Self(process))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Nothing can be done about an error, and the next step of the test sees it.
        drop(self.0.signal(Signal::CONT));
    }
}

#[test]
fn hosts_are_not_judged_for_the_time_in_which_hotd_stood_still() -> Result<()> {
    let node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    let next = Module::new("good").version("1.1.0").build()?;
    node.push(&next, &["--canary", "50%", "--bake", "10m", "--detach"])?.expect(0)?;
    node.wait_module("probe", WAIT, |module| module.phase == "baking")?;
    let hosts = node.hosts()?;
    assert_eq!(hosts.len(), 2, "{hosts:?}");

    let stopped = Stopped::stop(node.daemon()?.clone())?;
    thread::sleep(PAUSE);
    drop(stopped);
    // As long again, for everything that may follow from it: that nothing does can't be waited for.
    thread::sleep(PAUSE);

    assert_eq!(node.hosts()?, hosts, "the same instances run on");
    let module = node.module("probe")?;
    assert_eq!((module.phase.as_str(), module.reason.as_str()), ("baking", ""), "{module:?}");
    let ready = module.instances().filter(|instance| instance.state == "ready");
    let mut pids: Vec<_> = ready.map(|instance| instance.pid).collect();
    pids.sort_unstable();
    assert_eq!(pids, hosts.iter().map(Process::pid).collect::<Vec<_>>());
    let versions: Value = node.hotctl(&["versions", "probe", "-o", "json"])?.expect(0)?.json()?;
    assert!(!versions.to_string().contains("did not answer"), "{versions}");
    assert_eq!(versions["versions"].as_array().map(Vec::len), Some(2), "{versions}");
    for version in versions["versions"].as_array().into_iter().flatten() {
        assert_eq!(version["quarantined"], "", "{versions}");
    }
    assert_eq!(get(node.http(), "/probe")?.status(), 200);
    // It watches them as before.
    hosts[1].signal(Signal::STOP)?;
    hosts[1].wait_gone(WAIT)?;
    node.stop()
}
