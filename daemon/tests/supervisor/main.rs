//! The supervisor with the real hot-spawn, the real hot-host, and a module in C whose config says what it does.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod node;

use std::time::Duration;

use hot_wire::host::Stage;
use hotd::supervisor::{End, Instance, MAX_CONFIG, Spec, State};
use node::{Node, spec};
use rustix::process::{Pid, Signal};

const GRACE: Duration = Duration::from_secs(20);

fn signal(pid: u32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

/// A process that is stopped as long as this lives.
struct Held(u32);

impl Held {
    fn new(pid: u32) -> Self {
        signal(pid, Signal::STOP);
        Self(pid)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        signal(self.0, Signal::CONT);
    }
}

fn tail(instance: &Instance) -> Vec<String> {
    instance.output_tail().iter().map(|line| line.text.to_string()).collect()
}

#[test]
fn an_instance_starts_serves_and_stops() {
    let node = Node::new();
    let hotd = node.hotd();
    let instance = hotd.start(1, "hello");
    hotd.ready(&instance);
    assert_eq!(hotd.ask(&instance, "/"), Some("hello".into()));
    assert!(tail(&instance).contains(&"starting with hello".into()), "{:?}", tail(&instance));
    hotd.runtime.block_on(instance.stop(GRACE));
    assert_eq!(hotd.end(&instance), End::Stopped);
    let error = hotd.runtime.block_on(instance.attach(1)).unwrap_err();
    assert_eq!(error.to_string(), "instance 1 is not ready");
}

#[test]
fn a_crash_under_way_is_told_with_its_signal_and_the_others_go_on() {
    let node = Node::new();
    let hotd = node.hotd();
    let (one, other) = (hotd.start(1, "one"), hotd.start(2, "other"));
    hotd.ready(&one);
    hotd.ready(&other);
    assert_eq!(hotd.ask(&one, "/crash"), None);
    let end = hotd.end(&one);
    assert!(matches!(end, End::Crashed { signal: 11, .. }), "{end:?}");
    assert!(end.to_string().starts_with("was killed by SIGSEGV; it last printed: "), "{end}");
    assert_eq!(hotd.ask(&other, "/"), Some("other".into()));
}

#[test]
fn what_does_not_come_up_is_told_with_the_reason() {
    let node = Node::new();
    let hotd = node.hotd();
    let instance = hotd.start(1, "fail");
    let End::LoadFailed { stage, text } = hotd.end(&instance) else { panic!("{instance:?}") };
    assert_eq!(stage, Some(Stage::Start));
    assert!(text.contains("the subject was told to fail"), "{text}");
    for (id, config, expected) in [
        (
            2,
            "exit",
            "failed to load: the host exited with code 3 before the module was ready; it last printed: ",
        ),
        (
            3,
            "crash",
            "failed to load: the host was killed by SIGSEGV before the module was ready; it last printed: ",
        ),
    ] {
        let end = hotd.end(&hotd.start(id, config)).to_string();
        assert!(end.starts_with(expected), "{end}");
    }
}

/// A module has its host's descriptors, and may write on them.
#[test]
fn what_a_module_forges_on_its_hosts_socket_is_the_end_of_it() {
    let node = Node::new();
    let hotd = node.hotd();
    for (id, config, expected) in [
        (1, "forge ready", "`Ready`, while the host itself answers that it is still starting"),
        // The first one may be found out before the second one comes.
        (2, "forge ready twice", "`Ready`"),
        (3, "forge rubbish", "unreadable message"),
        (4, "forge a giant", "a packet is longer than any message"),
        (5, "close", "its control socket was closed, and it did not end"),
    ] {
        // Far below the deadline of a start, which would end it as well.
        let begun = std::time::Instant::now();
        let End::Forged { text } = hotd.end(&hotd.start(id, config)) else { panic!("{config}") };
        assert!(text.contains(expected), "{config}: {text}");
        assert!(begun.elapsed() < spec(id).start_deadline / 2, "{config}: {:?}", begun.elapsed());
    }
}

#[test]
fn what_a_data_link_should_not_carry_is_the_end_of_an_instance_that_serves() {
    let node = Node::new();
    let hotd = node.hotd();
    let instance = hotd.start(1, "");
    hotd.ready(&instance);
    instance.accuse("on a data link the host broke the protocol".to_owned());
    let end = hotd.end(&instance);
    assert_eq!(end, End::Forged { text: "on a data link the host broke the protocol".to_owned() });
}

#[test]
fn a_start_that_never_ends_is_cut_off_at_its_deadline() {
    let node = Node::new();
    let hotd = node.hotd();
    let limit = Duration::from_millis(300);
    let instance = hotd.start_with(Spec { config: b"hang".into(), start_deadline: limit, ..spec(1) });
    assert_eq!(hotd.end(&instance), End::StartTimeout { limit });
}

#[test]
fn a_host_that_gives_no_sign_of_life_is_killed() {
    let node = Node::new();
    let hotd = node.hotd();
    let instance = hotd.start_with(Spec { health_threshold: 20, ..spec(1) });
    hotd.ready(&instance);
    signal(instance.pid(), Signal::STOP);
    let End::Hung { silent, limit } = hotd.end(&instance) else { panic!("{instance:?}") };
    assert_eq!(limit, Duration::from_secs(2));
    assert!(silent >= limit, "{silent:?}");
}

/// It is told as failing while its process is still there: hot-spawn, which is to kill it, is held up.
#[test]
fn a_host_that_hangs_is_told_before_it_is_gone() {
    let node = Node::new();
    let hotd = node.hotd();
    let instance = hotd.start_with(Spec { health_threshold: 20, ..spec(1) });
    hotd.ready(&instance);
    let spawn = Held::new(node.spawn_pid());
    signal(instance.pid(), Signal::STOP);
    let state = hotd.wait(&instance, |state| *state != State::Ready);
    assert!(matches!(state, State::Failing(End::Hung { .. })), "{state:?}");
    let refused = hotd.runtime.block_on(instance.attach(1));
    assert!(refused.is_err(), "nothing is to go to it any more");
    drop(spawn);
    assert!(matches!(hotd.end(&instance), End::Hung { .. }));
}

#[test]
fn a_module_that_says_it_is_unhealthy_is_killed() {
    let node = Node::new();
    let hotd = node.hotd();
    // As for those that hang: a host that takes its time to answer, on a busy machine, does not.
    let instance = hotd.start_with(Spec { config: b"unhealthy".into(), health_threshold: 20, ..spec(1) });
    let End::FailingHealth { failures: 20, limit: 20, text } = hotd.end(&instance) else {
        panic!("{instance:?}")
    };
    assert!(text.contains("the subject was told to be unhealthy"), "{text}");
}

#[test]
fn a_host_that_does_not_stop_is_killed() {
    let node = Node::new();
    let hotd = node.hotd();
    let instance = hotd.start(1, "");
    hotd.ready(&instance);
    // It reads nothing and TERM waits.
    signal(instance.pid(), Signal::STOP);
    hotd.runtime.block_on(instance.stop(Duration::from_millis(100)));
    assert_eq!(hotd.end(&instance), End::Stopped);
}

#[test]
fn an_instance_without_a_handle_is_still_followed() {
    let node = Node::new();
    let hotd = node.hotd();
    let instance = hotd.start(1, "");
    hotd.ready(&instance);
    let (mut state, pid) = (instance.state(), instance.pid());
    drop(instance);
    signal(pid, Signal::KILL);
    let ended = hotd.runtime.block_on(async {
        let ended = state.wait_for(|state| matches!(state, State::Ended(_)));
        tokio::time::timeout(GRACE, ended).await.unwrap().unwrap().clone()
    });
    assert!(matches!(ended, State::Ended(End::Crashed { signal: 9, .. })), "{ended:?}");
}

#[test]
fn a_flood_of_output_keeps_nobody_waiting_and_only_its_end_is_kept() {
    let node = Node::new();
    let hotd = node.hotd();
    let instance = hotd.start(1, "flood");
    hotd.ready(&instance);
    let mut lines = instance.subscribe_output();
    assert_eq!(hotd.ask(&instance, "/"), Some("flood".into()));
    assert!(tail(&instance).len() <= 50);
    hotd.runtime.block_on(async {
        let mut missed = 0;
        loop {
            match lines.recv().await {
                Ok(line) if line.text.starts_with("a line of the flood") => break,
                Ok(_) => {}
                Err(tokio::sync::broadcast::error::RecvError::Lagged(lines)) => missed += lines,
                Err(error) => panic!("{error} after {missed}"),
            }
        }
    });
}

#[test]
fn hosts_are_adopted_by_the_next_hotd() {
    let node = Node::new();
    let hotd = node.hotd();
    assert!(hotd.adopted.is_empty());
    let (ready, hanging, dying) = (hotd.start(1, "ready"), hotd.start(2, "hang"), hotd.start(3, "dying"));
    hotd.ready(&ready);
    hotd.ready(&dying);
    let pids = [ready.pid(), hanging.pid(), dying.pid()];
    hotd.crash();
    signal(pids[2], Signal::ABORT);

    let hotd = node.hotd();
    let mut adopted: Vec<_> = hotd.adopted.iter().collect();
    adopted.sort_by_key(|adopted| adopted.spec.instance);
    assert_eq!(adopted.iter().map(|adopted| adopted.instance.pid()).collect::<Vec<_>>(), pids);
    assert_eq!(adopted[0].spec, Spec { config: b"ready".into(), ..spec(1) });
    let ready = &adopted[0].instance;
    hotd.ready(ready);
    assert_eq!(hotd.ask(ready, "/"), Some("ready".into()));
    assert_eq!(*adopted[1].instance.state().borrow(), State::Starting);
    // Whether it ended before or after the second hotd came is the same.
    let end = hotd.end(&adopted[2].instance);
    assert!(matches!(end, End::Crashed { signal: 6, .. }), "{end:?}");
    hotd.runtime
        .block_on(async { tokio::join!(adopted[0].instance.stop(GRACE), adopted[1].instance.stop(GRACE)) });
    assert_eq!(hotd.end(ready), End::Stopped);
    hotd.crash();

    // What ended and was told is not told again.
    let hotd = node.hotd();
    assert!(hotd.adopted.is_empty(), "{:?}", hotd.adopted);
}

#[test]
fn listeners_wait_for_the_next_hotd() {
    let node = Node::new();
    let hotd = node.hotd();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    hotd.runtime.block_on(hotd.supervisor.keep_listener("http", &listener)).unwrap();
    hotd.runtime.block_on(hotd.supervisor.keep_listener("old", &listener)).unwrap();
    hotd.runtime.block_on(hotd.supervisor.forget_listener("old"));
    drop(listener);
    hotd.crash();
    let hotd = node.hotd();
    let mut kept = hotd.runtime.block_on(hotd.supervisor.kept_listeners()).unwrap();
    let (name, listener) = kept.remove(0);
    assert!(kept.is_empty());
    assert_eq!(name, "http");
    assert_eq!(std::net::TcpListener::from(listener).local_addr().unwrap(), address);
}

#[test]
fn without_hot_spawn_hosts_are_lost_and_a_new_one_is_started() {
    let node = Node::new();
    let hotd = node.hotd();
    let instance = hotd.start(1, "");
    hotd.ready(&instance);
    signal(node.spawn_pid(), Signal::KILL);
    let end = hotd.end(&instance);
    assert_eq!(end, End::Lost { text: "hot-spawn closed the connection".into() });
    // Until the new one is there, starting is refused with that reason.
    let again = hotd.runtime.block_on(async {
        tokio::time::timeout(GRACE, async {
            loop {
                match hotd.supervisor.start(spec(2), node::subject()).await {
                    Ok(instance) => return instance,
                    Err(error) => {
                        assert_eq!(error.to_string(), "instance 2 was not started: hot-spawn is not there")
                    }
                }
            }
        })
        .await
        .unwrap()
    });
    hotd.ready(&again);
}

/// hot-spawn is held up until its hotd gives the connection up, with starts on their way: what it makes of them afterwards
/// is nobody's.
#[test]
fn what_is_started_after_the_link_was_given_up_is_killed() {
    let node = Node::new();
    let hotd = node.hotd();
    let spawn = node.spawn_pid();
    let held = Held::new(spawn);
    // So large that not all of them fit into the socket: then the connection is given up.
    let starts: Vec<_> = (1..=32)
        .map(|id| {
            let (supervisor, spec) =
                (hotd.supervisor.clone(), Spec { config: vec![b' '; MAX_CONFIG], ..spec(id) });
            hotd.runtime.spawn(async move { supervisor.start(spec, node::subject()).await })
        })
        .collect();
    for start in starts {
        let started = hotd.runtime.block_on(start).unwrap();
        assert!(started.is_err(), "hot-spawn is held up: {started:?}");
    }
    let mut absence = hotd.supervisor.absence();
    let mut wait_absent = |absent: bool| {
        let changed = absence.wait_for(|absence| absence.is_some() == absent);
        let changed = hotd.runtime.block_on(async { tokio::time::timeout(GRACE, changed).await });
        drop(changed.unwrap().unwrap());
    };
    wait_absent(true);
    drop(held);
    wait_absent(false);
    let last = hotd.start(99, "");
    hotd.ready(&last);
    hotd.runtime.block_on(last.stop(GRACE));
    let begun = std::time::Instant::now();
    while !children(node.spawn_pid()).is_empty() {
        assert!(begun.elapsed() < GRACE, "hosts are left: {:?}", children(node.spawn_pid()));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes whose parent is this one.
fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name, which may hold anything: the state, then the parent.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        after.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    let names = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).filter(is_child).collect()
}
