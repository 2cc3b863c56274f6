//! The safe Rust side of the contract: implement [`Module`], name it in [`export!`](crate::export), build a `cdylib`.
//!
//! Nothing a module does with it can break the contract's rules: an [`Exchange`] that is dropped is aborted, borrowed
//! bytes can't outlive it, and a panic ends at the boundary as an aborted exchange.

mod calls;
mod entry;
mod exchange;
mod export;
mod services;

pub use calls::CallError;
pub use entry::table;
pub use exchange::{Exchange, Header, Headers, Reader, Writer};
pub use services::{Level, log, now};

use std::boxed::Box;

/// What a module's own functions may fail with: anything that `?` takes.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A module. One value serves all exchanges of an instance, many at a time.
pub trait Module: Send + Sync + Sized + 'static {
    /// Makes the module from its config. The instance is not ready before it returns.
    ///
    /// # Errors
    /// Whatever keeps it from serving; the text becomes the reason of a failed start.
    fn start(context: &Context) -> Result<Self, Error>;

    /// Answers one exchange, or hands it to a thread of the module's own that does.
    ///
    /// # Errors
    /// An error is logged. The exchange, which was dropped by then, is aborted: 500.
    fn handle(&self, exchange: Exchange) -> Result<(), Error>;

    /// Whether this instance can serve. Called every few seconds, one call at a time, with a deadline.
    ///
    /// # Errors
    /// Why it cannot.
    fn health(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The end: no exchange is left and none will come. Threads of the module end here.
    fn stop(self) {}
}

/// What a module gets at its start.
#[derive(Debug)]
pub struct Context {
    config: &'static [u8],
}

impl Context {
    /// The release's config as it was pushed; empty if there is none.
    #[must_use]
    pub const fn config(&self) -> &'static [u8] {
        self.config
    }
}
