use std::pin::Pin;

use rustls::ClientConfig;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::server::Connected as _;

use super::*;
use crate::tls::made::{Authority, Party, Wanted};

/// An open door, and who comes through it.
struct Open {
    address: SocketAddr,
    files: TlsFiles,
    callers: Pin<Box<dyn Stream<Item = io::Result<Connection>>>>,
}

impl Open {
    async fn by(party: &Party) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, files) = (listener.local_addr().unwrap(), party.open());
        let callers = Box::pin(callers(vec![listener], &files));
        Self { address, files, callers }
    }

    async fn next(&mut self) -> Connection {
        self.callers.next().await.unwrap().unwrap()
    }

    /// Calls, and waits for what is said to that.
    async fn call(&self, client: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        TlsConnector::from(client).connect("127.0.0.1".try_into().unwrap(), stream).await
    }

    /// What a caller hears who is not let in.
    async fn refused(&self, client: Arc<ClientConfig>) -> String {
        let heard = match self.call(client).await {
            Ok(mut stream) => stream.read_u8().await.map(drop),
            Err(error) => Err(error),
        };
        heard.unwrap_err().to_string()
    }
}

fn client(authority: &Authority, pair: &[String; 2]) -> Arc<ClientConfig> {
    Party::new(authority, pair).open().client().unwrap()
}

#[tokio::test]
async fn who_is_let_in_has_a_name() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let mut open = Open::by(&Party::new(&ours, &ours.issue("web-1"))).await;
    for (pair, alert) in [
        (other.issue("ann"), "UnknownCA"),
        (ours.sign(Wanted { name: Some("ann"), from: 2020, until: 2021 }), "CertificateExpired"),
        (ours.sign(Wanted { name: Some("ann"), from: 3000, until: 4000 }), "CertificateExpired"),
        (ours.sign(Wanted { name: None, from: 2020, until: 4000 }), "CertificateUnknown"),
    ] {
        let heard = open.refused(client(&ours, &pair)).await;
        assert!(heard.contains(alert), "{alert}: {heard}");
    }
    let none = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(&ours))
        .with_no_client_auth();
    let heard = open.refused(Arc::new(none)).await;
    assert!(heard.contains("CertificateRequired"), "{heard}");

    let mut ann = open.call(client(&ours, &ours.issue("ann"))).await.unwrap();
    let mut connection = open.next().await;
    let Shown { address, name } = connection.connect_info();
    assert_eq!((&*name, address), ("ann", ann.get_ref().0.local_addr().unwrap()));
    ann.write_all(b"x").await.unwrap();
    ann.flush().await.unwrap();
    assert_eq!(connection.read_u8().await.unwrap(), b'x');
}

#[test]
fn the_log_says_what_a_certificate_lacks() {
    let absent = CertificateError::Other(OtherError(Arc::new(NameError::Absent)));
    let of_tls = rustls::Error::InvalidCertificate(absent);
    let error = UnadmittedError::of_handshake(io::Error::new(io::ErrorKind::InvalidData, of_tls));
    assert!(crate::describe(&error).starts_with("the certificate's subject has no common name"), "{error}");
    let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
    let error = UnadmittedError::of_handshake(io::Error::new(io::ErrorKind::InvalidData, unknown));
    assert!(crate::describe(&error).contains("UnknownIssuer"), "{error}");
}

fn roots(authority: &Authority) -> rustls::RootCertStore {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    roots
}

#[tokio::test]
async fn whoever_says_nothing_holds_nobody_up() {
    let ours = Authority::new("ours");
    let mut open = Open::by(&Party::new(&ours, &ours.issue("web-1"))).await;
    let mut silent = Vec::new();
    for _ in 0..=MAX_HANDSHAKES {
        silent.push(TcpStream::connect(open.address).await.unwrap());
    }
    let _ann = open.call(client(&ours, &ours.issue("ann"))).await.unwrap();
    assert_eq!(&*open.next().await.connect_info().name, "ann");
    // The oldest had to give way.
    assert_eq!(silent[0].read(&mut [0]).await.unwrap_or_default(), 0);
}

#[tokio::test]
async fn whose_authority_is_gone_is_cut_off() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let party = Party::new(&first, &first.issue("web-1"));
    party.put("ca.pem", &format!("{}{}", first.pem, second.pem));
    let mut open = Open::by(&party).await;
    let mut ann = open.call(client(&first, &first.issue("ann"))).await.unwrap();
    let mut of_ann = open.next().await;
    let mut bob = open.call(client(&first, &second.issue("bob"))).await.unwrap();
    let mut of_bob = open.next().await;

    party.put("ca.pem", &second.pem);
    assert!(open.files.read_anew().is_some());
    let ended = of_ann.read_u8().await.unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted);
    drop(of_ann);
    assert!(ann.read_u8().await.is_err());
    bob.write_all(b"x").await.unwrap();
    bob.flush().await.unwrap();
    assert_eq!(of_bob.read_u8().await.unwrap(), b'x', "the authority of this one counts on");
    let heard = open.refused(client(&first, &first.issue("ann"))).await;
    assert!(heard.contains("UnknownCA"), "{heard}");
}
