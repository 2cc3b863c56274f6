//! `[grpc]` and `[grpc.tls]`.

use super::*;

#[test]
fn callers_from_elsewhere_need_all_four_keys() {
    let found = mistakes(&format!("{SMALL}[grpc.tls]\nautority = \"/ca.pem\"\nkey = \"web-1.key\"\n"));
    assert_eq!(
        found,
        [
            "hotd.toml:3: [grpc.tls] authority: is missing, expected a file of the certificates, in PEM, of those who sign callers' like \"/etc/hotd/tls/ca.pem\"",
            "hotd.toml:3: [grpc.tls] certificate: is missing, expected a file of certificates in PEM like \"/etc/hotd/tls/fullchain.pem\"",
            "hotd.toml:3: [grpc.tls] listen: is missing, expected addresses like [\"10.0.0.1:7443\"]",
            "hotd.toml:4: unknown key \"autority\" in [grpc.tls]; did you mean \"authority\"?",
            "hotd.toml:5: [grpc.tls] key: found \"web-1.key\", expected an absolute path like \"/var/lib/hotd\"",
        ]
    );
    assert!(Config::parse(SMALL, Path::new(FILE)).unwrap().grpc.tls.is_none());
}

#[test]
fn a_port_speaks_one_thing() {
    const FILES: &str = "certificate = \"/a.pem\"\nkey = \"/a.key\"\n";
    let text = |http: &str, https: &str, grpc: &str| {
        format!(
            "[http]\nlisten = [\"{http}\"]\n[http.tls]\nlisten = [\"{https}\"]\n{FILES}[grpc.tls]\nlisten = [\"{grpc}\"]\n\
             authority = \"/ca.pem\"\n{FILES}"
        )
    };
    assert_eq!(mistakes_of(&text("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0")), 0);
    assert_eq!(mistakes_of(&text("0.0.0.0:80", "0.0.0.0:443", "10.0.0.1:7443")), 0);
    for taken in ["80", "443"] {
        let found = mistakes(&text("0.0.0.0:80", "0.0.0.0:443", &format!("10.0.0.1:{taken}")));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0].contains("[grpc.tls] listen: 10.0.0.1:") && found[0].contains("as well, as 0.0.0.0:")
        );
    }
}

fn mistakes_of(text: &str) -> usize {
    Config::parse(text, Path::new(FILE)).map_or_else(|Mistakes(found)| found.len(), |_| 0)
}
