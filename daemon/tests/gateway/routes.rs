//! To whom a request goes by its host, however it says that.

use hotd::gateway::{GatewayConfig, ModuleTable, Table};

use crate::h2::client::{H2, get};
use crate::host::Host;
use crate::rig::{A, B, PATIENCE, Rig, module, stable};

/// One module for a host, and one for all others.
fn table() -> Table {
    let mut own = stable(A, 10_000);
    own.routes = vec!["own.example/".to_owned()];
    let own = ModuleTable { module: "own".to_owned(), ..module(vec![own]) };
    Table { modules: vec![own, module(vec![stable(B, 10_000)])] }
}

#[test]
fn a_request_goes_to_the_module_of_its_host() {
    let rig = Rig::with(GatewayConfig { threads: 1, max_wait: PATIENCE, ..GatewayConfig::default() });
    let ask = |target: &str, host: &str| {
        let mut client = rig.client();
        client.write(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        client
    };
    // These wait, without a table and without an instance; what they ask for is kept.
    let mut waited = [ask("/x", "own.example"), ask("/x", "other.example")];
    rig.gateway.publish(table());
    let (_own, links) = Host::answering(1, "own");
    rig.attach(A, links);
    let (_all, links) = Host::answering(1, "all");
    rig.attach(B, links);
    assert_eq!(waited.each_mut().map(|client| client.response(false).text().to_owned()), ["own", "all"]);

    for (target, host, expected) in [
        ("/x", "own.example", "own"),
        ("/x", "OWN.example:8080", "own"),
        ("/x", "not.own.example", "all"),
        ("/x", "", "all"),
        // The target overrules the field.
        ("http://own.example/x", "other.example", "own"),
        ("http://other.example/x", "own.example", "all"),
    ] {
        assert_eq!(ask(target, host).response(false).text(), expected, "{target} of {host:?}");
    }
    let mut h2 = H2::connect(rig.address);
    for (authority, expected) in [("own.example", "own"), ("other.example", "all")] {
        let mut request = get("/x");
        *request.uri_mut() = format!("http://{authority}/x").parse().expect("a URL");
        let coming = h2.send(request);
        assert_eq!(h2.whole(coming).text(), expected, "{authority}");
    }
}
