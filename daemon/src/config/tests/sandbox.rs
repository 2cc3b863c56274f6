//! `[sandbox]`, `[network]` and `[limits]`.

use hot_wire::isolation::Parts;
use hot_wire::spawn::Limits;

use super::*;

fn good(lines: &str) -> Config {
    Config::parse(&format!("{SMALL}{lines}"), Path::new(FILE)).unwrap()
}

#[test]
fn without_the_tables_most_is_required_and_bounded() {
    let config = good("");
    let required: Vec<_> = config.sandbox.require.names().collect();
    assert_eq!(required, ["user", "no-new-privileges", "seccomp"]);
    assert_eq!(config.sandbox.require_if_there, Parts::FILES);
    assert_eq!((config.sandbox.leave_out, &config.network), (Parts::NONE, &Network::default()));
    let limits = config.limits.of(&"greeter".parse().unwrap());
    assert_eq!((limits.memory, limits.tasks, limits.open_files), (1 << 30, 512, 4096));
    assert_eq!((limits.folder, limits.cpu_weight, limits.file_size), (64 << 20, 100, Limits::UNLIMITED));
    let dev = Config::dev(&Dev { data_dir: "/tmp/x".into(), http: Dev::HTTP, grpc: Dev::GRPC }).unwrap();
    assert_eq!((dev.sandbox.require, dev.sandbox.require_if_there), (Parts::NONE, Parts::NONE));
    assert_eq!(dev.limits, config.limits);
}

#[test]
fn what_is_named_is_required_and_what_is_not_gives_way() {
    let named = good("[sandbox]\nrequire = [\"files\"]\n").sandbox;
    assert_eq!((named.require, named.require_if_there), (Parts::FILES, Parts::NONE));
    let nothing = good("[sandbox]\nrequire = []\n").sandbox;
    assert_eq!((nothing.require, nothing.require_if_there), (Parts::NONE, Parts::NONE));
    let left = good("[sandbox]\nleave_out = [\"seccomp\", \"files\"]\n").sandbox;
    assert_eq!(
        (left.require, left.require_if_there),
        (Parts::USER.with(Parts::NO_NEW_PRIVILEGES), Parts::NONE)
    );
    let ports = good("[sandbox]\nrequire = []\n[network]\nbind = []\n");
    assert_eq!((ports.sandbox.require, ports.network.bind), (Parts::NETWORK, Some(Vec::new())));
}

#[test]
fn the_most_specific_pattern_has_the_limits_and_the_smaller_one_counts() {
    let limits = good(
        "[limits]\nmemory = \"unlimited\"\ntasks = 64\n[limits.modules.\"pay-*\"]\nmemory = \"2GiB\"\nopen_files = 100\n\
         [limits.modules.pay-core]\ntasks = \"unlimited\"\n[limits.modules.\"*-job\"]\nmemory = \"1GiB\"\n",
    )
    .limits;
    let of = |module: &str| {
        let limits = limits.of(&module.parse().unwrap());
        (limits.memory, limits.tasks, limits.open_files)
    };
    assert_eq!(of("greeter"), (Limits::UNLIMITED, 64, 4096));
    assert_eq!(of("pay-web"), (2 << 30, 64, 100));
    assert_eq!(of("pay-core"), (Limits::UNLIMITED, Limits::UNLIMITED, 4096), "its own table alone");
    assert_eq!(of("pay-job"), (1 << 30, 64, 100), "both patterns are equally specific");
}

#[test]
fn what_nothing_can_fulfil_is_not_required() {
    let said =
        |lines: &str| Config::parse(&format!("{SMALL}{lines}"), Path::new(FILE)).unwrap_err().to_string();
    let network = said("[sandbox]\nrequire = [\"network\"]\n");
    assert!(network.contains("network is required, and [network] names no ports"), "{network}");
    let counted = said("[sandbox]\nrequire = [\"counted\"]\nleave_out = [\"seccomp\"]\n");
    assert!(counted.contains("counted is required, and leave_out has seccomp"), "{counted}");
    good("[sandbox]\nrequire = [\"network\"]\n[network]\nconnect = [443]\n");
}

#[test]
fn each_mistake_has_its_line() {
    let text = "\
[http]
listen = [\"127.0.0.1:80\"]
[sandbox]
require = [\"users\", \"seccomp\"]
leave_out = [\"user\"]
read = [\"etc\", \"/a\"]
write = [\"/b\", \"/b\"]
[network]
connect = [0]
bind = [80, 80]
[limits]
memory = \"1MiB\"
cpu_weight = 0
folder = 5
[limits.modules.\"Pay\"]
tasks = 1
[limits.modules.\"pay-*\"]
cpu = 3
";
    let expected = [
        "hotd.toml:4: [sandbox] require[0]: found \"users\", expected one of user, no-new-privileges, seccomp, counted, files, network, scopes, memory, tasks, cpu, folder",
        "hotd.toml:5: [sandbox] leave_out[0]: found \"user\", expected one of seccomp, counted, files, network, scopes",
        "hotd.toml:6: [sandbox] read[0]: found \"etc\", expected an absolute path like \"/var/lib/hotd\"",
        "hotd.toml:7: [sandbox] write: \"/b\" stands there twice, expected it once",
        "hotd.toml:9: [network] connect[0]: found 0, expected a number from 1 to 65535",
        "hotd.toml:10: [network] bind: 80 stands there twice, expected it once",
        "hotd.toml:12: [limits] memory: found \"1MiB\", expected a size of 16777216 to 1125899906842624 bytes, or \"unlimited\"",
        "hotd.toml:13: [limits] cpu_weight: found 0, expected a number from 1 to 10000",
        "hotd.toml:14: [limits] folder: found 5, expected a size like \"64MiB\" or \"512KiB\", or \"unlimited\"",
        "hotd.toml:15: [limits.modules] Pay: `Pay` is not a pattern of module names; one has a-z, 0-9, - and *",
        "hotd.toml:16: [limits.modules.\"Pay\"] tasks: found 1, expected a number from 16 to 1000000, or \"unlimited\"",
        "hotd.toml:18: unknown key \"cpu\" in [limits.modules.\"pay-*\"]; known are memory, tasks, open_files, folder, cpu_weight",
    ];
    let found = mistakes(text);
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (lines, words) in [
        (
            "[sandbox]\nrequire = [\"seccomp\"]\nleave_out = [\"seccomp\"]",
            "5: [sandbox] leave_out: seccomp is required",
        ),
        (
            "[sandbox]\nleave_out = [\"network\"]\n[network]\nconnect = [443]",
            "4: [sandbox] leave_out: network is left out",
        ),
        ("[sandbox]\nleave_out = [\"files\"]\nread = [\"/a\"]", "5: [sandbox] read: means nothing"),
        ("[sandbox]\nread = [\"/a\"]\nwrite = [\"/a\"]", "4: [sandbox] read: \"/a\" stands in write as well"),
        ("[sandbox]\nread = [\"/a\\u0007\"]", "4: [sandbox] read[0]: found"),
        ("limits = 1", "3: unknown key"),
        ("[limits]\nmodules = 1", "4: `modules` is 1, expected a table [limits.modules]"),
        ("[limits.modules]\npay = 1", "4: `pay` is 1, expected a table [limits.modules.\"pay\"]"),
    ] {
        // The line of `[sandbox]` is 3 in the file.
        let found = mistakes(&format!("{SMALL}{lines}\n"));
        assert!(found.len() == 1 && found[0].contains(words), "{lines}: {found:#?}");
    }
}

#[test]
fn the_paths_are_bounded_together() {
    let half = |key: &str, length: usize| {
        format!("{key} = [\"/{}\"]\n", key.repeat(length)[..length - 1].to_owned())
    };
    let table = |length| format!("{SMALL}[sandbox]\n{}{}", half("read", 8192), half("write", length));
    assert_eq!(mistakes(&table(8192)), Vec::<String>::new());
    let found = mistakes(&table(8193));
    assert!(found.len() == 1 && found[0].contains("have 16385 bytes, expected at most 16384"), "{found:#?}");
    let many: Vec<String> = (0..257).map(|at| format!("\"/{at}\"")).collect();
    let found = mistakes(&format!("{SMALL}[sandbox]\nread = [{}]\n", many.join(", ")));
    assert!(found.len() == 1 && found[0].contains("has 257 entries, expected at most 256"), "{found:#?}");
}
