use std::time::{Duration, SystemTime};

use hot_proto::v1::{Cordon, Heard, SwapWindow, Version};

use super::*;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(100)
}

#[test]
fn all_modules() {
    assert_eq!(
        modules(&examples::modules(), Layout::PIPE),
        [
            "NAME     PHASE        STABLE     CANDIDATE  SHARE  REASON",
            "greeter  baking       1.0.0 (1)  1.1.0 (2)  10%    20 s of bake",
            "hello-c  rolled back  0.1.0 (1)  -          -      the candidate crashed with signal 11",
        ]
    );
    assert_eq!(modules(&[], Layout::PIPE).len(), 1, "an empty node says what to do");
}

#[test]
fn one_module() {
    let all = examples::modules();
    assert_eq!(
        module(&all[0], now(), Layout::PIPE),
        [
            "greeter",
            "  phase      baking",
            "  stable     1.0.0 (1) aaaaaaaaaaaa",
            "  candidate  1.1.0 (2) bbbbbbbbbbbb at 10%",
            "  waiting on 20 s of bake",
            "  rollout    r-7",
            "  routes     /greet",
            "",
            "NODE  INSTANCE  VERSION    ROLE       STATE  WEIGHT  REQUESTS  ERRORS  P99 MS  STARTED  REASON",
            "n1    1         1.0.0 (1)  stable     ready  90%     1200      3       1.25    1m ago   -",
            "n1    2         1.1.0 (2)  candidate  ready  10%     1200      3       1.25    1m ago   -",
            "instance 2: held without scopes, cpu",
        ]
    );
    let ended = module(&all[1], now(), Layout::PIPE);
    assert_eq!(
        ended.last().map(String::as_str),
        Some(
            "n1    3         0.2.0 (2)  -     ended  0%      0         0       -       1m ago   ended by signal 11"
        )
    );
}

#[test]
fn what_a_failed_instance_printed_and_was_refused_is_shown_below() {
    let mut all = examples::modules();
    let instance = &mut all[1].nodes[0].instances;
    let ended = instance.last_mut().unwrap();
    ended.last_lines = vec!["opening /data".to_owned(), "no \u{1b}[31mway".to_owned()];
    let call = |call: &str, times| DeniedCall { call: call.to_owned(), times };
    ended.denied = vec![call("io_uring_setup", 3), call("ptrace", 1)];
    let lines = module(&all[1], now(), Layout::PIPE);
    assert_eq!(
        lines[lines.len() - 4..],
        [
            "instance 3 was refused system calls: io_uring_setup 3 times, ptrace once",
            "instance 3 of release 2 last printed:",
            "  opening /data",
            &format!("  {}", words::clean("no \u{1b}[31mway")),
        ]
    );
}

#[test]
fn versions_and_history() {
    assert_eq!(
        versions(&of_one(examples::versions()), now(), Layout::PIPE),
        [
            "VERSION  TARGET            DIGEST        SIZE     SIGNED BY  COMMITTED  STATE",
            "1.2.0    x86_64-linux-gnu  cccccccccccc  1.5 KiB  dev        1m ago     quarantined: crashed with signal 11",
            "1.1.0    x86_64-linux-gnu  bbbbbbbbbbbb  1.5 KiB  dev        1m ago     stable",
            "1.0.0    x86_64-linux-gnu  aaaaaaaaaaaa  -        -          1m ago     removed",
            "0.9.0    x86_64-linux-gnu  aaaaaaaaaaaa  -        -          1m ago     dropped by `keep`; the same file may be pushed again",
        ]
    );
    assert_eq!(
        history(&examples::history(), now(), Layout::PIPE),
        [
            "RELEASE  VERSION  HOW   ENDED AS     BY   STARTED    SWAP                                              WHY",
            "2        1.1.0    push  rolled back  dev  1m ago     12 in flight, 3 sent again, p99 3.10, 3.30, - ms  faster (errors 5.00% > 1.00%)",
            "1 *      1.0.0    push  done         dev  1m30s ago  -                                                 first",
            "* is stable now",
        ]
    );
}

#[test]
fn a_swap_is_told_as_its_clients_saw_it() {
    let line = |swap: Swap| {
        let entry = HistoryEntry { swaps: vec![swap], ..examples::history().remove(1) };
        history(&[entry], now(), Layout::PIPE)[1].clone()
    };
    let lost = line(Swap { in_flight: 12, lost: 3, sent_again: 2, ..Swap::default() });
    assert!(lost.contains("  12 in flight, 1 lost  first"), "{lost}");
    let none = line(Swap {
        in_flight: 2,
        before: Some(SwapWindow { requests: 9, p99_ms: Some(3.0) }),
        ..Swap::default()
    });
    assert!(none.contains("  2 in flight, 0 lost, p99 3.00, -, - ms  first"), "{none}");
}

#[test]
fn one_star_after_a_rollback() {
    let mut entries = examples::history();
    let back = HistoryEntry { rollback: true, ..entries[1].clone() };
    entries.insert(0, back);
    let lines = history(&entries, now(), Layout::PIPE);
    let marked: Vec<&str> = lines.iter().filter(|line| line.starts_with("1 *")).map(String::as_str).collect();
    assert_eq!(marked.len(), 1);
    assert!(
        marked[0].starts_with("1 *      1.0.0    rollback  done         dev  1m30s ago  -  "),
        "{marked:?}"
    );
    assert!(marked[0].ends_with("  first"), "{marked:?}");
}

#[test]
fn what_a_node_lacks_is_said() {
    let node = Node {
        name: "n1".to_owned(),
        dev: true,
        ready: true,
        missing: vec!["users of their own for modules".to_owned()],
        problems: vec![NodeProblem {
            node: "n1".to_owned(),
            code: "trust.frozen".to_owned(),
            text: "signers:3: no key".to_owned(),
            since: Some(prost_types::Timestamp { seconds: 40, nanos: 0 }),
        }],
        ..Node::default()
    };
    let lines = nodes(&[node], now(), Layout::PIPE);
    assert!(lines[1].starts_with("n1 (dev)  ready"), "{lines:?}");
    assert_eq!(lines[2], "n1 lacks: users of their own for modules");
    assert_eq!(lines[3], "n1: trust.frozen: signers:3: no key (since 1m ago)");
}

#[test]
fn a_node_that_is_kept_out_of_rollouts_says_so_beside_its_state() {
    let state = |ready, drain| {
        let cordon = Some(Cordon { principal: "ann".to_owned(), drain, ..Cordon::default() });
        let node = Node { name: "n1".to_owned(), ready, cordon, ..Node::default() };
        nodes(&[node], now(), Layout::PIPE)[1].clone()
    };
    assert!(state(true, false).starts_with("n1    ready, cordoned  "), "{}", state(true, false));
    assert!(state(false, true).starts_with("n1    not ready, drained  "), "{}", state(false, true));
}

#[test]
fn an_event_is_one_line() {
    let lines = event(
        &Event {
            kind: "rollout.started".to_owned(),
            text: "greeter 1.1.0\nsecond".to_owned(),
            principal: "dev".to_owned(),
            time: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            ..Event::default()
        },
        None,
        Layout::PIPE,
    );
    assert_eq!(lines, ["1970-01-01T00:00:00Z  rollout.started  greeter 1.1.0\u{fffd}second (by dev)"]);
    let said = |text: &str| {
        let event = Event {
            module: "greeter".to_owned(),
            kind: "k".to_owned(),
            text: text.to_owned(),
            ..Event::default()
        };
        super::event(&event, None, Layout::PIPE).join("|")
    };
    let of_fleet =
        Event { node: "n1".to_owned(), kind: "k".to_owned(), text: "t".to_owned(), ..Event::default() };
    assert_eq!(event(&of_fleet, Some(4), Layout::PIPE), ["  n1    k  t"]);
    assert_eq!(said("step 1 of 2 begins").trim(), "k  greeter: step 1 of 2 begins");
    assert_eq!(said("greeter 1.1.0 starts").trim(), "k  greeter 1.1.0 starts", "it is not named twice");
    assert_eq!(said("greeter-2 is another").trim(), "k  greeter: greeter-2 is another");
}

#[test]
fn what_nodes_say_in_the_same_words_is_one_line() {
    let event = |node: &str, text: &str| Event {
        node: node.to_owned(),
        kind: "k".to_owned(),
        text: text.to_owned(),
        ..Event::default()
    };
    let all = [event("n1", "a"), event("n2", "a"), event("n3", "b"), event("n3", "b"), event("n1", "a")];
    let lines = events(&all, Some(2), Layout::PIPE);
    assert_eq!(lines, ["  2 nodes  k  a", "  n3       k  b", "  n3       k  b", "  n1       k  a"]);
    assert_eq!(events(&all, None, Layout::PIPE).len(), 5, "of one node each is one");
}

fn of_one(versions: Vec<Version>) -> VersionsResponse {
    VersionsResponse { versions, heard: None }
}

#[test]
fn a_version_that_is_not_everywhere_says_where_it_is() {
    let mut versions = examples::versions();
    versions[0].nodes = vec!["n2".to_owned()];
    versions[1].nodes = vec!["n1".to_owned(), "n2".to_owned()];
    let heard = Heard { nodes: vec!["n1".to_owned(), "n2".to_owned()], silent: Vec::new() };
    let lines = super::versions(&VersionsResponse { versions, heard: Some(heard) }, now(), Layout::PIPE);
    assert_eq!(lines[5..], ["1.2.0 for x86_64-linux-gnu is on n2"]);
}

#[test]
fn a_narrow_terminal_has_no_line_that_it_would_break() {
    let layout = Layout { colour: false, width: Some(60) };
    let modules = examples::modules();
    let problem =
        NodeProblem { text: "signers:3: found `ada`, expected a key".to_owned(), ..NodeProblem::default() };
    let problems = problems(&[problem], now(), layout);
    let shown = [
        super::modules(&modules, layout),
        module(&modules[1], now(), layout),
        versions(&of_one(examples::versions()), now(), layout),
        history(&examples::history(), now(), layout),
        problems,
    ];
    for line in shown.iter().flatten() {
        assert!(line.chars().count() <= 60, "{line:?}");
    }
    assert_eq!(
        shown[2][2..5],
        [
            "1.2.0    x86_64-linux-gnu  cccccccccccc  1.5 KiB  dev",
            "    1m ago     quarantined: crashed with signal 11",
            "1.1.0    x86_64-linux-gnu  bbbbbbbbbbbb  1.5 KiB  dev"
        ]
    );
}
