//! The control socket between `hotd` and one host: `SEQPACKET`, one message per packet, descriptors beside it.
//!
//! A host says [`FromHost::Hello`] as soon as it runs, is told [`ToHost::Start`] once, and answers [`FromHost::Ready`]
//! or [`FromHost::Failed`]. From then on it takes links, answers health questions, and stops when told or when the
//! socket ends. Metrics are asked for with [`ToHost::Metrics`], a page at a time. A newer `hotd` that adopts a host asks [`ToHost::Health`]: the answer has the host's [`Phase`], in every
//! phase, since messages of before may have been read by the `hotd` that is gone.

use crate::MAX_MESSAGE;
use crate::codec::{MessageError, Reader, TooLarge, Writer};
use crate::isolation::{Confine, Parts};
use crate::metrics::{MAX_SERIES, Series};

/// What a host understands beyond the first messages of this protocol. One of before says nothing: it has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features(u32);

impl Features {
    /// It answers [`ToHost::Metrics`].
    pub const METRICS: Self = Self(1);
    /// It understands deadlines that move ([`FromGateway::Deadline`](crate::data::FromGateway::Deadline)).
    pub const DEADLINES: Self = Self(2);
    /// All that this version has.
    pub const ALL: Self = Self(3);

    /// Whether it has all of `other`.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a host is to load, and how it is to run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The instance's number on this node.
    pub instance: u64,
    /// The module's name.
    pub module: String,
    /// The release's number.
    pub release: u64,
    /// The version, a semver.
    pub version: String,
    /// The release's config, as the module reads it.
    pub config: Vec<u8>,
    /// How to run it.
    pub options: StartOptions,
    /// What the host takes from itself first; it then says [`FromHost::Confined`]. `None` from a `hotd` of before, which
    /// does not know that message: then it confines itself as by default and says nothing.
    pub confine: Option<Confine>,
}

/// How a host is to run its module. Zero leaves the choice to the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StartOptions {
    /// Threads that call the module.
    pub workers: u32,
    /// Exchanges that may be open at once; the host refuses what is above.
    pub max_exchanges: u32,
    /// The module has routes, so it must have a function that answers requests.
    pub serves: bool,
}

/// What `hotd` says to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToHost {
    /// Load and start the module; the host has it as descriptor 4.
    Start(Start),
    /// Serve exchanges on one more data stream: the one descriptor beside this message.
    Attach {
        /// A number of this link, for logs.
        link: u64,
    },
    /// Ask how the host and its module are.
    Health {
        /// Repeated in the answer.
        seq: u64,
    },
    /// Take no new exchanges, let open ones finish, stop the module, say `Stopped`, exit 0.
    Stop {
        /// Milliseconds for all of this.
        grace_ms: u32,
    },
    /// Ask for the module's metrics. Only a host with [`Features::METRICS`] knows this message.
    Metrics {
        /// Repeated in the answer.
        seq: u64,
        /// The first series that is wanted, counted from 0. Series are never removed and keep their order, so one page
        /// after the other gives all.
        first: u32,
    },
}

/// Where a host stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It has not been told what to start.
    Waiting,
    /// It loads the module or runs its `start`.
    Starting,
    /// It serves.
    Ready,
    /// It was told to stop.
    Stopping,
}

/// Where a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// `dlopen` refused the artifact, or one of its constructors failed.
    Load,
    /// The entry symbol is missing or no table.
    Entry,
    /// The module asks for an ABI that the host does not have.
    Abi,
    /// The module's `start` returned an error.
    Start,
    /// The host could not confine itself, and loaded nothing. Only after a `Start` with `confine`.
    Confine,
}

impl Stage {
    /// The name of the stage in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Entry => "entry",
            Self::Abi => "abi",
            Self::Start => "start",
            Self::Confine => "confine",
        }
    }
}

/// How a host and its module are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReply {
    /// From the question.
    pub seq: u64,
    /// Where the host stands.
    pub phase: Phase,
    /// What the module's `health` said; true while it has none or does not run yet.
    pub ok: bool,
    /// The module's words, if it gave any.
    pub text: String,
    /// Exchanges that are open.
    pub in_flight: u32,
    /// Age of the oldest open exchange, in milliseconds.
    pub oldest_ms: u32,
    /// What the host understands: a `hotd` that adopts it has not heard its hello.
    pub features: Features,
    /// The parts of its isolation that it has in force, none before it has confined itself.
    pub parts: Parts,
}

/// A part of a module's metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsPage {
    /// From the question.
    pub seq: u64,
    /// From the question.
    pub first: u32,
    /// How many series there are.
    pub total: u32,
    /// The series from `first` on, as many as fit: at least one if there is one.
    pub series: Vec<Series>,
}

impl MetricsPage {
    /// Takes as many of `series` as fit into one message.
    #[must_use]
    pub fn fill(seq: u64, first: u32, total: u32, series: impl Iterator<Item = Series>) -> Self {
        /// Kind, seq, first, total and count.
        const HEAD: usize = 1 + 8 + 4 + 4 + 4;
        let mut size = HEAD;
        let fits = series.take_while(|series| {
            size += series.encoded_size();
            size <= MAX_MESSAGE
        });
        Self { seq, first, total, series: fits.collect() }
    }
}

/// What a host says to `hotd`. All of it is a claim of a process that runs foreign code.
#[derive(Debug, Clone, PartialEq)]
pub enum FromHost {
    /// The host runs. First message.
    Hello {
        /// See [`crate::PROTOCOL`].
        protocol: u16,
        /// Its process, as it sees itself.
        pid: u32,
        /// What it understands.
        features: Features,
    },
    /// The host has confined itself and goes on to load the module, or to say that a required part is missing.
    Confined {
        /// The parts that are in force: no-new-privileges, seccomp, counted, files, network, scopes.
        parts: Parts,
    },
    /// The module runs and takes exchanges.
    Ready {
        /// The ABI that the module uses.
        abi: u32,
    },
    /// The module does not run; the host exits.
    Failed {
        /// Where it failed.
        stage: Stage,
        /// The reason in words.
        text: String,
    },
    /// An answer to [`ToHost::Health`].
    Health(HealthReply),
    /// The module has stopped; the host exits.
    Stopped,
    /// An answer to [`ToHost::Metrics`].
    Metrics(MetricsPage),
}

const START: u8 = 1;
const ATTACH: u8 = 2;
const HEALTH: u8 = 3;
const STOP: u8 = 4;
const METRICS: u8 = 5;
const HELLO: u8 = 65;
const READY: u8 = 66;
const FAILED: u8 = 67;
const HEALTH_REPLY: u8 = 68;
const STOPPED: u8 = 69;
const METRICS_PAGE: u8 = 70;
const CONFINED: u8 = 71;

/// Whether a kind is one that hosts send, or that newer ones may.
#[must_use]
pub const fn is_from_host(kind: u8) -> bool {
    matches!(kind, 65..=127)
}

impl ToHost {
    /// The packet's bytes. Only a `Start` with a large config can be too large.
    pub fn encode(&self) -> Result<Vec<u8>, TooLarge> {
        match self {
            Self::Start(start) => {
                let out = Writer::new(START)
                    .u64(start.instance)
                    .bytes(start.module.as_bytes())
                    .u64(start.release)
                    .bytes(start.version.as_bytes())
                    .bytes(&start.config)
                    .u32(start.options.workers)
                    .u32(start.options.max_exchanges)
                    .u8(u8::from(start.options.serves));
                start.confine.iter().fold(out, |out, confine| confine.write(out))
            }
            Self::Attach { link } => Writer::new(ATTACH).u64(*link),
            Self::Health { seq } => Writer::new(HEALTH).u64(*seq),
            Self::Stop { grace_ms } => Writer::new(STOP).u32(*grace_ms),
            Self::Metrics { seq, first } => Writer::new(METRICS).u64(*seq).u32(*first),
        }
        .finish()
    }

    /// Reads a packet.
    pub fn decode(packet: &[u8]) -> Result<Self, MessageError> {
        let (kind, mut fields) = Reader::new(packet)?;
        match kind {
            START => Ok(Self::Start(Start {
                instance: fields.u64("instance")?,
                module: fields.text("module")?,
                release: fields.u64("release")?,
                version: fields.text("version")?,
                config: fields.bytes("config")?.to_vec(),
                options: StartOptions {
                    workers: fields.u32("workers")?,
                    max_exchanges: fields.u32("max_exchanges")?,
                    serves: fields.later_bool("serves")?,
                },
                confine: Confine::read_later(&mut fields)?,
            })),
            ATTACH => Ok(Self::Attach { link: fields.u64("link")? }),
            HEALTH => Ok(Self::Health { seq: fields.u64("seq")? }),
            STOP => Ok(Self::Stop { grace_ms: fields.u32("grace_ms")? }),
            METRICS => Ok(Self::Metrics { seq: fields.u64("seq")?, first: fields.u32("first")? }),
            found => Err(MessageError::UnknownKind { found }),
        }
    }

    /// How many descriptors travel beside this message.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        match self {
            Self::Attach { .. } => 1,
            Self::Start(_) | Self::Health { .. } | Self::Stop { .. } | Self::Metrics { .. } => 0,
        }
    }
}

impl FromHost {
    /// The packet's bytes.
    pub fn encode(&self) -> Result<Vec<u8>, TooLarge> {
        match self {
            Self::Hello { protocol, pid, features } => {
                Writer::new(HELLO).u16(*protocol).u32(*pid).u32(features.0)
            }
            Self::Confined { parts } => parts.write(Writer::new(CONFINED)),
            Self::Ready { abi } => Writer::new(READY).u32(*abi),
            Self::Failed { stage, text } => {
                Writer::new(FAILED).u8(stage_to_byte(*stage)).bytes(text.as_bytes())
            }
            Self::Health(reply) => reply.parts.write(
                Writer::new(HEALTH_REPLY)
                    .u64(reply.seq)
                    .u8(phase_to_byte(reply.phase))
                    .u8(u8::from(reply.ok))
                    .bytes(reply.text.as_bytes())
                    .u32(reply.in_flight)
                    .u32(reply.oldest_ms)
                    .u32(reply.features.0),
            ),
            Self::Stopped => Writer::new(STOPPED),
            Self::Metrics(page) => {
                let out = Writer::new(METRICS_PAGE).u64(page.seq).u32(page.first).u32(page.total);
                page.series.iter().fold(out.count(page.series.len()), |out, series| series.write(out))
            }
        }
        .finish()
    }

    /// Reads a packet.
    pub fn decode(packet: &[u8]) -> Result<Self, MessageError> {
        let (kind, mut fields) = Reader::new(packet)?;
        match kind {
            HELLO => Ok(Self::Hello {
                protocol: fields.u16("protocol")?,
                pid: fields.u32("pid")?,
                features: features(&mut fields)?,
            }),
            CONFINED => Ok(Self::Confined { parts: Parts::read_later(&mut fields)? }),
            READY => Ok(Self::Ready { abi: fields.u32("abi")? }),
            FAILED => {
                Ok(Self::Failed { stage: stage_from_byte(fields.u8("stage")?)?, text: fields.text("text")? })
            }
            HEALTH_REPLY => Ok(Self::Health(HealthReply {
                seq: fields.u64("seq")?,
                phase: phase_from_byte(fields.u8("phase")?)?,
                ok: fields.bool("ok")?,
                text: fields.text("text")?,
                in_flight: fields.u32("in_flight")?,
                oldest_ms: fields.u32("oldest_ms")?,
                features: features(&mut fields)?,
                parts: Parts::read_later(&mut fields)?,
            })),
            STOPPED => Ok(Self::Stopped),
            METRICS_PAGE => Ok(Self::Metrics(MetricsPage {
                seq: fields.u64("seq")?,
                first: fields.u32("first")?,
                total: fields.u32("total")?,
                series: {
                    let count = fields.count("series", MAX_SERIES)?;
                    (0..count).map(|_| Series::read(&mut fields)).collect::<Result<_, _>>()?
                },
            })),
            found => Err(MessageError::UnknownKind { found }),
        }
    }
}

fn features(fields: &mut Reader<'_>) -> Result<Features, MessageError> {
    Ok(Features(fields.later_u32("features")?))
}

fn stage_to_byte(stage: Stage) -> u8 {
    match stage {
        Stage::Load => 1,
        Stage::Entry => 2,
        Stage::Abi => 3,
        Stage::Start => 4,
        Stage::Confine => 5,
    }
}

fn stage_from_byte(byte: u8) -> Result<Stage, MessageError> {
    match byte {
        1 => Ok(Stage::Load),
        2 => Ok(Stage::Entry),
        3 => Ok(Stage::Abi),
        4 => Ok(Stage::Start),
        5 => Ok(Stage::Confine),
        found => Err(MessageError::UnknownValue { field: "stage", found: u64::from(found) }),
    }
}

fn phase_to_byte(phase: Phase) -> u8 {
    match phase {
        Phase::Waiting => 1,
        Phase::Starting => 2,
        Phase::Ready => 3,
        Phase::Stopping => 4,
    }
}

fn phase_from_byte(byte: u8) -> Result<Phase, MessageError> {
    match byte {
        1 => Ok(Phase::Waiting),
        2 => Ok(Phase::Starting),
        3 => Ok(Phase::Ready),
        4 => Ok(Phase::Stopping),
        found => Err(MessageError::UnknownValue { field: "phase", found: u64::from(found) }),
    }
}
