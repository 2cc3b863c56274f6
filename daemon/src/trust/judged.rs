//! Whether the signers of what is on record still count, found out once: as long as the trust and the record are the
//! same, so is the answer. It is asked for each module twice a second, and by everyone who watches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hot_artifact::signature::Signature;
use hot_artifact::trust::{JudgeError, Trust, Validity};
use hot_artifact::{ModuleName, Sha256};

use crate::store::VersionRecord;

/// What was found, all by one trust.
#[derive(Debug, Default)]
pub(crate) struct Judged(Mutex<Found>);

#[derive(Debug, Default)]
struct Found {
    by: Option<Arc<Trust>>,
    /// By digest, of what is on record.
    answers: HashMap<Sha256, Answer>,
}

#[derive(Debug)]
struct Answer {
    module: ModuleName,
    record: Weak<VersionRecord>,
    found: Result<(), JudgeError>,
}

impl Judged {
    /// Whether whoever signed the artifact on record may sign `module`, at whatever time; the bytes are not looked at.
    pub(crate) fn counts(
        &self,
        module: &ModuleName,
        record: &Arc<VersionRecord>,
        trust: &Arc<Trust>,
    ) -> Result<(), JudgeError> {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // By identity, here and below: what is held here, though weakly, shares its address with no other.
        if !found.by.as_ref().is_some_and(|by| Arc::ptr_eq(by, trust)) {
            *found = Found { by: Some(Arc::clone(trust)), answers: HashMap::new() };
        }
        let record_now = Arc::downgrade(record);
        let same = |answer: &&Answer| answer.record.ptr_eq(&record_now) && answer.module == *module;
        if let Some(answer) = found.answers.get(&record.digest).filter(same) {
            return answer.found.clone();
        }
        let judged = judge(module, record, trust);
        found.answers.retain(|_, answer| answer.record.strong_count() > 0);
        let answer = Answer { module: module.clone(), record: record_now, found: judged.clone() };
        found.answers.insert(record.digest, answer);
        judged
    }
}

fn judge(module: &ModuleName, record: &VersionRecord, trust: &Trust) -> Result<(), JudgeError> {
    let signature = Signature::parse(record.signature.as_bytes())?;
    trust.principal(&signature, module, Validity::AnyTime)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hot_artifact::Target;
    use hot_artifact::signature::{Signer, generate_key, sign};
    use hot_artifact::trust::AllowedSigners;

    use super::*;

    struct Key {
        line: String,
        signature: String,
    }

    /// A key that signed some file.
    fn key(name: &str) -> Key {
        let folder = tempfile::tempdir().unwrap();
        let (path, file) = (folder.path().join("key"), folder.path().join("file"));
        let generated = generate_key(name).unwrap();
        std::fs::write(&path, &generated.private).unwrap();
        std::fs::write(&file, "bytes").unwrap();
        let reader = hot_artifact::FileReader::open(&file).unwrap();
        let mut signer = Signer::from_file(&path).unwrap();
        Key {
            line: format!("{name} namespaces=\"hot-module\" {}\n", generated.public),
            signature: sign(&reader, "hot-module", &mut signer).unwrap(),
        }
    }

    fn trust(text: &str) -> Arc<Trust> {
        let signers = AllowedSigners::parse(text, Path::new("signers")).unwrap();
        Arc::new(Trust { signers, ..Trust::default() })
    }

    fn record(seed: u64, signature: &str) -> Arc<VersionRecord> {
        Arc::new(VersionRecord {
            module: "greeter".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            target: Target::native(),
            digest: Sha256::of(&seed.to_be_bytes()),
            size: 5,
            metadata: String::new(),
            principal: "ada".to_owned(),
            signature: signature.to_owned(),
            at: 1,
            by: "ada".to_owned(),
        })
    }

    fn known(judged: &Judged) -> usize {
        judged.0.lock().unwrap().answers.len()
    }

    #[test]
    fn an_answer_is_of_one_trust_and_one_record() {
        let (ada, bob) = (key("ada"), key("bob"));
        let (judged, greeter) = (Judged::default(), "greeter".parse().unwrap());
        let counts =
            |record: &Arc<VersionRecord>, trust: &Arc<Trust>| judged.counts(&greeter, record, trust).is_ok();
        let (both, only_bob) = (trust(&(ada.line.clone() + &bob.line)), trust(&bob.line));
        let signed = record(1, &ada.signature);
        for _ in 0..2 {
            assert!(counts(&signed, &both));
            assert!(!counts(&signed, &only_bob), "whatever was found by another trust");
        }
        // The same bytes, signed again.
        let again = record(1, &bob.signature);
        assert!(counts(&again, &only_bob));
        assert!(!counts(&signed, &only_bob), "whatever was found of another signature");
        let broken = record(1, "no signature");
        assert!(matches!(judged.counts(&greeter, &broken, &both), Err(JudgeError::Signature(_))));
    }

    #[test]
    fn an_answer_is_of_one_module() {
        let ada = key("ada");
        let mut trust = Trust::clone(&trust(&ada.line));
        let rules = [("pay".to_owned(), vec![]), ("*".to_owned(), vec!["ada".to_owned()])];
        trust.modules = hot_artifact::trust::ModuleRules::new(rules).unwrap();
        let (judged, trust, record) = (Judged::default(), Arc::new(trust), record(1, &ada.signature));
        for _ in 0..2 {
            assert!(judged.counts(&"greeter".parse().unwrap(), &record, &trust).is_ok());
            assert!(judged.counts(&"pay".parse().unwrap(), &record, &trust).is_err());
        }
    }

    #[test]
    fn no_more_is_known_than_is_on_record() {
        let ada = key("ada");
        let (judged, greeter, trust) = (Judged::default(), "greeter".parse().unwrap(), trust(&ada.line));
        let kept = record(0, &ada.signature);
        for seed in 0..100 {
            assert!(judged.counts(&greeter, &kept, &trust).is_ok());
            assert!(judged.counts(&greeter, &record(seed, &ada.signature), &trust).is_ok());
            assert!(known(&judged) <= 2, "what was removed is forgotten");
        }
    }

    #[test]
    fn an_answer_is_found_once() {
        let ada = key("ada");
        let (judged, greeter, trust) = (Judged::default(), "greeter".parse().unwrap(), trust(&ada.line));
        let signed = record(1, &ada.signature);
        assert!(judged.counts(&greeter, &signed, &trust).is_ok());
        // What is kept is what is told.
        let revoked = Err(JudgeError::from(Signature::parse(b"").unwrap_err()));
        judged.0.lock().unwrap().answers.get_mut(&signed.digest).unwrap().found = revoked;
        assert!(judged.counts(&greeter, &signed, &trust).is_err());
    }
}
