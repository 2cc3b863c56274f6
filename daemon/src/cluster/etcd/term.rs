//! Leadership: one node's word counts, and etcd itself refuses that of any other.
//!
//! The leader's key is written with its lease, and the revision at which the key came to be is the leader's epoch: it grows
//! from leader to leader. All that a leader writes is written only if that key still has that epoch, in one transaction,
//! so that one which was paused past its lease can't write, whatever it believes. And only if the keys have the values that
//! it knows of, so that a write whose answer was lost can't be made after a later one. Who should stand when is not known
//! here.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse};
use hot_rollout::Node;

use super::connection::{Connection, EtcdError, Found, bounded};
use super::keys::{Key, Keys};

/// Operations that etcd takes in one transaction.
pub const MAX_OPERATIONS: usize = 128;

/// A time in which one node leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The name of the leader's key.
    key: String,
    epoch: i64,
}

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
    /// Something else was written since this leader looked, as by a write of its own whose answer was lost.
    #[error("a value in etcd has changed since it was looked at, so etcd refused the write")]
    Changed,
}

/// The revisions of the values that a leader writes over, by the names of their keys: as far as it knows. One that is
/// unknown is looked up.
#[derive(Debug, Default)]
pub struct Known(Mutex<BTreeMap<String, i64>>);

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
    /// leads on.
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
            return Ok(Stood::Elected(Self { key, epoch }));
        }
        let there = done.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(get) => get.kvs().first().map(super::connection::found),
            _ => None,
        });
        match there {
            Some(found) if found.lease == lease => Ok(Stood::Elected(Self { key, epoch: found.created })),
            Some(found) => Ok(Stood::Other(found)),
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
    /// The term is over, a key to create is there, a value has changed, or etcd can't be asked: then nobody knows whether
    /// they were made.
    pub async fn write(
        &self,
        connection: &Connection,
        keys: &Keys,
        known: &Known,
        writes: Vec<Write>,
    ) -> Result<i64, WriteError> {
        let mut when = vec![Compare::create_revision(self.key.clone(), CompareOp::Equal, self.epoch)];
        let mut then = Vec::with_capacity(writes.len());
        let (mut created, mut put) = (Vec::new(), Vec::new());
        for write in writes {
            let (Write::Put(key, _) | Write::Create(key, _) | Write::Delete(key)) = &write;
            let name = keys.of(key);
            match write {
                Write::Put(_, value) => {
                    let revision = known.revision(connection, &name).await?;
                    when.push(Compare::mod_revision(name.clone(), CompareOp::Equal, revision));
                    then.push(TxnOp::put(name.clone(), bounded(&name, value)?, None));
                    put.push(name);
                }
                Write::Create(_, value) => {
                    when.push(Compare::create_revision(name.clone(), CompareOp::Equal, 0));
                    then.push(TxnOp::put(name.clone(), bounded(&name, value)?, None));
                    created.push(name);
                }
                Write::Delete(_) => {
                    let revision = known.revision(connection, &name).await?;
                    when.push(Compare::mod_revision(name.clone(), CompareOp::Equal, revision));
                    then.push(TxnOp::delete(name, None));
                }
            }
        }
        // What is read where it fails tells why it did.
        let reads = std::iter::once(&self.key).chain(&created).map(|name| TxnOp::get(name.clone(), None));
        let txn = Txn::new().when(when).and_then(then).or_else(reads.collect::<Vec<_>>());
        let done = connection.commit(txn).await?;
        if done.succeeded() {
            let revision = done.header().map_or(0, etcd_client::ResponseHeader::revision);
            known.note(put.into_iter().map(|name| (name, revision)));
            return Ok(revision);
        }
        let there: Vec<Option<Found>> = done
            .op_responses()
            .into_iter()
            .map(|response| match response {
                TxnOpResponse::Get(get) => get.kvs().first().map(super::connection::found),
                _ => None,
            })
            .collect();
        let leads = there.first().and_then(Option::as_ref).is_some_and(|leader| leader.created == self.epoch);
        if !leads {
            return Err(WriteError::Deposed { epoch: self.epoch });
        }
        match created.into_iter().zip(there.into_iter().skip(1)).find(|(_, found)| found.is_some()) {
            Some((key, _)) => Err(WriteError::Exists { key }),
            None => Err(WriteError::Changed),
        }
    }

    /// Gives leadership up, so that the next leader need not wait for the lease to end.
    ///
    /// # Errors
    /// etcd can't be reached: it ends with the lease.
    pub async fn resign(self, connection: &Connection) -> Result<(), EtcdError> {
        let txn = Txn::new()
            .when([Compare::create_revision(self.key.clone(), CompareOp::Equal, self.epoch)])
            .and_then([TxnOp::delete(self.key, None)]);
        connection.commit(txn).await?;
        Ok(())
    }
}

impl Known {
    /// Knows these and no others.
    pub fn begin(&self, revisions: BTreeMap<String, i64>) {
        *self.lock() = revisions;
    }

    fn note(&self, revisions: impl Iterator<Item = (String, i64)>) {
        self.lock().extend(revisions);
    }

    /// The revision of a value that is to be written over, 0 where there is none. It is unknown from here on, until the
    /// write has come to something.
    async fn revision(&self, connection: &Connection, name: &str) -> Result<i64, EtcdError> {
        match self.take(name) {
            Some(revision) => Ok(revision),
            None => Ok(connection.get(name).await?.map_or(0, |found| found.modified)),
        }
    }

    fn take(&self, name: &str) -> Option<i64> {
        self.lock().remove(name)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
