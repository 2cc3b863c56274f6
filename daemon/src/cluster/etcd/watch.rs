//! What changes below a prefix, from the first listing on, however often etcd goes away meanwhile.
//!
//! The library's watch does not resume and can go silent. This one remembers the revision of the last change that it told,
//! goes on from there over a new connection, asks a silent stream for a sign of life, and lists anew where etcd has
//! compacted what it missed, or lost what it had. Each change is told once and in order; of several changes of a key that were compacted
//! together only the last is. Does not look at values.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::connection::{Connection, EtcdError, Found};
use crate::supervisor::Backoff;

/// After so long without a word the stream is asked for one, and after as long again it is given up.
const SILENCE: Duration = Duration::from_secs(3);
/// Changes that wait for whoever is told. etcd keeps the rest.
const WAITING: usize = 256;
/// The pauses between tries to reach etcd.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// What is told of the keys below a prefix.
#[derive(Debug)]
pub enum News {
    /// A key has this value now.
    Put(Found),
    /// A key is gone.
    Gone(Vec<u8>),
    /// All that was there has been told: from here on it is as fresh as the network.
    Listed,
    /// The way to etcd is broken, and another one is tried. As a rule that is all: a member of etcd begins anew.
    Broken,
    /// It is not any more: what was missed comes now.
    Resumed,
    /// etcd can't be heard: the next try came to nothing, either. Changes are told as soon as it can.
    Silent(EtcdError),
    /// It can't be heard still, and for another reason than the last that was told.
    StillSilent(EtcdError),
    /// It can be heard again after it was [`News::Silent`]: what was missed comes now.
    Heard,
}

/// How etcd is heard, as far as was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hearing {
    Well,
    Broken,
    Silent,
}

/// A watch; it ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    news: mpsc::Receiver<News>,
    _task: AbortOnDropHandle<()>,
}

impl Watch {
    /// Watches the keys whose names begin with `prefix`. Without etcd the first words are [`News::Broken`] and
    /// [`News::Silent`].
    #[must_use]
    pub fn start(connection: Connection, prefix: String) -> Self {
        let (sender, news) = mpsc::channel(WAITING);
        let follower = Follower { connection, prefix, told: BTreeMap::new(), revision: 0, made: 0, sender };
        Self { news, _task: AbortOnDropHandle::new(tokio::spawn(follower.run())) }
    }

    /// The next word.
    pub async fn next(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            // The task ends only with this.
            None => std::future::pending().await,
        }
    }
}

struct Follower {
    connection: Connection,
    prefix: String,
    /// The keys that are there as far as was told, each with the revision of its value.
    told: BTreeMap<Vec<u8>, i64>,
    /// Up to here all changes were told; 0: nothing was.
    revision: i64,
    /// The connection that the stream is of.
    made: u64,
    sender: mpsc::Sender<News>,
}

/// Why a stream is not read any further.
enum End {
    /// Nobody listens.
    Unheard,
    /// etcd has forgotten what came after our revision, or all.
    Compacted,
    /// The stream is of no use any more.
    Failed(EtcdError),
}

impl From<EtcdError> for End {
    fn from(error: EtcdError) -> Self {
        Self::Failed(error)
    }
}

impl Follower {
    async fn run(mut self) {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        let mut hearing = Hearing::Well;
        // Why it was not heard, as was told last.
        let mut told = String::new();
        loop {
            let revision = self.revision;
            match self.round(&mut hearing).await {
                End::Unheard => return,
                End::Compacted => self.revision = 0,
                End::Failed(error) => {
                    self.connection.forget(self.made).await;
                    let why = crate::describe(&error);
                    let (now, news) = match hearing {
                        Hearing::Well => (Hearing::Broken, Some(News::Broken)),
                        Hearing::Broken => (Hearing::Silent, Some(News::Silent(error))),
                        Hearing::Silent => {
                            (Hearing::Silent, (why != told).then_some(News::StillSilent(error)))
                        }
                    };
                    (hearing, told) = (now, why);
                    if let Some(news) = news
                        && self.tell(news).await.is_err()
                    {
                        return;
                    }
                }
            }
            if self.revision > revision {
                backoff = Backoff::new(PAUSES.0, PAUSES.1);
            }
            tokio::time::sleep(backoff.next(rand::random())).await;
        }
    }

    /// From a connection to its end.
    async fn round(&mut self, hearing: &mut Hearing) -> End {
        match self.follow(hearing).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn follow(&mut self, hearing: &mut Hearing) -> Result<std::convert::Infallible, End> {
        if self.revision == 0 {
            self.list().await?;
        }
        let mut stream = self.open().await?;
        match std::mem::replace(hearing, Hearing::Well) {
            Hearing::Well => {}
            Hearing::Broken => self.tell(News::Resumed).await?,
            Hearing::Silent => self.tell(News::Heard).await?,
        }
        loop {
            let response = self.response(&mut stream).await?;
            self.take(&response).await?;
        }
    }

    /// Tells what differs from what was told so far.
    async fn list(&mut self) -> Result<(), End> {
        let listed = self.connection.list(&self.prefix).await?;
        let mut gone = std::mem::take(&mut self.told);
        for found in listed.found {
            let before = gone.remove(&found.key);
            self.told.insert(found.key.clone(), found.modified);
            if before != Some(found.modified) {
                self.tell(News::Put(found)).await?;
            }
        }
        for (key, _) in gone {
            self.tell(News::Gone(key)).await?;
        }
        self.revision = listed.revision;
        self.tell(News::Listed).await
    }

    async fn open(&mut self) -> Result<WatchStream, End> {
        let options = WatchOptions::new().with_prefix().with_start_revision(self.revision + 1);
        let (made, mut client) = self.connection.watch_client().await?;
        self.made = made;
        let prefix = self.prefix.clone();
        let opened = tokio::time::timeout(2 * SILENCE, client.watch(prefix, Some(options))).await;
        let stream = opened.map_err(|_elapsed| silent(&self.connection))?;
        Ok(stream.map_err(|error| self.connection.error(error))?)
    }

    /// The next response. A silent stream is asked for one.
    async fn response(&self, stream: &mut WatchStream) -> Result<WatchResponse, End> {
        for asked in [false, true] {
            if asked {
                stream.request_progress().await.map_err(|error| self.connection.error(error))?;
            }
            if let Ok(response) = tokio::time::timeout(SILENCE, stream.message()).await {
                let response = response.map_err(|error| self.connection.error(error))?;
                return response.ok_or_else(|| End::Failed(ended(&self.connection)));
            }
        }
        Err(silent(&self.connection))
    }

    async fn take(&mut self, response: &WatchResponse) -> Result<(), End> {
        // Below what was told already: etcd has lost its data, or was set up anew, and what we wait for would be long in coming.
        let lost = response.header().is_some_and(|header| header.revision() < self.revision);
        if response.compact_revision() > 0 || lost {
            return Err(End::Compacted);
        }
        if response.canceled() {
            let why = etcd_client::Error::WatchError(response.cancel_reason().to_owned());
            return Err(End::Failed(self.connection.error(why)));
        }
        for event in response.events() {
            let Some(kv) = event.kv() else { continue };
            let (key, modified) = (kv.key().to_vec(), kv.mod_revision());
            let news = match event.event_type() {
                EventType::Put => {
                    self.told.insert(key.clone(), modified);
                    let (value, created) = (kv.value().to_vec(), kv.create_revision());
                    News::Put(Found { key, value, created, modified, lease: kv.lease() })
                }
                EventType::Delete => {
                    self.told.remove(&key);
                    News::Gone(key)
                }
            };
            self.tell(news).await?;
            // The revision that a sign of life names is no measure: some etcd 3.4 name one ahead of what they sent.
            self.revision = self.revision.max(modified);
        }
        Ok(())
    }

    async fn tell(&self, news: News) -> Result<(), End> {
        self.sender.send(news).await.map_err(|_closed| End::Unheard)
    }
}

fn silent(connection: &Connection) -> End {
    End::Failed(connection.late())
}

fn ended(connection: &Connection) -> EtcdError {
    connection.error(etcd_client::Error::WatchError("the stream ended".to_owned()))
}
