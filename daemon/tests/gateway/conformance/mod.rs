//! What HTTP asks of a server, byte by byte, against the real gateway: for each case what the client gets, whether the
//! connection lives on, and above all what the host saw. No case may leave two readings of where a request ends or of
//! whom it is for.
//!
//! A case is a line of a table: its name, what the client sends, the statuses that it gets, what becomes of the
//! connection, and the requests that come to the host, as `METHOD target host body`.

mod chunks;
mod fields;
mod h2;
mod hosts;
mod lengths;
mod sequences;
mod targets;

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::sync::{Arc, Mutex};

use hot_wire::data::{FromGateway, Request};
use hotd::gateway::GatewayConfig;

use crate::client::Client;
use crate::host::{Came, Host, fields};
use crate::rig::{A, Rig, stable};

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It serves the next request, of which it knows where it begins.
    Lives,
    /// The gateway closes it.
    Closes,
    /// The client sends no more, which makes the gateway close it.
    HangsUp,
}
use Then::{Closes, HangsUp, Lives};

/// A case.
type Case<'a> = (&'a str, &'a [u8], &'a [u16], Then, &'a [&'a str]);

/// A gateway with a host that answers what is whole, and what that host saw.
struct Bench {
    rig: Rig,
    _host: Host,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    requests: Vec<String>,
    /// Those that are not whole, by their exchange.
    open: BTreeMap<u64, usize>,
}

impl Seen {
    fn note(&mut self, came: &Came) -> bool {
        let exchange = came.reply.exchange();
        let (data, end) = match &came.message {
            FromGateway::Request(request) => {
                self.open.insert(exchange, self.requests.len());
                self.requests.push(format!("{}…", line(request)));
                (request.body.as_ref(), request.end)
            }
            FromGateway::Body { data, end } => (data.as_ref(), *end),
            FromGateway::Trailers(trailers) => {
                let text: Vec<_> =
                    trailers.iter().map(|(name, value)| [name, b":", value].concat()).collect();
                self.grow(exchange, &[b"+", &text.join(&b","[..])[..]].concat());
                (&b""[..], true)
            }
            _ => (&b""[..], false),
        };
        self.grow(exchange, data);
        if end && let Some(at) = self.open.remove(&exchange) {
            self.requests[at].pop();
        }
        end
    }

    /// What is not whole ends with dots.
    fn grow(&mut self, exchange: u64, data: &[u8]) {
        if let Some(at) = self.open.get(&exchange) {
            self.requests[*at].pop();
            self.requests[*at].push_str(&String::from_utf8_lossy(data));
            self.requests[*at].push('…');
        }
    }
}

/// A request without its body.
fn line(request: &Request) -> String {
    let fields = fields(request);
    let host = fields.get("host").map_or("-", String::as_str);
    let [method, target] = [request.method(), request.target()].map(String::from_utf8_lossy);
    format!("{method} {target} {host} ")
}

impl Bench {
    fn new() -> Self {
        Self::with(GatewayConfig::default())
    }

    fn with(config: GatewayConfig) -> Self {
        let rig = Rig::with(GatewayConfig { threads: 1, ..config });
        let seen = Arc::<Mutex<Seen>>::default();
        let noted = Arc::clone(&seen);
        let (host, links) = Host::start(1, move |came| {
            if noted.lock().expect("not poisoned").note(&came) {
                came.reply.respond(200, &[], b"ok", true);
            }
        });
        rig.attach(A, links);
        rig.serve(vec![stable(A, 10_000)]);
        Self { rig, _host: host, seen }
    }

    /// What the host saw since the last time. A request of the test's own comes behind all that came before.
    fn seen(&self) -> Vec<String> {
        assert_eq!(self.rig.get("/sync").status, 200);
        let mut seen = self.seen.lock().expect("not poisoned");
        seen.open.clear();
        let mut requests = std::mem::take(&mut seen.requests);
        requests.retain(|request| request != "GET /sync test ");
        requests
    }

    fn run(&self, cases: &[Case<'_>]) {
        let wrong: Vec<_> = cases.iter().filter_map(|case| self.case(*case).err()).collect();
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    }

    fn case(&self, (name, sent, statuses, then, expected): Case<'_>) -> Result<(), String> {
        let mut client = self.rig.client();
        client.write(sent);
        if then == HangsUp {
            client.socket.get_ref().shutdown(Shutdown::Write).map_err(|error| error.to_string())?;
        }
        let mut got = Vec::new();
        while let Some(status) = client.next_status() {
            got.push(status);
            if got.len() == statuses.len() && then == Lives {
                break;
            }
        }
        let lives = then == Lives && client.is_served();
        let seen = self.seen();
        let seen: Vec<_> =
            seen.iter().map(String::as_str).filter(|request| *request != "GET /next next ").collect();
        if got == statuses && seen == expected && lives == (then == Lives) {
            return Ok(());
        }
        Err(format!("{name}: {got:?}, {}, {seen:?}", if lives { "lives" } else { "closed" }))
    }
}

impl Client {
    /// The status of the next response, which is read to its end; `None` when the connection ends first.
    fn next_status(&mut self) -> Option<u16> {
        use std::io::{BufRead as _, ErrorKind};
        let more = match self.socket.fill_buf() {
            Ok(bytes) => !bytes.is_empty(),
            // One that was reset has ended as well. One that is silent has not.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("the connection neither answers nor ends: {error}"),
        };
        more.then(|| self.response(false).status)
    }

    /// Whether a further request is served as the one that it is.
    fn is_served(&mut self) -> bool {
        use std::io::Write as _;
        let next = b"GET /next HTTP/1.1\r\nhost: next\r\n\r\n";
        self.socket.get_mut().write_all(next).is_ok() && self.next_status() == Some(200)
    }
}
