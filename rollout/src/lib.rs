//! The rules of rollouts, and nothing else: when a candidate may have how much traffic, on which nodes, and what
//! takes it back.
//!
//! Owns the policy ([`Policy`]), the placement of a share on nodes ([`placement`]), the state machine
//! ([`Rollout`]), the judgement ([`verdict`]), what a node is told ([`Assignment`]) and what a node decides by
//! itself ([`guard`]). Does not own time, randomness, IO or storage: all of these are arguments, so a rollout can be
//! replayed event by event. The daemon's driver feeds [`Rollout`] and does its [`Action`]s; the node's agent asks
//! [`guard::judge`].
//!
//! A driver needs four verbs, and after each of the first two it asks the last two again:
//!
//! | verb | when |
//! |---|---|
//! | [`Rollout::handle`] | something happened, a command came, or the time-out is due ([`Event::Timeout`]) |
//! | [`Rollout::resume`] | once, after a snapshot was read back |
//! | [`Rollout::next_timeout`] | to arm the one timer that a rollout needs |
//! | [`Rollout::waiting_on`] | to tell people why nothing moves |
//!
//! The order in which actions must take effect is part of the contract: see [`Action`].

#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::wildcard_enum_match_arm)]

pub mod assignment;
pub mod figures;
pub mod guard;
pub mod ident;
pub mod machine;
pub mod placement;
pub mod policy;
pub mod reason;
pub mod snapshot;
pub mod units;
pub mod verdict;

pub use assignment::{Assignment, Candidate, FastLimits, Role, Standby};
pub use figures::{Figures, Latency};
pub use guard::{Signals, TakeBack};
pub use ident::{Labels, Module, Node, ReleaseNumber, Revision, RolloutId};
pub use machine::{
    Action, Command, Direction, Event, HoldEnd, InstanceState, Kind, Left, ModuleStatus, Move, NodeStatus,
    Note, NoteKind, Outcome, Phase, PhaseName, Rollout, Sample, Spec, Status, Waiting,
};
pub use policy::{Policy, PolicyError, PolicyMistake, PolicySpec, Step};
pub use reason::{Cause, Foreign, Reason};
pub use snapshot::{DecodeError, FORMAT};
pub use units::{Millis, Ratio, Share, Time, Weight};
pub use verdict::{Basis, Missing, Verdict};
