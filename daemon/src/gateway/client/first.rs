//! The first bytes of a connection, which tell what is spoken on it.

use std::io;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::conn::Client;

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2, with prior knowledge.
    Http2,
}

/// How the preface of HTTP/2 begins. The method is reserved for it (RFC 9113, section 11.6), so nothing else does.
const PREFACE: &[u8; 4] = b"PRI ";

/// Whether the client has said anything, which the executor may not have told of yet.
pub(in crate::gateway) fn has_spoken(socket: &TcpStream) -> bool {
    recv(socket, &mut [0; 1][..], RecvFlags::PEEK).is_ok_and(|(len, _)| len > 0)
}

/// Finds out what the client speaks. The bytes stay in the socket, so that whoever speaks it reads them as if nobody had
/// looked: that costs one system call per connection, and none per request.
pub(in crate::gateway) async fn first_words(socket: &TcpStream, client: &Client) -> Protocol {
    loop {
        let Ok(ready) = socket.ready(Interest::READABLE).await else { return Protocol::Http1 };
        let mut bytes = [0; PREFACE.len()];
        let look = socket.try_io(Interest::READABLE, || {
            let (len, _) = recv(socket, &mut bytes[..], RecvFlags::PEEK)?;
            let is_part = len < PREFACE.len() && PREFACE.starts_with(&bytes[..len]);
            if !is_part || ready.is_read_closed() {
                return Ok(len);
            }
            client.begin_head();
            // So that this waits for more, and not for what is there.
            Err(io::ErrorKind::WouldBlock.into())
        });
        match look {
            Ok(_) if bytes == *PREFACE => return Protocol::Http2,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // What is wrong with the socket, if something is, whoever reads it finds as well.
            Ok(_) | Err(_) => return Protocol::Http1,
        }
    }
}
