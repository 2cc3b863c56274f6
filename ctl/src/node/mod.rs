//! Finding a node and talking to it. Owns addresses, the search for a node, the dev nodes' records, the token, the
//! connection and how long a call may take. Does not know what is asked of a node: that is each command's.

mod address;
mod connect;
mod deadline;
mod dev;
mod search;

pub(crate) use address::Address;
pub(crate) use connect::{Client, Token, answer, answer_after, ask, ask_after, next};
pub(crate) use deadline::Wait;
pub(crate) use search::{Found, SEVERAL_NODES, Surroundings, search};
