use serde_json::Value;

use super::*;

#[test]
fn sentences_carry_the_number_and_the_limit() {
    let reason = Reason::ErrorRate {
        module: "greeter".into(),
        release: ReleaseNumber(3),
        errors: 28,
        requests: 226,
        stable_errors: 0,
        stable_requests: 2000,
        limit: Share::percent(1),
    };
    assert_eq!(
        reason.to_string(),
        "greeter release 3: error rate 12.4% of 226 requests, stable 0.0%, limit 1.0% above stable"
    );
    let reason = Reason::Slow {
        module: "greeter".into(),
        release: ReleaseNumber(3),
        p99: Millis(312),
        requests: 226,
        open: 0,
        stable_p99: Millis(4),
        limit: Ratio(20_000),
        bound: Millis(54),
    };
    assert_eq!(
        reason.to_string(),
        "greeter release 3: p99 312 ms of 226 requests, limit 54 ms, stable's p99 is 4 ms"
    );
}

#[test]
fn of_nodes_that_failed_the_one_too_many_counts() {
    let last = |cause| {
        let (node, module) = (Node::from("n3"), Module::from("greeter"));
        Box::new(Reason::Fast { node, module, release: ReleaseNumber(2), cause })
    };
    let nodes = vec![Node::from("n1"), Node::from("n3")];
    let crashed = last(Cause::Crashed { signal: 11, text: String::new() });
    let reason = Reason::TooManyFailed { nodes: nodes.clone(), of: 10, limit: 1, last: crashed.clone() };
    assert_eq!(
        reason.to_string(),
        "2 of 10 nodes failed (n1, n3), at most 1 may: greeter release 2 on n3: crashed with SIGSEGV, 0 crashes are \
         allowed"
    );
    assert_eq!(reason.blamed(), Some((&Module::from("greeter"), ReleaseNumber(2))));
    let written = serde_json::to_string(&reason).unwrap();
    assert_eq!(serde_json::from_str::<Reason>(&written).unwrap(), reason);
    let refused = last(Cause::Refused { text: String::new() });
    let refused = Reason::TooManyFailed { nodes: nodes.clone(), of: 10, limit: 1, last: refused };
    assert_eq!(refused.blamed(), None, "n1 was let fail");
    let all = Reason::TooManyFailed { nodes, of: 2, limit: 5, last: crashed };
    assert!(all.to_string().starts_with("all 2 nodes failed: greeter release 2 on n3: crashed"), "{all}");
}

#[test]
fn what_a_newer_version_knows_is_read_and_written_again_whole() {
    for (written, said) in [
        (r#"{"stuck":{"text":"in a loop","for":7}}"#, "stuck: in a loop"),
        (r#"{"crashed":{"core":"/x","text":"gone"}}"#, "crashed: gone"),
        (r#"{"too_hot":{"degrees":90}}"#, "too_hot"),
        (r#""tired""#, "tired"),
    ] {
        let cause: Cause = serde_json::from_str(written).unwrap();
        assert_eq!(cause.to_string(), format!("failed in a way that this version does not know ({said})"));
        assert_eq!((cause.code(), cause.blames_release()), ("unknown", false));
        let written: Value = serde_json::from_str(written).unwrap();
        assert_eq!(serde_json::to_value(&cause).unwrap(), written);
        let reason: Reason = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(reason.to_string(), format!("a reason that this version does not know ({said})"));
        assert_eq!((reason.code(), reason.blamed(), reason.by_person()), ("unknown", None, false));
        assert_eq!(serde_json::to_value(&reason).unwrap(), written);
    }
    for no_word in ["7", "null", "{}", "[\"crashed\"]", r#"{"a":1,"b":2}"#] {
        assert!(serde_json::from_str::<Cause>(no_word).is_err(), "{no_word}");
    }
    let known = Cause::Crashed { signal: 11, text: String::new() };
    assert_eq!(serde_json::from_str::<Cause>(&serde_json::to_string(&known).unwrap()).unwrap(), known);
}

#[test]
fn what_a_module_did_beyond_its_limits_has_a_code_and_is_held_against_it() {
    for (cause, code, said) in [
        (
            Cause::OverMemory { used: 65 << 20, limit: 64 << 20 },
            "over_memory",
            "used 65 MiB of memory, limit 64 MiB",
        ),
        (
            Cause::OverProcesses { used: 513, limit: 512 },
            "over_processes",
            "had 513 processes and threads, limit 512",
        ),
        (
            Cause::Denied { call: "ptrace".to_owned(), times: 2 },
            "denied",
            "made the system call ptrace 2 times, which no server needs: 0 are allowed, and each was refused",
        ),
        (
            Cause::Forged { text: "a second `Ready`".to_owned() },
            "forged",
            "forged a message of its host: a second `Ready`",
        ),
    ] {
        assert_eq!((cause.code(), cause.to_string().as_str()), (code, said));
        assert!(cause.blames_release());
        let written = serde_json::to_value(&cause).unwrap();
        // For a version of before it is a foreign cause, and must be whole again afterwards.
        assert_eq!(written.as_object().map(serde_json::Map::len), Some(1), "{written}");
        assert_eq!(serde_json::from_value::<Cause>(written).unwrap(), cause);
    }
}

#[test]
fn only_what_the_release_did_is_held_against_it() {
    let fast =
        |cause| Reason::Fast { node: "a".into(), module: "greeter".into(), release: ReleaseNumber(3), cause };
    assert!(fast(Cause::Crashed { signal: 11, text: String::new() }).blamed().is_some());
    assert!(fast(Cause::Expired { after: Millis::seconds(60) }).blamed().is_none());
    assert!(Reason::Aborted { by: "ada".into() }.blamed().is_none());
}
