//! A lease: what is written with it is gone when this node is.
//!
//! Whoever holds it knows by its own clock when it can't be sure any more, which is before etcd lets go: the time of a
//! lease counts from the moment at which its renewal was asked for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use etcd_client::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::connection::{Connection, EtcdError};

/// Renewals that may be lost before the lease is.
const TRIES: u32 = 3;

/// A lease, renewed until this is dropped.
#[derive(Debug)]
pub struct Lease {
    id: i64,
    connection: Connection,
    held: Arc<Held>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Held {
    /// Until when etcd surely keeps it.
    until: Mutex<Instant>,
    lost: CancellationToken,
}

impl Lease {
    /// Takes a lease of `ttl`, which is whole seconds.
    ///
    /// # Errors
    /// etcd can't be reached, or refuses.
    pub async fn grant(connection: &Connection, ttl: Duration) -> Result<Self, EtcdError> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let asked = Instant::now();
        let granted =
            connection.call(|client| async move { client.lease_client().grant(seconds, None).await }).await?;
        let id = granted.id();
        let held = Arc::new(Held { until: Mutex::new(asked + ttl), lost: CancellationToken::new() });
        let task = tokio::spawn(keep(connection.clone(), id, asked, ttl, Arc::clone(&held)));
        let connection = connection.clone();
        Ok(Self { id, connection, held, _task: AbortOnDropHandle::new(task) })
    }

    /// Its number in etcd.
    #[must_use]
    pub const fn id(&self) -> i64 {
        self.id
    }

    /// Whether etcd surely keeps it at this moment. A process that was stopped for long knows at once that it is not so.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.held.lost.is_cancelled() && Instant::now() < self.held.until()
    }

    /// Returns when it is lost, and stays so.
    pub async fn lost(&self) {
        self.held.lost.cancelled().await;
    }

    /// Gives it back, and with it all that was written with it.
    ///
    /// # Errors
    /// etcd can't be reached: it ends by its time.
    pub async fn revoke(self) -> Result<(), EtcdError> {
        let id = self.id;
        self.connection.call(|client| async move { client.lease_client().revoke(id).await }).await?;
        Ok(())
    }
}

impl Held {
    fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, until: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// Renews the lease, which was asked for at that moment, until it is lost.
async fn keep(connection: Connection, id: i64, asked: Instant, ttl: Duration, held: Arc<Held>) {
    let pause = ttl / TRIES;
    // An etcd that was slow to give it has left less of it.
    let mut next = asked + pause;
    loop {
        tokio::time::sleep_until(next.min(held.until()).into()).await;
        let asked = Instant::now();
        // After a pause of the whole process nothing is known, and to renew it would only seem to mend that.
        if asked >= held.until() {
            break;
        }
        let left = held.until().saturating_duration_since(asked);
        match tokio::time::timeout(pause.min(left), renew(&connection, id)).await {
            Ok(Ok(true)) => {
                held.set(asked + ttl);
                next = asked + pause;
            }
            Ok(Ok(false)) => break,
            Ok(Err(_)) => next = Instant::now() + pause / 4,
            Err(_elapsed) => {
                connection.forget(connection.made()).await;
                next = Instant::now();
            }
        }
    }
    held.lost.cancel();
}

/// Renews once. `false`: etcd does not have it any more.
async fn renew(connection: &Connection, id: i64) -> Result<bool, EtcdError> {
    let keep = |client: Client| async move {
        match client.lease_client().keep_alive(id).await {
            Ok(_stream) => Ok(true),
            // The library's words for a time to live of 0, which it takes for an error.
            Err(etcd_client::Error::LeaseKeepAliveError(text)) if text.contains("not found") => Ok(false),
            Err(error) => Err(error),
        }
    };
    connection.call(keep).await
}
