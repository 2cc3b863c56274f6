//! The store, tried hard. `kit` has what the tests share; each of the others is one kind of trouble.

mod kit;
mod plain;
mod power;
mod recorder;
