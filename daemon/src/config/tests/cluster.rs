//! `[cluster]`.

use std::num::NonZeroU64;

use super::*;

#[test]
fn a_fleet_is_named_by_its_etcd() {
    assert_eq!(Config::parse(SMALL, Path::new(FILE)).unwrap().cluster, None);
    let text =
        format!("{SMALL}[cluster]\netcd = [\"http://127.0.0.1:2379\"]\n[cluster.labels]\nzone = \"a\"\n");
    let cluster = Config::parse(&text, Path::new(FILE)).unwrap().cluster.unwrap();
    assert_eq!(cluster.etcd, ["http://127.0.0.1:2379"]);
    assert_eq!((cluster.prefix.as_str(), cluster.lease.as_secs()), ("hot", 10));
    assert_eq!(
        [cluster.fetch_rate, cluster.give_rate].map(|rate| rate.map(NonZeroU64::get)),
        [Some(64 << 20); 2]
    );
    assert_eq!(cluster.labels, [("zone".to_owned(), "a".to_owned())].into());
}

#[test]
fn artifacts_travel_at_the_rates_that_are_set() {
    let text = format!(
        "{SMALL}[cluster]\netcd = [\"http://127.0.0.1:2379\"]\nfetch_rate = \"1MiB\"\ngive_rate = \"unlimited\"\n"
    );
    let cluster = Config::parse(&text, Path::new(FILE)).unwrap().cluster.unwrap();
    assert_eq!((cluster.fetch_rate, cluster.give_rate), (NonZeroU64::new(1 << 20), None));
    let found = mistakes(&text.replace("1MiB", "1KiB"));
    assert!(
        found[0].contains("[cluster] fetch_rate: found \"1KiB\", expected a size of 1048576 to "),
        "{found:?}"
    );
}

#[test]
fn all_that_is_wrong_with_it_is_said() {
    let text = format!(
        "{SMALL}[cluster]\netcd = [\"https://10.0.0.1:2379\", \"http://10.0.0.2:2379\", \"10.0.0.3\"]\nprefix = \"/hot\"\n\
         lease = \"500ms\"\nuser = \"hotd\"\ncall = \"http://10.0.0.1:7443\"\n[cluster.labels]\n\"zo ne\" = 3\n"
    );
    let found = mistakes(&text);
    for expected in [
        "[cluster] etcd[2]: found \"10.0.0.3\"",
        "[cluster] prefix: found \"/hot\"",
        "[cluster] lease: expected whole seconds",
        "[cluster] password_file: is missing",
        "[cluster] call: found \"http://10.0.0.1:7443\"",
        "[cluster.labels] zo ne: is no name of a label",
        "[cluster.labels] zo ne: found 3",
    ] {
        assert!(found.iter().any(|mistake| mistake.contains(expected)), "{expected} in {found:#?}");
    }
    let mixed = mistakes(&format!(
        "{SMALL}[cluster]\netcd = [\"https://10.0.0.1:2379\", \"http://10.0.0.2:2379\"]\n"
    ));
    assert_eq!(mixed.len(), 2, "one of the two, and who signs: {mixed:#?}");
    assert_eq!(mistakes(&format!("{SMALL}[cluster]\n")).len(), 1, "etcd must be there");
}
