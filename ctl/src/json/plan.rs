//! The shape of `plan -o json`.

use hot_proto::v1;
use serde::Serialize;

use super::ReleaseJson;
use crate::bundle::Signed;
use crate::exit::Exit;
use crate::plan::file_of;
use crate::words;

/// What `plan -o json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct PlanJson {
    changes: bool,
    exit_code: u8,
    refusals: Vec<RefusalJson>,
    modules: Vec<PlannedModuleJson>,
}

#[derive(Debug, Serialize)]
struct RefusalJson {
    code: String,
    message: String,
    field: String,
    found: String,
    expected: String,
    advice: String,
    /// Null where it is about the push as a whole.
    file: Option<String>,
    node: String,
}

#[derive(Debug, Serialize)]
struct PlannedModuleJson {
    module: String,
    version: String,
    release: u64,
    stable: Option<ReleaseJson>,
    supersedes: String,
    changes: bool,
    steps: Vec<PlannedStepJson>,
    files: Vec<PlannedFileJson>,
    /// Nodes that serve it now and would not any more.
    loses: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PlannedStepJson {
    /// Basis points.
    share: u32,
    /// Seconds.
    bake_s: Option<f64>,
    nodes: Vec<PlannedWeightJson>,
}

#[derive(Debug, Serialize)]
struct PlannedWeightJson {
    node: String,
    /// Basis points.
    weight: u32,
}

#[derive(Debug, Serialize)]
struct PlannedFileJson {
    file: String,
    target: String,
    digest: String,
    /// Bytes.
    size: u64,
    /// The node has them already.
    present: bool,
    /// Empty where the signature does not count.
    principal: String,
}

impl PlanJson {
    pub(crate) fn new(answer: v1::PlanResponse, files: &[Signed], exit: Exit) -> Self {
        Self {
            changes: answer.modules.iter().any(|module| module.changes),
            exit_code: exit.code(),
            refusals: answer.refusals.into_iter().map(|refusal| RefusalJson::new(refusal, files)).collect(),
            modules: answer.modules.into_iter().map(|module| PlannedModuleJson::new(module, files)).collect(),
        }
    }
}

impl RefusalJson {
    fn new(refusal: v1::PlanRefusal, files: &[Signed]) -> Self {
        let file = file_of(&refusal, files).map(|file| file.offer.path.display().to_string());
        let error = refusal.error.unwrap_or_default();
        Self {
            code: error.code,
            message: refusal.message,
            field: error.field,
            found: error.found,
            expected: error.expected,
            advice: error.advice,
            file,
            node: refusal.node,
        }
    }
}

impl PlannedModuleJson {
    fn new(module: v1::PlannedModule, files: &[Signed]) -> Self {
        let uploads = module.uploads.into_iter().filter_map(|upload| PlannedFileJson::new(upload, files));
        Self {
            module: module.module,
            version: module.version,
            release: module.release,
            stable: module.stable.map(ReleaseJson::from),
            supersedes: module.supersedes,
            changes: module.changes,
            steps: module.steps.into_iter().map(PlannedStepJson::from).collect(),
            files: uploads.collect(),
            loses: module.loses,
        }
    }
}

impl From<v1::PlannedStep> for PlannedStepJson {
    fn from(step: v1::PlannedStep) -> Self {
        let weight = |of: v1::PlannedWeight| PlannedWeightJson { node: of.node, weight: of.weight };
        Self {
            share: step.share,
            bake_s: step.bake.map(words::seconds),
            nodes: step.weights.into_iter().map(weight).collect(),
        }
    }
}

impl PlannedFileJson {
    fn new(upload: v1::PlannedUpload, files: &[Signed]) -> Option<Self> {
        let file = &files.get(usize::try_from(upload.file).ok()?)?.offer;
        Some(Self {
            file: file.path.display().to_string(),
            target: file.inspection.target.to_string(),
            digest: file.digest(),
            size: file.inspection.size,
            present: upload.present,
            principal: upload.principal,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::examples;

    #[test]
    fn a_plan_holds_still() {
        let json = serde_json::to_string_pretty(&PlanJson::new(examples::plan(), &[], Exit::Refused));
        assert_eq!(json.expect("serialises"), include_str!("../../tests/shapes/plan.json").trim_end());
    }
}
