//! Which node a command goes to, and how that was found out, in words.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::address::{Address, AddressError};
use super::dev::{self, DevNode};
use crate::failure::Failure;

/// Where the service listens.
const SERVICE_SOCKET: &str = "/run/hot/hotd.sock";

/// Code of the failure to choose among dev nodes.
pub(crate) const SEVERAL_NODES: &str = "several_nodes";

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
            node,
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
    /// What is most likely meant, should no node answer there but something else.
    pub instead: Option<String>,
}

/// Finds the node, in the order of the documentation. Nothing is connected to.
pub(crate) fn search(around: &Surroundings) -> Result<Found, Failure> {
    let (mut nodes, mut looked) = recorded(around);
    if let Some(text) = &around.node {
        let address = text.parse().map_err(|error: AddressError| Failure::usage(error))?;
        let address = in_folder(address);
        let instead = instead(&address, &nodes, around);
        let dev = nodes.into_iter().find(|node| is_same(&address, node));
        return Ok(Found { address, how: "as --node or HOTCTL_NODE says".to_owned(), dev, instead });
    }
    if around.service_socket.exists() {
        let address = Address::Unix(around.service_socket.clone());
        return Ok(Found { address, how: "the service's socket".to_owned(), dev: None, instead: None });
    }
    if nodes.len() > 1 {
        return Err(several(&nodes));
    }
    if let Some(node) = nodes.pop() {
        let address = Address::Unix(node.socket.clone());
        return Ok(Found {
            address,
            how: "the recorded dev node".to_owned(),
            dev: Some(node),
            instead: None,
        });
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

/// To guess which of them is meant would push to the wrong one.
fn several(nodes: &[DevNode]) -> Failure {
    let name = |node: &DevNode| format!("unix:{} (HTTP on {})", node.socket.display(), node.http);
    let names: Vec<String> = nodes.iter().map(name).collect();
    let first = nodes.first().map(|node| node.socket.display().to_string()).unwrap_or_default();
    Failure::failed(
        SEVERAL_NODES,
        format!(
            "{} dev nodes run here: {}; say which one is meant, e.g. with --node unix:{first} or \
             `export HOTCTL_NODE=unix:{first}`",
            nodes.len(),
            names.join(", ")
        ),
    )
}

/// The dev nodes that run, and why there is none in each place without.
fn recorded(around: &Surroundings) -> (Vec<DevNode>, Vec<String>) {
    let (mut nodes, mut looked) = (Vec::new(), Vec::new());
    for folder in dev::record_folders(around.runtime_dir.as_deref(), around.uid) {
        let records = dev::read_records(&folder, around.uid);
        if records.is_empty() {
            looked.push(format!("there is no record of a dev node in {}", folder.display()));
        }
        for (record, node) in records {
            match node {
                Ok(node) => nodes.push(node),
                Err(error) => looked.push(format!("{} {error}", record.display())),
            }
        }
    }
    (nodes, looked)
}

/// The socket in a dev node's data folder, where that is what was named.
fn in_folder(address: Address) -> Address {
    match address {
        Address::Unix(path) if path.is_dir() => Address::Unix(path.join("hotd.sock")),
        address => address,
    }
}

/// Who types an address with a port often means the one that modules are served at.
fn instead(address: &Address, nodes: &[DevNode], around: &Surroundings) -> Option<String> {
    let port = |authority: &str| authority.rsplit_once(':').map(|(_, port)| port.to_owned());
    let named = port(address.authority().filter(|_| address.is_local())?)?;
    if let Some(node) = nodes.iter().find(|node| port(&node.http).as_ref() == Some(&named)) {
        return Some(format!(
            "it is where the dev node in {} serves its modules over HTTP; ask that node with --node unix:{}",
            node.data_dir.display(),
            node.socket.display()
        ));
    }
    let socket = &around.service_socket;
    socket.exists().then(|| format!("ask the service on this machine with --node unix:{}", socket.display()))
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

    /// The record of a dev node that runs for as long as the file is held.
    fn record(place: &Place, pid: u32, data_dir: &str) -> std::fs::File {
        let hot = place.folder.path().join("hot");
        std::fs::create_dir_all(&hot).expect("a folder");
        dev::tests::record(&hot, pid, data_dir)
    }

    #[test]
    fn nothing_found_says_where_it_looked() {
        let place = place();
        let failure = search(&place.around).expect_err("no node");
        assert_eq!(failure.exit.code(), 1);
        assert!(failure.sentence.contains("neither --node nor HOTCTL_NODE is set"), "{}", failure.sentence);
        assert!(failure.sentence.contains("service.sock"), "{}", failure.sentence);
        assert!(failure.sentence.contains("no record of a dev node in "), "{}", failure.sentence);
        assert!(failure.sentence.contains("hotd --dev"), "{}", failure.sentence);
    }

    #[test]
    fn the_order_is_option_service_dev() {
        let mut place = place();
        let _node = record(&place, 2, "/d");
        let found = search(&place.around).expect("the dev node");
        assert_eq!(found.address, Address::Unix("/d/hotd.sock".into()));
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
    fn each_dev_node_is_recognised_by_name() {
        let mut place = place();
        let _nodes = [record(&place, 2, "/d"), record(&place, 3, "/e")];
        for (text, pid) in [
            ("http://127.0.0.1:2", Some(2)),
            ("unix:/d/hotd.sock", Some(2)),
            ("http://127.0.0.1:3", Some(3)),
            ("unix:/e/hotd.sock", Some(3)),
            ("http://127.0.0.1:4", None),
        ] {
            place.around.node = Some(text.to_owned());
            assert_eq!(search(&place.around).expect("found").dev.map(|node| node.pid), pid, "{text}");
        }
    }

    #[test]
    fn a_node_is_found_by_its_data_folder() {
        let mut place = place();
        let data_dir = place.folder.path().to_string_lossy().into_owned();
        let _node = record(&place, 2, &data_dir);
        place.around.node = Some(format!("unix:{data_dir}"));
        let found = search(&place.around).expect("the dev node");
        assert_eq!(found.address, Address::Unix(place.folder.path().join("hotd.sock")));
        assert!(found.dev.is_some());
    }

    #[test]
    fn one_of_several_dev_nodes_must_be_named() {
        let place = place();
        let first = record(&place, 2, "/d");
        let second = record(&place, 3, "/e");
        let failure = search(&place.around).expect_err("which one?");
        assert_eq!((failure.exit.code(), failure.code.as_str()), (1, SEVERAL_NODES));
        for words in ["2 dev nodes", "unix:/d/hotd.sock (", "unix:/e/hotd.sock (", "--node unix:/d/hotd.sock"]
        {
            assert!(failure.sentence.contains(words), "{words:?} in {}", failure.sentence);
        }
        // One that was killed leaves its record.
        drop(first);
        assert_eq!(search(&place.around).expect("the other").dev.map(|node| node.pid), Some(3));
        drop(second);
        let failure = search(&place.around).expect_err("none is left");
        assert!(
            failure.sentence.contains("dev-3.json is of a dev node that no longer runs"),
            "{}",
            failure.sentence
        );
    }

    #[test]
    fn a_bad_option_is_a_usage_error() {
        let mut place = place();
        place.around.node = Some("localhost:7001".to_owned());
        assert_eq!(search(&place.around).expect_err("no address").exit.code(), 2);
    }
}
