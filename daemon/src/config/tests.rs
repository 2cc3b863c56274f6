use super::*;
use crate::gateway::Sources;

const FILE: &str = "hotd.toml";

const SMALL: &str = "[http]\nlisten = [\"127.0.0.1:8080\"]\n";

const FULL: &str = r#"
node = "web-1"
data_dir = "/srv/hot"

[http]
listen = ["0.0.0.0:80", "[::]:80"]
max_body = "1MiB"
max_header = "16KiB"
max_connections = 100
request_deadline = "10s"
max_in_flight = 7
max_waiting = 0
max_streams = 5
max_wait = "500ms"
header_timeout = "1s"
idle_timeout = "2m"
stall_timeout = "3s"
stream_grace = "4s"
drain_deadline = "1m"
threads = 3
pin_from = ["127.0.0.1"]
forwarded_from = ["10.0.0.0/8", "fd00::/8"]
access_log = "/var/log/x/access.log"
show_release = true

[http.tls]
listen = ["0.0.0.0:443"]
certificate = "/etc/x/chain.pem"
key = "/etc/x/key.pem"

[grpc]
socket = "/run/x.sock"

[trust]
allowed_signers = "/etc/x/signers"
libraries = ["libc.so.6"]
revoked = "/etc/x/revoked"
[trust.modules]
"pay-*" = ["anna"]

[store]
keep = 3
max_artifact = "10MiB"
upload_patience = "5s"

[policy]
steps = ["1% 5m", "50%", "100%"]
bake = "1m"
error_rate = "0.5%"
p99_ratio = 1.5
p99_floor = "10ms"
min_requests = 100
patience = "1m"
start_deadline = "5s"
health_interval = "2s"
health_threshold = 4
standby = "10m"
deadline = "2h"
expiry = "30s"
error_cap = "20%"
spread = true

[spawn]
socket = "/run/y.sock"

[log]
level = "info,hotd=debug"
format = "json"
"#;

fn mistakes(text: &str) -> Vec<String> {
    match Config::parse(text, Path::new(FILE)) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.to_string().lines().map(str::to_owned).collect(),
    }
}

#[test]
fn every_key_is_read() {
    let config = Config::parse(FULL, Path::new(FILE)).unwrap();
    assert_eq!((config.mode, config.node.as_str()), (Mode::Service, "web-1"));
    assert_eq!(config.data_dir, Path::new("/srv/hot"));
    let expected = Http {
        listen: vec!["0.0.0.0:80".parse().unwrap(), "[::]:80".parse().unwrap()],
        tls: Some(Tls {
            listen: vec!["0.0.0.0:443".parse().unwrap()],
            certificate: "/etc/x/chain.pem".into(),
            key: "/etc/x/key.pem".into(),
        }),
        gateway: GatewayConfig {
            threads: 3,
            max_connections: 100,
            max_header_bytes: 16 << 10,
            max_body_bytes: 1 << 20,
            header_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(120),
            drain_linger: GatewayConfig::default().drain_linger,
            parting: GatewayConfig::default().parting,
            stall_timeout: Duration::from_secs(3),
            stream_grace: Duration::from_secs(4),
            max_wait: Duration::from_millis(500),
            pin_from: Sources::In(vec!["127.0.0.1".parse().unwrap()]),
            forwarded_from: Sources::In(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]),
            access_log: Some("/var/log/x/access.log".into()),
            show_release: true,
        },
        request_deadline: Duration::from_secs(10),
        max_in_flight: 7,
        max_waiting: 0,
        max_streams: 5,
        drain_deadline: Duration::from_secs(60),
    };
    assert_eq!(config.http, expected);
    assert_eq!(config.grpc, Grpc { socket: "/run/x.sock".into(), listen: None });
    assert_eq!(config.trust.allowed_signers, Path::new("/etc/x/signers"));
    assert_eq!(config.trust.libraries.as_deref(), Some(&["libc.so.6".to_owned()][..]));
    assert_eq!(config.trust.revoked.as_deref(), Some(Path::new("/etc/x/revoked")));
    assert!(config.trust.modules.allow(&"pay-x".parse().unwrap(), "anna"));
    assert!(!config.trust.modules.allow(&"pay-x".parse().unwrap(), "berta"));
    let upload_patience = Duration::from_secs(5);
    assert_eq!(config.store, Store { keep: 3, max_artifact: 10 << 20, upload_patience });
    assert_eq!(config.spawn, Spawn::Socket("/run/y.sock".into()));
    assert_eq!(config.log, Log { level: "info,hotd=debug".into(), format: LogFormat::Json });
    let policy = config.policy.spec();
    let steps: Vec<(u16, u64)> = policy.steps.iter().map(|s| (s.share.basis_points(), s.bake.0)).collect();
    assert_eq!(steps, [(100, 300_000), (5000, 60_000), (10_000, 60_000)]);
    assert_eq!((policy.error_rate.basis_points(), policy.error_cap.basis_points()), (50, 2000));
    assert_eq!((policy.p99_ratio.0, policy.p99_floor.0, policy.min_requests), (15_000, 10, 100));
    assert_eq!((policy.patience.0, policy.start_deadline.0, policy.health_interval.0), (60_000, 5000, 2000));
    assert_eq!((policy.health_threshold, policy.standby.0, policy.deadline.0), (4, 600_000, 7_200_000));
    assert_eq!((policy.expiry.0, policy.spread), (30_000, true));
}

#[test]
fn a_listener_is_all_that_is_needed() {
    let config = Config::parse(SMALL, Path::new(FILE)).unwrap();
    assert!(!config.node.is_empty());
    assert_eq!(config.data_dir, Path::new("/var/lib/hotd"));
    assert_eq!(config.grpc.socket, Path::new("/run/hot/hotd.sock"));
    assert_eq!(config.trust.allowed_signers, Path::new("/etc/hotd/allowed_signers"));
    assert_eq!(config.trust.revoked, None);
    assert_eq!(config.policy, hot_rollout::Policy::default());
    assert_eq!(config.http.gateway.max_body_bytes, 64 << 20);
    assert_eq!(config.http.gateway.pin_from, Sources::None);
}

#[test]
fn all_mistakes_are_reported_at_once_by_line() {
    let text = "\
data_dir = \"relative\"
colour = 1
[http]
lisen = [\"127.0.0.1:80\"]
max_body = \"64 monkeys\"
max_in_flight = 0
[grpc]
listen = \"0.0.0.0:1\"
[policy]
steps = [\"50%\", \"10%\", \"ten\"]
bake = 5
[store]
keep = true
[log]
level = \"hotd=loud\"
format = \"xml\"
";
    let expected = [
        "hotd.toml:1: data_dir: found \"relative\", expected an absolute path like \"/var/lib/hotd\"",
        "hotd.toml:2: unknown key \"colour\"; known are data_dir, node, http, grpc, trust, store, policy, spawn, log",
        "hotd.toml:3: [http] listen: is missing, expected addresses like [\"0.0.0.0:8080\"]",
        "hotd.toml:4: unknown key \"lisen\" in [http]; did you mean \"listen\"?",
        "hotd.toml:5: [http] max_body: found \"64 monkeys\", expected a size like \"64MiB\" or \"512KiB\"",
        "hotd.toml:6: [http] max_in_flight: found 0, expected a number from 1 to 10000000",
        "hotd.toml:8: [grpc] listen: TCP needs mutual TLS, which this version does not serve yet; remove it and use the Unix socket, from elsewhere with `ssh -L /tmp/node.sock:/run/hot/hotd.sock HOST`",
        "hotd.toml:10: [policy] steps[2]: found \"ten\", expected a share, and its bake time if it has one of its own, like \"10%\" or \"10% 5m\"",
        "hotd.toml:11: [policy] bake: found 5, expected a duration in whole numbers with ms, s, m, h or d, like \"500ms\", \"30s\" or \"1m30s\"",
        "hotd.toml:13: [store] keep: found true, expected a number from 1 to 1000",
        "hotd.toml:15: [log] level: found \"hotd=loud\", expected a level (error, warn, info, debug, trace) or levels by target like \"info,hotd::gateway=debug\"",
        "hotd.toml:16: [log] format: found \"xml\", expected \"text\" or \"json\"",
    ];
    assert_eq!(mistakes(text), expected);
}

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
fn what_the_policy_says_of_itself_has_a_line_too() {
    let found = mistakes(&format!(
        "{SMALL}[policy]\nsteps = [\"10%\", \"50%\"]\nhealth_threshold = 0\nexpiry = \"1s\"\n"
    ));
    assert_eq!(found.len(), 3, "{found:#?}");
    assert_eq!(found[0], "hotd.toml:4: [policy] steps: the last is 50%; it must be 100%");
    assert!(found[1].starts_with("hotd.toml:5: [policy] health_threshold: is 0"));
    assert!(found[2].starts_with("hotd.toml:6: [policy] expiry: 1s"));
}

#[test]
fn each_kind_of_wrong_value_is_one_mistake() {
    let cases = [
        "[http]\nlisten = []\n",
        "[http]\nlisten = \"127.0.0.1:80\"\n",
        "[http]\nlisten = [\"localhost:80\"]\n",
        "[http]\nlisten = [\"127.0.0.1:80\", \"127.0.0.1:80\"]\n",
        "http = 1\n",
        "[http]\nlisten = [\"127.0.0.1:80\"]\npin_from = [\"10.0.0.0/33\"]\n",
        "[http]\nlisten = [\"127.0.0.1:80\"]\nthreads = 0\n",
        "",
    ];
    for text in cases {
        assert_eq!(mistakes(text).len(), 1, "{text}: {:#?}", mistakes(text));
    }
    let long = format!("socket = \"/{}\"", "x".repeat(107));
    for line in [
        "[grpc]\nsocket = \"hotd.sock\"",
        &format!("[grpc]\n{long}"),
        &format!("[spawn]\n{long}"),
        "[grpc.tls]\ncert = \"x\"",
        "[trust]\nallowed_signers = 1",
        "[trust]\nlibraries = [\"/lib/libc.so.6\"]",
        "[trust.modules]\n\"Pay\" = [\"anna\"]",
        "[trust.modules]\npay = \"anna\"",
        "[trust.modules]\npay = [1]",
        "[store]\nmax_artifact = \"1B\"",
        "[store]\nmax_artifact = 1048576",
        "[store]\nkeep = -1",
        "[store]\nupload_patience = \"0s\"",
        "[store]\nupload_patience = \"999ms\"",
        "[policy]\np99_ratio = 0.5",
        "[policy]\np99_ratio = \"2\"",
        "[policy]\nerror_rate = \"101%\"",
        "[policy]\nerror_rate = 0.01",
        "[policy]\nspread = \"yes\"",
        "[log]\nlevel = \"\"",
    ] {
        let text = format!("{SMALL}{line}\n");
        assert_eq!(mistakes(&text).len(), 1, "{text}: {:#?}", mistakes(&text));
    }
    for line in ["node = \"a b\"", "node = \"\"", "node = \".x\"", "http = []"] {
        assert!(!mistakes(&format!("{line}\n{SMALL}")).is_empty(), "{line}");
    }
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
fn dev_needs_nothing_and_stays_on_loopback() {
    let dev = Dev { data_dir: "/tmp/x".into(), http: Dev::HTTP, grpc: Dev::GRPC };
    let config = Config::dev(&dev).unwrap();
    assert_eq!(config.mode, Mode::Dev);
    assert_eq!(config.http.gateway.pin_from, Sources::All);
    assert_eq!(config.grpc.socket, Path::new("/tmp/x/hotd.sock"));
    assert_eq!(config.spawn.socket(), Path::new("/tmp/x/spawn.sock"));
    assert_eq!(config.trust.allowed_signers, Path::new("/tmp/x/allowed_signers"));
    assert_eq!(config.trust.revoked.as_deref(), Some(Path::new("/tmp/x/revoked_keys")));
    let open = Config::dev(&Dev { http: "0.0.0.0:80".parse().unwrap(), ..dev.clone() });
    assert!(matches!(open, Err(DevError::NotLoopback { option: "--http", .. })));
    let long = Config::dev(&Dev { data_dir: format!("/{}", "x".repeat(96)).into(), ..dev });
    assert!(matches!(long, Err(DevError::DataDir { .. })));
}

/// The tables of sockets, which a check finds a folder for.
fn sockets(folder: &Path) -> String {
    let (control, spawn) = (folder.join("hotd.sock"), folder.join("spawn.sock"));
    format!("[grpc]\nsocket = {control:?}\n[spawn]\nsocket = {spawn:?}\n")
}

#[test]
fn a_check_says_of_a_place_what_is_in_its_way_and_makes_nothing() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("signers"), "# nobody yet\n").unwrap();
    std::fs::write(at("file"), "").unwrap();
    std::fs::create_dir(at("open")).unwrap();
    std::fs::set_permissions(at("open"), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::create_dir_all(at("half/artifacts")).unwrap();
    std::fs::write(at("half/modules"), "").unwrap();
    let check = |data: &str, control: &str, spawn: &str, log: &str| {
        let text = format!(
            "data_dir = {:?}\n{SMALL}access_log = {:?}\n[trust]\nallowed_signers = {:?}\n[grpc]\nsocket = {:?}\n[spawn]\n\
             socket = {:?}\n",
            at(data),
            at(log),
            at("signers"),
            at(control),
            at(spawn)
        );
        std::fs::write(at("hotd.toml"), text).unwrap();
        let before = std::fs::read_dir(folder.path()).unwrap().count();
        let found = match Config::check(&at("hotd.toml")) {
            Ok(checked) => checked.idle.iter().map(ToString::to_string).collect(),
            Err(ConfigError::Invalid(Mistakes(found))) => found.iter().map(ToString::to_string).collect(),
            Err(error) => vec![error.to_string()],
        };
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), before, "nothing is made");
        found
    };
    assert_eq!(check("a/b/data", "c.sock", "s.sock", "log"), [""; 0]);
    // Each alone: the line, what is there, what was expected, what to do.
    let good = ["data", "c.sock", "s.sock", "log"];
    for (place, path, line, words) in [
        (0, "file", 1, ["is not a folder", "name another"]),
        (0, "file/data", 1, ["file is a file, expected a folder", "name another path"]),
        (0, "open", 1, ["every user may write", "chmod o-w"]),
        (0, "half", 1, ["half/modules is not a folder", "name another"]),
        (1, "file", 8, ["file is a file, expected a socket", "move it away"]),
        (1, "open", 8, ["open is a folder, expected a socket", "move it away"]),
        (1, "none/c.sock", 8, ["none is not there, expected one in which hotd", "make the folder"]),
        (1, "file/c.sock", 8, ["file is a file, expected a folder", "name another path"]),
        (2, "file", 10, ["file is a file, expected a socket", "move it away"]),
        (2, "none/s.sock", 10, ["none is not there, expected one in which hot-spawn", "make the folder"]),
        (3, "open", 4, ["open is a folder, expected a file", "name a file in it"]),
        (3, "none/log", 4, ["none is not there, expected one in which hotd", "make the folder"]),
    ] {
        let mut paths = good;
        paths[place] = path;
        let found = check(paths[0], paths[1], paths[2], paths[3]);
        let prefix = format!("{}:{line}: ", at("hotd.toml").display());
        assert_eq!(found.len(), 1, "{path}: {found:#?}");
        let is_said = words.iter().all(|word| found[0].contains(word));
        assert!(found[0].starts_with(&prefix) && is_said, "{path}: {found:#?}");
    }
    // All at once, in the order of the lines.
    let all = check("file", "none/c.sock", "none/s.sock", "none/log");
    assert_eq!(all.len(), 4, "{all:#?}");
    assert!(all[0].contains(":1: data_dir: ") && all[1].contains(":4: [http] access_log: "), "{all:#?}");
    assert!(all[2].contains(":8: [grpc] socket: ") && all[3].contains(":10: [spawn] socket: "), "{all:#?}");
}

#[test]
fn files_are_bounded_and_must_be_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(matches!(Config::load(&at("missing")), Err(ConfigError::Read { .. })));
    assert!(matches!(Config::load(folder.path()), Err(ConfigError::Read { .. })));
    std::fs::write(at("large"), vec![b'#'; 2 << 20]).unwrap();
    assert!(matches!(Config::load(&at("large")), Err(ConfigError::Read { .. })));
    let signers = at("signers");
    let text = format!(
        "data_dir = {:?}\n{SMALL}[trust]\nallowed_signers = {signers:?}\n{}",
        at("data"),
        sockets(folder.path())
    );
    std::fs::write(at("good"), &text).unwrap();
    std::fs::write(&signers, "# nobody yet\n").unwrap();
    assert_eq!(Config::check(&at("good")).unwrap().files.first(), Some(&at("good")));
    std::fs::remove_file(&signers).unwrap();
    assert!(Config::load(&at("good")).is_ok(), "the node may know them from before");
    let missing = Config::check(&at("good")).unwrap_err().to_string();
    let place = format!("{}:5: [trust] allowed_signers: can't read", at("good").display());
    assert!(missing.starts_with(&place), "{missing}");
}

#[test]
fn mistakes_of_both_files_are_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (config, signers) = (folder.path().join("hotd.toml"), folder.path().join("signers"));
    std::fs::write(&signers, "# keys\nada no key\nbob ssh-ed25519 AAAA\n").unwrap();
    let text = format!(
        "{SMALL}threads = 0\n[trust]\nallowed_signers = \"{}\"\n[log]\nlevel = \"inof\"\n",
        signers.display()
    );
    std::fs::write(&config, text).unwrap();
    let Err(ConfigError::Invalid(Mistakes(mistakes))) = Config::load(&config) else { panic!("it is good") };
    let found: Vec<(&Path, usize)> =
        mistakes.iter().map(|mistake| (mistake.file.as_path(), mistake.line)).collect();
    assert_eq!(found, [(&*config, 3), (&*config, 7), (&*signers, 2), (&*signers, 3)], "{mistakes:#?}");
    // A path that is none leads to no file, and least of all to the default's.
    let text = format!("{SMALL}[trust]\nallowed_signers = 7\n");
    std::fs::write(&config, text).unwrap();
    let Err(ConfigError::Invalid(Mistakes(mistakes))) = Config::load(&config) else { panic!("it is good") };
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
}

/// What else is strange in such a file follows from that, as a rule.
#[test]
fn the_first_place_that_is_no_toml_is_said_alone() {
    for (text, line) in [
        ("node = \"web-1\"\n[http\nlisten = [\"127.0.0.1:0\"]\n", 2),
        ("[http]\nlisten = [\"127.0.0.1:0\"\ncolour = 1\n[trust]\nallowed_signers = 7\n", 3),
        ("colour = 1\nnode = web-1\n", 2),
        ("[http]\nlisten = [\"127.0.0.1:80\"]\nmax_body = = 1\n[store]\nkeep = 0\nkeep = 1\n", 3),
    ] {
        let found = mistakes(text);
        assert!(found.len() == 1 && found[0].starts_with(&format!("hotd.toml:{line}: ")), "{found:#?}");
    }
}

#[test]
fn trust_is_read_anew_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let allowed_signers = folder.path().join("allowed_signers");
    let trust = Trust {
        allowed_signers: allowed_signers.clone(),
        revoked: None,
        libraries: None,
        modules: Default::default(),
    };
    assert!(matches!(trust.read_signers(), Err(TrustError::Read { .. })));
    std::fs::write(&allowed_signers, "bad\n").unwrap();
    assert!(matches!(trust.read_signers(), Err(TrustError::Invalid(_))));
    std::fs::write(&allowed_signers, "# nobody yet\n").unwrap();
    assert!(trust.read_signers().unwrap().1.keys("hot-module").is_empty());
}

#[test]
fn a_check_says_which_names_in_the_rules_nobody_can_sign_as() {
    let folder = tempfile::tempdir().unwrap();
    let (config, signers) = (folder.path().join("hotd.toml"), folder.path().join("signers"));
    let key = hot_artifact::signature::generate_key("ada").unwrap().public;
    let text = format!(
        "data_dir = {:?}\n{SMALL}[trust]\nallowed_signers = {signers:?}\n[trust.modules]\n\"pay\" = [\"ada\", \"adda\"]\n\
         \"*\" = [\n  \"ada\",\n  \"ci@example.com\",\n]\n{}",
        folder.path().join("data"),
        sockets(folder.path())
    );
    std::fs::write(&config, text).unwrap();
    let idle = |lines: &str| -> Vec<String> {
        std::fs::write(&signers, lines).unwrap();
        Config::check(&config).unwrap().idle.iter().map(ToString::to_string).collect()
    };
    let ada = format!("ada namespaces=\"hot-module\" {key}\n");
    let found = idle(&ada);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("hotd.toml:7: [trust.modules] pay: nobody can sign as adda"), "{found:#?}");
    assert!(found[1].contains("hotd.toml:8: [trust.modules] *: nobody can sign as ci@example"), "{found:#?}");
    // Certificates say the names of an authority's people.
    let authority = format!("{ada}*@example.com cert-authority,namespaces=\"hot-module\" {key}\n");
    let found = idle(&authority);
    assert!(found.len() == 1 && found[0].contains("as adda"), "{found:#?}");
    assert!(Config::load(&config).is_ok(), "a node starts: what nobody can do lets nobody in");
}

/// The example of the page is a whole config and has the defaults.
#[test]
fn the_page_tells_the_truth() {
    let page = include_str!("../../../docs/config.md");
    let example = page.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    let config = Config::parse(example, Path::new(FILE)).unwrap();
    let mut default = Config::parse("[http]\nlisten = [\"0.0.0.0:8080\"]\n", Path::new(FILE)).unwrap();
    // That of the machine.
    default.http.gateway.threads = config.http.gateway.threads;
    // They are off unless named.
    default.http.gateway.access_log.clone_from(&config.http.gateway.access_log);
    default.http.tls.clone_from(&config.http.tls);
    assert_eq!(config.data_dir, default.data_dir);
    assert_eq!(config.http, default.http);
    assert_eq!(config.grpc, default.grpc);
    assert_eq!(config.trust.allowed_signers, default.trust.allowed_signers);
    assert_eq!(config.store, default.store);
    assert_eq!(config.policy, default.policy);
    assert_eq!(config.spawn, default.spawn);
    assert_eq!(config.log, default.log);
    // `FULL` has every key.
    for key in FULL.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key) {
        assert!(
            example.lines().any(|line| line.starts_with(&format!("{key} = "))),
            "{key} is not in the page"
        );
    }
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
