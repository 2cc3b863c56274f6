//! `hot-host` with a module in C, through the real binary: every path of an exchange.

#![expect(unsafe_code, reason = "hands descriptors to the child between fork and exec")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in a test, and in what supports it, a panic is the message"
)]

#[expect(dead_code, reason = "shared with other tests, which use other parts of it")]
mod support;

use hot_wire::data::{self, AbortCode, CancelReason, Frame, FromHost as FromLink, INITIAL_WINDOW};
use hot_wire::host::{FromHost, HealthReply, Phase, Stage, StartOptions, ToHost};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};
use support::{Host, Link, compile, text};

/// A ready host of the module `paths.c` with one link.
fn paths() -> (Host, Link) {
    Host::ready(&compile("paths.c", &[]))
}

#[test]
fn a_request_is_shown_to_the_module_as_it_was_sent() {
    let (_host, mut link) = paths();
    link.put(9, "/show?a=b", &[("accept", "*/*"), ("x-test", "yes")], b"", true);
    link.send();
    let Frame { exchange: 9, message: FromLink::Response(response) } = link.next() else {
        panic!("no response")
    };
    assert_eq!((response.status, response.end), (201, true));
    assert_eq!(text(&response.body), "GET /show?a=b 192.0.2.1:5 2 accept yes 1");
    assert_eq!(response.fields.iter().collect::<Vec<_>>(), [(&b"x-own"[..], &b"value"[..])]);
    assert_eq!(link.ask(10, "/config"), "some config");
}

#[test]
fn many_requests_in_one_read_are_all_answered() {
    let (host, mut link) = paths();
    for number in 1..=500 {
        link.put(number, "/plain", &[], b"", true);
    }
    link.send();
    for number in 1..=500 {
        assert_eq!(link.whole(number), (200, "plain".to_owned()));
    }
    // Two links at once, and the same numbers on both.
    let mut second = host.attach();
    link.get(1, "/plain");
    second.get(1, "/plain");
    assert_eq!(link.whole(1), second.whole(1));
}

#[test]
fn calls_against_the_rules_are_refused() {
    let (_host, mut link) = paths();
    link.get(1, "/rules");
    let FromLink::Response(head) = link.next().message else { panic!("no head") };
    assert!(!head.end);
    let FromLink::Body { data, .. } = link.next().message else { panic!("no body") };
    assert_eq!(text(&data), "-2 -2 -3 -3 -3 -3 -3 -3 -6 -3 -7 -1 -1 -3 0 -2 ");
    assert_eq!(link.next().message, FromLink::Body { data: bytes::Bytes::new(), end: true });
}

#[test]
fn nothing_can_be_done_after_the_end() {
    let (_host, mut link) = paths();
    assert_eq!(link.ask(1, "/ends"), "first");
    assert_eq!(link.ask(2, "/after"), "-1 -1 -1 -1 -1 GET /ends");
}

#[test]
fn bodies_stream_both_ways_with_trailers() {
    let (_host, mut link) = paths();
    link.put(1, "/echo", &[], b"one", false);
    link.send();
    assert!(matches!(link.next().message, FromLink::Response(head) if head.status == 200 && !head.end));
    let expect = |link: &mut Link, expected: &str| match link.next().message {
        FromLink::Body { data, end: false } => assert_eq!(text(&data), expected),
        other => panic!("{other:?}"),
    };
    expect(&mut link, "one");
    link.frames(|out| data::body(out, 1, b"two", false));
    link.send();
    expect(&mut link, "two");
    link.frames(|out| data::trailers(out, 1, [(&b"x-sum"[..], &b"6"[..])]).unwrap());
    link.send();
    match link.next().message {
        FromLink::Trailers(fields) => assert_eq!(fields.iter().next(), Some((&b"x-sum"[..], &b"6"[..]))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_body_larger_than_the_credit_is_read_whole_as_credit_is_granted() {
    let (_host, mut link) = paths();
    let body = vec![b'x'; 900_000];
    let mut credit = usize::try_from(INITIAL_WINDOW).unwrap();
    let mut sent = 0;
    let mut received;
    link.put(1, "/all", &[], b"", false);
    loop {
        let piece = (body.len() - sent).min(credit);
        let end = sent + piece == body.len();
        if piece > 0 {
            link.frames(|out| data::body(out, 1, &body[sent..sent + piece], end));
            link.send();
            (sent, credit) = (sent + piece, credit - piece);
        }
        match link.next().message {
            FromLink::Window(more) => credit += usize::try_from(more).unwrap(),
            FromLink::Response(head) => {
                assert_eq!(sent, body.len());
                received = head.body.len();
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    while received < body.len() {
        match link.next().message {
            FromLink::Body { data, .. } => {
                received += data.len();
                link.frames(|out| data::window(out, 1, u32::try_from(data.len()).unwrap()));
                link.send();
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_answer_larger_than_the_credit_waits_and_keeps_nobody_else_waiting() {
    let (_host, mut link) = paths();
    link.get(1, "/big");
    let mut received = Vec::new();
    let window = usize::try_from(INITIAL_WINDOW).unwrap();
    while received.len() < window {
        match link.next().message {
            FromLink::Response(head) => received.extend_from_slice(&head.body),
            FromLink::Body { data, end: false } => received.extend_from_slice(&data),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received.len(), window, "the host kept to its credit");
    // Its handler waits; another exchange of the same link is answered meanwhile.
    assert_eq!(link.ask(2, "/plain"), "plain");
    link.frames(|out| data::window(out, 1, 1_000_000));
    link.send();
    loop {
        let FromLink::Body { data, end } = link.next().message else { panic!("no body") };
        received.extend_from_slice(&data);
        if end {
            break;
        }
    }
    assert_eq!(received.len(), 1_000_000);
    assert!(received.iter().enumerate().all(|(i, &byte)| usize::from(byte) == i % 251));
}

#[test]
fn an_exchange_is_finished_from_another_thread() {
    let (_host, mut link) = paths();
    for number in 1..=100 {
        assert_eq!(link.ask(number, "/later"), "from another thread");
    }
}

#[test]
fn a_handler_that_blocks_keeps_nobody_else_waiting() {
    let (_host, mut link) = paths();
    // In one read: the handlers behind the blocked one need another thread.
    for number in 1..=40 {
        link.put(number, "/block", &[], b"", true);
    }
    link.put(41, "/plain", &[], b"", true);
    link.send();
    assert_eq!(link.whole(41).1, "plain");
    assert_eq!(link.ask(42, "/plain"), "plain");
    link.get(43, "/open");
    let mut answered: Vec<_> = (0..41).map(|_| link.next().exchange).collect();
    answered.sort_unstable();
    assert_eq!(answered, (1..=40).chain([43]).collect::<Vec<_>>());
}

#[test]
fn handlers_that_wait_get_no_more_threads_than_allowed() {
    let options = StartOptions { workers: 3, ..StartOptions::default() };
    let (host, said) = Host::start_with(&compile("paths.c", &[]), b"", options);
    assert_eq!(said, FromHost::Ready { abi: 0 });
    let mut link = host.attach();
    // More bodies to wait for than there are threads, and then a request that does not wait but gets none.
    for number in 1..=20 {
        link.put(number, "/all", &[], b"", false);
    }
    link.put(21, "/plain", &[], b"", true);
    link.send();
    // Frames are read all the same, and each body that comes frees a thread.
    for number in 1..=20 {
        link.frames(|out| data::body(out, number, b"come", true));
    }
    link.send();
    let mut bodies: Vec<_> = (0..21)
        .map(|_| link.next())
        .map(|frame| match frame.message {
            FromLink::Response(response) => (frame.exchange, text(&response.body)),
            other => panic!("{other:?}"),
        })
        .collect();
    bodies.sort_unstable();
    assert!(bodies[..20].iter().all(|(_, body)| body == "come"));
    assert_eq!(bodies[20], (21, "plain".to_owned()));
    // Three for handlers, one for the link's turn; one each for control, module and watch.
    let threads = std::fs::read_dir(format!("/proc/{}/task", host.pid())).unwrap().count();
    assert!(threads <= 3 + 1 + 3, "{threads} threads");
}

#[test]
fn exchanges_beyond_the_bound_are_refused() {
    let options = StartOptions { max_exchanges: 2, ..StartOptions::default() };
    let (host, _) = Host::start_with(&compile("paths.c", &[]), b"", options);
    let mut link = host.attach();
    for number in 1..=3 {
        link.get(number, "/keep");
    }
    let frame = link.next();
    assert_eq!(frame.exchange, 3);
    assert!(matches!(frame.message, FromLink::Abort { code: AbortCode::Refused, .. }), "{frame:?}");
}

#[test]
fn a_cancelled_exchange_is_told_so_and_sends_nothing_more() {
    let (host, mut link) = paths();
    link.get(1, "/keep");
    // Without this the two could come in one read, and the module would never see the exchange.
    assert_eq!(link.ask(3, "/plain"), "plain");
    link.frames(|out| data::cancel(out, 1, CancelReason::Deadline));
    assert_eq!(link.ask(2, "/poke"), "-4 -4 -1");
    host.tell(&ToHost::Health { seq: 1 });
    assert!(matches!(host.hear(), FromHost::Health(HealthReply { in_flight: 0, .. })));
}

#[test]
fn an_exchange_that_never_ends_is_counted() {
    let (host, mut link) = paths();
    link.get(1, "/keep");
    assert_eq!(link.ask(2, "/plain"), "plain");
    host.tell(&ToHost::Health { seq: 7 });
    match host.hear() {
        FromHost::Health(HealthReply { seq: 7, phase: Phase::Ready, ok: true, in_flight: 1, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_after_an_idle_time_has_all_of_its_own() {
    const DEADLINE: Duration = Duration::from_secs(2);
    let (host, mut link) = paths();
    link.deadline_ms = u32::try_from(DEADLINE.as_millis()).unwrap();
    assert_eq!(link.ask(1, "/plain"), "plain");
    link.idle(DEADLINE);
    let left: u128 = link.ask(2, "/left").parse().unwrap();
    assert!(0 < left && left <= DEADLINE.as_nanos(), "{left} ns left");

    // A body that is waited for, which is so once another handler has had its turn.
    link.idle(DEADLINE);
    link.put(3, "/all", &[], b"", false);
    link.send();
    assert_eq!(link.ask(4, "/plain"), "plain");
    link.frames(|out| data::body(out, 3, b"in time", true));
    link.send();
    assert_eq!(link.whole(3), (200, "in time".to_owned()));

    link.idle(DEADLINE);
    let asked = Instant::now();
    link.get(5, "/keep");
    assert_eq!(link.ask(6, "/plain"), "plain");
    host.tell(&ToHost::Health { seq: 1 });
    let FromHost::Health(health) = host.hear() else { panic!("no health") };
    assert_eq!(health.in_flight, 1);
    assert!(u128::from(health.oldest_ms) <= asked.elapsed().as_millis(), "{} ms old", health.oldest_ms);
}

#[test]
fn an_abort_carries_the_modules_reason_and_logs_it() {
    let (host, mut link) = paths();
    let mut aborted = |number, target: &str| {
        link.get(number, target);
        match link.next().message {
            FromLink::Abort { code: AbortCode::Failed, text: why } => text(&why),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(aborted(1, "/abort"), "the module's reason");
    assert_eq!(aborted(2, "/abort/silently"), "");
    assert!(aborted(3, "/abort/at-length").len() > 1000);

    // Nobody waits for this one, so that it comes to nothing is no news.
    link.get(4, "/keep");
    assert_eq!(link.ask(5, "/plain"), "plain");
    link.frames(|out| data::cancel(out, 4, CancelReason::ClientGone));
    assert_eq!(link.ask(6, "/abort/kept"), "0");

    host.tell(&ToHost::Stop { grace_ms: 15_000 });
    assert_eq!(host.hear(), FromHost::Stopped);
    let (_, _, err) = host.end();
    let lines: Vec<_> = err.lines().collect();
    assert_eq!(lines[..2], ["warn: two lines", "error: aborted: the module's reason"]);
    assert_eq!(lines[2], format!("error: aborted: {}", "l".repeat(3800)));
    assert_eq!(lines.len(), 3, "{err}");
}

#[test]
fn health_is_the_modules_own() {
    let (host, mut link) = paths();
    host.tell(&ToHost::Health { seq: 1 });
    assert!(matches!(host.hear(), FromHost::Health(HealthReply { seq: 1, ok: true, .. })));
    link.ask(1, "/sick");
    host.tell(&ToHost::Health { seq: 2 });
    match host.hear() {
        FromHost::Health(HealthReply { seq: 2, ok: false, text, .. }) => assert_eq!(text, "feels sick"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stop_lets_open_exchanges_finish_and_refuses_new_ones() {
    let (host, mut link) = paths();
    link.put(1, "/echo", &[], b"", false);
    link.send();
    assert!(matches!(link.next().message, FromLink::Response(_)));
    host.tell(&ToHost::Stop { grace_ms: 15_000 });
    // The stop has been heard once what was asked behind it is answered.
    host.tell(&ToHost::Health { seq: 1 });
    match host.hear() {
        FromHost::Health(HealthReply { phase: Phase::Stopping, in_flight: 1, .. }) => {}
        other => panic!("{other:?}"),
    }
    link.get(2, "/plain");
    assert!(matches!(link.next().message, FromLink::Abort { code: AbortCode::Refused, .. }));
    link.frames(|out| data::body(out, 1, b"last words", true));
    link.send();
    assert!(matches!(link.next().message, FromLink::Body { data, .. } if text(&data) == "last words"));
    assert!(matches!(link.next().message, FromLink::Body { end: true, .. }));
    assert_eq!(host.hear(), FromHost::Stopped);
    assert_eq!(host.end().0.code(), Some(0));
}

#[test]
fn a_stop_under_load_answers_or_refuses_each_request() {
    let (host, mut link) = paths();
    // An open exchange keeps the host from its end until all have been counted.
    link.put(1000, "/echo", &[], b"", false);
    link.send();
    assert!(matches!(link.next().message, FromLink::Response(_)));
    for number in 0..200 {
        link.get(number, "/plain");
        if number == 100 {
            host.tell(&ToHost::Stop { grace_ms: 15_000 });
        }
    }
    // The stop came over another socket, so it may have overtaken requests; none is lost, and none answered in part.
    let mut answered = [false; 200];
    for _ in 0..200 {
        let frame = link.next();
        match frame.message {
            FromLink::Response(whole) => assert!(whole.end && text(&whole.body) == "plain"),
            FromLink::Abort { code: AbortCode::Refused, .. } => {}
            other => panic!("{other:?}"),
        }
        assert!(!std::mem::replace(&mut answered[usize::try_from(frame.exchange).unwrap()], true));
    }
    link.frames(|out| data::body(out, 1000, b"", true));
    link.send();
    assert!(matches!(link.next().message, FromLink::Body { end: true, .. }));
    assert_eq!(host.hear(), FromHost::Stopped);
    assert_eq!(host.end().0.code(), Some(0));
}

#[test]
fn a_stop_at_rest_is_orderly() {
    let (host, mut link) = paths();
    assert_eq!(link.ask(1, "/plain"), "plain");
    host.tell(&ToHost::Stop { grace_ms: 15_000 });
    assert_eq!(host.hear(), FromHost::Stopped);
    let (status, out, err) = host.end();
    assert_eq!(status.code(), Some(0));
    assert_eq!(out, "stopped in order\n");
    assert_eq!(err, "warn: two lines\n");
    assert!(link.is_closed());
}

#[test]
fn a_stop_ends_when_its_grace_does() {
    let (host, mut link) = paths();
    link.get(1, "/keep");
    assert_eq!(link.ask(2, "/plain"), "plain");
    host.tell(&ToHost::Stop { grace_ms: 50 });
    let (status, out, err) = host.end();
    assert_eq!((status.code(), out.as_str()), (Some(0), ""));
    assert!(err.contains("1 exchanges were still open"), "{err}");
}

#[test]
fn it_ends_with_its_control_socket() {
    let (mut host, _link) = paths();
    host.hang_up();
    assert_eq!(host.end().0.code(), Some(0));
}

#[test]
fn a_crash_is_its_own() {
    let (host, mut link) = paths();
    link.get(1, "/crash");
    assert!(link.is_closed());
    assert_eq!(host.end().0.signal(), Some(libc::SIGABRT));
}

#[test]
fn bytes_that_are_no_frames_end_the_link_and_nothing_else() {
    let (host, mut link) = paths();
    link.frames(|out| out.extend_from_slice(&[0xff; 64]));
    link.send();
    assert!(link.is_closed());
    let mut other = host.attach();
    assert_eq!(other.ask(1, "/plain"), "plain");
}

#[test]
fn what_keeps_a_module_from_starting_is_told() {
    let module = compile("paths.c", &[]);
    let (host, said) = Host::start(&module, b"fail");
    let FromHost::Failed { stage: Stage::Start, text } = said else { panic!("{said:?}") };
    assert_eq!(text, "the module's start failed: told to fail");
    assert_eq!(host.end().0.code(), Some(1));

    let (_host, said) = Host::start(&compile("paths.c", &["-DWRONG_ABI"]), b"");
    let FromHost::Failed { stage: Stage::Abi, text } = said else { panic!("{said:?}") };
    assert!(text.contains("ABI 7") && text.contains("ABI 0"), "{text}");

    let (_host, said) = Host::start(&compile("paths.c", &["-Dhot_module=another_name"]), b"");
    assert!(matches!(said, FromHost::Failed { stage: Stage::Entry, .. }), "{said:?}");

    let (_host, said) = Host::start(b"a text file", b"");
    assert!(matches!(said, FromHost::Failed { stage: Stage::Load, .. }), "{said:?}");
}

#[test]
fn it_has_given_up_rights_before_the_module_runs() {
    let (host, _link) = paths();
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid())).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", host.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
}
