//! Headers on their way through: what travels to a host and back, and what the gateway adds or leaves out.

use bytes::Bytes;
use hot_wire::data::{Fields, Response};
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue,
    UPGRADE,
};
use http::request::Parts;
use http::{Method, Response as Answer, StatusCode, Version};

use super::body::ResponseBody;
use super::conn::Client;
use super::marks::{Marks, PIN};

/// Says in a response which release made it.
pub(super) static RELEASE: HeaderName = HeaderName::from_static("x-hot-release");

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
const FORWARDED_HOST: &str = "x-forwarded-host";

/// What a host sees of a request's head.
#[derive(Debug)]
pub(super) struct RequestFields<'a> {
    parts: &'a Parts,
    marks: Marks<'a>,
    client: &'a Client,
    /// Fields that `Connection` names: they are for this hop only.
    named: Vec<HeaderName>,
    /// The whole of X-Forwarded-For, if what the client says is kept.
    forwarded_for: Option<Vec<u8>>,
    /// See [`upgrade`].
    upgrade: Option<&'a HeaderValue>,
    /// All cookies, if they came in more than one field: HTTP/2 allows that, and nothing else does (RFC 9113, section
    /// 8.2.3).
    cookies: Option<Vec<u8>>,
}

impl<'a> RequestFields<'a> {
    pub(super) fn new(
        parts: &'a Parts,
        marks: Marks<'a>,
        client: &'a Client,
        upgrade: Option<&'a HeaderValue>,
    ) -> Self {
        let kept = client.is_trusted() && parts.headers.contains_key(FORWARDED_FOR);
        let forwarded_for = kept.then(|| {
            let mut all = Vec::new();
            for value in parts.headers.get_all(FORWARDED_FOR) {
                all.extend_from_slice(value.as_bytes());
                all.extend_from_slice(b", ");
            }
            all.extend_from_slice(client.ip_text().as_bytes());
            all
        });
        let named = if marks.has_connection { named_by_connection(&parts.headers) } else { Vec::new() };
        Self { parts, marks, client, named, forwarded_for, upgrade, cookies: split_cookies(parts) }
    }

    /// All fields, in the client's order, with what the gateway adds behind them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let headers = &self.parts.headers;
        let kept = headers.iter().filter(|(name, _)| self.travels(name));
        let authority = self.parts.uri.authority().map(|authority| authority.as_str().as_bytes());
        // A target with an authority overrules the field (RFC 9112, section 3.2.2).
        let host = authority.or_else(|| self.marks.host_field());
        let own = self.client.ip_text().as_bytes();
        let forwarded_for = self.forwarded_for.as_deref().unwrap_or(own);
        let said = |name: &str| self.client.is_trusted() && headers.contains_key(name);
        let added = [
            ("host", authority),
            ("cookie", self.cookies.as_deref()),
            (FORWARDED_FOR, Some(forwarded_for)),
            (FORWARDED_PROTO, (!said(FORWARDED_PROTO)).then_some(self.client.scheme().as_bytes())),
            (FORWARDED_HOST, host.filter(|_| !said(FORWARDED_HOST))),
            ("upgrade", self.upgrade.map(HeaderValue::as_bytes)),
        ];
        kept.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
            .chain(added.into_iter().filter_map(|(name, value)| Some((name.as_bytes(), value?))))
    }

    fn travels(&self, name: &HeaderName) -> bool {
        match name.as_str() {
            "expect" | FORWARDED_FOR | PIN => false,
            "host" => self.parts.uri.authority().is_none(),
            "cookie" => self.cookies.is_none(),
            other if tells_of_origin(other) => self.client.is_trusted(),
            other => !is_hop_by_hop(other) && !self.named.contains(name),
        }
    }
}

/// Whether a field says where a request came from before it came here: only a front that is trusted may say that.
fn tells_of_origin(name: &str) -> bool {
    name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip")
}

/// Fields that are between two neighbours and never travel further (RFC 9110, section 7.6.1).
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The protocol to which a request asks to change its connection, if that is possible: over HTTP/1.1, by one `Upgrade` that
/// `Connection` names, without a body, and not by a HEAD, which has no more than a head for an answer. HTTP itself is spoken here and not by modules: a client that could hide an h2c
/// connection in one of HTTP/1.1 would get past whatever looks at its requests on the way.
pub(super) fn upgrade<'a>(parts: &'a Parts, marks: &Marks<'_>, has_body: bool) -> Option<&'a HeaderValue> {
    if !marks.has_upgrade {
        return None;
    }
    let mut values = parts.headers.get_all(UPGRADE).iter();
    let (value, second) = (values.next()?, values.next());
    let mut tokens = parts.headers.get_all(CONNECTION).iter().flat_map(tokens);
    let is_named = tokens.any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    let is_http = |protocol: &[u8]| {
        let name = protocol.split(|&byte| byte == b'/').next().unwrap_or_default();
        [&b"h2c"[..], b"h2", b"h3", b"http", b"tls"].iter().any(|http| http.eq_ignore_ascii_case(name))
    };
    let is_possible = parts.version == Version::HTTP_11
        && parts.method != Method::HEAD
        && !has_body
        && second.is_none()
        && is_named;
    Some(value).filter(|value| is_possible && !self::tokens(value).any(is_http))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// The fields that `Connection` names.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut named = Vec::new();
    for value in headers.get_all(CONNECTION) {
        for token in tokens(value) {
            let usual = [&b"keep-alive"[..], b"close", b"upgrade"]
                .iter()
                .any(|usual| usual.eq_ignore_ascii_case(token));
            if !usual && let Ok(name) = HeaderName::from_bytes(token) {
                named.push(name);
            }
        }
    }
    named
}

/// Joins cookies that came in more than one field of HTTP/2.
fn split_cookies(parts: &Parts) -> Option<Vec<u8>> {
    if parts.version != Version::HTTP_2 || parts.headers.get_all(COOKIE).iter().nth(1).is_none() {
        return None;
    }
    let cookies: Vec<_> = parts.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    Some(cookies.join(&b"; "[..]))
}

/// Whether a field may come behind a body. What says how to read a message, or whether to, must come before it
/// (RFC 9110, section 6.5.1).
fn may_trail(name: &HeaderName) -> bool {
    let name = name.as_str();
    !is_hop_by_hop(name)
        && !tells_of_origin(name)
        && !matches!(
            name,
            "authorization"
                | "cache-control"
                | "content-encoding"
                | "content-length"
                | "content-range"
                | "content-type"
                | "cookie"
                | "expect"
                | "host"
                | "max-forwards"
                | "set-cookie"
                | "trailer"
                | PIN
        )
}

/// Trailers, of a request or of a response, without fields that have no place there.
pub(super) fn only_trailers(mut trailers: HeaderMap) -> HeaderMap {
    if trailers.keys().all(may_trail) {
        return trailers;
    }
    let out: Vec<_> = trailers.keys().filter(|name| !may_trail(name)).cloned().collect();
    for name in out {
        trailers.remove(name);
    }
    trailers
}

/// What a module wrote is no HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Invalid;

/// A response's head, checked, and the first bytes of its body.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The Content-Length that it announces.
    pub(super) announced: Option<u64>,
    pub(super) body: Bytes,
    /// The response is whole.
    pub(super) end: bool,
}

impl Head {
    /// Whether it changes the connection to another protocol.
    pub(super) fn is_upgrade(&self) -> bool {
        self.status == StatusCode::SWITCHING_PROTOCOLS
    }

    /// Whether what follows lasts as long as both sides like: events for a browser, or another protocol.
    pub(super) fn is_stream(&self) -> bool {
        const EVENTS: &[u8] = b"text/event-stream";
        let content = self.headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
        let kind = content.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        self.is_upgrade() || kind.eq_ignore_ascii_case(EVENTS)
    }

    /// Whether it has no body, whatever the host sent: as the answer to a HEAD, or by its status.
    pub(super) fn is_bodiless(&self, to_head: bool) -> bool {
        to_head || matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    /// The client's response, without a body. To a HEAD it says how long one would have been, if that is known.
    pub(super) fn without_body(mut self, to_head: bool) -> Answer<ResponseBody> {
        let whole = (self.end && !self.body.is_empty()).then_some(self.body.len() as u64);
        if let Some(length) = self.announced.or(whole).filter(|_| to_head) {
            self.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        self.with_body(ResponseBody::Whole(Bytes::new()))
    }

    /// The client's response, with all of its body.
    pub(super) fn whole(mut self) -> Answer<ResponseBody> {
        let body = std::mem::take(&mut self.body);
        self.with_body(ResponseBody::Whole(body))
    }

    /// The client's response, with this body.
    pub(super) fn with_body(self, body: ResponseBody) -> Answer<ResponseBody> {
        let mut answer = Answer::new(body);
        *answer.status_mut() = self.status;
        *answer.headers_mut() = self.headers;
        answer
    }
}

/// Checks what a host says a response is. Informational ones are not for modules to give, but to a request that asked to
/// upgrade its connection: then it says to what, if it wants to. `spare` is an empty map for its headers.
pub(super) fn head(response: Response, may_upgrade: bool, spare: HeaderMap) -> Result<Head, Invalid> {
    let status = StatusCode::from_u16(response.status).map_err(|_invalid| Invalid)?;
    let is_upgrade = may_upgrade && status == StatusCode::SWITCHING_PROTOCOLS;
    if status.is_informational() && !is_upgrade {
        return Err(Invalid);
    }
    let fields = &response.fields;
    let shared = |value: &[u8]| HeaderValue::from_maybe_shared(fields.share(value));
    let (mut headers, announced) = headers(fields, spare, shared)?;
    if is_upgrade {
        if announced.is_some() || response.end {
            return Err(Invalid);
        }
        let protocol = fields.iter().find(|(name, _)| *name == b"upgrade").map(|(_, value)| shared(value));
        if let Some(protocol) = protocol {
            headers.insert(UPGRADE, protocol.map_err(|_invalid| Invalid)?);
        }
    }
    Ok(Head { status, headers, announced, body: response.body, end: response.end })
}

/// The trailers of a host's response, copied out of the buffer that was read.
pub(super) fn trailers(fields: &Fields) -> Result<HeaderMap, Invalid> {
    headers(fields, HeaderMap::new(), HeaderValue::from_bytes).map(|(trailers, _)| only_trailers(trailers))
}

/// Fields as headers, without those that this side says itself: how long a response is and how it is framed.
fn headers(
    fields: &Fields,
    mut headers: HeaderMap,
    to_value: impl Fn(&[u8]) -> Result<HeaderValue, InvalidHeaderValue>,
) -> Result<(HeaderMap, Option<u64>), Invalid> {
    // With room for what the gateway adds: a map that grows is built anew.
    headers.reserve(fields.len() + 1);
    let mut announced = None;
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name).map_err(|_invalid| Invalid)?;
        if name == CONTENT_LENGTH {
            let length: Option<u64> =
                std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
            if length.is_none() || announced.is_some_and(|announced| Some(announced) != length) {
                return Err(Invalid);
            }
            announced = length;
        } else if !is_hop_by_hop(name.as_str()) {
            let value = to_value(value).map_err(|_invalid| Invalid)?;
            headers.append(name, value);
        }
    }
    Ok((headers, announced))
}

/// The target as it is sent on: path and query alone.
pub(super) fn target(parts: &Parts) -> &[u8] {
    parts.uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes()
}

/// The host in the fields of a request as it is sent on.
pub(super) fn host_of(fields: &Fields) -> Option<&str> {
    let (_, host) = fields.iter().find(|(name, _)| *name == b"host")?;
    std::str::from_utf8(host).ok()
}

/// The path of a target that came as text and was sent on as bytes.
pub(super) fn path(target: &[u8]) -> &str {
    let target = std::str::from_utf8(target).unwrap_or_default();
    target.split_once('?').map_or(target, |(path, _query)| path)
}
