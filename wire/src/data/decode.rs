//! The decoder: bytes of a stream in, frames out, as slices of the buffer that was read.

use std::marker::PhantomData;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use super::{
    AbortCode, CancelReason, END, Fields, HEADER_LEN, INITIAL_WINDOW, KIND_ABORT, KIND_BODY, KIND_CANCEL,
    KIND_DEADLINE, KIND_REQUEST, KIND_RESPONSE, KIND_TRAILERS, KIND_WINDOW, MAX_HEAD, MAX_PAYLOAD,
};

/// Why the bytes of a stream are no frames. The stream is of no more use: the place of the next frame is unknown or
/// the peer does not speak this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A frame announces more than [`MAX_PAYLOAD`].
    #[error("a frame of {found} bytes was announced and at most {MAX_PAYLOAD} are allowed")]
    TooLarge {
        /// The announced length of the payload, in bytes.
        found: u32,
    },
    /// The kind is unknown, or the other side's to send.
    #[error("a frame has the kind {found}, which this side never sends")]
    UnknownKind {
        /// The kind.
        found: u8,
    },
    /// A flag without a meaning is set, or the reserved bytes are not zero.
    #[error("the flags {flags:#04x} or the reserved bytes {reserved:#06x} of a frame have no meaning")]
    Reserved {
        /// The flags.
        flags: u8,
        /// The two bytes behind them.
        reserved: u16,
    },
    /// A frame ends within one of its parts.
    #[error("a frame ends within its {part}")]
    Truncated {
        /// The part.
        part: &'static str,
    },
    /// A head is longer than [`MAX_HEAD`].
    #[error("a head of {found} bytes was announced and at most {MAX_HEAD} are allowed")]
    HeadTooLarge {
        /// The announced length of the head, in bytes.
        found: u32,
    },
    /// More header fields than [`super::MAX_FIELDS`].
    #[error("a frame has {found} header fields")]
    TooManyFields {
        /// Their number.
        found: u16,
    },
    /// A status that HTTP can't express.
    #[error("a response has the status {found}, expected 100 to 999")]
    Status {
        /// The status.
        found: u16,
    },
    /// A kind of frame that always ends its side came without the `END` flag.
    #[error("a frame of the kind {kind} came without the end flag")]
    NotEnded {
        /// The kind.
        kind: u8,
    },
}

/// One frame with the exchange that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<M> {
    /// The exchange's number, as the gateway chose it. Whether there is such an exchange is not known here.
    pub exchange: u64,
    /// What the frame says.
    pub message: M,
}

/// What a gateway sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromGateway {
    /// A new exchange.
    Request(Request),
    /// More of the request's body.
    Body {
        /// The bytes.
        data: Bytes,
        /// The request is whole.
        end: bool,
    },
    /// The end of the request.
    Trailers(Fields),
    /// Credit for the response's body, in bytes.
    Window(u32),
    /// The exchange's deadline is another one from now on. Only a host with
    /// [`Features::DEADLINES`](crate::host::Features::DEADLINES) knows this frame.
    Deadline {
        /// Milliseconds that are left; 0 is no deadline.
        left_ms: u32,
        /// The gateway asks for an end by then.
        ends: bool,
    },
    /// The gateway gave the exchange up.
    Cancel(CancelReason),
}

/// What a host sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromHost {
    /// The head of the response, or all of it.
    Response(Response),
    /// More of the response's body.
    Body {
        /// The bytes.
        data: Bytes,
        /// The response is whole.
        end: bool,
    },
    /// The end of the response.
    Trailers(Fields),
    /// Credit for the request's body, in bytes.
    Window(u32),
    /// The exchange ended unfinished. The text says why; it is at most [`super::MAX_PAYLOAD`] bytes of whatever the
    /// host wrote.
    Abort {
        /// What kind of failure.
        code: AbortCode,
        /// The reason in words.
        text: Bytes,
    },
}

/// A request's head and the first bytes of its body.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    head: Bytes,
    method_len: u16,
    target_len: u16,
    peer_len: u16,
    /// Milliseconds until the exchange is cut off; 0 is no deadline.
    pub deadline_ms: u32,
    /// Bytes of the response's body that may be sent before the first window frame.
    pub window: u32,
    /// The header fields.
    pub fields: Fields,
    /// The first bytes of the body; all of it if `end`.
    pub body: Bytes,
    /// The request is whole.
    pub end: bool,
}

impl Request {
    /// The HTTP method, e.g. `GET`.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        self.part(0, self.method_len)
    }

    /// The path with its query.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        self.part(usize::from(self.method_len), self.target_len)
    }

    /// The client's address as text.
    #[must_use]
    pub fn peer(&self) -> &[u8] {
        self.part(usize::from(self.method_len) + usize::from(self.target_len), self.peer_len)
    }

    /// The head in memory of its own and without the body, for what lives longer than the buffer that was read.
    #[must_use]
    pub fn detached(&self) -> Self {
        let head = Bytes::copy_from_slice(&self.head);
        Self { head, fields: self.fields.detached(), body: Bytes::new(), ..*self }
    }

    /// The lengths were checked when the head was decoded, so no part is ever cut short here.
    fn part(&self, from: usize, len: u16) -> &[u8] {
        self.head.get(from..from + usize::from(len)).unwrap_or_default()
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method().escape_ascii().to_string())
            .field("target", &self.target().escape_ascii().to_string())
            .field("peer", &self.peer().escape_ascii().to_string())
            .field("deadline_ms", &self.deadline_ms)
            .field("window", &self.window)
            .field("fields", &self.fields)
            .field("body_len", &self.body.len())
            .field("end", &self.end)
            .finish()
    }
}

/// A response's head and the first bytes of its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status, 100 to 999.
    pub status: u16,
    /// The header fields.
    pub fields: Fields,
    /// The first bytes of the body; all of it if `end`.
    pub body: Bytes,
    /// The response is whole.
    pub end: bool,
}

/// A side of the stream: [`FromGateway`] or [`FromHost`].
pub trait Inbound: Sized {
    /// Makes a message of a frame's kind, `END` flag and payload.
    fn parse(kind: u8, end: bool, payload: Bytes) -> Result<Self, FrameError>;
}

impl Inbound for FromGateway {
    fn parse(kind: u8, end: bool, payload: Bytes) -> Result<Self, FrameError> {
        match kind {
            KIND_REQUEST => request(end, payload).map(Self::Request),
            KIND_BODY => Ok(Self::Body { data: payload, end }),
            KIND_TRAILERS => trailers(end, payload).map(Self::Trailers),
            KIND_WINDOW => window(payload).map(Self::Window),
            KIND_DEADLINE => deadline(payload),
            KIND_CANCEL => {
                let reason = payload.first().ok_or(FrameError::Truncated { part: "reason" })?;
                ended(end, kind)?;
                Ok(Self::Cancel(CancelReason::from_byte(*reason)))
            }
            found => Err(FrameError::UnknownKind { found }),
        }
    }
}

impl Inbound for FromHost {
    fn parse(kind: u8, end: bool, payload: Bytes) -> Result<Self, FrameError> {
        match kind {
            KIND_RESPONSE => response(end, payload).map(Self::Response),
            KIND_BODY => Ok(Self::Body { data: payload, end }),
            KIND_TRAILERS => trailers(end, payload).map(Self::Trailers),
            KIND_WINDOW => window(payload).map(Self::Window),
            KIND_ABORT => {
                ended(end, kind)?;
                abort(payload)
            }
            found => Err(FrameError::UnknownKind { found }),
        }
    }
}

fn ended(end: bool, kind: u8) -> Result<(), FrameError> {
    if end { Ok(()) } else { Err(FrameError::NotEnded { kind }) }
}

/// Takes the announced head off the front of `payload`, which keeps the body.
fn split_head(payload: &mut Bytes) -> Result<Bytes, FrameError> {
    let found = payload.try_get_u32_le().map_err(|_short| FrameError::Truncated { part: "head" })?;
    let len = usize::try_from(found).unwrap_or(usize::MAX);
    if len > MAX_HEAD {
        return Err(FrameError::HeadTooLarge { found });
    }
    if len > payload.len() {
        return Err(FrameError::Truncated { part: "head" });
    }
    Ok(payload.split_to(len))
}

fn request(end: bool, mut payload: Bytes) -> Result<Request, FrameError> {
    let mut head = split_head(&mut payload)?;
    let fixed: [u8; 12] = match head.first_chunk() {
        Some(fixed) => *fixed,
        None => return Err(FrameError::Truncated { part: "head" }),
    };
    let [d0, d1, d2, d3, m0, m1, t0, t1, p0, p1, c0, c1] = fixed;
    head.advance(fixed.len());
    let method_len = u16::from_le_bytes([m0, m1]);
    let target_len = u16::from_le_bytes([t0, t1]);
    let peer_len = u16::from_le_bytes([p0, p1]);
    let texts = usize::from(method_len) + usize::from(target_len) + usize::from(peer_len);
    if texts > head.len() {
        return Err(FrameError::Truncated { part: "head" });
    }
    let behind = head.split_off(texts);
    let (fields, left) = Fields::parse_front(behind.clone(), u16::from_le_bytes([c0, c1]))?;
    let window = behind[behind.len() - left..]
        .first_chunk()
        .map_or(INITIAL_WINDOW, |window| u32::from_le_bytes(*window));
    let deadline_ms = u32::from_le_bytes([d0, d1, d2, d3]);
    let window = window.min(INITIAL_WINDOW);
    Ok(Request { head, method_len, target_len, peer_len, deadline_ms, window, fields, body: payload, end })
}

fn response(end: bool, mut payload: Bytes) -> Result<Response, FrameError> {
    let mut head = split_head(&mut payload)?;
    let status = head.try_get_u16_le().map_err(|_short| FrameError::Truncated { part: "head" })?;
    let count = head.try_get_u16_le().map_err(|_short| FrameError::Truncated { part: "head" })?;
    if !(100..=999).contains(&status) {
        return Err(FrameError::Status { found: status });
    }
    Ok(Response { status, fields: Fields::parse(head, count)?, body: payload, end })
}

fn trailers(end: bool, mut payload: Bytes) -> Result<Fields, FrameError> {
    ended(end, KIND_TRAILERS)?;
    let count = payload.try_get_u16_le().map_err(|_short| FrameError::Truncated { part: "trailers" })?;
    Fields::parse(payload, count)
}

fn window(mut payload: Bytes) -> Result<u32, FrameError> {
    payload.try_get_u32_le().map_err(|_short| FrameError::Truncated { part: "credit" })
}

fn deadline(mut payload: Bytes) -> Result<FromGateway, FrameError> {
    let short = FrameError::Truncated { part: "deadline" };
    let left_ms = payload.try_get_u32_le().map_err(|_short| short)?;
    let ends = payload.try_get_u8().map_err(|_short| short)? != 0;
    Ok(FromGateway::Deadline { left_ms, ends })
}

fn abort(mut payload: Bytes) -> Result<FromHost, FrameError> {
    let short = FrameError::Truncated { part: "text" };
    let code = payload.try_get_u8().map_err(|_short| short)?;
    let len = usize::from(payload.try_get_u16_le().map_err(|_short| short)?);
    if len > payload.len() {
        return Err(short);
    }
    Ok(FromHost::Abort { code: AbortCode::from_byte(code), text: payload.split_to(len) })
}

/// Cuts a stream into frames.
///
/// Read into [`Decoder::read_buf`], then call [`Decoder::next_frame`] until it gives `None`. What it gives are shares
/// of the buffer: one that is kept keeps the whole buffer, up to [`MAX_PAYLOAD`] bytes, so copy what is small and
/// lives long.
#[derive(Debug)]
pub struct Decoder<M> {
    buffer: BytesMut,
    /// How much room the next read gets: follows what the peer sends.
    read_size: usize,
    /// Length of the buffer when it was last handed out for reading.
    len_before_read: usize,
    failed: Option<FrameError>,
    side: PhantomData<fn() -> M>,
}

/// The smallest room for a read, in bytes: a few dozen small exchanges, and what an idle link keeps.
const READ_MIN: usize = 16 * 1024;

impl<M> Default for Decoder<M> {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            read_size: READ_MIN,
            len_before_read: 0,
            failed: None,
            side: PhantomData,
        }
    }
}

impl<M: Inbound> Decoder<M> {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The buffer to append what is read to, with room for at least 8 KiB and, when the peer sends much, for up to
    /// [`MAX_PAYLOAD`] bytes and the rest of the frame that has begun.
    pub fn read_buf(&mut self) -> &mut BytesMut {
        let want = self.missing().max(self.read_size);
        // Below half of the wanted room it is worth a new or a reclaimed buffer; above, reading into the rest is not
        // much worse and keeps small frames out of the allocator.
        if self.buffer.capacity() - self.buffer.len() < want.div_ceil(2) {
            self.buffer.reserve(want);
        }
        self.len_before_read = self.buffer.len();
        &mut self.buffer
    }

    /// The next frame; `None`: read more. After an error it gives the same error for ever.
    pub fn next_frame(&mut self) -> Result<Option<Frame<M>>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.note_read();
        self.cut().inspect_err(|error| self.failed = Some(*error))
    }

    /// Whether the stream stops within a frame: at its end, that the peer was cut off.
    #[must_use]
    pub fn is_within_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn cut(&mut self) -> Result<Option<Frame<M>>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, kind, flags, r0, r1, exchange @ ..] = *header;
        let announced = u32::from_le_bytes([l0, l1, l2, l3]);
        let len = usize::try_from(announced).unwrap_or(usize::MAX);
        if len > MAX_PAYLOAD {
            return Err(FrameError::TooLarge { found: announced });
        }
        let reserved = u16::from_le_bytes([r0, r1]);
        if flags & !END != 0 || reserved != 0 {
            return Err(FrameError::Reserved { flags, reserved });
        }
        if self.buffer.len() < HEADER_LEN + len {
            return Ok(None);
        }
        let exchange = u64::from_le_bytes(exchange);
        self.buffer.advance(HEADER_LEN);
        let payload = self.buffer.split_to(len).freeze();
        self.len_before_read = self.buffer.len();
        let message = M::parse(kind, flags & END != 0, payload)?;
        Ok(Some(Frame { exchange, message }))
    }

    /// Bytes that the frame at the front still lacks; 0 if not even its header is there.
    fn missing(&self) -> usize {
        let Some([l0, l1, l2, l3, ..]) = self.buffer.first_chunk::<HEADER_LEN>() else {
            return 0;
        };
        let len = usize::try_from(u32::from_le_bytes([*l0, *l1, *l2, *l3])).unwrap_or(usize::MAX);
        (len.min(MAX_PAYLOAD) + HEADER_LEN).saturating_sub(self.buffer.len())
    }

    /// Lets the room for a read follow what came: four times more when it was filled, half when little of it was used.
    fn note_read(&mut self) {
        let read = self.buffer.len().saturating_sub(self.len_before_read);
        self.len_before_read = self.buffer.len();
        if read >= self.read_size {
            self.read_size = (self.read_size * 4).min(MAX_PAYLOAD);
        } else if read > 0 && read < self.read_size / 8 {
            self.read_size = (self.read_size / 2).max(READ_MIN);
        }
    }
}
