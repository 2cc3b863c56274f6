//! The hop to the hosts: one link per thread and host, and the exchanges that it carries.

mod entry;
mod exchange;
mod link;
mod load;
mod outbox;
mod pieces;
pub(super) mod pump;
mod spares;
mod stream;
mod term;

pub(super) use entry::{Entry, Failure, Start};
pub(super) use exchange::{BodySender, Exchange, Kept, Over, Piece};
pub use link::LinkEnd;
pub(super) use link::{Link, Look};
pub(super) use load::Load;
pub(super) use spares::Spares;
pub(super) use stream::HostStream;
