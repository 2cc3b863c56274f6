//! Where the node listens: addresses, and the tables of TLS that name files besides.

use std::net::SocketAddr;

use super::read::Section;
use super::tls::TlsLines;
use super::values::{absolute_path, address, socket_path};
use super::{Grpc, Http, Tls};

/// What else listens on an address: the setting that names it, and what is spoken there.
struct Taken<'a> {
    setting: &'static str,
    spoken: &'static str,
    addresses: &'a [SocketAddr],
}

/// Where HTTP is served with TLS, beside `plain`, and where that names its files.
pub(super) fn tls(http: &Section<'_>, plain: &[SocketAddr]) -> (Option<Tls>, Option<TlsLines>) {
    if !http.has("tls") {
        return (None, None);
    }
    let section = http.section("tls", "http.tls", &["listen", "certificate", "key"]);
    let listen = listen(&section, "addresses like [\"0.0.0.0:8443\"]");
    let plain = Taken { setting: "[http] listen", spoken: "HTTP without TLS", addresses: plain };
    must_be_free(&section, &listen, &[plain]);
    let pair = Pair::read(&section);
    let tls = Tls { listen, certificate: pair.certificate, key: pair.key, authority: None };
    (Some(tls), pair.lines)
}

/// The second is where `[grpc.tls]` names its files.
pub(super) fn grpc(top: &Section<'_>, http: &Http) -> (Grpc, Option<TlsLines>) {
    const LISTEN: &str = "is for [grpc.tls]: by TCP the node lets in only callers with a certificate; move it there, or remove \
                          it and use the Unix socket";
    let section = top.section("grpc", "grpc", &["socket", "listen", "tls"]);
    if section.has("listen") {
        section.mistake("listen", LISTEN);
    }
    let socket = section.value("socket", socket_path).unwrap_or_else(|| "/run/hot/hotd.sock".into());
    let (tls, lines) = mutual(&section, http);
    (Grpc { socket, listen: None, tls }, lines)
}

/// Where gRPC is served to callers with a certificate.
fn mutual(grpc: &Section<'_>, http: &Http) -> (Option<Tls>, Option<TlsLines>) {
    if !grpc.has("tls") {
        return (None, None);
    }
    let section = grpc.section("tls", "grpc.tls", &["listen", "certificate", "key", "authority"]);
    let listen = listen(&section, "addresses like [\"10.0.0.1:7443\"]");
    let with_tls = http.tls.as_ref().map_or(&[][..], |tls| &tls.listen);
    let taken = [
        Taken { setting: "[http] listen", spoken: "HTTP", addresses: &http.listen },
        Taken { setting: "[http.tls] listen", spoken: "HTTP", addresses: with_tls },
    ];
    must_be_free(&section, &listen, &taken);
    let pair = Pair::read(&section);
    let authority = section.required(
        "authority",
        "a file of the certificates, in PEM, of those who sign callers' like \"/etc/hotd/tls/ca.pem\"",
        section.value("authority", absolute_path),
    );
    let lines = pair.lines.filter(|_| authority.is_some());
    let lines = lines.map(|lines| TlsLines { authority: section.line("authority"), ..lines });
    let authority = Some(authority.unwrap_or_default());
    (Some(Tls { listen, certificate: pair.certificate, key: pair.key, authority }), lines)
}

/// A certificate and its key.
#[derive(Default)]
struct Pair {
    certificate: std::path::PathBuf,
    key: std::path::PathBuf,
    /// None where not both are named.
    lines: Option<TlsLines>,
}

impl Pair {
    fn read(section: &Section<'_>) -> Self {
        let file =
            |key: &str, expected: &str| section.required(key, expected, section.value(key, absolute_path));
        let certificate =
            file("certificate", "a file of certificates in PEM like \"/etc/hotd/tls/fullchain.pem\"");
        let key = file("key", "the file of its private key in PEM like \"/etc/hotd/tls/key.pem\"");
        let Some((certificate, key)) = certificate.zip(key) else { return Self::default() };
        let (of_certificate, of_key) = (section.line("certificate"), section.line("key"));
        let lines = TlsLines { certificate: of_certificate, key: of_key, authority: of_certificate };
        Self { certificate, key, lines: Some(lines) }
    }
}

fn must_be_free(section: &Section<'_>, listen: &[SocketAddr], taken: &[Taken<'_>]) {
    for Taken { setting, spoken, addresses } in taken {
        let meets = |address: &SocketAddr| addresses.iter().find(|other| meet(**other, *address)).copied();
        let Some((address, other)) = listen.iter().find_map(|address| Some((address, meets(address)?)))
        else {
            continue;
        };
        let both = if other == *address { String::new() } else { format!(", as {other}") };
        let text = format!(
            "{address} stands in {setting} as well{both}, expected another port: what is spoken there is {spoken}"
        );
        section.mistake("listen", &text);
        return;
    }
}

/// Whether only one of two can be listened on: `0.0.0.0` is every address of IPv4, `[::]` every one of IPv6. Whether that is
/// all of IPv4, too, is the system's choice (`net.ipv6.bindv6only`).
fn meet(a: SocketAddr, b: SocketAddr) -> bool {
    let is_any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || (is_any && a.is_ipv4() == b.is_ipv4()))
}

/// The addresses that a table has to name: at least one, and each once.
pub(super) fn listen(section: &Section<'_>, expected: &str) -> Vec<SocketAddr> {
    let listen =
        section.required("listen", expected, section.values("listen", expected, address)).unwrap_or_default();
    let again = |(at, address): (usize, &SocketAddr)| {
        let before = listen[..at].iter().find(|before| meet(**before, *address))?;
        Some((*address, *before))
    };
    if let Some((address, before)) = listen.iter().enumerate().find_map(again) {
        let text = if address == before {
            format!("{address} stands there twice, expected each address once")
        } else {
            format!("{address} and {before} can't both be listened on, expected one of them or another port")
        };
        section.mistake("listen", &text);
    }
    if section.has("listen") && listen.is_empty() {
        section.value("listen", |value| match value.as_array() {
            Some(array) if array.is_empty() => Err(format!("at least one of {expected}")),
            _ => Ok(()),
        });
    }
    listen
}
