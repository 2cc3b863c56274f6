//! The config of `hotd --dev`: loopback only, everything in one folder, nothing to configure.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use hot_artifact::trust::ModuleRules;
use hot_rollout::Policy;
use hot_wire::isolation::Parts;
use thiserror::Error;

use super::sections::host_name;
use super::values::MAX_SOCKET_PATH;
use super::{Config, Grpc, Http, Log, Mode, ModuleLimits, Network, Sandbox, Spawn, Store, Trust};
use crate::driver::OnCrashLoop;
use crate::gateway::{GatewayConfig, Sources};

/// What `--dev` can be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dev {
    /// The folder for everything; it need not exist.
    pub data_dir: PathBuf,
    /// Where the gateway listens; port 0 for any.
    pub http: SocketAddr,
    /// Where gRPC listens besides its socket; port 0 for any.
    pub grpc: SocketAddr,
}

impl Dev {
    /// Where the gateway listens unless told.
    pub const HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
    /// Where gRPC listens unless told.
    pub const GRPC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8090);

    /// The folder unless told: `$XDG_STATE_HOME/hot/dev`, else `$HOME/.local/state/hot/dev`. `None` without a home.
    #[must_use]
    pub fn default_data_dir() -> Option<PathBuf> {
        let folder =
            |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        let state =
            folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")))?;
        Some(state.join("hot/dev"))
    }
}

/// Why there can be no node for trying out with these arguments.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DevError {
    /// An address that others can reach.
    #[error(
        "{option} {found} is not a loopback address; --dev listens on 127.0.0.1 or [::1] only, use --config to serve others"
    )]
    NotLoopback {
        /// The option.
        option: &'static str,
        /// The address.
        found: SocketAddr,
    },
    /// No home to put the folder into.
    #[error("neither XDG_STATE_HOME nor HOME is set; say where with --data-dir DIR")]
    NoDataDir,
    /// A folder that can't have a socket in it.
    #[error("--data-dir {} is not absolute, or longer than {MAX_DATA_DIR} bytes, which a Unix socket in it could not be; use a shorter path", found.display())]
    DataDir {
        /// The folder.
        found: PathBuf,
    },
}

/// Longest path of the folder: that of a socket less the longest name of one in it.
const MAX_DATA_DIR: usize = MAX_SOCKET_PATH - "/spawn.sock".len();

pub(super) fn config(dev: &Dev) -> Result<Config, DevError> {
    for (option, found) in [("--http", dev.http), ("--grpc", dev.grpc)] {
        if !found.ip().is_loopback() {
            return Err(DevError::NotLoopback { option, found });
        }
    }
    let data_dir = dev.data_dir.clone();
    if !data_dir.is_absolute() || data_dir.as_os_str().len() > MAX_DATA_DIR {
        return Err(DevError::DataDir { found: data_dir });
    }
    Ok(Config {
        mode: Mode::Dev,
        node: host_name().unwrap_or_else(|| "dev".to_owned()),
        http: http(dev.http),
        grpc: Grpc { socket: data_dir.join("hotd.sock"), listen: Some(dev.grpc), tls: None },
        cluster: None,
        trust: Trust {
            allowed_signers: data_dir.join("allowed_signers"),
            revoked: Some(data_dir.join("revoked_keys")),
            modules: ModuleRules::default(),
            libraries: None,
        },
        // All that is there is used; what is missing is said and no reason to refuse.
        sandbox: Sandbox { require: Parts::NONE, require_if_there: Parts::NONE, ..Sandbox::default() },
        network: Network::default(),
        limits: ModuleLimits::default(),
        store: Store::default(),
        policy: Policy::default(),
        on_crash_loop: OnCrashLoop::default(),
        spawn: Spawn::Own(data_dir.join("spawn.sock")),
        log: Log::default(),
        data_dir,
    })
}

/// Who is on this machine may pin requests to a release and is told which one answered.
fn http(address: SocketAddr) -> Http {
    let http = Http::default();
    let gateway = GatewayConfig { pin_from: Sources::All, show_release: true, ..http.gateway };
    Http { listen: vec![address], gateway, ..http }
}
