//! The SDK against a host that records what it is called with.

#![expect(unsafe_code, reason = "plays the host's side of a C ABI")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test a panic is the message")]

use hot_module::abi::{self, Host, Slice, Status, Table};
use hot_module::{CallError, Context, Error, Exchange, Header, RawModule, table};
use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the module has called, by exchange; what it has logged is under 0. Each test has exchanges of its own.
static CALLS: Mutex<Option<HashMap<u64, Vec<String>>>> = Mutex::new(None);

fn calls() -> MutexGuard<'static, Option<HashMap<u64, Vec<String>>>> {
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn record(exchange: u64, call: String) {
    calls().get_or_insert_default().entry(exchange).or_default().push(call);
}

fn recorded(exchange: u64) -> Vec<String> {
    calls().get_or_insert_default().get(&exchange).cloned().unwrap_or_default()
}

fn text(slice: Slice) -> String {
    if slice.len == 0 {
        return String::new();
    }
    // SAFETY: the SDK lends bytes for the call that this is within.
    String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(slice.ptr, slice.len) }).into_owned()
}

fn fields(first: *const abi::Header, count: usize) -> String {
    // SAFETY: the SDK lends `count` headers for the call that this is within; none comes with a dangling address, which
    // an empty slice may have.
    let fields = unsafe { std::slice::from_raw_parts(first, count) };
    fields.iter().map(|field| format!("{}={};", text(field.name), text(field.value))).collect()
}

unsafe extern "C" fn log(level: u32, line: Slice) {
    record(0, format!("{level} {}", text(line)));
}
unsafe extern "C" fn now() -> u64 {
    42
}
unsafe extern "C" fn config() -> Slice {
    Slice::EMPTY
}
unsafe extern "C" fn method(_: u64, out: *mut Slice) -> Status {
    // SAFETY: the SDK gives a place for one slice.
    unsafe { out.write(Slice::of(b"GET")) };
    abi::OK
}
unsafe extern "C" fn target(_: u64, out: *mut Slice) -> Status {
    // SAFETY: as above.
    unsafe { out.write(Slice::of(b"/path?query")) };
    abi::OK
}
unsafe extern "C" fn headers(_: u64, first: *mut *const abi::Header, count: *mut usize) -> Status {
    static ONE: abi::Header = abi::Header { name: Slice::of(b"accept"), value: Slice::of(b"*/*") };
    // SAFETY: the SDK gives a place for one pointer.
    unsafe { first.write(&raw const ONE) };
    // SAFETY: the SDK gives a place for one count.
    unsafe { count.write(1) };
    abi::OK
}
unsafe extern "C" fn header(_: u64, name: Slice, out: *mut Slice) -> Status {
    if text(name) != "accept" {
        return abi::NOT_FOUND;
    }
    // SAFETY: as in `method`.
    unsafe { out.write(Slice::of(b"*/*")) };
    abi::OK
}
unsafe extern "C" fn time_left(_: u64, out: *mut u64) -> Status {
    // SAFETY: the SDK gives a place for one number.
    unsafe { out.write(5_000_000_000) };
    abi::OK
}
/// Gives the pieces `a`, `b`, and the end.
unsafe extern "C" fn body_read(exchange: u64, flags: u32, out: *mut Slice) -> Status {
    record(exchange, format!("read {flags}"));
    let reads = recorded(exchange).iter().filter(|call| call.starts_with("read")).count();
    let piece = match reads {
        1 => Slice::of(b"a"),
        2 => Slice::of(b"b"),
        _ => Slice::EMPTY,
    };
    // SAFETY: as in `method`.
    unsafe { out.write(piece) };
    abi::OK
}
unsafe extern "C" fn body_all(_: u64, limit: usize, out: *mut Slice) -> Status {
    if limit < 5 {
        return abi::TOO_LARGE;
    }
    // SAFETY: as in `method`.
    unsafe { out.write(Slice::of(b"whole")) };
    abi::OK
}
/// Refuses status 418 with INVALID.
unsafe extern "C" fn reply(
    exchange: u64,
    status: u32,
    first: *const abi::Header,
    count: usize,
    body: Slice,
) -> Status {
    record(exchange, format!("reply {status} {}{}", fields(first, count), text(body)));
    if status == 418 { abi::INVALID } else { abi::OK }
}
unsafe extern "C" fn respond(exchange: u64, status: u32, first: *const abi::Header, count: usize) -> Status {
    record(exchange, format!("respond {status} {}", fields(first, count)));
    abi::OK
}
/// Has room for one byte without waiting.
unsafe extern "C" fn body_write(exchange: u64, flags: u32, body: Slice, written: *mut usize) -> Status {
    record(exchange, format!("write {flags} {}", text(body)));
    if flags == abi::NONBLOCK {
        // SAFETY: with NONBLOCK the SDK gives a place for one count.
        unsafe { written.write(1) };
    }
    abi::OK
}
unsafe extern "C" fn trailers(exchange: u64, first: *const abi::Header, count: usize) -> Status {
    record(exchange, format!("trailers {}", fields(first, count)));
    abi::OK
}
unsafe extern "C" fn finish(exchange: u64) -> Status {
    record(exchange, "finish".to_owned());
    abi::OK
}
unsafe extern "C" fn abort(exchange: u64, why: Slice) -> Status {
    record(exchange, format!("abort {}", text(why)));
    abi::OK
}

static HOST: Host = Host {
    abi: hot_module::ABI,
    size: 168,
    log: Some(log),
    now: Some(now),
    config: Some(config),
    method: Some(method),
    target: Some(target),
    peer: Some(method),
    headers: Some(headers),
    header: Some(header),
    time_left: Some(time_left),
    body_read: Some(body_read),
    body_all: Some(body_all),
    request_trailers: Some(headers),
    reply: Some(reply),
    respond: Some(respond),
    body_write: Some(body_write),
    trailers: Some(trailers),
    finish: Some(finish),
    abort: Some(abort),
    metric: None,
    notify: None,
};

/// An error that panics: when it is to say what it is, or when it is dropped.
#[derive(Debug)]
enum Rude {
    Shown,
    Dropped,
}

impl fmt::Display for Rude {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shown => panic!("not said"),
            Self::Dropped => f.write_str("said"),
        }
    }
}

impl std::error::Error for Rude {}

impl Drop for Rude {
    fn drop(&mut self) {
        assert!(matches!(self, Self::Shown), "not dropped");
    }
}

/// A module that does with an exchange what its config names.
struct Acts(String);

impl RawModule for Acts {
    fn start(context: &Context) -> Result<Self, Error> {
        match context.config_bytes() {
            b"fail" => Err("no such thing".into()),
            b"panic" => panic!("at the start"),
            b"rude" => Err(Rude::Shown.into()),
            config => Ok(Self(String::from_utf8(config.to_vec())?)),
        }
    }

    fn handle(&self, mut exchange: Exchange) -> Result<(), Error> {
        const TYPE: Header<'static> = Header::new("content-type", "text/plain");
        match self.0.as_str() {
            "reply" => {
                let head = format!(
                    "{} {} {} {:?} {:?} {:?} {:?} {:?}",
                    exchange.method(),
                    exchange.path(),
                    exchange.query().unwrap(),
                    exchange.headers(),
                    exchange.header("accept"),
                    exchange.header("none"),
                    exchange.time_left(),
                    exchange.read_all(5)?
                );
                assert_eq!(exchange.read_all(4), Err(CallError::TooLarge));
                exchange.reply(200, &[TYPE], head)?;
            }
            "stream" => {
                exchange.respond(200, &[])?;
                let (mut reader, mut writer) = exchange.split();
                while let Some(piece) = reader.read()? {
                    writer.write(piece)?;
                }
                assert_eq!(reader.try_read(), Ok(None));
                assert_eq!(writer.try_write(b"xy"), Ok(1));
                writer.trailers(&[TYPE])?;
                exchange.finish()?;
            }
            "elsewhere" => {
                let thread = std::thread::spawn(move || exchange.reply(204, &[], ""));
                thread.join().map_err(|_payload| "the thread panicked")??;
            }
            "refused" => exchange.reply(418, &[], "")?,
            "drop" => {}
            "rude shown" => return Err(Rude::Shown.into()),
            "rude dropped" => return Err(Rude::Dropped.into()),
            "error" => return Err(Box::new(std::io::Error::other("the disk is gone"))),
            other => panic!("no such act: {other}"),
        }
        Ok(())
    }

    fn health(&self) -> Result<(), Error> {
        match self.0.as_str() {
            "sick" => Err("a cold".into()),
            "rude shown" => Err(Rude::Shown.into()),
            "rude dropped" => Err(Rude::Dropped.into()),
            _ => Ok(()),
        }
    }

    fn stop(self) {
        hot_module::log(hot_module::Level::Info, &format!("stopped {}", self.0));
    }
}

const TABLE: Table = table::<Acts>();

fn start(host: &'static Host, config: &'static str) -> Result<*mut c_void, String> {
    let (mut this, mut why) = (std::ptr::null_mut(), Slice::EMPTY);
    // SAFETY: host and config are static, and the places are locals.
    match unsafe { TABLE.start.unwrap()(host, Slice::of(config.as_bytes()), &raw mut this, &raw mut why) } {
        abi::OK => Ok(this),
        abi::FAILED => Err(text(why)),
        other => panic!("{other}"),
    }
}

/// Starts a module for that act, has it handle the exchange, stops it: what it called.
fn act(act: &'static str, exchange: u64) -> Vec<String> {
    let this = start(&HOST, act).unwrap();
    // SAFETY: `this` comes from `start`.
    unsafe { TABLE.handle.unwrap()(this, exchange) };
    // SAFETY: `this` comes from `start`, and this is its last call.
    unsafe { TABLE.stop.unwrap()(this) };
    assert!(recorded(0).contains(&format!("3 stopped {act}")));
    recorded(exchange)
}

#[test]
fn a_whole_answer_is_one_call() {
    assert_eq!(
        act("reply", 1),
        ["reply 200 content-type=text/plain;GET /path query [accept: */*] Some([42, 47, 42]) None 5s \
          [119, 104, 111, 108, 101]"]
    );
}

#[test]
fn a_stream_is_read_and_written_in_turns() {
    assert_eq!(
        act("stream", 2),
        [
            "respond 200 ",
            "read 0",
            "write 0 a",
            "read 0",
            "write 0 b",
            "read 0",
            "read 1",
            "write 1 xy",
            "trailers content-type=text/plain;",
            "finish"
        ]
    );
}

#[test]
fn an_exchange_ends_on_another_thread() {
    assert_eq!(act("elsewhere", 3), ["reply 204 "]);
}

#[test]
fn an_exchange_that_is_not_ended_is_aborted_once() {
    assert_eq!(act("drop", 4), ["abort the exchange was dropped without an end"]);
    assert_eq!(act("refused", 5), ["reply 418 ", "abort the exchange was dropped without an end"]);
    assert!(recorded(0).contains(&format!("1 {}", CallError::Invalid)));
    assert_eq!(act("error", 6), ["abort the exchange was dropped without an end"]);
    assert!(recorded(0).contains(&"1 the disk is gone".to_owned()));
}

#[test]
fn a_panic_stops_at_the_boundary() {
    assert_eq!(act("panic?", 7), ["abort the handler panicked"]);
    assert!(recorded(0).contains(&"1 panicked: no such act: panic?".to_owned()));
    assert_eq!(start(&HOST, "panic").unwrap_err(), "panicked: at the start");
    assert_eq!(start(&HOST, "fail").unwrap_err(), "no such thing");
}

#[test]
fn an_error_that_panics_stops_at_the_boundary_too() {
    for (name, exchange, said) in [("rude shown", 8, "not said"), ("rude dropped", 9, "not dropped")] {
        assert_eq!(act(name, exchange), ["abort the exchange was dropped without an end"]);
        assert!(recorded(0).contains(&format!("1 panicked: {said}")), "{name}");
        assert_eq!(health(name), format!("panicked: {said}"));
    }
    assert_eq!(start(&HOST, "rude").unwrap_err(), "panicked: not said");
}

/// What a module for that act, which is not well, says of it.
fn health(act: &'static str) -> String {
    let this = start(&HOST, act).unwrap();
    let mut why = Slice::EMPTY;
    // SAFETY: `this` comes from `start`; the place is a local.
    assert_eq!(unsafe { TABLE.health.unwrap()(this, &raw mut why) }, abi::FAILED);
    let said = text(why);
    // SAFETY: as above, and its last call.
    unsafe { TABLE.stop.unwrap()(this) };
    said
}

#[test]
fn health_lends_its_words() {
    assert_eq!(health("sick"), "a cold");
}

#[test]
fn a_host_that_lacks_what_the_sdk_needs_is_refused() {
    static OTHER_ABI: Host = Host { abi: 9, ..HOST };
    static SHORT: Host = Host { size: 144, ..HOST };
    static LACKING: Host = Host { finish: None, ..HOST };
    assert!(start(&OTHER_ABI, "").unwrap_err().contains("another ABI"));
    assert!(start(&SHORT, "").unwrap_err().contains("shorter"));
    assert_eq!(start(&LACKING, "").unwrap_err(), "the host lacks the service finish");
}
