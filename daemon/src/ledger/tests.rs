use std::path::Path;
use std::process::Command;

use hot_artifact::signature::{MODULE_NAMESPACE, Signer, generate_key, sign};
use hot_artifact::trust::{AllowedSigners, Revoked};
use hot_artifact::{DEFAULT_MAX_SIZE, FileReader};
use hot_rollout::Revision;
use serde_json::json;

use super::*;
use crate::store::{Begun, Options, VersionRecord};

/// As an older hotd finds it after a newer one has taken a candidate back for a cause that came with it.
#[test]
fn a_cause_that_is_not_known_costs_no_assignment() {
    let stored = json!({
        "assignment": {
            "module": "greeter", "revision": 5, "rollout": "r1",
            "stable": 1, "candidate": null, "standby": null,
        },
        "took_back": { "revision": 5, "cause": { "too_hot": { "text": "90 degrees", "degrees": 90 } } },
    });
    let record: ModuleRecord = serde_json::from_value(json!({ "assignment": stored })).unwrap();
    let read = obeyed(&record).unwrap();
    assert_eq!(read.assignment.stable, Some(ReleaseNumber(1)));
    let took_back = read.took_back.clone().unwrap();
    assert_eq!(took_back.revision, Revision(5));
    assert!(took_back.cause.to_string().contains("too_hot: 90 degrees"), "{}", took_back.cause);
    assert_eq!(serde_json::to_value(read).unwrap(), stored, "the newer one finds it whole");
}

/// A module that the store has, and who signed it.
struct Stored {
    folder: tempfile::TempDir,
    ledger: Ledger,
    runnable: Runnable,
    /// The signer's key as a line of a file of revoked keys.
    key: String,
    trust: Trust,
}

impl Stored {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (built, key) = (folder.path().join("subject.so"), folder.path().join("key"));
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-I"]).arg(own.join("../module/include"));
        compile.arg(own.join("tests/supervisor/module.c")).arg("-o").arg(&built);
        assert!(compile.status().unwrap().success());
        let generated = generate_key("ada").unwrap();
        std::fs::write(&key, &generated.private).unwrap();
        let bytes = FileReader::open(&built).unwrap();
        let signature = sign(&bytes, MODULE_NAMESPACE, &mut Signer::from_file(&key).unwrap()).unwrap();
        let allowed = format!("ada namespaces=\"{MODULE_NAMESPACE}\" {}\n", generated.public);
        let signers = AllowedSigners::parse(&allowed, Path::new("signers")).unwrap();
        let trust = Trust { signers, ..Trust::default() };

        let (store, _) = Store::open(&folder.path().join("store"), Options::default()).unwrap();
        let bytes = std::fs::read(&built).unwrap();
        let record = record(&bytes, signature);
        let Ok(Begun::Upload(upload)) = store.begin_upload(record.digest, record.size) else {
            panic!("there is room")
        };
        upload.write(0, &bytes).unwrap();
        let runnable = Runnable {
            version: record.version.clone(),
            digest: record.digest,
            routes: Vec::new(),
            config: None,
        };
        store.commit(&upload.finish().unwrap(), record).unwrap();
        let ledger = Ledger::new(store, Arc::new(Node::native()));
        Self { folder, ledger, runnable, key: generated.public.to_string(), trust }
    }

    fn verified(&self, trust: &Trust) -> Result<Verified, LedgerError> {
        self.ledger.verified(&Module("subject".to_owned()), &self.runnable, trust, DEFAULT_MAX_SIZE)
    }
}

fn record(bytes: &[u8], signature: String) -> VersionRecord {
    VersionRecord {
        module: "subject".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        target: Target::native(),
        digest: Sha256::of(bytes),
        size: bytes.len() as u64,
        metadata: String::new(),
        principal: "ada".to_owned(),
        signature,
        at: 1,
        by: "ada".to_owned(),
    }
}

/// Who revokes a key between a push and its load has revoked it.
#[test]
fn bytes_that_are_held_are_judged_by_what_is_revoked_now() {
    let stored = Stored::new();
    let verified = stored.verified(&stored.trust).unwrap();
    // From here on only what is held is as it was signed.
    let artifact =
        stored.folder.path().join("store/artifacts").join(format!("{}.so", stored.runnable.digest));
    std::fs::remove_file(&artifact).unwrap();
    std::fs::write(&artifact, "something else").unwrap();
    stored.ledger.hold(verified);
    let verified = stored.verified(&stored.trust).unwrap();
    assert!(stored.verified(&stored.trust).is_err(), "it is held once");

    stored.ledger.hold(verified);
    let revoked = Revoked::parse(stored.key.as_bytes(), Path::new("revoked")).unwrap();
    let trust = Trust { revoked, ..stored.trust.clone() };
    let Err(LedgerError::Refused(error)) = stored.verified(&trust) else { panic!("the key is revoked") };
    assert_eq!(error.refusal().code, "signer.revoked");
    assert!(stored.verified(&stored.trust).is_err(), "and what was refused is held no more");
}
