//! What hosts print: read always, kept a little, told to whoever listens, and logged at a bounded rate.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::broadcast;

/// Lines that are kept of each instance.
const KEPT_LINES: usize = 50;
/// Bytes that are kept of each instance.
const KEPT_BYTES: usize = 16 * 1024;
/// The longest line, in bytes; what is longer is cut into several.
const MAX_LINE: usize = 4 * 1024;
/// Characters of a line that is told in a sentence.
const MAX_WORDS: usize = 200;
/// What a program in Rust says last of each panic, and nothing about it.
const RUST_NOTE: &str = "note: run with `RUST_BACKTRACE=1`";
/// What begins the host's own lines.
const HOST: &str = "hot-host: ";
/// Lines that a listener may lag behind before it misses some.
const LISTENER_LAG: usize = 256;
/// Lines of one instance that go to the log per second. A module that prints a gigabyte must not fill the journal.
const LOGGED_PER_SECOND: u32 = 50;

/// A line that a host printed, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When `hotd` read it. What hot-spawn read while there was no `hotd` is of the time at which it was taken over.
    pub at: SystemTime,
    /// What it says, with bytes that are not UTF-8 replaced.
    pub text: Arc<str>,
}

/// The output of one instance.
#[derive(Debug, Clone)]
pub(super) struct Output(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    kept: Mutex<Kept>,
    listeners: broadcast::Sender<Line>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    bytes: usize,
}

impl Output {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared { kept: Mutex::default(), listeners: broadcast::Sender::new(LISTENER_LAG) }))
    }

    /// The last lines, oldest first.
    pub(super) fn tail(&self) -> Vec<Line> {
        self.kept().lines.iter().cloned().collect()
    }

    /// The last line that says something, for a sentence: of bounded length, and with control characters escaped. Empty
    /// where there is none. Where a crash was comes behind what the module printed before it.
    pub(super) fn last_words(&self) -> String {
        let kept = self.kept();
        let says = |text: &&str| !text.is_empty() && !text.starts_with(RUST_NOTE);
        let mut lines = kept.lines.iter().rev().map(|line| line.text.trim()).filter(says);
        let Some(last) = lines.next() else { return String::new() };
        let place = last.strip_prefix(HOST).filter(|place| place.starts_with("SIG"));
        match (place, lines.next()) {
            (Some(place), Some(before)) => format!("{}; {}", words(before), words(place)),
            _ => words(last),
        }
    }

    /// Lines from now on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Line> {
        self.0.listeners.subscribe()
    }

    /// Takes lines that were read by hot-spawn.
    pub(super) fn take_up(&self, bytes: &[u8]) {
        let mut lines = Lines::default();
        lines.push(bytes, |line| drop(self.add(line)));
        lines.finish(|line| drop(self.add(line)));
    }

    /// Reads `pipe` until it ends; `module` and `release` are for the log.
    pub(super) async fn read(self, pipe: OwnedFd, module: String, release: u64) {
        let mut pipe = match pipe::Receiver::from_owned_fd(pipe) {
            Ok(pipe) => pipe,
            Err(error) => {
                tracing::error!(%module, release, %error, "the output of a host can't be read");
                return;
            }
        };
        let mut lines = Lines::default();
        let mut rate = Rate::default();
        let mut bytes = vec![0; 16 * 1024];
        loop {
            let len = match pipe.read(&mut bytes).await {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) => {
                    tracing::warn!(%module, release, %error, "the output of a host can't be read any more");
                    break;
                }
            };
            lines.push(&bytes[..len], |line| {
                let line = self.add(line);
                match rate.allow(Instant::now()) {
                    Allowed::No => {}
                    Allowed::Yes { left_out: 0 } => {
                        tracing::info!(target: "module", %module, release, "{line}")
                    }
                    Allowed::Yes { left_out } => {
                        tracing::info!(target: "module", %module, release, left_out, "{line}");
                    }
                }
            });
        }
        lines.finish(|line| {
            let line = self.add(line);
            tracing::info!(target: "module", %module, release, "{line}");
        });
    }

    fn add(&self, line: &[u8]) -> Arc<str> {
        let text: Arc<str> = String::from_utf8_lossy(line).into();
        let line = Line { at: SystemTime::now(), text: Arc::clone(&text) };
        {
            let mut kept = self.kept();
            kept.bytes += text.len();
            kept.lines.push_back(line.clone());
            while kept.lines.len() > KEPT_LINES || kept.bytes > KEPT_BYTES {
                let Some(oldest) = kept.lines.pop_front() else { break };
                kept.bytes -= oldest.text.len();
            }
        }
        // Without listeners it goes nowhere.
        self.0.listeners.send(line).unwrap_or_default();
        text
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn words(line: &str) -> String {
    let mut words = String::new();
    for c in line.chars().take(MAX_WORDS) {
        if c.is_control() { words.extend(c.escape_debug()) } else { words.push(c) }
    }
    if line.chars().nth(MAX_WORDS).is_some() {
        words.push_str(" ...");
    }
    words
}

/// Cuts a stream into lines of at most [`MAX_LINE`] bytes.
#[derive(Default)]
struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end], &mut line);
            line(self.begun.strip_suffix(b"\r").unwrap_or(&self.begun));
            self.begun.clear();
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes, &mut line);
    }

    fn extend(&mut self, mut bytes: &[u8], line: &mut impl FnMut(&[u8])) {
        while self.begun.len() + bytes.len() > MAX_LINE {
            let (part, rest) = bytes.split_at(MAX_LINE - self.begun.len());
            self.begun.extend_from_slice(part);
            line(&self.begun);
            self.begun.clear();
            bytes = rest;
        }
        self.begun.extend_from_slice(bytes);
    }

    /// What has no line break behind it is a line as well.
    fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.begun.is_empty() {
            line(&self.begun);
            self.begun.clear();
        }
    }
}

/// [`LOGGED_PER_SECOND`] in each second, and how many were left out before.
#[derive(Debug, Default)]
struct Rate {
    since: Option<Instant>,
    used: u32,
    left_out: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Allowed {
    Yes { left_out: u64 },
    No,
}

impl Rate {
    fn allow(&mut self, now: Instant) -> Allowed {
        if self.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            self.since = Some(now);
            self.used = 0;
        }
        if self.used == LOGGED_PER_SECOND {
            self.left_out += 1;
            return Allowed::No;
        }
        self.used += 1;
        Allowed::Yes { left_out: std::mem::take(&mut self.left_out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(output: &Output) -> Vec<String> {
        output.tail().iter().map(|line| line.text.to_string()).collect()
    }

    #[test]
    fn lines_are_cut_at_breaks_and_at_the_limit_however_they_come() {
        let text = [&b"one\r\ntwo\n\n"[..], &[b'x'; MAX_LINE + 3], b"\nlast"].concat();
        for step in [1, 7, text.len()] {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for chunk in text.chunks(step) {
                lines.push(chunk, |line| got.push(line.to_vec()));
            }
            lines.finish(|line| got.push(line.to_vec()));
            let lengths: Vec<_> = got.iter().map(Vec::len).collect();
            assert_eq!(lengths, [3, 3, 0, MAX_LINE, 3, 4]);
        }
    }

    #[test]
    fn a_line_has_the_time_at_which_it_was_read() {
        let (output, before) = (Output::new(), SystemTime::now());
        output.take_up(b"first\n");
        let between = SystemTime::now();
        output.take_up(b"second\n");
        let [first, second] = &output.tail()[..] else { panic!("two lines") };
        assert!(before <= first.at && first.at <= between && between <= second.at);
    }

    #[test]
    fn the_tail_is_bounded_in_lines_and_bytes() {
        let output = Output::new();
        for number in 0..100 {
            output.take_up(format!("{number}\n").as_bytes());
        }
        assert_eq!(tail(&output).len(), KEPT_LINES);
        output.take_up(&vec![b'y'; 1024 * 1024]);
        let bytes: usize = tail(&output).iter().map(String::len).sum();
        assert!(bytes <= KEPT_BYTES, "{bytes}");
    }

    #[test]
    fn the_last_words_fit_into_a_sentence() {
        let output = Output::new();
        assert_eq!(output.last_words(), "");
        output.take_up(b"thread 'a' panicked at b.rs:1:2:\n\tno \x1b[31mway\nnote: run with `RUST_BACKTRACE=1` to see\n \n");
        assert_eq!(output.last_words(), "no \\u{1b}[31mway");
        output.take_up("ä".repeat(300).as_bytes());
        assert_eq!(output.last_words(), format!("{} ...", "ä".repeat(200)));
        output.take_up(b"\nhot-host: SIGSEGV at 0x0 in f+0x2 of the module\n");
        let both = format!("{} ...; SIGSEGV at 0x0 in f+0x2 of the module", "ä".repeat(200));
        assert_eq!(output.last_words(), both);
    }

    #[test]
    fn the_log_gets_so_many_lines_a_second_and_the_number_of_the_others() {
        let mut rate = Rate::default();
        let start = Instant::now();
        let logged = (0..1000).filter(|_| rate.allow(start) != Allowed::No).count();
        assert_eq!(logged, 50);
        assert_eq!(rate.allow(start + Duration::from_secs(1)), Allowed::Yes { left_out: 950 });
    }
}
