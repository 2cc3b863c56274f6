//! What a fleet shares, with a real etcd: watches, leases and leadership through its restarts, stops and compactions.

#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod leases;
mod terms;
mod watches;

use std::time::Duration;

use etcd_client::{CompactionOptions, DeleteOptions, PutOptions, Txn, TxnOp};
use hot_tests::{Etcd, Link};
use hotd::cluster::etcd::{Connection, Keys, News, Settings, Watch};

/// The longest that anything here takes.
const WAIT: Duration = Duration::from_secs(40);

/// An etcd, and what is done with it.
struct Rig {
    etcd: Etcd,
    connection: Connection,
    keys: Keys,
}

impl Rig {
    fn new() -> Self {
        Self::of(Etcd::start().unwrap())
    }

    fn of(etcd: Etcd) -> Self {
        let connection = connect(&etcd);
        Self { etcd, connection, keys: Keys::new("hot") }
    }

    async fn put(&self, key: &str, value: &str) -> i64 {
        self.put_with(key, value, 0).await
    }

    async fn put_with(&self, key: &str, value: &str, lease: i64) -> i64 {
        let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)));
        let done = self.connection.commit(Txn::new().and_then([put])).await.unwrap();
        done.header().unwrap().revision()
    }

    async fn delete(&self, key: &str) {
        let delete = TxnOp::delete(key, Some(DeleteOptions::new()));
        self.connection.commit(Txn::new().and_then([delete])).await.unwrap();
    }

    async fn compact(&self, revision: i64) {
        let mut client = etcd_client::Client::connect(self.etcd.endpoints(), None).await.unwrap();
        client.compact(revision, Some(CompactionOptions::new().with_physical())).await.unwrap();
    }

    /// A link to its only member, and a connection by way of it.
    fn link(&self) -> (Link, Connection) {
        let address = self.etcd.endpoints()[0].strip_prefix("http://").unwrap().parse().unwrap();
        let link = Link::to(address).unwrap();
        let endpoints = vec![format!("http://{}", link.address())];
        (link, Connection::new(Settings { endpoints, tls: None, user: None }))
    }

    /// Puts as often as it takes: members elect a leader in between.
    async fn put_until(&self, key: &str, value: &str) {
        loop {
            let put = TxnOp::put(key, value, None);
            if self.connection.commit(Txn::new().and_then([put])).await.is_ok() {
                return;
            }
        }
    }

    fn watch(&self, prefix: &str) -> Watch {
        Watch::start(self.connection.clone(), prefix.to_owned())
    }
}

fn connect(etcd: &Etcd) -> Connection {
    Connection::new(Settings { endpoints: etcd.endpoints(), tls: None, user: None })
}

/// The next word in text: `key=value`, `-key`, `listed`, `silent` or `heard`. What is no news for people is left out.
async fn next(watch: &mut Watch) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let news = async {
        loop {
            match watch.next().await {
                News::Broken | News::Resumed | News::StillSilent(_) => {}
                news => return news,
            }
        }
    };
    match in_time(news).await {
        News::Put(found) => format!("{}={}", text(&found.key), text(&found.value)),
        News::Gone(key) => format!("-{}", text(&key)),
        News::Listed => "listed".to_owned(),
        News::Silent(_) | News::StillSilent(_) => "silent".to_owned(),
        News::Heard => "heard".to_owned(),
        News::Broken | News::Resumed => unreachable!(),
    }
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT, what).await.expect("in time")
}
