//! nginx: a file from the disk's cache, and `proxy_pass` with kept-alive connections over a Unix socket.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{BODY, Ended, Kind, backend, free_port};

pub(super) fn start(kind: Kind, folder: &Path) -> Result<(Vec<Ended>, SocketAddr)> {
    let name = if kind == Kind::NginxFile { "nginx-file" } else { "nginx-proxy" };
    let own = folder.join(name);
    fs::create_dir_all(&own).context("a folder for nginx")?;
    fs::write(own.join("file"), BODY).context("a file for nginx")?;
    let mut processes = Vec::new();
    let upstream = if kind == Kind::NginxProxy {
        let (behind, socket) = backend::behind(folder, name)?;
        processes.push(behind);
        format!("upstream app {{ server unix:{socket}; keepalive 256; keepalive_requests 1000000000; }}")
    } else {
        String::new()
    };
    let location = if kind == Kind::NginxProxy {
        "location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\"; }"
    } else {
        "location / { sendfile on; tcp_nopush on; open_file_cache max=16; default_type application/octet-stream; }"
    };
    let port = free_port()?;
    let at = own.display();
    let config = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log warn;\n\
         events {{ worker_connections 2048; }}\n\
         http {{\n  access_log off; keepalive_timeout 300s; keepalive_requests 1000000000;\n  \
         client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;\n  \
         uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;\n  {upstream}\n  \
         server {{ listen 127.0.0.1:{port}; root {at}; {location} }}\n}}\n"
    );
    let file = own.join("nginx.conf");
    fs::write(&file, config).context("the config of nginx")?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&own).arg("-e").arg(own.join("error.log")).arg("-c").arg(&file);
    processes.insert(0, Ended::start(command)?);
    Ok((processes, SocketAddr::from(([127, 0, 0, 1], port))))
}
