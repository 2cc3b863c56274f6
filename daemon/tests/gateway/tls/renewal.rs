//! Another certificate takes the place of the one before.

use hotd::gateway::GatewayConfig;
use hotd::journal::Journal;
use hotd::store::{Options, Sequenced, Store};
use tokio::sync::broadcast::Receiver;
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use super::rig::Secure;
use crate::rig::PATIENCE;

/// The next that is told.
async fn next(told: &mut Receiver<Sequenced>) -> String {
    let next = tokio::time::timeout(PATIENCE, told.recv()).await;
    next.expect("it is told in time").expect("nothing is missed").event.kind
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_connects_is_shown_the_newest_that_can_be_used_and_nobody_is_cut_off() {
    let secure = Secure::new(GatewayConfig::default());
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = Store::open(folder.path(), Options::default()).expect("a store");
    let journal = Journal::new(store);
    let (mut told, stopped) = (journal.follow(), CancellationToken::new());
    let watching = tokio::spawn(secure.files.clone().watch(journal, stopped.clone()));

    let mut before = block_in_place(|| secure.client());
    let first = before.seen();
    let second = secure.authority.renew();
    assert_eq!(next(&mut told).await, "tls.renewed");
    let mut after = block_in_place(|| secure.client());
    assert_ne!(first, second);
    assert_eq!(after.seen(), second);

    let files = secure.authority.files();
    secure.authority.put(&files.certificate, "no certificate");
    assert_eq!(next(&mut told).await, "tls.refused");
    let mut meanwhile = block_in_place(|| secure.client());
    assert_eq!(meanwhile.seen(), second);

    let third = secure.authority.renew();
    assert_eq!(next(&mut told).await, "tls.renewed");
    let mut last = block_in_place(|| secure.client());
    assert_eq!(last.seen(), third);
    block_in_place(|| {
        for client in [&mut before, &mut after, &mut meanwhile, &mut last] {
            assert_eq!(client.get("/-/live").status, 200);
        }
    });
    stopped.cancel();
    watching.await.expect("it ends");
}
