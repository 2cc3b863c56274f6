//! What a node could say, for the tests of text and JSON.

use super::*;
use hot_proto::v1::{
    ErrorDetail, ModuleNode, PlanRefusal, PlanResponse, PlannedModule, PlannedStep, PlannedUpload,
    PlannedWeight, SwapWindow, Version,
};
use prost_types::Timestamp;

use crate::json::{
    EntryJson, ExportedJson, ImportJson, ImportedJson, InspectJson, LibraryJson, LibraryVersionJson,
    RefusalJson, SignatureJson, StateJson, SymbolsJson,
};

fn release(release: u64, version: &str, digit: &str) -> ReleaseRef {
    ReleaseRef { release, version: version.to_owned(), digest: digit.repeat(64), ..ReleaseRef::default() }
}

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn instance(id: u64, of: ReleaseRef, role: Role, weight: u32) -> Instance {
    Instance {
        id,
        release: of.release,
        version: of.version,
        digest: of.digest,
        role: role.into(),
        weight,
        state: InstanceState::Ready.into(),
        requests: 1200,
        errors: 3,
        in_flight: 2,
        p50_ms: 0.4,
        p99_ms: 1.25,
        started: at(40),
        pid: 4711,
        start_ms: Some(3.25),
        streams: 1,
        ..Instance::default()
    }
}

/// `greeter` in a canary, and `hello-c` at rest.
pub(crate) fn modules() -> Vec<Module> {
    let (stable, candidate) = (release(1, "1.0.0", "a"), release(2, "1.1.0", "b"));
    let greeter = Module {
        name: "greeter".to_owned(),
        stable: Some(stable.clone()),
        candidate: Some(candidate.clone()),
        phase: Phase::Baking.into(),
        share: 1000,
        waiting_on: "20 s of bake".to_owned(),
        rollout: "r-7".to_owned(),
        routes: vec!["/greet".to_owned()],
        nodes: vec![ModuleNode {
            node: "n1".to_owned(),
            instances: vec![
                instance(1, stable, Role::Stable, 9000),
                Instance {
                    missing: vec!["scopes".to_owned(), "cpu".to_owned()],
                    user: Some(200_002),
                    ..instance(2, candidate, Role::Candidate, 1000)
                },
            ],
            ..ModuleNode::default()
        }],
        ..Module::default()
    };
    let mut ended = instance(3, release(2, "0.2.0", "d"), Role::Unspecified, 0);
    ended.set_state(InstanceState::Ended);
    ended.reason = "ended by signal 11".to_owned();
    ended.pid = 0;
    ended.requests = 0;
    ended.errors = 0;
    let hello = Module {
        name: "hello-c".to_owned(),
        stable: Some(release(1, "0.1.0", "c")),
        phase: Phase::RolledBack.into(),
        reason: "the candidate crashed with signal 11".to_owned(),
        rollout: "r-6".to_owned(),
        nodes: vec![ModuleNode { node: "n1".to_owned(), instances: vec![ended], ..ModuleNode::default() }],
        ..Module::default()
    };
    vec![greeter, hello]
}

/// A stored and a quarantined version, and two that are gone: one made room, and of one an older node says no more.
pub(crate) fn versions() -> Vec<Version> {
    let version = |version: &str, digit: &str| Version {
        version: version.to_owned(),
        target: "x86_64-linux-gnu".to_owned(),
        digest: digit.repeat(64),
        size: 1536,
        principal: "dev".to_owned(),
        committed: at(40),
        ..Version::default()
    };
    let quarantined = Version { quarantined: "crashed with signal 11".to_owned(), ..version("1.2.0", "c") };
    let stable = Version { role: Role::Stable.into(), ..version("1.1.0", "b") };
    let removed = Version { removed: true, size: 0, principal: String::new(), ..version("1.0.0", "a") };
    let gone = "dropped by `keep`; the same file may be pushed again".to_owned();
    let dropped = Version { version: "0.9.0".to_owned(), gone, may_return: true, ..removed.clone() };
    vec![quarantined, stable, removed, dropped]
}

/// A push that was taken back after one that went well.
pub(crate) fn history() -> Vec<HistoryEntry> {
    let first = HistoryEntry {
        release: Some(release(1, "1.0.0", "a")),
        before: None,
        rollout: "r-1".to_owned(),
        principal: "dev".to_owned(),
        started: at(10),
        ended: at(40),
        message: "first".to_owned(),
        outcome: Outcome::Done.into(),
        stable: true,
        ..HistoryEntry::default()
    };
    let window = |requests, p99_ms| Some(SwapWindow { requests, p99_ms });
    let swap = Swap {
        node: "n1".to_owned(),
        from: Some(release(2, "1.1.0", "b")),
        from_instance: 12,
        to: first.release.clone(),
        to_instance: 11,
        flipped: at(69),
        flip_us: 45,
        last_pick_us: Some(20),
        in_flight: 12,
        finished: 9,
        errors: 1,
        lost: 3,
        sent_again: 3,
        drained_ms: Some(500),
        window_ms: 1000,
        before: window(900, Some(3.1)),
        during: window(1000, Some(3.3)),
        after: window(0, None),
        ..Swap::default()
    };
    let second = HistoryEntry {
        release: Some(release(2, "1.1.0", "b")),
        before: first.release.clone(),
        rollout: "r-2".to_owned(),
        started: at(40),
        ended: at(70),
        message: "faster".to_owned(),
        outcome: Outcome::RolledBack.into(),
        reason: "errors 5.00% > 1.00%".to_owned(),
        stable: false,
        swaps: vec![swap],
        ..first.clone()
    };
    vec![second, first]
}

/// A push that would supersede another one, and whose route is taken.
pub(crate) fn plan() -> PlanResponse {
    let step = |share, seconds| PlannedStep {
        share,
        bake: Some(prost_types::Duration { seconds, nanos: 0 }),
        weights: vec![PlannedWeight { node: "n1".to_owned(), weight: share }],
    };
    let greeter = PlannedModule {
        module: "greeter".to_owned(),
        version: "1.1.0".to_owned(),
        release: 3,
        stable: Some(release(1, "1.0.0", "a")),
        supersedes: "r-7".to_owned(),
        changes: true,
        steps: vec![step(1000, 30), step(10_000, 90)],
        uploads: vec![PlannedUpload { file: 0, present: false, principal: "dev".to_owned() }],
        loses: vec!["n2".to_owned(), "n3".to_owned()],
    };
    let error = ErrorDetail {
        code: "route_taken".to_owned(),
        field: "routes".to_owned(),
        found: "route /greet is taken".to_owned(),
        expected: String::new(),
        advice: "Give one of the two modules another prefix.".to_owned(),
    };
    let refusal = PlanRefusal {
        error: Some(error),
        message: "route /greet is taken".to_owned(),
        file: None,
        node: "n1".to_owned(),
    };
    PlanResponse { refusals: vec![refusal], modules: vec![greeter] }
}

/// A file that lacks a library here.
pub(crate) fn inspection() -> InspectJson {
    let text = str::to_owned;
    let version = |version: &str, defined| LibraryVersionJson { version: text(version), defined };
    let symbol = |name: &str, version: &str, library: &str, weak| ImportJson {
        name: text(name),
        version: text(version),
        library: text(library),
        weak,
    };
    InspectJson {
        file: text("a.so"),
        name: text("greeter"),
        version: text("1.1.0"),
        abi: 0,
        routes: vec![text("/greet")],
        requires: vec![text("auth ^1.4")],
        state: Some(StateJson { schema: 3, accepts: [1, 3] }),
        metadata: text("format = 1\n"),
        target: text("x86_64-gnu"),
        digest: "b".repeat(64),
        size: 1536,
        entry: EntryJson { symbol: "hot_module", abi: 0, size: 56 },
        needed: vec![text("libc.so.6"), text("libnowhere.so.7")],
        libraries: vec![
            LibraryJson {
                name: text("libc.so.6"),
                state: "found",
                path: Some(text("/lib/x86_64-linux-gnu/libc.so.6")),
                versions: vec![version("GLIBC_2.2.5", Some(true)), version("GLIBC_2.999", Some(false))],
            },
            LibraryJson { name: text("libnowhere.so.7"), state: "missing", path: None, versions: Vec::new() },
        ],
        soname: None,
        symbols: Some(SymbolsJson {
            exported: ExportedJson { count: 1, names: vec![text("hot_module")] },
            imported: ImportedJson {
                count: 1030,
                symbols: vec![
                    symbol("puts", "GLIBC_2.2.5", "libc.so.6", false),
                    symbol("new", "GLIBC_2.999", "libc.so.6", false),
                    symbol("__cxa_finalize", "", "", true),
                ],
            },
        }),
        signature: Some(SignatureJson {
            fingerprint: text("SHA256:abc"),
            kind: text("ssh-ed25519"),
            namespace: text("hot-module"),
            certificate: None,
            signers: Some(text("signers")),
            revoked: None,
            principal: Some(text("anna")),
            problem: String::new(),
        }),
        refusals: vec![RefusalJson {
            code: "compat.library_missing",
            message: text("needed library: found none, expected one; install it"),
            field: text("needed library"),
            found: text("none"),
            expected: text("one"),
            advice: text("install it"),
        }],
        not_judged: vec![text("its symbols"), text("floors")],
        exit_code: 4,
    }
}
