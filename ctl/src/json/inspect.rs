//! The shape of `inspect -o json`, which its text shows as well.

use std::path::Path;

use hot_artifact::signature::Signature;
use hot_artifact::{CompatError, Entry, Import, Inspection, NeededLibrary, Refusal, Symbols, VerifyError};
use serde::Serialize;

use crate::exit::Exit;
use crate::trust::{TrustFiles, Verdict};

/// What `inspect -o json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct InspectJson {
    pub file: String,
    pub name: String,
    pub version: String,
    pub abi: u32,
    pub routes: Vec<String>,
    pub requires: Vec<String>,
    /// Null for a module without state.
    pub state: Option<StateJson>,
    /// As it stands in the file, TOML.
    pub metadata: String,
    pub target: String,
    pub digest: String,
    pub size: u64,
    pub entry: EntryJson,
    pub needed: Vec<String>,
    pub libraries: Vec<LibraryJson>,
    pub soname: Option<String>,
    /// Null when they can't be listed.
    pub symbols: Option<SymbolsJson>,
    /// Null without a signature.
    pub signature: Option<SignatureJson>,
    pub refusals: Vec<RefusalJson>,
    pub not_judged: Vec<String>,
    pub exit_code: u8,
}

#[derive(Debug, Serialize)]
pub(crate) struct StateJson {
    pub schema: u32,
    pub accepts: [u32; 2],
}

#[derive(Debug, Serialize)]
pub(crate) struct EntryJson {
    pub symbol: &'static str,
    /// The ABI in the table.
    pub abi: u32,
    /// Bytes of the table.
    pub size: u32,
}

/// A library that the file needs.
#[derive(Debug, Serialize)]
pub(crate) struct LibraryJson {
    pub name: String,
    /// `found`, `missing` or `not_looked_for`.
    pub state: &'static str,
    /// Null unless found.
    pub path: Option<String>,
    pub versions: Vec<LibraryVersionJson>,
}

#[derive(Debug, Serialize)]
pub(crate) struct LibraryVersionJson {
    pub version: String,
    /// Null where the library was not found.
    pub defined: Option<bool>,
}

#[derive(Debug, Serialize)]
pub(crate) struct SymbolsJson {
    pub exported: ExportedJson,
    pub imported: ImportedJson,
}

#[derive(Debug, Serialize)]
pub(crate) struct ExportedJson {
    pub count: u32,
    /// The first 1024.
    pub names: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ImportedJson {
    pub count: u32,
    /// The first 1024.
    pub symbols: Vec<ImportJson>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ImportJson {
    pub name: String,
    /// Empty where it has none.
    pub version: String,
    /// That has to define the version. Empty where it has none.
    pub library: String,
    /// The file can do without it.
    pub weak: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct SignatureJson {
    /// Of the key that it names. Empty when it can't be read, as the next two.
    pub fingerprint: String,
    pub kind: String,
    pub namespace: String,
    /// The certificate's id. Null for a plain key.
    pub certificate: Option<String>,
    /// The file of allowed signers that it was judged by. Null: none.
    pub signers: Option<String>,
    /// The file of revoked keys. Null: none.
    pub revoked: Option<String>,
    /// Who signed, when it counts. Null when it does not, or there are no allowed signers to judge by.
    pub principal: Option<String>,
    /// Why it does not count, or why that is not known. Empty when it counts.
    pub problem: String,
}

/// Why a node like this machine would refuse the file.
#[derive(Debug, Serialize)]
pub(crate) struct RefusalJson {
    pub code: &'static str,
    pub message: String,
    pub field: String,
    pub found: String,
    pub expected: String,
    pub advice: String,
}

impl InspectJson {
    pub(crate) fn new(
        file: &Path,
        inspection: &Inspection,
        symbols: Option<Symbols>,
        verdict: &Verdict,
        signature: Option<SignatureJson>,
        not_judged: Vec<String>,
    ) -> Self {
        let metadata = &inspection.metadata;
        let exit = if verdict.reasons.is_empty() { Exit::Success } else { Exit::Refused };
        Self {
            file: file.display().to_string(),
            name: metadata.name.to_string(),
            version: metadata.version.to_string(),
            abi: metadata.abi,
            routes: metadata.routes.iter().map(ToString::to_string).collect(),
            requires: metadata.requires.iter().map(ToString::to_string).collect(),
            state: metadata.state.as_ref().map(|state| StateJson {
                schema: state.schema,
                accepts: [*state.accepts.start(), *state.accepts.end()],
            }),
            metadata: inspection.metadata_text.clone(),
            target: inspection.target.to_string(),
            digest: inspection.digest.to_string(),
            size: inspection.size,
            entry: EntryJson {
                symbol: Entry::SYMBOL,
                abi: inspection.entry.abi,
                size: inspection.entry.size,
            },
            needed: inspection.needed.iter().map(|library| library.name.clone()).collect(),
            libraries: inspection.needed.iter().map(|needed| LibraryJson::new(needed, verdict)).collect(),
            soname: inspection.soname.clone(),
            symbols: symbols.map(SymbolsJson::from),
            signature,
            refusals: verdict.reasons.iter().map(|reason| reason.refusal().into()).collect(),
            not_judged,
            exit_code: exit.code(),
        }
    }
}

impl LibraryJson {
    /// What the verdict says of it, so that both are one.
    fn new(needed: &NeededLibrary, verdict: &Verdict) -> Self {
        let has = |test: &dyn Fn(&CompatError) -> bool| {
            verdict.reasons.iter().any(|reason| matches!(reason, VerifyError::Compat(reason) if test(reason)))
        };
        let is_foreign = has(&|reason| matches!(reason, CompatError::Target { .. }));
        let path = verdict.libraries.get(&needed.name).filter(|_| !is_foreign);
        let is_missing =
            has(&|reason| matches!(reason, CompatError::LibraryMissing { name } if *name == needed.name));
        let lacks = |wanted: &String| {
            has(&|reason| {
                matches!(reason, CompatError::LibraryVersion { library, version, .. }
                    if *library == needed.name && version == wanted)
            })
        };
        let version = |version: &String| LibraryVersionJson {
            version: version.clone(),
            defined: path.map(|_| !lacks(version)),
        };
        Self {
            name: needed.name.clone(),
            state: match path {
                Some(_) => "found",
                None if is_missing => "missing",
                None => "not_looked_for",
            },
            path: path.map(|library| library.path.display().to_string()),
            versions: needed.versions.iter().map(version).collect(),
        }
    }
}

impl From<Symbols> for SymbolsJson {
    fn from(symbols: Symbols) -> Self {
        let import = |Import { name, version, is_weak }| {
            let (version, library) = version.unwrap_or_default();
            ImportJson { name, version, library, weak: is_weak }
        };
        let (exported, imported) = (symbols.exported, symbols.imported);
        Self {
            exported: ExportedJson { count: exported.count, names: exported.first },
            imported: ImportedJson {
                count: imported.count,
                symbols: imported.first.into_iter().map(import).collect(),
            },
        }
    }
}

impl SignatureJson {
    pub(crate) fn new(armoured: &[u8], files: Option<&TrustFiles>, verdict: &Verdict) -> Self {
        let parsed = Signature::parse(armoured).ok();
        let against =
            |reason: &&VerifyError| matches!(reason, VerifyError::Signature(_) | VerifyError::Signer(_));
        let problem = match (verdict.reasons.iter().find(against), files) {
            (Some(reason), _) => reason.refusal().to_string(),
            (None, Some(_)) => String::new(),
            (None, None) => {
                "not checked: no allowed signers to judge by; name them with --allowed-signers FILE"
                    .to_owned()
            }
        };
        let text = |pick: fn(&Signature) -> String| parsed.as_ref().map(pick).unwrap_or_default();
        let shown = |path: &std::path::PathBuf| path.display().to_string();
        Self {
            fingerprint: text(|signature| signature.key().fingerprint()),
            kind: text(|signature| signature.key().kind_name().to_owned()),
            namespace: text(|signature| signature.namespace().to_owned()),
            certificate: parsed.as_ref().and_then(Signature::certificate).map(|of| of.id.clone()),
            signers: files.map(|files| shown(&files.signers)),
            revoked: files.and_then(|files| files.revoked.as_ref()).map(shown),
            principal: verdict.signed.as_ref().map(|signed| signed.principal.clone()),
            problem,
        }
    }
}

impl From<Refusal> for RefusalJson {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let Refusal { code, field, found, expected, advice } = refusal;
        Self { code, message, field, found, expected, advice }
    }
}

#[cfg(test)]
mod tests {
    use crate::show::examples;

    #[test]
    fn an_inspection_holds_still() {
        let json = serde_json::to_string_pretty(&examples::inspection());
        assert_eq!(json.expect("serialises"), include_str!("../../tests/shapes/inspect.json").trim_end());
    }
}
