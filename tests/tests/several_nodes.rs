//! Several dev nodes of one user on one machine.

use anyhow::Result;
use hot_tests::{Module, Node, NodeOptions};
use serde_json::Value;

#[test]
fn each_dev_node_is_found_and_none_takes_the_place_of_another() -> Result<()> {
    let first = Node::start()?;
    let runtime_dir = Some(first.runtime_dir().to_owned());
    let mut second = Node::start_with(NodeOptions { runtime_dir, ..NodeOptions::default() })?;
    let names = [&first, &second].map(|node| format!("unix:{}", node.socket().display()));

    let asked = first.hotctl(&["status"])?.expect(1)?;
    let sentence = asked.sentence()?;
    assert!(names.iter().all(|name| sentence.contains(name)), "{sentence}");
    assert!(sentence.contains("--node unix:"), "{sentence}");
    let json = first.hotctl(&["trust", "list", "-o", "json"])?.expect(1)?;
    let error: Value = serde_json::from_str(json.stderr.trim_end())?;
    assert_eq!(error["error"]["code"], "several_nodes");

    // Each has its own key, and a push to the second one is signed with that.
    let file = Module::new("good").build()?;
    let file = file.to_string_lossy();
    let grpc = format!("http://{}", second.grpc());
    first.hotctl(&["push", &file, "--node", &grpc])?.expect(0)?;
    for (name, modules) in names.iter().zip([0, 1]) {
        let status: Value = first.hotctl(&["status", "-o", "json", "--node", name])?.expect(0)?.json()?;
        assert_eq!(status["modules"].as_array().map(Vec::len), Some(modules), "{name}");
    }

    // Killed, so that its record stays.
    second.kill_all()?;
    first.hotctl(&["status"])?.expect(0)?;
    first.stop()
}
