//! What is wrong with this node now and a person has to mend, as `status` and `nodes` show it.

use hot_proto::v1;
use hot_rollout::{Module, Node, ReleaseNumber};
use prost_types::Timestamp;

use super::{Api, convert};
use crate::agent::{CrashLoop, Lacking, RunState, Slot, Unwritten, attack_of};
use crate::cluster::Fleet;
use crate::ledger::LocalRollback;
use crate::store::InDoubt;
use crate::supervisor::{doing_without, quoted};
use crate::tls::TlsFiles;
use crate::trust::Frozen;

/// The stable word of a node without hot-spawn, and of what is refused for that.
pub(super) const SPAWN_LOST: &str = "spawn.lost";

/// The stable word of a node that can't write down what is in effect.
const UNWRITTEN: &str = "store.unwritten";

/// The stable word of a node on which a restart may find what it refused.
const IN_DOUBT: &str = "store.in_doubt";

/// The stable word of a node that can't hold instances as its config requires.
const SANDBOX_MISSING: &str = "sandbox.missing";

/// The stable word of a node that etcd does not answer.
const FLEET_SILENT: &str = "fleet.silent";

/// The stable word of a node on which a person went back alone.
const ROLLED_BACK_ALONE: &str = "rollback.local";

/// The stable word of a node by whose name another hotd is in the fleet.
const NAME_TAKEN: &str = "fleet.name_taken";

/// The stable word of a node that can't do yet what it was told.
const WAITS: &str = "fleet.waits";

/// The stable word of values in etcd that are none of ours.
const FLEET_WRONG: &str = "fleet.wrong";

/// The stable word of a node that is kept out of rollouts.
const CORDONED: &str = "node.cordoned";

const MEND_DISK: &str = "Free some space on the disk of hotd's data folder, or mend it";

/// What to do about it.
pub(super) const SPAWN_ADVICE: &str = "See that hot-spawn runs on this node: hotd looks for it all the time, and starts \
                                       what is to run as soon as it is there.";

impl Api {
    /// All of it.
    pub(super) fn problems(&self) -> Vec<v1::NodeProblem> {
        let frozen = self.trust.frozen().map(|frozen| {
            self.problem(Frozen::CODE, format!("{frozen}. {}", Frozen::ADVICE), Some(frozen.since))
        });
        let absence = self.agent.absence().map(|absence| {
            let text = format!(
                "hot-spawn is lost, and with it every host: no module serves, and nothing can be started: {}. {SPAWN_ADVICE}",
                absence.text
            );
            self.problem(SPAWN_LOST, text, Some(absence.since))
        });
        let mut problems: Vec<v1::NodeProblem> = absence.into_iter().chain(frozen).collect();
        problems.extend(self.unwritten());
        problems.extend(self.in_doubt());
        problems.extend(self.fleet.iter().flat_map(|fleet| self.of_fleet(fleet)));
        problems.extend(self.local_rollbacks());
        problems.extend(self.agent.lacking().map(|lacking| self.sandbox_missing(&lacking)));
        let troubles = self.tls.iter().flat_map(TlsFiles::troubles);
        problems.extend(troubles.map(|trouble| self.problem(trouble.code, trouble.text, trouble.since)));
        problems.extend(self.unsigned_stables());
        problems.extend(self.crash_loops());
        problems.extend(self.attacks());
        problems
    }

    /// What a rollout that runs waits for: hot-spawn before all else.
    pub(super) fn waiting_on(&self, otherwise: String) -> String {
        if self.agent.absence().is_none() {
            return otherwise;
        }
        let first = "waiting for hot-spawn, which is lost, and every host with it";
        if otherwise.is_empty() { first.to_owned() } else { format!("{first}; {otherwise}") }
    }

    /// What keeps this node from its fleet.
    fn of_fleet(&self, fleet: &Fleet) -> Vec<v1::NodeProblem> {
        let silent = fleet.standing().borrow().stale.clone().map(|(since, why)| {
            let text = format!(
                "this node does not hear its fleet, and goes on with what it was told last: {why}. A candidate ends with its \
                 expiry. See that etcd runs and can be reached from here"
            );
            self.problem(FLEET_SILENT, text, Some(since))
        });
        let state = fleet.state();
        let wrong = state.wrong.values().next().map(|first| {
            let text = format!(
                "{} values in etcd are not what their keys say, and are left out, e.g.: {first}. See who writes there",
                state.wrong.len()
            );
            self.problem(FLEET_WRONG, text, None::<Timestamp>)
        });
        let standing = fleet.standing().borrow().clone();
        let taken = standing.taken.map(|since| {
            let text = format!(
                "another hotd is in the fleet by the name of this node, {}, and the fleet counts that one alone. Give one of the \
                 two another `node` in its config, and restart it",
                fleet.node()
            );
            self.problem(NAME_TAKEN, text, Some(since))
        });
        let waits = standing.waits.iter().map(|(module, why)| {
            let text =
                format!("what this node was told of {module} can't be done yet, and is tried again: {why}");
            self.problem(WAITS, text, None::<Timestamp>)
        });
        let cordoned = self.cordoned(fleet.node());
        silent.into_iter().chain(wrong).chain(taken).chain(waits).chain(cordoned).collect()
    }

    /// That a node is kept out of rollouts, by whom and why.
    pub(super) fn cordoned(&self, node: &Node) -> Option<v1::NodeProblem> {
        let cordon = self.fleet.as_ref()?.state().cordons.get(node)?.clone();
        let how = if cordon.drain { "drained" } else { "cordoned" };
        let because = if cordon.reason.is_empty() { String::new() } else { format!(": {}", cordon.reason) };
        let text =
            format!("{how} by {}{because}. Rollouts leave it out until `hotctl uncordon {node}`", cordon.by);
        let since = convert::time(hot_rollout::Time(cordon.at));
        Some(v1::NodeProblem { node: node.to_string(), code: CORDONED.to_owned(), text, since })
    }

    /// Where a person went back on this node alone.
    fn local_rollbacks(&self) -> impl Iterator<Item = v1::NodeProblem> {
        let here = Node(self.about.node.clone());
        self.agent
            .local_rollbacks()
            .into_iter()
            .map(move |(module, local)| self.rolled_back_alone(&here, &module, &local))
    }

    /// That a person went back on a node alone.
    pub(super) fn rolled_back_alone(
        &self,
        node: &Node,
        module: &Module,
        local: &LocalRollback,
    ) -> v1::NodeProblem {
        let LocalRollback { from, to, by, message, .. } = local;
        let why = if message.is_empty() { String::new() } else { format!(" ({message})") };
        let text = format!(
            "{by} took {module} back from release {from} to {to} on {node} alone, while its fleet could not be told{why}. That \
             stands until the fleet goes the same way; `hotctl rollback {module} --lift` has {node} follow its fleet again"
        );
        let since = Some(convert::timestamp(local.at));
        v1::NodeProblem { node: node.to_string(), code: ROLLED_BACK_ALONE.to_owned(), text, since }
    }

    /// What is in effect and could not be written down.
    fn unwritten(&self) -> Vec<v1::NodeProblem> {
        let unwritten = |(module, slot): (&Module, &Slot)| Some((module.clone(), slot.unwritten.clone()?));
        let found: Vec<(Module, Unwritten)> =
            self.agent.slots(|slots| slots.iter().filter_map(unwritten).collect());
        let problem = |(module, Unwritten { since, why }): (Module, Unwritten)| {
            let text = format!(
                "what this node runs of {module} has changed, and that can't be written down: {why}. It is in effect and \
                 tried again all the time; a restart of hotd before it is written brings back what was before, as a \
                 candidate that was taken back. {MEND_DISK}"
            );
            self.problem(UNWRITTEN, text, Some(since))
        };
        let held = self.driver.held().into_iter().map(|(id, held)| {
            let text = format!(
                "rollout {id} holds: what it wants can't be written down: {}. It is tried again each second, and goes on \
                 when it is written. {MEND_DISK}",
                held.why
            );
            self.problem(UNWRITTEN, text, convert::time(held.since))
        });
        found.into_iter().map(problem).chain(held).collect()
    }

    /// What was refused and may be on the disk all the same.
    fn in_doubt(&self) -> impl Iterator<Item = v1::NodeProblem> {
        self.ledger.store().in_doubt().into_iter().map(|InDoubt { file, since, why }| {
            let text = format!(
                "a write of {file} was refused and may be on the disk all the same, so that a restart of hotd would find it: \
                 {why}. It is over as soon as that file can be written. {MEND_DISK}"
            );
            self.problem(IN_DOUBT, text, Some(since))
        })
    }

    /// Instances without what `[sandbox] require` names.
    fn sandbox_missing(&self, lacking: &Lacking) -> v1::NodeProblem {
        let what = if lacking.serves {
            "an instance that ran before this hotd serves without it, and none would be started so"
        } else {
            "nothing is started"
        };
        let text = format!(
            "[sandbox] require asks for what instances here do not have: {}; {what}. `hotctl status MODULE` has the reason; mend \
             that, or {} and restart hotd",
            quoted(lacking.parts),
            doing_without(lacking.parts)
        );
        self.problem(SANDBOX_MISSING, text, Some(lacking.since))
    }

    /// Stable releases that are refused when they have to start: their signers count no more.
    fn unsigned_stables(&self) -> Vec<v1::NodeProblem> {
        let trust = self.trust.latest();
        let stables: Vec<(Module, ReleaseNumber, bool)> = self.agent.slots(|slots| {
            let stable = |(module, slot): (&Module, &Slot)| {
                Some((module.clone(), slot.orders.stable()?, slot.is_ready()))
            };
            slots.iter().filter_map(stable).collect()
        });
        let problem = |(module, release, serves): (Module, ReleaseNumber, bool)| {
            let error = self.ledger.still_signed(&module, release, &trust).err()?;
            let text = if serves {
                format!(
                    "release {release} of {module} serves, and a start of it would be refused: {error}. Push a release by a \
                     key that counts, before this one has to start"
                )
            } else {
                format!(
                    "release {release} of {module} does not serve, and is refused each time that it is tried: {error}. Push a \
                     release by a key that counts"
                )
            };
            Some(self.problem("trust.stable", text, None::<Timestamp>))
        };
        stables.into_iter().filter_map(problem).collect()
    }

    /// Stable releases that fail each time that they are started.
    fn crash_loops(&self) -> impl Iterator<Item = v1::NodeProblem> {
        self.agent.crash_loops().into_iter().map(|(module, CrashLoop { release, failures, since, reason })| {
            let text = format!(
                "stable release {release} of {module} crash-loops: it failed {failures} times in a row, the last time it \
                 {reason}. It is started again all the time, at least every 30 s; `hotctl rollback {module}` goes back to \
                 what served before"
            );
            self.problem("module.crash_loop", text, Some(since))
        })
    }

    /// Instances that serve and made system calls that no server makes.
    fn attacks(&self) -> Vec<v1::NodeProblem> {
        let of_slot = |(module, slot): (&Module, &Slot)| {
            let serves = slot.runs.iter().filter(|run| run.state == RunState::Ready);
            let made =
                serves.filter_map(|run| Some((run.release, attack_of(&run.denied.sums)?, run.started)));
            let texts: Vec<_> = made
                .map(|(release, cause, since)| {
                    let text = format!(
                        "release {release} of {module} serves, and {cause}. Find out what in it does so: a module that was \
                         broken into looks like this. `hotctl rollback {module}` goes back to what served before"
                    );
                    (text, since)
                })
                .collect();
            texts
        };
        let found: Vec<(String, std::time::SystemTime)> =
            self.agent.slots(|slots| slots.iter().flat_map(of_slot).collect());
        found.into_iter().map(|(text, since)| self.problem("module.denied", text, Some(since))).collect()
    }

    fn problem(&self, code: &str, text: String, since: Option<impl Into<Timestamp>>) -> v1::NodeProblem {
        let node = self.about.node.clone();
        v1::NodeProblem { node, code: code.to_owned(), text, since: since.map(Into::into) }
    }
}
