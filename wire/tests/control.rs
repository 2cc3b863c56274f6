//! The control messages: golden bytes, round trips, growth at the end, and hostile bytes.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use hot_wire::host::{self, Features, HealthReply, MetricsPage, Phase, Stage, Start, StartOptions};
use hot_wire::isolation::{Breach, Confine, Held, Parts};
use hot_wire::metrics::{BUCKETS, MAX_SERIES, Series, Value};
use hot_wire::spawn::{self, Cause, Ending, HostState, Limits, Usage};
use hot_wire::{MAX_MESSAGE, MessageError, TooLarge};
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn start() -> host::ToHost {
    host::ToHost::Start(Start {
        instance: 9,
        module: "greeter".into(),
        release: 3,
        version: "1.2.0".into(),
        config: b"x=1".to_vec(),
        options: StartOptions { workers: 2, max_exchanges: 1024, serves: true },
        confine: Some(Confine {
            leave_out: Parts::SECCOMP,
            read: vec!["/a".into()],
            write: Vec::new(),
            connect: Some(vec![443]),
            bind: None,
            require: Parts::FILES,
        }),
    })
}

fn ending() -> Ending {
    Ending {
        cause: Cause::Killed(11),
        usage: Usage { user_us: 1, system_us: 2, max_resident_kib: 3 },
        breach: None,
        told: false,
    }
}

fn held() -> Held {
    Held { user: Some(7), parts: Parts::USER.with(Parts::MEMORY) }
}

fn to_host() -> Vec<(host::ToHost, &'static str)> {
    vec![
        (
            start(),
            "01 0900000000000000 07000000 67726565746572 0300000000000000 05000000 312e322e30 03000000 783d31 02000000 00040000 | 01 | \
             04000000 01000000 02000000 2f61 00000000 01 01000000 bb01 00 | 10000000",
        ),
        (host::ToHost::Attach { link: 5 }, "02 0500000000000000"),
        (host::ToHost::Health { seq: 6 }, "03 0600000000000000"),
        (host::ToHost::Stop { grace_ms: 1000 }, "04 e8030000"),
        (host::ToHost::Metrics { seq: 7, first: 2 }, "05 0700000000000000 02000000"),
    ]
}

fn from_host() -> Vec<(host::FromHost, &'static str)> {
    let health = HealthReply {
        seq: 6,
        phase: Phase::Ready,
        ok: true,
        text: "up".into(),
        in_flight: 4,
        oldest_ms: 12,
        features: Features::METRICS,
        parts: Parts::SECCOMP,
    };
    vec![
        (
            host::FromHost::Hello { protocol: 1, pid: 77, features: Features::METRICS },
            "41 0100 4d000000 | 01000000",
        ),
        (host::FromHost::Ready { abi: 0 }, "42 00000000"),
        (host::FromHost::Failed { stage: Stage::Abi, text: "no".into() }, "43 03 02000000 6e6f"),
        (
            host::FromHost::Health(health),
            "44 0600000000000000 03 01 02000000 7570 04000000 0c000000 | 01000000 | 04000000",
        ),
        (host::FromHost::Stopped, "45"),
        (host::FromHost::Confined { parts: Parts::SECCOMP.with(Parts::FILES) }, "47 | 14000000"),
        (
            host::FromHost::Metrics(MetricsPage { seq: 7, first: 2, total: 4, series: series() }),
            "46 0700000000000000 02000000 04000000 02000000 \
             01000000 61 01000000 01000000 62 01000000 63 01 000000000000f83f \
             02000000 6964 00000000 03 01000000 000000000000e03f 0500000000000000 0600000000000000 0000000000001c40",
        ),
    ]
}

fn series() -> Vec<Series> {
    let histogram = Value::Histogram { buckets: vec![(0.5, 5)], beyond: 6, sum: 7.0 };
    vec![
        Series { name: "a".into(), labels: vec![("b".into(), "c".into())], value: Value::Counter(1.5) },
        Series { name: "id".into(), labels: Vec::new(), value: histogram },
    ]
}

fn to_spawn() -> Vec<(spawn::ToSpawn, &'static str)> {
    let limits = Limits {
        open_files: 256,
        file_size: 4096,
        address_space: Limits::UNLIMITED,
        memory: 1 << 20,
        tasks: 9,
        folder: 1 << 16,
        cpu_weight: 100,
    };
    vec![
        (spawn::ToSpawn::Hello { protocol: 1, features: spawn::Features::DENIED }, "01 0100 | 01000000"),
        (
            spawn::ToSpawn::Spawn { id: 2, label: b"L".to_vec(), limits, module: "m".into() },
            "02 0200000000000000 01000000 4c 0001000000000000 0010000000000000 ffffffffffffffff | \
             0000100000000000 0900000000000000 0000010000000000 64000000 01000000 6d",
        ),
        (spawn::ToSpawn::List, "03"),
        (spawn::ToSpawn::Signal { id: 2, signal: 15 }, "04 0200000000000000 0f000000"),
        (spawn::ToSpawn::Keep { name: "http".into() }, "05 04000000 68747470"),
        (spawn::ToSpawn::Kept, "06"),
        (spawn::ToSpawn::Drop { name: "a".into() }, "07 01000000 61"),
        (spawn::ToSpawn::Forget { id: 2 }, "08 0200000000000000"),
    ]
}

fn from_spawn() -> Vec<(spawn::FromSpawn, &'static str)> {
    let running = spawn::FromSpawn::Host {
        id: 2,
        pid: 77,
        state: HostState::Running,
        label: b"L".to_vec(),
        tail: Vec::new(),
        held: held(),
    };
    let ended = spawn::FromSpawn::Host {
        id: 2,
        pid: 77,
        state: HostState::Ended(Ending {
            breach: Some(Breach::Tasks { used: 3, limit: 2 }),
            told: true,
            ..ending()
        }),
        label: Vec::new(),
        tail: b"oh".to_vec(),
        held: Held::default(),
    };
    let (unheld, breach) = ("00000000 00 00000000", "02 0300000000000000 0200000000000000");
    let how = "01 0b000000 0100000000000000 0200000000000000 0300000000000000";
    let ended_hex: &'static str = Box::leak(
        format!("44 0200000000000000 4d000000 01 {how} 00000000 02000000 6f68 | {unheld} | {breach} | 01")
            .into(),
    );
    let exited_hex: &'static str = Box::leak(format!("48 0200000000000000 {how} | 00 | 00").into());
    vec![
        (spawn::FromSpawn::Hello { protocol: 1, pid: 77 }, "41 0100 4d000000"),
        (
            spawn::FromSpawn::Spawned { id: 2, pid: 77, held: held() },
            "42 0200000000000000 4d000000 | 81000000 01 07000000",
        ),
        (spawn::FromSpawn::SpawnFailed { id: 2, text: "no".into() }, "43 0200000000000000 02000000 6e6f"),
        (running, "44 0200000000000000 4d000000 00 01000000 4c 00000000 | 81000000 01 07000000 | 00 | 00"),
        (ended, ended_hex),
        (spawn::FromSpawn::ListEnd, "45"),
        (spawn::FromSpawn::Kept { name: "http".into() }, "46 04000000 68747470"),
        (spawn::FromSpawn::KeptEnd, "47"),
        (spawn::FromSpawn::Exited { id: 2, ending: ending() }, exited_hex),
        (spawn::FromSpawn::Refused { text: "no".into() }, "49 02000000 6e6f"),
        (spawn::FromSpawn::Occupied { pid: 77 }, "4b 4d000000"),
        (
            spawn::FromSpawn::Denied { id: 2, calls: vec![(101, 3)] },
            "4c 0200000000000000 01000000 65000000 0300000000000000",
        ),
    ]
}

/// Every message of `all`: its bytes, its way back, bytes of a newer peer behind it, and each shorter packet. Where there
/// is a `|`, a message of an older peer ends.
fn check<M: PartialEq + std::fmt::Debug>(
    all: Vec<(M, &'static str)>,
    encode: impl Fn(&M) -> Result<Vec<u8>, TooLarge>,
    decode: impl Fn(&[u8]) -> Result<M, MessageError>,
) {
    for (message, golden) in all {
        let mut packet = encode(&message).unwrap();
        let golden = golden.replace(' ', "");
        assert_eq!(hex(&packet), golden.replace('|', ""), "{message:?}");
        // The marks before it are digits of no byte.
        let older: Vec<_> =
            golden.match_indices('|').enumerate().map(|(marks, (at, _))| (at - marks) / 2).collect();
        for len in (0..packet.len()).filter(|len| !older.contains(len)) {
            let short = decode(&packet[..len]);
            assert!(short.is_err(), "{message:?} cut to {len} bytes was read as {short:?}");
        }
        packet.extend_from_slice(b"of a newer peer");
        assert_eq!(decode(&packet).as_ref(), Ok(&message));
    }
}

/// These bytes are what older and newer processes exchange: a change here is a change of the protocol.
#[test]
fn golden_messages() {
    check(to_host(), host::ToHost::encode, host::ToHost::decode);
    check(from_host(), host::FromHost::encode, host::FromHost::decode);
    check(to_spawn(), spawn::ToSpawn::encode, spawn::ToSpawn::decode);
    check(from_spawn(), spawn::FromSpawn::encode, spawn::FromSpawn::decode);
}

#[test]
fn an_older_start_asks_for_no_handle() {
    let host::ToHost::Start(start) = start() else { panic!("a start") };
    let packet = host::ToHost::Start(Start { confine: None, ..start }).encode().unwrap();
    let Ok(host::ToHost::Start(older)) = host::ToHost::decode(&packet[..packet.len() - 1]) else {
        panic!("a start of an older hotd is refused");
    };
    assert_eq!(older.options, StartOptions { workers: 2, max_exchanges: 1024, serves: false });
}

#[test]
fn values_without_a_meaning_are_refused() {
    let failed = host::FromHost::Failed { stage: Stage::Load, text: String::new() };
    let mut packet = failed.encode().unwrap();
    packet[1] = 9;
    assert_eq!(host::FromHost::decode(&packet), Err(MessageError::UnknownValue { field: "stage", found: 9 }));
    assert_eq!(host::ToHost::decode(&[]), Err(MessageError::UnknownKind { found: 0 }));
    assert_eq!(host::ToHost::decode(&[65]), Err(MessageError::UnknownKind { found: 65 }));
    let mut packet = spawn::ToSpawn::Keep { name: "ab".into() }.encode().unwrap();
    packet[5] = 0xff;
    assert_eq!(spawn::ToSpawn::decode(&packet), Err(MessageError::NotUtf8 { field: "name" }));
}

/// What a host of before says is read by a newer `hotd`, and what a newer one says is read by one of before (which ignores
/// what is behind the fields that it knows).
#[test]
fn a_host_of_before_has_no_features() {
    let hello = [0x41, 1, 0, 77, 0, 0, 0];
    let expected = host::FromHost::Hello { protocol: 1, pid: 77, features: Features::default() };
    assert_eq!(host::FromHost::decode(&hello), Ok(expected));
    assert!(!Features::default().has(Features::METRICS));
}

#[test]
fn metrics_that_break_the_rules_are_refused() {
    let page = |series: Series| {
        let page = MetricsPage { seq: 1, first: 0, total: 1, series: vec![series] };
        host::FromHost::decode(&host::FromHost::Metrics(page).encode().unwrap())
    };
    let good = &series()[0];
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert!(page(good.clone()).is_ok());
    for (bad, field) in [
        (Series { name: "a\nb".into(), ..good.clone() }, "series.name"),
        (Series { labels: vec![label("le", "1")], ..good.clone() }, "series.label"),
        (Series { labels: vec![label("b", ""), label("a", "")], ..good.clone() }, "series.label"),
        (Series { labels: vec![label("b", ""), label("b", "")], ..good.clone() }, "series.label"),
        (Series { labels: vec![label("b", &"x".repeat(129))], ..good.clone() }, "series.label"),
        (Series { labels: vec![label("b", "\u{1b}[2J")], ..good.clone() }, "series.label"),
        (Series { labels: vec![label("b", "c"); 9], ..good.clone() }, "series.labels"),
        (Series { value: Value::Gauge(f64::NAN), ..good.clone() }, "series.value"),
        (
            Series {
                value: Value::Histogram { buckets: vec![(2.0, 0), (1.0, 0)], beyond: 0, sum: 0.0 },
                ..good.clone()
            },
            "series.bound",
        ),
    ] {
        assert_eq!(page(bad.clone()), Err(MessageError::Refused { field }), "{bad:?}");
    }
}

#[test]
fn pages_hold_what_fits_and_together_all() {
    let largest = |number: usize| Series {
        name: format!("{number:063}").replace('0', "x"),
        labels: (0..8)
            .map(|label| (format!("{label:_>63}").replacen('_', "x", 2), "v".repeat(128)))
            .collect(),
        value: Value::Histogram { buckets: BUCKETS.map(|bound| (bound, 1)).to_vec(), beyond: 1, sum: 1.0 },
    };
    let all: Vec<Series> = (0..MAX_SERIES).map(largest).collect();
    let total = u32::try_from(all.len()).unwrap();
    let (mut got, mut pages) = (Vec::new(), 0);
    while got.len() < all.len() {
        let first = u32::try_from(got.len()).unwrap();
        let page = MetricsPage::fill(9, first, total, all[got.len()..].iter().cloned());
        let packet = host::FromHost::Metrics(page).encode().unwrap();
        let Ok(host::FromHost::Metrics(page)) = host::FromHost::decode(&packet) else { unreachable!() };
        assert!(!page.series.is_empty());
        got.extend(page.series);
        pages += 1;
    }
    assert_eq!(got, all);
    assert!(pages < 10, "{pages} pages");
}

#[test]
fn a_message_beyond_a_packet_is_refused_on_both_sides() {
    let spawn = |len| spawn::ToSpawn::Spawn {
        id: 1,
        label: vec![0; len],
        limits: Limits::default(),
        module: String::new(),
    };
    assert!(spawn(spawn::MAX_LABEL).encode().is_ok());
    assert!(spawn(MAX_MESSAGE).encode().is_err());
    let packet = vec![3; MAX_MESSAGE + 1];
    assert_eq!(spawn::ToSpawn::decode(&packet), Err(MessageError::TooLong { found: MAX_MESSAGE + 1 }));
}

/// What a message may have behind what its first version had, with nothing said there, in bytes: the limits of a `Spawn` have
/// most.
const LATER: usize = 32;

proptest! {
    #[test]
    fn any_packet_is_a_message_or_an_error(packet in proptest::collection::vec(any::<u8>(), 0..200)) {
        // A message that was read from it, written again, is longer by what older peers leave out at most: nothing was
        // made up.
        if let Ok(message) = host::ToHost::decode(&packet) {
            prop_assert!(message.encode().unwrap().len() <= packet.len() + LATER);
        }
        if let Ok(message) = host::FromHost::decode(&packet) {
            prop_assert!(message.encode().unwrap().len() <= packet.len() + LATER);
        }
        if let Ok(message) = spawn::ToSpawn::decode(&packet) {
            prop_assert!(message.encode().unwrap().len() <= packet.len() + LATER);
        }
        if let Ok(message) = spawn::FromSpawn::decode(&packet) {
            prop_assert!(message.encode().unwrap().len() <= packet.len() + LATER);
        }
    }

    #[test]
    fn any_start_survives(
        instance in any::<u64>(),
        module in ".{0,40}",
        release in any::<u64>(),
        version in ".{0,20}",
        config in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        let start = host::ToHost::Start(Start {
            instance,
            module,
            release,
            version,
            config,
            options: StartOptions::default(),
            confine: None,
        });
        prop_assert_eq!(host::ToHost::decode(&start.encode().unwrap()), Ok(start));
    }
}
