//! What is refused before any code runs, through the real programs, at every entry: the upload, a boot, a rollback, and
//! the way from a canary to its promotion. Every module that is refused here has a constructor that leaves a mark,
//! which must never be there.

mod cases;
mod entries;
mod lines;
mod page;
mod patch;
mod signers;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hot_proto::v1::ErrorDetail;
use hot_tests::{Artifact, Marker, Module, Output, Service, text, upload_refused};
use serde::Deserialize;

use crate::lines::{Built, Entry, Line, Outcome};

/// A node with a good neighbour.
struct Bench {
    service: Service,
    built: Built,
    entry: Entry,
    lines: Vec<Line>,
    /// By the names of the lines' modules.
    markers: BTreeMap<String, Marker>,
}

/// What `hotctl -o json` says when it fails.
#[derive(Debug, Deserialize)]
struct Failure {
    error: Said,
    exit_code: i32,
}

#[derive(Debug, Deserialize)]
struct Said {
    code: String,
    message: String,
}

/// One library is on every node and not allowed; one is allowed and on none.
const CONFIG: &str = "libraries = [\"libc.so*\", \"libpthread.so*\", \"ld-linux*\", \"libnowhere.so*\"]\n\
                      [trust.modules]\n\"*\" = [\"ada@example.com\"]\n";

impl Bench {
    fn start(entry: Entry) -> Result<Self> {
        let (built, lines) = (Built::new(entry)?, Line::all()?);
        let marker = |line: &Line| Ok((line.module(), Marker::new(&entry.marker(&line.module()))?));
        let markers = lines.iter().map(marker).collect::<Result<_>>()?;
        let service = Service::start(&built.signers.allowed()?, CONFIG)?;
        fs::write(service.revoked(), built.signers.revoked()?).context("the revoked keys")?;
        let bench = Self { service, built, entry, lines, markers };
        bench.push(&Module::new("good").name("neighbour"), &[])?.expect(0)?;
        Ok(bench)
    }

    /// Pushes a module that Ada signs.
    fn push(&self, module: &Module, arguments: &[&str]) -> Result<Output> {
        let file = module.build()?;
        let key = self.built.signers.ada.path();
        let push = ["push", text(&file)?, "--key", text(key)?];
        self.service.hotctl(&[&push, arguments].concat())
    }

    /// No refused code has run, the daemon is there, and the neighbour answers.
    fn unharmed(&self) -> Result<()> {
        for line in &self.lines {
            let ran = self.markers.get(&line.module()).is_some_and(Marker::ran);
            let may_run = line.outcome(self.entry) == Outcome::CountsOn;
            ensure!(!ran || may_run, "{}: code of a refused file has run", line.name);
            ensure!(ran || !may_run, "{}: no code of what counts on has run", line.name);
        }
        self.answers("neighbour", "1.0.0")
    }

    /// The module answers with this version.
    fn answers(&self, module: &str, version: &str) -> Result<()> {
        let reply = hot_tests::get(self.service.http(), &format!("/{module}"))?;
        let body = String::from_utf8_lossy(reply.body()).into_owned();
        let good = reply.status() == 200 && body == format!("{module} {version}\n");
        ensure!(good, "{module}: {} {body:?} instead of {version}", reply.status());
        Ok(())
    }

    /// A sentence without what is of this run: paths, and the module's name.
    fn words(&self, line: &Line, sentence: &str) -> String {
        let etc = self.service.scratch().join("etc").display().to_string();
        sentence.replace(&etc, "/etc/hotd").replace(&line.module(), "MODULE")
    }

    fn stop(self) -> Result<()> {
        self.unharmed()?;
        self.service.stop()
    }
}

/// Code and sentence with which a push is refused.
fn push_refused(service: &Service, file: &Path, arguments: &[&str]) -> Result<Said> {
    let output = service.hotctl(&[&["push", text(file)?, "-o", "json"], arguments].concat())?.expect(4)?;
    let failure: Failure =
        serde_json::from_str(output.stderr.trim_end()).with_context(|| output.stderr.clone())?;
    ensure!(failure.exit_code == 4 && !failure.error.message.contains('\n'), "{failure:?}");
    Ok(failure.error)
}

/// What the node itself says against a file.
fn refused_by_node(service: &Service, artifact: &Artifact) -> Result<(ErrorDetail, String)> {
    let detail = upload_refused(service.door(), &artifact.bytes, artifact.signature.as_bytes())?;
    let ErrorDetail { field, found, expected, advice, .. } = &detail;
    for part in [field, found, expected, advice] {
        ensure!(!part.is_empty() && !part.contains('\n'), "{detail:?}");
    }
    let sentence = format!("{field}: found {found}, expected {expected}; {advice}");
    Ok((detail, sentence))
}

#[test]
fn at_the_upload_every_line_is_refused() -> Result<()> {
    let bench = Bench::start(Entry::Upload)?;
    let signature = bench.service.scratch().join("signature");
    let mut said = page::Said::new();
    for line in bench.lines.iter().filter(|line| line.outcome(Entry::Upload) == Outcome::Refused) {
        let artifact = line.artifact(&bench.built)?;
        let file = bench.built.file(&artifact.bytes)?;
        fs::write(&signature, &artifact.signature)?;
        let signed = ["--signature", text(&signature)?];
        let signed = if artifact.signature.is_empty() { &["--no-sign"][..] } else { &signed };
        let by_push = push_refused(&bench.service, &file, signed).context(line.name)?;
        let (by_node, sentence) = refused_by_node(&bench.service, &artifact).context(line.name)?;
        ensure!(by_node.code == line.code, "{}: {} instead of {}", line.name, by_node.code, line.code);
        // Where hotctl itself has looked, the sentence begins with the file; it may end with that there are more reasons.
        let same = by_push.code == line.code && by_push.message.contains(&sentence);
        ensure!(same, "{}: {by_push:?} is not {sentence:?}", line.name);
        said.insert(line.name, bench.words(line, &sentence));
    }
    let modules: Vec<String> =
        bench.service.status()?.modules.into_iter().map(|module| module.name).collect();
    ensure!(modules == ["neighbour"], "a refused upload left a module: {modules:?}");
    ensure!(bench.service.hosts()?.len() == 1, "a refused upload started a host");
    page::check(&bench.lines, &said)?;
    bench.stop()
}

#[test]
fn a_file_cut_short_at_any_byte_of_its_headers_is_refused() -> Result<()> {
    let (service, built, module, marker) = alone("cut")?;
    let bytes = fs::read(module.build()?)?;
    for len in 0..patch::headers(&bytes)? {
        let file = built.file(&bytes[..len])?;
        let signature = built.signers.sign(&built.signers.ada, &file)?;
        let refused = refused_by_node(&service, &Artifact::new(bytes[..len].to_vec(), signature));
        // No bytes at all are no upload.
        if len > 0 {
            let (ErrorDetail { code, .. }, _) = refused.with_context(|| format!("{len} bytes"))?;
            ensure!(code == "elf.not_elf" || code == "elf.cut_short", "{len} bytes: {code}");
        }
        // hotctl reads the same, and takes as long as a process takes to start: some of them.
        if len % 16 == 0 {
            push_refused(&service, &file, &["--key", text(built.signers.ada.path())?])
                .with_context(|| format!("{len} bytes"))?;
        }
    }
    ensure!(service.status()?.modules.is_empty() && service.hosts()?.is_empty(), "something was let in");
    ensure!(!marker.ran(), "code of a refused file has run");
    service.stop()
}

#[test]
fn a_file_over_the_limit_is_refused() -> Result<()> {
    let (service, built, module, marker) = alone("large")?;
    let file = service.scratch().join("large.so");
    fs::copy(module.build()?, &file)?;
    fs::File::options().append(true).open(&file)?.set_len((256 << 20) + 1)?;
    let said = push_refused(&service, &file, &["--key", text(built.signers.ada.path())?])?;
    ensure!(said.code == "file.too_large", "{said:?}");
    ensure!(!marker.ran(), "code of a refused file has run");
    service.stop()
}

/// A node without modules, and a good module with a marker of its own.
fn alone(name: &str) -> Result<(Service, Built, Module, Marker)> {
    let built = Built::new(Entry::Upload)?;
    let service = Service::start(&built.signers.allowed()?, "")?;
    Ok((service, built, cases::marked("good", &Marker::path(name)), Marker::new(name)?))
}
