//! How an instance is held: the parts of its isolation, and what it may use.
//!
//! `hot-spawn` sees to what needs privileges ([`Held`]), `hot-host` takes the rest from itself before it loads anything
//! ([`Confine`]). Each says which parts it has in force ([`Parts`]), and `hotd` judges whether they are enough.

use std::fmt;

use crate::codec::{MessageError, Reader, Writer};

/// The most paths that one list of [`Confine`] has, and the most ports.
pub const MAX_LISTED: usize = 256;

/// A set of the parts that isolation is made of.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Parts(u32);

impl Parts {
    /// No part.
    pub const NONE: Self = Self(0);
    /// A user and a group of its own.
    pub const USER: Self = Self(1);
    /// No program that it executes gains rights.
    pub const NO_NEW_PRIVILEGES: Self = Self(1 << 1);
    /// System calls that servers don't need are refused with `EPERM`.
    pub const SECCOMP: Self = Self(1 << 2);
    /// The refused calls are counted and told.
    pub const COUNTED: Self = Self(1 << 3);
    /// It sees the files that it may see and no others (Landlock ABI 1).
    pub const FILES: Self = Self(1 << 4);
    /// It connects to and listens on the TCP ports that it may (Landlock ABI 4).
    pub const NETWORK: Self = Self(1 << 5);
    /// It sends no signals to, and connects to no abstract socket of, processes outside (Landlock ABI 6).
    pub const SCOPES: Self = Self(1 << 6);
    /// Its memory is bounded.
    pub const MEMORY: Self = Self(1 << 7);
    /// Its processes and threads are bounded.
    pub const TASKS: Self = Self(1 << 8);
    /// It has its share of the processors and no more when others want theirs.
    pub const CPU: Self = Self(1 << 9);
    /// It has a folder of its own to write in, bounded in size.
    pub const FOLDER: Self = Self(1 << 10);

    /// Every part, by its name in configs and messages.
    pub const NAMED: [(&'static str, Self); 11] = [
        ("user", Self::USER),
        ("no-new-privileges", Self::NO_NEW_PRIVILEGES),
        ("seccomp", Self::SECCOMP),
        ("counted", Self::COUNTED),
        ("files", Self::FILES),
        ("network", Self::NETWORK),
        ("scopes", Self::SCOPES),
        ("memory", Self::MEMORY),
        ("tasks", Self::TASKS),
        ("cpu", Self::CPU),
        ("folder", Self::FOLDER),
    ];

    /// The part of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(known, _)| *known == name).map(|(_, part)| *part)
    }

    /// The names of the parts in it, in the order of [`Parts::NAMED`]. What a newer peer says beyond has no name here.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMED.into_iter().filter(move |(_, part)| self.has(*part)).map(|(name, _)| name)
    }

    /// Whether it has all of `other`.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These but not those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn write(self, out: Writer) -> Writer {
        out.u32(self.0)
    }

    /// Older senders leave it out, and have no part then.
    pub(crate) fn read_later(fields: &mut Reader<'_>) -> Result<Self, MessageError> {
        Ok(Self(fields.later_u32("parts")?))
    }
}

impl FromIterator<Self> for Parts {
    fn from_iter<I: IntoIterator<Item = Self>>(parts: I) -> Self {
        parts.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// How `hot-spawn` holds a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// The user that its process has; `None`: that of `hot-spawn`.
    pub user: Option<u32>,
    /// The parts that `hot-spawn` sees to: user, no-new-privileges, memory, tasks, cpu, folder.
    pub parts: Parts,
}

impl Held {
    pub(crate) fn write(self, out: Writer) -> Writer {
        let out = self.parts.write(out);
        out.u8(u8::from(self.user.is_some())).u32(self.user.unwrap_or_default())
    }

    /// Older senders leave it out, and hold by nothing.
    pub(crate) fn read_later(fields: &mut Reader<'_>) -> Result<Self, MessageError> {
        if fields.is_empty() {
            return Ok(Self::default());
        }
        let parts = Parts::read_later(fields)?;
        let has_user = fields.bool("user")?;
        let user = fields.u32("user")?;
        Ok(Self { user: has_user.then_some(user), parts })
    }
}

/// The limit that a host went past, for which `hot-spawn` or the kernel ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// Resident memory of all its processes, in bytes.
    Memory {
        /// What was seen; the limit itself where the kernel refused more.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// Processes and threads.
    Tasks {
        /// What was seen; the limit itself where the kernel refused more.
        used: u64,
        /// The limit.
        limit: u64,
    },
}

impl Breach {
    pub(crate) fn write(breach: Option<Self>, out: Writer) -> Writer {
        match breach {
            None => out.u8(0),
            Some(Self::Memory { used, limit }) => out.u8(1).u64(used).u64(limit),
            Some(Self::Tasks { used, limit }) => out.u8(2).u64(used).u64(limit),
        }
    }

    /// Older senders leave it out, and know of none. One of a kind that is not known is none as well: the ending says
    /// enough.
    pub(crate) fn read_later(fields: &mut Reader<'_>) -> Result<Option<Self>, MessageError> {
        match fields.later_u8("breach")? {
            1 => Ok(Some(Self::Memory { used: fields.u64("used")?, limit: fields.u64("limit")? })),
            2 => Ok(Some(Self::Tasks { used: fields.u64("used")?, limit: fields.u64("limit")? })),
            _none_or_unknown => Ok(None),
        }
    }
}

/// What a host takes from itself before it loads the module, all that its kernel has of it.
///
/// Beside what is listed it can always read the system's library folders, `ld.so.cache`, the resolver's, hosts', CA and
/// zoneinfo files, `/dev/null` and `/dev/urandom`, and write in the folder that it is started in if that is not `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confine {
    /// Parts that are not to be put in force, whatever the kernel has.
    pub leave_out: Parts,
    /// Files and folders that it may read besides. One that is absent is passed over.
    pub read: Vec<String>,
    /// Files and folders that it may read and write besides. One that is absent is passed over.
    pub write: Vec<String>,
    /// TCP ports that it may connect to; `None`: any.
    pub connect: Option<Vec<u16>>,
    /// TCP ports that it may listen on; `None`: any.
    pub bind: Option<Vec<u16>>,
    /// Parts that must be in force in the end: with one missing it loads nothing. It says what is in force
    /// ([`FromHost::Confined`](crate::host::FromHost::Confined)) and then that it failed at
    /// [`Stage::Confine`](crate::host::Stage::Confine), with a text that names what is missing.
    pub require: Parts,
}

impl Confine {
    pub(crate) fn write(&self, out: Writer) -> Writer {
        let out = self.leave_out.write(out);
        let out = write_paths(write_paths(out, &self.read), &self.write);
        let out = write_ports(write_ports(out, self.connect.as_deref()), self.bind.as_deref());
        self.require.write(out)
    }

    /// Older senders leave it out: `None`.
    pub(crate) fn read_later(fields: &mut Reader<'_>) -> Result<Option<Self>, MessageError> {
        if fields.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            leave_out: Parts::read_later(fields)?,
            read: read_paths(fields, "read")?,
            write: read_paths(fields, "write")?,
            connect: read_ports(fields, "connect")?,
            bind: read_ports(fields, "bind")?,
            require: Parts::read_later(fields)?,
        }))
    }
}

fn write_paths(out: Writer, paths: &[String]) -> Writer {
    paths.iter().fold(out.count(paths.len()), |out, path| out.bytes(path.as_bytes()))
}

fn read_paths(fields: &mut Reader<'_>, field: &'static str) -> Result<Vec<String>, MessageError> {
    let count = fields.count(field, MAX_LISTED)?;
    (0..count).map(|_| fields.text(field)).collect()
}

fn write_ports(out: Writer, ports: Option<&[u16]>) -> Writer {
    let out = out.u8(u8::from(ports.is_some()));
    let Some(ports) = ports else { return out };
    ports.iter().fold(out.count(ports.len()), |out, port| out.u16(*port))
}

fn read_ports(fields: &mut Reader<'_>, field: &'static str) -> Result<Option<Vec<u16>>, MessageError> {
    if !fields.bool(field)? {
        return Ok(None);
    }
    let count = fields.count(field, MAX_LISTED)?;
    (0..count).map(|_| fields.u16(field)).collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_sets_with_names() {
        let both = Parts::USER.with(Parts::FILES);
        assert!(both.has(Parts::USER) && both.has(Parts::NONE) && !both.has(Parts::SECCOMP));
        assert_eq!(both.names().collect::<Vec<_>>(), ["user", "files"]);
        assert_eq!(both.without(Parts::USER), Parts::FILES);
        assert_eq!(Parts::named("no-new-privileges"), Some(Parts::NO_NEW_PRIVILEGES));
        assert_eq!(Parts::named("users"), None);
        let all: Parts = Parts::NAMED.iter().map(|(_, part)| *part).collect();
        assert_eq!(all.names().count(), Parts::NAMED.len(), "each has a bit of its own");
    }
}
