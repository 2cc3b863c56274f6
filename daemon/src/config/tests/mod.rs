//! The whole file: its keys, its mistakes, its page. What one table has of its own is in a room of its name.

use hot_wire::isolation::Parts;
use hot_wire::spawn::Limits;

use super::*;
use crate::gateway::Sources;

mod cluster;
mod files;
mod grpc;
mod http;
mod places;
mod sandbox;
mod trust;

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

[grpc.tls]
listen = ["10.0.0.1:7443"]
certificate = "/etc/x/web-1.pem"
key = "/etc/x/web-1.key"
authority = "/etc/x/ca.pem"

[trust]
allowed_signers = "/etc/x/signers"
libraries = ["libc.so.6"]
revoked = "/etc/x/revoked"
[trust.modules]
"pay-*" = ["anna"]

[sandbox]
require = ["user"]
leave_out = ["scopes"]
read = ["/etc/a"]
write = ["/srv/b"]

[network]
connect = [443, 5432]
bind = [9000]

[limits]
memory = "512MiB"
tasks = 64
open_files = 256
folder = "1MiB"
cpu_weight = 50

[limits.modules."pay-*"]
memory = "unlimited"

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
spread_over = "zone"
max_parallel = 2
max_failing = 1

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

/// The tables of sockets, which a check finds a folder for.
fn sockets(folder: &Path) -> String {
    let (control, spawn) = (folder.join("hotd.sock"), folder.join("spawn.sock"));
    format!("[grpc]\nsocket = {control:?}\n[spawn]\nsocket = {spawn:?}\n")
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
            authority: None,
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
    let tls = Tls {
        listen: vec!["10.0.0.1:7443".parse().unwrap()],
        certificate: "/etc/x/web-1.pem".into(),
        key: "/etc/x/web-1.key".into(),
        authority: Some("/etc/x/ca.pem".into()),
    };
    assert_eq!(config.grpc, Grpc { socket: "/run/x.sock".into(), listen: None, tls: Some(tls) });
    assert_eq!(config.trust.allowed_signers, Path::new("/etc/x/signers"));
    assert_eq!(config.trust.libraries.as_deref(), Some(&["libc.so.6".to_owned()][..]));
    assert_eq!(config.trust.revoked.as_deref(), Some(Path::new("/etc/x/revoked")));
    assert!(config.trust.modules.allow(&"pay-x".parse().unwrap(), "anna"));
    assert!(!config.trust.modules.allow(&"pay-x".parse().unwrap(), "berta"));
    let parts = |names: &[&str]| names.iter().filter_map(|name| Parts::named(name)).collect::<Parts>();
    let sandbox = Sandbox {
        require: parts(&["user", "network"]),
        require_if_there: Parts::NONE,
        leave_out: parts(&["scopes"]),
        read: vec!["/etc/a".to_owned()],
        write: vec!["/srv/b".to_owned()],
    };
    assert_eq!(config.sandbox, sandbox);
    assert_eq!(config.network, Network { connect: Some(vec![443, 5432]), bind: Some(vec![9000]) });
    let limits = config.limits.of(&"greeter".parse().unwrap());
    assert_eq!((limits.memory, limits.tasks, limits.open_files), (512 << 20, 64, 256));
    assert_eq!((limits.folder, limits.cpu_weight), (1 << 20, 50));
    assert_eq!(config.limits.of(&"pay-x".parse().unwrap()).memory, Limits::UNLIMITED);
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
    assert_eq!((policy.spread_over.as_deref(), policy.max_failing), (Some("zone"), 1));
    assert_eq!(policy.max_parallel.map(|most| most.get()), Some(2));
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
        "hotd.toml:2: unknown key \"colour\"; known are data_dir, node, http, grpc, cluster, trust, sandbox, network, limits, store, policy, spawn, log",
        "hotd.toml:3: [http] listen: is missing, expected addresses like [\"0.0.0.0:8080\"]",
        "hotd.toml:4: unknown key \"lisen\" in [http]; did you mean \"listen\"?",
        "hotd.toml:5: [http] max_body: found \"64 monkeys\", expected a size like \"64MiB\" or \"512KiB\"",
        "hotd.toml:6: [http] max_in_flight: found 0, expected a number from 1 to 10000000",
        "hotd.toml:8: [grpc] listen: is for [grpc.tls]: by TCP the node lets in only callers with a certificate; move it there, or remove it and use the Unix socket",
        "hotd.toml:10: [policy] steps[2]: found \"ten\", expected a share, and its bake time if it has one of its own, like \"10%\" or \"10% 5m\"",
        "hotd.toml:11: [policy] bake: found 5, expected a duration in whole numbers with ms, s, m, h or d, like \"500ms\", \"30s\" or \"1m30s\"",
        "hotd.toml:13: [store] keep: found true, expected a number from 1 to 1000",
        "hotd.toml:15: [log] level: found \"hotd=loud\", expected a level (error, warn, info, debug, trace) or levels by target like \"info,hotd::gateway=debug\"",
        "hotd.toml:16: [log] format: found \"xml\", expected \"text\" or \"json\"",
    ];
    assert_eq!(mistakes(text), expected);
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
        "[policy]\nspread_over = \"a zone\"",
        "[policy]\nspread_over = true",
        "[policy]\nmax_parallel = -1",
        "[policy]\nmax_failing = \"10%\"",
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

/// The example of the page is a whole config and has the defaults.
#[test]
fn the_page_tells_the_truth() {
    let page = include_str!("../../../../docs/config.md");
    let example = page.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    let config = Config::parse(example, Path::new(FILE)).unwrap();
    let mut default = Config::parse("[http]\nlisten = [\"0.0.0.0:8080\"]\n", Path::new(FILE)).unwrap();
    // That of the machine.
    default.http.gateway.threads = config.http.gateway.threads;
    // They are off unless named.
    default.http.gateway.access_log.clone_from(&config.http.gateway.access_log);
    default.http.tls.clone_from(&config.http.tls);
    default.grpc.tls.clone_from(&config.grpc.tls);
    assert_eq!(config.data_dir, default.data_dir);
    assert_eq!(config.http, default.http);
    assert_eq!(config.grpc, default.grpc);
    assert_eq!(config.trust.allowed_signers, default.trust.allowed_signers);
    // They are the default where the kernel has them.
    let (named, sandbox) = (&config.sandbox, &default.sandbox);
    assert_eq!(named.require.without(Parts::NETWORK), sandbox.require.with(sandbox.require_if_there));
    assert_eq!(
        (named.leave_out, &named.read, &named.write),
        (sandbox.leave_out, &sandbox.read, &sandbox.write)
    );
    assert_eq!(config.limits.general, default.limits.general);
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
