//! One request: what its head must be, how it is answered, and what becomes of it when a host dies.

mod answers;
mod body;
pub(super) mod forward;
pub(super) mod head;
mod marks;
mod retry;
mod serve;

pub(super) use answers::{Answer, closing};
pub(super) use body::{CutOff, ResponseBody};
pub(super) use forward::Head;
pub(super) use marks::Marks;
pub(super) use retry::{Budget, Progress};
pub(super) use serve::begin;
