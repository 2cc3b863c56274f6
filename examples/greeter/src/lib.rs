//! A module in Rust that greets: `/greet?name=Ada` answers `hello Ada from greeter 1.0.0`.
//!
//! One source, three versions, chosen by a Cargo feature when it is built: 1.0.0 (none), 1.1.0 (`v1-1`, says "good day"),
//! and 1.2.0 (`v1-2`), which passes its health check and fails a part of its requests: what a canary is for.

use hot_module::{Context, Error, Exchange, Header, Module};
use std::sync::atomic::{AtomicU64, Ordering};

const VERSION: &str = if cfg!(feature = "v1-2") {
    "1.2.0"
} else if cfg!(feature = "v1-1") {
    "1.1.0"
} else {
    "1.0.0"
};

/// Of how many requests 1.2.0 fails one.
const FAILS_ONE_OF: u64 = 4;

const TEXT: Header<'static> = Header::new("content-type", "text/plain; charset=utf-8");

struct Greeter {
    /// Who is greeted when the request names nobody. It is the config, or `world`.
    default_name: String,
    served: AtomicU64,
}

impl Module for Greeter {
    fn start(context: &Context) -> Result<Self, Error> {
        let config = std::str::from_utf8(context.config())?.trim();
        let default_name = if config.is_empty() { "world" } else { config };
        Ok(Self { default_name: default_name.to_owned(), served: AtomicU64::new(0) })
    }

    fn handle(&self, exchange: Exchange) -> Result<(), Error> {
        let served = self.served.fetch_add(1, Ordering::Relaxed);
        if cfg!(feature = "v1-2") && served % FAILS_ONE_OF == FAILS_ONE_OF - 1 {
            let body = format!("greeter {VERSION} lost its words\n");
            return Ok(exchange.reply(500, &[TEXT], body)?);
        }
        let greeting = if cfg!(any(feature = "v1-1", feature = "v1-2")) { "good day" } else { "hello" };
        let name = exchange
            .query()
            .and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("name=")))
            .unwrap_or(&self.default_name);
        let body = format!("{greeting} {name} from greeter {VERSION}\n");
        Ok(exchange.reply(200, &[TEXT], body)?)
    }
}

hot_module::export!(Greeter, version = VERSION, routes = ["/greet"]);
