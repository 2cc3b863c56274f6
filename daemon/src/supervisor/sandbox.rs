//! How every instance of this node is to be held, and whether one is: rules alone.

use hot_wire::isolation::{Confine, Held, Parts};
use hot_wire::spawn::Limits;

/// What `hot-spawn` alone can see to: known before a host is told what to start.
const BY_SPAWN: Parts =
    Parts::USER.with(Parts::MEMORY).with(Parts::TASKS).with(Parts::CPU).with(Parts::FOLDER);

/// What this node asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Parts without which nothing of a module runs.
    pub require: Parts,
    /// What each host takes from itself.
    pub confine: Confine,
}

/// How an instance is held, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Isolation {
    /// What `hot-spawn` says.
    pub held: Held,
    /// The parts that its host says to have put in force; `None`: it has not come so far.
    pub confined: Option<Parts>,
}

impl Isolation {
    /// The parts that are in force.
    #[must_use]
    pub fn parts(self) -> Parts {
        self.held.parts.with(self.confined.unwrap_or_default())
    }

    /// What is missing of `wanted`: of what the host sees to nothing is, as long as it has not said what it has.
    #[must_use]
    pub fn missing(self, wanted: Parts) -> Parts {
        let missing = wanted.without(self.parts());
        if self.confined.is_some() { missing } else { of(missing, BY_SPAWN) }
    }
}

impl Sandbox {
    /// As a host is told that is held like this.
    pub(super) fn confine(&self, held: Held) -> Confine {
        let require = self.require.without(BY_SPAWN).without(held.parts);
        Confine { require, ..self.confine.clone() }
    }

    /// Why nothing of a module that may use this much may run in a host that is held like this.
    pub(super) fn refusal(&self, isolation: Isolation, limits: &Limits) -> Option<String> {
        let missing = isolation.missing(self.require.without(unbounded(limits)));
        (!missing.is_empty()).then(|| refusal(missing))
    }
}

/// The parts for which there is nothing to do within these limits.
pub(crate) fn unbounded(limits: &Limits) -> Parts {
    let unlimited = |limit: u64| limit == Limits::UNLIMITED;
    let parts = [
        (Parts::MEMORY, unlimited(limits.memory)),
        (Parts::TASKS, unlimited(limits.tasks)),
        (Parts::FOLDER, unlimited(limits.folder) || limits.folder == 0),
    ];
    parts.into_iter().filter(|(_, is)| *is).map(|(part, _)| part).collect()
}

/// The sentences of a refusal.
fn refusal(missing: Parts) -> String {
    let (names, are) = (quoted(missing), if missing.names().count() == 1 { "is" } else { "are" });
    let why: Vec<&str> = REASONS.iter().filter(|(part, _)| missing.has(*part)).map(|(_, why)| *why).collect();
    format!(
        "this node can't hold an instance as [sandbox] require asks: {names} {are} missing ({}). Nothing of the module ran. \
         Mend that, or {} in hotd's config and restart hotd",
        why.join("; "),
        doing_without(missing)
    )
}

/// What to do in the config so that these are not required. Ports require `network`, whether it is listed or not.
pub(crate) fn doing_without(parts: Parts) -> String {
    let listed = parts.without(Parts::NETWORK);
    let ports = parts.has(Parts::NETWORK).then(|| "take [network] away".to_owned());
    let listed = (!listed.is_empty()).then(|| format!("take {} out of `require`", quoted(listed)));
    listed.into_iter().chain(ports).collect::<Vec<_>>().join(" and ")
}

/// What each part needs.
const REASONS: [(Parts, &str); 11] = [
    (Parts::USER, "hot-spawn gives users only where it runs as root and has some to give"),
    (Parts::NO_NEW_PRIVILEGES, "neither hot-spawn nor hot-host set it: is one of them of another version?"),
    (Parts::SECCOMP, "the kernel has no seccomp filters, or hot-host is of another version"),
    (Parts::COUNTED, "counting refused system calls needs seccomp's notifications"),
    (Parts::FILES, "rules for files need Landlock: Linux 5.13, and `landlock` among the kernel's `lsm=`"),
    (Parts::NETWORK, "rules for ports need Landlock's ABI 4: Linux 6.7"),
    (Parts::SCOPES, "scopes need Landlock's ABI 6: Linux 6.12"),
    (Parts::MEMORY, "hot-spawn bounds no memory, or is of another version"),
    (Parts::TASKS, "hot-spawn bounds no processes, or is of another version"),
    (Parts::CPU, "shares of the processors need a cgroup that hot-spawn was given"),
    (Parts::FOLDER, "hot-spawn makes no folder of a bounded size, or is of another version"),
];

/// The names of parts, for a sentence.
pub(crate) fn quoted(parts: Parts) -> String {
    parts.names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Those that are in both.
const fn of(parts: Parts, others: Parts) -> Parts {
    parts.without(parts.without(others))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(parts: Parts) -> Isolation {
        Isolation { held: Held { user: None, parts }, confined: None }
    }

    #[test]
    fn what_the_host_sees_to_is_missing_only_once_it_has_spoken() {
        let sandbox = Sandbox { require: Parts::USER.with(Parts::SECCOMP), ..Sandbox::default() };
        let bare = held(Parts::NONE);
        assert_eq!(bare.missing(sandbox.require), Parts::USER);
        let begun = held(Parts::USER);
        assert_eq!(sandbox.refusal(begun, &Limits::default()), None, "its host is asked");
        assert_eq!(sandbox.confine(begun.held).require, Parts::SECCOMP, "and refuses by itself");
        let silent = Isolation { confined: Some(Parts::FILES), ..begun };
        assert_eq!(silent.missing(sandbox.require), Parts::SECCOMP);
        let whole = Isolation { confined: Some(Parts::SECCOMP), ..begun };
        assert_eq!((sandbox.refusal(whole, &Limits::default()), whole.parts()), (None, sandbox.require));
    }

    #[test]
    fn no_new_privileges_is_in_force_whoever_set_it() {
        let sandbox = Sandbox { require: Parts::NO_NEW_PRIVILEGES, ..Sandbox::default() };
        assert_eq!(sandbox.confine(Held::default()).require, Parts::NO_NEW_PRIVILEGES);
        let by_spawn = held(Parts::NO_NEW_PRIVILEGES);
        assert_eq!(sandbox.confine(by_spawn.held).require, Parts::NONE);
        assert_eq!(
            sandbox.refusal(Isolation { confined: Some(Parts::NONE), ..by_spawn }, &Limits::default()),
            None
        );
        let nobody = held(Parts::NONE);
        assert_eq!(sandbox.refusal(nobody, &Limits::default()), None, "the host still can");
        assert!(
            sandbox
                .refusal(Isolation { confined: Some(Parts::NONE), ..nobody }, &Limits::default())
                .is_some()
        );
    }

    #[test]
    fn what_has_no_limit_needs_no_bound() {
        let sandbox = Sandbox { require: Parts::MEMORY.with(Parts::FOLDER), ..Sandbox::default() };
        let bare = held(Parts::NONE);
        assert_eq!(sandbox.refusal(bare, &Limits::default()), None);
        let limited = Limits { memory: 1, folder: 1, ..Limits::default() };
        assert!(sandbox.refusal(bare, &limited).is_some());
        assert_eq!(sandbox.refusal(held(sandbox.require), &limited), None);
        assert_eq!(unbounded(&Limits { folder: 0, ..limited }), Parts::FOLDER.with(Parts::TASKS));
    }

    #[test]
    fn a_refusal_names_each_part_with_what_it_needs() {
        let text = refusal(Parts::USER.with(Parts::FILES));
        assert!(text.contains("`user`, `files` are missing (hot-spawn gives users only"), "{text}");
        assert!(text.contains("; rules for files need Landlock"), "{text}");
        for (name, part) in Parts::NAMED {
            assert!(refusal(part).contains(&format!("`{name}` is missing (")), "{name}");
            assert!(REASONS.iter().any(|(known, _)| *known == part), "{name} has no reason");
        }
    }

    #[test]
    fn a_refusal_says_what_to_change() {
        let ends = |parts, how: &str| {
            let text = refusal(parts);
            assert!(
                text.ends_with(&format!("Mend that, or {how} in hotd's config and restart hotd")),
                "{text}"
            );
        };
        ends(Parts::USER.with(Parts::FILES), "take `user`, `files` out of `require`");
        ends(Parts::NETWORK, "take [network] away");
        ends(Parts::USER.with(Parts::NETWORK), "take `user` out of `require` and take [network] away");
    }
}
