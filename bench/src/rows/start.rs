//! How long a host takes to start.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Effort;
use crate::report::{Figure, Section};
use crate::server::Hot;
use crate::stats::quantile;

/// Longest wait for another instance.
const REPLACED_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn measure(_folder: &Path, effort: Effort) -> Result<Section> {
    let hot = Hot::start("")?;
    hot.push("1.0.0", &[])?;
    let mut millis = Vec::new();
    let (mut pid, _) = ready(&hot, 0)?;
    for _ in 0..effort.repeats {
        hot.restart()?;
        let (next, took) = ready(&hot, pid)?;
        pid = next;
        millis.push(took);
    }
    let [p50, p95, most] = [0.5, 0.95, 1.0].map(|part| quantile(&millis, part));
    Ok(Section {
        title: "A start",
        text: format!(
            "`hotctl restart`, {} times: from hotd's order to hot-spawn (fork, exec, the module's file, its `start`) to the moment at \
             which requests could go to the new host, by hotd's clock. The module is in C and has some 16 KiB. The sandbox is part of \
             it: a user and a folder of its own, the filters, the rules.",
            millis.len()
        ),
        figures: vec![
            Figure::new(
                "host start, from the order to ready, p50",
                format!("{p50:.2} ms (p95 {p95:.2}, most {most:.2})"),
            )
            .at_most(15.0, "ms", p50)
            .goal(3.0),
        ],
        tables: Vec::new(),
        plots: Vec::new(),
    })
}

/// The pid of the instance that serves, once it is another one than `before`, and how long its start took.
fn ready(hot: &Hot, before: i32) -> Result<(i32, f64)> {
    let end = Instant::now() + REPLACED_WITHIN;
    loop {
        let module = hot.status()?;
        let serves = module.instances().find(|it| it.state == "ready" && it.weight > 0 && it.pid != before);
        if let Some(instance) = serves {
            let took = instance.start_ms.context("the time of a start")?;
            return Ok((instance.pid, took));
        }
        ensure!(Instant::now() < end, "no other instance serves: {module:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
