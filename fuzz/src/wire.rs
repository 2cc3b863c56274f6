//! Frames and control messages: what decodes encodes back to the same, however the stream was cut.

use hot_wire::data::{
    self, Decoder, Frame, FrameError, FromGateway, FromHost, HeadError, Inbound, MAX_TEXT, Request,
    RequestHead, Response,
};
use hot_wire::{MessageError, TooLarge, host, spawn};

/// A stream, read as either side's. Let in: one whole frame or more, and no error.
pub(crate) fn frames(stream: &[u8]) -> bool {
    let of_gateway = side(stream, write_as_gateway);
    let of_host = side(stream, write_as_host);
    of_gateway || of_host
}

fn write_as_gateway(out: &mut Vec<u8>, frame: &Frame<FromGateway>) -> Result<(), HeadError> {
    let exchange = frame.exchange;
    match &frame.message {
        FromGateway::Request(request) => {
            let (method, target, peer) = (request.method(), request.target(), request.peer());
            let Request { deadline_ms, window, .. } = *request;
            let head = RequestHead { method, target, peer, deadline_ms, window };
            data::request(out, exchange, &head, &request.fields, &request.body, request.end)?;
        }
        FromGateway::Body { data, end } => data::body(out, exchange, data, *end),
        FromGateway::Trailers(fields) => data::trailers(out, exchange, fields)?,
        FromGateway::Window(credit) => data::window(out, exchange, *credit),
        FromGateway::Cancel(reason) => data::cancel(out, exchange, *reason),
        FromGateway::Deadline { left_ms, ends } => data::deadline(out, exchange, *left_ms, *ends),
    }
    Ok(())
}

fn write_as_host(out: &mut Vec<u8>, frame: &Frame<FromHost>) -> Result<(), HeadError> {
    let exchange = frame.exchange;
    match &frame.message {
        FromHost::Response(Response { status, fields, body, end }) => {
            data::response(out, exchange, *status, fields, body, *end)?;
        }
        FromHost::Body { data, end } => data::body(out, exchange, data, *end),
        FromHost::Trailers(fields) => data::trailers(out, exchange, fields)?,
        FromHost::Window(credit) => data::window(out, exchange, *credit),
        // Whatever a host wrote is decoded; the encoder takes text, which it cuts where it is too long.
        FromHost::Abort { code, text } => match std::str::from_utf8(text) {
            Ok(text) if text.len() <= MAX_TEXT => data::abort(out, exchange, *code, text),
            _ => {}
        },
    }
    Ok(())
}

/// Reads a stream whole and cut up, which has to give the same; then writes each frame, reads what was written, and
/// compares.
fn side<M: Inbound + PartialEq + std::fmt::Debug>(
    stream: &[u8],
    write: impl Fn(&mut Vec<u8>, &Frame<M>) -> Result<(), HeadError>,
) -> bool {
    let whole = decode::<M>([stream]);
    // Pieces of lengths that the input chooses.
    let mut rest = stream;
    let pieces = std::iter::from_fn(|| {
        let length = usize::from(*rest.first()? % 29) + 1;
        let (piece, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        Some(piece)
    });
    assert_eq!(decode(pieces), whole, "a stream means the same however it is cut");
    let (frames, error) = whole;
    for frame in &frames {
        let mut out = Vec::new();
        write(&mut out, frame).expect("what was decoded is within the encoder's limits");
        // A part that says nothing is not written.
        if !out.is_empty() {
            let (again, error) = decode([&out[..]]);
            assert_eq!((again.as_slice(), error), (std::slice::from_ref(frame), None));
        }
    }
    error.is_none() && !frames.is_empty()
}

/// The frames of a stream that comes in these pieces, and the error that ended it.
fn decode<'s, M: Inbound>(pieces: impl IntoIterator<Item = &'s [u8]>) -> (Vec<Frame<M>>, Option<FrameError>) {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.read_buf().extend_from_slice(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.next_frame().err(), Some(error), "an error is final");
                    return (frames, Some(error));
                }
            }
        }
    }
    (frames, None)
}

/// A packet, read as a message of each of the four kinds. Let in: by one of them.
pub(crate) fn control(packet: &[u8]) -> bool {
    let read = [
        message(packet, host::ToHost::decode, host::ToHost::encode),
        message(packet, host::FromHost::decode, host::FromHost::encode),
        message(packet, spawn::ToSpawn::decode, spawn::ToSpawn::encode),
        message(packet, spawn::FromSpawn::decode, spawn::FromSpawn::encode),
    ];
    read.contains(&true)
}

fn message<M: PartialEq + std::fmt::Debug>(
    packet: &[u8],
    decode: impl Fn(&[u8]) -> Result<M, MessageError>,
    encode: impl Fn(&M) -> Result<Vec<u8>, TooLarge>,
) -> bool {
    let Ok(message) = decode(packet) else { return false };
    let written = encode(&message).expect("what came in a packet fits into one");
    // What a newer peer added is left out, and what an older one left out is there as zeros, or as ones: no limit.
    let known = packet.len().min(written.len());
    assert_eq!(packet[..known], written[..known], "a message is written as it came");
    assert!(written[known..].iter().all(|byte| [0, 0xff].contains(byte)), "what was not said has no value");
    assert_eq!(decode(&written), Ok(message));
    true
}
