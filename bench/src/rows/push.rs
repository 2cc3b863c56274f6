//! A push of a large file, to the first request that it serves, beside what cannot be saved: to copy, hash and sync the
//! same file, and to start a process that loads it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hot_tests::Module;
use sha2::{Digest, Sha256};

use super::Effort;
use crate::cpu::{self, Side};
use crate::report::{Bar, Figure, Plot, Section, Shape};
use crate::server::Hot;
use crate::stats::Spread;

/// MiB of the file.
const MIB: u64 = 10;

/// Longest wait for the first response of a release that was pushed.
const SERVES: Duration = Duration::from_secs(10);

/// Between two requests while it waits for that.
const LOOK: Duration = Duration::from_millis(1);

pub(super) fn measure(folder: &Path, effort: Effort) -> Result<Section> {
    let loader = loader(folder)?;
    let hot = Hot::start("")?;
    let mut pairs = Vec::new();
    for number in 0..effort.repeats.min(20) {
        let file = large(number)?;
        let least = least(&file, &folder.join("copy.so"), &loader)?;
        // Who pushes is the load, as everywhere: it has the other core.
        cpu::pin(Side::Load)?;
        let pushed = push(&hot, &file, &format!("/large{number}"));
        cpu::pin(Side::Server)?;
        pairs.push((pushed?, least));
    }
    let millis = |time: &Duration| time.as_secs_f64() * 1e3;
    let ratio = Spread::of(pairs.iter().map(|(push, least)| push.as_secs_f64() / least.as_secs_f64()));
    let push = Spread::of(pairs.iter().map(|(push, _)| millis(push)));
    let least = Spread::of(pairs.iter().map(|(_, least)| millis(least)));
    Ok(Section {
        title: "A push",
        text: format!(
            "`hotctl push` of a signed file of {MIB} MiB, each time of another module, from the start of hotctl to the first request \
             served; beside it copy, sha256, fsync, exec and dlopen of the same file. hotctl is on the core of the load, all else on \
             that of the servers."
        ),
        figures: vec![
            Figure::new(
                format!("push of {MIB} MiB, to the first request served, over what cannot be saved"),
                ratio.text(2),
            )
            .at_most(2.0, "", ratio.median)
            .goal(1.3),
            Figure::new("the push alone", format!("{} ms", push.text(0))),
            Figure::new("copy, sha256, fsync, exec and dlopen", format!("{} ms", least.text(0))),
        ],
        tables: Vec::new(),
        plots: vec![Plot {
            name: "push",
            title: format!("A push of {MIB} MiB and what of it cannot be saved, ms"),
            shape: Shape::Bars(vec![
                Bar { label: "the push".to_owned(), spread: push, ours: true },
                Bar { label: "what cannot be saved".to_owned(), spread: least, ours: false },
            ]),
        }],
    })
}

/// A module with so many MiB of what can't be compressed.
fn large(number: usize) -> Result<PathBuf> {
    let module = Module::new("large").name(&format!("large{number}")).number("MIB", MIB).build()?;
    ensure!(
        module.metadata().context("a module")?.len() >= MIB << 20,
        "the module is smaller than {MIB} MiB"
    );
    Ok(module)
}

/// From the start of hotctl to the first response of status 200.
fn push(hot: &Hot, file: &Path, path: &str) -> Result<Duration> {
    let began = Instant::now();
    hot.push_file(file, &["--detach"])?.expect(0)?;
    serves(hot.http(), path)?;
    Ok(began.elapsed())
}

/// What any way to deploy a file has to do.
fn least(file: &Path, copy: &Path, loader: &Path) -> Result<Duration> {
    let began = Instant::now();
    let mut hasher = Sha256::new();
    let mut from = File::open(file).context("the file")?;
    let mut to = File::create(copy).context("its copy")?;
    let mut piece = vec![0; 256 << 10];
    loop {
        let len = from.read(&mut piece).context("the file")?;
        if len == 0 {
            break;
        }
        hasher.update(&piece[..len]);
        to.write_all(&piece[..len]).context("its copy")?;
    }
    ensure!(hasher.finalize().len() == 32, "a digest");
    to.sync_all().context("its copy")?;
    let loaded = Command::new(loader).arg(copy).status().context("the loader")?;
    let took = began.elapsed();
    ensure!(loaded.success(), "the loader could not load the file");
    Ok(took)
}

/// A program that loads a file.
fn loader(folder: &Path) -> Result<PathBuf> {
    let (source, program) = (folder.join("loader.c"), folder.join("loader"));
    let text = "#include <dlfcn.h>\nint main(int n, char **a) { return n == 2 && dlopen(a[1], RTLD_NOW | RTLD_LOCAL) ? 0 : 1; }\n";
    std::fs::write(&source, text).context("the source of the loader")?;
    let built = Command::new("cc").arg("-O2").arg(&source).arg("-o").arg(&program).arg("-ldl").status();
    ensure!(built.context("cc")?.success(), "the loader does not compile");
    Ok(program)
}

/// Asks until the first response of status 200 has come.
fn serves(address: SocketAddr, path: &str) -> Result<()> {
    let end = Instant::now() + SERVES;
    let mut last = None;
    while Instant::now() < end {
        let reply = hot_tests::get(address, path)?;
        if reply.status() == 200 {
            return Ok(());
        }
        last = Some(reply);
        std::thread::sleep(LOOK);
    }
    anyhow::bail!("{path} is not served after {SERVES:?}: {last:?}")
}
