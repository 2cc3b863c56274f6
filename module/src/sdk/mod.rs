//! The safe Rust side of the contract: implement [`Module`], name it in [`export!`](crate::export), build a `cdylib`.
//!
//! Nothing a module does with it can break the contract's rules: an [`Exchange`] that is dropped is aborted, borrowed
//! bytes can't outlive it, and a panic ends at the boundary as an aborted exchange.

#[cfg(feature = "log")]
mod bridge;
mod calls;
#[cfg(feature = "config")]
mod config;
mod context;
mod entry;
mod error;
mod exchange;
mod export;
pub mod metrics;
mod query;
mod request;
mod response;
mod services;

#[cfg(feature = "log")]
pub use bridge::log_to_host;
pub use calls::CallError;
#[cfg(feature = "config")]
pub use config::ConfigError;
pub use context::Context;
pub use entry::table;
pub use error::{Error, OrStatus, StatusError};
pub use exchange::{Exchange, Header, Headers, Reader, Writer};
pub use metrics::{Counter, Gauge, Histogram, Labelled, Timer};
pub use request::Request;
pub use response::Response;
pub use services::{Level, log, now};

#[cfg(feature = "async")]
pub(crate) use {
    calls::check,
    error::{Verdict, chain, judge, panicked},
    response::send,
    services::{Notify, services},
};

/// A module that answers requests. One value serves all of an instance, many at a time, each on a thread of the host's.
///
/// `Async` and `Tower` (features `async` and `tower`) are for modules with a runtime of their own; [`RawModule`] is the
/// level below all three.
///
/// ```
/// use hot_module::{Context, Error, Module, Request, Response};
///
/// struct Greeter;
///
/// impl Module for Greeter {
///     fn start(_: &Context) -> Result<Self, Error> {
///         Ok(Self)
///     }
///
///     fn handle(&self, request: &mut Request) -> Result<Response, Error> {
///         let name = request.param("name").unwrap_or("world".into());
///         Ok(Response::text(format!("hello {name}\n")))
///     }
/// }
///
/// hot_module::export!(Greeter, version = "1.0.0", routes = ["/greet"]);
/// # fn main() {}
/// ```
pub trait Module: Send + Sync + Sized + 'static {
    /// Makes the module from its config. The instance is not ready before it returns.
    ///
    /// # Errors
    /// Whatever keeps it from serving; the text becomes the reason of a failed start.
    fn start(context: &Context) -> Result<Self, Error>;

    /// Answers one request. It may block.
    ///
    /// # Errors
    /// A [`StatusError`] answers with its status and text. Any other error is a 500 that tells the client nothing and is
    /// logged with its causes. So is a panic.
    fn handle(&self, request: &mut Request) -> Result<Response, Error>;

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

/// A module at the level of the contract: it gets each [`Exchange`] and ends it, here or later on any thread.
///
/// Every [`Module`] is one. Implement this instead of it to answer from threads of your own, or to read and write a body
/// in turns without a closure.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a module",
    note = "implement `hot_module::Module` for it, or `hot_module::RawModule`; an `AsyncModule` is exported as \
            `hot_module::Async<{Self}>`, a `TowerModule` as `hot_module::Tower<{Self}>`"
)]
pub trait RawModule: Send + Sync + Sized + 'static {
    /// As [`Module::start`].
    ///
    /// # Errors
    /// As [`Module::start`].
    fn start(context: &Context) -> Result<Self, Error>;

    /// Answers one exchange, or hands it to a thread of the module's own that does.
    ///
    /// # Errors
    /// An error is logged. The exchange, if it was dropped by then, was aborted: 500.
    fn handle(&self, exchange: Exchange) -> Result<(), Error>;

    /// As [`Module::health`].
    ///
    /// # Errors
    /// As [`Module::health`].
    fn health(&self) -> Result<(), Error> {
        Ok(())
    }

    /// As [`Module::stop`].
    fn stop(self) {}
}

impl<M: Module> RawModule for M {
    fn start(context: &Context) -> Result<Self, Error> {
        Module::start(context)
    }

    fn handle(&self, exchange: Exchange) -> Result<(), Error> {
        exchange.answer(|request| Module::handle(self, request));
        Ok(())
    }

    fn health(&self) -> Result<(), Error> {
        Module::health(self)
    }

    fn stop(self) {
        Module::stop(self);
    }
}
