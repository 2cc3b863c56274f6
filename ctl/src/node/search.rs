//! Which node a command goes to, and how that was found out, in words.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::address::{Address, AddressError};
use super::credentials::Credentials;
use super::dev::{self, DevNode};
use crate::contexts::{self, Contexts, Files, Fleet};
use crate::failure::Failure;

/// Where the service listens.
const SERVICE_SOCKET: &str = "/run/hot/hotd.sock";

/// Code of the failure to choose among dev nodes.
pub(crate) const SEVERAL_NODES: &str = "several_nodes";

/// All that the search looks at, so that it can be tested.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub wanted: Wanted,
    /// Where the file of contexts is, or would be.
    pub contexts: Option<PathBuf>,
    /// The service's socket.
    pub service_socket: PathBuf,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<OsString>,
    /// Who asks.
    pub uid: u32,
}

/// What the command line says, or else the environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// `--node`, `HOTCTL_NODE`.
    pub node: Option<String>,
    /// `--context`, `HOTCTL_CONTEXT`.
    pub context: Option<String>,
    /// `--node-authority`, `--certificate` and `--identity-key`, and theirs.
    pub files: Files,
}

impl Surroundings {
    /// This process's own.
    pub(crate) fn of_process(wanted: Wanted) -> Self {
        let variable = |name: &str| std::env::var_os(name);
        Self {
            wanted,
            contexts: contexts::place(variable("XDG_CONFIG_HOME").as_deref(), variable("HOME").as_deref()),
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
    /// Further nodes, in the order in which they are asked should it not answer.
    pub others: Vec<Address>,
    /// By what it and the user trust each other, where it takes certificates.
    pub credentials: Option<Credentials>,
    /// How it was found, for errors: `--node or HOTCTL_NODE names it`.
    pub how: String,
    /// It is the recorded dev node.
    pub dev: Option<DevNode>,
    /// What is most likely meant, should no node answer there but something else.
    pub instead: Option<String>,
}

impl Found {
    /// One node without anything else.
    pub(crate) fn at(address: Address, how: &str) -> Self {
        Self { address, others: Vec::new(), credentials: None, how: how.to_owned(), dev: None, instead: None }
    }
}

/// Finds the node, in the order of the documentation. Nothing is connected to.
pub(crate) fn search(around: &Surroundings) -> Result<Found, Failure> {
    let (mut nodes, mut looked) = recorded(around);
    if let Some(text) = &around.wanted.node {
        let address = text.parse().map_err(|error: AddressError| Failure::usage(error))?;
        let address = in_folder(address);
        let instead = instead(&address, &nodes, around);
        let dev = nodes.into_iter().find(|node| is_same(&address, node));
        let credentials = credentials_for(&address, around)?;
        let found = Found::at(address, "as --node or HOTCTL_NODE says");
        return Ok(Found { credentials, dev, instead, ..found });
    }
    if let Some(found) = in_context(around)? {
        return Ok(found);
    }
    if around.service_socket.exists() {
        let address = Address::Unix(around.service_socket.clone());
        return Ok(Found::at(address, "the service's socket"));
    }
    if nodes.len() > 1 {
        return Err(several(&nodes));
    }
    if let Some(node) = nodes.pop() {
        let address = Address::Unix(node.socket.clone());
        return Ok(Found { dev: Some(node), ..Found::at(address, "the recorded dev node") });
    }
    looked.insert(0, format!("there is no {}", around.service_socket.display()));
    looked.insert(0, "neither --node nor HOTCTL_NODE is set, nor a context".to_owned());
    Err(Failure::failed(
        "no_node",
        format!(
            "no node was found: {}; start one with `hotd --dev`, or name one with --node https://HOST:PORT or \
             --node unix:PATH",
            looked.join(", ")
        ),
    ))
}

/// What the file of contexts says. `None`: there is no such file.
pub(crate) fn contexts(around: &Surroundings) -> Result<Option<Contexts>, Failure> {
    around.contexts.as_deref().map_or(Ok(None), contexts::read)
}

/// The context that is asked for, else the one that the file says is used without that.
fn chosen(around: &Surroundings) -> Result<Option<(String, Fleet)>, Failure> {
    let found = contexts(around)?;
    let Some(name) = &around.wanted.context else {
        return Ok(found.and_then(|found| {
            Some((found.chosen.clone()?, found.all.get(found.chosen.as_ref()?)?.clone()))
        }));
    };
    let fleet = found.as_ref().and_then(|found| found.all.get(name)).cloned();
    let Some(fleet) = fleet else {
        let place = around.contexts.as_deref().map_or_else(String::new, |file| file.display().to_string());
        let has = found.map_or_else(|| "there is no such file".to_owned(), |found| contexts::names(&found));
        return Err(Failure::usage(format!(
            "there is no context {name:?} in {place} ({has}): expected --context or HOTCTL_CONTEXT to name one that is there; \
             `hotctl contexts` lists them"
        )));
    };
    Ok(Some((name.clone(), fleet)))
}

fn in_context(around: &Surroundings) -> Result<Option<Found>, Failure> {
    let Some((name, Fleet { nodes, files })) = chosen(around)? else { return Ok(None) };
    let mut nodes = nodes.into_iter().map(in_folder);
    // The file says at least one.
    let Some(address) = nodes.next() else { return Ok(None) };
    let credentials = Credentials::choose(&around.wanted.files, Some(&files))?;
    let found = Found::at(address, &format!("context {name}"));
    Ok(Some(Found { others: nodes.collect(), credentials, ..found }))
}

/// The certificate for a node that is named by its address: what is named with it, else that of the context.
fn credentials_for(address: &Address, around: &Surroundings) -> Result<Option<Credentials>, Failure> {
    if !matches!(address, Address::Https(_)) {
        return Ok(None);
    }
    let given = &around.wanted.files;
    let is_whole = given.authority.is_some() && given.certificate.is_some() && given.key.is_some();
    let context = if is_whole { None } else { chosen(around)?.map(|(_, fleet)| fleet.files) };
    let credentials = Credentials::choose(given, context.as_ref())?;
    credentials.map(Some).ok_or_else(|| {
        Failure::usage(format!(
            "{address} takes calls from whoever has a certificate, and none is named: expected --node-authority, --certificate and \
             --identity-key, or a context that has them (docs/pki.md); `hotctl pki issue` makes a certificate"
        ))
    })
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
        Address::Http(_) | Address::Https(_) => address.authority() == Some(node.grpc.as_str()),
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
            wanted: Wanted::default(),
            contexts: Some(folder.path().join("hotctl.toml")),
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
        assert!(
            failure.sentence.contains("neither --node nor HOTCTL_NODE is set, nor a context"),
            "{}",
            failure.sentence
        );
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
        place.around.wanted.node = Some("http://10.0.0.1:7001".to_owned());
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
            place.around.wanted.node = Some(text.to_owned());
            assert_eq!(search(&place.around).expect("found").dev.map(|node| node.pid), pid, "{text}");
        }
    }

    #[test]
    fn a_node_is_found_by_its_data_folder() {
        let mut place = place();
        let data_dir = place.folder.path().to_string_lossy().into_owned();
        let _node = record(&place, 2, &data_dir);
        place.around.wanted.node = Some(format!("unix:{data_dir}"));
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
    fn a_context_comes_before_this_machines_own_nodes() {
        let mut place = place();
        std::fs::write(&place.around.service_socket, "").expect("writes");
        let text = "context = \"prod\"\n[contexts.prod]\nnodes = [\"https://10.0.0.1:1\", \"https://10.0.0.2:1\"]\n\
                    authority = \"ca.pem\"\ncertificate = \"ann.pem\"\nkey = \"ann.key\"\n[contexts.here]\n\
                    nodes = [\"unix:/x.sock\"]\n";
        std::fs::write(place.folder.path().join("hotctl.toml"), text).expect("writes");
        let found = search(&place.around).expect("the default");
        assert_eq!(
            (found.address.to_string(), found.how.as_str()),
            ("https://10.0.0.1:1".to_owned(), "context prod")
        );
        assert_eq!(found.others.len(), 1);
        let credentials = found.credentials.expect("are named");
        assert_eq!(credentials.key, place.folder.path().join("ann.key"));
        // A node that is named has the certificate of the context.
        place.around.wanted.node = Some("https://10.0.0.9:1".to_owned());
        let found = search(&place.around).expect("the option");
        assert_eq!((found.others.len(), found.credentials), (0, Some(credentials)));
        place.around.wanted.node = None;
        place.around.wanted.context = Some("here".to_owned());
        assert_eq!(search(&place.around).expect("the context").address.to_string(), "unix:/x.sock");
        place.around.wanted.context = Some("porch".to_owned());
        let failure = search(&place.around).expect_err("none of them");
        assert!(
            failure.exit.code() == 2 && failure.sentence.contains("(it has here, prod)"),
            "{}",
            failure.sentence
        );
    }

    #[test]
    fn who_is_called_by_tls_needs_a_certificate() {
        let mut place = place();
        place.around.wanted.node = Some("https://10.0.0.9:1".to_owned());
        let failure = search(&place.around).expect_err("none is named");
        assert!(
            failure.exit.code() == 2 && failure.sentence.contains("--identity-key"),
            "{}",
            failure.sentence
        );
        place.around.wanted.files.key = Some("k".into());
        let failure = search(&place.around).expect_err("two are missing");
        assert!(
            failure.sentence.starts_with("--node-authority and --certificate are missing"),
            "{}",
            failure.sentence
        );
    }

    #[test]
    fn a_bad_option_is_a_usage_error() {
        let mut place = place();
        place.around.wanted.node = Some("localhost:7001".to_owned());
        assert_eq!(search(&place.around).expect_err("no address").exit.code(), 2);
    }
}
