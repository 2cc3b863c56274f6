//! Plans: what a push would come to, by the same checks that `Upload` and `Start` make, asked before anything is sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use hot_artifact::signature::{FileHashes, Hash, Signature};
use hot_artifact::trust::{JudgeError, Trust, Validity};
use hot_artifact::{
    Entry, FileReader, Inspection, MAX_METADATA, Metadata, ModuleName, NeededLibrary, Sha256, Target,
    VerifyError,
};
use hot_proto::v1::{self, plan_service_server::PlanService};
use hot_rollout::Labels;
use tonic::{Code, Request, Response, Status};

use super::artifacts::MAX_SIGNATURE;
use super::policy::overridden;
use super::refusal::{commit_refused, driver_refused, not_accepted, trust_frozen};
use super::rollouts::{MAX_MODULES, labels, several_modules};
use super::status::{Refused, internal, invalid, refused};
use super::{Api, convert};
use crate::cluster::Cluster;
use crate::driver::{Planned, Refusal, Thought};
use crate::store::{ArtifactError, Opened};
use crate::trust::Frozen;

/// Files of one plan: those of every target of every module of a push, many times over.
const MAX_FILES: usize = 64;

/// Libraries that one file may need, and versions of one: as many as an ELF file may name.
const MAX_LIBRARIES: usize = 256;
const MAX_VERSIONS: usize = 1024;

/// `hot.v1.PlanService`.
#[derive(Clone, Debug)]
pub(super) struct Plans(pub Api);

#[tonic::async_trait]
impl PlanService for Plans {
    async fn plan(&self, request: Request<v1::PlanRequest>) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::PlanRequest { files, policy, retry, on } = request.into_inner();
        if files.is_empty() || files.len() > MAX_FILES {
            return Err(invalid("files", format!("{} files", files.len()), format!("1 to {MAX_FILES}")));
        }
        if let Some(fleet) = self.0.fleet.as_ref().filter(|fleet| !fleet.standing().borrow().heard) {
            // It knows no node of its fleet, and so not what a push would do.
            return Err(driver_refused(Refusal::not_leader(&Cluster::Fleet(fleet.clone()))));
        }
        let files = files.into_iter().map(File::parse).collect::<Result<Vec<_>, _>>()?;
        let on = on.map(labels).transpose()?;
        let api = self.0.clone();
        let trust = api.trust.admitting().await;
        // It checks signatures, and may read files of the store.
        let answer =
            crate::blocking(move || plan(&api, &trust, &files, policy.unwrap_or_default(), (retry, on)))
                .await?;
        Ok(Response::new(answer))
    }
}

/// A file as a caller describes it.
#[derive(Debug)]
struct File {
    digest: Sha256,
    /// Where the caller says it, because its signature is over it.
    sha512: Option<[u8; 64]>,
    size: u64,
    target: Target,
    /// Its text, and what that says.
    metadata: (String, Result<Metadata, hot_artifact::MetadataError>),
    signature: Vec<u8>,
    needed: Vec<NeededLibrary>,
    entry_abi: Option<u32>,
}

impl File {
    fn parse(file: v1::PlannedFile) -> Result<Self, Status> {
        let v1::PlannedFile { digest, sha512, size, target, metadata, signature, needed, entry_abi } = file;
        let digest: Sha256 = digest
            .parse()
            .map_err(|_no_digest| invalid("files.digest", &digest, "64 lower-case hexadecimal digits"))?;
        let target = target
            .parse()
            .map_err(|_no_target| invalid("files.target", &target, "a target such as x86_64-gnu"))?;
        for (field, found, most) in [
            ("files.signature", signature.len(), MAX_SIGNATURE),
            ("files.metadata", metadata.len(), MAX_METADATA),
        ] {
            if found > most {
                return Err(invalid(field, format!("{found} bytes"), format!("at most {most}")));
            }
        }
        if needed.len() > MAX_LIBRARIES || needed.iter().any(|of| of.versions.len() > MAX_VERSIONS) {
            let expected = format!("at most {MAX_LIBRARIES} libraries with {MAX_VERSIONS} versions each");
            return Err(invalid("files.needed", format!("{} libraries", needed.len()), expected));
        }
        let over_sha512 =
            Signature::parse(&signature).is_ok_and(|signature| signature.hash() == Hash::Sha512);
        let sha512 = match (parse_sha512(&sha512), over_sha512) {
            (Some(hash), _) => Some(hash),
            (None, false) if sha512.is_empty() => None,
            (None, _) => {
                let expected = "128 lower-case hexadecimal digits, which the signature is over";
                return Err(invalid("files.sha512", format!("`{}`", sha512.escape_debug()), expected));
            }
        };
        let parsed = Metadata::parse(metadata.as_bytes());
        let library = |of: v1::NeededLibrary| NeededLibrary { name: of.name, versions: of.versions };
        Ok(Self {
            digest,
            sha512,
            size,
            target,
            metadata: (metadata, parsed),
            signature,
            needed: needed.into_iter().map(library).collect(),
            entry_abi,
        })
    }

    /// What the file is, as far as a node decides by it. What no node takes its caller knows.
    fn inspection(&self, metadata: &Metadata) -> Inspection {
        Inspection {
            metadata: metadata.clone(),
            metadata_text: self.metadata.0.clone(),
            digest: self.digest,
            size: self.size,
            target: self.target,
            needed: self.needed.clone(),
            soname: None,
            entry: Entry { abi: self.entry_abi.unwrap_or(metadata.abi), size: u32::MAX },
            hazards: Vec::new(),
        }
    }
}

fn parse_sha512(text: &str) -> Option<[u8; 64]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut hash = [0; 64];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != hash.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(hash)
}

fn plan(
    api: &Api,
    trust: &Result<Arc<Trust>, Arc<Frozen>>,
    files: &[File],
    policy: v1::PolicyOverrides,
    (retry, on): (bool, Option<Labels>),
) -> Result<v1::PlanResponse, Status> {
    let mut answer = v1::PlanResponse::default();
    let mut refuse = |status: &Status, file: Option<u32>| {
        let error = hot_proto::status::detail(status);
        let (message, node) = (status.message().to_owned(), api.about.node.clone());
        answer.refusals.push(v1::PlanRefusal { error, message, file, node });
    };
    let mut uploads = Vec::new();
    for (index, file) in (0..).zip(files) {
        // While trust is frozen that is said of the push as a whole.
        let (upload, statuses) = judge(api, trust.as_deref().ok(), index, file);
        statuses.iter().for_each(|status| refuse(status, Some(index)));
        uploads.push(upload);
    }
    if let Err(frozen) = trust {
        refuse(&trust_frozen(frozen), None);
    }
    let policy = match overridden(&api.policy, policy) {
        Ok(policy) => Some(policy),
        Err(status) => {
            refuse(&status, None);
            None
        }
    };
    let (thoughts, members) = thoughts(files)?;
    if thoughts.len() > MAX_MODULES {
        refuse(&several_modules(thoughts.len()), None);
    }
    let plan = api.driver.plan(&thoughts, policy.as_ref(), retry, on.as_ref());
    plan.refusals.into_iter().for_each(|refusal| refuse(&driver_refused(refusal), None));
    for (planned, members) in plan.modules.iter().zip(members) {
        let uploads = members.into_iter().filter_map(|member| uploads.get(member).cloned()).collect();
        answer.modules.push(module(api, planned, uploads));
    }
    Ok(answer)
}

/// Everything against one file, whatever else is pushed with it, and what the node has of it.
fn judge(api: &Api, trust: Option<&Trust>, index: u32, file: &File) -> (v1::PlannedUpload, Vec<Status>) {
    let mut against = Vec::new();
    let digest = file.digest;
    let store = api.ledger.store();
    let stored = store.artifact(&digest);
    let present = store.sound_artifact(&digest).is_some();
    let mut upload = v1::PlannedUpload { file: index, present, principal: String::new() };
    if file.size > api.max_artifact {
        against.push(not_accepted(&VerifyError::TooLarge { limit: api.max_artifact }));
    }
    let metadata = match &file.metadata.1 {
        Ok(metadata) => metadata,
        Err(error) => {
            against.push(not_accepted(&VerifyError::Metadata(error.clone())));
            return (upload, against);
        }
    };
    let reasons = api.ledger.machine().judge(&file.inspection(metadata));
    against.extend(reasons.into_iter().map(|reason| not_accepted(&reason.into())));
    if let Some(trust) = trust {
        let armoured = match &stored {
            Some(stored) if file.signature.is_empty() => stored.signature.as_bytes(),
            _ => &file.signature,
        };
        match signed(api, trust, file, armoured, &metadata.name) {
            Ok(principal) => upload.principal = principal,
            Err(status) => against.push(status),
        }
    }
    if let Some(record) = api.ledger.module(&metadata.name)
        && let Err(error) = record.may_become(&metadata.name, &metadata.version, file.target, digest)
    {
        against.push(commit_refused(error));
    }
    (upload, against)
}

/// Who signed it, if that counts here.
fn signed(
    api: &Api,
    trust: &Trust,
    file: &File,
    armoured: &[u8],
    module: &ModuleName,
) -> Result<String, Status> {
    let hashes = hashes(api, file, armoured)?;
    let judged = trust.judge(armoured, &hashes, module, Validity::At(SystemTime::now()));
    judged.map(|signed| signed.principal).map_err(|error| match error {
        JudgeError::Signature(error) => not_accepted(&VerifyError::Signature(error)),
        JudgeError::Signer(error) => not_accepted(&VerifyError::Signer(error)),
        error => internal(&error),
    })
}

/// What the signature of a file can be over. The one that the node has may be over another hash than the caller's, who
/// need not know that: then it is made of the stored bytes.
fn hashes(api: &Api, file: &File, armoured: &[u8]) -> Result<FileHashes, Status> {
    let over = Signature::parse(armoured).map(|signature| signature.hash());
    match file.sha512 {
        None if over == Ok(Hash::Sha512) => {
            let Opened { file: stored, placed, .. } = match api.ledger.store().open_artifact(&file.digest) {
                Ok(opened) => opened,
                Err(ArtifactError::Io { .. }) => return Err(damaged()),
                Err(error) => return Err(internal(&error)),
            };
            let hashes = FileReader::new(stored).and_then(|reader| FileHashes::of(&reader));
            hashes.ok().filter(|hashes| hashes.sha256 == file.digest).ok_or_else(|| {
                api.ledger.store().found_damaged(&file.digest, placed);
                damaged()
            })
        }
        // Nothing looks at it.
        sha512 => Ok(FileHashes { sha256: file.digest, sha512: sha512.unwrap_or([0; 64]) }),
    }
}

/// The signature that the node has of a file can't be judged by the bytes that it has.
fn damaged() -> Status {
    refused(Refused {
        grpc: Code::FailedPrecondition,
        code: "stored_damaged",
        field: "files.signature",
        found: "this node's own copy of the file is damaged, so that the signature kept with it can't be judged".to_owned(),
        expected: "a signature that comes with the file".to_owned(),
        advice: "Push the file with its signature, without --no-sign: its bytes then take the place of the damaged ones."
            .to_owned(),
    })
}

/// The modules of the files whose metadata can be read, and which files are each's.
fn thoughts(files: &[File]) -> Result<(Vec<Thought>, Vec<Vec<usize>>), Status> {
    let mut modules: BTreeMap<&ModuleName, (Thought, Vec<usize>)> = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        let Ok(metadata) = &file.metadata.1 else { continue };
        let (thought, members) = modules.entry(&metadata.name).or_insert_with(|| {
            let (module, version) = (metadata.name.clone(), metadata.version.clone());
            let thought = Thought { module, version, digests: BTreeMap::new(), routes: Default::default() };
            (thought, Vec::new())
        });
        if thought.version != metadata.version {
            let found = format!("{} {} and {}", metadata.name, thought.version, metadata.version);
            return Err(invalid("files", found, "one version of a module"));
        }
        if thought.digests.insert(file.target, file.digest).is_some() {
            let found = format!("{} {} for {} twice", metadata.name, metadata.version, file.target);
            return Err(invalid("files", found, "one file for each target"));
        }
        thought.routes.extend(metadata.routes.iter().map(|route| route.as_str().to_owned()));
        members.push(index);
    }
    Ok(modules.into_values().unzip())
}

fn module(api: &Api, planned: &Planned, uploads: Vec<v1::PlannedUpload>) -> v1::PlannedModule {
    let name = hot_rollout::Module(planned.module.to_string());
    v1::PlannedModule {
        module: planned.module.to_string(),
        version: planned.version.to_string(),
        release: planned.release.0,
        stable: planned.stable.map(|stable| convert::release(&api.ledger, &name, stable)),
        supersedes: planned.supersedes.as_ref().map(ToString::to_string).unwrap_or_default(),
        changes: planned.changes,
        steps: planned
            .steps
            .iter()
            .map(|(step, weights)| v1::PlannedStep {
                share: u32::from(step.share.basis_points()),
                bake: convert::duration(step.bake),
                weights: weights
                    .iter()
                    .map(|(node, weight)| v1::PlannedWeight {
                        node: node.to_string(),
                        weight: u32::from(weight.basis_points()),
                    })
                    .collect(),
            })
            .collect(),
        uploads,
        loses: planned.loses.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> v1::PlannedFile {
        v1::PlannedFile {
            digest: "ab".repeat(32),
            size: 1,
            target: "x86_64-gnu".to_owned(),
            metadata: "format = 1\nname = \"m\"\nversion = \"1.0.0\"\nabi = 0\n".to_owned(),
            ..v1::PlannedFile::default()
        }
    }

    #[test]
    fn what_is_no_plan_is_told_from_what_would_be_refused() {
        assert!(File::parse(file()).unwrap().metadata.1.is_ok());
        let wrong = File::parse(v1::PlannedFile { metadata: "name = 1".to_owned(), ..file() }).unwrap();
        assert!(wrong.metadata.1.is_err(), "that is for the answer");
        for (broken, field) in [
            (v1::PlannedFile { digest: "AB".repeat(32), ..file() }, "files.digest"),
            (v1::PlannedFile { target: "x86".to_owned(), ..file() }, "files.target"),
            (v1::PlannedFile { sha512: "ab".repeat(63), ..file() }, "files.sha512"),
            (v1::PlannedFile { signature: vec![b'x'; MAX_SIGNATURE + 1], ..file() }, "files.signature"),
            (v1::PlannedFile { metadata: "#".repeat(MAX_METADATA + 1), ..file() }, "files.metadata"),
        ] {
            let status = File::parse(broken).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert_eq!(hot_proto::status::detail(&status).unwrap().field, field);
        }
    }

    #[test]
    fn a_sha512_is_128_digits() {
        let hash = parse_sha512(&format!("{}0f", "a0".repeat(63))).unwrap();
        assert_eq!((hash[0], hash[63]), (0xa0, 0x0f));
        for wrong in ["", "0", &"0".repeat(127), &"0".repeat(130), &"G0".repeat(64), &"A0".repeat(64)] {
            assert_eq!(parse_sha512(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn files_of_one_version_are_its_targets() {
        let of = |version: &str, target: &str, digest: &str| {
            let metadata =
                format!("format = 1\nname = \"m\"\nversion = \"{version}\"\nabi = 0\nroutes = [\"/m\"]\n");
            let (target, digest) = (target.to_owned(), digest.repeat(32));
            File::parse(v1::PlannedFile { target, metadata, digest, ..file() }).unwrap()
        };
        let two = [of("1.0.0", "x86_64-gnu", "aa"), of("1.0.0", "aarch64-gnu", "bb")];
        let (thoughts_, members) = thoughts(&two).unwrap();
        assert_eq!((thoughts_.len(), thoughts_[0].digests.len(), &members[..]), (1, 2, &[vec![0, 1]][..]));
        assert!(thoughts(&[of("1.0.0", "x86_64-gnu", "aa"), of("1.1.0", "aarch64-gnu", "bb")]).is_err());
        assert!(thoughts(&[of("1.0.0", "x86_64-gnu", "aa"), of("1.0.0", "x86_64-gnu", "bb")]).is_err());
    }
}
