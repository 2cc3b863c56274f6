//! A `tower` service as a module, as `axum::Router` is one.

#[cfg(doc)]
use super::AsyncModule;
use super::{Body, Driver};
use crate::{Context, Error, Exchange, RawModule};
use core::fmt;
use http_body::Body as HttpBody;
use std::io;
use tokio::runtime::Runtime;
use tower_service::Service;

/// A module that is a [`tower_service::Service`] of HTTP requests, on a tokio runtime of its own: what makes an application
/// that is written for axum, or any other `tower` stack, a module. It is exported as [`Tower`]`<Self>`.
///
/// ```
/// # use hot_module::{Body, http};
/// # #[derive(Clone)] struct Router;
/// # impl tower_service::Service<http::Request<Body>> for Router {
/// #     type Response = http::Response<Body>;
/// #     type Error = std::convert::Infallible;
/// #     type Future = std::future::Ready<Result<Self::Response, Self::Error>>;
/// #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
/// #         std::task::Poll::Ready(Ok(()))
/// #     }
/// #     fn call(&mut self, _: http::Request<Body>) -> Self::Future { std::future::ready(Ok(http::Response::default())) }
/// # }
/// # fn router() -> Router { Router }
/// use hot_module::{Context, Error, Tower, TowerModule};
///
/// struct App(Router);
///
/// impl TowerModule for App {
///     type Service = Router;
///
///     async fn start(_: Context) -> Result<Self, Error> {
///         Ok(Self(router()))
///     }
///
///     fn service(&self) -> Router {
///         self.0.clone()
///     }
/// }
///
/// hot_module::export!(Tower<App>, version = "1.0.0", routes = ["/"]);
/// ```
pub trait TowerModule: Send + Sync + Sized + 'static {
    /// The service. Bodies stream both ways: see [`Body`].
    type Service: HttpService;

    /// As [`AsyncModule::start`].
    ///
    /// # Errors
    /// As [`AsyncModule::start`].
    fn start(context: Context) -> impl Future<Output = Result<Self, Error>> + Send;

    /// The service for one request: usually a cheap clone.
    fn service(&self) -> Self::Service;

    /// As [`Module::health`](crate::Module::health).
    ///
    /// # Errors
    /// As [`Module::health`](crate::Module::health).
    fn health(&self) -> impl Future<Output = Result<(), Error>> + Send {
        core::future::ready(Ok(()))
    }

    /// As [`AsyncModule::stop`].
    fn stop(&self) -> impl Future<Output = ()> + Send {
        core::future::ready(())
    }

    /// As [`AsyncModule::runtime`].
    ///
    /// # Errors
    /// As [`AsyncModule::runtime`].
    fn runtime() -> io::Result<Runtime> {
        super::default_runtime()
    }
}

/// A service of HTTP requests: every [`tower_service::Service`] with these types is one.
pub trait HttpService: Send + 'static {
    /// The body of its responses, which is sent frame by frame.
    type ResponseBody: HttpBody<Error: Into<Error>> + Send + 'static;

    /// Waits until the service is ready, and calls it.
    fn serve(
        self,
        request: http::Request<Body>,
    ) -> impl Future<Output = Result<http::Response<Self::ResponseBody>, Error>> + Send;
}

impl<S, B> HttpService for S
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error: Into<Error>, Future: Send>
        + Send
        + 'static,
    B: HttpBody<Error: Into<Error>> + Send + 'static,
{
    type ResponseBody = B;

    async fn serve(mut self, request: http::Request<Body>) -> Result<http::Response<B>, Error> {
        core::future::poll_fn(|task| self.poll_ready(task)).await.map_err(Into::into)?;
        self.call(request).await.map_err(Into::into)
    }
}

/// A [`TowerModule`] as a module.
pub struct Tower<M>(Driver<M>);

impl<M> fmt::Debug for Tower<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tower").finish_non_exhaustive()
    }
}

impl<M: TowerModule> RawModule for Tower<M> {
    fn start(context: &Context) -> Result<Self, Error> {
        Driver::start(M::runtime(), M::start(context.clone())).map(Self)
    }

    fn handle(&self, exchange: Exchange) -> Result<(), Error> {
        self.0.serve(exchange, |module, request| module.service().serve(request));
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
