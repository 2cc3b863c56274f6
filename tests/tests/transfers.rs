//! Artifacts on their way between nodes: over lines that break, delay and lose, and from nodes that do not mean well.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use hot_tests::{Fleet, Gives, Liar, Module, sha256};
use serde_json::json;

const QUICK: [&str; 4] = ["--steps", "100%", "--bake", "1s"];
const MIB: u64 = 1 << 20;
/// Slow enough that a fault meets a transfer in its middle, and each peer has its turn: 50 MiB take some six seconds.
const SLOWLY: &str = "fetch_rate = \"8MiB\"";
/// Of what a cut may cost: 5% more than the file has.
const MOST: (u64, u64) = (105, 100);
/// How long a transfer may take over the worst line of these tests, which needs a fifth of it.
const DEADLINE: Duration = Duration::from_secs(180);

/// A module of so many MiB.
fn large(mib: u64) -> Result<PathBuf> {
    Module::new("large").number("MIB", mib).build()
}

/// Pushes a file while the last node is away, so that it fetches when it is back and nothing waits for it.
fn push_without_the_last(fleet: &mut Fleet, file: &Path) -> Result<()> {
    let last = fleet.nodes().len() - 1;
    fleet.node(last).terminate()?;
    fleet.wait("the node to be taken for gone", || {
        let nodes = fleet.nodes()[0].hotctl(&["nodes", "-o", "json"])?.expect(0)?.stdout;
        Ok(nodes.contains("its lease in etcd is over"))
    })?;
    let pushed = fleet.push(0, file, &QUICK)?;
    ensure!(pushed.code == 5, "one node is not there: {pushed:?}");
    Ok(())
}

/// The node serves the version that was pushed.
fn serves(fleet: &Fleet, node: usize) -> Result<()> {
    fleet.wait_for(DEADLINE, "the node to serve", || Ok(fleet.serves(node)?.trim() == "probe 1.0.0"))
}

/// The node's events tell that another one was dropped, and why.
fn tells(fleet: &Fleet, node: usize, of: &str, why: &str) -> Result<()> {
    fleet.wait("the event", || {
        let asked = &fleet.nodes()[node];
        let events =
            asked.hotctl(&["events", "--on", asked.name(), "-n", "100", "-o", "json"])?.expect(0)?.stdout;
        let told = events.lines().any(|line| {
            let is_of =
                line.contains("transfer.dropped") && line.contains(&format!("\"{of} is not asked for"));
            is_of && line.contains(why)
        });
        ensure!(told, "{of}, {why}: {events}");
        Ok(true)
    })
}

/// The line: a cut of 30 s in a transfer of 50 MiB. For half of it nothing arrives, and then nothing can be connected.
#[test]
fn a_transfer_goes_on_after_a_cut_and_sends_little_twice() -> Result<()> {
    let mut fleet = Fleet::start_with_links(2, SLOWLY)?;
    let file = large(50)?;
    let size = file.metadata()?.len();
    push_without_the_last(&mut fleet, &file)?;
    let before = fleet.link(0).answered();
    fleet.boot(1)?;
    fleet.wait("the middle of the transfer", || Ok(fleet.link(0).answered() - before > size / 3))?;
    fleet.link(0).stall();
    thread::sleep(Duration::from_secs(15));
    fleet.link(0).cut();
    thread::sleep(Duration::from_secs(15));
    let travelled = fleet.link(0).answered() - before;
    assert!(travelled < size, "it is the middle: {travelled} of {size}");
    fleet.link(0).mend();
    serves(&fleet, 1)?;
    let travelled = fleet.link(0).answered() - before;
    assert!(travelled >= size && travelled * MOST.1 <= size * MOST.0, "{travelled} of {size}");
    // It was silent for longer than a node may be, and was asked all the same, as nobody else has it.
    tells(&fleet, 1, "n1", "it sent nothing for 10 s")
}

#[test]
fn a_transfer_goes_on_after_a_restart() -> Result<()> {
    let mut fleet = Fleet::start_with_links(2, SLOWLY)?;
    let file = large(50)?;
    let size = file.metadata()?.len();
    push_without_the_last(&mut fleet, &file)?;
    let before = fleet.link(0).answered();
    fleet.boot(1)?;
    fleet.wait("the middle of the transfer", || Ok(fleet.link(0).answered() - before > size / 3))?;
    fleet.node(1).kill()?;
    fleet.boot(1)?;
    serves(&fleet, 1)?;
    let travelled = fleet.link(0).answered() - before;
    assert!(travelled >= size && travelled * MOST.1 <= size * MOST.0, "{travelled} of {size}");
    Ok(())
}

#[test]
fn a_transfer_ends_over_a_line_that_delays_and_loses() -> Result<()> {
    let mut fleet = Fleet::start_with_links(3, "")?;
    let file = large(50)?;
    push_without_the_last(&mut fleet, &file)?;
    for node in 0..2 {
        fleet.link(node).lose(Duration::from_millis(100), 2);
    }
    fleet.boot(2)?;
    serves(&fleet, 2)
}

#[test]
fn several_give_at_once_and_the_faster_one_more() -> Result<()> {
    let mut fleet = Fleet::start_with_links(3, "")?;
    let file = large(50)?;
    let size = file.metadata()?.len();
    push_without_the_last(&mut fleet, &file)?;
    let before = [0, 1].map(|node| fleet.link(node).answered());
    fleet.link(0).narrow(2 << 20);
    fleet.link(1).narrow(16 << 20);
    fleet.boot(2)?;
    serves(&fleet, 2)?;
    let [slower, faster] = [0, 1].map(|node| fleet.link(node).answered() - before[node]);
    assert!(slower > MIB && faster > slower, "{slower} and {faster} of {size}");
    assert!((slower + faster) * MOST.1 <= size * MOST.0, "{slower} and {faster} of {size}");
    let peak = fleet.nodes()[2].daemon()?.holds()?.peak;
    assert!(peak < 64 * MIB, "{peak} bytes of memory at most");
    Ok(())
}

/// A node comes back to a fleet in which n1 has what it lacks, and so does, as etcd says, one that does not mean well.
fn beside(gives: Gives, why: &str) -> Result<()> {
    let mut fleet = Fleet::start_with_links(2, SLOWLY)?;
    let file = large(16)?;
    push_without_the_last(&mut fleet, &file)?;
    let liar = Liar::join(&fleet.etcd, "n9", &file, gives)?;
    fleet.boot(1)?;
    serves(&fleet, 1)?;
    assert!(liar.asked() > 0, "it was asked as well");
    tells(&fleet, 1, "n9", why)
}

#[test]
fn a_peer_that_gives_other_bytes_is_dropped_and_told_of() -> Result<()> {
    beside(Gives::OtherBytes, "it sent other bytes than those of this digest")
}

#[test]
fn a_peer_that_is_slow_is_dropped_and_told_of() -> Result<()> {
    beside(Gives::Drips, "expected at least 327680")
}

#[test]
fn a_peer_that_stops_in_the_middle_is_dropped_and_told_of() -> Result<()> {
    beside(Gives::Stops, "it sent 32768 bytes in ")
}

#[test]
fn a_peer_that_ends_early_is_dropped_and_told_of() -> Result<()> {
    beside(Gives::EndsEarly, "it ended 229376 bytes before the end of what it was asked for")
}

/// Who can write to etcd can say more of a digest than is so, and keeps nobody from the artifact.
#[test]
fn a_digest_that_is_lied_about_is_found_all_the_same() -> Result<()> {
    let mut fleet = Fleet::start_with_links(2, SLOWLY)?;
    let file = large(16)?;
    push_without_the_last(&mut fleet, &file)?;
    let (digest, target) = (sha256(&std::fs::read(&file)?), format!("{}-gnu", std::env::consts::ARCH));
    let version = json!({
        "record": {
            "module": "aaa", "version": "0.0.1", "target": target, "digest": digest, "size": 10, "metadata": "",
            "principal": "ada@example.com", "signature": "none", "at": 1, "by": "mallory",
        },
        "node": "n8",
    });
    fleet.etcd.put(&format!("hot/v1/fleet/versions/aaa/0.0.1/{target}"), &version.to_string())?;
    // A node that leads to this one's own socket, and one to where nobody is.
    let here = fleet.nodes()[1].socket();
    for (name, url) in [("n7", format!("unix:{}", here.display())), ("n8", "https://127.0.0.1:1".to_owned())]
    {
        let node = json!({ "target": target, "grpc": url, "http": "", "hotd": "0.1.0", "since": 1 });
        fleet.etcd.put(&format!("hot/v1/fleet/nodes/{name}"), &node.to_string())?;
        fleet.etcd.put(&format!("hot/v1/fleet/alive/{name}"), &json!({ "since": 1 }).to_string())?;
        fleet.etcd.put(&format!("hot/v1/holders/{digest}/{name}"), "1")?;
    }
    fleet.boot(1)?;
    serves(&fleet, 1)?;
    tells(&fleet, 1, "n7", "is n2, and not n7, as etcd says")?;
    Ok(())
}
