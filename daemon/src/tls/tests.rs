use std::fs;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::changes::SETTLE;
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
        let config = config::Tls { listen: Vec::new(), certificate: at("chain.pem"), key: at("key.pem") };
        let files = Self { folder, config };
        let (certificate, key) = made(until);
        files.put(&files.config.certificate, &certificate);
        files.put(&files.config.key, &key);
        files
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

/// Looks until there is nothing more to wait for.
fn look(files: &TlsFiles) -> Option<(&'static str, String)> {
    let now = Instant::now();
    files.look(now).or_else(|| files.look(now + SETTLE))
}

fn shown(files: &TlsFiles) -> Arc<CertifiedKey> {
    files.shown.0.load_full()
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
