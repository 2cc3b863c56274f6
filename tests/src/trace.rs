//! What a process does to a folder and says on its control socket, in the kernel's own order: `strace`, and what its
//! lines mean.
//!
//! It knows system calls and the frames of HTTP/2; which order is right is `order`'s.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// System calls that are looked at: those that change a folder, and those by which an answer leaves.
const CALLS: &str = "openat,write,pwrite64,writev,sendto,sendmsg,fsync,fdatasync,rename,renameat,renameat2,unlink,\
                     unlinkat,accept4";

/// Bytes of a string that `strace` shows: more than an answer has.
const SHOWN: &str = "4096";

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Did {
    /// A file was made, or emptied.
    Create(PathBuf),
    /// So many bytes were written at this place, or where the last ones ended.
    Write(PathBuf, Option<u64>, u64),
    /// A file or a folder was put on the disk.
    Sync(PathBuf),
    /// A file got another name.
    Rename(PathBuf, PathBuf),
    /// A name went away.
    Remove(PathBuf),
    /// A caller was let in at the control socket: the n-th, from 0.
    Accept(usize),
    /// That caller was answered, for the first time.
    Reply(usize),
}

/// A step: which thread did what, and the lines of the trace at which it began and had ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Thread id.
    pub thread: u32,
    /// What it did.
    pub did: Did,
    /// Line at which it began.
    pub began: usize,
    /// Line at which it had ended. Another step came after this one only if it began later.
    pub ended: usize,
}

/// A trace that is being written.
#[derive(Debug)]
pub struct Trace {
    file: PathBuf,
}

impl Trace {
    /// Whether a process can be traced here, with all of its threads; else why not.
    ///
    /// # Errors
    /// What `strace` says, or that there is none.
    pub fn possible() -> Result<()> {
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fsync", "true"]);
        let output = command.stdin(Stdio::null()).output().context("strace can't be started")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && said.is_empty(), "strace can't trace here: {}", said.trim());
        Ok(())
    }

    /// `command`, traced into `file`. It stays the child of whoever starts it (`-D`), and only the calls that are looked
    /// at cost time (`--seccomp-bpf`).
    pub fn around(command: &Command, file: &Path) -> (Command, Self) {
        let mut traced = Command::new("strace");
        traced.args(["-D", "-f", "--seccomp-bpf", "-y", "-s", SHOWN, "-e", "signal=none", "-e"]);
        traced.arg(format!("trace={CALLS}")).arg("-o").arg(file);
        (process::within(traced, command), Self { file: file.to_owned() })
    }

    /// Waits until the process has ended, and gives its steps below `folder`.
    ///
    /// # Errors
    /// When it still runs after `deadline`, or a line is not understood.
    pub fn finish(self, pid: i32, folder: &Path, deadline: Duration) -> Result<Vec<Step>> {
        let end = Instant::now() + deadline;
        // strace pads short numbers.
        let is_last = |line: &str| {
            let (thread, rest) = line.split_once(' ').unwrap_or_default();
            thread == pid.to_string() && rest.trim_start().starts_with("+++")
        };
        loop {
            let text = fs::read(&self.file).context("the trace")?;
            let text = String::from_utf8_lossy(&text);
            if text.lines().rev().any(is_last) {
                return steps(&text, folder);
            }
            ensure!(Instant::now() < end, "the trace of pid {pid} has no end");
            thread::yield_now();
        }
    }
}

/// The steps below `folder` that a trace tells of, in the order in which they ended; paths are within it.
///
/// # Errors
/// When a line is not understood.
pub fn steps(text: &str, folder: &Path) -> Result<Vec<Step>> {
    let mut reader = Reader { folder, begun: BTreeMap::new(), callers: BTreeMap::new(), steps: Vec::new() };
    for (number, line) in text.lines().enumerate() {
        reader.line(number, line).with_context(|| format!("line {} of the trace: {line}", number + 1))?;
    }
    Ok(reader.steps)
}

struct Reader<'a> {
    folder: &'a Path,
    /// Calls that have not ended, by thread: where they began, and their line up to there.
    begun: BTreeMap<u32, (usize, String)>,
    /// Callers, by the inode of their socket.
    callers: BTreeMap<String, Caller>,
    steps: Vec<Step>,
}

struct Caller {
    number: usize,
    answered: bool,
    /// Bytes of a frame that are yet to be sent.
    rest: usize,
}

impl Reader<'_> {
    fn line(&mut self, number: usize, line: &str) -> Result<()> {
        let (thread, call) = line.split_once(' ').context("no thread")?;
        let thread = thread.parse().context("no thread")?;
        let call = call.trim_start();
        if let Some(begun) = call.strip_suffix(" <unfinished ...>") {
            self.begun.insert(thread, (number, begun.to_owned()));
            return Ok(());
        }
        if let Some(resumed) = call.strip_prefix("<... ") {
            let rest = resumed.split_once(" resumed>").context("nothing resumed")?.1;
            let (began, begun) = self.begun.remove(&thread).context("it had not begun")?;
            return self.call(thread, began, number, &(begun + rest));
        }
        if call.starts_with("+++") || call.starts_with("---") || call.ends_with("= ?") {
            return Ok(());
        }
        self.call(thread, number, number, call)
    }

    fn call(&mut self, thread: u32, began: usize, ended: usize, call: &str) -> Result<()> {
        let (name, rest) = call.split_once('(').context("no call")?;
        let (arguments, result) = rest.rsplit_once(" = ").context("no result")?;
        let arguments = arguments.trim_end().strip_suffix(')').context("no end of the arguments")?;
        if result.starts_with('-') || result.starts_with('?') {
            return Ok(());
        }
        let did = match name {
            "openat" if arguments.contains("O_CREAT") => self.inside(&quoted(arguments)?, 0).map(Did::Create),
            "fsync" | "fdatasync" => self.descriptor(arguments).map(Did::Sync),
            "rename" | "renameat" | "renameat2" => {
                let paths = quoted(arguments)?;
                self.inside(&paths, 0).zip(self.inside(&paths, 1)).map(|(from, to)| Did::Rename(from, to))
            }
            "unlink" | "unlinkat" => self.inside(&quoted(arguments)?, 0).map(Did::Remove),
            "accept4" if arguments.contains("AF_UNIX") => {
                let socket = socket(result).context("no socket")?;
                let number = self.callers.len();
                self.callers.insert(socket.to_owned(), Caller { number, answered: false, rest: 0 });
                Some(Did::Accept(number))
            }
            "write" | "pwrite64" if socket(arguments).is_none() => match self.descriptor(arguments) {
                Some(path) => {
                    let at = arguments.rsplit_once(", ").context("no offset")?.1;
                    let at = if name == "pwrite64" { Some(at.parse()?) } else { None };
                    Some(Did::Write(path, at, result.trim().parse()?))
                }
                None => None,
            },
            "write" | "writev" | "sendto" | "sendmsg" => self.sent(arguments)?,
            _ => None,
        };
        self.steps.extend(did.map(|did| Step { thread, did, began, ended }));
        Ok(())
    }

    /// What was sent on a caller's socket: its answer, if it begins here.
    fn sent(&mut self, arguments: &str) -> Result<Option<Did>> {
        let Some(caller) = socket(arguments).and_then(|socket| self.callers.get_mut(socket)) else {
            return Ok(None);
        };
        let bytes: Vec<u8> = quoted(arguments)?.concat();
        // RFC 9113, 4.1: 24 bits of length, 8 of type, 8 of flags, 32 of stream. What strace cut off is payload.
        let mut at = caller.rest;
        let mut answers = false;
        while let Some(head) = bytes.get(at..at + 9) {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            answers |= head[3] == 1;
            at += 9 + length;
        }
        caller.rest = at.saturating_sub(bytes.len());
        if caller.answered || !answers {
            return Ok(None);
        }
        caller.answered = true;
        Ok(Some(Did::Reply(caller.number)))
    }

    fn descriptor(&self, arguments: &str) -> Option<PathBuf> {
        let path = arguments.split_once('<')?.1.split_once('>')?.0;
        Path::new(path).strip_prefix(self.folder).ok().map(Path::to_owned)
    }

    fn inside(&self, paths: &[Vec<u8>], which: usize) -> Option<PathBuf> {
        let path = std::str::from_utf8(paths.get(which)?).ok()?;
        Path::new(path).strip_prefix(self.folder).ok().map(Path::to_owned)
    }
}

/// The inode in `N<socket:[INODE]>`.
fn socket(text: &str) -> Option<&str> {
    let (descriptor, rest) = text.split_once("<socket:[")?;
    descriptor.trim().parse::<u32>().ok()?;
    Some(rest.split_once(']')?.0)
}

/// The strings among the arguments of a call.
fn quoted(arguments: &str) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let mut bytes = arguments.bytes().peekable();
    while bytes.by_ref().any(|byte| byte == b'"') {
        let mut string = Vec::new();
        loop {
            match bytes.next().context("a string without an end")? {
                b'"' => break,
                b'\\' => string.push(match bytes.next().context("a string without an end")? {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'v' => 0x0b,
                    b'f' => 0x0c,
                    digit @ b'0'..=b'7' => {
                        let mut value = u32::from(digit - b'0');
                        for _ in 0..2 {
                            let Some(digit) = bytes.next_if(|byte| (b'0'..=b'7').contains(byte)) else {
                                break;
                            };
                            value = value * 8 + u32::from(digit - b'0');
                        }
                        u8::try_from(value).context("more than a byte")?
                    }
                    byte @ (b'"' | b'\\') => byte,
                    byte => bail!("`\\{}` is not known", char::from(byte)),
                }),
                byte => string.push(byte),
            }
        }
        found.push(string);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn did(text: &str) -> Result<Vec<Did>> {
        Ok(steps(text, Path::new("/d"))?.into_iter().map(|step| step.did).collect())
    }

    #[test]
    fn files_are_told_apart_from_what_is_elsewhere() -> Result<()> {
        let text = r#"7 openat(AT_FDCWD</x>, "/d/a.tmp", O_RDWR|O_CREAT|O_TRUNC|O_CLOEXEC, 0600) = 5</d/a.tmp>
7 openat(AT_FDCWD</x>, "/d/b", O_RDONLY|O_CLOEXEC) = 6</d/b>
7 openat(AT_FDCWD</x>, "/etc/c", O_WRONLY|O_CREAT, 0600) = 6</etc/c>
7 pwrite64(5</d/a.tmp>, "{\"a\":\1\"2"..., 134, 7) = 134
7 write(5</d/a.tmp>, "x", 1) = 1
7 write(2</var/log>, "x = y", 5) = 5
7 fsync(5</d/a.tmp>)                  = 0
7 fsync(5</d/a.tmp>)                  = -1 EIO (Input/output error)
7 rename("/d/a.tmp", "/d/a") = 0
7 renameat2(AT_FDCWD</x>, "/d/a", AT_FDCWD</x>, "/d/b", 0) = 0
7 unlink("/d/b") = 0
7 fsync(9</d>) = 0
7 +++ exited with 0 +++"#;
        let (tmp, a, b) = (PathBuf::from("a.tmp"), PathBuf::from("a"), PathBuf::from("b"));
        assert_eq!(
            did(text)?,
            [
                Did::Create(tmp.clone()),
                Did::Write(tmp.clone(), Some(7), 134),
                Did::Write(tmp.clone(), None, 1),
                Did::Sync(tmp.clone()),
                Did::Rename(tmp, a.clone()),
                Did::Rename(a, b.clone()),
                Did::Remove(b),
                Did::Sync(PathBuf::new()),
            ]
        );
        Ok(())
    }

    #[test]
    fn a_call_ends_where_it_is_resumed() -> Result<()> {
        let text = "7 fsync(5</d/a> <unfinished ...>\n8 fsync(6</d/b>) = 0\n7 <... fsync resumed>)  = 0\n";
        let step =
            |thread, path: &str, began, ended| Step { thread, did: Did::Sync(path.into()), began, ended };
        assert_eq!(steps(text, Path::new("/d"))?, [step(8, "b", 1, 1), step(7, "a", 0, 2)]);
        Ok(())
    }

    #[test]
    fn an_answer_is_the_first_frame_of_headers() -> Result<()> {
        let text = r#"7 accept4(4<socket:[1]>, {sa_family=AF_UNIX}, [110 => 2], SOCK_CLOEXEC) = 5<socket:[2]>
7 accept4(4<socket:[1]>, 0x7f22067b4380, [110], SOCK_CLOEXEC) = -1 EAGAIN (Resource temporarily unavailable)
7 accept4(9<socket:[8]>, {sa_family=AF_INET, sin_port=htons(1)}, [128 => 16], SOCK_CLOEXEC) = 6<socket:[3]>
7 writev(5<socket:[2]>, [{iov_base="\0\0\6\4\0\0\0\0\0\0\3\0\0\0@", iov_len=15}], 1) = 15
7 writev(6<socket:[3]>, [{iov_base="\0\0\1\1\4\0\0\0\1\210", iov_len=10}], 1) = 10
7 writev(5<socket:[2]>, [{iov_base="\0\0\0\4\1\0\0\0\0\0", iov_len=10}, {iov_base="\0\1\1\4\0\0\0\1\210", iov_len=9}], 2) = 19
7 writev(5<socket:[2]>, [{iov_base="\0\0\1\1\5\0\0\0\1\210", iov_len=10}], 1) = 10
"#;
        assert_eq!(did(text)?, [Did::Accept(0), Did::Reply(0)]);
        Ok(())
    }

    #[test]
    fn what_is_not_understood_is_said() {
        assert!(did("7 fsync(5</d/a>").is_err());
        assert!(did("7 <... fsync resumed>) = 0").is_err());
        assert!(did(r#"7 unlink("/d/a) = 0"#).is_err());
    }
}
