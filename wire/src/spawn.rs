//! The control socket between `hotd` and `hot-spawn`: `SEQPACKET`, one message per packet, descriptors beside it.
//!
//! Both sides begin with their `Hello`. `hot-spawn` serves one `hotd` at a time: as long as its connection is open, another
//! one hears [`FromSpawn::Occupied`] in place of a `Hello`, whatever the first one does. An end that nobody was connected to hear of is kept and told by
//! [`ToSpawn::List`] until `hotd` says [`ToSpawn::Forget`].

use crate::codec::{MessageError, Reader, TooLarge, Writer};
use crate::isolation::{Breach, Held};

/// What a `hotd` understands beyond the first messages of this protocol. One of before says nothing: it has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features(u32);

impl Features {
    /// It understands [`FromSpawn::Denied`].
    pub const DENIED: Self = Self(1);
    /// All that this version has.
    pub const ALL: Self = Self(1);

    /// Whether it has all of `other`.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The longest label of a host, in bytes.
pub const MAX_LABEL: usize = 100 * 1024;
/// The longest name of a kept listener, in bytes.
pub const MAX_NAME: usize = 255;
/// The longest name of a module, in bytes.
pub const MAX_MODULE: usize = 255;
/// The most system calls that one [`FromSpawn::Denied`] tells of.
pub const MAX_DENIED: usize = 512;
/// The most bytes of a host's output that `hot-spawn` keeps for the next `hotd`: the last ones.
pub const MAX_TAIL: usize = 16 * 1024;

/// The limits that a host gets before it runs anything. [`Limits::UNLIMITED`] leaves a resource as `hot-spawn` has it. No
/// core is ever dumped: it would have the module's secrets in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Descriptors that may be open (`RLIMIT_NOFILE`).
    pub open_files: u64,
    /// The largest file that it may write, in bytes (`RLIMIT_FSIZE`).
    pub file_size: u64,
    /// Address space, in bytes (`RLIMIT_AS`).
    pub address_space: u64,
    /// Resident memory of all its processes together, in bytes.
    pub memory: u64,
    /// Its processes and threads.
    pub tasks: u64,
    /// What its own folder may hold, in bytes.
    pub folder: u64,
    /// Its share of the processors beside others that want theirs, 1 to 10,000 where 100 is usual; 0 leaves it so.
    pub cpu_weight: u32,
}

impl Limits {
    /// No limit of its own.
    pub const UNLIMITED: u64 = u64::MAX;
}

impl Default for Limits {
    /// 4096 descriptors; all else as `hot-spawn` has it.
    fn default() -> Self {
        Self {
            open_files: 4096,
            file_size: Self::UNLIMITED,
            address_space: Self::UNLIMITED,
            memory: Self::UNLIMITED,
            tasks: Self::UNLIMITED,
            folder: Self::UNLIMITED,
            cpu_weight: 0,
        }
    }
}

/// What a process used, as the kernel counted it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in user mode, in microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, in microseconds.
    pub system_us: u64,
    /// The most memory that was resident, in KiB.
    pub max_resident_kib: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It exited with this code, 0 to 255.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

/// How a host ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Exit or signal.
    pub cause: Cause,
    /// What it used.
    pub usage: Usage,
    /// The limit that it was ended for.
    pub breach: Option<Breach>,
    /// hot-spawn had told it to end, since it ends itself: nothing that the host did. Older senders say so of none.
    pub told: bool,
}

/// Whether a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    /// It runs; control socket and output pipe are beside the message.
    Running,
    /// It has ended; nothing is beside the message.
    Ended(Ending),
}

/// What `hotd` says to `hot-spawn`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToSpawn {
    /// First message.
    Hello {
        /// See [`crate::PROTOCOL`].
        protocol: u16,
        /// What it understands.
        features: Features,
    },
    /// Start a host; the sealed artifact is beside the message. Answer: `Spawned` or `SpawnFailed`.
    Spawn {
        /// A number that `hotd` chose, free at `hot-spawn`.
        id: u64,
        /// Kept and given back by `List`; `hot-spawn` does not read it. At most [`MAX_LABEL`].
        label: Vec<u8>,
        /// What the host may use.
        limits: Limits,
        /// The module's name, by which instances share a group; at most [`MAX_MODULE`]. Empty from older senders: then it
        /// is in the group of nobody else.
        module: String,
    },
    /// Tell of every host and what ended. Answer: one `Host` each, then `ListEnd`.
    List,
    /// Send a signal to a host's process group. No answer; nothing happens if it has ended.
    Signal {
        /// The host.
        id: u64,
        /// The signal's number.
        signal: i32,
    },
    /// Keep the listener beside the message under this name, in place of one that has it already.
    Keep {
        /// At most [`MAX_NAME`] bytes.
        name: String,
    },
    /// Give the kept listeners back. Answer: one `Kept` each, then `KeptEnd`.
    Kept,
    /// Close a kept listener.
    Drop {
        /// Its name.
        name: String,
    },
    /// The end of this host is known and needs no longer be kept.
    Forget {
        /// The host.
        id: u64,
    },
}

/// What `hot-spawn` says to `hotd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromSpawn {
    /// First message.
    Hello {
        /// See [`crate::PROTOCOL`].
        protocol: u16,
        /// The process of `hot-spawn`.
        pid: u32,
    },
    /// A host runs; beside the message are its control socket and the reading end of its output pipe.
    Spawned {
        /// From `Spawn`.
        id: u64,
        /// Its process.
        pid: u32,
        /// How it is held.
        held: Held,
    },
    /// A host could not be started.
    SpawnFailed {
        /// From `Spawn`.
        id: u64,
        /// Why, in one sentence.
        text: String,
    },
    /// One host of a list.
    Host {
        /// From `Spawn`.
        id: u64,
        /// Its process.
        pid: u32,
        /// Whether it runs; if so, its control socket and output pipe are beside the message.
        state: HostState,
        /// From `Spawn`.
        label: Vec<u8>,
        /// The last output while no `hotd` read the pipe, at most [`MAX_TAIL`] bytes.
        tail: Vec<u8>,
        /// How it is held.
        held: Held,
    },
    /// The list is complete.
    ListEnd,
    /// One kept listener, which is beside the message.
    Kept {
        /// Its name.
        name: String,
    },
    /// All kept listeners are told.
    KeptEnd,
    /// A host ended. Comes by itself, once.
    Exited {
        /// The host.
        id: u64,
        /// How.
        ending: Ending,
    },
    /// In place of `Hello`: another `hotd` is connected. Last message of this connection.
    Occupied {
        /// The process of the other one.
        pid: u32,
    },
    /// A running host made system calls that were refused. Only to a `hotd` with [`Features::DENIED`], at most twice a second
    /// for each host, and once more before its `Exited` if there is something untold.
    Denied {
        /// The host.
        id: u64,
        /// The calls' numbers on this machine, with how often each was refused since the last message of this kind. At
        /// most [`MAX_DENIED`].
        calls: Vec<(u32, u64)>,
    },
    /// A demand other than `Spawn` can't be met.
    Refused {
        /// What was asked and why not, in one sentence.
        text: String,
    },
}

const HELLO: u8 = 1;
const SPAWN: u8 = 2;
const LIST: u8 = 3;
const SIGNAL: u8 = 4;
const KEEP: u8 = 5;
const KEPT: u8 = 6;
const DROP: u8 = 7;
const FORGET: u8 = 8;

const SPAWN_HELLO: u8 = 65;
const SPAWNED: u8 = 66;
const SPAWN_FAILED: u8 = 67;
const HOST: u8 = 68;
const LIST_END: u8 = 69;
const KEPT_ONE: u8 = 70;
const KEPT_END: u8 = 71;
const EXITED: u8 = 72;
const REFUSED: u8 = 73;
// 74 told a `hotd` that another one took its place, which happens no more.
const OCCUPIED: u8 = 75;
const DENIED: u8 = 76;

impl ToSpawn {
    /// The packet's bytes.
    pub fn encode(&self) -> Result<Vec<u8>, TooLarge> {
        match self {
            Self::Hello { protocol, features } => Writer::new(HELLO).u16(*protocol).u32(features.0),
            Self::Spawn { id, label, limits, module } => Writer::new(SPAWN)
                .u64(*id)
                .bytes(label)
                .u64(limits.open_files)
                .u64(limits.file_size)
                .u64(limits.address_space)
                .u64(limits.memory)
                .u64(limits.tasks)
                .u64(limits.folder)
                .u32(limits.cpu_weight)
                .bytes(module.as_bytes()),
            Self::List => Writer::new(LIST),
            Self::Signal { id, signal } => Writer::new(SIGNAL).u64(*id).i32(*signal),
            Self::Keep { name } => Writer::new(KEEP).bytes(name.as_bytes()),
            Self::Kept => Writer::new(KEPT),
            Self::Drop { name } => Writer::new(DROP).bytes(name.as_bytes()),
            Self::Forget { id } => Writer::new(FORGET).u64(*id),
        }
        .finish()
    }

    /// Reads a packet.
    pub fn decode(packet: &[u8]) -> Result<Self, MessageError> {
        let (kind, mut fields) = Reader::new(packet)?;
        match kind {
            HELLO => Ok(Self::Hello {
                protocol: fields.u16("protocol")?,
                features: Features(fields.later_u32("features")?),
            }),
            SPAWN => {
                let id = fields.u64("id")?;
                let label = fields.bytes("label")?.to_vec();
                let mut limits = Limits {
                    open_files: fields.u64("open_files")?,
                    file_size: fields.u64("file_size")?,
                    address_space: fields.u64("address_space")?,
                    ..Limits::default()
                };
                let mut module = String::new();
                if !fields.is_empty() {
                    limits.memory = fields.u64("memory")?;
                    limits.tasks = fields.u64("tasks")?;
                    limits.folder = fields.u64("folder")?;
                    limits.cpu_weight = fields.u32("cpu_weight")?;
                    module = fields.text("module")?;
                }
                Ok(Self::Spawn { id, label, limits, module })
            }
            LIST => Ok(Self::List),
            SIGNAL => Ok(Self::Signal { id: fields.u64("id")?, signal: fields.i32("signal")? }),
            KEEP => Ok(Self::Keep { name: fields.text("name")? }),
            KEPT => Ok(Self::Kept),
            DROP => Ok(Self::Drop { name: fields.text("name")? }),
            FORGET => Ok(Self::Forget { id: fields.u64("id")? }),
            found => Err(MessageError::UnknownKind { found }),
        }
    }

    /// How many descriptors travel beside this message.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        match self {
            Self::Spawn { .. } | Self::Keep { .. } => 1,
            Self::Hello { .. }
            | Self::List
            | Self::Signal { .. }
            | Self::Kept
            | Self::Drop { .. }
            | Self::Forget { .. } => 0,
        }
    }
}

impl FromSpawn {
    /// The packet's bytes.
    pub fn encode(&self) -> Result<Vec<u8>, TooLarge> {
        match self {
            Self::Hello { protocol, pid } => Writer::new(SPAWN_HELLO).u16(*protocol).u32(*pid),
            Self::Spawned { id, pid, held } => held.write(Writer::new(SPAWNED).u64(*id).u32(*pid)),
            Self::SpawnFailed { id, text } => Writer::new(SPAWN_FAILED).u64(*id).bytes(text.as_bytes()),
            Self::Host { id, pid, state, label, tail, held } => {
                let writer = Writer::new(HOST).u64(*id).u32(*pid);
                let (writer, breach, told) = match state {
                    HostState::Running => (writer.u8(0), None, false),
                    HostState::Ended(ending) => {
                        (put_ending(writer.u8(1), ending), ending.breach, ending.told)
                    }
                };
                Breach::write(breach, held.write(writer.bytes(label).bytes(tail))).u8(told.into())
            }
            Self::ListEnd => Writer::new(LIST_END),
            Self::Kept { name } => Writer::new(KEPT_ONE).bytes(name.as_bytes()),
            Self::KeptEnd => Writer::new(KEPT_END),
            Self::Exited { id, ending } => {
                Breach::write(ending.breach, put_ending(Writer::new(EXITED).u64(*id), ending))
                    .u8(ending.told.into())
            }
            Self::Denied { id, calls } => {
                calls.iter().fold(Writer::new(DENIED).u64(*id).count(calls.len()), |out, (call, times)| {
                    out.u32(*call).u64(*times)
                })
            }
            Self::Refused { text } => Writer::new(REFUSED).bytes(text.as_bytes()),
            Self::Occupied { pid } => Writer::new(OCCUPIED).u32(*pid),
        }
        .finish()
    }

    /// Reads a packet.
    pub fn decode(packet: &[u8]) -> Result<Self, MessageError> {
        let (kind, mut fields) = Reader::new(packet)?;
        match kind {
            SPAWN_HELLO => Ok(Self::Hello { protocol: fields.u16("protocol")?, pid: fields.u32("pid")? }),
            SPAWNED => Ok(Self::Spawned {
                id: fields.u64("id")?,
                pid: fields.u32("pid")?,
                held: Held::read_later(&mut fields)?,
            }),
            SPAWN_FAILED => Ok(Self::SpawnFailed { id: fields.u64("id")?, text: fields.text("text")? }),
            HOST => {
                let id = fields.u64("id")?;
                let pid = fields.u32("pid")?;
                let ending = if fields.bool("state")? { Some(take_ending(&mut fields)?) } else { None };
                let label = fields.bytes("label")?.to_vec();
                let tail = fields.bytes("tail")?.to_vec();
                let held = Held::read_later(&mut fields)?;
                let breach = Breach::read_later(&mut fields)?;
                let told = fields.later_u8("told")? == 1;
                let state = ending
                    .map_or(HostState::Running, |ending| HostState::Ended(Ending { breach, told, ..ending }));
                Ok(Self::Host { id, pid, state, label, tail, held })
            }
            LIST_END => Ok(Self::ListEnd),
            KEPT_ONE => Ok(Self::Kept { name: fields.text("name")? }),
            KEPT_END => Ok(Self::KeptEnd),
            EXITED => {
                let id = fields.u64("id")?;
                let ending = take_ending(&mut fields)?;
                let breach = Breach::read_later(&mut fields)?;
                let told = fields.later_u8("told")? == 1;
                Ok(Self::Exited { id, ending: Ending { breach, told, ..ending } })
            }
            DENIED => Ok(Self::Denied {
                id: fields.u64("id")?,
                calls: {
                    let count = fields.count("calls", MAX_DENIED)?;
                    (0..count).map(|_| Ok((fields.u32("call")?, fields.u64("times")?))).collect::<Result<
                        _,
                        MessageError,
                    >>(
                    )?
                },
            }),
            REFUSED => Ok(Self::Refused { text: fields.text("text")? }),
            OCCUPIED => Ok(Self::Occupied { pid: fields.u32("pid")? }),
            found => Err(MessageError::UnknownKind { found }),
        }
    }

    /// How many descriptors travel beside this message.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        match self {
            Self::Spawned { .. } | Self::Host { state: HostState::Running, .. } => 2,
            Self::Kept { .. } => 1,
            Self::Hello { .. }
            | Self::SpawnFailed { .. }
            | Self::Host { state: HostState::Ended(_), .. }
            | Self::ListEnd
            | Self::KeptEnd
            | Self::Exited { .. }
            | Self::Denied { .. }
            | Self::Refused { .. }
            | Self::Occupied { .. } => 0,
        }
    }
}

/// In the middle of a `Host`, so what an ending gains goes behind the message's other fields: the breach does, and `told` behind it.
fn put_ending(writer: Writer, ending: &Ending) -> Writer {
    let writer = match ending.cause {
        Cause::Exited(code) => writer.u8(0).i32(code),
        Cause::Killed(signal) => writer.u8(1).i32(signal),
    };
    let usage = ending.usage;
    writer.u64(usage.user_us).u64(usage.system_us).u64(usage.max_resident_kib)
}

fn take_ending(fields: &mut Reader<'_>) -> Result<Ending, MessageError> {
    let killed = fields.bool("cause")?;
    let number = fields.i32("code or signal")?;
    Ok(Ending {
        cause: if killed { Cause::Killed(number) } else { Cause::Exited(number) },
        usage: Usage {
            user_us: fields.u64("user_us")?,
            system_us: fields.u64("system_us")?,
            max_resident_kib: fields.u64("max_resident_kib")?,
        },
        breach: None,
        told: false,
    })
}
