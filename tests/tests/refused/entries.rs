//! Where what was let in is loaded again: at a boot, for a rollback, and when a rollout goes on. What is in the store was
//! forged while the node was down: by somebody who has the disk and Ada's key, so that all checksums and all but the one
//! thing that is wrong are good.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use hot_tests::{Module, ModuleStatus, Stencil};

use crate::lines::{Entry, Line, Outcome, PATTERN, VERSION};
use crate::{Bench, page};

/// The module that the store's records are copied from.
fn pattern(version: &str) -> Module {
    Module::new("good").name(PATTERN).version(version)
}

impl Bench {
    /// Turns the node off and gives every line a module that is where the pattern is: what it has as [`VERSION`] is the
    /// line's, and the other version is good.
    fn forge(&mut self, good: Option<&str>, change: impl Fn(Stencil) -> Result<Stencil>) -> Result<()> {
        self.service.power_off()?;
        let stencil = change(Stencil::of(&self.service.data_dir(), PATTERN)?)?;
        for line in &self.lines {
            let mut artifacts = BTreeMap::from([(VERSION, line.artifact(&self.built)?)]);
            if let Some(version) = good {
                artifacts.insert(version, line.good(&self.built, version)?);
            }
            stencil.copy(&line.module(), &artifacts).context(line.name)?;
        }
        self.service.power_on()
    }

    /// Checks what every line comes to at this entry.
    fn each(&self, check: impl Fn(&Line, &str, Outcome) -> Result<()>) -> Result<()> {
        for line in &self.lines {
            check(line, &line.module(), line.outcome(self.entry)).context(line.name)?;
        }
        Ok(())
    }
}

/// What the node said when it refused to start an instance of [`VERSION`].
fn refused(module: &ModuleStatus) -> Option<&str> {
    let mut refused = module.instances().filter(|it| it.version == VERSION && it.state == "ended");
    refused.find_map(|it| it.reason.contains("was refused").then_some(&*it.reason))
}

fn serves(module: &ModuleStatus, version: &str) -> bool {
    module.instances().any(|it| it.version == version && it.state == "ready")
}

#[test]
fn at_a_boot_nothing_is_loaded_that_would_not_be_let_in() -> Result<()> {
    let mut bench = Bench::start(Entry::Boot)?;
    bench.push(&pattern(VERSION), &[])?.expect(0)?;
    bench.forge(None, Ok)?;
    bench.each(|line, module, outcome| {
        let decided = |of: &ModuleStatus| serves(of, VERSION) || refused(of).is_some();
        let status = bench.service.wait_module(module, decided)?;
        if outcome == Outcome::CountsOn {
            return bench.answers(module, VERSION);
        }
        let said = refused(&status).context("it was loaded")?;
        page::agrees(line, &bench.words(line, said))
    })?;
    bench.answers(PATTERN, VERSION)?;
    bench.unharmed()?;
    let counting = bench.lines.iter().filter(|line| line.outcome(Entry::Boot) == Outcome::CountsOn).count();
    let hosts = bench.service.hosts()?.len();
    ensure!(hosts == 2 + counting, "{hosts} hosts run");
    bench.stop()
}

#[test]
fn a_rollback_goes_to_nothing_that_would_not_be_let_in() -> Result<()> {
    let mut bench = Bench::start(Entry::Rollback)?;
    bench.push(&pattern(VERSION), &[])?.expect(0)?;
    bench.push(&pattern("1.1.0"), &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    bench.forge(Some("1.1.0"), Stencil::without_standby)?;
    bench.each(|line, module, outcome| {
        bench.service.wait_module(module, |of| serves(of, "1.1.0"))?;
        let output = bench.service.hotctl(&["rollback", module])?;
        if outcome == Outcome::CountsOn {
            output.expect(0)?;
            return bench.answers(module, VERSION);
        }
        page::agrees(line, &bench.words(line, output.expect(1)?.sentence()?))?;
        ensure!(
            bench.service.module(module)?.stable_version() == "1.1.0",
            "what can't be loaded is not stable"
        );
        bench.answers(module, "1.1.0")
    })?;
    bench.stop()
}

#[test]
fn a_canary_that_would_not_be_let_in_is_not_promoted() -> Result<()> {
    let mut bench = Bench::start(Entry::Promote)?;
    bench.push(&pattern("0.9.0"), &[])?.expect(0)?;
    let canary = ["--canary", "10%", "--bake", "10m", "--detach"];
    bench.push(&pattern(VERSION), &canary)?.expect(0)?;
    bench.service.wait_module(PATTERN, |module| module.phase == "baking")?;
    bench.forge(Some("0.9.0"), Ok)?;
    bench.each(|line, module, outcome| {
        if outcome == Outcome::CountsOn {
            bench.service.wait_module(module, |of| serves(of, VERSION))?;
            bench.service.hotctl(&["promote", module])?.expect(0)?;
            return bench.answers(module, VERSION);
        }
        let back = |of: &ModuleStatus| of.phase == "rolled_back" && serves(of, "0.9.0");
        let status = bench.service.wait_module(module, back)?;
        page::agrees(line, &bench.words(line, &status.reason))?;
        bench.service.hotctl(&["promote", module])?.expect(1)?.sentence()?;
        bench.answers(module, "0.9.0")
    })?;
    bench.stop()
}
