//! The certificate that this node shows, whose certificates it takes, and what it takes to speak TLS: with the gateway's
//! clients, and with `hotctl` and other nodes, which show one as well ([`Mutual`]).
//!
//! Knows when to read the files and what to do with what they hold. Reading them is the config's, and what goes over a
//! connection is the gateway's and the control plane's.
//!
//! A change that can't be used changes nothing: the certificate of before is shown on, and the node says so until the files
//! are mended. Whoever renews writes two files, one after the other: all are read, together, once none has changed for a
//! moment.

mod changes;
#[cfg(test)]
pub(crate) mod made;
mod mutual;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, VerifierBuilderError};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::changes::{Changes, stamps};
pub(crate) use self::mutual::Mutual;
use crate::config::{self, Authority, Identity, TlsError, Validity};
use crate::journal::{Entry, Journal};

/// Between two looks at the files.
const LOOK: Duration = Duration::from_millis(500);

/// What is spoken behind the handshake; what we like best first.
const PROTOCOLS: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

/// The stable word of a change that can't be used.
const REFUSED: &str = "tls.refused";

/// The stable word of a certificate that clients refuse, or soon will.
const EXPIRY: &str = "tls.expiry";

/// The stable word for that another certificate is shown, or another authority's are taken.
const RENEWED: &str = "tls.renewed";

/// The files of the certificate, of its key and, where callers show one, of the authority; clones are the same.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    config: Arc<config::Tls>,
    /// Held by whoever looks.
    changes: Arc<Mutex<Changes>>,
    state: Arc<Mutex<State>>,
    spoken: Arc<Spoken>,
}

/// With whom TLS is spoken.
#[derive(Debug)]
enum Spoken {
    /// With clients that need no certificate.
    Http { shown: Arc<Shown>, server: Arc<ServerConfig> },
    /// With those that show one of the authority's.
    Mutual(watch::Sender<Arc<Mutual>>),
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
    /// The authority's certificates are not to be judged by.
    #[error("no certificate can be judged by the authority's")]
    Verifier(#[from] VerifierBuilderError),
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
    /// What is shown.
    certificate: Arc<CertifiedKey>,
    /// Of that.
    validity: Option<Validity>,
    /// Who vouches for callers.
    authority: Option<Authority>,
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
        let spoken = Arc::new(Spoken::of(&identity)?);
        let state = Arc::new(Mutex::new(State::of(identity)));
        Ok(Self { config: Arc::new(config), changes: Arc::new(Mutex::new(changes)), state, spoken })
    }

    /// What TLS is spoken by with whoever connects now. For HTTP it is always the same; where callers show a certificate, it
    /// is what the files held last, to be asked for at each connection.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        match &*self.spoken {
            Spoken::Http { server, .. } => Arc::clone(server),
            Spoken::Mutual(mutual) => mutual.borrow().server(),
        }
    }

    /// What another node is called by: this node shows its own certificate and takes those of the authority alone, for the
    /// name or address that is called. By what the files held last, to be asked for at each connection. None where callers
    /// show none.
    #[must_use]
    pub fn client(&self) -> Option<Arc<ClientConfig>> {
        match &*self.spoken {
            Spoken::Http { .. } => None,
            Spoken::Mutual(mutual) => Some(mutual.borrow().client()),
        }
    }

    /// What the files held last, and each time that it is another; where callers show a certificate.
    pub(crate) fn mutual(&self) -> Option<watch::Receiver<Arc<Mutual>>> {
        match &*self.spoken {
            Spoken::Http { .. } => None,
            Spoken::Mutual(mutual) => Some(mutual.subscribe()),
        }
    }

    /// What is wrong now.
    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        let refused = self.state().refused.clone();
        refused.into_iter().chain(self.expiry()).chain(self.ends()).collect()
    }

    /// Looks after the files, and tells the journal what came of a change, until `stopped`.
    pub async fn watch(self, journal: Journal, stopped: CancellationToken) {
        let mut is_told = false;
        loop {
            let files = self.clone();
            let told = crate::blocking(move || files.look(Instant::now())).await;
            let expiry = self.expiry().or_else(|| self.ends().into_iter().next());
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

    /// Looks until there is nothing more to wait for.
    #[cfg(test)]
    pub(crate) fn read_anew(&self) -> Option<(&'static str, String)> {
        let now = Instant::now();
        self.look(now).or_else(|| self.look(now + changes::SETTLE))
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
                match self.renew(identity) {
                    Ok(told) => told.map(|text| (RENEWED, text)),
                    Err(error) => self.refuse(&crate::describe(&error)).map(|text| (REFUSED, text)),
                }
            }
            Err(errors) => {
                if errors.iter().any(TlsError::is_unread) {
                    changes.were_not_read();
                } else {
                    changes.were_read(found);
                }
                let why: Vec<String> = errors.iter().map(|error| crate::describe(error)).collect();
                self.refuse(&why.join("; ")).map(|text| (REFUSED, text))
            }
        }
    }

    fn renew(&self, identity: Identity) -> Result<Option<String>, UnservedError> {
        warn(&self.config, &identity);
        self.spoken.renew(&identity)?;
        let until = identity.validity.map(|validity| format!("; it is good until {}", validity.until()));
        let before = std::mem::replace(&mut *self.state(), State::of(identity));
        let (file, state) = (self.config.certificate.display(), self.state());
        let is_other = before.refused.is_some() || before.certificate.cert != state.certificate.cert;
        let own = is_other.then(|| {
            let until = until.unwrap_or_default();
            format!(
                "the certificate in {file} was read anew, and is shown to whoever connects from now on{until}"
            )
        });
        let is_other = before.authority != state.authority;
        let authority = self.config.authority.as_ref().filter(|_| is_other).map(|file| {
            format!(
                "the authority in {} was read anew: whoever has a certificate of another one is let in no more, and who was \
                 connected by one is cut off",
                file.display()
            )
        });
        let told: Vec<String> = own.into_iter().chain(authority).collect();
        Ok((!told.is_empty()).then(|| told.join("; ")))
    }

    fn refuse(&self, why: &str) -> Option<String> {
        let (what, on) = match self.config.authority {
            Some(_) => ("the certificate, its key or the authority", "those of before count on"),
            None => ("the certificate or its key", "the one of before is shown on"),
        };
        let text = format!(
            "{what} has changed and can't be used, so {on}: {why}. Mend the files; they are read anew at once, and a restart of \
             hotd before that fails"
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

    /// Of the authority.
    fn ends(&self) -> Vec<Trouble> {
        let state = self.state();
        let texts =
            state.authority.iter().flat_map(|authority| self.config.ends(authority, SystemTime::now()));
        texts.map(|text| Trouble { code: EXPIRY, text, since: None }).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(identity: Identity) -> Self {
        let Identity { shown, authority, validity, .. } = identity;
        Self { certificate: shown, validity, authority, refused: None }
    }
}

impl Spoken {
    fn of(identity: &Identity) -> Result<Self, UnservedError> {
        let shown = Arc::clone(&identity.shown);
        if let Some(authority) = &identity.authority {
            return Ok(Self::Mutual(watch::Sender::new(Arc::new(Mutual::new(shown, authority)?))));
        }
        let shown = Arc::new(Shown(ArcSwap::new(shown)));
        let server = Arc::new(server(Arc::clone(&shown))?);
        Ok(Self::Http { shown, server })
    }

    fn renew(&self, identity: &Identity) -> Result<(), UnservedError> {
        let of = Arc::clone(&identity.shown);
        match self {
            Self::Http { shown, .. } => shown.0.store(of),
            Self::Mutual(mutual) => {
                // The config says of both whether there is one.
                let Some(authority) = &identity.authority else { return Ok(()) };
                let new = Arc::new(Mutual::new(of, authority)?);
                mutual.send_replace(new);
            }
        }
        Ok(())
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
