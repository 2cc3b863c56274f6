//! A client that writes what it is told and reads responses, with a bound on its patience.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::rig::PATIENCE;

/// A connection that is kept.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) socket: BufReader<S>,
}

/// A response as it came.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The lines behind a body in chunks.
    pub(crate) trailers: Vec<String>,
    /// The connection ended before the body did.
    pub(crate) cut_off: bool,
}

impl Response {
    /// The value of a header that comes once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert!(values.next().is_none(), "{name} comes twice: {:?}", self.headers);
        value
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }
}

/// A socket with a bound on its patience.
pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(to).expect("the gateway accepts");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    socket.set_nodelay(true).expect("it is TCP");
    socket
}

impl Client {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::over(connect(to))
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn over(socket: S) -> Self {
        Self { socket: BufReader::new(socket) }
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.get_mut().write_all(bytes.as_ref()).expect("the gateway reads");
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.write(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        self.response(false)
    }

    pub(crate) fn send_post(&mut self, path: &str, body: &[u8]) {
        self.write(format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len()));
        self.write(body);
    }

    /// Reads a response. `bodiless`: it is to a HEAD.
    pub(crate) fn response(&mut self, bodiless: bool) -> Response {
        let mut response = self.head();
        if bodiless || matches!(response.status, 204 | 304) {
            return response;
        }
        if response.header("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            response.cut_off = self.chunks(&mut response).is_none();
        } else if let Some(length) = response.header("content-length") {
            let length: u64 = length.parse().expect("a length is a number");
            let read = self.socket.by_ref().take(length).read_to_end(&mut response.body);
            response.cut_off = read.map_or(true, |read| read as u64 != length);
        } else {
            self.socket.read_to_end(&mut response.body).expect("the body ends with the connection");
        }
        response
    }

    /// Reads the head of a response.
    pub(crate) fn head(&mut self) -> Response {
        let status = self.line().expect("a status line");
        let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line().expect("a header");
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').expect("a header has a colon");
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let status = code.unwrap_or_else(|| panic!("no status line: {status:?}"));
        Response { status, headers, body: Vec::new(), trailers: Vec::new(), cut_off: false }
    }

    /// The chunks that are left of a response whose head was read.
    pub(crate) fn response_chunks(&mut self) -> Vec<u8> {
        let (headers, body, trailers) = (Vec::new(), Vec::new(), Vec::new());
        let mut response = Response { status: 0, headers, body, trailers, cut_off: false };
        assert_eq!(self.chunks(&mut response), Some(()), "it was cut off after {:?}", response.body);
        response.body
    }

    /// Chunks to their end, with the trailers behind them; `None` if the connection ends before.
    fn chunks(&mut self, response: &mut Response) -> Option<()> {
        loop {
            let size = u64::from_str_radix(&self.line()?, 16).expect("a chunk has a size");
            let read = self.socket.by_ref().take(size).read_to_end(&mut response.body).ok()?;
            if read as u64 != size {
                return None;
            }
            if size == 0 {
                loop {
                    let line = self.line()?;
                    if line.is_empty() {
                        return Some(());
                    }
                    response.trailers.push(line);
                }
            }
            self.line()?;
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.socket.read_line(&mut line).expect("a line in time");
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// Whether the gateway has closed the connection, without a further byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.socket.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset && rest.is_empty(),
        }
    }
}
