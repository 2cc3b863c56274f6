//! What the way through gateway and host costs, beside a server that answers by itself and beside proxies.

use std::path::Path;

use anyhow::{Context, Result};

use super::Effort;
use crate::compare::{Ask, Rounds, rounds};
use crate::report::{Bar, Figure, Plot, Section, Shape, Table};
use crate::server::{Kind, Server};
use crate::stats::Spread;

/// Requests in flight of the comparison of throughputs, as DESIGN has it.
const IN_FLIGHT: usize = 64;

/// Requests per second of the comparison of latencies: what each of the servers has room for.
const PER_SECOND: u32 = 10_000;

pub(super) fn measure(folder: &Path, effort: Effort) -> Result<Section> {
    let servers: Vec<Server> =
        Kind::ALL.iter().map(|kind| Server::start(*kind, folder)).collect::<Result<_>>()?;
    let ask = Ask { connections: IN_FLIGHT, per_second: None, time: effort.run };
    let many = rounds(&servers, effort.rounds, ask)?;
    let one = rounds(&servers, effort.rounds, Ask { connections: 1, time: effort.run / 2, ..ask })?;
    let paced = rounds(&servers, effort.rounds, Ask { per_second: Some(PER_SECOND), ..ask })?;
    let (hot, nginx) = (Added::by(&one, Kind::Hot)?, Added::by(&one, Kind::NginxProxy)?);
    let figures = [
        ratio(&many, Kind::Plain, 0.80)?.goal(0.90),
        ratio(&many, Kind::NginxProxy, 1.6)?,
        cpu(&many)?,
        hot.figure().at_most(25.0, "us", hot.spread.median).goal(12.0),
        nginx.figure(),
    ];
    Ok(Section {
        title: "The hop",
        text: format!(
            "Every server answers with the same 1 KiB. Server and load have a core each; {IN_FLIGHT} kept-alive connections, then one, \
             each with one request in flight, as fast as they go. Then {PER_SECOND} requests/s at even times over the {IN_FLIGHT} \
             connections, each timed from when it was due: what users wait who do not wait for each other. CPU time is that of all \
             processes of a server, backends behind proxies too."
        ),
        figures: figures.into(),
        tables: vec![
            table(&many),
            latency("One request in flight".to_owned(), &one),
            latency(format!("{PER_SECOND} requests/s, open loop"), &paced),
        ],
        plots: vec![throughput(&many), one_in_flight(&one)],
    })
}

fn ratio(many: &Rounds, to: Kind, limit: f64) -> Result<Figure> {
    let spread = many.pairs(Kind::Hot, to, |hot, other| hot.per_second / other.per_second);
    let spread = spread.context("both were measured")?;
    let what = format!("{IN_FLIGHT} in flight, throughput, Hot over {}", to.name());
    Ok(Figure::new(what, spread.text(2)).at_least(limit, "", spread.median))
}

fn cpu(many: &Rounds) -> Result<Figure> {
    let spread = many.pairs(Kind::Plain, Kind::Hot, |plain, hot| plain.cpu_us / hot.cpu_us);
    let what = format!("{IN_FLIGHT} in flight, CPU time per request, plain hyper over Hot");
    Ok(Figure::new(what, spread.context("both were measured")?.text(2)))
}

/// What a hop adds to the p50 of a request that is alone, microseconds.
struct Added {
    by: Kind,
    spread: Spread,
}

impl Added {
    fn by(one: &Rounds, by: Kind) -> Result<Self> {
        let spread = one.pairs(by, Kind::Plain, |hop, plain| hop.p50_us - plain.p50_us);
        Ok(Self { by, spread: spread.context("both were measured")? })
    }

    fn figure(&self) -> Figure {
        let what = format!("one in flight, p50 that {} adds to plain hyper", self.by.name());
        Figure::new(what, format!("{} us", self.spread.text(0)))
    }
}

fn table(many: &Rounds) -> Table {
    let cell = |spread: Option<Spread>, digits| spread.map_or_else(String::new, |spread| spread.text(digits));
    Table {
        title: format!("{IN_FLIGHT} requests in flight"),
        head: ["server", "thousand requests/s", "us of CPU per request", "p50, us", "p99, us"]
            .map(str::to_owned)
            .into(),
        rows: Kind::ALL
            .iter()
            .map(|kind| {
                vec![
                    kind.name().to_owned(),
                    cell(many.of(*kind, |run| run.per_second / 1e3), 1),
                    cell(many.of(*kind, |run| run.cpu_us), 2),
                    cell(many.of(*kind, |run| run.p50_us), 0),
                    cell(many.of(*kind, |run| run.p99_us), 0),
                ]
            })
            .collect(),
    }
}

fn latency(title: String, rounds: &Rounds) -> Table {
    let cell = |spread: Option<Spread>| spread.map_or_else(String::new, |spread| spread.text(0));
    Table {
        title,
        head: ["server", "p50, us", "p99, us"].map(str::to_owned).into(),
        rows: Kind::ALL
            .iter()
            .map(|kind| {
                let figure = |of: fn(&crate::compare::Run) -> f64| cell(rounds.of(*kind, of));
                vec![kind.name().to_owned(), figure(|run| run.p50_us), figure(|run| run.p99_us)]
            })
            .collect(),
    }
}

fn throughput(many: &Rounds) -> Plot {
    let over_plain = |kind| many.pairs(kind, Kind::Plain, |run, plain| run.per_second / plain.per_second);
    let title = format!("Throughput, {IN_FLIGHT} in flight, over plain hyper");
    Plot { name: "hop", title, shape: bars(over_plain) }
}

fn one_in_flight(one: &Rounds) -> Plot {
    let title = "One request in flight, p50, us".to_owned();
    Plot { name: "one-in-flight", title, shape: bars(|kind| one.of(kind, |run| run.p50_us)) }
}

/// A bar for each server that was measured.
fn bars(of: impl Fn(Kind) -> Option<Spread>) -> Shape {
    let bar = |kind: &Kind| {
        Some(Bar { label: kind.name().to_owned(), spread: of(*kind)?, ours: *kind == Kind::Hot })
    };
    Shape::Bars(Kind::ALL.iter().filter_map(bar).collect())
}
