//! What stays resident.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Effort;
use crate::client;
use crate::cpu::memory_kib;
use crate::report::{Figure, Section};
use crate::server::Hot;

/// Connections at the peak.
const CONNECTIONS: usize = 256;

pub(super) fn measure(_folder: &Path, effort: Effort) -> Result<Section> {
    let hot = Hot::start("")?;
    hot.push("1.0.0", &[])?;
    let daemon = hot.daemon()?.pid();
    let host = hot.hosts()?.first().context("a host")?.pid();
    let rest = memory_kib(daemon, "VmRSS")?;
    let seen = client::run_for(&hot.load(CONNECTIONS, None), effort.run.max(Duration::from_secs(1)) * 2)?;
    ensure!(seen.failed == 0, "{} requests failed under load", seen.failed);
    let peak = memory_kib(daemon, "VmHWM")?;
    let private = memory_kib(host, "RssAnon")?;
    let all = memory_kib(host, "VmRSS")?;
    let mib = |kib: u64| f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0;
    let figure = |what: &str, kib| Figure::new(what, format!("{:.1} MiB", mib(kib)));
    let held = |what: &str, limit, kib| figure(what, kib).at_most(limit, "MiB", mib(kib));
    Ok(Section {
        title: "Memory",
        text: format!(
            "Resident memory with one module of some 16 KiB. The peak is after {CONNECTIONS} connections as fast as they go. Of a host, \
             what it has for itself, and all that is mapped, libraries that it shares with others too."
        ),
        figures: vec![
            held("hotd at rest", 30.0, rest),
            held("hotd at its peak", 64.0, peak),
            held("hot-host, for itself", 5.0, private),
            figure("hot-host, all that is resident", all),
        ],
        tables: Vec::new(),
        plots: Vec::new(),
    })
}
