//! The files of a node's store, changed behind its back as somebody with write access to the disk would.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// sha256 in lower-case hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is to be in the store as an artifact.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// The bytes of its file.
    pub bytes: Vec<u8>,
    /// The digest that every record has of it.
    pub digest: String,
    /// The signature that is on record.
    pub signature: String,
}

impl Artifact {
    /// These bytes under their own digest.
    pub fn new(bytes: Vec<u8>, signature: String) -> Self {
        Self { digest: sha256(&bytes), bytes, signature }
    }
}

/// All that a node which does not run has on record of one module, as a pattern for other modules: whatever the node
/// came to with this one, it has then come to with those. All checksums are good, so that this is all that can be forged.
#[derive(Clone, Debug)]
pub struct Stencil {
    data: PathBuf,
    module: String,
    record: Record,
    /// The record and the digest of each version's artifact, by version.
    artifacts: BTreeMap<String, (String, Record)>,
    /// Rollouts of it that run, by id.
    rollouts: Vec<(String, Record)>,
}

impl Stencil {
    /// Reads what is on record of `module` in this data folder.
    ///
    /// # Errors
    /// When it is not there, or has another shape.
    pub fn of(data: &Path, module: &str) -> Result<Self> {
        let record = Record::read(&data.join(format!("modules/{module}.json")))?;
        let mut artifacts = BTreeMap::new();
        for (version, targets) in record.value()?["versions"].as_object().context("versions")? {
            let targets = targets.as_object().context("targets")?;
            let digest = targets.values().find_map(|target| target["digest"].as_str()).context("a digest")?;
            let artifact = Record::read(&data.join(format!("artifacts/{digest}.json")))?;
            artifacts.insert(version.clone(), (digest.to_owned(), artifact));
        }
        let mut rollouts = Vec::new();
        for entry in fs::read_dir(data.join("rollouts")).context("the rollouts")? {
            let path = entry.context("a rollout")?.path();
            let rollout = Record::read(&path)?;
            let id = path.file_stem().and_then(|stem| stem.to_str()).context("an id")?;
            if rollout.text.contains(&format!("{module:?}")) {
                rollouts.push((id.to_owned(), rollout.without_request()?));
            }
        }
        Ok(Self { data: data.to_owned(), module: module.to_owned(), record, artifacts, rollouts })
    }

    /// As it is when the standby's time is over.
    ///
    /// # Errors
    /// When there is no assignment on record.
    pub fn without_standby(mut self) -> Result<Self> {
        let mut record = self.record.value()?;
        let assignment = record["assignment"]["assignment"].as_object_mut().context("an assignment")?;
        assignment.remove("standby").context("a standby")?;
        self.record.text = record.to_string();
        Ok(self)
    }

    /// Puts another module on record, with these artifacts for the versions that this one has.
    ///
    /// # Errors
    /// When one is missing, or a file can't be written.
    pub fn copy(&self, module: &str, artifacts: &BTreeMap<&str, Artifact>) -> Result<()> {
        let mut names = vec![(self.module.clone(), module.to_owned())];
        names.extend(self.rollouts.iter().map(|(id, _)| (id.clone(), format!("{id}-{module}"))));
        for (version, (digest, _)) in &self.artifacts {
            let artifact = artifacts.get(&**version).with_context(|| format!("an artifact for {version}"))?;
            names.push((digest.clone(), artifact.digest.clone()));
        }
        let place = |folder: &str, name: &str| self.data.join(folder).join(name);
        for (version, (_, record)) in &self.artifacts {
            let Artifact { bytes, digest, signature } = &artifacts[&**version];
            let mut value = record.renamed(&names).value()?;
            value["signature"] = signature.as_str().into();
            value["size"] = bytes.len().into();
            let record = Record { text: value.to_string(), ..record.clone() };
            fs::write(place("artifacts", &format!("{digest}.so")), bytes).context("an artifact")?;
            record.write(&place("artifacts", &format!("{digest}.json")))?;
        }
        for (id, rollout) in &self.rollouts {
            rollout.renamed(&names).write(&place("rollouts", &format!("{id}-{module}.json")))?;
        }
        self.record.renamed(&names).write(&place("modules", &format!("{module}.json")))
    }
}

/// A file of the store: a line with its kind and its checksum, then the record itself.
#[derive(Clone, Debug)]
struct Record {
    head: Value,
    text: String,
}

impl Record {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let (head, text) = text.split_once('\n').context("a record has two lines")?;
        let head = serde_json::from_str(head).context("the head of a record")?;
        Ok(Self { head, text: text.trim_end().to_owned() })
    }

    fn value(&self) -> Result<Value> {
        serde_json::from_str(&self.text).context("a record is JSON")
    }

    /// A rollout that no request began, because a request begins only one.
    fn without_request(mut self) -> Result<Self> {
        let mut value = self.value()?;
        value.as_object_mut().context("a rollout")?.remove("request");
        value["snapshot"]["meta"].as_object_mut().context("who asked for it")?.remove("request");
        self.text = value.to_string();
        Ok(self)
    }

    /// With other names and digests.
    fn renamed(&self, names: &[(String, String)]) -> Self {
        let text = names.iter().fold(self.text.clone(), |text, (from, to)| text.replace(from, to));
        Self { text, ..self.clone() }
    }

    fn write(&self, path: &Path) -> Result<()> {
        let mut head = self.head.clone();
        let field = |name: &str| head[name].as_str().map_or_else(|| head[name].to_string(), str::to_owned);
        let summed = [field("format"), field("kind"), field("generation"), self.text.clone()].join("\n");
        head["sha256"] = sha256(summed.as_bytes()).into();
        fs::write(path, format!("{head}\n{}\n", self.text)).with_context(|| path.display().to_string())
    }
}
