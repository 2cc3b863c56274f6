//! Whole rollouts over many nodes with random faults: the machine of [`hot_rollout`] in a world of users, nodes, a cluster
//! store and a driver that are models.
//!
//! Everything follows from a [`Scenario`] and a seed: the same two give the same events, in the same order, on every
//! machine. What must always hold is checked after every event, and a run that breaks it has a story in the format of
//! `rollout/tests/scenarios`, which replays. docs/simulation.md says how to run it, how to read a failing seed, and what it
//! does not model.
//!
//! | room | what it is for |
//! |---|---|
//! | [`seed`], [`draw`] | numbers by chance, and counts that follow a distribution |
//! | [`scenario`] | a world as data: machines, releases, users, orders, faults |
//! | [`generate`] | a random world for each seed |
//! | [`truth`], [`traffic`] | what a release really does, and how users come |
//! | `net` | what happens next, and how long messages travel |
//! | `cluster` | the store that the fleet shares |
//! | `node` | a model of a node's agent |
//! | `driver` | a model of the daemon's driver, which dies between any two effects |
//! | `world` | carries what they say to each other |
//! | `invariants` | what always holds |
//! | [`coverage`] | what was gone through, and what is out of reach |
//! | [`story`] | what a rollout was told, as a text that replays |
//! | [`run`](mod@run) | plays a scenario, and says what came of it |
//! | [`many`] | plays many seeds, on all cores |
//! | [`judged`] | how often the judgement takes a release back whose truth is known, and what that costs |

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod cluster;
pub mod coverage;
pub mod draw;
mod driver;
pub mod generate;
mod invariants;
pub mod judged;
pub mod many;
mod net;
mod node;
pub mod run;
pub mod scenario;
pub mod seed;
pub mod story;
pub mod traffic;
pub mod truth;
mod world;

// The stories of `rollout/tests/scenarios` are played by the same code, so that one that is written here replays there.
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a story that cannot be read is a fault of the recorder"
)]
#[path = "../../rollout/tests/scenarios/player.rs"]
mod player;
#[expect(clippy::unwrap_used, reason = "writing to a string does not fail")]
#[path = "../../rollout/tests/scenarios/show.rs"]
mod show;

pub use coverage::Coverage;
pub use run::{Broken, Ran, Users, measure, run};
pub use scenario::Scenario;
