//! Moves the bytes of a link, both ways.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hot_wire::data::{Decoder, FromHost};

use super::entry::Violation;
use super::link::{Link, LinkEnd};
use super::stream::HostStream;

/// Reads in a row before others get their turn. Each is up to 256 KiB.
const READS_PER_TURN: usize = 4;

/// Moves the bytes of a link until it ends, and says why it did.
pub(in crate::gateway) async fn run(link: Rc<Link>, stream: HostStream) -> LinkEnd {
    let mut io = LinkIo { stream, decoder: Decoder::new(), held: false };
    let end = poll_fn(|cx| io.poll(&link, cx)).await;
    link.end(end.clone());
    end
}

struct LinkIo {
    stream: HostStream,
    decoder: Decoder<FromHost>,
    /// The queue was held back for one look at the sockets.
    held: bool,
}

impl LinkIo {
    fn poll(&mut self, link: &Link, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        if let Some(end) = link.begin_turn(cx) {
            return Poll::Ready(end);
        }
        if !self.held && link.gathers() && pin!(tokio::task::yield_now()).poll(cx).is_pending() {
            self.held = true;
            return Poll::Pending;
        }
        self.held = false;
        let broken = match self.flush(link, cx) {
            Poll::Ready(Err(error)) => Some(error.kind()),
            _ => None,
        };
        // A host that died may have answered before: what it sent is read first, whatever became of writing.
        for _ in 0..READS_PER_TURN {
            // Looked at first: room for a read is not made in vain, while what was read before is in use.
            if !self.stream.is_readable(cx) && broken.is_none() {
                return Poll::Pending;
            }
            let read = match (self.stream.poll_read(cx, self.decoder.read_buf()), broken) {
                (Poll::Pending, Some(error)) => return Poll::Ready(LinkEnd::Io(error)),
                (read, _) => ready!(read),
            };
            match read {
                Ok(0) => return Poll::Ready(LinkEnd::Closed),
                Ok(_) => {
                    if let Err(end) = self.dispatch(link) {
                        return Poll::Ready(end);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Poll::Ready(LinkEnd::Closed);
                }
                Err(error) => return Poll::Ready(LinkEnd::Io(error.kind())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn flush(&mut self, link: &Link, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        link.poll_sent(|bytes| self.stream.poll_send(cx, bytes))
    }

    fn dispatch(&mut self, link: &Link) -> Result<(), LinkEnd> {
        let now = Instant::now();
        while let Some(frame) = self.decoder.next_frame()? {
            link.receive(frame, now).map_err(|Violation(what)| LinkEnd::Violation(what))?;
        }
        Ok(())
    }
}
