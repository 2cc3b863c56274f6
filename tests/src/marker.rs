//! Proof that code of a module has run, which its sandbox does not stand in the way of.

use std::cell::Cell;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// A socket to which the constructor of a module that was built with `CONSTRUCTED` says that it runs.
#[derive(Debug)]
pub struct Marker {
    socket: UnixDatagram,
    path: PathBuf,
    ran: Cell<bool>,
}

impl Marker {
    /// One at the place of this name, where no code has run yet.
    ///
    /// # Errors
    /// When there can't be a socket.
    pub fn new(name: &str) -> Result<Self> {
        let path = Self::path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("an old marker")?
            }
            _ => {}
        }
        let socket = UnixDatagram::bind(&path).with_context(|| path.display().to_string())?;
        socket.set_nonblocking(true)?;
        // An instance may have a user of its own.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        Ok(Self { socket, path, ran: Cell::new(false) })
    }

    /// The value of `CONSTRUCTED` for the marker of this name. Every user finds it, which may not be so of a folder in this
    /// checkout, and it is another one in each checkout.
    #[must_use]
    pub fn path(name: &str) -> PathBuf {
        let mut checkout = DefaultHasher::new();
        env!("CARGO_MANIFEST_DIR").hash(&mut checkout);
        PathBuf::from(format!("/tmp/hot-{:016x}-{name}", checkout.finish()))
    }

    /// Whether any code of a module with this marker has run.
    #[must_use]
    pub fn ran(&self) -> bool {
        let came = self.socket.recv(&mut [0]).is_ok();
        self.ran.set(self.ran.get() || came);
        self.ran.get()
    }

    /// What ran until now is forgotten.
    pub fn forget(&self) {
        while self.socket.recv(&mut [0]).is_ok() {}
        self.ran.set(false);
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        // A next one of its name removes what is left.
        drop(fs::remove_file(&self.path));
    }
}
