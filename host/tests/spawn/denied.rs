//! System calls that a host's filter refuses: answered, counted, told.

use hot_wire::spawn::{Cause, Features, FromSpawn, Limits, ToSpawn};

use crate::node::{Greedy, Node};

/// What the hosts here have refused.
const GETPPID: u32 = getppid();

const fn getppid() -> u32 {
    if cfg!(target_arch = "x86_64") { 110 } else { 173 }
}

fn spawn(client: &mut crate::node::Client, id: u64, what: &str) -> crate::node::Host {
    client.spawn_with(id, what, Limits::default())
}

#[test]
fn refused_calls_are_counted_and_told() {
    let greedy = Greedy::compile();
    let node = Node::with_host(greedy.path(), &[]);
    let mut client = node.connect();
    let host = spawn(&mut client, 1, "calls");
    host.say("1000");
    assert_eq!(host.hear(), "done");
    client.until(|client| client.denied(1, GETPPID) == 1000);
    // The rest comes before the end, however shortly before it was made.
    host.say("-7");
    assert_eq!(client.exited(1), Cause::Exited(0));
    assert_eq!(client.denied(1, GETPPID), 1007);
}

#[test]
fn calls_while_no_hotd_is_there_are_told_to_the_next_one_behind_its_list() {
    let greedy = Greedy::compile();
    let node = Node::with_host(greedy.path(), &[]);
    let mut client = node.connect();
    let host = spawn(&mut client, 1, "calls");
    drop(client);
    host.say("500");
    assert_eq!(host.hear(), "done");
    let client = node.connect();
    client.send(&ToSpawn::Kept, None);
    assert_eq!(client.receive().unwrap().0, FromSpawn::KeptEnd, "before the list");
    client.send(&ToSpawn::List, None);
    assert!(matches!(client.receive().unwrap().0, FromSpawn::Host { id: 1, .. }));
    assert_eq!(client.receive().unwrap().0, FromSpawn::ListEnd);
    let told = FromSpawn::Denied { id: 1, calls: vec![(GETPPID, 500)] };
    assert_eq!(client.receive().unwrap().0, told);
}

#[test]
fn what_an_ended_host_was_refused_is_told_as_well() {
    let greedy = Greedy::compile();
    let node = Node::with_host(greedy.path(), &[]);
    let mut client = node.connect();
    let host = spawn(&mut client, 1, "calls");
    let ended = crate::node::Watched::new(host.pid);
    drop(client);
    host.say("-300");
    ended.ends();
    let mut client = node.connect();
    client.list();
    client.until(|client| client.denied(1, GETPPID) == 300);
}

#[test]
fn a_hotd_of_before_hears_nothing_of_it() {
    let greedy = Greedy::compile();
    let node = Node::with_host(greedy.path(), &[]);
    let mut client = node.connect_with(Features::default());
    let host = spawn(&mut client, 1, "calls");
    host.say("10");
    assert_eq!(host.hear(), "done");
    host.say("-10");
    assert_eq!(client.exited(1), Cause::Exited(0));
    assert_eq!(client.denied(1, GETPPID), 0);
}

#[test]
fn a_flood_of_refused_calls_holds_nobody_else_up() {
    let greedy = Greedy::compile();
    let node = Node::with_host(greedy.path(), &[]);
    let mut client = node.connect();
    spawn(&mut client, 1, "flood");
    client.until(|client| client.denied(1, GETPPID) > 1000);
    for id in 2..12 {
        spawn(&mut client, id, "calls");
        client.send(&ToSpawn::Signal { id, signal: 9 }, None);
        assert_eq!(client.exited(id), Cause::Killed(9));
    }
    client.send(&ToSpawn::Signal { id: 1, signal: 9 }, None);
    assert_eq!(client.exited(1), Cause::Killed(9));
}

#[test]
fn anything_else_than_a_listener_is_ignored() {
    let greedy = Greedy::compile();
    let node = Node::with_host(greedy.path(), &[]);
    let mut client = node.connect();
    let host = spawn(&mut client, 1, "wrong");
    host.say("x");
    assert_eq!(client.exited(1), Cause::Exited(0));
    assert_eq!(client.list().len(), 1);
}
