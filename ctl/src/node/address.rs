//! Where a node listens.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;
use tonic::transport::Uri;

/// A node's control address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// Plain HTTP/2, `http://HOST:PORT`.
    Http(Uri),
    /// HTTP/2 over TLS in which both show a certificate, `https://HOST:PORT`.
    Https(Uri),
}

/// Why a text is no address.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum AddressError {
    /// It starts with none of the schemes.
    #[error("{0:?} is no node address: expected https://HOST:PORT, http://HOST:PORT or unix:PATH{hint}", hint = meant(.0))]
    Scheme(String),
    /// `unix:` without an absolute path.
    #[error("{0:?} has no absolute path: expected unix:/PATH/TO/SOCKET")]
    Path(String),
    /// The URL has no host or port, or has more than them.
    #[error("{0:?} is no node address: expected https://HOST:PORT or http://HOST:PORT, and nothing after it")]
    Url(String),
}

/// What is most likely meant by an address without its scheme.
fn meant(text: &str) -> String {
    if text.starts_with('/') {
        format!("; did you mean unix:{text}?")
    } else if text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.contains(':') && port.parse::<u16>().is_ok())
    {
        format!("; did you mean http://{text}?")
    } else {
        String::new()
    }
}

impl Address {
    /// A secret sent there stays on this machine.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Http(uri) | Self::Https(uri) => uri.host().is_some_and(|host| {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }),
        }
    }

    /// The same place as `HOST:PORT`, the form in which a dev node records it.
    pub(crate) fn authority(&self) -> Option<&str> {
        match self {
            Self::Unix(_) => None,
            Self::Http(uri) | Self::Https(uri) => uri.authority().map(|authority| authority.as_str()),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            // gRPC also writes unix:///path.
            let path = if let Some(rest) = path.strip_prefix("//") { rest } else { path };
            return if path.starts_with('/') {
                Ok(Self::Unix(PathBuf::from(path)))
            } else {
                Err(AddressError::Path(text.to_owned()))
            };
        }
        let is_tls = text.starts_with("https://");
        if !is_tls && !text.starts_with("http://") {
            return Err(AddressError::Scheme(text.to_owned()));
        }
        let uri = Uri::from_str(text).map_err(|_invalid| AddressError::Url(text.to_owned()))?;
        let plain = uri.port_u16().is_some()
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.path_and_query().is_none_or(|rest| rest.as_str() == "/")
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        match (plain, is_tls) {
            (false, _) => Err(AddressError::Url(text.to_owned())),
            (true, false) => Ok(Self::Http(uri)),
            (true, true) => Ok(Self::Https(uri)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Http(_) => write!(f, "http://{}", self.authority().unwrap_or_default()),
            Self::Https(_) => write!(f, "https://{}", self.authority().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, AddressError> {
        text.parse()
    }

    #[test]
    fn the_four_forms() {
        assert_eq!(parse("unix:/run/hot/hotd.sock"), Ok(Address::Unix("/run/hot/hotd.sock".into())));
        assert_eq!(parse("unix:///run/hot/hotd.sock"), Ok(Address::Unix("/run/hot/hotd.sock".into())));
        assert_eq!(parse("http://127.0.0.1:7001").expect("parses").to_string(), "http://127.0.0.1:7001");
        assert_eq!(parse("http://[::1]:7001/").expect("parses").to_string(), "http://[::1]:7001");
        assert_eq!(parse("https://node:7001/").expect("parses").to_string(), "https://node:7001");
        assert!(matches!(parse("https://node:7001"), Ok(Address::Https(_))));
    }

    #[test]
    fn what_is_no_address() {
        for text in ["", "127.0.0.1:7001", "ftp://x:1", "/run/hot/hotd.sock"] {
            assert!(matches!(parse(text), Err(AddressError::Scheme(_))), "{text}");
        }
        for text in ["unix:", "unix:relative", "unix://host/path"] {
            // The last one: `unix://` takes no host.
            assert!(matches!(parse(text), Err(AddressError::Path(_))), "{text}");
        }
        for text in [
            "http://node",
            "https://node",
            "https://a:1/x",
            "http://:1",
            "http://a:1/path",
            "http://user@a:1",
            "http://a:1?q",
        ] {
            assert!(matches!(parse(text), Err(AddressError::Url(_))), "{text}");
        }
    }

    #[test]
    fn a_scheme_that_is_missing_is_named() {
        let hint = |text: &str| parse(text).expect_err(text).to_string();
        assert!(hint("/run/hot/hotd.sock").ends_with("unix:PATH; did you mean unix:/run/hot/hotd.sock?"));
        assert!(hint("127.0.0.1:7001").ends_with("; did you mean http://127.0.0.1:7001?"));
        assert!(hint("ftp://x:1").ends_with("or unix:PATH"));
        assert!(hint("greeter").ends_with("or unix:PATH"));
    }

    #[test]
    fn secrets_stay_on_the_machine() {
        for (text, local) in [
            ("unix:/x", true),
            ("http://127.0.0.1:1", true),
            ("http://127.9.9.9:1", true),
            ("http://[::1]:1", true),
            ("http://localhost:1", true),
            ("http://10.0.0.1:1", false),
            ("http://localhost.example:1", false),
        ] {
            assert_eq!(parse(text).expect(text).is_local(), local, "{text}");
        }
    }
}
