//! Which node a command goes to, and how that was found out, in words.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::address::{Address, AddressError};
use super::dev::{self, DevNode};
use crate::failure::Failure;

/// Where the service listens.
const SERVICE_SOCKET: &str = "/run/hot/hotd.sock";

/// All that the search looks at, so that it can be tested.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// `--node`, or else `HOTCTL_NODE`.
    pub node: Option<String>,
    /// The service's socket.
    pub service_socket: PathBuf,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<OsString>,
    /// Who asks.
    pub uid: u32,
}

impl Surroundings {
    /// This process's own. `node` is what the command line or `HOTCTL_NODE` says.
    pub(crate) fn of_process(node: Option<String>) -> Self {
        Self {
            node: node.filter(|node| !node.is_empty()),
            service_socket: PathBuf::from(SERVICE_SOCKET),
            runtime_dir: std::env::var_os("XDG_RUNTIME_DIR"),
            uid: rustix::process::geteuid().as_raw(),
        }
    }
}

/// A node that was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Where it listens.
    pub address: Address,
    /// How it was found, for errors: `--node or HOTCTL_NODE names it`.
    pub how: String,
    /// It is the recorded dev node.
    pub dev: Option<DevNode>,
}

/// Finds the node, in the order of the documentation. Nothing is connected to.
pub(crate) fn search(around: &Surroundings) -> Result<Found, Failure> {
    let (dev, mut looked) = recorded(around);
    if let Some(text) = &around.node {
        let address: Address = text.parse().map_err(|error: AddressError| Failure::usage(error))?;
        let dev = dev.filter(|node| is_same(&address, node));
        return Ok(Found { address, how: "as --node or HOTCTL_NODE says".to_owned(), dev });
    }
    if around.service_socket.exists() {
        let address = Address::Unix(around.service_socket.clone());
        return Ok(Found { address, how: "the service's socket".to_owned(), dev: None });
    }
    if let Some(node) = dev {
        let address = Address::Unix(node.socket.clone());
        return Ok(Found { address, how: "the recorded dev node".to_owned(), dev: Some(node) });
    }
    looked.insert(0, format!("there is no {}", around.service_socket.display()));
    looked.insert(0, "neither --node nor HOTCTL_NODE is set".to_owned());
    Err(Failure::failed(
        "no_node",
        format!(
            "no node was found: {}; start one with `hotd --dev`, or name one with --node http://HOST:PORT or \
             --node unix:PATH",
            looked.join(", ")
        ),
    ))
}

/// The dev node on record, and for each folder without a usable record why not.
fn recorded(around: &Surroundings) -> (Option<DevNode>, Vec<String>) {
    let mut looked = Vec::new();
    for folder in dev::record_folders(around.runtime_dir.as_deref(), around.uid) {
        let record = folder.join("dev.json");
        match dev::read_record(&folder, around.uid) {
            Ok(Some(node)) => return (Some(node), looked),
            Ok(None) => looked.push(format!("there is no {}", record.display())),
            Err(error) => looked.push(format!("{} {error}", record.display())),
        }
    }
    (None, looked)
}

/// The address is one of the dev node's.
fn is_same(address: &Address, node: &DevNode) -> bool {
    match address {
        Address::Unix(path) => same_file(path, &node.socket),
        Address::Http(_) => address.authority() == Some(node.grpc.as_str()),
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    struct Place {
        folder: tempfile::TempDir,
        around: Surroundings,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let uid = std::fs::metadata(folder.path()).expect("exists").uid();
        let around = Surroundings {
            node: None,
            service_socket: folder.path().join("service.sock"),
            runtime_dir: Some(folder.path().as_os_str().to_owned()),
            uid,
        };
        Place { folder, around }
    }

    fn record(place: &Place) {
        let hot = place.folder.path().join("hot");
        std::fs::create_dir(&hot).expect("a folder");
        let text = format!(
            r#"{{"http":"127.0.0.1:1","grpc":"127.0.0.1:2","socket":"/dev-node.sock","data_dir":"/d","pid":{}}}"#,
            std::process::id()
        );
        std::fs::write(hot.join("dev.json"), text).expect("writes");
    }

    #[test]
    fn nothing_found_says_where_it_looked() {
        let place = place();
        let failure = search(&place.around).expect_err("no node");
        assert_eq!(failure.exit.code(), 1);
        assert!(failure.sentence.contains("neither --node nor HOTCTL_NODE is set"), "{}", failure.sentence);
        assert!(failure.sentence.contains("service.sock"), "{}", failure.sentence);
        assert!(failure.sentence.contains("hot/dev.json"), "{}", failure.sentence);
        assert!(failure.sentence.contains("hotd --dev"), "{}", failure.sentence);
    }

    #[test]
    fn the_order_is_option_service_dev() {
        let mut place = place();
        record(&place);
        let found = search(&place.around).expect("the dev node");
        assert_eq!(found.address, Address::Unix("/dev-node.sock".into()));
        assert!(found.dev.is_some());
        std::fs::write(&place.around.service_socket, "").expect("writes");
        let found = search(&place.around).expect("the service");
        assert_eq!(found.address, Address::Unix(place.around.service_socket.clone()));
        assert!(found.dev.is_none(), "the service is not the dev node");
        place.around.node = Some("http://10.0.0.1:7001".to_owned());
        let found = search(&place.around).expect("the option");
        assert_eq!(found.address.to_string(), "http://10.0.0.1:7001");
        assert!(found.dev.is_none());
    }

    #[test]
    fn a_named_dev_node_is_recognised() {
        let mut place = place();
        record(&place);
        for (text, is_dev) in
            [("http://127.0.0.1:2", true), ("unix:/dev-node.sock", true), ("http://127.0.0.1:3", false)]
        {
            place.around.node = Some(text.to_owned());
            assert_eq!(search(&place.around).expect("found").dev.is_some(), is_dev, "{text}");
        }
    }

    #[test]
    fn a_bad_option_is_a_usage_error() {
        let mut place = place();
        place.around.node = Some("localhost:7001".to_owned());
        assert_eq!(search(&place.around).expect_err("no address").exit.code(), 2);
    }
}
