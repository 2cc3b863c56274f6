//! What we say of signatures, held against the machine's `ssh-keygen -Y verify`.
//!
//! Never laxer: whatever we accept, it accepts for that principal, or the test fails. Where we are stricter, the refusal
//! must be under a row of the table in `docs/trust.md`, by its code and its words, or the test fails too; and each row
//! must be reached by a case that has a name.
//!
//! [`named`] is a cross product of kinds of keys, hashes, namespaces, times, lines of trust, revocations and damage.
//! [`mutations`] changes good cases at random, from a seed: some thousands here, as many as `HOT_MUTATIONS` says in
//! `make differential`.

#![expect(clippy::too_many_lines, reason = "tables of cases")]

mod authenticator;
mod keygen;
mod keys;
mod mutate;
mod mutations;
mod named;
mod page;
mod parts;

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use hot_artifact::signature::{FileHashes, Signature};
use hot_artifact::trust::{AllowedSigners, ModuleRules, Revoked, Trust, Validity};

/// What is asked of both.
#[derive(Clone, Debug)]
struct Case {
    name: String,
    signature: Vec<u8>,
    signers: Vec<u8>,
    revoked: Option<Vec<u8>>,
    bytes: Vec<u8>,
    /// Seconds since 1970.
    now: u64,
    /// Whom `ssh-keygen` is asked about when we accept nobody.
    principal: String,
}

/// Why we refuse: the code, and the sentence.
#[derive(Clone, Debug)]
struct No {
    code: String,
    sentence: String,
}

impl Case {
    /// Whom we accept, in the namespace of modules.
    fn ours(&self) -> Result<Vec<String>, No> {
        let file = Path::new("allowed_signers");
        let mistake = |code: &str, sentence: String| No { code: code.to_owned(), sentence };
        let text = std::str::from_utf8(&self.signers)
            .map_err(|_error| mistake("signers.malformed", "bytes that are not UTF-8".to_owned()))?;
        let signers = AllowedSigners::parse(text, file)
            .map_err(|error| mistake("signers.malformed", error.to_string()))?;
        let revoked = match &self.revoked {
            None => Revoked::default(),
            Some(bytes) => Revoked::parse(bytes, Path::new("revoked"))
                .map_err(|error| mistake("revoked.malformed", error.to_string()))?,
        };
        let trust = Trust { signers, revoked, modules: ModuleRules::default() };
        let refusal = |refusal: hot_artifact::Refusal| mistake(refusal.code, refusal.to_string());
        let signature = Signature::parse(&self.signature).map_err(|error| refusal(error.refusal()))?;
        let hashes = FileHashes::of(self.bytes.as_slice()).expect("memory can be read");
        signature
            .check(keys::NAMESPACE, hashes.by(signature.hash()))
            .map_err(|error| refusal(error.refusal()))?;
        let now = Validity::At(UNIX_EPOCH + Duration::from_secs(self.now));
        trust.principals(&signature, keys::NAMESPACE, now).map_err(|error| refusal(error.refusal()))
    }
}

/// How both answered.
#[derive(Debug)]
enum Outcome {
    BothAccept,
    BothRefuse,
    /// We refuse what it accepts: the row of the page that says so.
    Stricter(usize),
    /// What must not be: we accept what it refuses, or refuse what it accepts for a reason that is not in the page.
    Wrong(String),
}

/// Asks both.
fn compare(case: &Case, oracle: &keygen::Oracle, page: &page::Page) -> Outcome {
    let wrong = |what: String| Outcome::Wrong(format!("{}: {what}\n{}", case.name, parts::shown(case)));
    match case.ours() {
        Ok(principals) if principals.is_empty() => wrong("LAXER: accepted for nobody".to_owned()),
        Ok(principals) => {
            let refused = principals.iter().find_map(|principal| {
                let answer = oracle.verify(case, principal);
                (!answer.accepted)
                    .then(|| format!("LAXER: accepted for {principal}, ssh-keygen: {}", answer.text))
            });
            refused.map_or(Outcome::BothAccept, wrong)
        }
        Err(_) if !oracle.verify(case, &case.principal).accepted => Outcome::BothRefuse,
        Err(no) => match page.row(&no) {
            Some(row) => Outcome::Stricter(row),
            None => wrong(format!("STRICTER without a row in docs/trust.md: {}: {}", no.code, no.sentence)),
        },
    }
}
