//! What the host itself and the module's log have to say: lines on standard error, which hotd collects.

use std::error::Error;
use std::io::Write;

/// The longest text of a line, in bytes, as `hot_module.h` says. A pipe takes up to 4,096 bytes in one piece, so lines of
/// several threads do not mix: there is room for what stands before the text.
const MAX_LINE: usize = 3800;

/// Writes one line of the host's own.
pub(crate) fn say(text: &str) {
    line("hot-host: ", text.as_bytes());
}

/// Writes `prefix` and `text` as one line: line breaks within become spaces, and what is too long is cut.
pub(crate) fn line(prefix: &str, text: &[u8]) {
    let mut line = Vec::with_capacity(prefix.len() + text.len().min(MAX_LINE) + 1);
    line.extend_from_slice(prefix.as_bytes());
    line.extend(
        text.iter().take(MAX_LINE).map(|&byte| if byte == b'\n' || byte == b'\r' { b' ' } else { byte }),
    );
    line.push(b'\n');
    // Nobody is left to hear of it if this fails: the module may have closed the descriptor.
    drop(std::io::stderr().write_all(&line));
}

/// An error with all its sources.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// The end of the process when it can't go on. No destructor of the module runs: its threads may still be at work.
pub(crate) fn die(text: &str) -> ! {
    say(text);
    leave(1)
}

/// Ends the process at once, without destructors.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: `_exit` takes any code and does not return.
    unsafe { libc::_exit(code) }
}
