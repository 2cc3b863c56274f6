//! The real binaries under test: what starts nodes, builds modules that misbehave, makes load, and looks on.
//!
//! Owns how the end-to-end tests (`tests/tests/`) and the demo (`src/bin/hot-demo.rs`) handle `hotd`, `hot-spawn`,
//! `hot-host` and `hotctl`: as processes, by their command lines, their JSON and their HTTP. It links none of them and
//! stands in for none of them. What `hotctl` would not send goes by gRPC. Everything here waits with a deadline and for an event, and what it starts ends with it.
//!
//! Errors are `anyhow`: whoever reads them is a person in front of a failed test.

#![forbid(unsafe_code)]

mod binaries;
mod calls;
mod changes;
mod cut;
mod daemon;
mod etcd;
mod fleet;
mod follow;
mod harm;
mod hosts;
mod hotctl;
mod http;
mod keys;
mod liar;
mod link;
mod load;
mod marker;
mod modules;
mod node;
pub mod order;
mod preload;
mod process;
mod sending;
mod series;
mod service;
mod skip;
mod status;
mod store;
pub mod trace;
mod witness;

pub use binaries::Binaries;
pub use calls::{Door, plan, start, upload_refused};
pub use changes::{Change, check_terms, most_told};
pub use cut::{Cut, Point};
pub use etcd::Etcd;
pub use fleet::{Fleet, LEASE};
pub use follow::Follow;
pub use harm::{Harm, Steps};
pub use hosts::{Host, Hosts, alone};
pub use hotctl::{BUILD, Hotctl, Output, pki, run, run_for, text};
pub use http::{Reply, Request, exchange, exchange_h2, get, raw};
pub use keys::Key;
pub use liar::{Gives, Liar};
pub use link::Link;
pub use load::{Counts, Failure, Load, LoadOptions, Pace, Window};
pub use marker::Marker;
pub use modules::{Module, built, example, has_cpp, panics, target};
pub use node::{Events, Node, NodeOptions, Refusal, WAIT};
pub use preload::clock_ahead;
pub use process::{Holds, Process, within};
pub use sending::{Crowd, Sending, abandon, remove_and_leave};
pub use series::Series;
pub use service::Service;
pub use skip::skipped;
pub use status::{
    Ended, Event, Instance, ModuleNode, ModuleStatus, Problem, Release, Rollback, Rollout, RolloutModule,
    Status, Swap, SwapWindow,
};
pub use store::{Artifact, Stencil, sha256};
pub use witness::{Seen, Witness};
