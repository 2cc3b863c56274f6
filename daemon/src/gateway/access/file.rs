//! The file of the access log: a thread that writes it, and opens it anew when somebody has put it aside.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::queue::{LeftOut, Lines, Waiting, queue};

/// Bytes of lines that may wait for the disk: some ten thousand lines.
const WAITING: usize = 4 * 1024 * 1024;

/// How often it is looked whether the file is still the one of that name, and told how many lines were left out.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The file, which is written until all who could send lines are gone.
#[derive(Debug)]
pub(in super::super) struct AccessFile {
    lines: Lines,
    ended: oneshot::Receiver<()>,
}

impl AccessFile {
    /// Opens the file, or makes it (mode 0640), and goes on at its end.
    pub(in super::super) fn open(path: &Path) -> io::Result<Self> {
        let mut log = Log::open(path)?;
        let (lines, waiting) = queue(WAITING);
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            while log.turn(&waiting) {}
            // Whoever waits learns of it by this; it may be nobody.
            drop(end);
        })?;
        Ok(Self { lines, ended })
    }

    /// Waits until all lines that were sent are written, at most so long. Whoever could send some has to be gone.
    pub(in super::super) async fn finish(self, within: Duration) {
        let Self { lines, ended } = self;
        let left_out = lines.left_out().clone();
        drop(lines);
        // Its end is the drop of the sender, which is an error to the receiver.
        if tokio::time::timeout(within, ended).await.is_err() {
            tracing::warn!("the last lines of the access log were not written in time");
            tell(&left_out);
        }
    }

    /// For one thread of the gateway.
    pub(in super::super) fn lines(&self) -> Lines {
        self.lines.clone()
    }
}

struct Log {
    path: PathBuf,
    appended: Appended,
    looked: Instant,
    /// When it was last told how many lines were left out.
    told: Instant,
    /// The last write failed, and that was said.
    has_failed: bool,
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        let appended = Appended::open(path)?;
        let now = Instant::now();
        Ok(Self { path: path.to_owned(), appended, looked: now, told: now, has_failed: false })
    }

    /// Writes the next lines, once there are some. False: there can be none any more.
    fn turn(&mut self, waiting: &Waiting) -> bool {
        let next = waiting.next(LOOK_EVERY, |lines| self.write(lines));
        let is_over = next == Err(RecvTimeoutError::Disconnected);
        if is_over || self.told.elapsed() >= LOOK_EVERY {
            self.told = Instant::now();
            tell(waiting.left_out());
        }
        !is_over
    }

    fn write(&mut self, lines: &[u8]) {
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            self.follow_the_name();
        }
        // Without a sync: a power cut may cost the last lines of what is no promise.
        match self.appended.write(lines) {
            Ok(()) if self.has_failed => {
                self.has_failed = false;
                tracing::info!(path = %self.path.display(), "the access log is written again");
            }
            Ok(()) => {}
            Err(error) if !self.has_failed => {
                self.has_failed = true;
                tracing::error!(path = %self.path.display(), %error, "the access log can't be written; lines are lost");
            }
            Err(_the_same) => {}
        }
    }

    /// Opens the file anew if another one, or none, has its name now: it was rotated.
    fn follow_the_name(&mut self) {
        let named = std::fs::metadata(&self.path).map(|named| (named.dev(), named.ino()));
        let open = self.appended.file.metadata().map(|open| (open.dev(), open.ino()));
        if matches!((&named, &open), (Ok(named), Ok(open)) if named == open) {
            return;
        }
        match Appended::open(&self.path) {
            Ok(appended) => self.appended = appended,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the access log can't be opened anew; the former file goes on");
            }
        }
    }
}

/// Says how many lines were left out, if any were.
fn tell(left_out: &LeftOut) {
    if let left_out @ 1.. = left_out.take() {
        tracing::warn!(left_out, "the access log did not keep up: lines were left out");
    }
}

/// A file of whole lines.
struct Appended {
    file: File,
    /// It ends in a piece of a line.
    is_torn: bool,
}

impl Appended {
    /// What it has stays, even a piece of a line, as a crash can leave it: that becomes a line of its own.
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        let is_torn = is_torn(path, &file);
        Ok(Self { file, is_torn })
    }

    /// Adds as many of the lines as there is room for; of one for which there is not, nothing is left.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.is_torn = false;
        }
        let file = &mut self.file;
        write_lines(lines, |left| file.write(left)).map_err(|(error, piece)| {
            self.is_torn = piece > 0 && self.cut(piece as u64).is_err();
            error
        })
    }

    /// Takes so much from its end. That fails where it is no regular file, or somebody else has cut it.
    fn cut(&self, bytes: u64) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        self.file.set_len(len.checked_sub(bytes).ok_or(io::ErrorKind::InvalidData)?)
    }
}

/// Writes all of the lines. With an error, how many bytes were written of a line that is not whole.
fn write_lines(
    lines: &[u8],
    mut write: impl FnMut(&[u8]) -> io::Result<usize>,
) -> Result<(), (io::Error, usize)> {
    let mut left = lines;
    while !left.is_empty() {
        let error = match write(left) {
            Ok(written) if written > 0 => {
                left = &left[written..];
                continue;
            }
            Ok(_nothing) => io::ErrorKind::WriteZero.into(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        let written = &lines[..lines.len() - left.len()];
        let piece = written.rsplit(|byte| *byte == b'\n').next().map_or(0, <[u8]>::len);
        return Err((error, piece));
    }
    Ok(())
}

/// Whether a file ends in a piece of a line, as far as it can be read.
fn is_torn(path: &Path, file: &File) -> bool {
    let last = || {
        let there = file.metadata().ok().filter(|there| there.is_file())?;
        let mut last = [0];
        File::open(path).ok()?.read_exact_at(&mut last, there.len().checked_sub(1)?).ok()?;
        Some(last)
    };
    last().is_some_and(|last| last != *b"\n")
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::small_disk;

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_file_that_was_put_aside_is_followed_by_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, aside) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let mut log = Log::open(&path).unwrap();
        log.write(b"one\n");
        std::fs::rename(&path, &aside).unwrap();
        log.write(b"two\n");
        assert_eq!(text(&aside), "one\ntwo\n", "until the next look");
        log.follow_the_name();
        log.write(b"three\n");
        assert_eq!((text(&aside), text(&path)), ("one\ntwo\n".to_owned(), "three\n".to_owned()));
        log.follow_the_name();
        log.write(b"four\n");
        assert_eq!(text(&path), "three\nfour\n");
    }

    #[tokio::test]
    async fn all_that_was_sent_is_written_before_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        std::fs::write(&path, "before\n").unwrap();
        let file = AccessFile::open(&path).unwrap();
        for number in 0..10 {
            file.lines().offer(format!("{number}\n").into_bytes());
        }
        file.finish(Duration::from_secs(20)).await;
        assert_eq!(text(&path), "before\n0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    }

    #[test]
    fn lines_that_were_left_out_are_told_within_a_second_and_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(&folder.path().join("access.log")).unwrap();
        let (lines, waiting) = queue(4);
        let offer = || lines.offer(b"one\n".to_vec());
        let left_out = || waiting.left_out().take();
        (0..3).for_each(|_| offer());
        log.told = Instant::now().checked_sub(LOOK_EVERY).unwrap();
        assert!(log.turn(&waiting));
        assert_eq!(left_out(), 0, "the two were told as soon as there was room");
        // Nobody sends anything any more: the look that follows tells it.
        (0..2).for_each(|_| offer());
        assert!(log.turn(&waiting) && log.turn(&waiting));
        assert_eq!(left_out(), 0);
        (0..2).for_each(|_| offer());
        drop(lines);
        while log.turn(&waiting) {}
        assert_eq!(left_out(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let error = AccessFile::open(&folder.path().join("no/access.log")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_piece_of_a_line_that_a_crash_left_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        for (before, after) in [("", "new\n"), ("whole\n", "whole\nnew\n"), ("a pie", "a pie\nnew\n")] {
            std::fs::write(&path, before).unwrap();
            let mut log = Log::open(&path).unwrap();
            log.write(b"new\n");
            assert_eq!(text(&path), after);
        }
    }

    #[test]
    fn the_piece_of_a_line_is_known_however_a_write_ends() {
        let written = |answers: Vec<io::Result<usize>>| {
            let mut answers = answers.into_iter();
            write_lines(b"one\ntwo\n", |_| answers.next().unwrap())
                .map_err(|(error, piece)| (error.kind(), piece))
        };
        let failed = |kind: io::ErrorKind| Err(io::Error::from(kind));
        assert_eq!(written(vec![Ok(3), failed(io::ErrorKind::Interrupted), Ok(5)]), Ok(()));
        assert_eq!(
            written(vec![Ok(6), failed(io::ErrorKind::StorageFull)]),
            Err((io::ErrorKind::StorageFull, 2))
        );
        assert_eq!(written(vec![Ok(3), Ok(0)]), Err((io::ErrorKind::WriteZero, 3)));
        assert_eq!(written(vec![Ok(4), Ok(0)]), Err((io::ErrorKind::WriteZero, 0)));
    }

    #[test]
    fn on_a_full_disk_a_line_is_whole_or_absent() {
        small_disk::run("64k", "gateway::access::file::tests::inside");
    }

    #[test]
    #[ignore = "started by the test above, where it may mount"]
    fn inside() {
        let disk = small_disk::here();
        let (path, other) = (disk.join("access.log"), disk.join("other"));
        std::fs::write(&other, vec![0; 16 * 1024]).unwrap();
        let mut log = Log::open(&path).unwrap();
        let line = format!("{}\n", "x".repeat(999));
        log.write(line.repeat(100).as_bytes());
        assert!(log.has_failed);
        let lines = text(&path).len() / line.len();
        assert!((40..60).contains(&lines), "{lines}");
        assert_eq!(text(&path), line.repeat(lines));
        std::fs::remove_file(&other).unwrap();
        log.write(b"there is room\n");
        assert!(!log.has_failed);
        assert_eq!(text(&path), format!("{}there is room\n", line.repeat(lines)));
    }
}
