//! The contract from the module's side, through the real binary: modules in C and in Rust that use every function in every
//! order that they may, and in orders and with arguments that they may not. Each says of each of its steps how it was
//! answered, as the one list of steps wants it (`tests/modules/steps.def`); here is the gateway that they need for that.
//!
//! All of it runs once more under valgrind, whose errors fail the test: what is refused is refused without reading or
//! writing what it should not.

#![expect(unsafe_code, reason = "hands descriptors to the child between fork and exec")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in a test, and in what supports it, a panic is the message"
)]

#[expect(dead_code, reason = "shared with other tests, which use other parts of it")]
mod support;

#[path = "../../tests/modules/steps.rs"]
mod steps;

use hot_wire::data::{self, AbortCode, CancelReason, Frame, FromHost as FromLink};
use hot_wire::host::{FromHost, StartOptions, ToHost};
use hot_wire::isolation::{Confine, Parts};
use hot_wire::metrics::Value;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Instant;
use support::{Host, Link, PATIENCE, compile, text};

/// An answer in time from a program that is checked at every memory access, on a busy machine.
const UNHURRIED_MS: u32 = 120_000;

/// A host of a module and the gateway's end of a link to it.
struct Rig {
    host: Host,
    link: Link,
    next: u64,
    /// The first part of the module's paths.
    module: &'static str,
    /// Steps that the module has reported, with how often.
    reported: BTreeMap<String, usize>,
}

impl Rig {
    fn new(module: &'static str, file: &[u8], wrapper: &[&str]) -> Self {
        let host = Host::execute_under(wrapper, file);
        // What checks a program from within it needs more of the machine than the program does.
        let all = [Parts::SECCOMP, Parts::FILES, Parts::NETWORK, Parts::SCOPES];
        let leave_out = if wrapper.is_empty() { Parts::NONE } else { all.into_iter().collect() };
        let (_, said) =
            host.begin_confined(StartOptions::default(), Confine { leave_out, ..Confine::default() });
        assert_eq!(said, FromHost::Ready { abi: 0 });
        let mut link = host.attach();
        link.deadline_ms = UNHURRIED_MS;
        Self { host, link, next: 1, module, reported: BTreeMap::new() }
    }

    /// Sends a request whose body is whole if `end`: its number.
    fn ask(&mut self, target: &str, body: &[u8], end: bool) -> u64 {
        self.next += 1;
        self.link.put(self.next, target, &[("x-test", "yes")], body, end);
        self.link.send();
        self.next
    }

    fn send(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        self.link.frames(encode);
        self.link.send();
    }

    /// The next frame, which must be of that exchange.
    fn next(&mut self, number: u64) -> FromLink {
        let frame = self.link.next();
        assert_eq!(frame.exchange, number, "{frame:?}");
        frame.message
    }

    /// Takes as much of a body as there is credit for, and grants none.
    fn window(&mut self, number: u64) -> usize {
        let window = usize::try_from(data::INITIAL_WINDOW).unwrap();
        let mut received = 0;
        while received < window {
            match self.next(number) {
                FromLink::Response(head) => received += head.body.len(),
                FromLink::Body { data, end: false } => received += data.len(),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(received, window, "the host kept to its credit");
        received
    }

    /// Takes a response until its end, granting credit as a client that keeps up: all of its body, and its trailers.
    fn take(&mut self, number: u64) -> (Vec<u8>, Vec<(String, String)>) {
        let mut body = Vec::new();
        loop {
            let (piece, end) = match self.next(number) {
                FromLink::Response(head) => (head.body, head.end),
                FromLink::Body { data, end } => (data, end),
                FromLink::Trailers(fields) => {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    return (body, fields.iter().map(|(name, value)| (text(name), text(value))).collect());
                }
                FromLink::Window(_) => continue,
                other => panic!("{other:?}"),
            };
            body.extend_from_slice(&piece);
            if end {
                return (body, Vec::new());
            }
            let credit = u32::try_from(piece.len()).unwrap();
            self.send(|out| data::window(out, number, credit));
        }
    }

    /// Asks the module what it has done since it was last asked. Nothing of that may have gone wrong.
    fn hear_report(&mut self) {
        let number = self.ask(&format!("/{}/report", self.module), b"", true);
        let text = String::from_utf8(self.take(number).0).unwrap();
        for line in text.lines() {
            let (name, answer) = line.split_once(": ").unwrap();
            assert_eq!(answer, "ok", "{name}");
            *self.reported.entry(name.to_owned()).or_default() += 1;
        }
    }

    /// How often a step was reported since its scenario was last [done](Self::done).
    fn times(&self, step: &str) -> usize {
        self.reported.get(step).copied().unwrap_or_default()
    }

    /// Waits until the module has reported what is wanted, which it may do on another thread.
    fn wait(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(self) {
            assert!(Instant::now() < deadline, "waited in vain for {what}; reported: {:#?}", self.reported);
            self.hear_report();
        }
    }

    /// Waits until every step of the scenario was reported.
    fn done(&mut self, scenario: &str) {
        let steps: Vec<_> = steps::steps().filter(|step| step.scenario == scenario).collect();
        assert!(!steps.is_empty(), "{scenario}");
        let is_of = |name: &str, step: &str| name.split('.').next() == Some(step);
        for step in &steps {
            self.wait(step.name, |rig| rig.reported.keys().any(|name| is_of(name, step.name)));
        }
        self.reported.retain(|name, _| !steps.iter().any(|step| is_of(name, step.name)));
    }

    /// Stops the host, which must end in order: what it printed on both streams.
    fn stop(self) -> (String, String) {
        // The module in Rust is both in one, and starts as both.
        let of_no_scenario =
            |name: &&String| !name.starts_with("start_") && !name.starts_with("before_the_start");
        let left: Vec<_> = self.reported.keys().filter(of_no_scenario).collect();
        assert!(left.is_empty(), "steps of no scenario that was done: {left:?}");
        self.host.tell(&ToHost::Stop { grace_ms: UNHURRIED_MS });
        assert_eq!(self.host.hear(), FromHost::Stopped);
        let (status, out, err) = self.host.end();
        assert_eq!(status.code(), Some(0), "{err}");
        (out, err)
    }
}

/// Every scenario of what may be done.
fn conforms(file: &[u8], wrapper: &[&str]) {
    let mut rig = Rig::new("conforms", file, wrapper);
    rig.done("start");
    whole(&mut rig);
    stream(&mut rig);
    nonblocking(&mut rig);
    ends(&mut rig);
    given_up(&mut rig);
    unread(&mut rig);
    metrics_are_told(&rig);
    let (out, err) = rig.stop();
    assert!(out.ends_with("stop: ok\n"), "{out}");
    assert!(err.contains("error: conforms\n") && err.contains("debug: conforms\n"), "{err}");
}

fn whole(rig: &mut Rig) {
    let number = rig.ask("/conforms/whole?a=b", b"some body", true);
    let FromLink::Response(response) = rig.next(number) else { panic!("no response") };
    assert_eq!((response.status, response.end, text(&response.body).as_str()), (201, true, "some body"));
    let fields: Vec<_> = response.fields.iter().collect();
    assert_eq!(fields, [(&b"content-type"[..], &b"text/plain"[..]), (b"X-Own", b"")]);
    rig.done("whole");

    let number = rig.ask("/conforms/later", b"", true);
    assert_eq!(rig.take(number).0, b"later");
    rig.done("later");
}

fn stream(rig: &mut Rig) {
    let number = rig.ask("/conforms/stream", b"one", false);
    assert!(matches!(rig.next(number), FromLink::Response(head) if head.status == 200 && !head.end));
    let mut got = Vec::new();
    for piece in ["two", "three"] {
        while !got.ends_with(if piece == "two" { b"one" } else { b"two" }) {
            let FromLink::Body { data, end: false } = rig.next(number) else { panic!("no piece") };
            got.extend_from_slice(&data);
        }
        rig.send(|out| data::body(out, number, piece.as_bytes(), false));
    }
    rig.send(|out| data::trailers(out, number, [(&b"x-came"[..], &b"1"[..])]).unwrap());
    let (rest, trailers) = rig.take(number);
    got.extend_from_slice(&rest);
    assert_eq!(String::from_utf8(got).unwrap(), "onetwothree!");
    assert_eq!(trailers, [("x-sum".to_owned(), "6".to_owned())]);
    rig.done("stream");
}

fn nonblocking(rig: &mut Rig) {
    let number = rig.ask("/conforms/async", b"", false);
    // The module has found nothing to read by the time that its head is here.
    assert!(matches!(rig.next(number), FromLink::Response(head) if !head.end));
    rig.send(|out| data::body(out, number, b"1234", false));
    rig.send(|out| data::body(out, number, b"5678", true));
    let mut received = rig.window(number);
    // It is granted more when it has found that there is none.
    rig.wait("no more credit", |rig| rig.times("async_write_would_block") > 0);
    rig.send(|out| data::window(out, number, data::INITIAL_WINDOW));
    received += rig.take(number).0.len();
    assert_eq!(received, 8_000_000);
    rig.done("async");
}

fn ends(rig: &mut Rig) {
    let abort = |message| match message {
        FromLink::Abort { code: AbortCode::Failed, text: why } => text(&why),
        other => panic!("{other:?}"),
    };
    let number = rig.ask("/conforms/abort-waiting", b"x", true);
    assert_eq!(abort(rig.next(number)), "while waiting");
    let number = rig.ask("/conforms/abort-body", b"", true);
    assert!(matches!(rig.next(number), FromLink::Response(_)));
    assert!(matches!(rig.next(number), FromLink::Body { data, end: false } if *data == *b"part"));
    assert_eq!(abort(rig.next(number)), "in the body");
    let number = rig.ask("/conforms/abort-trailers", b"", true);
    assert!(matches!(rig.next(number), FromLink::Response(_)));
    assert_eq!(abort(rig.next(number)), "");
    for scenario in ["abort_waiting", "abort_body", "abort_trailers"] {
        rig.done(scenario);
    }
}

fn given_up(rig: &mut Rig) {
    let number = rig.ask("/conforms/given-up", b"", false);
    rig.wait("the notices", |rig| rig.times("given_up_target") > 0);
    rig.send(|out| data::cancel(out, number, CancelReason::ClientGone));
    rig.done("given_up");

    // The same by the deadline alone: the gateway says nothing.
    rig.link.deadline_ms = 300;
    rig.ask("/conforms/given-up", b"", false);
    rig.link.deadline_ms = UNHURRIED_MS;
    rig.done("given_up");
}

/// Nobody reads the link, so nothing can be sent on it: calls that must not wait return all the same, and what they were
/// given arrives, whole and in order, when somebody reads again.
fn unread(rig: &mut Rig) {
    const MANY: usize = 16;
    // The module's reports come over another link.
    let second = rig.host.attach();
    let mut unread = std::mem::replace(&mut rig.link, second);
    unread.deadline_ms = UNHURRIED_MS;
    rig.link.deadline_ms = UNHURRIED_MS;
    let numbers = rig.next + 1..=rig.next + MANY as u64;
    rig.next += MANY as u64 + 2;
    let (later, waiting) = (rig.next - 1, rig.next);
    for number in numbers.clone() {
        unread.put(number, "/conforms/unread", &[], b"", true);
    }
    unread.send();
    let settled = |rig: &Rig| rig.times("unread_finish") + rig.times("unread_has_no_room") == MANY;
    rig.wait("calls that return though nobody reads", settled);
    assert!(rig.times("unread_has_no_room") > 0, "all of it found room: it was too little");

    // The link is read by the host, though it can send nothing on it; an answer is taken, and a call that waits for room
    // goes on when the gateway gives its exchange up.
    unread.get(later, "/conforms/later");
    rig.done("later");
    unread.get(waiting, "/conforms/unread-waiting");
    rig.wait("a call that waits", |rig| rig.times("unread_waiting_respond") > 0);
    unread.frames(|out| data::cancel(out, waiting, CancelReason::ClientGone));
    unread.send();
    rig.done("unread_waiting");

    let mut bodies = BTreeMap::<u64, Vec<u8>>::new();
    let mut open = MANY + 1;
    while open > 0 {
        let Frame { exchange, message } = unread.next();
        let (piece, end) = match message {
            FromLink::Response(head) => (head.body, head.end),
            FromLink::Body { data, end } => (data, end),
            other => panic!("{exchange}: {other:?}"),
        };
        assert!(exchange != waiting || !end, "it was given up");
        bodies.entry(exchange).or_default().extend_from_slice(&piece);
        open -= usize::from(end);
    }
    assert_eq!(bodies[&later], b"later");
    let expected: Vec<u8> = (0..200_000_usize).map(|i| (i * 7 + i / 256).to_le_bytes()[0]).collect();
    for number in numbers {
        assert!(
            bodies[&number] == expected,
            "{number}: {} bytes, or in another order",
            bodies[&number].len()
        );
    }
    rig.wait("all ends", |rig| rig.times("unread_finish") == MANY);
    rig.done("unread");
}

fn metrics_are_told(rig: &Rig) {
    rig.host.tell(&ToHost::Metrics { seq: 9, first: 0 });
    let FromHost::Metrics(page) = rig.host.hear() else { panic!("no metrics") };
    assert_eq!((page.seq, page.first, page.total), (9, 0, 4));
    let of = |name: &str| page.series.iter().find(|series| series.name == name).unwrap();
    assert_eq!(of("conforms_starts_total").value, Value::Counter(1.0));
    assert_eq!(of("conforms_total").value, Value::Counter(2.5));
    assert_eq!(of("conforms_total").labels, [("path".to_owned(), "whole".to_owned())]);
    assert_eq!(of("conforms_level").value, Value::Gauge(-3.0));
    assert!(matches!(&of("conforms_seconds").value, Value::Histogram { beyond: 0, .. }));
}

/// Every scenario of what may not be done.
fn misuses(file: &[u8], wrapper: &[&str]) {
    /// Calls that take an exchange.
    const CALLS: usize = 18;
    let mut rig = Rig::new("misuses", file, wrapper);
    rig.done("before_the_start");
    let number = rig.ask("/misuses/all", b"some body", true);
    let (body, trailers) = rig.take(number);
    assert_eq!((body.as_slice(), trailers.len()), (&b""[..], 1), "nothing of what was refused was sent");
    rig.wait("the last call", |rig| rig.times("after_the_end_elsewhere.notify") > 0);
    let tried = |what: &str| rig.reported.keys().filter(|name| name.split('.').next() == Some(what)).count();
    for what in ["handle_0", "handle_to_come", "after_the_end", "after_the_end_elsewhere"] {
        assert_eq!(tried(what), CALLS, "{what}: {:#?}", rig.reported);
    }
    rig.done("all");

    for _ in 0..20 {
        let number = rig.ask("/misuses/race", b"", true);
        assert_eq!(rig.take(number).0, b"one");
        rig.done("race");
    }

    // A response that never ends stops at its credit, and ends when the client is gone.
    let number = rig.ask("/misuses/endless", b"", true);
    rig.window(number);
    rig.send(|out| data::cancel(out, number, CancelReason::Deadline));
    rig.done("endless");
    rig.stop();
}

#[test]
fn what_may_be_done_works_in_c() {
    conforms(&compile("conforms.c", &[]), &[]);
}

#[test]
fn what_may_not_be_done_is_refused_in_c() {
    misuses(&compile("misuses.c", &["-lm"]), &[]);
}

#[test]
fn a_stop_waits_until_what_was_answered_is_sent() {
    // More than the socket takes, and less than makes a module wait.
    const MANY: u64 = 5;
    let mut rig = Rig::new("conforms", &compile("conforms.c", &[]), &[]);
    let second = rig.host.attach();
    let mut unread = std::mem::replace(&mut rig.link, second);
    for number in 1..=MANY {
        unread.put(number, "/conforms/unread", &[], b"", true);
    }
    unread.send();
    rig.wait("all ends", |rig| rig.times("unread_finish") == 5);
    rig.host.tell(&ToHost::Stop { grace_ms: UNHURRIED_MS });
    let (mut open, mut received) = (MANY, 0);
    while open > 0 {
        let (piece, end) = match unread.next().message {
            FromLink::Response(head) => (head.body, head.end),
            FromLink::Body { data, end } => (data, end),
            other => panic!("{other:?}"),
        };
        received += piece.len();
        open -= u64::from(end);
    }
    assert_eq!(received, 1_000_000);
    assert_eq!(rig.host.hear(), FromHost::Stopped);
    assert_eq!(rig.host.end().0.code(), Some(0));
}

#[test]
fn what_may_be_done_works_in_rust() {
    conforms(&in_rust(), &[]);
}

#[test]
fn what_may_not_be_done_is_refused_in_rust() {
    misuses(&in_rust(), &[]);
}

#[test]
fn a_wild_pointer_ends_its_own_host_and_nothing_else() {
    let mut rig = Rig::new("misuses", &compile("misuses.c", &["-lm"]), &[]);
    rig.ask("/misuses/wild", b"", true);
    assert!(rig.link.is_closed());
    assert_eq!(rig.host.end().0.signal(), Some(libc::SIGSEGV));
}

#[test]
fn one_exchange_more_than_may_be_open_is_refused() {
    const MOST: u64 = 65_536;
    let mut rig = Rig::new("misuses", &compile("misuses.c", &["-lm"]), &[]);
    for _ in 0..MOST {
        rig.next += 1;
        rig.link.put(rig.next, "/misuses/keep", &[], b"", true);
        if rig.next.is_multiple_of(512) {
            rig.link.send();
        }
    }
    let number = rig.ask("/misuses/keep", b"", true);
    assert!(matches!(rig.next(number), FromLink::Abort { code: AbortCode::Refused, .. }));
    // When one is given up and its handler finds that, there is a place again. None of these has ended its exchange.
    rig.host.tell(&ToHost::Health { seq: 1 });
    let FromHost::Health(health) = rig.host.hear() else { panic!("no health") };
    assert_eq!(u64::from(health.in_flight), MOST);
}

/// The words before the host's own that run it under valgrind: an error of memory makes it exit with a code of its own.
fn valgrind() -> Vec<String> {
    let path = std::env::var_os("PATH").unwrap();
    let program =
        std::env::split_paths(&path).map(|folder| folder.join("valgrind")).find(|file| file.exists());
    let program = program.expect("valgrind was not found; `make test` brings it, or install it");
    let options =
        ["--quiet", "--error-exitcode=99", "--exit-on-first-error=yes", "--child-silent-after-fork=yes"];
    [program.to_str().unwrap()].into_iter().chain(options).map(str::to_owned).collect()
}

/// The module `contract`, which is a member of the workspace.
fn in_rust() -> Vec<u8> {
    let file = Path::new(env!("CARGO_BIN_EXE_hot-host")).with_file_name("libcontract.so");
    std::fs::read(&file).unwrap_or_else(|error| {
        panic!("{} can't be read; build it first, `cargo build -p contract`: {error}", file.display())
    })
}

fn under_valgrind(run: fn(&[u8], &[&str]), module: &[u8]) {
    let words = valgrind();
    run(module, &words.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn valgrind_finds_nothing_in_what_may_be_done_in_c() {
    under_valgrind(conforms, &compile("conforms.c", &["-g"]));
}

#[test]
fn valgrind_finds_nothing_in_what_may_not_be_done_in_c() {
    under_valgrind(misuses, &compile("misuses.c", &["-g", "-lm"]));
}

#[test]
fn valgrind_finds_nothing_in_what_may_be_done_in_rust() {
    under_valgrind(conforms, &in_rust());
}

#[test]
fn valgrind_finds_nothing_in_what_may_not_be_done_in_rust() {
    under_valgrind(misuses, &in_rust());
}
