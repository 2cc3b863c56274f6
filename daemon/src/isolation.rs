//! What this node asks of the way in which instances are held, from its config and its kernel.
//!
//! The supervisor refuses by it, the agent says by it what is missing. Neither holds anything: hot-spawn and hot-host do.

use std::fs;

use hot_rollout::Module;
use hot_wire::isolation::{Confine, Parts};
use hot_wire::spawn::Limits;

use crate::config::{Config, ModuleLimits};
use crate::supervisor::{Isolation, Sandbox, unbounded};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Parts without which nothing of a module runs.
    pub require: Parts,
    /// Parts that are switched off.
    pub leave_out: Parts,
    /// Whether modules may reach some ports only.
    pub ports: bool,
    /// What each module may use.
    pub limits: ModuleLimits,
}

impl Asked {
    /// By the config, on this kernel.
    #[must_use]
    pub fn by(config: &Config) -> Self {
        let sandbox = &config.sandbox;
        let if_there = if has_landlock() { sandbox.require_if_there } else { Parts::NONE };
        Self {
            require: sandbox.require.with(if_there),
            leave_out: sandbox.leave_out,
            ports: config.network.connect.is_some() || config.network.bind.is_some(),
            limits: config.limits.clone(),
        }
    }

    /// How hosts are to be held.
    #[must_use]
    pub fn sandbox(&self, config: &Config) -> Sandbox {
        let confine = Confine {
            leave_out: self.leave_out,
            read: config.sandbox.read.clone(),
            write: config.sandbox.write.clone(),
            connect: config.network.connect.clone(),
            bind: config.network.bind.clone(),
            // The supervisor says of which of them the host is to see that they are there.
            require: Parts::NONE,
        };
        Sandbox { require: self.require, confine }
    }

    /// What an instance of `module` may use.
    #[must_use]
    pub fn limits_of(&self, module: &Module) -> Limits {
        // Every module here has a name; without one it would be the general limits that hold.
        module.0.parse().map_or(self.limits.general, |name| self.limits.of(&name))
    }

    /// What an instance of `module` lacks: of all parts that there are, those that are asked for and not in force.
    #[must_use]
    pub fn missing(&self, module: &Module, isolation: Isolation) -> Parts {
        isolation.missing(self.wanted(module))
    }

    fn wanted(&self, module: &Module) -> Parts {
        let unbounded = unbounded(&self.limits_of(module));
        let all: Parts = Parts::NAMED.iter().map(|(_, part)| *part).collect();
        let unasked = [
            (Parts::NETWORK, !self.ports),
            // Calls that nobody refuses are not counted either.
            (Parts::COUNTED, self.leave_out.has(Parts::SECCOMP)),
        ];
        let unasked: Parts = unasked.into_iter().filter(|(_, is)| *is).map(|(part, _)| part).collect();
        all.without(self.leave_out).without(unasked).with(self.require).without(unbounded)
    }

    /// The parts without which nothing of `module` runs.
    #[must_use]
    pub fn required(&self, module: &Module) -> Parts {
        self.require.without(unbounded(&self.limits_of(module)))
    }
}

/// Whether the kernel says that it has Landlock. One that does not say (`securityfs` is not mounted, as in most containers)
/// may have it: then the host uses it and nobody asks for it.
fn has_landlock() -> bool {
    fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|list| lists_landlock(&list))
}

fn lists_landlock(list: &str) -> bool {
    list.trim_end().split(',').any(|name| name == "landlock")
}

#[cfg(test)]
mod tests {
    use hot_wire::isolation::Held;

    use super::*;

    #[test]
    fn what_is_not_asked_for_is_not_missing() {
        let none = Isolation { held: Held::default(), confined: Some(Parts::NONE) };
        let module = Module("greeter".to_owned());
        let missing = |asked: &Asked| asked.missing(&module, none).names().collect::<Vec<_>>();
        let all: Vec<_> =
            Parts::NAMED.iter().map(|(name, _)| *name).filter(|name| *name != "network").collect();
        assert_eq!(missing(&Asked::default()), all);
        let mut limits = ModuleLimits::default();
        limits.general.memory = Limits::UNLIMITED;
        let some =
            Asked { leave_out: Parts::SECCOMP.with(Parts::SCOPES), ports: true, limits, ..Asked::default() };
        assert_eq!(
            missing(&some),
            ["user", "no-new-privileges", "files", "network", "tasks", "cpu", "folder"]
        );
    }

    #[test]
    fn landlock_is_one_of_a_list() {
        assert!(lists_landlock("lockdown,capability,landlock,yama\n") && lists_landlock("landlock"));
        assert!(!lists_landlock("lockdown,capability") && !lists_landlock(""));
    }
}
