//! What an instance has to itself, from before its start until nothing of it is left: a user, and a folder.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hot_wire::isolation::{Held, Parts};
use hot_wire::spawn::Limits;

use crate::claims::Locks;
use crate::folders::{Folder, Folders};
use crate::options::{Options, Wanted};
use crate::users::{Identity, Numbers, Users, third_fields};
use crate::{leavings, log, privileged};

/// Time between two looks at processes that were killed and have not ended.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// After this long it is told that processes don't end. They hang in the kernel, and their user stays taken.
const TELL_AFTER: Duration = Duration::from_secs(5);

/// What one instance has to itself.
#[derive(Debug)]
pub(crate) struct Home {
    /// `None`: it has ours.
    pub(crate) identity: Option<Identity>,
    /// `None`: it is to have no place to write in.
    pub(crate) folder: Option<Folder>,
}

impl Home {
    /// What `hotd` is told of it. No program gains rights in any case: `sys` sees to that.
    pub(crate) fn held(&self) -> Held {
        let part = |part, held| if held { part } else { Parts::NONE };
        let parts = Parts::NO_NEW_PRIVILEGES
            .with(part(Parts::USER, self.identity.is_some()))
            .with(part(Parts::FOLDER, self.folder.as_ref().is_some_and(|folder| folder.bounded)));
        Held { user: self.identity.map(|identity| identity.user), parts }
    }
}

/// The homes of all instances.
#[derive(Debug)]
pub(crate) struct Homes {
    folders: Folders,
    users: Option<Pool>,
    /// Those whose host has ended.
    left: Vec<Left>,
}

/// Users that instances get.
#[derive(Debug)]
struct Pool {
    users: Users<Locks>,
    /// As whom others are ended; no process has it.
    spare: u32,
    /// Those of which nothing is left from before this process.
    cleared: BTreeSet<u32>,
}

/// A home whose host has ended.
#[derive(Debug)]
struct Left {
    home: Home,
    since: Instant,
    /// When its processes are killed once more.
    kill_at: Instant,
    told: bool,
}

impl Homes {
    /// Finds out what this process may give, and clears what a killed one left.
    pub(crate) fn open(options: &Options) -> anyhow::Result<Self> {
        let dev = options.alone_for.is_some();
        let users = numbers(options)?.map(|numbers| Pool::open(numbers, options)).transpose()?;
        let serves_as_root = rustix::process::geteuid().is_root() && !dev;
        if serves_as_root && users.is_none() {
            log(format_args!(
                "instances get no users of their own (--users none) and run as root: of what a module may do, only its \
                 seccomp filter and Landlock's rules keep it from something"
            ));
        }
        Ok(Self { folders: Folders::open(&options.folders, serves_as_root)?, users, left: Vec::new() })
    }

    /// A home for the host `id`, or in one sentence why there is none.
    pub(crate) fn make(&mut self, id: u64, module: &str, limits: &Limits) -> Result<Home, String> {
        let identity = match &self.users {
            Some(_) => Some(self.take_identity(module)?),
            None => None,
        };
        let mut home = Home { identity, folder: None };
        if limits.folder > 0 {
            match self.folders.make(id, identity, limits) {
                Ok(folder) => home.folder = Some(folder),
                Err(text) => {
                    self.leave(home);
                    return Err(text);
                }
            }
        }
        Ok(home)
    }

    /// One of whose user nothing lives: what a hot-spawn left that was killed ends first.
    fn take_identity(&mut self, module: &str) -> Result<Identity, String> {
        loop {
            let Some(pool) = &mut self.users else { return Err("instances get no users".to_owned()) };
            let identity = pool.users.take_identity(module).map_err(|error| error.to_string())?;
            if leavings::lives(identity.user) {
                let user = identity.user;
                log(format_args!("user {user} has processes that no host here started, which are ended"));
                self.leave(Home { identity: Some(identity), folder: None });
                continue;
            }
            if pool.cleared.insert(identity.user) {
                leavings::clear(identity.user);
            }
            return Ok(identity);
        }
    }

    /// The host that lived here has ended, or did not come to be.
    pub(crate) fn leave(&mut self, home: Home) {
        let now = Instant::now();
        self.left.push(Left { home, since: now, kill_at: now, told: false });
    }

    /// Ends and removes what is left in homes without a host; says how many have something in them yet. To be called when
    /// a host or another child has ended, and when it is [`Self::due`].
    pub(crate) fn settle(&mut self) -> usize {
        let now = Instant::now();
        let mut waiting = Vec::new();
        for mut left in std::mem::take(&mut self.left) {
            if let (Some(pool), Some(identity)) = (&mut self.users, left.home.identity) {
                if !left.ends(identity.user, pool.spare, now) {
                    waiting.push(left);
                    continue;
                }
                leavings::clear(identity.user);
                pool.cleared.insert(identity.user);
                pool.users.give_back(identity);
            }
            if let Some(folder) = left.home.folder {
                self.folders.remove(folder);
            }
        }
        self.left = waiting;
        self.left.len()
    }

    /// When to settle though nothing has ended.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.left.iter().map(|left| left.kill_at).min()
    }
}

impl Left {
    /// Kills what has this user. Whether nothing has it any more.
    fn ends(&mut self, user: u32, spare: u32, now: Instant) -> bool {
        if !leavings::lives(user) {
            return true;
        }
        if now >= self.kill_at {
            self.kill_at = now + LOOK_AGAIN;
            if let Err(error) = privileged::kill_all_of(user, spare) {
                log(format_args!("cannot kill the processes of user {user}: {error}"));
            }
            if now.saturating_duration_since(self.since) >= TELL_AFTER && !self.told {
                self.told = true;
                log(format_args!(
                    "processes of user {user} were killed and don't end; nobody gets it until they do"
                ));
            }
        }
        !leavings::lives(user)
    }
}

impl Pool {
    fn open(numbers: Numbers, options: &Options) -> anyhow::Result<Self> {
        let mut users = Users::new(numbers, Locks::open(&options.socket)?);
        let mut taken = Vec::new();
        let spare = loop {
            let user = users.take_user()?;
            if !leavings::lives(user) {
                break user;
            }
            taken.push(user);
        };
        for user in taken {
            users.give_back_user(user);
        }
        // What hosts of a hot-spawn left that was killed, and that did not end with their sockets. Whom the kernel is
        // slow to end is ended again before anybody gets its number.
        for user in leavings::living() {
            users.while_nobodys(user, || {
                log(format_args!("user {user} has processes that no host here started, which are ended"));
                if let Err(error) = privileged::kill_all_of(user, spare) {
                    log(format_args!("cannot kill the processes of user {user}: {error}"));
                }
            });
        }
        Ok(Self { users, spare, cleared: BTreeSet::new() })
    }
}

/// The numbers to give users from, if instances are to get any.
fn numbers(options: &Options) -> anyhow::Result<Option<Numbers>> {
    let own = rustix::process::geteuid();
    let dev = options.alone_for.is_some();
    let numbers = match options.users {
        Wanted::None => return Ok(None),
        Wanted::Usual if dev || !own.is_root() => return Ok(None),
        Wanted::Usual => Numbers::DEFAULT,
        Wanted::Numbers(numbers) => numbers,
    };
    if !own.is_root() {
        bail!(
            "only root can give instances users ({numbers}), and hot-spawn runs as user {}; run it as root, or say \
               --users none",
            own.as_raw()
        );
    }
    let lacking = privileged::lacking().context("cannot learn which capabilities hot-spawn has")?;
    if !lacking.is_empty() {
        bail!(
            "cannot give instances users ({numbers}) without {}; let hot-spawn have that, or say --users none",
            lacking.join(", ")
        );
    }
    let mut known = BTreeSet::new();
    for path in ["/etc/passwd", "/etc/group"] {
        // Who is only known elsewhere is not seen: the operator chooses the range.
        known.extend(third_fields(&std::fs::read_to_string(path).unwrap_or_default()));
    }
    Ok(Some(numbers.check(own.as_raw(), &known)?))
}
