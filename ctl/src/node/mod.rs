//! Finding a node and talking to it. Owns addresses, the search for a node, the dev nodes' records, the token, the
//! certificates, the connection, going to another node where there is one, and how long a call may take. Does not know what is asked of a node: that is each command's.

mod address;
mod connect;
mod credentials;
mod deadline;
mod dev;
mod owner;
mod route;
mod search;

pub(crate) use address::Address;
pub(crate) use connect::{Client, Token, next};
pub(crate) use deadline::Wait;
pub(crate) use search::{Found, SEVERAL_NODES, Surroundings, Wanted, contexts, search};
