//! A client that writes and reads frames.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::net::sockopt::set_socket_recv_buffer_size;

use crate::rig::PATIENCE;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A connection.
pub(crate) struct Raw {
    socket: TcpStream,
}

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM or a GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }

    /// The status of a response, of those that have an index in the static table.
    pub(crate) fn status(&self) -> u16 {
        match self.payload[0] {
            0x88 => 200,
            0x89 => 204,
            0x8b => 304,
            0x8c => 400,
            0x8d => 404,
            0x8e => 500,
            // A literal with the name of entry 8.
            0x08 | 0x48 => digits(&self.payload[2..]),
            other => panic!("a response that begins with {other:#x}"),
        }
    }
}

/// Three digits in Huffman's code (RFC 7541, appendix B): 0 to 2 are 5 bits long, the others 6.
fn digits(bytes: &[u8]) -> u16 {
    let mut bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
    (0..3).fold(0, |number, _| {
        let five = bits.by_ref().take(5).fold(0, |code, bit| code << 1 | bit);
        let digit = if five <= 2 { five } else { (five << 1 | bits.next().expect("a sixth bit")) - 22 };
        number * 10 + digit
    })
}

impl Raw {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        let socket = TcpStream::connect(to).expect("the gateway accepts");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        socket.set_nodelay(true).expect("it is TCP");
        Self { socket }
    }

    /// A connection with its preface and empty SETTINGS.
    pub(crate) fn open(to: SocketAddr) -> Self {
        let mut raw = Self::connect(to);
        raw.write(PREFACE);
        raw.frame(SETTINGS, 0, 0, &[]);
        raw
    }

    /// Takes so little at a time that much is on its way for long.
    pub(crate) fn take_little(&self) {
        set_socket_recv_buffer_size(&self.socket, 16 * 1024).expect("a socket has a buffer");
    }

    /// Bytes as they are. The gateway may have closed the connection.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        drop(self.socket.write_all(bytes));
    }

    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.write(&frame(kind, flags, stream, payload));
    }

    /// A request without a body.
    pub(crate) fn get(&mut self, stream: u32) {
        self.frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("GET", "/x", &[]));
    }

    /// The next frame; `None` at the connection's end.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut header = [0; 9];
        self.read_exact(&mut header)?;
        let [high, middle, low, kind, flags, stream @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        self.read_exact(&mut payload)?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// Fills all of it; `None` at the connection's end. A connection that is silent has not ended.
    fn read_exact(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.socket.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the connection neither says anything nor ends: {error}")
            }
            Err(_ended) => None,
        }
    }

    /// The next frame of this kind, with the acknowledgements that are due meanwhile; `None` at the connection's end.
    pub(crate) fn until(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if matches!(frame.kind, SETTINGS | PING) && frame.flags & ACK == 0 {
                let payload = if frame.kind == PING { frame.payload.clone() } else { Vec::new() };
                self.frame(frame.kind, ACK, 0, &payload);
            }
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// What is left, without an answer to any of it, until the connection ends.
    pub(crate) fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

/// A frame as it is sent.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).expect("a short payload").to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Fields, each as a literal that is not indexed (RFC 7541, section 6.2.2).
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            match u8::try_from(text.len()) {
                Ok(len @ ..=126) => block.push(len),
                _ => {
                    block.push(127);
                    let mut rest = text.len() - 127;
                    while rest >= 128 {
                        block.push(u8::try_from(rest % 128).expect("below 128") | 128);
                        rest /= 128;
                    }
                    block.push(u8::try_from(rest).expect("below 128"));
                }
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A request's head.
pub(crate) fn head(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut head =
        fields(&[(":method", method), (":scheme", "http"), (":path", path), (":authority", "test")]);
    head.extend_from_slice(&fields(more));
    head
}
