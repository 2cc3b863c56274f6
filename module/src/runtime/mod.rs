//! Modules with a runtime of their own (features `async` and `tower`): exchanges as `http` requests and responses, whose
//! bodies come and go frame by frame.
//!
//! No thread waits for a client. Where a call would have to wait, its task sleeps until the host's `notify` wakes it; the
//! same tells it that its client is gone or its deadline has passed, and its handler is dropped then.

mod body;
mod link;
mod notice;
mod pipe;
mod serve;
#[cfg(feature = "tower")]
mod tower;

pub use body::Body;
pub use pipe::BodyWriter;
pub use serve::{Deadline, Peer};
#[cfg(feature = "tower")]
pub use tower::{HttpService, Tower, TowerModule};

use crate::sdk::Notify;
use crate::{Context, Error, Exchange, RawModule};
use core::fmt;
use core::time::Duration;
use std::format;
use std::io;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime, RuntimeFlavor};

/// How long tasks that are left may take when a module stops. The host leaves a quarter of its grace for a stop.
const STOP: Duration = Duration::from_secs(1);

/// A module whose handlers are futures, on a tokio runtime of its own. It is exported as [`Async`]`<Self>`.
///
/// ```
/// use hot_module::{Async, AsyncModule, Body, Context, Error, http};
///
/// struct Echo;
///
/// impl AsyncModule for Echo {
///     async fn start(_: Context) -> Result<Self, Error> {
///         Ok(Self)
///     }
///
///     async fn handle(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Error> {
///         Ok(http::Response::new(request.into_body())) // streams back what comes, as it comes
///     }
/// }
///
/// hot_module::export!(Async<Echo>, version = "1.0.0", routes = ["/echo"]);
/// ```
pub trait AsyncModule: Send + Sync + Sized + 'static {
    /// Makes the module, on its runtime, where it may spawn tasks. The instance is not ready before it returns.
    ///
    /// # Errors
    /// Whatever keeps it from serving; the text becomes the reason of a failed start.
    fn start(context: Context) -> impl Future<Output = Result<Self, Error>> + Send;

    /// Answers one request. It is dropped at its next `await` when the client is gone or the deadline has passed.
    ///
    /// The request has a [`Peer`] and a [`Deadline`] among its extensions.
    ///
    /// # Errors
    /// As [`Module::handle`](crate::Module::handle).
    fn handle(
        &self,
        request: http::Request<Body>,
    ) -> impl Future<Output = Result<http::Response<Body>, Error>> + Send;

    /// As [`Module::health`](crate::Module::health).
    ///
    /// # Errors
    /// As [`Module::health`](crate::Module::health).
    fn health(&self) -> impl Future<Output = Result<(), Error>> + Send {
        core::future::ready(Ok(()))
    }

    /// The end: no exchange is left and none will come. Tasks that still run a second later are dropped.
    fn stop(&self) -> impl Future<Output = ()> + Send {
        core::future::ready(())
    }

    /// The runtime: tokio's own choice, with a worker thread per core, unless this says otherwise. It must have threads of
    /// its own: one that runs on its caller's would run only during `start`, `health` and `stop`, and is refused.
    ///
    /// # Errors
    /// If its threads can't be made.
    fn runtime() -> io::Result<Runtime> {
        default_runtime()
    }
}

/// An [`AsyncModule`] as a module.
pub struct Async<M>(Driver<M>);

impl<M> fmt::Debug for Async<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Async").finish_non_exhaustive()
    }
}

impl<M: AsyncModule> RawModule for Async<M> {
    fn start(context: &Context) -> Result<Self, Error> {
        Driver::start(M::runtime(), M::start(context.clone())).map(Self)
    }

    fn handle(&self, exchange: Exchange) -> Result<(), Error> {
        self.0.serve(exchange, |module, request| async move { module.handle(request).await });
        Ok(())
    }

    fn health(&self) -> Result<(), Error> {
        self.0.block_on(|module| module.health())
    }

    fn stop(self) {
        self.0.block_on(|module| module.stop());
        self.0.end();
    }
}

fn default_runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().thread_name("module").build()
}

/// A module on its runtime.
struct Driver<M> {
    module: Arc<M>,
    runtime: Runtime,
    notify: Notify,
}

impl<M: Send + Sync + 'static> Driver<M> {
    fn start(
        runtime: io::Result<Runtime>,
        module: impl Future<Output = Result<M, Error>>,
    ) -> Result<Self, Error> {
        let notify = link::notify()?;
        let runtime = runtime.map_err(|error| format!("the module's runtime can't be made: {error}"))?;
        if runtime.handle().runtime_flavor() == RuntimeFlavor::CurrentThread {
            return Err(
                "the module's runtime has no threads of its own; build it with new_multi_thread".into()
            );
        }
        let module = Arc::new(runtime.block_on(module)?);
        Ok(Self { module, runtime, notify })
    }

    fn serve<F, B>(
        &self,
        exchange: Exchange,
        handle: impl FnOnce(Arc<M>, http::Request<Body>) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<http::Response<B>, Error>> + Send + 'static,
        B: http_body::Body<Error: Into<Error>> + Send + 'static,
    {
        let module = Arc::clone(&self.module);
        self.runtime.spawn(serve::serve(exchange, self.notify, |request| handle(module, request)));
    }

    fn block_on<'a, F: Future>(&'a self, call: impl FnOnce(&'a M) -> F) -> F::Output {
        self.runtime.block_on(call(&self.module))
    }

    fn end(self) {
        self.runtime.shutdown_timeout(STOP);
    }
}
