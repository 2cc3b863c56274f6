//! `[http]` and `[http.tls]`.

use super::*;

#[test]
fn a_duration_out_of_bounds_is_told_from_none() {
    let found = mistakes("[http]\nlisten = [\"127.0.0.1:80\"]\nmax_wait = \"0s\"\nidle_timeout = \"366d\"\n");
    let expected = [
        "hotd.toml:3: [http] max_wait: found \"0s\", expected more than 0",
        "hotd.toml:4: [http] idle_timeout: found \"366d\", expected at most \"365d\"",
    ];
    assert_eq!(found, expected);
}

#[test]
fn http_is_served_without_tls_or_with_it_or_both() {
    const TLS: &str =
        "[http.tls]\nlisten = [\"127.0.0.1:8443\"]\ncertificate = \"/a.pem\"\nkey = \"/b.pem\"\n";
    let served = |text: &str| {
        let http = Config::parse(text, Path::new(FILE)).unwrap().http;
        (http.listen.len(), http.tls.map_or(0, |tls| tls.listen.len()))
    };
    assert_eq!((served(SMALL), served(TLS), served(&format!("{SMALL}{TLS}"))), ((1, 0), (0, 1), (1, 1)));
    let all_at_once = "[http.tls]\ncertificate = \"chain.pem\"\nkye = \"/key.pem\"\n";
    assert_eq!(
        mistakes(all_at_once),
        [
            "hotd.toml:1: [http.tls] key: is missing, expected the file of its private key in PEM like \
             \"/etc/hotd/tls/key.pem\"",
            "hotd.toml:1: [http.tls] listen: is missing, expected addresses like [\"0.0.0.0:8443\"]",
            "hotd.toml:2: [http.tls] certificate: found \"chain.pem\", expected an absolute path like \"/var/lib/hotd\"",
            "hotd.toml:3: unknown key \"kye\" in [http.tls]; did you mean \"key\"?",
        ]
    );
    let both = format!("{SMALL}{}", TLS.replace("8443", "8080"));
    assert_eq!(
        mistakes(&both),
        [
            "hotd.toml:4: [http.tls] listen: 127.0.0.1:8080 stands in [http] listen as well, expected another port: what is \
          spoken there is HTTP without TLS"
        ]
    );
    for (plain, tls, meet) in [
        ("0.0.0.0:80", "10.0.0.1:80", true),
        ("[::1]:80", "[::]:80", true),
        ("0.0.0.0:80", "[::]:80", false),
        ("0.0.0.0:80", "[::1]:80", false),
        ("0.0.0.0:80", "0.0.0.0:81", false),
    ] {
        let text = format!("[http]\nlisten = [\"{plain}\"]\n{}", TLS.replace("127.0.0.1:8443", tls));
        let parsed = Config::parse(&text, Path::new(FILE));
        assert_eq!(parsed.is_err(), meet, "{plain} {tls}: {parsed:?}");
        let twice = format!("[http]\nlisten = [\"{plain}\", \"{tls}\"]\n");
        assert_eq!(Config::parse(&twice, Path::new(FILE)).is_err(), meet, "{plain} {tls}");
    }
    let any = both.replace("8080", "0");
    assert_eq!(served(&any), (1, 1), "any port is another one each time");
    for wrong in ["[http]\nlisten = []\n", "[http]\ntls = 1\n"] {
        assert_eq!(mistakes(wrong).len(), 1, "{:#?}", mistakes(wrong));
    }
    assert_eq!(mistakes(&format!("[http]\nlisten = []\n{TLS}")).len(), 1);
}

#[test]
fn a_bound_that_another_one_makes_mean_nothing_is_refused() {
    let http = |lines: &str| mistakes(&format!("{SMALL}{lines}"));
    assert_eq!(
        http(
            "stream_grace = \"31s\"\nmax_wait = \"11s\"\nrequest_deadline = \"10s\"\nthreads = 3\nmax_connections = 2"
        ),
        [
            "hotd.toml:3: [http] stream_grace: 31s is longer than drain_deadline (30s), which ends streams when hotd stops; \
             expected at most that",
            "hotd.toml:4: [http] max_wait: 11s is longer than request_deadline (10s), which ends the wait as well; expected \
             at most that",
            "hotd.toml:6: [http] threads: 3 is more than max_connections (2), and each thread takes one at least; expected \
             at most that",
        ]
    );
    let equal = "stream_grace = \"30s\"\nmax_wait = \"30s\"\nthreads = 2\nmax_connections = 2";
    assert_eq!(http(equal), Vec::<String>::new());
    // What the file does not say gives way.
    let small = "drain_deadline = \"1s\"\nrequest_deadline = \"1s\"\nmax_connections = 1";
    let config = Config::parse(&format!("{SMALL}{small}"), Path::new(FILE)).unwrap();
    assert_eq!(config.http.gateway.threads, 1);
}
