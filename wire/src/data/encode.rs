//! Encoders: each appends one message to a buffer, in one pass and without a buffer of its own.

use bytes::BufMut;
use thiserror::Error;

use super::{
    AbortCode, CancelReason, END, HEADER_LEN, KIND_ABORT, KIND_BODY, KIND_CANCEL, KIND_DEADLINE,
    KIND_REQUEST, KIND_RESPONSE, KIND_TRAILERS, KIND_WINDOW, MAX_FIELDS, MAX_HEAD, MAX_PIECE, MAX_TEXT,
};

/// Why a head or trailers can't travel. The buffer is then as it was before the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeadError {
    /// More header fields than [`MAX_FIELDS`].
    #[error("more than {MAX_FIELDS} header fields")]
    TooManyFields,
    /// More bytes than [`MAX_HEAD`].
    #[error("the head is longer than {MAX_HEAD} bytes")]
    TooLarge,
}

/// What a request says besides its fields and its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// The HTTP method, e.g. `GET`.
    pub method: &'a [u8],
    /// The path with its query, as received.
    pub target: &'a [u8],
    /// The client's address as text, e.g. `192.0.2.7:40123`.
    pub peer: &'a [u8],
    /// Milliseconds that are left until the exchange is cut off; 0 is no deadline.
    pub deadline_ms: u32,
    /// Bytes of the response's body that the host may send before the first window frame, at most [`INITIAL_WINDOW`].
    pub window: u32,
}

/// Appends a request. `body` is the part that is at hand, within the credit; `end`: it is all, and no trailers follow.
pub fn request<'f>(
    out: &mut Vec<u8>,
    exchange: u64,
    head: &RequestHead<'_>,
    fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
    body: &[u8],
    end: bool,
) -> Result<(), HeadError> {
    let fixed = 16 + head.method.len() + head.target.len() + head.peer.len();
    if fixed > MAX_HEAD {
        return Err(HeadError::TooLarge);
    }
    let start = begin(out, fixed + first_piece(body).len());
    let [d0, d1, d2, d3] = head.deadline_ms.to_le_bytes();
    let [[m0, m1], [t0, t1], [p0, p1]] =
        [head.method, head.target, head.peer].map(|text| len16(text.len()).to_le_bytes());
    // In one piece: each that is appended looks for room by itself. Lengths that come later are 0.
    out.extend_from_slice(&[0, 0, 0, 0, d0, d1, d2, d3, m0, m1, t0, t1, p0, p1, 0, 0]);
    let count_at = out.len() - 2;
    out.extend_from_slice(head.method);
    out.extend_from_slice(head.target);
    out.extend_from_slice(head.peer);
    put_fields(out, start, count_at, 4, fields)?;
    out.put_u32_le(head.window);
    finish_head(out, start, KIND_REQUEST, exchange, body, end);
    Ok(())
}

/// Appends a response. `body` is the part that is at hand, within the credit; `end`: it is all, and no trailers follow.
pub fn response<'f>(
    out: &mut Vec<u8>,
    exchange: u64,
    status: u16,
    fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
    body: &[u8],
    end: bool,
) -> Result<(), HeadError> {
    let start = begin(out, 4 + first_piece(body).len());
    out.put_u32_le(0);
    out.put_u16_le(status);
    let count_at = out.len();
    out.put_u16_le(0);
    put_fields(out, start, count_at, 0, fields)?;
    finish_head(out, start, KIND_RESPONSE, exchange, body, end);
    Ok(())
}

/// Appends a body, cut into pieces of [`MAX_PIECE`]; `end` is set on the last one. Nothing is appended for an empty
/// body that does not end.
pub fn body(out: &mut Vec<u8>, exchange: u64, mut body: &[u8], end: bool) {
    if body.is_empty() && !end {
        return;
    }
    loop {
        let piece = first_piece(body);
        body = &body[piece.len()..];
        out.reserve(HEADER_LEN + piece.len());
        out.extend_from_slice(&header(piece.len(), KIND_BODY, end && body.is_empty(), exchange));
        out.extend_from_slice(piece);
        if body.is_empty() {
            return;
        }
    }
}

/// The header of a body frame of `len` bytes (at most [`MAX_PIECE`]), for a caller that writes the bytes themselves
/// from where they are.
#[must_use]
pub fn body_frame_header(exchange: u64, len: usize, end: bool) -> [u8; HEADER_LEN] {
    debug_assert!(len <= MAX_PIECE, "a piece has at most {MAX_PIECE} bytes");
    header(len, KIND_BODY, end, exchange)
}

/// Appends trailers, which end this side of the exchange.
pub fn trailers<'f>(
    out: &mut Vec<u8>,
    exchange: u64,
    fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
) -> Result<(), HeadError> {
    let start = begin(out, 2);
    let count_at = out.len();
    out.put_u16_le(0);
    put_fields(out, start, count_at, 0, fields)?;
    finish(out, start, KIND_TRAILERS, exchange, true);
    Ok(())
}

/// Appends a grant of `credit` more bytes of body to the other side.
pub fn window(out: &mut Vec<u8>, exchange: u64, credit: u32) {
    out.reserve(HEADER_LEN + 4);
    out.extend_from_slice(&header(4, KIND_WINDOW, false, exchange));
    out.put_u32_le(credit);
}

/// Appends the end of an exchange that the gateway gave up. Frames that the host has already sent are ignored.
pub fn cancel(out: &mut Vec<u8>, exchange: u64, reason: CancelReason) {
    out.reserve(HEADER_LEN + 1);
    out.extend_from_slice(&header(1, KIND_CANCEL, true, exchange));
    out.put_u8(reason.to_byte());
}

/// Appends a new deadline of an exchange, in milliseconds from now on; 0 is none. `ends`: the gateway asks for an end.
pub fn deadline(out: &mut Vec<u8>, exchange: u64, left_ms: u32, ends: bool) {
    out.reserve(HEADER_LEN + 5);
    out.extend_from_slice(&header(5, KIND_DEADLINE, false, exchange));
    out.put_u32_le(left_ms);
    out.put_u8(ends.into());
}

/// Appends the end of an exchange that was not finished. `text` says why; past [`MAX_TEXT`] bytes it is cut.
pub fn abort(out: &mut Vec<u8>, exchange: u64, code: AbortCode, text: &str) {
    let text = &text[..text.floor_char_boundary(MAX_TEXT)];
    out.reserve(HEADER_LEN + 3 + text.len());
    out.extend_from_slice(&header(3 + text.len(), KIND_ABORT, true, exchange));
    out.put_u8(code.to_byte());
    out.put_u16_le(len16(text.len()));
    out.extend_from_slice(text.as_bytes());
}

fn first_piece(body: &[u8]) -> &[u8] {
    &body[..body.len().min(MAX_PIECE)]
}

/// Lengths within a head are below [`MAX_HEAD`] + 1, which is checked before the head is finished.
fn len16(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

fn header(len: usize, kind: u8, end: bool, exchange: u64) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..4].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    header[4] = kind;
    header[5] = if end { END } else { 0 };
    header[8..].copy_from_slice(&exchange.to_le_bytes());
    header
}

/// Leaves room for a frame's header and says where it starts. `expected` bytes of payload are known to come, and
/// typical fields with them.
fn begin(out: &mut Vec<u8>, expected: usize) -> usize {
    const TYPICAL_FIELDS: usize = 512;
    out.reserve(HEADER_LEN + 4 + expected + TYPICAL_FIELDS);
    let start = out.len();
    out.put_bytes(0, HEADER_LEN);
    start
}

/// Appends the number of fields and the fields to the frame at `start`; takes the whole frame back if they don't fit.
/// `count_at` is where the number goes, since what is between it and the fields is already written.
fn put_fields<'f>(
    out: &mut Vec<u8>,
    start: usize,
    count_at: usize,
    behind: usize,
    fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
) -> Result<(), HeadError> {
    let mut room = MAX_HEAD.saturating_sub(out.len() + behind - start - HEADER_LEN);
    let mut count: u16 = 0;
    // Fields are chained of several sources, and those that are visited from within know which one they are at.
    let put = fields.into_iter().try_for_each(|(name, value)| {
        let len = 4usize.saturating_add(name.len()).saturating_add(value.len());
        if usize::from(count) == MAX_FIELDS || len > room {
            return Err(if len > room { HeadError::TooLarge } else { HeadError::TooManyFields });
        }
        count += 1;
        room -= len;
        let [[n0, n1], [v0, v1]] = [name, value].map(|text| len16(text.len()).to_le_bytes());
        out.extend_from_slice(&[n0, n1, v0, v1]);
        out.extend_from_slice(name);
        out.extend_from_slice(value);
        Ok(())
    });
    match put {
        Ok(()) => out[count_at..count_at + 2].copy_from_slice(&count.to_le_bytes()),
        Err(_) => out.truncate(start),
    }
    put
}

/// Writes the head's length in front of it, adds the body's first piece, closes the frame at `start`, and adds the
/// rest of the body as frames of their own.
fn finish_head(out: &mut Vec<u8>, start: usize, kind: u8, exchange: u64, whole: &[u8], end: bool) {
    let at = start + HEADER_LEN;
    let head_len = out.len() - at - 4;
    out[at..at + 4].copy_from_slice(&u32::try_from(head_len).unwrap_or(u32::MAX).to_le_bytes());
    let piece = first_piece(whole);
    let rest = &whole[piece.len()..];
    out.extend_from_slice(piece);
    finish(out, start, kind, exchange, end && rest.is_empty());
    if !rest.is_empty() {
        body(out, exchange, rest, end);
    }
}

fn finish(out: &mut [u8], start: usize, kind: u8, exchange: u64, end: bool) {
    let len = out.len() - start - HEADER_LEN;
    out[start..start + HEADER_LEN].copy_from_slice(&header(len, kind, end, exchange));
}
