//! Where it was measured, and with what.

use std::fs;
use std::process::Command;

/// A machine and the versions on it.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    lines: Vec<(&'static str, String)>,
}

impl Machine {
    /// This machine, today.
    pub(crate) fn this(cores: usize) -> Self {
        let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned());
        let memory = field("/proc/meminfo", "MemTotal").unwrap_or_else(|| "unknown".to_owned());
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split_whitespace().next().unwrap_or("unknown").to_owned();
        Self {
            lines: vec![
                ("date", said("date", &["-u", "+%Y-%m-%d"])),
                ("commit", said("git", &["describe", "--always", "--dirty", "--abbrev=10"])),
                ("processor", format!("{processor}, {cores} cores")),
                ("memory", memory),
                ("load before", load),
                ("kernel", said("uname", &["-sr"])),
                ("compiler", said("rustc", &["--version"])),
                ("nginx", said("nginx", &["-v"])),
                ("haproxy", said("haproxy", &["-v"])),
            ],
        }
    }

    /// What one of its lines says.
    pub(super) fn said(&self, name: &str) -> &str {
        self.lines.iter().find(|(line, _)| *line == name).map_or("unknown", |(_, value)| value)
    }

    /// As a table.
    pub(crate) fn markdown(&self) -> String {
        let lines: Vec<String> =
            self.lines.iter().map(|(name, value)| format!("| {name} | {value} |")).collect();
        format!("| | |\n| --- | --- |\n{}\n", lines.join("\n"))
    }
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start_matches([' ', '\t', ':']).trim_end().to_owned())
}

/// The first line that a command says, on either output.
fn said(command: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(command).args(arguments).output() else { return "not there".to_owned() };
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&all).lines().next().unwrap_or("says nothing").to_owned()
}
