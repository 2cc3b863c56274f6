//! `hotctl contexts`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Context;
use crate::contexts::Contexts;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::contexts;
use crate::output::Tone;
use crate::table::{Cell, Table};

/// List the contexts: fleets by name, in $XDG_CONFIG_HOME/hot/hotctl.toml
///
/// The one with a star is used where neither a node nor a context is named; `hotctl use NAME` makes it another one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hotctl contexts -o json | jq -r '.contexts[].name'")]
pub(crate) struct Args {}

/// What `contexts -o json` prints.
#[derive(Debug, Serialize)]
struct ContextsJson {
    file: Option<PathBuf>,
    /// The one that the file says is used.
    context: Option<String>,
    contexts: Vec<ContextJson>,
}

#[derive(Debug, Serialize)]
struct ContextJson {
    name: String,
    /// It would be used now, by the file or because it is named.
    used: bool,
    nodes: Vec<String>,
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl ContextsJson {
    fn new(file: Option<&Path>, found: Option<Contexts>, named: Option<&str>) -> Self {
        let file = file.map(Path::to_owned);
        let Some(Contexts { chosen, all, .. }) = found else {
            return Self { file, context: None, contexts: Vec::new() };
        };
        let used = named.or(chosen.as_deref()).map(str::to_owned);
        let contexts = all.into_iter().map(|(name, fleet)| ContextJson {
            used: used.as_ref() == Some(&name),
            nodes: fleet.nodes.iter().map(ToString::to_string).collect(),
            authority: fleet.files.authority,
            certificate: fleet.files.certificate,
            key: fleet.files.key,
            name,
        });
        Self { file, contexts: contexts.collect(), context: chosen }
    }
}

pub(crate) fn run(Args {}: &Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let around = context.surroundings();
    let found = contexts(&around)?;
    let all = ContextsJson::new(around.contexts.as_deref(), found, context.wanted.context.as_deref());
    if context.out.json() {
        context.out.object(&all)?;
        return Ok(Exit::Success);
    }
    if all.contexts.is_empty() {
        let file =
            all.file.map_or_else(|| "no file: HOME is not set".to_owned(), |file| file.display().to_string());
        context.out.hint(&format!("there are no contexts in {file}; docs/cli.md has an example"));
        return Ok(Exit::Success);
    }
    let mut table = Table::new(["CONTEXT", "CERTIFICATE", "NODES"]);
    for one in &all.contexts {
        let name = if one.used { format!("{} *", one.name) } else { one.name.clone() };
        let certificate = one.certificate.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        table.row([
            Cell::toned(&name, if one.used { Tone::Good } else { Tone::Plain }),
            Cell::from(certificate),
            Cell::from(one.nodes.join(" ")),
        ]);
    }
    let lines = table.lines(context.out.layout());
    context.out.text(&lines.join("\n"))?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contexts::{Files, Fleet};

    #[test]
    fn the_shape_of_contexts() {
        let fleet = |node: &str, files| Fleet { nodes: vec![node.parse().expect("an address")], files };
        let files = Files {
            authority: Some("/x/prod-ca.pem".into()),
            certificate: Some("/x/ann.pem".into()),
            key: Some("/x/ann.key".into()),
        };
        let all = [
            ("here".to_owned(), fleet("unix:/run/hot/hotd.sock", Files::default())),
            ("prod".to_owned(), fleet("https://10.0.0.1:7443", files)),
        ];
        let file = Path::new("/x/hotctl.toml");
        let found = Contexts {
            file: file.to_owned(),
            chosen: Some("prod".to_owned()),
            all: all.into_iter().collect(),
        };
        let json = ContextsJson::new(Some(file), Some(found), None);
        let json = serde_json::to_string_pretty(&json).expect("serialises");
        assert_eq!(json, include_str!("../../tests/shapes/contexts.json").trim_end());
    }
}
