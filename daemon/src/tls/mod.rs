//! The certificate that clients are shown, and what it takes to speak TLS with them.
//!
//! Knows when to read the files and what to do with what they hold. Reading them is the config's, and what goes over a
//! connection is the gateway's.
//!
//! A change that can't be used changes nothing: the certificate of before is shown on, and the node says so until the files
//! are mended. Whoever renews writes two files, one after the other: both are read, together, once neither has changed for a
//! moment.

mod changes;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use self::changes::{Changes, stamps};
use crate::config::{self, Identity, TlsError, Validity};
use crate::journal::{Entry, Journal};

/// Between two looks at the files.
const LOOK: Duration = Duration::from_millis(500);

/// What is spoken behind the handshake; what we like best first.
const PROTOCOLS: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

/// The stable word of a change that can't be used.
const REFUSED: &str = "tls.refused";

/// The stable word of a certificate that clients refuse, or soon will.
const EXPIRY: &str = "tls.expiry";

/// The stable word for that another certificate is shown.
const RENEWED: &str = "tls.renewed";

/// The files of the certificate and of its key; clones are the same.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    config: Arc<config::Tls>,
    /// Held by whoever looks.
    changes: Arc<Mutex<Changes>>,
    state: Arc<Mutex<State>>,
    shown: Arc<Shown>,
    server: Arc<ServerConfig>,
}

/// Why TLS can't be spoken.
#[derive(Debug, Error)]
pub enum UnservedError {
    /// There is no certificate to show, for at least one reason.
    #[error("{}", .0.iter().map(|error| crate::describe(error)).collect::<Vec<_>>().join("\n"))]
    Files(Vec<TlsError>),
    /// There is, and rustls can't be made ready.
    #[error("TLS can't be made ready")]
    Library(#[from] rustls::Error),
}

/// What is wrong, and a person has to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// A stable word.
    pub(crate) code: &'static str,
    /// What is wrong, and what to do.
    pub(crate) text: String,
    /// When it was noticed, if that says anything.
    pub(crate) since: Option<SystemTime>,
}

/// What is known besides what is shown.
#[derive(Debug)]
struct State {
    /// Of what is shown.
    validity: Option<Validity>,
    /// Why the files as they are now are not used.
    refused: Option<Trouble>,
}

/// What clients are shown.
#[derive(Debug)]
struct Shown(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl TlsFiles {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// See [`UnservedError`].
    pub fn open(config: config::Tls) -> Result<Self, UnservedError> {
        // Before the files: a change in between is then noticed at the next look.
        let changes = Changes::since(stamps(&config));
        let identity = config.read().map_err(UnservedError::Files)?;
        warn(&config, &identity);
        let Identity { shown, validity, .. } = identity;
        let shown = Arc::new(Shown(ArcSwap::new(shown)));
        let server = server(Arc::clone(&shown))?;
        Ok(Self {
            config: Arc::new(config),
            changes: Arc::new(Mutex::new(changes)),
            state: Arc::new(Mutex::new(State { validity, refused: None })),
            shown,
            server: Arc::new(server),
        })
    }

    /// What the gateway speaks TLS by.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// What is wrong now.
    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        let refused = self.state().refused.clone();
        refused.into_iter().chain(self.expiry()).collect()
    }

    /// Looks after the files, and tells the journal what came of a change, until `stopped`.
    pub async fn watch(self, journal: Journal, stopped: CancellationToken) {
        let mut is_told = false;
        loop {
            let files = self.clone();
            let told = crate::blocking(move || files.look(Instant::now())).await;
            let expiry = self.expiry();
            // Once: how many days are left is another number each day.
            let is_news = expiry.is_some() && !is_told;
            is_told = expiry.is_some();
            let begun = expiry.filter(|_| is_news).map(|expiry| (expiry.code, expiry.text));
            for (kind, text) in told.into_iter().chain(begun) {
                journal.write(Entry { kind, text, ..Entry::default() }).await;
            }
            tokio::select! {
                () = stopped.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Reads the files anew if they have changed, and shows what they hold if that can be shown. What there is to tell of
    /// it: a stable word and a sentence.
    fn look(&self, now: Instant) -> Option<(&'static str, String)> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let found = stamps(&self.config);
        if !changes.are_due(found, now) {
            return None;
        }
        match self.config.read() {
            Ok(identity) => {
                changes.were_read(found);
                self.renew(identity).map(|text| (RENEWED, text))
            }
            Err(errors) => {
                if errors.iter().any(TlsError::is_unread) {
                    changes.were_not_read();
                } else {
                    changes.were_read(found);
                }
                self.refuse(&errors).map(|text| (REFUSED, text))
            }
        }
    }

    fn renew(&self, identity: Identity) -> Option<String> {
        warn(&self.config, &identity);
        let Identity { shown, validity, .. } = identity;
        let before = self.shown.0.swap(Arc::clone(&shown));
        let was_refused = {
            let mut state = self.state();
            state.validity = validity;
            state.refused.take().is_some()
        };
        let file = self.config.certificate.display();
        let until = validity.map(|validity| format!("; it is good until {}", validity.until()));
        let is_news = was_refused || before.cert != shown.cert;
        is_news.then(|| {
            let until = until.unwrap_or_default();
            format!(
                "the certificate in {file} was read anew, and is shown to whoever connects from now on{until}"
            )
        })
    }

    fn refuse(&self, errors: &[TlsError]) -> Option<String> {
        let why: Vec<String> = errors.iter().map(|error| crate::describe(error)).collect();
        let text = format!(
            "the certificate or its key has changed and can't be used, so the one of before is shown on: {}. Mend the files; \
             they are read anew at once, and a restart of hotd before that fails",
            why.join("; ")
        );
        let mut state = self.state();
        if state.refused.as_ref().is_some_and(|refused| refused.text == text) {
            return None;
        }
        let since = Some(SystemTime::now());
        state.refused = Some(Trouble { code: REFUSED, text: text.clone(), since });
        Some(text)
    }

    fn expiry(&self) -> Option<Trouble> {
        let validity = self.state().validity;
        let text = self.config.expiry(validity, SystemTime::now())?;
        Some(Trouble { code: EXPIRY, text, since: None })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// TLS 1.2 and 1.3 with what rustls takes for good.
fn server(shown: Arc<Shown>) -> Result<ServerConfig, rustls::Error> {
    let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    server.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    // Clients keep their own sessions, in tickets: nothing of them is held here, and no lock is shared by the threads.
    server.ticketer = ring::Ticketer::new()?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(server)
}

fn warn(config: &config::Tls, identity: &Identity) {
    for (_, text) in config.warnings(identity, SystemTime::now()) {
        tracing::warn!("{text}");
    }
}

#[cfg(test)]
mod tests;
