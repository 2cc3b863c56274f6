//! A service that serves with TLS by itself: a client that many have (curl), a renewal, a restart.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hot_tests::{Key, Module, Service, WAIT, get, text};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

const NAME: &str = "web-1.example";

/// Who vouches for the certificates, and where they are.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than the certificates have by default: one that names itself as its issuer is none of an authority's.
        params.distinguished_name.push(DnType::CommonName, "the authority of a test");
        let (key, folder) = (KeyPair::generate()?, tempfile::tempdir()?);
        fs::write(folder.path().join("authority.pem"), params.self_signed(&key)?.pem())?;
        let authority = Self { issuer: Issuer::new(params, key), folder };
        authority.put("chain.pem", &authority.renew()?)?;
        Ok(authority)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new key takes the place of the old one. Gives the certificate.
    fn renew(&self) -> Result<String> {
        let key = KeyPair::generate()?;
        self.put("key.pem", &key.serialize_pem())?;
        Ok(CertificateParams::new([NAME.to_owned()])?.signed_by(&key, &self.issuer)?.pem())
    }

    fn put(&self, name: &str, text: &str) -> Result<()> {
        let new = self.at("new");
        fs::write(&new, text)?;
        Ok(fs::rename(&new, self.at(name))?)
    }

    /// The lines of `[http]` for these files.
    fn lines(&self) -> String {
        let (certificate, key) = (self.at("chain.pem"), self.at("key.pem"));
        format!("[http.tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = {certificate:?}\nkey = {key:?}\n")
    }
}

/// What curl gets, with a line behind it that says the version of HTTP; none where there is no curl.
fn curl(service: &Service, authority: &Path, option: &str) -> Result<Option<String>> {
    let port = service.https().context("it serves with TLS")?.port();
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--max-time",
        "30",
        "--write-out",
        "HTTP/%{http_version}",
        option,
    ]);
    curl.arg("--cacert").arg(authority).args(["--resolve", &format!("{NAME}:{port}:127.0.0.1")]);
    let output = match curl.arg(format!("https://{NAME}:{port}/probe")).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        output => output.context("curl")?,
    };
    ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(Some(String::from_utf8(output.stdout)?))
}

/// Waits until the node has this problem, or until it has it no more.
fn wait_problem(service: &Service, code: &str, wanted: bool) -> Result<()> {
    let until = Instant::now() + WAIT;
    while service.status()?.problem(code).is_some() != wanted {
        ensure!(Instant::now() < until, "{code}: {:?}", service.status()?);
    }
    Ok(())
}

#[test]
fn curl_is_served_before_and_after_a_restart_and_a_renewal() -> Result<()> {
    let (authority, keys) = (Authority::new()?, tempfile::tempdir()?);
    let key = Key::generate(keys.path().join("ada"))?;
    let mut service = Service::start_with_http(&key.signer("ada@example.com")?, &authority.lines(), "")?;
    let file = Module::new("good").build()?;
    service.hotctl(&["push", text(&file)?, "--key", text(key.path())?])?.expect(0)?;
    let trusted = authority.at("authority.pem");
    let both = |service: &Service| -> Result<()> {
        for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
            if let Some(got) = curl(service, &trusted, option)? {
                assert_eq!(got, format!("probe 1.0.0\nHTTP/{version}"));
            }
        }
        assert_eq!(get(service.http(), "/probe")?.body().as_ref(), b"probe 1.0.0\n");
        Ok(())
    };
    both(&service)?;

    let ports = (service.http(), service.https());
    service.terminate()?;
    service.boot()?;
    assert_eq!((service.http(), service.https()), ports, "each has the port that it had");
    both(&service)?;

    // A key without its certificate: what was shown before is shown on.
    let certificate = authority.renew()?;
    wait_problem(&service, "tls.refused", true)?;
    both(&service)?;
    authority.put("chain.pem", &certificate)?;
    wait_problem(&service, "tls.refused", false)?;
    both(&service)?;
    let events = service.hotctl(&["events", "-o", "json"])?.expect(0)?.stdout;
    let at = |kind: &str| {
        events.find(&format!("\"kind\":\"{kind}\"")).with_context(|| format!("no {kind}: {events}"))
    };
    assert!(at("tls.refused")? < at("tls.renewed")?, "{events}");
    service.stop()
}
