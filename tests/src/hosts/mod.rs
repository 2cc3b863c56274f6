//! Hosts of a test's own: each a network namespace with an address and a cable to one bridge, which also leads to whoever
//! runs the test, as a client of theirs.
//!
//! Owns how they are made, cut off from each other (nftables) and unplugged (`ip link`). What runs on them is no matter of
//! this room: [`Host::run`] has anything start there. All of it is inside namespaces of the test's own ([`alone`]), so that
//! nothing has to be tidied up, and any number of tests can do so at once.

mod alone;
mod host;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

pub use self::alone::alone;
pub use self::host::Host;

/// The network of the hosts, `/24`: the n-th one has the address that ends with n.
const NETWORK: [u8; 3] = [10, 77, 0];
/// The end of the test's own address there.
const CLIENT: u8 = 254;

/// Hosts with cables to one bridge.
#[derive(Debug)]
pub struct Hosts(Vec<Host>);

impl Hosts {
    /// So many hosts. To be called within [`alone`], once.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn start(count: u8) -> Result<Self> {
        let client = address(CLIENT);
        ip(&format!(
            "link set lo up\nlink add hosts type bridge\naddr add {client}/24 dev hosts\nlink set hosts up\n"
        ))?;
        let hosts = (1..=count).map(|number| Host::start(number, address(number)));
        Ok(Self(hosts.collect::<Result<_>>()?))
    }

    /// All of them.
    pub fn all(&self) -> &[Host] {
        &self.0
    }

    /// From now on nothing travels between a host of `these` and one of `those`, in either direction. Connections are not
    /// ended: they fall silent.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn cut(&self, these: &[usize], those: &[usize]) -> Result<()> {
        let those: Vec<IpAddr> = those.iter().map(|host| self.0[*host].address()).collect();
        these.iter().try_for_each(|host| self.0[*host].cut_from(&those))
    }

    /// From now on nothing travels between a host of `these` and any other host. Clients reach them still.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn cut_off(&self, these: &[usize]) -> Result<()> {
        let those: Vec<usize> = (0..self.0.len()).filter(|host| !these.contains(host)).collect();
        self.cut(these, &those)
    }

    /// Ends every cut.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn mend(&self) -> Result<()> {
        self.0.iter().try_for_each(Host::mend)
    }
}

fn address(end: u8) -> IpAddr {
    let [a, b, c] = NETWORK;
    Ipv4Addr::new(a, b, c, end).into()
}

/// Has `ip` do something, a command a line, in the network of the calling thread.
fn ip(commands: &str) -> Result<()> {
    fed(Command::new("ip").args(["-batch", "-"]), commands)
}

/// Runs a program that reads what to do.
fn fed(command: &mut Command, input: &str) -> Result<()> {
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| what.clone())?;
    // What it says against its input is in its output; a pipe that it left is no more than that.
    drop(child.stdin.take().context("standard input is a pipe")?.write_all(input.as_bytes()));
    let output = child.wait_with_output().with_context(|| what.clone())?;
    ensure!(output.status.success(), "{what}: {}\n{input}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
