//! What the way through gateway and host costs, beside a server that answers by itself and beside proxies.

use std::path::Path;

use anyhow::{Context, Result};

use super::Effort;
use crate::compare::{Rounds, rounds};
use crate::report::{Bar, Figure, Plot, Section, Shape, Table};
use crate::server::{Kind, Server};
use crate::stats::Spread;

/// Requests in flight of the comparison of throughputs, as DESIGN has it.
const IN_FLIGHT: usize = 64;

pub(super) fn measure(folder: &Path, effort: Effort) -> Result<Section> {
    let servers: Vec<Server> =
        Kind::ALL.iter().map(|kind| Server::start(*kind, folder)).collect::<Result<_>>()?;
    let many = rounds(&servers, effort.rounds, effort.run, IN_FLIGHT)?;
    let one = rounds(&servers, effort.rounds, effort.run / 2, 1)?;
    let figures = [
        ratio(&many, Kind::Plain, "0.80", "0.90")?,
        ratio(&many, Kind::NginxProxy, "1.6", "")?,
        cpu(&many)?,
        added(&one, Kind::Hot, "25 us", "12 us")?,
        added(&one, Kind::NginxProxy, "", "")?,
    ];
    Ok(Section {
        title: "The hop",
        text: format!(
            "Every server answers with the same 1 KiB. Server and load have a core each; {IN_FLIGHT} kept-alive connections, then one, \
             each with one request in flight, as fast as they go. CPU time is that of all processes of a server, backends behind \
             proxies too."
        ),
        figures: figures.into(),
        tables: vec![table(&many), latency(&one)],
        plots: vec![throughput(&many), one_in_flight(&one)],
    })
}

fn ratio(many: &Rounds, to: Kind, held: &'static str, goal: &'static str) -> Result<Figure> {
    let spread = many.pairs(Kind::Hot, to, |hot, other| hot.per_second / other.per_second);
    Ok(Figure {
        what: format!("{IN_FLIGHT} in flight, throughput, Hot over {}", to.name()),
        held,
        goal,
        measured: spread.context("both were measured")?.text(2),
    })
}

fn cpu(many: &Rounds) -> Result<Figure> {
    let spread = many.pairs(Kind::Plain, Kind::Hot, |plain, hot| plain.cpu_us / hot.cpu_us);
    Ok(Figure {
        what: format!("{IN_FLIGHT} in flight, CPU time per request, plain hyper over Hot"),
        held: "",
        goal: "",
        measured: spread.context("both were measured")?.text(2),
    })
}

fn added(one: &Rounds, kind: Kind, held: &'static str, goal: &'static str) -> Result<Figure> {
    let spread = one.pairs(kind, Kind::Plain, |hop, plain| hop.p50_us - plain.p50_us);
    Ok(Figure {
        what: format!("one in flight, p50 that {} adds to plain hyper", kind.name()),
        held,
        goal,
        measured: format!("{} us", spread.context("both were measured")?.text(0)),
    })
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

fn latency(one: &Rounds) -> Table {
    let cell = |spread: Option<Spread>| spread.map_or_else(String::new, |spread| spread.text(0));
    Table {
        title: "One request in flight".to_owned(),
        head: ["server", "p50, us", "p99, us"].map(str::to_owned).into(),
        rows: Kind::ALL
            .iter()
            .map(|kind| {
                let figure = |of: fn(&crate::compare::Run) -> f64| cell(one.of(*kind, of));
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
