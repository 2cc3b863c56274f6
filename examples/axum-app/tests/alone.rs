//! The application standing alone, on a socket of its own. The same checks run against it as a module, through a real
//! daemon: `tests/tests/async_modules.rs` of the workspace.

mod checks;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// Ends the program with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn it_passes_its_checks_standing_alone() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_axum-app"));
    command.arg("127.0.0.1:0").env("TOKEN", "secret").stdout(Stdio::piped());
    let mut program = Ends(command.spawn().expect("it starts"));
    let mut line = String::new();
    let stdout = program.0.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let address =
        line.trim().strip_prefix("listening on ").expect("the address").parse().expect("an address");
    checks::all(address, true);
}
