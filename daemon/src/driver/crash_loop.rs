//! Goes back from a stable release that crash-loops, where the operator allows it: as a rollback to the newest release that
//! served before and can run. In a fleet only a person does so. When is decided by rules alone.

use std::collections::BTreeSet;

use hot_artifact::ModuleName;
use hot_rollout::{Module, ReleaseNumber};
use tokio_util::sync::CancellationToken;

use super::check::way_back;
use super::{Driver, GoBack, Refusal, To};
use crate::agent::CrashLoop;
use crate::clock::of_day;
use crate::cluster::Cluster;
use crate::journal::Entry;
use crate::ledger::Ledger;

/// What becomes of a stable release that crash-loops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCrashLoop {
    /// It is tried again and again, with rests between, until a person does something.
    #[default]
    Keep,
    /// The node goes back to the newest release that served before and can run.
    GoBack,
}

/// A way back that was taken: each is tried once, since its end may be no better.
type Tried = BTreeSet<(Module, ReleaseNumber, ReleaseNumber)>;

impl Driver {
    /// Looks after stable releases that crash-loop until `stopped`.
    pub(crate) async fn watch_crash_loops(self, policy: OnCrashLoop, stopped: CancellationToken) {
        if policy == OnCrashLoop::Keep {
            return;
        }
        let (mut changes, mut tried) = (self.parts.agent.changes(), Tried::new());
        while !stopped.is_cancelled() {
            // One at a time, and looked at anew after each: a way back takes a while, in which others may recover.
            let first = |(module, of): (Module, CrashLoop)| {
                self.to_go_back_to(&module, &of, &tried).map(|to| (module, of, to))
            };
            if let Some((module, of, to)) = self.parts.agent.crash_loops().into_iter().find_map(first) {
                tried.insert((module.clone(), of.release, to));
                self.leave(&module, &of, to).await;
                continue;
            }
            tokio::select! {
                () = stopped.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Where to, if the node is to go back by itself now.
    fn to_go_back_to(&self, module: &Module, of: &CrashLoop, tried: &Tried) -> Option<ReleaseNumber> {
        let name: ModuleName = module.as_str().parse().ok()?;
        let record = self.parts.ledger.module(&name)?;
        let digest = |release: ReleaseNumber| record.releases().get(&release.0).map(|release| release.digest);
        let before = record.served().iter().rev().skip(1).map(|release| ReleaseNumber(*release));
        let ways = before.map(|release| Way {
            release,
            same: digest(release) == digest(of.release),
            tried: tried.contains(&(module.clone(), of.release, release)),
            open: way_back(&self.parts.ledger, &[], &name, &To::Release(release)).is_ok(),
        });
        choose(Ledger::stable(&record) == Some(of.release), self.running(module).is_some(), ways)
    }

    async fn leave(&self, module: &Module, of: &CrashLoop, to: ReleaseNumber) {
        let Ok(name) = module.as_str().parse::<ModuleName>() else { return };
        let CrashLoop { release, failures, reason, .. } = of;
        let why =
            format!("release {release} crash-looped: {failures} times in a row, the last time it {reason}");
        tracing::warn!(%module, %to, "{why}; this node goes back by itself");
        let by = format!("hotd on {}", self.parts.node);
        let gone = if matches!(self.parts.cluster, Cluster::Fleet(_)) {
            Err("in a fleet only a person goes back: what crash-loops on one node may serve well on the others".to_owned())
        } else {
            self.leave_for_all(name, *release, to, by, &why).await.map_err(|refusal| refusal.to_string())
        };
        let (kind, text) = match gone {
            Ok(()) => ("crash_loop.left", format!("{module} went back to release {to}: {why}")),
            Err(kept) => (
                "crash_loop.kept",
                format!("{module} did not go back to release {to}, although {why}: {kept}"),
            ),
        };
        self.parts.journal.write(Entry { kind, module: module.to_string(), text, ..Entry::default() }).await;
    }

    async fn leave_for_all(
        &self,
        module: ModuleName,
        from: ReleaseNumber,
        to: ReleaseNumber,
        by: String,
        why: &str,
    ) -> Result<(), Refusal> {
        let (name, to, message) = (Module(module.to_string()), To::Release(to), why.to_owned());
        self.go_back(GoBack { module, to, by, message, request: String::new(), here: true, was: None })
            .await?;
        // Not before: what is stable can't be quarantined.
        let kept = self.parts.cluster.quarantine(name, from, why.to_owned(), of_day().0).await;
        if let Err(error) = kept {
            tracing::error!(error = %crate::describe(&error), "a digest is not quarantined");
        }
        Ok(())
    }
}

/// A release that served before.
#[derive(Clone, Copy, Debug)]
struct Way {
    release: ReleaseNumber,
    /// It runs the same bytes.
    same: bool,
    /// It was gone to from this one before, without end.
    tried: bool,
    /// It is kept, not quarantined, not below the floor, and its routes are free.
    open: bool,
}

/// The newest way that leads anywhere. None while a rollout of the module runs, as that of a release which mends it, nor
/// where another one is stable by now.
fn choose(is_stable: bool, rollout_runs: bool, ways: impl IntoIterator<Item = Way>) -> Option<ReleaseNumber> {
    let leads = |way: &Way| way.open && !way.same && !way.tried;
    ways.into_iter().filter(|_| is_stable && !rollout_runs).find(leads).map(|way| way.release)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(release: u64) -> Way {
        Way { release: ReleaseNumber(release), same: false, tried: false, open: true }
    }

    #[test]
    fn the_newest_release_that_can_run_other_bytes_is_gone_back_to() {
        let shut = Way { open: false, ..way(5) };
        let same = Way { same: true, ..way(4) };
        let tried = Way { tried: true, ..way(3) };
        let ways = || [shut, same, tried, way(2), way(1)];
        assert_eq!(choose(true, false, ways()), Some(ReleaseNumber(2)));
        assert_eq!(choose(true, true, ways()), None, "a rollout may be what mends it");
        assert_eq!(choose(false, false, ways()), None, "it is not stable any more");
        assert_eq!(choose(true, false, [shut, same, tried]), None);
    }
}
