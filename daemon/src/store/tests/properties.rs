//! Any record of a module comes back from its file as it was.

use std::collections::BTreeMap;

use hot_artifact::{Sha256, Target, Version};
use proptest::prelude::*;
use serde_json::Value;

use crate::store::envelope;
use crate::store::records::{ModuleRecord, Quarantine, Release, Removal, Stored, Tombstone};

fn digest() -> impl Strategy<Value = Sha256> {
    any::<[u8; 32]>().prop_map(Sha256::from_bytes)
}

fn version() -> impl Strategy<Value = Version> {
    let part = any::<u64>();
    (part, part, part, prop_oneof![Just(""), Just("-rc.1"), Just("-0a")])
        .prop_map(|(a, b, c, pre)| format!("{a}.{b}.{c}{pre}").parse().unwrap())
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof!["x86_64-gnu", "aarch64-musl", "riscv64-none"].prop_map(|t| t.parse().unwrap())
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..4).prop_map(|m| m.into_iter().collect()),
        ]
    })
}

fn release() -> impl Strategy<Value = Release> {
    let on = prop::collection::btree_map(".{1,6}", ".{0,6}", 0..3);
    (any::<u64>(), version(), digest(), prop::option::of(digest()), any::<u64>(), ".{0,20}", ".{0,20}", on)
        .prop_map(|(number, version, digest, config, at, by, message, on)| Release {
            number,
            version,
            digest,
            config,
            at,
            by,
            message,
            on,
        })
}

fn tombstone() -> impl Strategy<Value = Tombstone> {
    let why = prop_oneof![
        Just(Removal::Collected),
        (".{0,9}", ".{0,9}").prop_map(|(by, reason)| Removal::Removed { by, reason }),
    ];
    let digests = prop::collection::btree_map(target(), digest(), 0..3);
    (digests, any::<u64>(), why).prop_map(|(digests, at, why)| Tombstone { digests, at, why })
}

fn module() -> impl Strategy<Value = ModuleRecord> {
    let stored = (digest(), any::<u64>()).prop_map(|(digest, at)| Stored { digest, at });
    let quarantine = (any::<u64>(), ".{0,20}").prop_map(|(at, reason)| Quarantine { at, reason });
    let versions =
        prop::collection::btree_map(version(), prop::collection::btree_map(target(), stored, 0..3), 0..4);
    (
        prop::option::of(json().prop_filter("null is no assignment", |v| !v.is_null())),
        prop::option::of(version()),
        prop::collection::btree_map(digest(), quarantine, 0..3),
        (any::<u64>(), prop::collection::vec(any::<u64>(), 0..4)),
        prop::collection::vec(release(), 0..4),
        versions,
        prop::collection::btree_map(version(), tombstone(), 0..3),
        // Members of a newer hotd: any name that is not one of ours.
        prop::collection::btree_map("x-[a-z]{1,5}", json(), 0..3),
    )
        .prop_map(
            |(
                assignment,
                floor,
                quarantine,
                (last_release, served),
                releases,
                versions,
                tombstones,
                other,
            )| {
                ModuleRecord {
                    assignment,
                    floor,
                    quarantine,
                    served,
                    last_release,
                    releases: releases.into_iter().map(|r| (r.number, r)).collect::<BTreeMap<_, _>>(),
                    versions,
                    tombstones,
                    other: other.into_iter().collect(),
                }
            },
        )
}

proptest! {
    #[test]
    fn a_record_comes_back_as_it_was(record in module(), generation: u64) {
        let bytes = envelope::seal("module", generation, &serde_json::to_vec(&record).unwrap());
        let (found, json) = envelope::open("module", &bytes).unwrap();
        prop_assert_eq!(found, generation);
        prop_assert_eq!(serde_json::from_slice::<ModuleRecord>(json).unwrap(), record);
    }
}
