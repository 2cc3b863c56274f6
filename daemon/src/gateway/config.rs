//! The gateway's settings, and which clients they trust.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// A connection that is in use has its next request within this, and is told. One that is not costs a restart so much, and a
/// request only if it comes just as the connection ends.
const DRAIN_LINGER: Duration = Duration::from_secs(1);

/// What a client sent before it knew that its connection ends has come by then.
const PARTING: Duration = Duration::from_secs(1);

/// How the gateway treats its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Threads, each with an executor of its own.
    pub threads: usize,
    /// Client connections at once, over all threads. Beyond it nothing is accepted, so the rest wait in the kernel.
    pub max_connections: usize,
    /// The largest head of a request, in bytes; past it 431. At least 8 KiB and at most 64 KiB are kept to.
    pub max_header_bytes: usize,
    /// The largest body of a request, in bytes; past it 413.
    pub max_body_bytes: u64,
    /// How long a head may take to come, from its first byte on.
    pub header_timeout: Duration,
    /// How long a connection may stay open between requests.
    pub idle_timeout: Duration,
    /// How long a connection may stay open between requests once a drain has begun, so that its client learns with its next
    /// answer that it ends.
    pub drain_linger: Duration,
    /// How long a client to which nothing more is said may be silent before its connection is closed.
    pub parting: Duration,
    /// How long a client may take to send the next piece of a body, or to accept one.
    pub stall_timeout: Duration,
    /// How long a stream may go on once it is asked to end, because nothing new goes to its instance.
    pub stream_grace: Duration,
    /// How long a request waits for a place or for a backend before it ends with 503.
    pub max_wait: Duration,
    /// Who may pin a request to a release with the header `x-hot-version`.
    pub pin_from: Sources,
    /// Whose `X-Forwarded-For`, `-Proto` and `-Host` are kept. Those of others are replaced.
    pub forwarded_from: Sources,
    /// Where a line for each request is written, if anywhere.
    pub access_log: Option<PathBuf>,
    /// Whether responses say the release that made them, in the header `x-hot-release`.
    pub show_release: bool,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            threads: cores.min(4),
            max_connections: 10_000,
            max_header_bytes: 64 * 1024,
            max_body_bytes: 16 * 1024 * 1024,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            drain_linger: DRAIN_LINGER,
            parting: PARTING,
            stall_timeout: Duration::from_secs(30),
            stream_grace: Duration::from_secs(10),
            max_wait: Duration::from_secs(5),
            pin_from: Sources::None,
            forwarded_from: Sources::None,
            access_log: None,
            show_release: false,
        }
    }
}

/// A set of client addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Sources {
    /// Nobody.
    #[default]
    None,
    /// Everybody.
    All,
    /// Those in one of these networks.
    In(Vec<Network>),
}

impl Sources {
    /// Whether this client is one of them.
    #[must_use]
    pub fn contain(&self, client: IpAddr) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::In(networks) => networks.iter().any(|network| network.contains(client)),
        }
    }
}

/// A network: an address and the number of its leading bits that count. Written `10.0.0.0/8` or, for one address
/// alone, `10.1.2.3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// What is in front of the slash is no address.
    #[error("{found:?} is no IP address; a network is written like 10.0.0.0/8 or fd00::/8")]
    Address {
        /// The text.
        found: String,
    },
    /// What is behind the slash is no number of bits for such an address.
    #[error("{found:?} is no prefix length; expected 0 to {most} for this address")]
    Bits {
        /// The text.
        found: String,
        /// The address's length, in bits.
        most: u8,
    },
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(at, bits)| (at, Some(bits)));
        let address: IpAddr =
            address.parse().map_err(|_no_address| NetworkError::Address { found: address.to_owned() })?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => match bits.parse() {
                Ok(number) if number <= most => number,
                _ => return Err(NetworkError::Bits { found: bits.to_owned(), most }),
            },
        };
        Ok(Self { address, bits })
    }
}

impl Network {
    /// Whether the address is in this network. An IPv4 address that came in by an IPv6 socket counts as what it is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let ignored = 32 - u32::from(self.bits);
                u64::from(own.to_bits() ^ other.to_bits()) >> ignored == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let ignored = 128 - u32::from(self.bits);
                (own.to_bits() ^ other.to_bits()).checked_shr(ignored).is_none_or(|differing| differing == 0)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_what_shares_their_leading_bits() {
        for (network, address, contained) in [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("10.0.0.0/8", "::1", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::/0", "2001:db8::1", true),
            ("::1", "::1", true),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), contained, "{network} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_was_found() {
        for text in ["", "10.0.0/8", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "localhost"] {
            let error = text.parse::<Network>().unwrap_err();
            assert!(!error.to_string().is_empty());
        }
        let error = "10.0.0.0/33".parse::<Network>().unwrap_err();
        assert_eq!(error.to_string(), "\"33\" is no prefix length; expected 0 to 32 for this address");
    }
}
