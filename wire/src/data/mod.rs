//! The data stream between one gateway thread and one host: many HTTP exchanges over one Unix stream socket.
//!
//! A frame is a header of 16 bytes and a payload:
//!
//! ```text
//! 0        4      5       6       8           16
//! | length | kind | flags | zero  | exchange  | payload: length bytes, at most MAX_PAYLOAD
//! |  u32   |  u8  |  u8   |  u16  |   u64     |
//! ```
//!
//! | kind | from | payload |
//! |---|---|---|
//! | 1 request | gateway | `head_len u32`, head, first bytes of the body |
//! | 2 response | host | `head_len u32`, head, first bytes of the body |
//! | 3 body | both | bytes |
//! | 4 trailers | both | `count u16`, fields; always with `END` |
//! | 5 window | both | `credit u32` |
//! | 6 cancel | gateway | `reason u8` |
//! | 7 abort | host | `code u8`, `text_len u16`, text |
//! | 8 deadline | gateway | `left_ms u32`, `ends u8` |
//!
//! Request head: `deadline_ms u32`, `method_len u16`, `target_len u16`, `peer_len u16`, `count u16`, method, target,
//! peer, fields, `window u32`. Response head: `status u16`, `count u16`, fields. A field is `name_len u16`, `value_len u16`, name,
//! value. Bytes behind what is known of a head, of trailers, window, cancel and abort are ignored: there they grow.
//!
//! Flag `END` (bit 0): nothing more comes from this side for this exchange; no other flag has a meaning yet. The
//! gateway chooses the exchange's number and never uses one again while the exchange is open; the host only repeats it.
//!
//! **Credit.** Each direction of each exchange starts with [`INITIAL_WINDOW`] bytes of body, those in the head's frame
//! included; the gateway, which has many clients, may ask for less of a response with the request's `window`. A sender
//! never exceeds its credit; the receiver grants more with a window frame as it consumes ([`SendCredit`],
//! [`ReceiveCredit`]).
//!
//! **After a response with status 101** both directions begin anew, as the bytes of a connection: whatever the flags of the
//! two heads said, each side sends body until its `END`. The credit goes on.
//!
//! **Deadlines** may move while an exchange is open: `left_ms` counts from the frame's arrival, and 0 is none. With `ends`
//! 1 the gateway asks for an end by then. Only a host with [`Features::DEADLINES`](crate::host::Features) knows this frame.
//!
//! Hop-by-hop headers never travel here. Names and values are not checked: whoever needs them to be valid HTTP checks
//! them, and the gateway must, because a module wrote them.

mod credit;
mod decode;
mod encode;
mod fields;

pub use credit::{CreditExceeded, ReceiveCredit, SendCredit};
pub use decode::{Decoder, Frame, FrameError, FromGateway, FromHost, Inbound, Request, Response};
pub use encode::{
    HeadError, RequestHead, abort, body, body_frame_header, cancel, deadline, request, response, trailers,
    window,
};
pub use fields::{Fields, FieldsIter};

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 16;
/// The largest payload of a frame, in bytes. It bounds what a peer can make us hold before a frame is complete, and
/// has room for a head and a piece at their limits.
pub const MAX_PAYLOAD: usize = 256 * 1024;
/// The largest piece of a body that the encoders put into one frame, in bytes: small enough that one exchange with a
/// large body does not keep the others waiting, large enough that the header costs nothing.
pub const MAX_PIECE: usize = 64 * 1024;
/// The largest head or trailers, in bytes: all names, values, target and lengths together.
pub const MAX_HEAD: usize = 64 * 1024;
/// The most header fields of a head or trailers.
pub const MAX_FIELDS: usize = 128;
/// Body bytes that each side may send per exchange before the first window frame.
pub const INITIAL_WINDOW: u32 = 256 * 1024;
/// The longest text of an abort, in bytes; the encoder cuts what is longer.
pub const MAX_TEXT: usize = 4096;

const END: u8 = 1;

const KIND_REQUEST: u8 = 1;
const KIND_RESPONSE: u8 = 2;
const KIND_BODY: u8 = 3;
const KIND_TRAILERS: u8 = 4;
const KIND_WINDOW: u8 = 5;
const KIND_CANCEL: u8 = 6;
const KIND_ABORT: u8 = 7;
const KIND_DEADLINE: u8 = 8;

/// Why the gateway gave an exchange up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelReason {
    /// The client went away.
    ClientGone,
    /// The exchange's deadline passed.
    Deadline,
    /// The gateway ends or takes the host out.
    Shutdown,
    /// The host broke the rules of this exchange, e.g. its credit.
    Protocol,
    /// A reason that a newer gateway knows.
    Other(u8),
}

impl CancelReason {
    fn to_byte(self) -> u8 {
        match self {
            Self::ClientGone => 1,
            Self::Deadline => 2,
            Self::Shutdown => 3,
            Self::Protocol => 4,
            Self::Other(byte) => byte,
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::ClientGone,
            2 => Self::Deadline,
            3 => Self::Shutdown,
            4 => Self::Protocol,
            other => Self::Other(other),
        }
    }
}

/// Why the host ended an exchange that the module did not finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AbortCode {
    /// The module's `handle` reported an error.
    Failed,
    /// The module panicked or threw.
    Panicked,
    /// The module let go of the exchange without finishing it.
    Unfinished,
    /// The host takes no more exchanges; the module has not seen this one.
    Refused,
    /// The gateway broke the rules of this exchange, e.g. its credit.
    Protocol,
    /// A code that a newer host knows.
    Other(u8),
}

impl AbortCode {
    fn to_byte(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Panicked => 2,
            Self::Unfinished => 3,
            Self::Refused => 4,
            Self::Protocol => 5,
            Self::Other(byte) => byte,
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Failed,
            2 => Self::Panicked,
            3 => Self::Unfinished,
            4 => Self::Refused,
            5 => Self::Protocol,
            other => Self::Other(other),
        }
    }
}
