//! The store, tried hard. `kit` and `recorder` have what the tests share; each of the others is one kind of trouble.

mod damage;
mod failing;
mod flipped;
mod folders;
mod full;
mod kill;
mod kit;
mod plain;
mod power;
mod properties;
mod recorder;
mod uploads;
mod without;
