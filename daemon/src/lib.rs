//! hotd as a library: one module for each room of the daemon.
#![forbid(unsafe_code)]

pub mod agent;
pub mod args;
mod clock;
pub mod cluster;
pub mod config;
pub mod descriptors;
pub mod dev;
pub mod driver;
pub mod gateway;
pub mod grpc;
mod held;
pub mod isolation;
pub mod journal;
pub mod ledger;
mod listeners;
mod near;
pub mod node;
mod place;
#[cfg(test)]
mod small_disk;
mod stamp;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod tls;
pub mod trust;
mod untold;

/// Runs what blocks, as on the disk, beside the executor's threads. A panic in it goes on here.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Goes on to the end of `work` also where nobody waits for it any more, as when a caller goes away: what is on the disk
/// by then is told of all the same. A panic in it goes on here.
pub(crate) async fn to_its_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The executor ends, and whoever waits here with it.
        Err(Err(_cancelled)) => std::future::pending().await,
    }
}

/// The error and its causes in one line, outermost first, each said once: layers that repeat their cause are not
/// repeated.
#[must_use]
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let layer = error.to_string();
        if !text.contains(&layer) {
            text = format!("{text}: {layer}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn what_goes_to_its_end_does_so_without_whoever_waited() {
        let (go_on, may_go_on) = oneshot::channel();
        let (done, is_done) = oneshot::channel();
        let work = super::to_its_end(async move {
            may_go_on.await.unwrap();
            done.send(()).unwrap();
        });
        tokio::select! {
            biased;
            () = work => panic!("it waits"),
            () = tokio::task::yield_now() => {}
        }
        go_on.send(()).unwrap();
        is_done.await.unwrap();
    }
}
