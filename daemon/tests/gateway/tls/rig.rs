//! An authority, the files that a gateway is given, and clients that trust the one and see the other.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use hotd::config::Tls;
use hotd::gateway::{Door, GatewayConfig};
use hotd::tls::TlsFiles;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::{
    ALL_VERSIONS, ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use crate::client::{Client, connect};
use crate::h2::client::H2;
use crate::host::{Host, Inbox};
use crate::rig::{A, Rig, door, stable};

/// Whom the certificates are for.
pub(super) const NAME: &str = "test.example";

pub(super) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A gateway with TLS, and all that it takes.
pub(super) struct Secure {
    pub(super) rig: Rig,
    pub(super) host: Host,
    pub(super) inbox: Inbox,
    pub(super) files: TlsFiles,
    pub(super) authority: Authority,
}

impl Secure {
    pub(super) fn new(config: GatewayConfig) -> Self {
        let authority = Authority::new();
        authority.renew();
        let files = TlsFiles::open(authority.files()).expect("a certificate and its key");
        let door = Door { tls: Some(files.server()), ..door() };
        let rig = Rig::behind(door, GatewayConfig { threads: 1, ..config });
        let (host, links, inbox) = Host::watched(1);
        rig.attach(A, links);
        rig.serve(vec![stable(A, 10_000)]);
        Self { rig, host, inbox, files, authority }
    }

    /// A client that speaks HTTP/1.1, and says so.
    pub(super) fn client(&self) -> Client<Stream> {
        self.by(self.authority.client(&[b"http/1.1"]))
    }

    pub(super) fn by(&self, config: Arc<ClientConfig>) -> Client<Stream> {
        Client::over(secure(connect(self.rig.address), config))
    }

    /// One of HTTP/2.
    pub(super) fn h2(&self) -> H2 {
        let connector = TlsConnector::from(self.authority.client(&[b"h2"]));
        let secure = |socket| async move {
            let name = NAME.try_into().expect("a name");
            connector.connect(name, socket).await.expect("a handshake")
        };
        H2::over(self.rig.address, secure, |_| {})
    }
}

pub(super) fn secure(socket: TcpStream, config: Arc<ClientConfig>) -> Stream {
    let name = NAME.try_into().expect("a name");
    let mut stream = StreamOwned::new(ClientConnection::new(config, name).expect("a client"), socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).expect("a handshake");
    }
    stream
}

/// Who vouches for certificates, and a folder for them.
pub(super) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        let folder = tempfile::tempdir().expect("a folder");
        Self { certificate, issuer: Issuer::new(params, key), folder }
    }

    pub(super) fn files(&self) -> Tls {
        let at = |name: &str| self.folder.path().join(name);
        Tls { listen: Vec::new(), certificate: at("chain.pem"), key: at("key.pem"), authority: None }
    }

    /// Puts a new certificate and its key into the files. Gives the certificate.
    pub(super) fn renew(&self) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([NAME.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let Tls { certificate: chain, key: key_file, .. } = self.files();
        self.put(&chain, &certificate.pem());
        self.put(&key_file, &key.serialize_pem());
        certificate.der().clone()
    }

    /// As whoever renews does: the new file takes the place of the old one.
    pub(super) fn put(&self, file: &PathBuf, text: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, text).expect("a file");
        fs::rename(&new, file).expect("it takes the place");
    }

    /// A client that would speak these protocols, each time by a handshake of its own.
    pub(super) fn client(&self, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        Arc::new(self.config(protocols, ALL_VERSIONS))
    }

    pub(super) fn config(
        &self,
        protocols: &[&[u8]],
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("an authority");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions that are known")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config
    }
}

impl Client<Stream> {
    /// The certificate that it was shown.
    pub(super) fn seen(&self) -> CertificateDer<'static> {
        let chain = self.socket.get_ref().conn.peer_certificates().expect("a certificate");
        chain[0].clone().into_owned()
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.socket.get_ref().sock
    }
}

/// All that comes until the other side has ended its own, or has reset it.
pub(super) fn read_out(socket: &mut TcpStream) -> Vec<u8> {
    let (mut came, mut space) = (Vec::new(), [0; 1024]);
    while let Ok(len @ 1..) = socket.read(&mut space) {
        came.extend_from_slice(&space[..len]);
    }
    came
}

/// What a client of TLS says first.
pub(super) fn hello(authority: &Authority) -> Vec<u8> {
    let name = NAME.try_into().expect("a name");
    let mut client = ClientConnection::new(authority.client(&[b"http/1.1"]), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a hello");
    hello
}

/// To tell where a gateway is, without TLS.
pub(super) fn plain(address: SocketAddr) -> TcpStream {
    connect(address)
}
