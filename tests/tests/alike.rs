//! One node alone and a fleet of one, which keeps everything in etcd: whoever uses them can't tell the difference. The same story
//! is told to both, and what each says of it is compared.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hot_tests::{Fleet, Key, Module, Output, Service, text};
use serde_json::Value;

const QUICK: [&str; 4] = ["--steps", "50%,100%", "--bake", "1s"];
const SLOW: [&str; 5] = ["--steps", "50%,100%", "--bake", "3s", "--detach"];

/// A node, by either way of keeping what is shared.
enum Kept {
    Here { node: Box<Service>, key: PathBuf, _folder: tempfile::TempDir },
    InEtcd(Box<Fleet>),
}

impl Kept {
    fn here() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let key = Key::generate(folder.path().join("ada"))?;
        let node = Box::new(Service::start(&key.signer("ada@example.com")?, "")?);
        Ok(Self::Here { node, key: key.path().to_owned(), _folder: folder })
    }

    fn in_etcd() -> Result<Self> {
        Ok(Self::InEtcd(Box::new(Fleet::start(1)?)))
    }

    fn node(&self) -> &Service {
        match self {
            Self::Here { node, .. } => node,
            Self::InEtcd(fleet) => &fleet.nodes()[0],
        }
    }

    /// `kill -9`, and another start.
    fn restart(&mut self) -> Result<()> {
        let node = match self {
            Self::Here { node, .. } => node,
            Self::InEtcd(fleet) => fleet.node(0),
        };
        node.kill()?;
        node.boot()
    }

    fn push(&self, file: &Path, more: &[&str]) -> Result<Output> {
        let key = match self {
            Self::Here { key, .. } => key.clone(),
            Self::InEtcd(fleet) => fleet.key_file(),
        };
        self.node().hotctl(&[&["push", text(file)?, "--key", text(&key)?], more].concat())
    }
}

/// What was done, and what came of it.
struct Told {
    kept: Kept,
    lines: Vec<String>,
    /// The version that is tried or stable from now on; empty: whichever.
    pushed: String,
}

impl Told {
    fn note(&mut self, what: &str, output: &Output) {
        self.lines.push(format!("{what}: exit code {}", output.code));
    }

    fn push(&mut self, version: &str, more: &[&str]) -> Result<()> {
        let output = self.kept.push(&Module::new("good").version(version).build()?, more)?;
        version.clone_into(&mut self.pushed);
        self.note(&format!("push {version} {more:?}"), &output);
        Ok(())
    }

    fn say(&mut self, command: &[&str]) -> Result<()> {
        let output = self.kept.node().hotctl(command)?;
        self.note(&format!("{command:?}"), &output);
        Ok(())
    }

    /// Waits for the last push, or the rollback after it, to be in a phase, and notes what is so then.
    fn until(&mut self, phase: &str) -> Result<()> {
        // A node of a fleet that has begun anew says how the rollout before ended, until it leads.
        let pushed = self.pushed.clone();
        let module = self.kept.node().wait_module("probe", |module| {
            let is_tried = module.candidate.as_ref().is_some_and(|of| of.version == pushed);
            let is_it = is_tried || module.stable.as_ref().is_some_and(|of| of.version == pushed);
            module.phase == phase && (is_it || pushed.is_empty())
        })?;
        let release = |of: &Option<hot_tests::Release>| {
            of.as_ref().map_or_else(|| "nothing".to_owned(), |of| format!("{} ({})", of.version, of.release))
        };
        let (stable, candidate) = (release(&module.stable), release(&module.candidate));
        self.lines.push(format!("{phase}: {stable} is stable, {candidate} is tried"));
        Ok(())
    }

    fn until_baking_then_restart(&mut self) -> Result<()> {
        self.until("baking")?;
        self.kept.restart()?;
        self.lines.push("killed and started again".to_owned());
        Ok(())
    }
}

fn story(kept: Kept) -> Result<Vec<String>> {
    let mut told = Told { kept, lines: Vec::new(), pushed: String::new() };
    // Nothing is there yet.
    told.say(&["rollback", "probe"])?;
    told.say(&["abort", "probe"])?;
    told.push("1.0.0", &QUICK)?;
    told.until("done")?;
    // The same again, other bytes of the same version, the next.
    told.push("1.0.0", &QUICK)?;
    let other = Module::new("slow").version("1.0.0").build()?;
    let output = told.kept.push(&other, &QUICK)?;
    told.note("other bytes as 1.0.0", &output);
    told.push("1.1.0", &QUICK)?;
    told.until("done")?;
    // A rollout is gone on with, by a person and after a kill.
    told.push("1.2.0", &SLOW)?;
    told.until("baking")?;
    told.say(&["pause", "probe"])?;
    told.until("paused")?;
    told.kept.restart()?;
    told.until("paused")?;
    told.say(&["resume", "probe"])?;
    told.until("done")?;
    told.push("1.3.0", &SLOW)?;
    told.until_baking_then_restart()?;
    told.until("done")?;
    // Toward stable, while something is tried and while nothing is.
    told.push("1.4.0", &SLOW)?;
    told.until("baking")?;
    told.say(&["abort", "probe"])?;
    told.pushed.clear();
    told.until("rolled_back")?;
    told.kept.restart()?;
    told.until("rolled_back")?;
    told.say(&["rollback", "probe"])?;
    told.until("done")?;
    told.say(&["rollback", "probe", "--to", "1"])?;
    told.until("done")?;
    // What failed is not tried again, over a restart, until somebody says so.
    let bad = Module::new("start_fails").version("2.0.0").build()?;
    for more in [&[][..], &[], &["--retry"]] {
        let output = told.kept.push(&bad, &[&QUICK[..], more].concat())?;
        told.note(&format!("push one that does not start {more:?}"), &output);
        told.kept.restart()?;
    }
    told.until("rolled_back")?;
    // Numbers go on, and what is removed stays removed.
    told.push("2.1.0", &QUICK)?;
    told.until("done")?;
    told.say(&["remove", "probe", "--version", "1.1.0"])?;
    told.push("1.1.0", &QUICK)?;
    let history: Value = told.kept.node().hotctl(&["history", "probe", "-o", "json"])?.expect(0)?.json()?;
    for entry in history["entries"].as_array().context("entries")? {
        let release = &entry["release"];
        let of = |name: &str| release[name].to_string();
        told.lines.push(format!(
            "history: {} {} {} {}",
            of("release"),
            of("version"),
            entry["rollback"],
            entry["outcome"]
        ));
    }
    Ok(told.lines)
}

#[test]
fn what_is_kept_here_and_what_is_kept_in_etcd_tell_the_same_story() -> Result<()> {
    let (here, etcd) = std::thread::scope(|scope| {
        let here = scope.spawn(|| story(Kept::here()?));
        let etcd = story(Kept::in_etcd()?);
        let here = here.join().map_err(|_panic| anyhow::anyhow!("the node alone"));
        Ok::<_, anyhow::Error>((here??, etcd?))
    })?;
    assert!(here.iter().any(|line| line.starts_with("history: ")), "{here:#?}");
    for (line, (here_said, etcd_said)) in here.iter().zip(&etcd).enumerate() {
        let before = here[..line].join("\n");
        assert_eq!(here_said, etcd_said, "the node alone, and the fleet of one, after\n{before}");
    }
    assert_eq!(here.len(), etcd.len());
    Ok(())
}
