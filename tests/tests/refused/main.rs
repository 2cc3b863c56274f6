//! What is refused before any code runs, through the real programs: at the push, at the node's own door, and wherever a
//! stored artifact is loaded again. Every module here has a constructor that makes a file, which must never be there.

mod cases;
mod later;
mod page;
mod patch;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hot_tests::{Key, Module, Node, upload_refused};
use serde::Deserialize;

/// A node with a good neighbour, and the file that proves that refused code has run.
struct Bench {
    node: Node,
    marker: PathBuf,
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

impl Bench {
    /// `name` keeps the markers of tests that run at the same time apart.
    fn start(name: &str) -> Result<Self> {
        let node = Node::start()?;
        node.push(&Module::new("good").name("neighbour").build()?, &[])?.expect(0)?;
        let bench = Self { node, marker: marker(name)? };
        // The marker is one: a module that is let in makes it.
        bench.node.push(&bench.module("good").version("0.9.0").build()?, &[])?.expect(0)?;
        fs::remove_file(&bench.marker).context("the constructor of a good module makes its file")?;
        Ok(bench)
    }

    /// A module that makes the marker when any code of it runs.
    fn module(&self, source: &'static str) -> Module {
        marked(source, &self.marker)
    }

    /// Pushes a file and gives code and sentence of the refusal, after it was seen that nothing else has happened.
    fn push_refused(&self, file: &Path) -> Result<(String, String)> {
        let output = self.node.push(file, &["-o", "json"])?.expect(4)?;
        let failure: Failure =
            serde_json::from_str(output.stderr.trim_end()).with_context(|| output.stderr.clone())?;
        ensure!(failure.exit_code == 4 && !failure.error.message.contains('\n'), "{failure:?}");
        self.unharmed()?;
        // The sentence begins with the file as it was named, where hotctl itself has looked.
        let name = format!("{}: ", file.display());
        let sentence = failure.error.message.strip_prefix(&name).unwrap_or(&failure.error.message).to_owned();
        Ok((failure.error.code, sentence))
    }

    /// Offers a file to the node itself, signed with its own key, and gives code of the refusal.
    fn upload_refused(&self, file: &Path) -> Result<String> {
        let signature = self.node.scratch().join("upload.sig");
        self.node.key().sign("hot-module", file, &signature)?;
        let detail = upload_refused(&self.node, file, &signature)?;
        self.unharmed()?;
        for part in [&detail.field, &detail.found, &detail.expected, &detail.advice] {
            ensure!(!part.is_empty() && !part.contains('\n'), "{detail:?}");
        }
        Ok(detail.code)
    }

    /// No refused code has run, the daemon is the same, and the neighbour answers.
    fn unharmed(&self) -> Result<()> {
        ensure!(!self.marker.exists(), "code of a refused file has run");
        ensure!(self.node.daemon()?.alive(), "hotd is gone");
        answers(&self.node, "neighbour", "1.0.0")
    }

    fn stop(self) -> Result<()> {
        self.unharmed()?;
        self.node.stop()
    }
}

/// Where the modules of one test make their file. Always the same, so that they need not be built anew in each run.
fn marker(name: &str) -> Result<PathBuf> {
    let folder = Module::folder()?;
    let marker = folder.join(format!("constructed-{name}"));
    match fs::remove_file(&marker) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("an old marker"),
        _ => Ok(marker),
    }
}

fn marked(source: &'static str, marker: &Path) -> Module {
    Module::new(source).text("CONSTRUCTED", &marker.to_string_lossy())
}

/// The module answers with this version.
fn answers(node: &Node, module: &str, version: &str) -> Result<()> {
    let reply = hot_tests::get(node.http(), &format!("/{module}"))?;
    let body = String::from_utf8_lossy(reply.body()).into_owned();
    ensure!(reply.status() == 200 && body == format!("{module} {version}\n"), "{} {body:?}", reply.status());
    Ok(())
}

/// A file of the node's own with these bytes.
fn file(node: &Node, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = node.scratch().join(name);
    fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    Ok(path)
}

#[test]
fn every_case_is_refused_at_the_push_and_at_the_nodes_own_door() -> Result<()> {
    let bench = Bench::start("push")?;
    let mut rows = Vec::new();
    for (index, case) in cases::all(&bench.marker)?.into_iter().enumerate() {
        let path = file(&bench.node, &format!("case-{index}.so"), &case.bytes)?;
        let (code, sentence) = bench.push_refused(&path).with_context(|| case.name.to_owned())?;
        let by_node = bench.upload_refused(&path).with_context(|| case.name.to_owned())?;
        ensure!(code == case.code, "{}: {code} instead of {}: {sentence}", case.name, case.code);
        ensure!(by_node == case.code, "{}: the node says {by_node} instead of {}", case.name, case.code);
        rows.push(page::Row { case: case.name, code, sentence });
    }
    bench.stop()?;
    page::check(&rows)
}

#[test]
fn a_file_cut_short_at_any_byte_of_its_headers_is_refused() -> Result<()> {
    let bench = Bench::start("cut")?;
    let bytes = fs::read(bench.module("good").build()?)?;
    let headers = patch::headers(&bytes)?;
    for len in 0..headers {
        let path = file(&bench.node, "cut.so", &bytes[..len])?;
        let code = bench.upload_refused(&path);
        // No bytes at all are no upload.
        if len > 0 {
            let code = code.with_context(|| format!("{len} bytes"))?;
            ensure!(code == "elf.not_elf" || code == "elf.cut_short", "{len} bytes: {code}");
        }
        // hotctl reads the same, and takes as long as a process takes to start: some of them.
        if len % 16 == 0 {
            bench.push_refused(&path).with_context(|| format!("{len} bytes"))?;
        }
    }
    bench.stop()
}

#[test]
fn a_file_over_the_limit_is_refused() -> Result<()> {
    let bench = Bench::start("large")?;
    let mut bytes = fs::read(bench.module("good").build()?)?;
    bytes.resize(256 << 20, 0);
    bytes.push(0);
    let path = file(&bench.node, "large.so", &bytes)?;
    let (code, sentence) = bench.push_refused(&path)?;
    ensure!(code == "file.too_large", "{code}: {sentence}");
    bench.stop()
}

#[test]
fn a_signer_who_is_no_more_is_refused_whatever_the_file_is() -> Result<()> {
    let bench = Bench::start("signer")?;
    let path = bench.module("good").version("1.1.0").build()?;
    let foreign = Key::generate(bench.node.scratch().join("foreign"))?;
    let signers = format!("someone namespaces=\"hot-module\" {}\n", foreign.public()?);
    fs::write(bench.node.data_dir().join("allowed_signers"), signers)?;
    let output = bench.node.push(&path, &["--key", &bench.node.key().path().to_string_lossy()])?.expect(4)?;
    ensure!(output.sentence()?.contains("key"), "{}", output.stderr);
    bench.stop()
}
