//! The control messages: golden bytes, round trips, growth at the end, and hostile bytes.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use hot_wire::host::{self, HealthReply, Phase, Stage, Start, StartOptions};
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
    })
}

fn ending() -> Ending {
    Ending { cause: Cause::Killed(11), usage: Usage { user_us: 1, system_us: 2, max_resident_kib: 3 } }
}

fn to_host() -> Vec<(host::ToHost, &'static str)> {
    vec![
        (
            start(),
            "01 0900000000000000 07000000 67726565746572 0300000000000000 05000000 312e322e30 03000000 783d31 02000000 00040000 | 01",
        ),
        (host::ToHost::Attach { link: 5 }, "02 0500000000000000"),
        (host::ToHost::Health { seq: 6 }, "03 0600000000000000"),
        (host::ToHost::Stop { grace_ms: 1000 }, "04 e8030000"),
    ]
}

fn from_host() -> Vec<(host::FromHost, &'static str)> {
    let health =
        HealthReply { seq: 6, phase: Phase::Ready, ok: true, text: "up".into(), in_flight: 4, oldest_ms: 12 };
    vec![
        (host::FromHost::Hello { protocol: 1, pid: 77 }, "41 0100 4d000000"),
        (host::FromHost::Ready { abi: 0 }, "42 00000000"),
        (host::FromHost::Failed { stage: Stage::Abi, text: "no".into() }, "43 03 02000000 6e6f"),
        (host::FromHost::Health(health), "44 0600000000000000 03 01 02000000 7570 04000000 0c000000"),
        (host::FromHost::Stopped, "45"),
    ]
}

fn to_spawn() -> Vec<(spawn::ToSpawn, &'static str)> {
    let limits = Limits { open_files: 256, file_size: 4096, address_space: Limits::UNLIMITED };
    vec![
        (spawn::ToSpawn::Hello { protocol: 1 }, "01 0100"),
        (
            spawn::ToSpawn::Spawn { id: 2, label: b"L".to_vec(), limits },
            "02 0200000000000000 01000000 4c 0001000000000000 0010000000000000 ffffffffffffffff",
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
    };
    let ended = spawn::FromSpawn::Host {
        id: 2,
        pid: 77,
        state: HostState::Ended(ending()),
        label: Vec::new(),
        tail: b"oh".to_vec(),
    };
    let how = "01 0b000000 0100000000000000 0200000000000000 0300000000000000";
    let ended_hex: &'static str =
        Box::leak(format!("44 0200000000000000 4d000000 01 {how} 00000000 02000000 6f68").into());
    let exited_hex: &'static str = Box::leak(format!("48 0200000000000000 {how}").into());
    vec![
        (spawn::FromSpawn::Hello { protocol: 1, pid: 77 }, "41 0100 4d000000"),
        (spawn::FromSpawn::Spawned { id: 2, pid: 77 }, "42 0200000000000000 4d000000"),
        (spawn::FromSpawn::SpawnFailed { id: 2, text: "no".into() }, "43 0200000000000000 02000000 6e6f"),
        (running, "44 0200000000000000 4d000000 00 01000000 4c 00000000"),
        (ended, ended_hex),
        (spawn::FromSpawn::ListEnd, "45"),
        (spawn::FromSpawn::Kept { name: "http".into() }, "46 04000000 68747470"),
        (spawn::FromSpawn::KeptEnd, "47"),
        (spawn::FromSpawn::Exited { id: 2, ending: ending() }, exited_hex),
        (spawn::FromSpawn::Refused { text: "no".into() }, "49 02000000 6e6f"),
        (spawn::FromSpawn::Replaced, "4a"),
    ]
}

/// Every message of `all`: its bytes, its way back, bytes of a newer peer behind it, and each shorter packet. Where there
/// is a `|` a message of an older peer ends.
fn check<M: PartialEq + std::fmt::Debug>(
    all: Vec<(M, &'static str)>,
    encode: impl Fn(&M) -> Result<Vec<u8>, TooLarge>,
    decode: impl Fn(&[u8]) -> Result<M, MessageError>,
) {
    for (message, golden) in all {
        let mut packet = encode(&message).unwrap();
        let golden = golden.replace(' ', "");
        assert_eq!(hex(&packet), golden.replace('|', ""), "{message:?}");
        let older = golden.find('|').map(|digits| digits / 2);
        for len in (0..packet.len()).filter(|len| Some(*len) != older) {
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
    let packet = start().encode().unwrap();
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

#[test]
fn a_message_beyond_a_packet_is_refused_on_both_sides() {
    let spawn = |len| spawn::ToSpawn::Spawn { id: 1, label: vec![0; len], limits: Limits::default() };
    assert!(spawn(spawn::MAX_LABEL).encode().is_ok());
    assert!(spawn(MAX_MESSAGE).encode().is_err());
    let packet = vec![3; MAX_MESSAGE + 1];
    assert_eq!(spawn::ToSpawn::decode(&packet), Err(MessageError::TooLong { found: MAX_MESSAGE + 1 }));
}

proptest! {
    #[test]
    fn any_packet_is_a_message_or_an_error(packet in proptest::collection::vec(any::<u8>(), 0..200)) {
        // A message that was read from it, written again, is never longer: nothing was made up.
        if let Ok(message) = host::ToHost::decode(&packet) {
            prop_assert!(message.encode().unwrap().len() <= packet.len());
        }
        if let Ok(message) = host::FromHost::decode(&packet) {
            prop_assert!(message.encode().unwrap().len() <= packet.len());
        }
        if let Ok(message) = spawn::ToSpawn::decode(&packet) {
            prop_assert!(message.encode().unwrap().len() <= packet.len());
        }
        if let Ok(message) = spawn::FromSpawn::decode(&packet) {
            prop_assert!(message.encode().unwrap().len() <= packet.len());
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
        });
        prop_assert_eq!(host::ToHost::decode(&start.encode().unwrap()), Ok(start));
    }
}
