//! haproxy in HTTP mode, with connections to its backend that are used again, over a Unix socket.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::{Ended, backend, free_port};

pub(super) fn start(folder: &Path) -> Result<(Vec<Ended>, SocketAddr)> {
    let (behind, socket) = backend::behind(folder, "haproxy")?;
    let port = free_port()?;
    let config = format!(
        "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 300s\n  \
         timeout server 300s\nfrontend in\n  bind 127.0.0.1:{port}\n  default_backend app\n\
         backend app\n  http-reuse always\n  server app unix@{socket}\n"
    );
    let file = folder.join("haproxy.cfg");
    fs::write(&file, config).context("the config of haproxy")?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    Ok((vec![Ended::start(command)?, behind], SocketAddr::from(([127, 0, 0, 1], port))))
}
