//! [`Args`]: the command line of `hotd`, and which [`Config`] it asks for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Parser};
use thiserror::Error;

use crate::config::{Config, ConfigError, Dev, DevError};

/// The daemon of Hot: verifies, stores, runs, serves and judges modules on one node.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "hotd", version, max_term_width = 100)]
#[command(group(ArgGroup::new("mode").required(true).args(["dev", "config"])))]
#[command(after_help = "Examples:\n  \
    hotd --dev                                  a node for trying out, on 127.0.0.1:8080\n  \
    hotd --dev --data-dir /tmp/a --http 127.0.0.1:0 --grpc 127.0.0.1:0\n  \
    hotd --config /etc/hotd/hotd.toml           the service\n  \
    hotd --config /etc/hotd/hotd.toml --check   say what is wrong in the config, and end")]
pub struct Args {
    /// Run a node for trying out: loopback only, with a data folder and a signing key of its own
    #[arg(long)]
    pub dev: bool,

    /// Run as a service with this config, e.g. /etc/hotd/hotd.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Only check the config and the files that it names: report every mistake with its line, exit with 0 or 2
    #[arg(long, conflicts_with = "dev")]
    pub check: bool,

    /// With --dev: the folder for everything, e.g. /tmp/hot [default: $XDG_STATE_HOME/hot/dev]
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub data_dir: Option<PathBuf>,

    /// With --dev: where HTTP is served, e.g. 127.0.0.1:0 for any free port [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", value_parser = address, conflicts_with = "config")]
    pub http: Option<SocketAddr>,

    /// With --dev: where gRPC is served besides its socket, e.g. 127.0.0.1:0 [default: 127.0.0.1:8090]
    #[arg(long, value_name = "ADDR", value_parser = address, conflicts_with = "config")]
    pub grpc: Option<SocketAddr>,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_no_address| "expected an address and a port like 127.0.0.1:8080, or port 0".to_owned())
}

/// Why the arguments give no config.
#[derive(Debug, Error)]
pub enum ArgsError {
    /// `--dev` can't be had with the rest.
    #[error(transparent)]
    Dev(#[from] DevError),
    /// The config file can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The working folder is not known, so a relative path means nothing.
    #[error("can't tell the working folder; give --data-dir as an absolute path")]
    WorkingFolder(#[source] std::io::Error),
}

impl Args {
    /// The config file that is only to be checked.
    #[must_use]
    pub fn to_check(&self) -> Option<&Path> {
        self.config.as_deref().filter(|_| self.check)
    }

    /// The config that the arguments ask for, validated.
    ///
    /// # Errors
    /// When the file can't be read or has mistakes, or `--dev` is asked for something that it does not do.
    pub fn config(&self) -> Result<Config, ArgsError> {
        match &self.config {
            Some(path) => Ok(Config::load(path)?),
            None => {
                let data_dir = match &self.data_dir {
                    Some(path) => std::path::absolute(path).map_err(ArgsError::WorkingFolder)?,
                    None => Dev::default_data_dir().ok_or(DevError::NoDataDir)?,
                };
                let http = self.http.unwrap_or(Dev::HTTP);
                let grpc = self.grpc.unwrap_or(Dev::GRPC);
                Ok(Config::dev(&Dev { data_dir, http, grpc })?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::config::Mode;

    fn parse(line: &str) -> Result<Args, clap::error::ErrorKind> {
        Args::try_parse_from(line.split(' ')).map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_sound_and_every_option_has_help() {
        Args::command().debug_assert();
        for argument in Args::command().get_arguments() {
            assert!(argument.get_help().is_some(), "{}", argument.get_id());
        }
    }

    #[test]
    fn one_of_two_modes_is_asked_for() {
        use clap::error::ErrorKind::{ArgumentConflict, MissingRequiredArgument};
        assert_eq!(parse("hotd").unwrap_err(), MissingRequiredArgument);
        assert_eq!(parse("hotd --dev --config /x").unwrap_err(), ArgumentConflict);
        assert_eq!(parse("hotd --dev --check").unwrap_err(), ArgumentConflict);
        assert_eq!(parse("hotd --config /x --http 127.0.0.1:0").unwrap_err(), ArgumentConflict);
        assert!(parse("hotd --config /x --check").unwrap().check);
    }

    #[test]
    fn a_name_is_no_address() {
        for wrong in ["foo", "localhost:0", "127.0.0.1"] {
            let error = Args::try_parse_from(["hotd", "--dev", "--http", wrong]).unwrap_err().to_string();
            assert!(error.contains("like 127.0.0.1:8080"), "{error}");
        }
    }

    #[test]
    fn dev_takes_a_relative_folder_and_any_port() {
        let args = parse("hotd --dev --data-dir some/folder --http 127.0.0.1:0 --grpc [::1]:0").unwrap();
        let config = args.config().unwrap();
        assert_eq!(config.mode, Mode::Dev);
        assert!(config.data_dir.is_absolute() && config.data_dir.ends_with("some/folder"));
        assert_eq!(config.http.listen, ["127.0.0.1:0".parse().unwrap()]);
        assert_eq!(config.grpc.listen, Some("[::1]:0".parse().unwrap()));
    }
}
