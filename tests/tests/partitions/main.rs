//! Five nodes and three members of an etcd, each on a host of its own, under load, with a good and a bad push: what
//! becomes of them when something dies, stands still, or can't be reached. A [`rig::Rig`] has what holds in each of these.

mod away;
mod clocks;
mod etcd;
mod leader;
mod restarts;
mod rig;
