//! Finding a node and talking to it. Owns addresses, the search for a node, the dev node's record, the token and the
//! connection. Does not know what is asked of a node: that is each command's.

mod address;
mod connect;
mod dev;
mod search;

pub(crate) use address::Address;
pub(crate) use connect::{Client, Token, answer, answer_within, ask, next};
pub(crate) use search::{Found, Surroundings, search};
