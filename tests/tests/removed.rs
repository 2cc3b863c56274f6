//! What a person removes is removed from every node of a fleet, also from one that is not there.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use hot_tests::{Fleet, Load, LoadOptions, Module, Service, get};
use serde_json::Value;

const QUICK: [&str; 4] = ["--steps", "50%,100%", "--bake", "1s"];

fn good(version: &str) -> Result<PathBuf> {
    Module::new("good").version(version).build()
}

/// Waits until all of these nodes serve the version.
fn serve(fleet: &Fleet, nodes: &[usize], version: &str) -> Result<()> {
    let expected = format!("probe {version}");
    fleet.wait(&format!("{version} on {nodes:?}"), || {
        nodes.iter().try_fold(true, |all, node| Ok(all && fleet.serves(*node)?.trim() == expected))
    })
}

/// How many artifacts a node has on its disk.
fn artifacts(node: &Service) -> Result<usize> {
    let files = fs::read_dir(node.data_dir().join("artifacts"))?;
    let paths = files.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
    Ok(paths.iter().filter(|path| path.extension().is_some_and(|of| of == "so")).count())
}

fn removed(node: &Service, arguments: &[&str]) -> Result<Value> {
    let command = [&["remove", "probe", "-o", "json"], arguments].concat();
    node.hotctl(&command)?.expect(0)?.json()
}

#[test]
fn a_version_and_then_a_module_are_removed_from_all_nodes_of_a_fleet() -> Result<()> {
    let mut fleet = Fleet::start(3)?;
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        fleet.push(0, &good(version)?, &QUICK)?.expect(0)?;
        serve(&fleet, &[0, 1, 2], version)?;
    }
    fleet.wait("three versions everywhere", || {
        fleet.nodes().iter().try_fold(true, |all, node| Ok(all && artifacts(node)? == 3))
    })?;
    // What any node serves or keeps ready stays, whoever is asked.
    for used in ["1.1.0", "1.2.0"] {
        let refused = fleet.nodes()[1].hotctl(&["remove", "probe", "--version", used])?.expect(1)?;
        assert!(refused.stderr.contains("can't be removed by itself"), "{}", refused.stderr);
    }
    let load = Load::start(LoadOptions::closed(fleet.nodes()[0].http(), "/probe", 4).at(100))?;

    // One node is not there. The others let go at once, and it follows.
    let away = (fleet.leader(0)? + 1) % 3;
    let asked = (0..3).find(|node| *node != away).unwrap_or_default();
    let away_name = fleet.nodes()[away].name().to_owned();
    fleet.node(away).terminate()?;
    fleet.wait("its lease to be over", || {
        let nodes = fleet.nodes()[asked].hotctl(&["nodes"])?.expect(0)?.stdout;
        Ok(nodes.contains("not ready") || nodes.contains("unreachable") || nodes.contains("lease"))
    })?;
    let done = removed(&fleet.nodes()[asked], &["--version", "1.0.0"])?;
    assert_eq!(done["versions"], serde_json::json!(["1.0.0"]));
    assert_eq!(done["away"], serde_json::json!([away_name]));
    for node in (0..3).filter(|node| *node != away) {
        fleet.wait("it to be gone", || Ok(artifacts(&fleet.nodes()[node])? == 2))?;
    }
    let again = removed(&fleet.nodes()[asked], &["--version", "1.0.0"])?;
    assert_eq!(again["versions"], serde_json::json!([]));
    fleet.node(away).boot()?;
    fleet.wait("it to be gone there, too", || Ok(artifacts(&fleet.nodes()[away])? == 2))?;
    // It never comes back, to no node, under other bytes or the same.
    for node in 0..3 {
        let back = fleet.push(node, &good("1.0.0")?, &QUICK)?;
        assert!(
            back.code != 0 && back.stderr.contains("removed"),
            "node {node}: {} {}",
            back.code,
            back.stderr
        );
    }
    serve(&fleet, &[0, 1, 2], "1.2.0")?;

    // The whole module: no node serves it any more, and nothing of it is left.
    let counts = load.stop()?;
    assert_eq!(counts.failed(), 0, "{counts}");
    let done = removed(&fleet.nodes()[away], &["--yes"])?;
    assert_eq!(done["versions"], serde_json::json!(["1.1.0", "1.2.0"]));
    fleet.wait("the module to be gone everywhere", || {
        fleet.nodes().iter().try_fold(true, |all, node| {
            let status = get(node.http(), "/probe")?.status().as_u16();
            Ok(all && status == 404 && artifacts(node)? == 0)
        })
    })?;
    let said = fleet.nodes()[asked].hotctl(&["status"])?.expect(0)?.stdout;
    assert!(!said.contains("probe"), "{said}");
    assert_eq!(removed(&fleet.nodes()[asked], &["--yes"])?["versions"], serde_json::json!([]));

    // A restart brings nothing back, and a new version begins anew.
    fleet.node(away).terminate()?;
    fleet.node(away).boot()?;
    assert_eq!(get(fleet.nodes()[away].http(), "/probe")?.status().as_u16(), 404);
    let file = good("1.3.0")?;
    fleet.push(asked, &file, &QUICK)?.expect(0)?;
    serve(&fleet, &[0, 1, 2], "1.3.0")?;
    Ok(())
}

#[test]
fn nothing_is_removed_while_the_fleet_can_not_be_told() -> Result<()> {
    let mut fleet = Fleet::start(2)?;
    fleet.push(0, &good("1.0.0")?, &QUICK)?.expect(0)?;
    serve(&fleet, &[0, 1], "1.0.0")?;
    fleet.etcd.kill(0)?;
    for node in [0, 1] {
        let refused = fleet.nodes()[node].hotctl(&["remove", "probe", "--yes"])?;
        assert_ne!(refused.code, 0, "{}", refused.stdout);
        assert_eq!(fleet.serves(node)?.trim(), "probe 1.0.0");
        assert_eq!(artifacts(&fleet.nodes()[node])?, 1);
    }
    fleet.etcd.restart(0)?;
    fleet
        .wait("it to be removed", || Ok(fleet.nodes()[1].hotctl(&["remove", "probe", "--yes"])?.code == 0))?;
    fleet.wait("it to be gone", || {
        (0..2).try_fold(true, |all, node| {
            Ok(all && get(fleet.nodes()[node].http(), "/probe")?.status().as_u16() == 404)
        })
    })
}
