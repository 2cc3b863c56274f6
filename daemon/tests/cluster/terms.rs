//! Who leads, and that nobody else writes.

use futures_util::FutureExt as _;
use hot_rollout::Node;
use hotd::cluster::etcd::{Key, Keys, Lease, Stood, Term, Write, WriteError};
use std::time::Duration;

use super::{Rig, in_time, next};

const TTL: Duration = Duration::from_secs(2);

fn node(name: &str) -> Node {
    Node(name.to_owned())
}

fn module(name: &str) -> Key {
    Key::Module(name.parse().unwrap())
}

impl Rig {
    async fn stand(&self, name: &str, lease: &Lease) -> Stood {
        Term::stand(&self.connection, &self.keys, &node(name), lease.id()).await.unwrap()
    }

    async fn elected(&self, name: &str, lease: &Lease) -> Term {
        match self.stand(name, lease).await {
            Stood::Elected(term) => term,
            Stood::Other(other) => panic!("{other:?} leads"),
        }
    }

    async fn write(&self, term: &Term, writes: Vec<Write>) -> Result<i64, WriteError> {
        term.write(&self.connection, &self.keys, writes).await
    }

    async fn value(&self, key: &Key) -> Option<String> {
        let found = self.connection.get(&self.keys.of(key)).await.unwrap()?;
        Some(String::from_utf8(found.value).unwrap())
    }

    async fn lease(&self) -> Lease {
        Lease::grant(&self.connection, TTL).await.unwrap()
    }
}

fn put(key: &Key, value: &str) -> Write {
    Write::Put(key.clone(), value.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_the_others_hear_who() {
    let rig = Rig::new();
    let (a, b) = (rig.lease().await, rig.lease().await);
    let term = rig.elected("a", &a).await;
    let Stood::Other(found) = rig.stand("b", &b).await else { panic!("two lead") };
    assert_eq!(found.value, br#"{"node":"a"}"#);
    assert_eq!(rig.elected("a", &a).await, term, "an answer that was lost is asked for again");
    term.resign(&rig.connection).await.unwrap();
    rig.elected("b", &b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_lost_its_lease_writes_nothing() {
    let rig = Rig::new();
    let lease = rig.lease().await;
    let old = rig.elected("a", &lease).await;
    let key = module("greeter");
    rig.write(&old, vec![put(&key, "by a")]).await.unwrap();
    let mut watch = rig.watch(&rig.keys.of(&Key::Leader));
    assert_eq!(next(&mut watch).await, format!("{}={{\"node\":\"a\"}}", rig.keys.of(&Key::Leader)));
    assert_eq!(next(&mut watch).await, "listed");
    // As a process that is stopped: it renews nothing, and believes what it believed.
    drop(lease);
    assert_eq!(next(&mut watch).await, format!("-{}", rig.keys.of(&Key::Leader)));
    let refused = rig.write(&old, vec![put(&key, "by a again")]).await.unwrap_err();
    assert!(matches!(refused, WriteError::Deposed { epoch } if epoch == old.epoch()), "{refused}");
    let other = rig.lease().await;
    let new = rig.elected("b", &other).await;
    assert!(new.epoch() > old.epoch());
    rig.write(&new, vec![put(&key, "by b")]).await.unwrap();
    for write in [put(&key, "by a again"), Write::Delete(key.clone()), Write::Create(module("x"), vec![])] {
        let refused = rig.write(&old, vec![write]).await.unwrap_err();
        assert!(matches!(refused, WriteError::Deposed { .. }), "{refused}");
    }
    assert_eq!(rig.value(&key).await.as_deref(), Some("by b"));
    assert_eq!(rig.value(&module("x")).await, None);
    old.resign(&rig.connection).await.unwrap();
    rig.write(&new, vec![put(&key, "by b still")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_created_is_created_once_and_all_or_nothing() {
    let rig = Rig::new();
    let lease = rig.lease().await;
    let term = rig.elected("a", &lease).await;
    let release = Key::Release("greeter".parse().unwrap(), 1);
    let create = || Write::Create(release.clone(), b"first".to_vec());
    rig.write(&term, vec![create(), put(&module("greeter"), "1")]).await.unwrap();
    let refused = rig.write(&term, vec![put(&module("greeter"), "2"), create()]).await.unwrap_err();
    let name = rig.keys.of(&release);
    assert!(matches!(&refused, WriteError::Exists { key } if *key == name), "{refused}");
    assert_eq!(rig.value(&module("greeter")).await.as_deref(), Some("1"));
    rig.write(&term, vec![Write::Delete(release.clone())]).await.unwrap();
    assert_eq!(rig.value(&release).await, None);
}

/// A write whose answer was lost may be on its way still, when its leader has long written something later.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_was_lost_is_made_before_the_next_one_or_never() {
    let rig = Rig::new();
    let lease = rig.lease().await;
    // Of two who lead by the same term, one is as a write of the other that is still under way.
    let late = rig.elected("a", &lease).await;
    let term = rig.elected("a", &lease).await;
    let (key, other) = (module("greeter"), module("other"));
    rig.write(&late, vec![put(&key, "1")]).await.unwrap();
    rig.write(&term, vec![put(&key, "2"), Write::Delete(other.clone())]).await.unwrap();
    for write in [put(&key, "late"), Write::Delete(key.clone()), Write::Create(other.clone(), vec![])] {
        // Another one under way makes that the next one does not know, either.
        let late = late.clone();
        let refused = rig.write(&late, vec![write]).await.unwrap_err();
        assert!(matches!(refused, WriteError::Overtaken), "{refused}");
        rig.write(&rig.elected("a", &lease).await, vec![]).await.unwrap();
    }
    assert_eq!(rig.value(&key).await.as_deref(), Some("2"));
    assert_eq!(rig.value(&other).await, None);
    // Whoever was refused knows by then what there is.
    assert!(matches!(rig.write(&late, vec![put(&key, "3")]).await, Err(WriteError::Overtaken)));
    rig.write(&late, vec![put(&key, "3")]).await.unwrap();
    assert_eq!(rig.value(&key).await.as_deref(), Some("3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_nobody_waited_for_is_fenced_off_by_the_next_one() {
    let rig = Rig::new();
    let lease = rig.lease().await;
    let term = rig.elected("a", &lease).await;
    let (name, key) = (rig.keys.of(&Key::Leader), module("greeter"));
    let leader = async || rig.connection.get(&name).await.unwrap().unwrap();
    rig.write(&term, vec![put(&key, "1")]).await.unwrap();
    let elected = leader().await;
    assert_eq!(
        (elected.created, elected.modified),
        (term.epoch(), term.epoch()),
        "no write more than is needed"
    );
    assert!(rig.write(&term, vec![put(&key, "2")]).now_or_never().is_none(), "it is dropped while it waits");
    rig.write(&term, vec![put(&key, "3")]).await.unwrap();
    let fenced = leader().await;
    assert!(fenced.modified > elected.modified);
    assert_eq!(
        (fenced.created, fenced.lease, &fenced.value),
        (elected.created, elected.lease, &elected.value)
    );
    rig.write(&term, vec![put(&key, "4")]).await.unwrap();
    assert_eq!(leader().await, fenced);
    assert_eq!(rig.value(&key).await.as_deref(), Some("4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_before_etcd() {
    let rig = Rig::new();
    let lease = rig.lease().await;
    let term = rig.elected("a", &lease).await;
    let key = module("greeter");
    rig.write(&term, vec![Write::Put(key.clone(), vec![b'x'; 1024 * 1024])]).await.unwrap();
    let refused = rig.write(&term, vec![Write::Put(key, vec![b'x'; 1024 * 1024 + 1])]).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("1048577 bytes") && text.contains("fleet/modules/greeter"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_fleets_share_an_etcd() {
    let rig = Rig::new();
    let lease = rig.lease().await;
    rig.elected("a", &lease).await;
    let other = Keys::new("other");
    let stood = in_time(Term::stand(&rig.connection, &other, &node("b"), lease.id())).await.unwrap();
    assert!(matches!(stood, Stood::Elected(_)));
}
