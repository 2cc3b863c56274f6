//! What the node holds between pushes, and whether it grows.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cpu::memory_kib;
use crate::report::{Chart, Joined, Plot, Series, Shape, Table};
use crate::server::Hot;
use crate::stats::{Spread, slope};

/// What it holds at one time.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Duration,
    daemon_kib: u64,
    /// Of those what is in no file.
    daemon_anonymous_kib: u64,
    spawn_kib: u64,
    descriptors: usize,
    hosts: usize,
}

/// A figure of it.
type Figured = fn(&Look) -> f64;

/// What it held, look by look.
#[derive(Clone, Debug)]
pub(super) struct Holds {
    start: Instant,
    looks: Vec<Look>,
}

/// By how much it grew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    mib: f64,
    descriptors: f64,
    hosts: f64,
}

impl Growth {
    pub(super) fn memory(&self) -> String {
        format!("{:+.1} MiB", self.mib)
    }

    pub(super) fn counts(&self) -> String {
        format!("{:+.0} and {:+.0}", self.descriptors, self.hosts)
    }

    /// The larger of the two that are counted.
    pub(super) fn most(&self) -> f64 {
        self.descriptors.max(self.hosts)
    }
}

impl Holds {
    /// Before the first look.
    pub(super) fn since(start: Instant) -> Self {
        Self { start, looks: Vec::new() }
    }

    /// Looks.
    pub(super) fn look(&mut self, hot: &Hot) -> Result<()> {
        let (daemon, spawn) = (hot.daemon()?.pid(), hot.spawn());
        self.looks.push(Look {
            at: self.start.elapsed(),
            daemon_kib: memory_kib(daemon, "VmRSS")?,
            daemon_anonymous_kib: memory_kib(daemon, "RssAnon")?,
            spawn_kib: memory_kib(spawn, "VmRSS")?,
            descriptors: [daemon, spawn].iter().map(|pid| descriptors(*pid)).sum::<Result<usize>>()?,
            hosts: hot.hosts()?.len(),
        });
        Ok(())
    }

    /// From the start to the last look.
    pub(super) fn minutes(&self) -> f64 {
        minutes(self.whole())
    }

    fn whole(&self) -> Duration {
        self.looks.last().map_or(Duration::ZERO, |look| look.at)
    }

    /// The looks of minutes `from` to `to` of ten: the same part of a shorter run.
    fn part(&self, from: u32, to: u32) -> impl Iterator<Item = &Look> {
        let whole = self.whole();
        self.looks.iter().filter(move |look| look.at >= whole * from / 10 && look.at <= whole * to / 10)
    }

    fn early(&self, of: Figured) -> Spread {
        Spread::of(self.part(2, 4).map(of))
    }

    fn late(&self, of: Figured) -> Spread {
        Spread::of(self.part(8, 10).map(of))
    }

    /// By how much the medians grew.
    pub(super) fn growth(&self) -> Result<Growth> {
        ensure!(self.part(2, 4).next().is_some(), "too few pushes to compare");
        let growth = |of| self.late(of).median - self.early(of).median;
        Ok(Growth {
            mib: growth(|look| mib(look.daemon_kib + look.spawn_kib)),
            descriptors: growth(|look| small(look.descriptors)),
            hosts: growth(|look| small(look.hosts)),
        })
    }

    /// How fast hotd's own memory rises, MiB a minute, from minute 2 of ten on.
    pub(super) fn creep(&self) -> Spread {
        let points = self.part(2, 10).map(|look| (minutes(look.at), mib(look.daemon_anonymous_kib)));
        slope(&points.collect::<Vec<_>>())
    }

    /// All of it, early and late.
    pub(super) fn table(&self) -> Table {
        let figures: [(&str, Figured); 5] = [
            ("resident memory of hotd, MiB", |look| mib(look.daemon_kib)),
            ("of it anonymous, MiB", |look| mib(look.daemon_anonymous_kib)),
            ("resident memory of hot-spawn, MiB", |look| mib(look.spawn_kib)),
            ("descriptors of both", |look| small(look.descriptors)),
            ("hosts", |look| small(look.hosts)),
        ];
        let row = |(what, of): (&str, Figured)| {
            vec![what.to_owned(), self.early(of).text(1), self.late(of).text(1)]
        };
        Table {
            title: "What the node holds between pushes".to_owned(),
            head: ["what", "early", "late"].map(str::to_owned).into(),
            rows: figures.map(row).into(),
        }
    }

    /// Memory of hotd over time.
    pub(super) fn plot(&self, title: String) -> Plot {
        let series = |label: &str, ours, of: Figured| Series {
            label: label.to_owned(),
            points: self.looks.iter().map(|look| (minutes(look.at), of(look))).collect(),
            ours,
        };
        let chart = Chart {
            x: "minutes",
            joined: Joined::Along,
            series: vec![
                series("resident", true, |look| mib(look.daemon_kib)),
                series("of it anonymous", false, |look| mib(look.daemon_anonymous_kib)),
            ],
        };
        Plot { name: "soak", title, shape: Shape::Chart(chart) }
    }
}

fn descriptors(pid: i32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd")).context("the descriptors of a process")?.count())
}

fn minutes(time: Duration) -> f64 {
    time.as_secs_f64() / 60.0
}

fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}

fn small(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
