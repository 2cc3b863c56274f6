//! The data stream: golden bytes, round trips, hostile bytes, and cuts at every position.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use bytes::Bytes;
use hot_wire::data::{
    self, AbortCode, CancelReason, Decoder, Frame, FrameError, FromGateway, FromHost, HEADER_LEN, HeadError,
    INITIAL_WINDOW, Inbound, MAX_FIELDS, MAX_HEAD, MAX_PAYLOAD, MAX_PIECE, RequestHead,
};
use proptest::prelude::*;

fn decode<M: Inbound>(bytes: &[u8]) -> Result<Vec<Frame<M>>, FrameError> {
    let mut decoder = Decoder::new();
    decoder.read_buf().extend_from_slice(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame()? {
        frames.push(frame);
    }
    Ok(frames)
}

fn one<M: Inbound>(bytes: &[u8]) -> M {
    let mut frames = decode(bytes).unwrap();
    assert_eq!(frames.len(), 1);
    frames.pop().unwrap().message
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const HEAD: RequestHead<'static> =
    RequestHead { method: b"GET", target: b"/a?b", peer: b"::1", deadline_ms: 258, window: 0x0003_0201 };

fn pairs(fields: &[(Vec<u8>, Vec<u8>)]) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
}

#[test]
fn what_is_detached_says_the_same_without_the_buffer() {
    let fields = [(&b"accept"[..], &b"*/*"[..]), (b"x-empty", b""), (b"accept", b"second")];
    let mut out = Vec::new();
    data::request(&mut out, 7, &HEAD, fields, b"body", true).unwrap();
    data::trailers(&mut out, 7, fields).unwrap();
    let mut frames = decode::<FromGateway>(&out).unwrap().into_iter().map(|frame| frame.message);
    let (Some(FromGateway::Request(request)), Some(FromGateway::Trailers(trailers))) =
        (frames.next(), frames.next())
    else {
        panic!("a request and its trailers");
    };
    let detached = request.detached();
    assert!(detached.body.is_empty() && detached.end);
    assert_eq!((detached.deadline_ms, detached.window), (HEAD.deadline_ms, HEAD.window));
    assert_eq!(
        (detached.method(), detached.target(), detached.peer()),
        (HEAD.method, HEAD.target, HEAD.peer)
    );
    assert!(detached.fields.iter().eq(fields));
    assert_eq!(trailers.detached(), trailers);
    for (own, shared) in [(&detached.fields, &request.fields), (&trailers.detached(), &trailers)] {
        assert!(own.iter().zip(shared.iter()).all(|(own, shared)| own.0.as_ptr() != shared.0.as_ptr()));
    }
    assert_ne!(detached.method().as_ptr(), request.method().as_ptr());
}

/// These bytes are what older and newer processes exchange: a change here is a change of the protocol.
#[test]
fn golden_frames() {
    let field = [(b"k".as_slice(), b"vw".as_slice())];
    let mut out = Vec::new();
    data::request(&mut out, 0x0102, &HEAD, field, b"hi", true).unwrap();
    let head = "21000000_02010000_0300_0400_0300_0100_474554_2f613f62_3a3a31_0100_0200_6b_7677_01020300"
        .replace('_', "");
    assert_eq!(hex(&out), format!("2700000001010000{}{head}6869", "0201000000000000"));

    let mut out = Vec::new();
    data::response(&mut out, 7, 200, field, b"ok", true).unwrap();
    let head = "0b000000_c800_0100_0100_0200_6b_7677".replace('_', "");
    assert_eq!(hex(&out), format!("1100000002010000{}{head}6f6b", "0700000000000000"));

    let mut out = Vec::new();
    data::body(&mut out, 7, b"xyz", false);
    data::trailers(&mut out, 7, field).unwrap();
    data::window(&mut out, 7, 0x0001_0000);
    data::cancel(&mut out, 7, CancelReason::Deadline);
    data::abort(&mut out, 7, AbortCode::Panicked, "oh");
    data::deadline(&mut out, 7, 0x0102, true);
    let exchange = "0700000000000000";
    assert_eq!(
        hex(&out),
        [
            format!("0300000003000000{exchange}78797a"),
            format!("0900000004010000{exchange}0100010002006b7677"),
            format!("0400000005000000{exchange}00000100"),
            format!("0100000006010000{exchange}02"),
            format!("0500000007010000{exchange}0202006f68"),
            format!("0500000008000000{exchange}0201000001"),
        ]
        .concat()
    );
}

#[test]
fn what_is_behind_the_known_part_of_a_frame_is_ignored() {
    let mut out = Vec::new();
    data::response(&mut out, 1, 204, [], b"", true).unwrap();
    // Two more bytes within the head, then one of body.
    out[16] += 2;
    out[0] += 3;
    out.extend_from_slice(b"\xff\xffB");
    let FromHost::Response(response) = one(&out) else { panic!("no response") };
    assert_eq!((response.status, response.fields.len(), &response.body[..]), (204, 0, b"B".as_slice()));

    let grown = |encode: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        encode(&mut out);
        out[0] += 1;
        out.extend_from_slice(b"\xff");
        out
    };
    assert_eq!(one::<FromHost>(&grown(&|out| data::window(out, 1, 9))), FromHost::Window(9));
    assert_eq!(
        one::<FromGateway>(&grown(&|out| data::cancel(out, 1, CancelReason::Shutdown))),
        FromGateway::Cancel(CancelReason::Shutdown)
    );
    assert_eq!(
        one::<FromGateway>(&grown(&|out| data::deadline(out, 1, 9, false))),
        FromGateway::Deadline { left_ms: 9, ends: false }
    );
    let FromHost::Abort { text, .. } = one(&grown(&|out| data::abort(out, 1, AbortCode::Failed, "x"))) else {
        panic!("no abort")
    };
    assert_eq!(text, "x");
    let trailers = |out: &mut Vec<u8>| data::trailers(out, 1, []).unwrap();
    let FromHost::Trailers(fields) = one(&grown(&trailers)) else { panic!("no trailers") };
    assert!(fields.is_empty());
    // Two messages that say the same are equal.
    let mut known = Vec::new();
    trailers(&mut known);
    assert_eq!(one::<FromHost>(&grown(&trailers)), one::<FromHost>(&known));
}

#[test]
fn frames_of_the_wrong_side_and_broken_ones_are_typed_errors() {
    let mut request = Vec::new();
    data::request(&mut request, 1, &HEAD, [], b"", true).unwrap();
    assert_eq!(decode::<FromHost>(&request), Err(FrameError::UnknownKind { found: 1 }));

    let announced = u32::try_from(MAX_PAYLOAD).unwrap() + 1;
    let mut giant = data::body_frame_header(1, 0, false);
    giant[..4].copy_from_slice(&announced.to_le_bytes());
    assert_eq!(decode::<FromHost>(&giant), Err(FrameError::TooLarge { found: announced }));

    let mut flags = data::body_frame_header(1, 0, true);
    flags[5] |= 2;
    assert_eq!(decode::<FromHost>(&flags), Err(FrameError::Reserved { flags: 3, reserved: 0 }));

    let mut response = Vec::new();
    data::response(&mut response, 1, 99, [], b"", true).unwrap();
    assert_eq!(decode::<FromHost>(&response), Err(FrameError::Status { found: 99 }));

    let mut head = request.clone();
    head[16..20].copy_from_slice(&70_000u32.to_le_bytes());
    assert_eq!(decode::<FromGateway>(&head), Err(FrameError::HeadTooLarge { found: 70_000 }));

    let mut cancel = Vec::new();
    data::cancel(&mut cancel, 1, CancelReason::Deadline);
    cancel[5] = 0;
    assert_eq!(decode::<FromGateway>(&cancel), Err(FrameError::NotEnded { kind: 6 }));
}

#[test]
fn an_error_stays() {
    let mut decoder = Decoder::<FromHost>::new();
    decoder.read_buf().extend_from_slice(&[0xff; HEADER_LEN]);
    let error = decoder.next_frame().unwrap_err();
    decoder.read_buf().extend_from_slice(&data::body_frame_header(1, 0, true));
    assert_eq!(decoder.next_frame(), Err(error));
}

#[test]
fn a_head_beyond_its_bounds_leaves_the_buffer_as_it_was() {
    let mut out = b"before".to_vec();
    let many = vec![(b"a".as_slice(), b"".as_slice()); MAX_FIELDS + 1];
    assert_eq!(data::trailers(&mut out, 1, many.iter().copied()), Err(HeadError::TooManyFields));
    assert_eq!(
        data::response(&mut out, 1, 200, many.iter().copied(), b"", true),
        Err(HeadError::TooManyFields)
    );
    let long = vec![b'x'; MAX_HEAD];
    assert_eq!(data::trailers(&mut out, 1, [(b"a".as_slice(), long.as_slice())]), Err(HeadError::TooLarge));
    let head = RequestHead { target: &long, ..HEAD };
    assert_eq!(data::request(&mut out, 1, &head, [], b"", true), Err(HeadError::TooLarge));
    assert_eq!(&out[..], b"before");

    let fits = &many[..MAX_FIELDS];
    data::trailers(&mut out, 1, fits.iter().copied()).unwrap();
    let FromHost::Trailers(fields) = one(&out[6..]) else { panic!("no trailers") };
    assert_eq!(fields.len(), MAX_FIELDS);
    assert!(fields.iter().all(|field| field == (b"a".as_slice(), b"".as_slice())));
}

#[test]
fn a_long_body_is_cut_into_pieces_and_only_the_last_ends() {
    let body: Vec<u8> = (0..=255u8).cycle().take(3 * MAX_PIECE + 5).collect();
    let mut out = Vec::new();
    data::response(&mut out, 9, 200, [], &body, true).unwrap();
    let mut got = Vec::new();
    let mut ends = Vec::new();
    for frame in decode::<FromHost>(&out).unwrap() {
        assert_eq!(frame.exchange, 9);
        let (data, end) = match frame.message {
            FromHost::Response(response) => (response.body, response.end),
            FromHost::Body { data, end } => (data, end),
            other => panic!("unexpected {other:?}"),
        };
        assert!(data.len() <= MAX_PIECE);
        got.extend_from_slice(&data);
        ends.push(end);
    }
    assert_eq!(got, body);
    assert_eq!(ends, [false, false, false, true]);
}

#[test]
fn an_abort_text_is_cut_between_characters() {
    let mut out = Vec::new();
    data::abort(&mut out, 1, AbortCode::Failed, &"ü".repeat(3000));
    let FromHost::Abort { text, .. } = one(&out) else { panic!("no abort") };
    assert_eq!(std::str::from_utf8(&text).unwrap().chars().count(), 2048);
}

#[test]
fn a_value_is_shared_and_not_copied() {
    let mut out = Vec::new();
    data::response(&mut out, 1, 200, [(b"k".as_slice(), b"value".as_slice())], b"", true).unwrap();
    let FromHost::Response(response) = one(&out) else { panic!("no response") };
    let (_, value) = response.fields.iter().next().unwrap();
    assert_eq!(response.fields.share(value).as_ptr(), value.as_ptr());
    assert_eq!(response.fields.share(b"foreign"), "foreign");
}

/// Any sequence of frames, as a gateway may send them.
fn gateway_frames() -> impl Strategy<Value = Vec<u8>> {
    let text = || proptest::collection::vec(any::<u8>(), 0..40);
    let fields = || proptest::collection::vec((text(), text()), 0..8);
    let frame = prop_oneof![
        (any::<u64>(), text(), text(), text(), any::<(u32, u32)>(), fields(), text(), any::<bool>())
            .prop_map(|(exchange, method, target, peer, (deadline_ms, window), fields, body, end)| {
                let mut out = Vec::new();
                let head = RequestHead { method: &method, target: &target, peer: &peer, deadline_ms, window };
                data::request(&mut out, exchange, &head, pairs(&fields), &body, end).unwrap();
                let FromGateway::Request(got) = one(&out) else { panic!("no request") };
                assert_eq!((got.method(), got.target(), got.peer()), (&method[..], &target[..], &peer[..]));
                assert_eq!(got.window, window.min(INITIAL_WINDOW));
                assert_eq!((got.deadline_ms, got.end, &got.body[..]), (deadline_ms, end, &body[..]));
                assert!(got.fields.iter().eq(pairs(&fields)));
                out
            }),
        (any::<u64>(), text(), any::<bool>()).prop_map(|(exchange, body, end)| {
            let mut out = Vec::new();
            data::body(&mut out, exchange, &body, end);
            out
        }),
        (any::<u64>(), fields()).prop_map(|(exchange, fields)| {
            let mut out = Vec::new();
            data::trailers(&mut out, exchange, pairs(&fields)).unwrap();
            out
        }),
        (any::<u64>(), any::<u32>()).prop_map(|(exchange, credit)| {
            let mut out = Vec::new();
            data::window(&mut out, exchange, credit);
            out
        }),
    ];
    proptest::collection::vec(frame, 1..6)
        .prop_map(|frames| frames.concat())
        .prop_filter("an empty body is no frame", |bytes| !bytes.is_empty())
}

proptest! {
    #[test]
    fn a_cut_at_any_position_gives_the_same_frames(bytes in gateway_frames(), step in 1usize..40) {
        let whole = decode::<FromGateway>(&bytes).unwrap();
        let mut decoder = Decoder::<FromGateway>::new();
        let mut frames = Vec::new();
        for chunk in bytes.chunks(step) {
            decoder.read_buf().extend_from_slice(chunk);
            while let Some(frame) = decoder.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        prop_assert!(!decoder.is_within_frame());
        prop_assert_eq!(frames, whole);
    }

    #[test]
    fn a_stream_that_stops_gives_the_frames_before_and_no_other(bytes in gateway_frames(), at in any::<prop::sample::Index>()) {
        let whole = decode::<FromGateway>(&bytes).unwrap();
        let cut = decode::<FromGateway>(&bytes[..at.index(bytes.len())]).unwrap();
        prop_assert!(cut.len() < whole.len());
        prop_assert_eq!(&cut[..], &whole[..cut.len()]);
    }

    #[test]
    fn any_bytes_are_frames_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _either: Result<Vec<Frame<FromGateway>>, _> = decode(&bytes);
        let _either: Result<Vec<Frame<FromHost>>, _> = decode(&bytes);
    }

    /// Random bytes rarely pass the header, so these have a good one.
    #[test]
    fn any_payload_is_a_message_or_an_error(
        kind in 0u8..9,
        end in any::<bool>(),
        payload in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(3), any::<u8>()], 0..200),
    ) {
        let payload = Bytes::from(payload);
        if let Ok(FromGateway::Request(request)) = FromGateway::parse(kind, end, payload.clone()) {
            let parts = request.method().len() + request.target().len() + request.peer().len();
            let fields: usize = request.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
            prop_assert!(parts + fields + request.body.len() <= payload.len());
            prop_assert_eq!(request.fields.iter().count(), request.fields.len());
        }
        if let Ok(FromHost::Response(response)) = FromHost::parse(kind, end, payload.clone()) {
            prop_assert_eq!(response.fields.iter().count(), response.fields.len());
            prop_assert!(response.body.len() <= payload.len());
        }
    }

    #[test]
    fn one_flipped_byte_never_panics(bytes in gateway_frames(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = bytes;
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _either: Result<Vec<Frame<FromGateway>>, _> = decode(&bytes);
    }
}
