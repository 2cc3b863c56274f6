//! A connection to etcd that is made when it is needed and comes back by itself, and the calls that go over it, each with
//! a deadline.
//!
//! It is to one member, and to the next one when that is of no use: a member that is cut off from the others still takes
//! calls, and refuses them. What was surely not done is asked of another member at once; whether to try anything else
//! again, who calls decides. Does not know what is kept there.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, Identity, KvClient, PutOptions,
    SortOrder, SortTarget, TlsOptions, Txn, TxnOp, TxnOpResponse, TxnResponse, WatchClient,
};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::Code;

/// How long a call may take. An etcd that elects a leader takes a second or two.
const CALL: Duration = Duration::from_secs(5);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(2);
/// Between two signs of life that are asked for of a silent connection, and how long each may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(3));
/// Keys that are read at once: of the largest values that are written no more than an answer may have.
const PAGE: i64 = 60;
/// Bytes of an answer.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// Bytes of a value. etcd takes 1.5 MiB with all that is around it.
pub const MAX_VALUE: usize = 1024 * 1024;

/// Where etcd is, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The URLs of its members; any of them will do.
    pub endpoints: Vec<String>,
    /// For `https`: the files of TLS.
    pub tls: Option<Files>,
    /// Where etcd wants to know who calls: the user, and the file of the password.
    pub user: Option<(String, PathBuf)>,
}

/// Files of TLS, PEM. Read anew with each connection that is made.
#[derive(Clone, Debug)]
pub struct Files {
    /// Who signs the certificates of etcd.
    pub authority: PathBuf,
    /// What we show, and its key; none: nothing.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why a call to etcd came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// A file that the connection needs can't be read.
    #[error("{} can't be read", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// No member answers, or none that has a majority.
    #[error("etcd ({endpoints}) can't be reached")]
    Unreachable {
        /// Its members.
        endpoints: String,
        /// Why not.
        source: Said,
    },
    /// No answer came in time. What was asked for may have been done.
    #[error("etcd ({endpoints}) did not answer within {} s", CALL.as_secs())]
    Late {
        /// Its members.
        endpoints: String,
    },
    /// etcd says no.
    #[error("etcd refuses it")]
    Refused(#[source] Said),
    /// The value is larger than what may be kept.
    #[error("the value of {key} has {found} bytes; expected at most {MAX_VALUE}")]
    TooLarge {
        /// Its key.
        key: String,
        /// Its size.
        found: usize,
    },
}

impl EtcdError {
    /// Whether no answer came.
    #[must_use]
    pub const fn is_out_of_reach(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Late { .. } => true,
            Self::File { .. } | Self::Refused(_) | Self::TooLarge { .. } => false,
        }
    }
}

/// What etcd or the way to it said, in a few words: the library's own texts have all of its layers in them.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Said(String);

impl From<etcd_client::Error> for Said {
    fn from(error: etcd_client::Error) -> Self {
        Self(match &error {
            etcd_client::Error::GRpcStatus(status) => match deepest(status) {
                Some(cause) => cause.to_string(),
                None => status.message().to_owned(),
            },
            etcd_client::Error::TransportError(error) => {
                deepest(error).map_or_else(|| error.to_string(), ToString::to_string)
            }
            other => other.to_string(),
        })
    }
}

fn is_unreachable(error: &etcd_client::Error) -> bool {
    match error {
        etcd_client::Error::GRpcStatus(status) => matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded | Code::Internal
        ),
        etcd_client::Error::TransportError(_)
        | etcd_client::Error::IoError(_)
        | etcd_client::Error::WatchError(_)
        | etcd_client::Error::LeaseKeepAliveError(_) => true,
        _ => false,
    }
}

/// Whether a call was surely not done: its member was not reached, or has no leader and so asked nobody.
fn was_not_done(error: &etcd_client::Error) -> bool {
    let etcd_client::Error::GRpcStatus(status) = error else { return false };
    let first: &(dyn std::error::Error + 'static) = status;
    let not_reached = std::iter::successors(Some(first), |error| error.source())
        .any(|error| error.is::<tonic::ConnectError>());
    not_reached || (status.code() == Code::Unavailable && status.message().contains("no leader"))
}

/// What is behind all of it.
fn deepest<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a (dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |error| error.source()).last()
}

/// A key as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// The revision at which it came to be.
    pub created: i64,
    /// The revision at which its value was written.
    pub modified: i64,
    /// The lease that it was written with; 0: none.
    pub lease: i64,
}

/// Keys that were read together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// In the order of their names.
    pub found: Vec<Found>,
    /// The revision at which all of this was so.
    pub revision: i64,
}

/// A handle to the connection; clones are the same.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Inner>);

struct Inner {
    settings: Settings,
    /// The number of the client, by which it is told from a later one.
    made: AtomicU64,
    client: Mutex<Slot>,
}

struct Slot {
    /// The member that the next one is made to, by its place among the endpoints, over and over.
    member: usize,
    client: Option<Client>,
}

/// What a call may be asked once more of another member after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// Whatever went wrong: it changes nothing.
    Read,
    /// Only what was surely not done.
    Change,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection that is not made yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        // Not all nodes to the same one.
        let slot = Slot { member: rand::random_range(0..settings.endpoints.len().max(1)), client: None };
        Self(Arc::new(Inner { settings, made: AtomicU64::new(0), client: Mutex::new(slot) }))
    }

    /// What is kept under a name.
    ///
    /// # Errors
    /// Nobody could be asked, or may be.
    pub async fn get(&self, key: &str) -> Result<Option<Found>, EtcdError> {
        let key = key.to_owned();
        let get = |client: Client| {
            let key = key.clone();
            async move { client.kv_client().get(key, None).await }
        };
        let answer = self.ask(Again::Read, get).await?;
        Ok(answer.kvs().first().map(found))
    }

    /// What is kept under the names that begin with `prefix`, all of it as it was at one moment.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn list(&self, prefix: &str) -> Result<Listed, EtcdError> {
        let mut listed = Listed { found: Vec::new(), revision: 0 };
        let end = after_all(prefix);
        let mut from = prefix.as_bytes().to_vec();
        loop {
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(PAGE)
                .with_revision(listed.revision)
                .with_sort(SortTarget::Key, SortOrder::Ascend);
            let get = |client: Client| {
                let (from, options) = (from.clone(), options.clone());
                async move { kv(&client).get(from, Some(options)).await }
            };
            let page = self.ask(Again::Read, get).await?;
            if listed.revision == 0 {
                listed.revision = page.header().map_or(0, etcd_client::ResponseHeader::revision);
            }
            listed.found.extend(page.kvs().iter().map(found));
            match page.kvs().last().filter(|_| page.more()) {
                // The next name there can be.
                Some(last) => from = [last.key(), &[0]].concat(),
                None => return Ok(listed),
            }
        }
    }

    /// Does something if what it depends on is so: all of it or nothing.
    ///
    /// # Errors
    /// As [`Self::get`]. Of [`EtcdError::Late`] and [`EtcdError::Unreachable`] nobody knows whether it was done.
    pub async fn commit(&self, txn: Txn) -> Result<TxnResponse, EtcdError> {
        let commit = |client: Client| {
            let txn = txn.clone();
            async move { client.kv_client().txn(txn).await }
        };
        self.call(commit).await
    }

    /// Writes a value, with a lease where that is not 0.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn put(&self, key: &str, value: Vec<u8>, lease: i64) -> Result<(), EtcdError> {
        let value = bounded(key, value)?;
        let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)));
        self.commit(Txn::new().and_then([put])).await?;
        Ok(())
    }

    /// Removes a key, if it is there.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn delete(&self, key: &str) -> Result<(), EtcdError> {
        self.commit(Txn::new().and_then([TxnOp::delete(key, None)])).await?;
        Ok(())
    }

    /// Writes a value unless the key is there; gives what is there then.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn create(&self, key: &str, value: Vec<u8>) -> Result<Option<Found>, EtcdError> {
        let value = bounded(key, value)?;
        let txn = Txn::new()
            .when([Compare::create_revision(key, CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key, value, None)])
            .or_else([TxnOp::get(key, None)]);
        let done = self.commit(txn).await?;
        Ok(done.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(get) => get.kvs().first().map(found),
            _ => None,
        }))
    }

    /// For watches, with the number by which [`Self::forget`] knows it.
    pub(super) async fn watch_client(&self) -> Result<(u64, WatchClient), EtcdError> {
        let (made, client) = self.in_time(Instant::now() + CALL).await?;
        Ok((made, client.watch_client().max_decoding_message_size(MAX_ANSWER)))
    }

    /// Calls etcd in time. After what may be the connection's fault the next call has a new one.
    pub(super) async fn call<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.ask(Again::Change, call).await
    }

    async fn ask<T, F>(&self, again: Again, call: impl Fn(Client) -> F) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let deadline = Instant::now() + CALL;
        let mut others = self.0.settings.endpoints.len().saturating_sub(1);
        loop {
            let (error, asks_again) = match self.in_time(deadline).await {
                // The library's futures are large, and would be in all that wait for them.
                Ok((made, client)) => match tokio::time::timeout_at(deadline, Box::pin(call(client))).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(error)) => {
                        self.forget(made).await;
                        let is_harmless = again == Again::Read && is_unreachable(&error);
                        let asks_again = is_harmless || was_not_done(&error);
                        (self.error(error), asks_again)
                    }
                    Err(_elapsed) => {
                        self.forget(made).await;
                        (self.late(), false)
                    }
                },
                Err(error) => {
                    let asks_again = matches!(error, EtcdError::Unreachable { .. });
                    (error, asks_again)
                }
            };
            if others == 0 || !asks_again {
                return Err(error);
            }
            others -= 1;
        }
    }

    /// Has the next call make a new connection, to another member: whoever noticed that this one is of no use may say so.
    pub(super) async fn forget(&self, made: u64) {
        let mut slot = self.0.client.lock().await;
        if self.made() == made && slot.client.take().is_some() {
            slot.member = slot.member.wrapping_add(1);
        }
    }

    /// The number of the connection that is there.
    pub(super) fn made(&self) -> u64 {
        self.0.made.load(Ordering::Acquire)
    }

    /// A client, at the latest then: others may wait for one as well, and it is made for one after the other.
    async fn in_time(&self, deadline: Instant) -> Result<(u64, Client), EtcdError> {
        tokio::time::timeout_at(deadline, self.client()).await.map_err(|_elapsed| self.late())?
    }

    async fn client(&self) -> Result<(u64, Client), EtcdError> {
        let mut slot = self.0.client.lock().await;
        if let Some(client) = &slot.client {
            return Ok((self.made(), client.clone()));
        }
        let Settings { endpoints, .. } = &self.0.settings;
        let options = self.0.settings.options().await?;
        let (member, next) = (slot.member, slot.member.wrapping_add(1));
        let endpoint = endpoints.get(member % endpoints.len().max(1)).map(String::as_str);
        // Whoever waits for it may give up meanwhile, and the next one is not to wait for the same member.
        slot.member = next;
        let connected = Box::pin(Client::connect(endpoint.as_slice(), Some(options)));
        let client = match tokio::time::timeout(CONNECT, connected).await {
            Ok(connected) => connected.map_err(|error| self.error(error))?,
            Err(_elapsed) => {
                let why = format!("no connection was made within {} s", CONNECT.as_secs());
                return Err(EtcdError::Unreachable { endpoints: self.endpoints(), source: Said(why) });
            }
        };
        slot.member = member;
        slot.client = Some(client.clone());
        Ok((self.0.made.fetch_add(1, Ordering::AcqRel) + 1, client))
    }

    /// What an error of the library is to whoever called.
    pub(super) fn error(&self, error: etcd_client::Error) -> EtcdError {
        if is_unreachable(&error) {
            EtcdError::Unreachable { endpoints: self.endpoints(), source: error.into() }
        } else {
            EtcdError::Refused(error.into())
        }
    }

    /// That no answer came in time.
    pub(super) fn late(&self) -> EtcdError {
        EtcdError::Late { endpoints: self.endpoints() }
    }

    fn endpoints(&self) -> String {
        self.0.settings.endpoints.join(", ")
    }
}

impl Settings {
    /// Reads the files.
    async fn options(&self) -> Result<ConnectOptions, EtcdError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT)
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some(files) = &self.tls {
            let authority = Certificate::from_pem(read(&files.authority).await?);
            let mut tls = TlsOptions::new().ca_certificate(authority);
            if let Some((certificate, key)) = &files.identity {
                tls = tls.identity(Identity::from_pem(read(certificate).await?, read(key).await?));
            }
            options = options.with_tls(tls);
        }
        if let Some((user, file)) = &self.user {
            let password = read(file).await?;
            options = options.with_user(user, String::from_utf8_lossy(&password).trim_end());
        }
        Ok(options)
    }
}

async fn read(path: &PathBuf) -> Result<Vec<u8>, EtcdError> {
    tokio::fs::read(path).await.map_err(|source| EtcdError::File { path: path.clone(), source })
}

fn kv(client: &Client) -> KvClient {
    client.kv_client().max_decoding_message_size(MAX_ANSWER)
}

pub(super) fn found(of: &etcd_client::KeyValue) -> Found {
    Found {
        key: of.key().to_vec(),
        value: of.value().to_vec(),
        created: of.create_revision(),
        modified: of.mod_revision(),
        lease: of.lease(),
    }
}

/// A value of at most the size that is kept.
pub(super) fn bounded(key: &str, value: Vec<u8>) -> Result<Vec<u8>, EtcdError> {
    let found = value.len();
    if found > MAX_VALUE { Err(EtcdError::TooLarge { key: key.to_owned(), found }) } else { Ok(value) }
}

/// The first name after all that begin with `prefix`, which is text, so that its last byte can be counted up.
pub(super) fn after_all(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
