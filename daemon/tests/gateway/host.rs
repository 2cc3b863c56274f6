//! The far side of the contract: a host in this process that speaks frames over socket pairs.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hot_wire::data::{self, AbortCode, CancelReason, Decoder, FromGateway};

use crate::rig::PATIENCE;

/// A host with one link per gateway thread. It dies when it is dropped.
pub(crate) struct Host {
    links: Vec<UnixStream>,
}

/// A frame from the gateway, and the way to answer.
pub(crate) struct Came {
    pub(crate) message: FromGateway,
    pub(crate) reply: Reply,
}

/// Answers one exchange.
#[derive(Clone)]
pub(crate) struct Reply {
    link: Arc<Mutex<UnixStream>>,
    exchange: u64,
}

impl Host {
    /// A host that does `act` with each frame. Gives the gateway's ends of its links.
    pub(crate) fn start(
        threads: usize,
        act: impl Fn(Came) + Send + Sync + 'static,
    ) -> (Self, Vec<UnixStream>) {
        let act: Arc<dyn Fn(Came) + Send + Sync> = Arc::new(act);
        let mut links = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..threads {
            let (theirs, ours) = UnixStream::pair().expect("a socket pair");
            links.push(read(ours, Arc::clone(&act)));
            ends.push(theirs);
        }
        (Self { links }, ends)
    }

    /// One over a link that is there.
    pub(crate) fn over(link: UnixStream, act: impl Fn(Came) + Send + Sync + 'static) -> Self {
        Self { links: vec![read(link, Arc::new(act))] }
    }

    /// A host that answers every request with 200 and `name`, once the request is whole.
    pub(crate) fn answering(threads: usize, name: &'static str) -> (Self, Vec<UnixStream>) {
        Self::start(threads, move |came| {
            let whole = match &came.message {
                FromGateway::Request(request) => request.end,
                FromGateway::Body { end, .. } => *end,
                FromGateway::Trailers(_) => true,
                _ => false,
            };
            if whole {
                came.reply.respond(200, &[("content-type", "text/plain")], name.as_bytes(), true);
            }
        })
    }

    /// A host that does nothing by itself: the test gets each frame.
    pub(crate) fn watched(threads: usize) -> (Self, Vec<UnixStream>, Inbox) {
        let (sender, receiver) = channel::<Came>();
        let sender = Mutex::new(sender);
        let forward = move |came| {
            let sender: &Sender<Came> = &sender.lock().expect("not poisoned");
            // The test may be over.
            drop(sender.send(came));
        };
        let (host, ends) = Self::start(threads, forward);
        (host, ends, Inbox { frames: receiver })
    }

    /// What the end of the process does to its sockets.
    pub(crate) fn die(&self) {
        for link in &self.links {
            link.shutdown(Shutdown::Both).expect("a link can be shut down");
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for link in &self.links {
            // It may have died before.
            drop(link.shutdown(Shutdown::Both));
        }
    }
}

/// Reads a link from here on, on a thread of its own.
fn read(link: UnixStream, act: Arc<dyn Fn(Came) + Send + Sync>) -> UnixStream {
    let reader = link.try_clone().expect("a duplicate");
    std::thread::spawn(move || serve(reader, &*act));
    link
}

fn serve(mut link: UnixStream, act: &(dyn Fn(Came) + Send + Sync)) {
    let writer = Arc::new(Mutex::new(link.try_clone().expect("a duplicate")));
    let mut decoder = Decoder::<FromGateway>::new();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(len) = link.read(&mut buffer)
        && len > 0
    {
        decoder.read_buf().extend_from_slice(&buffer[..len]);
        while let Some(frame) = decoder.next_frame().expect("the gateway sends frames") {
            let reply = Reply { link: Arc::clone(&writer), exchange: frame.exchange };
            act(Came { message: frame.message, reply });
        }
    }
}

impl Reply {
    pub(crate) fn exchange(&self) -> u64 {
        self.exchange
    }

    pub(crate) fn respond(&self, status: u16, fields: &[(&str, &str)], body: &[u8], end: bool) {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let mut out = Vec::new();
        data::response(&mut out, self.exchange, status, fields, body, end).expect("the head is small");
        self.write(&out);
    }

    pub(crate) fn body(&self, body: &[u8], end: bool) {
        let mut out = Vec::new();
        data::body(&mut out, self.exchange, body, end);
        self.write(&out);
    }

    pub(crate) fn trailers(&self, fields: &[(&str, &str)]) {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let mut out = Vec::new();
        data::trailers(&mut out, self.exchange, fields).expect("the trailers are small");
        self.write(&out);
    }

    pub(crate) fn grant(&self, credit: u32) {
        let mut out = Vec::new();
        data::window(&mut out, self.exchange, credit);
        self.write(&out);
    }

    pub(crate) fn abort(&self, code: AbortCode) {
        let mut out = Vec::new();
        data::abort(&mut out, self.exchange, code, "said by the test");
        self.write(&out);
    }

    /// Bytes as they are, on the link of this exchange.
    pub(crate) fn write(&self, bytes: &[u8]) {
        // The gateway may have dropped the link, which the tests of that see elsewhere.
        drop(self.link.lock().expect("not poisoned").write_all(bytes));
    }

    /// The same link, another exchange.
    pub(crate) fn of_exchange(&self, exchange: u64) -> Self {
        Self { link: Arc::clone(&self.link), exchange }
    }
}

/// The frames that came to a watched host.
pub(crate) struct Inbox {
    frames: Receiver<Came>,
}

impl Inbox {
    pub(crate) fn next(&self) -> Came {
        self.frames.recv_timeout(PATIENCE).expect("the gateway sends a frame")
    }

    /// The next frame, if one comes in this time.
    pub(crate) fn within(&self, time: Duration) -> Option<Came> {
        self.frames.recv_timeout(time).ok()
    }

    /// The next request.
    pub(crate) fn request(&self) -> (data::Request, Reply) {
        let came = self.next();
        let FromGateway::Request(request) = came.message else { panic!("no request: {:?}", came.message) };
        (request, came.reply)
    }

    /// The next frame, which is a cancellation.
    pub(crate) fn cancellation(&self) -> CancelReason {
        let came = self.next();
        let FromGateway::Cancel(reason) = came.message else { panic!("no cancellation: {:?}", came.message) };
        reason
    }
}

/// The fields of a request by name; those of one name are joined.
pub(crate) fn fields(request: &data::Request) -> BTreeMap<String, String> {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &request.fields {
        let value = String::from_utf8_lossy(value);
        let all = fields.entry(String::from_utf8_lossy(name).into_owned()).or_default();
        if !all.is_empty() {
            all.push_str(" | ");
        }
        all.push_str(&value);
    }
    fields
}
