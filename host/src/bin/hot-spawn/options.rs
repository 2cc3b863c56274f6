//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::users::Numbers;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To serve.
    Serve(Options),
    /// To be told what this program is: [`HELP`].
    Help,
    /// To be told its version.
    Version,
}

/// How to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Where `hotd` connects.
    pub(crate) socket: PathBuf,
    /// Whose `hotd` may connect, besides root's; `None`: one of our own user.
    pub(crate) owner: Option<u32>,
    /// What is executed as a host.
    pub(crate) host_binary: PathBuf,
    /// End, with all hosts, this long after the last `hotd` went away; `None`: stay.
    pub(crate) alone_for: Option<Duration>,
    /// Time between TERM and KILL when this process is told to end.
    pub(crate) stop_grace: Duration,
    /// Which users instances get.
    pub(crate) users: Wanted,
    /// Where the folders of instances are made.
    pub(crate) folders: PathBuf,
    /// A delegated folder of a cgroup v2 tree, in which each host gets a leaf.
    pub(crate) cgroup: Option<PathBuf>,
}

/// Which users instances are to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Nothing was said: those of [`Numbers::DEFAULT`] for a service of root's, else none.
    Usual,
    /// None: they have that of this process.
    None,
    /// One of these each.
    Numbers(Numbers),
}

const USAGE: &str = "usage: hot-spawn --socket PATH [--owner USER] [--users FIRST-LAST|none] [--folders DIR] [--cgroup DIR] [--dev] \
                     [--dev-grace-ms N] [--stop-grace-ms N] [--host-binary PATH]";

/// What this program is and takes.
pub(crate) const HELP: &str = "\
The parent of all hosts on a node: starts them when hotd asks, and keeps them while hotd is restarted.

It is started before hotd, by your service manager or by hand; `hotd --dev` starts one of its own. hotd connects to it as
`[spawn] socket` in its config says. Ended by SIGTERM or SIGINT, it ends all hosts.

Usage: hot-spawn --socket PATH [OPTIONS]

Options:
      --socket PATH        Where hotd connects, e.g. /run/hot-spawn/spawn.sock; made with mode 0600
      --owner USER         The user that hotd runs as, by name or number, who gets the socket [default: our own]
      --users FIRST-LAST   The numbers of users and groups that instances get, one user each; `none`: they have our user
                           [default: 1900000000-1900001023 as root without --dev, else none]
      --folders DIR        Where instances' folders are made [default: instances beside the socket]
      --cgroup DIR         A folder of a cgroup v2 tree that is delegated to this program and has no processes in it: each
                           host gets a leaf there for its limits [default: none; limits are polled]
      --host-binary PATH   What is executed as a host, no script [default: hot-host beside this program]
      --stop-grace-ms N    Time between TERM and KILL for hosts when this program is ended [default: 5000]
      --dev                End, with all hosts, some time after hotd went away
      --dev-grace-ms N     With --dev: how long it waits for the next hotd [default: 30000]
  -h, --help               Print help
  -V, --version            Print version

Example:
  hot-spawn --socket /run/hot-spawn/spawn.sock --owner hot
";

/// How long a dev node's hosts wait for the next `hotd`: enough to build it anew and start it again.
const DEV_GRACE: Duration = Duration::from_secs(30);
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Reads the arguments behind the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<Asked> {
    let mut arguments = arguments.into_iter();
    let mut socket = None;
    let mut owner = None;
    let mut host_binary = None;
    let mut cgroup = None;
    let mut dev = false;
    let mut dev_grace = DEV_GRACE;
    let mut stop_grace = STOP_GRACE;
    let mut users = Wanted::Usual;
    let mut folders = None;
    while let Some(argument) = arguments.next() {
        let mut value =
            || arguments.next().with_context(|| format!("{} needs a value; {USAGE}", argument.display()));
        match argument.to_str() {
            Some("--socket") => socket = Some(PathBuf::from(value()?)),
            Some("--owner") => owner = Some(user(&value()?)?),
            Some("--host-binary") => host_binary = Some(PathBuf::from(value()?)),
            Some("--cgroup") => cgroup = Some(PathBuf::from(value()?)),
            Some("--users") => users = wanted(&value()?)?,
            Some("--folders") => folders = Some(PathBuf::from(value()?)),
            Some("--dev") => dev = true,
            Some("-h" | "--help") => return Ok(Asked::Help),
            Some("-V" | "--version") => return Ok(Asked::Version),
            Some("--dev-grace-ms") => dev_grace = milliseconds(&value()?)?,
            Some("--stop-grace-ms") => stop_grace = milliseconds(&value()?)?,
            _ => bail!("unknown argument {}; {USAGE}", argument.display()),
        }
    }
    let Some(socket) = socket else { bail!("--socket is missing; {USAGE}") };
    let host_binary = match host_binary {
        Some(path) => path,
        None => beside_ourselves("hot-host")?,
    };
    let folders = folders.unwrap_or_else(|| socket.with_file_name("instances"));
    let alone_for = dev.then_some(dev_grace);
    Ok(Asked::Serve(Options { socket, owner, host_binary, alone_for, stop_grace, users, folders, cgroup }))
}

fn wanted(text: &OsString) -> anyhow::Result<Wanted> {
    match text.to_str() {
        Some("none") => Ok(Wanted::None),
        _ => Ok(Wanted::Numbers(text.to_string_lossy().parse()?)),
    }
}

/// The number of a user, who is known by it or by its name in `/etc/passwd`.
fn user(text: &OsString) -> anyhow::Result<u32> {
    let shown = text.display();
    let Some(name) = text.to_str() else { bail!("{shown} is no user; expected a name or a number") };
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let known = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let of_name = |line: &str| {
        line.split_once(':').filter(|(found, _)| *found == name)?.1.split(':').nth(1)?.parse().ok()
    };
    known
        .lines()
        .find_map(of_name)
        .with_context(|| format!("/etc/passwd has no user {shown}; expected one that it has, or a number"))
}

fn milliseconds(text: &OsString) -> anyhow::Result<Duration> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    let number =
        number.with_context(|| format!("{} is no number of milliseconds; {USAGE}", text.display()))?;
    Ok(Duration::from_millis(number))
}

fn beside_ourselves(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find out where hot-spawn lies")?;
    Ok(own.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(arguments: &[&str]) -> anyhow::Result<Asked> {
        parse(arguments.iter().map(OsString::from))
    }

    fn parse_all(arguments: &[&str]) -> anyhow::Result<Options> {
        match asked(arguments)? {
            Asked::Serve(options) => Ok(options),
            other => bail!("{other:?}"),
        }
    }

    #[test]
    fn help_has_every_option() {
        for (argument, expected) in [
            ("-h", Asked::Help),
            ("--help", Asked::Help),
            ("-V", Asked::Version),
            ("--version", Asked::Version),
        ] {
            assert_eq!(asked(&["--dev", argument]).unwrap(), expected, "{argument}");
        }
        let options = USAGE.split([' ', '[', ']']).filter(|word| word.starts_with("--"));
        for option in options {
            assert!(HELP.contains(&format!("      {option} ")), "{option}");
        }
    }

    #[test]
    fn a_service_stays_and_a_dev_node_waits_30_seconds() {
        let service = parse_all(&["--socket", "/s"]).unwrap();
        assert_eq!((service.alone_for, service.cgroup), (None, None));
        assert_eq!(service.host_binary.file_name().unwrap(), "hot-host");
        let dev = parse_all(&["--dev", "--socket", "/s"]).unwrap();
        assert_eq!(dev.alone_for, Some(Duration::from_secs(30)));
        let short =
            parse_all(&["--dev", "--dev-grace-ms", "50", "--socket", "/s", "--host-binary", "/h"]).unwrap();
        assert_eq!((short.alone_for, short.host_binary), (Some(Duration::from_millis(50)), "/h".into()));
    }

    #[test]
    fn a_cgroup_is_a_folder() {
        let options = parse_all(&["--socket", "/s", "--cgroup", "/sys/fs/cgroup/hot"]).unwrap();
        assert_eq!(options.cgroup, Some("/sys/fs/cgroup/hot".into()));
    }

    #[test]
    fn users_and_folders_are_the_usual_ones_unless_said() {
        let usual = parse_all(&["--socket", "/run/hot/s"]).unwrap();
        assert_eq!((usual.users, usual.folders), (Wanted::Usual, "/run/hot/instances".into()));
        let none = parse_all(&["--socket", "/s", "--users", "none", "--folders", "/f"]).unwrap();
        assert_eq!((none.users, none.folders), (Wanted::None, "/f".into()));
        let some = parse_all(&["--socket", "/s", "--users", "5000-5009"]).unwrap();
        assert_eq!(some.users, Wanted::Numbers("5000-5009".parse().unwrap()));
        assert!(HELP.contains(&Numbers::DEFAULT.to_string()));
    }

    #[test]
    fn an_owner_has_a_name_or_a_number() {
        for (text, expected) in [("root", 0), ("4711", 4711)] {
            let options = parse_all(&["--socket", "/s", "--owner", text]).unwrap();
            assert_eq!(options.owner, Some(expected));
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (arguments, named) in [
            (&["--dev"][..], "--socket is missing"),
            (&["--socket"], "--socket needs a value"),
            (&["--sockets", "/s"], "unknown argument --sockets"),
            (&["--socket", "/s", "--stop-grace-ms", "1s"], "1s is no number of milliseconds"),
            (&["--socket", "/s", "--owner", "no such user"], "/etc/passwd has no user no such user"),
            (&["--socket", "/s", "--users", "some"], "some is no range of users"),
        ] {
            let error = parse_all(arguments).unwrap_err().to_string();
            assert!(error.starts_with(named), "{error}");
        }
    }
}
