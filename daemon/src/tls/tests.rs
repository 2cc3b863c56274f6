use std::fs;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::made::{Authority, Party};
use super::*;

/// A certificate and its key, in a folder of their own.
struct Files {
    folder: TempDir,
    config: config::Tls,
}

impl Files {
    fn new(until: i32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let config = config::Tls {
            listen: Vec::new(),
            certificate: at("chain.pem"),
            key: at("key.pem"),
            authority: None,
        };
        let files = Self { folder, config };
        let (certificate, key) = made(until);
        files.put(&files.config.certificate, &certificate);
        files.put(&files.config.key, &key);
        files
    }

    fn open(&self) -> TlsFiles {
        TlsFiles::open(self.config.clone()).unwrap()
    }

    /// A new file takes the place of the one before.
    fn put(&self, file: &Path, text: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, file).unwrap();
    }
}

/// A certificate that is good until the first day of a year, and its key.
fn made(until: i32) -> (String, String) {
    let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn look(files: &TlsFiles) -> Option<(&'static str, String)> {
    files.read_anew()
}

fn shown(files: &TlsFiles) -> Arc<CertifiedKey> {
    Arc::clone(&files.state().certificate)
}

#[test]
fn a_change_that_can_not_be_used_changes_nothing_and_is_told_once() {
    let files = Files::new(4000);
    let tls = TlsFiles::open(files.config.clone()).unwrap();
    assert_eq!((look(&tls), tls.troubles()), (None, Vec::new()));
    let before = shown(&tls);

    let (certificate, key) = made(4001);
    files.put(&files.config.certificate, &certificate);
    let (kind, text) = look(&tls).unwrap();
    assert_eq!(kind, REFUSED);
    assert!(text.contains("key.pem is not that of the first certificate in "), "{text}");
    let troubles = tls.troubles();
    assert_eq!(
        troubles.iter().map(|trouble| (trouble.code, &trouble.text)).collect::<Vec<_>>(),
        [(REFUSED, &text)]
    );
    assert_eq!((look(&tls), tls.troubles()), (None, troubles.clone()));
    // As bad as before, since then.
    files.put(&files.config.certificate, &certificate);
    assert_eq!((look(&tls), tls.troubles()), (None, troubles));
    assert!(Arc::ptr_eq(&shown(&tls), &before));

    files.put(&files.config.key, &key);
    let (kind, text) = look(&tls).unwrap();
    assert!(kind == RENEWED && text.ends_with("it is good until 4001-01-01T00:00:00Z"), "{text}");
    assert!(shown(&tls).cert != before.cert && tls.troubles().is_empty());
}

#[test]
fn a_file_that_is_back_as_it_was_is_found() {
    let files = Files::new(4000);
    let tls = TlsFiles::open(files.config.clone()).unwrap();
    let away = files.folder.path().join("away");
    fs::rename(&files.config.key, &away).unwrap();
    assert_eq!(look(&tls).unwrap().0, REFUSED);
    fs::rename(&away, &files.config.key).unwrap();
    assert_eq!(look(&tls).unwrap().0, RENEWED);
    assert_eq!(tls.troubles(), []);
}

#[test]
fn a_file_that_was_only_touched_is_no_news() {
    let files = Files::new(4000);
    let tls = TlsFiles::open(files.config.clone()).unwrap();
    let text = fs::read_to_string(&files.config.certificate).unwrap();
    files.put(&files.config.certificate, &text);
    assert_eq!(look(&tls), None);
}

#[test]
fn an_expired_certificate_is_shown_and_told_until_it_is_renewed() {
    let files = Files::new(2001);
    let tls = TlsFiles::open(files.config.clone()).unwrap();
    let troubles = tls.troubles();
    assert!(troubles.len() == 1 && troubles[0].code == EXPIRY, "{troubles:?}");
    let expected = format!("the certificate in {} has expired", files.config.certificate.display());
    assert!(troubles[0].text.starts_with(&expected), "{troubles:?}");
    let (certificate, key) = made(4000);
    files.put(&files.config.key, &key);
    files.put(&files.config.certificate, &certificate);
    assert_eq!(look(&tls).unwrap().0, RENEWED);
    assert_eq!(tls.troubles(), []);
}

/// What the handshake of two comes to, and what the caller hears next: with TLS 1.3 its own certificate is judged after that.
async fn met(called: &TlsFiles, caller: &TlsFiles, name: &'static str) -> Result<(), [String; 2]> {
    let (here, there) = tokio::io::duplex(1 << 16);
    let (acceptor, connector) =
        (TlsAcceptor::from(called.server()), TlsConnector::from(caller.client().unwrap()));
    let serve = async {
        let mut stream = acceptor.accept(there).await.map_err(|error| error.to_string())?;
        stream.write_all(b"x").await.map_err(|error| error.to_string())?;
        stream.flush().await.map_err(|error| error.to_string())
    };
    let call = async {
        let stream = connector.connect(name.try_into().unwrap(), here).await;
        let mut stream = stream.map_err(|error| error.to_string())?;
        stream.read_u8().await.map(drop).map_err(|error| error.to_string())
    };
    match tokio::join!(serve, call) {
        (Ok(()), Ok(())) => Ok(()),
        (served, called) => Err([served, called].map(|end| end.err().unwrap_or_default())),
    }
}

#[tokio::test]
async fn nodes_of_one_authority_take_each_other() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let party = |authority: &Authority, pair: [String; 2]| Party::new(authority, &pair).open();
    let (one, two) = (party(&ours, ours.issue("one")), party(&ours, ours.issue("two")));
    assert_eq!(met(&one, &two, "127.0.0.1").await, Ok(()));
    let [_, wrong_name] = met(&one, &two, "127.0.0.2").await.unwrap_err();
    assert!(wrong_name.contains("not valid for name"), "{wrong_name}");
    let stranger = party(&ours, other.issue("stranger"));
    let [served, called] = met(&one, &stranger, "127.0.0.1").await.unwrap_err();
    assert!(served.contains("UnknownIssuer") && called.contains("UnknownCA"), "{served} / {called}");
    let [_, called] = met(&stranger, &one, "127.0.0.1").await.unwrap_err();
    assert!(called.contains("UnknownIssuer"), "{called}");
    assert!(Files::new(4000).open().client().is_none(), "nobody is called by the certificate of HTTP");
}

#[test]
fn all_three_files_change_together() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let party = Party::new(&first, &first.issue("one"));
    let tls = party.open();
    let mut mutual = tls.mutual().unwrap();
    let before = shown(&tls);
    // As a renewal does it: the key is in place, and its certificate not yet.
    let [certificate, key] = first.issue("one");
    party.put("own.key", &key);
    let (kind, text) = look(&tls).unwrap();
    assert!(kind == REFUSED && text.contains("own.key is not that of"), "{text}");
    assert!(!mutual.has_changed().unwrap() && Arc::ptr_eq(&shown(&tls), &before));
    party.put("own.pem", &certificate);
    assert_eq!(look(&tls).unwrap().0, RENEWED);
    assert!(mutual.has_changed().unwrap() && shown(&tls).cert != before.cert);
    mutual.mark_unchanged();

    party.put("ca.pem", &format!("{}{}", first.pem, second.pem));
    let (kind, text) = look(&tls).unwrap();
    assert!(kind == RENEWED && text.contains("ca.pem was read anew"), "{text}");
    assert!(!text.contains("own.pem"), "{text}");
    party.put("ca.pem", &certificate);
    let (kind, text) = look(&tls).unwrap();
    assert!(kind == REFUSED && text.contains("ca.pem is none of an authority"), "{text}");
    assert!(text.contains("those of before count on"), "{text}");
    assert_eq!(tls.troubles().len(), 1);
    party.put("ca.pem", &second.pem);
    assert_eq!((look(&tls).unwrap().0, tls.troubles()), (RENEWED, Vec::new()));
}
