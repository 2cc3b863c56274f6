//! What the daemon itself reads of strangers: heads of requests and responses, and its config.

use std::path::Path;

use hot_wire::data::{self, Decoder, FromGateway, MAX_FIELDS, Request};
use hotd::config::Config;
use hotd::gateway::fuzzing;

/// Fields that are between two neighbours (RFC 9110, section 7.6.1). Said here once more: a list that only the code
/// under test knows would prove nothing.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The bytes of a client up to the end of a head. Let in: a host would get a request.
pub(crate) fn request(bytes: &[u8]) -> bool {
    let believed = sent_on(bytes, true);
    let replaced = sent_on(bytes, false);
    if let Some(request) = &replaced {
        assert_eq!(values(request, "x-forwarded-for"), [fuzzing::CLIENT.as_bytes()]);
        assert_eq!(values(request, "x-forwarded-proto"), [b"http"]);
        assert!(values(request, "x-forwarded-host").len() <= 1);
    }
    if let Some(request) = &believed {
        let [forwarded_for] = values(request, "x-forwarded-for")[..] else { unreachable!("{request:?}") };
        assert!(forwarded_for.ends_with(fuzzing::CLIENT.as_bytes()));
    }
    believed.is_some() || replaced.is_some()
}

/// What a host gets of a request: nothing that is for this hop alone, and nothing that a host could read otherwise.
fn sent_on(bytes: &[u8], trusted: bool) -> Option<Request> {
    let frame = fuzzing::request(bytes, trusted)?;
    let mut decoder = Decoder::<FromGateway>::new();
    decoder.read_buf().extend_from_slice(&frame);
    let request = match decoder.next_frame() {
        Ok(Some(data::Frame { message: FromGateway::Request(request), .. })) => request,
        other => unreachable!("what is sent is one request: {other:?}"),
    };
    assert!(!decoder.is_within_frame(), "nothing is behind the request");
    assert!(is_token(request.method()), "{request:?}");
    assert!(
        !request.target().is_empty() && request.target().iter().all(|byte| *byte > b' ' && *byte != 0x7f)
    );
    assert!(request.target().starts_with(b"/") || request.target() == b"*", "{request:?}");
    assert!(values(&request, "host").len() <= 1, "{request:?}");
    assert!(request.fields.len() <= MAX_FIELDS);
    for (name, value) in &request.fields {
        if name == b"upgrade" {
            check_upgrade(bytes, value);
            continue;
        }
        check_field(name, value);
        assert!(!matches!(name, b"expect" | b"x-hot-version"), "{request:?}");
    }
    assert!(values(&request, "upgrade").len() <= 1, "{request:?}");
    Some(request)
}

fn values<'r>(request: &'r Request, wanted: &str) -> Vec<&'r [u8]> {
    request.fields.iter().filter(|(name, _)| *name == wanted.as_bytes()).map(|(_, value)| value).collect()
}

/// That a request asks to change its connection travels if it says so of this very hop, and not to another HTTP.
fn check_upgrade(bytes: &[u8], value: &[u8]) {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    assert!(text.contains("connection") && text.contains("upgrade"), "{text:?}");
    let protocols = String::from_utf8_lossy(value).to_ascii_lowercase();
    let is_http = |protocol: &str| matches!(protocol.split('/').next(), Some("h2c" | "h2" | "http" | "tls"));
    assert!(!protocols.split(',').map(str::trim).any(is_http), "{protocols:?}");
}

/// A field that may travel: its name in lower case, its value without an end of line.
fn check_field(name: &[u8], value: &[u8]) {
    let text = String::from_utf8_lossy(name);
    assert!(is_token(name) && !name.iter().any(u8::is_ascii_uppercase), "{text:?}");
    assert!(!HOP_BY_HOP.contains(&text.as_ref()), "{text:?}");
    assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{text:?}: {value:?}");
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(allowed)
}

/// Ends a field in the inputs of [`response`], and parts its name from its value. No text in UTF-8 has these bytes.
const END_OF_FIELD: u8 = 0xff;
const END_OF_NAME: u8 = 0xfe;

/// A response as a module may have written it: two bytes of status, then fields (name, 0xfe, value, 0xff), then the
/// body. Let in: a client would get it. It reads it as one response with that status, the fields that may travel, and
/// that body, and nothing behind it.
pub(crate) fn response(input: &[u8]) -> bool {
    let Some((status, rest)) = input.split_first_chunk::<2>() else { return false };
    let status = u16::from_le_bytes(*status);
    let mut parts: Vec<&[u8]> = rest.split(|byte| *byte == END_OF_FIELD).collect();
    let body = parts.pop().unwrap_or_default();
    let fields = parts.iter().map(|field| {
        let end = field.iter().position(|byte| *byte == END_OF_NAME).unwrap_or(field.len());
        (&field[..end], field.get(end + 1..).unwrap_or_default())
    });
    let fields: Vec<_> = fields.collect();
    let mut frame = Vec::new();
    if data::response(&mut frame, fuzzing::EXCHANGE, status, fields.iter().copied(), body, true).is_err() {
        return false;
    }
    let to_get = fuzzing::response(&frame, false);
    let to_head = fuzzing::response(&frame, true);
    if let Some(answer) = &to_get {
        let body = if matches!(status, 204 | 304) { &[] } else { body };
        check_answer(answer, status, &fields, body);
    }
    if let Some(answer) = &to_head {
        check_answer(answer, status, &fields, &[]);
    }
    to_get.is_some() || to_head.is_some()
}

/// Reads what a client gets, with a parser that is not ours.
fn check_answer(answer: &[u8], status: u16, said: &[(&[u8], &[u8])], body: &[u8]) {
    let mut room = vec![httparse::EMPTY_HEADER; 2 * MAX_FIELDS];
    let mut head = httparse::Response::new(&mut room);
    let shown = || String::from_utf8_lossy(answer);
    let end = match head.parse(answer) {
        Ok(httparse::Status::Complete(end)) => end,
        other => unreachable!("{other:?}: {:?}", shown()),
    };
    assert_eq!((head.code, head.version), (Some(status), Some(1)), "{:?}", shown());
    assert_eq!(&answer[end..], body, "{:?}", shown());
    for field in &*head.headers {
        let name = field.name.as_bytes();
        let same = |(said, value): &(&[u8], &[u8])| {
            said.eq_ignore_ascii_case(name) && value.trim_ascii() == field.value.trim_ascii()
        };
        // hyper makes one field of several `Trailer` (RFC 9110, section 5.3, allows that for lists).
        let trailers = || said.iter().filter(|(said, _)| said.eq_ignore_ascii_case(b"trailer"));
        let joined = || trailers().map(|(_, value)| *value).collect::<Vec<_>>().join(&b", "[..]);
        let list =
            field.name.eq_ignore_ascii_case("trailer") && field.value.trim_ascii() == joined().trim_ascii();
        let own = ["content-length", "date"].iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name));
        assert!(own || list || said.iter().any(same), "{:?} was not said: {:?}", field.name, shown());
        check_field(&name.to_ascii_lowercase(), field.value);
    }
    let own = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("content-length")).count();
    assert!(own <= 1 && head.headers.len() <= said.len() + 2, "{:?}", shown());
}

/// The text of `hotd.toml`. Let in: it is a config. Else each mistake has its line.
pub(crate) fn config(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    match Config::parse(text, Path::new("hotd.toml")) {
        Ok(config) => {
            let again = Config::parse(text, Path::new("hotd.toml")).expect("it parsed before");
            assert_eq!(format!("{config:?}"), format!("{again:?}"), "a text is one config");
            assert!(!config.http.listen.is_empty() && !config.node.is_empty());
            true
        }
        Err(mistakes) => {
            let lines = text.split('\n').count();
            assert!(!mistakes.0.is_empty(), "a refusal says why");
            assert!(mistakes.0.iter().all(|mistake| mistake.line <= lines));
            false
        }
    }
}
