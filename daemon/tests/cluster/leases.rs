//! A lease is kept, and its holder knows before etcd does when it can't be sure of it.

use std::time::{Duration, Instant};

use hotd::cluster::etcd::Lease;

use super::{Rig, in_time, next};

const TTL: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_with_it_lives_as_long_as_it_is_held() {
    let rig = Rig::new();
    let lease = Lease::grant(&rig.connection, TTL).await.unwrap();
    let mut watch = rig.watch("a/");
    assert_eq!(next(&mut watch).await, "listed");
    rig.put_with("a/1", "one", lease.id()).await;
    assert_eq!(next(&mut watch).await, "a/1=one");
    // Through two of its lives nothing is heard of its end.
    assert!(tokio::time::timeout(2 * TTL, next(&mut watch)).await.is_err());
    assert!(lease.is_held());
    drop(lease);
    assert_eq!(next(&mut watch).await, "-a/1");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_given_back_ends_at_once() {
    let rig = Rig::new();
    let lease = Lease::grant(&rig.connection, Duration::from_secs(3600)).await.unwrap();
    rig.put_with("a/1", "one", lease.id()).await;
    lease.revoke().await.unwrap();
    assert_eq!(rig.connection.get("a/1").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_its_holder_knows_by_its_own_clock() {
    let rig = Rig::new();
    let (link, connection) = rig.link();
    let lease = Lease::grant(&connection, TTL).await.unwrap();
    rig.put_with("a/1", "one", lease.id()).await;
    link.stall();
    let cut = Instant::now();
    in_time(lease.lost()).await;
    assert!(!lease.is_held());
    assert!(cut.elapsed() <= 2 * TTL, "by its own clock: {:?}", cut.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_etcd_ended_is_lost_at_the_next_renewal() {
    let rig = Rig::new();
    let ttl = Duration::from_secs(9);
    let lease = Lease::grant(&rig.connection, ttl).await.unwrap();
    let mut client = etcd_client::Client::connect(rig.etcd.endpoints(), None).await.unwrap();
    client.lease_revoke(lease.id()).await.unwrap();
    let asked = Instant::now();
    in_time(lease.lost()).await;
    assert!(asked.elapsed() < ttl / 2, "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_etcd_in_between_costs_nothing() {
    let mut rig = Rig::new();
    let lease = Lease::grant(&rig.connection, Duration::from_secs(9)).await.unwrap();
    rig.put_with("a/1", "one", lease.id()).await;
    rig.etcd.kill(0).unwrap();
    rig.etcd.restart(0).unwrap();
    let mut renewals = 0;
    // Held past the time that it would have had without a renewal.
    while renewals < 2 {
        let still = tokio::time::timeout(Duration::from_secs(5), lease.lost()).await;
        assert!(still.is_err() && lease.is_held());
        renewals += 1;
    }
    assert!(rig.connection.get("a/1").await.unwrap().is_some());
}
