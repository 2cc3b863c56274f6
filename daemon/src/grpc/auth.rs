//! Who calls: the peer's user on the Unix socket, the dev node's token on its loopback port, and by TCP whoever the
//! certificate names that the caller has shown.
//!
//! Does not decide who may do what: whoever gets past the socket's mode, the token or the handshake may do everything, and
//! each call carries the caller's name for the history.

use std::fmt;

use tonic::service::Interceptor;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

use super::mutual::Shown;
use super::status::{Refused, refused};

/// A call that another node sent on has its name here; it is answered where it arrives.
pub(super) const FORWARDED: &str = "hot-forwarded";
/// A call for what this node has to say of itself alone.
pub(super) const OWN: &str = "hot-own";
/// Who called that node: believed of nodes alone.
pub(super) const CALLER: &str = "hot-caller";

/// The caller's name, for the history and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller(pub String);

impl Caller {
    /// Of a request that went through [`Gate`].
    pub(crate) fn of<T>(request: &Request<T>) -> String {
        request.extensions().get::<Self>().map_or_else(|| "unknown".to_owned(), |caller| caller.0.clone())
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Marks a call by the user that runs this hotd, as another hotd of this machine is.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnUser;

/// Lets calls in and names their callers.
#[derive(Clone)]
pub(crate) enum Gate {
    /// The Unix socket: its mode and group decide who can connect at all.
    Socket,
    /// A loopback port: any user of the machine can connect, so each call must carry the token.
    Token(String),
    /// TCP with TLS: whoever is connected has shown a certificate of the authority.
    Certificate,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Socket => "Socket",
            Self::Token(_) => "Token(..)",
            Self::Certificate => "Certificate",
        })
    }
}

impl Interceptor for Gate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let caller = match self {
            Self::Socket => {
                let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
                if peer.is_some_and(|peer| peer.uid() == rustix::process::geteuid().as_raw()) {
                    request.extensions_mut().insert(OwnUser);
                }
                peer.map_or_else(|| "unknown".to_owned(), |peer| user_name(peer.uid()))
            }
            Self::Token(token) => {
                let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
                let shown = shown.and_then(|value| value.strip_prefix("Bearer "));
                if !shown.is_some_and(|shown| same(shown.as_bytes(), token.as_bytes())) {
                    return Err(no_token(shown.is_some()));
                }
                crate::dev::PRINCIPAL.to_owned()
            }
            Self::Certificate => {
                let Some(Shown { address, name }) = request.extensions().get::<Shown>() else {
                    return Err(Status::unauthenticated("the caller has shown no certificate"));
                };
                tracing::debug!(%address, %name, "a call");
                name.to_string()
            }
        };
        request.extensions_mut().insert(Caller(caller));
        Ok(request)
    }
}

fn no_token(shown: bool) -> Status {
    refused(Refused {
        grpc: tonic::Code::Unauthenticated,
        code: "token",
        field: "authorization",
        found: if shown { "another token" } else { "no token" }.to_owned(),
        expected: "`Bearer` and the token from the file `token` in the node's data folder".to_owned(),
        advice: "Set HOTCTL_TOKEN, or call the node over its Unix socket.".to_owned(),
    })
}

/// Compares without telling by its time how far the two agree.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0_u8, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// The login name of a user from the system's own list, else `uid N`.
fn user_name(uid: u32) -> String {
    let numbered = || format!("uid {uid}");
    let Ok(passwd) = std::fs::read_to_string("/etc/passwd") else { return numbered() };
    let wanted = uid.to_string();
    passwd
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == wanted).then(|| name.to_owned())
        })
        .unwrap_or_else(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(authorization: Option<&str>) -> Result<Request<()>, Status> {
        let mut request = Request::new(());
        if let Some(value) = authorization {
            request.metadata_mut().insert("authorization", value.parse().unwrap());
        }
        Gate::Token("s3cret".to_owned()).call(request)
    }

    #[test]
    fn only_the_token_opens() {
        let caller = Caller::of(&call(Some("Bearer s3cret")).unwrap());
        assert_eq!(caller, "dev");
        for wrong in [None, Some("Bearer "), Some("Bearer s3creT"), Some("s3cret"), Some("Bearer s3cret1")] {
            let status = call(wrong).unwrap_err();
            assert_eq!(status.code(), tonic::Code::Unauthenticated, "{wrong:?}");
            assert!(!status.message().contains("s3cret"), "the token is not told");
        }
    }

    #[test]
    fn a_certificate_names_the_caller() {
        let status = Gate::Certificate.call(Request::new(())).unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
        let mut request = Request::new(());
        let shown = Shown { address: ([127, 0, 0, 1], 1).into(), name: "ann@example.com".into() };
        request.extensions_mut().insert(shown);
        assert_eq!(Caller::of(&Gate::Certificate.call(request).unwrap()), "ann@example.com");
    }

    #[test]
    fn users_have_names() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_000), "uid 4000000000");
    }
}
