//! What a module's file is, as text.

use crate::json::{ImportJson, InspectJson, LibraryJson, SignatureJson};
use crate::output::{Tone, paint};
use crate::words;

/// So many names of symbols are shown; `-o json` has more.
const MAX_NAMES: usize = 12;

/// So many symbols are named that want a version which is not there.
const MAX_CULPRITS: usize = 3;

/// Facts first, then the verdict, then what nobody could judge here.
pub(crate) fn lines(file: &InspectJson, colour: bool) -> Vec<String> {
    let mut lines =
        vec![paint(&words::clean(&format!("{} {}", file.name, file.version)), Tone::Strong, colour)];
    let mut field = |name: &str, text: &str| {
        if !text.is_empty() {
            lines.push(format!("  {name:<11}{}", words::clean(text)));
        }
    };
    field("file", &format!("{}, {}", file.file, words::size(file.size)));
    field("sha256", &file.digest);
    field("target", &file.target);
    field("abi", &file.abi.to_string());
    field("routes", if file.routes.is_empty() { "none: a background module" } else { "" });
    field("routes", &file.routes.join(" "));
    field("requires", &file.requires.join(", "));
    if let Some(state) = &file.state {
        let [from, to] = state.accepts;
        field("state", &format!("schema {}, accepts {from} to {to}", state.schema));
    }
    let entry = &file.entry;
    field("entry", &format!("{}, a table of {} bytes, abi {}", entry.symbol, entry.size, entry.abi));
    field("soname", file.soname.as_deref().unwrap_or_default());
    match &file.symbols {
        None => field("symbols", "can't be listed: their tables are malformed or too large"),
        Some(symbols) => {
            field("exports", &names(symbols.exported.count, symbols.exported.names.iter().cloned()));
            field("imports", &names(symbols.imported.count, symbols.imported.symbols.iter().map(import)));
        }
    }
    let imports = file.symbols.as_ref().map_or(&[][..], |symbols| &symbols.imported.symbols);
    for library in &file.libraries {
        field("needs", &needs(library, imports));
    }
    match &file.signature {
        None => field("signature", "none beside it"),
        Some(signature) => {
            field("signature", &made_by(signature));
            field("", &judged(signature));
        }
    }
    lines.push(verdict(file, colour));
    for refusal in &file.refusals {
        lines.push(words::clean(&format!("    {}: {}", refusal.code, refusal.message)));
    }
    lines.push(not_judged(&file.not_judged, colour));
    lines
}

/// What a verdict leaves out.
pub(crate) fn not_judged(left_out: &[String], colour: bool) -> String {
    let text = format!("  {:<11}{}", "not judged", left_out.join("; "));
    paint(&words::clean(&text), Tone::Dim, colour)
}

fn verdict(file: &InspectJson, colour: bool) -> String {
    let (text, tone) = match file.refusals.len() {
        0 if file.signature.is_none() => {
            ("a node like this machine would take it once it is signed".to_owned(), Tone::Warn)
        }
        0 => ("a node like this machine would take it".to_owned(), Tone::Good),
        1 => ("a node like this machine would refuse it:".to_owned(), Tone::Bad),
        many => (format!("a node like this machine would refuse it, for {many} reasons:"), Tone::Bad),
    };
    paint(&format!("  {:<11}{text}", "verdict"), tone, colour)
}

/// How many there are, and the first of them.
fn names(count: u32, names: impl Iterator<Item = String>) -> String {
    let shown: Vec<String> = names.take(MAX_NAMES).collect();
    match usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(shown.len()) {
        _ if shown.is_empty() => "none".to_owned(),
        0 => format!("{count}: {}", shown.join(" ")),
        more => format!("{count}: {} and {more} more", shown.join(" ")),
    }
}

/// As `readelf` and `nm` write it.
fn import(import: &ImportJson) -> String {
    let weak = if import.weak { " (weak)" } else { "" };
    match import.version.as_str() {
        "" => format!("{}{weak}", import.name),
        version => format!("{}@{version}{weak}", import.name),
    }
}

/// Where a library is, and each version that is wanted of it.
fn needs(library: &LibraryJson, imports: &[ImportJson]) -> String {
    let place = match (&library.path, library.state) {
        (Some(path), _) => format!("at {path}"),
        (None, "missing") => "missing here".to_owned(),
        (None, _) => "not looked for here".to_owned(),
    };
    let versions = library.versions.iter().map(|of| match of.defined {
        Some(false) => {
            format!("{} (not defined there{})", of.version, wanted_by(library, &of.version, imports))
        }
        Some(true) | None => of.version.clone(),
    });
    let versions: Vec<String> = versions.collect();
    let separator = if versions.is_empty() { "" } else { ": " };
    format!("{} {place}{separator}{}", library.name, versions.join(" "))
}

/// The symbols that a version is wanted for.
fn wanted_by(library: &LibraryJson, version: &str, imports: &[ImportJson]) -> String {
    let wanted = imports.iter().filter(|of| of.library == library.name && of.version == version);
    let names: Vec<&str> = wanted.map(|of| of.name.as_str()).take(MAX_CULPRITS + 1).collect();
    match names.as_slice() {
        [] => String::new(),
        [shown @ .., _] if shown.len() == MAX_CULPRITS => format!(", wanted for {}, ...", shown.join(", ")),
        shown => format!(", wanted for {}", shown.join(", ")),
    }
}

fn made_by(signature: &SignatureJson) -> String {
    if signature.fingerprint.is_empty() {
        return "of nobody that could be read".to_owned();
    }
    let SignatureJson { kind, fingerprint, namespace, .. } = signature;
    let with = signature.certificate.as_ref().map(|id| format!(", certificate {id}")).unwrap_or_default();
    format!("by {kind} {fingerprint}{with}, for namespace {namespace}")
}

fn judged(signature: &SignatureJson) -> String {
    match (&signature.principal, &signature.signers) {
        (Some(principal), Some(signers)) => format!("good: {principal}, as {signers} says"),
        (_, None) => signature.problem.clone(),
        (None, Some(signers)) => format!("does not count by {signers}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::examples;

    #[test]
    fn everything_is_shown_and_every_reason() {
        assert_eq!(
            lines(&examples::inspection(), false),
            [
                "greeter 1.1.0",
                "  file       a.so, 1.5 KiB",
                "  sha256     bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                "  target     x86_64-gnu",
                "  abi        0",
                "  routes     /greet",
                "  requires   auth ^1.4",
                "  state      schema 3, accepts 1 to 3",
                "  entry      hot_module, a table of 56 bytes, abi 0",
                "  exports    1: hot_module",
                "  imports    1030: puts@GLIBC_2.2.5 new@GLIBC_2.999 __cxa_finalize (weak) and 1027 more",
                "  needs      libc.so.6 at /lib/x86_64-linux-gnu/libc.so.6: GLIBC_2.2.5 GLIBC_2.999 (not defined there, \
                 wanted for new)",
                "  needs      libnowhere.so.7 missing here",
                "  signature  by ssh-ed25519 SHA256:abc, for namespace hot-module",
                "             good: anna, as signers says",
                "  verdict    a node like this machine would refuse it:",
                "    compat.library_missing: needed library: found none, expected one; install it",
                "  not judged its symbols; floors",
            ]
        );
    }

    #[test]
    fn what_is_not_there_is_said() {
        let mut file = examples::inspection();
        file.symbols = None;
        file.signature = None;
        file.routes = Vec::new();
        file.refusals = Vec::new();
        let text = lines(&file, false).join("\n");
        for line in [
            "  routes     none: a background module",
            "  symbols    can't be listed",
            "  signature  none beside it",
            "  verdict    a node like this machine would take it once it is signed\n",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        file.signature = examples::inspection().signature;
        let text = lines(&file, false).join("\n");
        assert!(text.contains("  verdict    a node like this machine would take it\n"), "{text}");
        assert_eq!(names(0, std::iter::empty()), "none");
    }
}
