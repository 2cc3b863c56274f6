//! Leadership: one node's word counts, and etcd itself refuses that of any other.
//!
//! The leader's key is written with its lease, and the revision at which the key came to be is the leader's epoch: it grows
//! from leader to leader. All that a leader writes is written only if that key still has that epoch, in one transaction,
//! so that one which was paused past its lease can't write, whatever it believes.
//!
//! A write whose answer was lost may still be under way. The next one writes the leader's key anew, which changes its
//! revision, and every write compares that, too: whatever was under way is made before that or never. Who should stand
//! when is not known here.

use std::sync::Arc;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse};
use hot_rollout::Node;
use tokio::sync::Mutex;

use super::connection::{Connection, EtcdError, Found, bounded};
use super::keys::{Key, Keys};

/// Operations that etcd takes in one transaction.
pub const MAX_OPERATIONS: usize = 128;

/// A time in which one node leads; clones are the same.
#[derive(Clone, Debug)]
pub struct Term {
    /// The name of the leader's key.
    key: String,
    epoch: i64,
    /// The revision at which that key was written last, which no write under way compares. None: one may be under way. Held
    /// while one is.
    fence: Arc<Mutex<Option<i64>>>,
}

impl PartialEq for Term {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, self.epoch) == (&other.key, other.epoch)
    }
}

impl Eq for Term {}

/// Who leads, as the key says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Leader {
    /// The node.
    pub node: Node,
}

/// What came of standing for leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stood {
    /// We lead.
    Elected(Term),
    /// Somebody else does.
    Other(Found),
}

/// Why a leader's write was not made.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Nobody could be asked, or may be.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// Another node leads by now, or none.
    #[error("this node does not lead any more (its epoch was {epoch}), so etcd refused the write")]
    Deposed {
        /// The epoch that has ended.
        epoch: i64,
    },
    /// What was to be so is not so.
    #[error("{key} is there already")]
    Exists {
        /// Its name.
        key: String,
    },
    /// A write of the same leader whose answer was lost was made meanwhile. It is over: the same again goes well.
    #[error("an earlier write of this leader was made only now, so etcd refused this one")]
    Overtaken,
}

/// One write of a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The key has this value from now on.
    Put(Key, Vec<u8>),
    /// The key has this value from now on, unless it is there.
    Create(Key, Vec<u8>),
    /// The key is gone from now on.
    Delete(Key),
}

impl Term {
    /// Stands for leader with a lease. Who leads already by that lease, as where the answer to an earlier try was lost,
    /// leads on. A leader's key without a lease is taken away, and the next who stands is elected.
    ///
    /// # Errors
    /// etcd can't be reached, or refuses.
    pub async fn stand(
        connection: &Connection,
        keys: &Keys,
        node: &Node,
        lease: i64,
    ) -> Result<Stood, EtcdError> {
        let key = keys.of(&Key::Leader);
        let value = serde_json::json!({ "node": node }).to_string();
        let put = TxnOp::put(key.clone(), value, Some(PutOptions::new().with_lease(lease)));
        let txn = Txn::new()
            .when([Compare::create_revision(key.clone(), CompareOp::Equal, 0)])
            .and_then([put])
            .or_else([TxnOp::get(key.clone(), None)]);
        let done = connection.commit(txn).await?;
        if done.succeeded() {
            let epoch = done.header().map_or(0, etcd_client::ResponseHeader::revision);
            return Ok(Stood::Elected(Self { key, epoch, fence: Arc::new(Mutex::new(Some(epoch))) }));
        }
        let there = done.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(get) => get.kvs().first().map(super::connection::found),
            _ => None,
        });
        match there {
            Some(found) if found.lease == lease => {
                Ok(Stood::Elected(Self { key, epoch: found.created, fence: Arc::default() }))
            }
            Some(found) => {
                if found.lease == 0 {
                    // Of nobody who leads: it would stay for ever, as where the keys of an etcd were copied to another one.
                    let as_found = Compare::mod_revision(key.clone(), CompareOp::Equal, found.modified);
                    connection
                        .commit(Txn::new().when([as_found]).and_then([TxnOp::delete(key, None)]))
                        .await?;
                }
                Ok(Stood::Other(found))
            }
            None => Err(EtcdError::Refused(etcd_client::Error::Internal("no answer".to_owned()).into())),
        }
    }

    /// The epoch of this term, above those of all before.
    #[must_use]
    pub const fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Makes writes, all of them or none, and only in this term. Gives the revision of them.
    ///
    /// # Errors
    /// The term is over, a key to create is there, or etcd can't be asked: then nobody knows whether they were made, until
    /// the next write was, before which they were or never will be.
    pub async fn write(
        &self,
        connection: &Connection,
        keys: &Keys,
        writes: Vec<Write>,
    ) -> Result<i64, WriteError> {
        let mut fence = self.fence.lock().await;
        // One that is dropped half way is one whose answer was lost.
        let sure = fence.take();
        let last = match sure {
            Some(last) => last,
            None => self.in_term(connection.get(&self.key).await?)?.modified,
        };
        let mut when = vec![
            Compare::create_revision(self.key.clone(), CompareOp::Equal, self.epoch),
            Compare::mod_revision(self.key.clone(), CompareOp::Equal, last),
        ];
        let mut then = Vec::with_capacity(writes.len() + 1);
        if sure.is_none() {
            let as_it_is = PutOptions::new().with_ignore_value().with_ignore_lease();
            then.push(TxnOp::put(self.key.clone(), "", Some(as_it_is)));
        }
        let mut created = Vec::new();
        for write in writes {
            let (Write::Put(key, _) | Write::Create(key, _) | Write::Delete(key)) = &write;
            let name = keys.of(key);
            match write {
                Write::Put(_, value) => then.push(TxnOp::put(name.clone(), bounded(&name, value)?, None)),
                Write::Create(_, value) => {
                    when.push(Compare::create_revision(name.clone(), CompareOp::Equal, 0));
                    then.push(TxnOp::put(name.clone(), bounded(&name, value)?, None));
                    created.push(name);
                }
                Write::Delete(_) => then.push(TxnOp::delete(name, None)),
            }
        }
        // What is read where it fails tells why it did.
        let reads = std::iter::once(&self.key).chain(&created).map(|name| TxnOp::get(name.clone(), None));
        let txn = Txn::new().when(when).and_then(then).or_else(reads.collect::<Vec<_>>());
        let done = connection.commit(txn).await?;
        if done.succeeded() {
            let revision = done.header().map_or(0, etcd_client::ResponseHeader::revision);
            *fence = Some(if sure.is_none() { revision } else { last });
            return Ok(revision);
        }
        let mut there = done.op_responses().into_iter().map(|response| match response {
            TxnOpResponse::Get(get) => get.kvs().first().map(super::connection::found),
            _ => None,
        });
        let leader = self.in_term(there.next().flatten())?;
        *fence = if leader.modified == last { sure } else { Some(leader.modified) };
        match created.into_iter().zip(there).find(|(_, found)| found.is_some()) {
            Some((key, _)) if leader.modified == last => Err(WriteError::Exists { key }),
            _ => Err(WriteError::Overtaken),
        }
    }

    /// The leader's key, if it still is of this term.
    fn in_term(&self, leader: Option<Found>) -> Result<Found, WriteError> {
        leader.filter(|found| found.created == self.epoch).ok_or(WriteError::Deposed { epoch: self.epoch })
    }

    /// Gives leadership up, so that the next leader need not wait for the lease to end.
    ///
    /// # Errors
    /// etcd can't be reached: it ends with the lease.
    pub async fn resign(self, connection: &Connection) -> Result<(), EtcdError> {
        // Elected once more by the same lease, it leads in the same term: no late word of this is to end that.
        let mut fence = self.fence.lock().await;
        let last = match fence.take() {
            Some(last) => Some(last),
            None => connection.get(&self.key).await?.map(|found| found.modified),
        };
        let Some(last) = last else { return Ok(()) };
        let txn = Txn::new()
            .when([
                Compare::create_revision(self.key.clone(), CompareOp::Equal, self.epoch),
                Compare::mod_revision(self.key.clone(), CompareOp::Equal, last),
            ])
            .and_then([TxnOp::delete(self.key.clone(), None)]);
        connection.commit(txn).await?;
        Ok(())
    }
}
