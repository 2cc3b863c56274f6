//! The file of the access log: a thread that writes it, and opens it anew when somebody has put it aside.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Batches of lines that may wait for the disk; each is up to some 64 KiB.
const WAITING: usize = 64;

/// How often it is looked whether the file is still the one of that name.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Batches of whole lines.
pub(in super::super) type Lines = SyncSender<Vec<u8>>;

/// The file, which is written until all who could send lines are gone.
#[derive(Debug)]
pub(in super::super) struct AccessFile {
    lines: Lines,
    ended: oneshot::Receiver<()>,
}

impl AccessFile {
    /// Opens the file, or makes it (mode 0640), and goes on at its end.
    pub(in super::super) fn open(path: &Path) -> io::Result<Self> {
        let file = append(path)?;
        let (lines, taken) = sync_channel(WAITING);
        let mut log = Log { path: path.to_owned(), file, looked: Instant::now(), has_failed: false };
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            log.write_all(&taken);
            // Whoever waits learns of it by this; it may be nobody.
            drop(end);
        })?;
        Ok(Self { lines, ended })
    }

    /// Waits until all lines that were sent are written, at most so long. Whoever could send some has to be gone.
    pub(in super::super) async fn finish(self, within: Duration) {
        let Self { lines, ended } = self;
        drop(lines);
        // Its end is the drop of the sender, which is an error to the receiver.
        if tokio::time::timeout(within, ended).await.is_err() {
            tracing::warn!("the last lines of the access log were not written in time");
        }
    }

    /// For one thread of the gateway.
    pub(in super::super) fn lines(&self) -> Lines {
        self.lines.clone()
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

struct Log {
    path: PathBuf,
    file: File,
    looked: Instant,
    /// The last write failed, and that was said.
    has_failed: bool,
}

impl Log {
    fn write_all(&mut self, taken: &Receiver<Vec<u8>>) {
        loop {
            match taken.recv_timeout(LOOK_EVERY) {
                Ok(lines) => self.write(&lines),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&mut self, lines: &[u8]) {
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            self.follow_the_name();
        }
        // Without a sync: a power cut may cost the last lines of what is no promise.
        match self.file.write_all(lines) {
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
        let open = self.file.metadata().map(|open| (open.dev(), open.ino()));
        if matches!((&named, &open), (Ok(named), Ok(open)) if named == open) {
            return;
        }
        match append(&self.path) {
            Ok(file) => self.file = file,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the access log can't be opened anew; the former file goes on");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_file_that_was_put_aside_is_followed_by_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, aside) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let file = append(&path).unwrap();
        let mut log = Log { path: path.clone(), file, looked: Instant::now(), has_failed: false };
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
            file.lines().send(format!("{number}\n").into_bytes()).unwrap();
        }
        file.finish(Duration::from_secs(20)).await;
        assert_eq!(text(&path), "before\n0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let error = AccessFile::open(&folder.path().join("no/access.log")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
