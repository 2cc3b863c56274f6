//! One kept-alive connection with one request in flight at most.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

/// Room for a response; a longer one is not what this load asks for.
const ROOM: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Connection {
    socket: TcpStream,
    due: Option<Instant>,
    room: Vec<u8>,
    filled: usize,
    /// Length of the whole response, once its head has come.
    whole: Option<Head>,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    status: u16,
    body: usize,
    end: usize,
    closes: bool,
}

/// What came of a look at the socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing yet, or not all.
    Waits,
    /// A response, to the request that was due then.
    Response {
        status: u16,
        due: Instant,
        /// The first word of its body.
        word: String,
        /// It says that the connection ends with it.
        closes: bool,
    },
    /// The server has closed the connection.
    Closed { in_flight: bool },
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        socket.set_nodelay(true).context("TCP_NODELAY")?;
        socket.set_nonblocking(true).context("O_NONBLOCK")?;
        Ok(Self { socket, due: None, room: vec![0; ROOM], filled: 0, whole: None })
    }

    pub(super) const fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(super) const fn is_busy(&self) -> bool {
        self.due.is_some()
    }

    /// Sends a request. It is shorter than any socket's buffer, which is empty.
    pub(super) fn send(&mut self, request: &[u8], due: Instant) -> io::Result<()> {
        self.due = Some(due);
        self.socket.write_all(request)
    }

    /// Reads what has come.
    pub(super) fn read(&mut self) -> Result<Progress> {
        loop {
            match self.socket.read(&mut self.room[self.filled..]) {
                Ok(0) => return Ok(Progress::Closed { in_flight: self.due.is_some() }),
                Ok(len) => self.filled += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Waits),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("reading a response"),
            }
            if self.whole.is_none() {
                self.whole = head(&self.room[..self.filled])?;
            }
            let Some(head) = self.whole else { continue };
            ensure!(head.end <= ROOM, "a response of {} bytes, expected at most {ROOM}", head.end);
            if self.filled < head.end {
                continue;
            }
            ensure!(self.filled == head.end, "bytes behind the response");
            let due = self.due.take().context("a response that nobody asked for")?;
            let body = self.room[head.body..head.end].split(|byte| *byte == b'\n').next().unwrap_or_default();
            let word = String::from_utf8_lossy(body).into_owned();
            self.filled = 0;
            self.whole = None;
            return Ok(Progress::Response { status: head.status, due, word, closes: head.closes });
        }
    }
}

/// The head of a response, once it is whole.
fn head(bytes: &[u8]) -> Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end]).context("a head in ASCII")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let status = status.context("a status of HTTP/1.1")?;
    let (mut length, mut closes) = (None, false);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { bail!("no field of a head: {line:?}") };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<usize>().context("a length")?);
        } else if name.eq_ignore_ascii_case("connection") {
            closes = value.trim().eq_ignore_ascii_case("close");
        }
    }
    let body = end + 4;
    let length = length.context("a response without Content-Length")?;
    Ok(Some(Head { status, body, end: body + length, closes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() -> Result<()> {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nconnection: close\r\n\r\nabc";
        let found = head(text)?.context("whole")?;
        assert_eq!((found.status, &text[found.body..found.end], found.closes), (200, &b"abc"[..], true));
        assert!(head(&text[..20])?.is_none());
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "without a length there is no end");
        assert!(head(b"SSH-2.0\r\n\r\n").is_err());
        Ok(())
    }
}
