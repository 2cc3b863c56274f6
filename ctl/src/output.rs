//! The one place that prints. Owns standard output and standard error, colours, JSON lines and the redrawn block of
//! a terminal. Does not know what it prints.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use thiserror::Error;

use crate::failure::{Failure, FailureJson};
use crate::words;

/// Between two looks whether anybody still reads: whoever left does not wait for us, but their shell does.
const LOOK_FOR_READER: Duration = Duration::from_millis(100);

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object, or one for each line where a command reports over time.
    Json,
}

/// Why something could not be printed.
#[derive(Debug, Error)]
pub(crate) enum OutputError {
    /// The reader of standard output is gone.
    #[error("standard output is closed")]
    Closed,
    /// Standard output can't be written.
    #[error("can't write to standard output: {0}")]
    Io(#[source] io::Error),
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Io(error) }
    }
}

/// What a piece of text means; shown as a colour on a terminal and not at all elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing special.
    Plain,
    /// As it should be.
    Good,
    /// Needs a look.
    Warn,
    /// Went wrong.
    Bad,
    /// Less important than the rest.
    Dim,
    /// A heading.
    Strong,
}

/// Wraps `text` in the escape sequence of `tone` when `colour` is on.
pub(crate) fn paint(text: &str, tone: Tone, colour: bool) -> String {
    let code = match tone {
        Tone::Plain => return text.to_owned(),
        Tone::Good => "32",
        Tone::Warn => "33",
        Tone::Bad => "31",
        Tone::Dim => "2",
        Tone::Strong => "1",
    };
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// What text has to fit into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// It may carry colours.
    pub colour: bool,
    /// Columns of the terminal. `None`: there is none, so whoever reads gets each line whole.
    pub width: Option<usize>,
}

impl Layout {
    /// For a pipe or a file.
    pub(crate) const PIPE: Self = Self { colour: false, width: None };
}

/// What a terminal says of its size, where it says it: some say their columns alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Screen {
    width: Option<usize>,
    height: Option<usize>,
}

impl Screen {
    /// The one that standard output goes to.
    fn of_stdout() -> Self {
        let size = rustix::termios::tcgetwinsize(io::stdout());
        size.map_or_else(|_none| Self::default(), |size| Self::new(size.ws_col, size.ws_row))
    }

    /// 0 is how a terminal says that it does not know.
    fn new(columns: u16, rows: u16) -> Self {
        let known = |count: u16| (count > 0).then_some(usize::from(count));
        Self { width: known(columns), height: known(rows) }
    }
}

/// A hint that is given once in a run at most, by who has no [`Out`] at hand.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    given: Arc<AtomicBool>,
}

impl Notice {
    /// Says `text` on standard error, unless one was given before.
    pub(crate) fn give(&self, text: &str) {
        if !self.given.swap(true, Ordering::Relaxed) {
            drop(writeln!(io::stderr().lock(), "{}", words::clean(text)));
        }
    }

    /// One was given, or none is to be.
    #[cfg(test)]
    pub(crate) fn is_given(&self) -> bool {
        self.given.load(Ordering::Relaxed)
    }
}

/// Standard output and standard error of this run.
pub(crate) struct Out {
    format: Format,
    /// Standard output, or what a test reads.
    sink: Box<dyn Write>,
    /// Standard error, or what a test reads.
    errors: Box<dyn Write>,
    /// Standard output is a terminal and may be redrawn.
    terminal: bool,
    colour: bool,
    /// The sink is standard output.
    is_stdout: bool,
    /// Lines of the redrawn block that are on the screen now.
    drawn: usize,
    /// The work is worth finishing even when nobody reads: see [`Out::outlive_reader`].
    outlives_reader: bool,
    /// See [`Out::result_alone`].
    result_alone: bool,
}

impl Out {
    /// The process's own output. Colours only on a terminal and without `NO_COLOR` (<https://no-color.org>).
    pub(crate) fn new(format: Format) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = io::stdout().is_terminal() && !dumb;
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            terminal,
            colour,
            is_stdout: true,
            ..Self::plain(format, Box::new(io::stdout()), Box::new(io::stderr()))
        }
    }

    /// Output into `sink`, which is no terminal.
    #[cfg(test)]
    pub(crate) fn into_sink(format: Format, sink: impl Write + 'static) -> Self {
        Self::plain(format, Box::new(sink), Box::new(io::stderr()))
    }

    /// As [`Out::into_sink`], with hints and errors into `errors`.
    #[cfg(test)]
    pub(crate) fn into_sinks(
        format: Format,
        sink: impl Write + 'static,
        errors: impl Write + 'static,
    ) -> Self {
        Self::plain(format, Box::new(sink), Box::new(errors))
    }

    /// Output where there is no terminal.
    const fn plain(format: Format, sink: Box<dyn Write>, errors: Box<dyn Write>) -> Self {
        Self {
            format,
            sink,
            errors,
            terminal: false,
            colour: false,
            is_stdout: false,
            drawn: 0,
            outlives_reader: false,
            result_alone: false,
        }
    }

    /// From here on standard output has the result and nothing else: a script reads it whole.
    pub(crate) const fn result_alone(&mut self) {
        self.result_alone = true;
    }

    /// From here on a closed standard output is not an error but silence: the exit code of what runs still matters.
    pub(crate) const fn outlive_reader(&mut self) {
        self.outlives_reader = true;
    }

    /// JSON was asked for.
    pub(crate) const fn json(&self) -> bool {
        matches!(self.format, Format::Json)
    }

    /// A block can be redrawn: a terminal, and text was asked for.
    pub(crate) const fn live(&self) -> bool {
        self.terminal && !self.json()
    }

    /// Text may carry colours.
    pub(crate) const fn colour(&self) -> bool {
        self.colour
    }

    /// What text has to fit into.
    pub(crate) fn layout(&self) -> Layout {
        Layout { colour: self.colour, width: self.terminal.then(|| self.width()) }
    }

    /// Columns of the terminal; 100 where there is none.
    pub(crate) fn width(&self) -> usize {
        if !self.terminal {
            return 100;
        }
        Screen::of_stdout().width.unwrap_or(100)
    }

    /// Prints text, above the redrawn block where there is one. A newline is added when it lacks one.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), OutputError> {
        let mut buffer = self.erase();
        buffer.push_str(text);
        if !text.is_empty() && !text.ends_with('\n') {
            buffer.push('\n');
        }
        self.write(&buffer)
    }

    /// Says what is done on the way to the result. Nothing with `-o json`.
    pub(crate) fn tell(&mut self, text: &str) -> Result<(), OutputError> {
        if self.json() {
            return Ok(());
        }
        if self.result_alone {
            self.complain(text);
            return Ok(());
        }
        self.text(text)
    }

    /// Prints `value` as one line of JSON.
    pub(crate) fn object(&mut self, value: &impl Serialize) -> Result<(), OutputError> {
        let mut line = serde_json::to_string(value).map_err(|error| OutputError::Io(error.into()))?;
        line.push('\n');
        self.write(&line)
    }

    /// Replaces the redrawn block by `lines`, which must fit into [`Out::width`]; those that the terminal has no room
    /// for are left out. Does nothing off a terminal.
    pub(crate) fn redraw(&mut self, lines: &[String]) -> Result<(), OutputError> {
        if !self.live() {
            return Ok(());
        }
        let room = Screen::of_stdout().height.unwrap_or(24).saturating_sub(1);
        let mut buffer = self.erase();
        for line in lines.iter().take(room) {
            buffer.push_str(line);
            buffer.push('\n');
        }
        self.drawn = lines.len().min(room);
        self.write(&buffer)
    }

    /// A hint on standard error that is not part of the result. Nothing with `-o json`.
    pub(crate) fn hint(&mut self, text: &str) {
        if !self.json() {
            self.complain(&words::clean(text));
        }
    }

    /// What is to be known beside a result that goes on, on standard error: with `-o json` as an object.
    pub(crate) fn aside(&mut self, text: &str, value: &impl Serialize) {
        let text = if self.json() {
            serde_json::to_string(value).unwrap_or_else(|_| text.to_owned())
        } else {
            text.lines().map(words::clean).collect::<Vec<_>>().join("\n")
        };
        self.complain(&text);
    }

    /// For a hint from where there is no `Out`. Nothing with `-o json`.
    pub(crate) fn notice(&self) -> Notice {
        Notice { given: Arc::new(AtomicBool::new(self.json())) }
    }

    /// Tells why the run failed, on standard error.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        if failure.sentence.is_empty() {
            return;
        }
        if self.json() {
            let line = serde_json::to_string(&FailureJson::from(failure));
            self.complain(&line.unwrap_or_else(|_| failure.sentence.clone()));
        } else {
            self.complain(&failure.lines());
        }
    }

    /// Where standard error goes is nobody's business but the user's: an error there has no better place to go.
    fn complain(&mut self, text: &str) {
        drop(writeln!(self.errors, "{text}"));
    }

    /// Ends when nobody reads standard output any more. Never where that is not known: not of a file, nor of a test's sink.
    pub(crate) async fn left(&self) -> OutputError {
        if !self.is_stdout {
            return std::future::pending().await;
        }
        let stdout = io::stdout();
        loop {
            // Asked for nothing it tells of errors, which a pipe without a reader is.
            let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
            let told = poll(&mut asked, Some(&Timespec::default()));
            if told.is_ok() && asked[0].revents().contains(PollFlags::ERR) {
                return OutputError::Closed;
            }
            tokio::time::sleep(LOOK_FOR_READER).await;
        }
    }

    /// The escape sequence that removes the redrawn block.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }

    fn write(&mut self, text: &str) -> Result<(), OutputError> {
        let sink = &mut self.sink;
        match sink.write_all(text.as_bytes()).and_then(|()| sink.flush()).map_err(OutputError::from) {
            Err(OutputError::Closed) if self.outlives_reader => Ok(()),
            result => result,
        }
    }
}

impl std::fmt::Debug for Out {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Out")
            .field("format", &self.format)
            .field("terminal", &self.terminal)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Memory that a test reads while `Out` writes to it.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Memory {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("UTF-8")
        }
    }

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A pipe whose reader is gone.
    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_reads() {
        let mut out = Out::into_sink(Format::Text, Broken);
        let failure = Failure::from(out.text("x").expect_err("a broken pipe"));
        assert_eq!((failure.exit.code(), failure.sentence.as_str()), (0, ""), "success, and nothing to say");
        out.outlive_reader();
        assert!(out.text("x").is_ok(), "the work goes on");
    }

    #[test]
    fn columns_are_taken_without_rows() {
        assert_eq!(Screen::new(60, 0), Screen { width: Some(60), height: None });
        assert_eq!(Screen::new(0, 24), Screen { width: None, height: Some(24) });
    }

    #[test]
    fn a_result_alone_is_what_a_script_reads() {
        let (result, told) = (Memory::default(), Memory::default());
        let mut out = Out::into_sinks(Format::Text, result.clone(), told.clone());
        out.tell("before").expect("writes");
        out.result_alone();
        out.tell("uploaded").expect("writes");
        out.text("r-7").expect("writes");
        assert_eq!((result.text().as_str(), told.text().as_str()), ("before\nr-7\n", "uploaded\n"));
        let mut json = Out::into_sink(Format::Json, result.clone());
        json.tell("uploaded").expect("writes");
        assert_eq!(result.text(), "before\nr-7\n", "JSON says it by itself");
    }

    #[test]
    fn colours_only_where_allowed() {
        assert_eq!(paint("x", Tone::Bad, false), "x");
        assert_eq!(paint("x", Tone::Bad, true), "\x1b[31mx\x1b[0m");
        assert_eq!(paint("x", Tone::Plain, true), "x");
    }

    #[test]
    fn a_broken_pipe_is_told_from_other_errors() {
        assert!(matches!(OutputError::from(io::Error::from(io::ErrorKind::BrokenPipe)), OutputError::Closed));
        assert!(matches!(OutputError::from(io::Error::from(io::ErrorKind::StorageFull)), OutputError::Io(_)));
    }
}
