//! A module in Rust that greets: `/greet?name=Ada` answers `hello Ada from greeter 1.0.0`.
//!
//! One source, three versions, chosen by a Cargo feature when it is built: 1.0.0 (none), 1.1.0 (`v1-1`, says "good day"),
//! and 1.2.0 (`v1-2`), which passes its health check and fails a part of its requests: what a canary is for.

use hot_module::{Context, Error, Module, Request, Response, StatusError};
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

struct Greeter {
    /// Who is greeted when the request names nobody. It is the config, or `world`.
    default_name: String,
    served: AtomicU64,
}

impl Module for Greeter {
    fn start(context: &Context) -> Result<Self, Error> {
        let config = context.config_text()?.trim();
        let default_name = if config.is_empty() { "world" } else { config };
        Ok(Self { default_name: default_name.to_owned(), served: AtomicU64::new(0) })
    }

    fn handle(&self, request: &mut Request) -> Result<Response, Error> {
        let served = self.served.fetch_add(1, Ordering::Relaxed);
        if cfg!(feature = "v1-2") && served % FAILS_ONE_OF == FAILS_ONE_OF - 1 {
            return Err(StatusError::new(500, format!("greeter {VERSION} lost its words")).into());
        }
        let greeting = if cfg!(any(feature = "v1-1", feature = "v1-2")) { "good day" } else { "hello" };
        let name = request.param("name").unwrap_or_else(|| self.default_name.as_str().into());
        Ok(Response::text(format!("{greeting} {name} from greeter {VERSION}\n")))
    }
}

hot_module::export!(Greeter, version = VERSION, routes = ["/greet"]);

#[cfg(test)]
mod tests {
    use super::Greeter;
    use hot_module::testing::Host;

    #[test]
    fn it_greets_whom_the_request_names() {
        let host = Host::start::<Greeter>("").expect("it starts");
        assert_eq!(host.get("/greet?name=Ada+L.").text(), "hello Ada L. from greeter 1.0.0\n");
        assert_eq!(host.get("/greet").text(), "hello world from greeter 1.0.0\n");
        host.stop().expect("it stops");
    }

    #[test]
    fn the_config_is_the_default_name() {
        let host = Host::start::<Greeter>("everyone\n").expect("it starts");
        let answer = host.get("/greet");
        assert_eq!((answer.status(), answer.text().as_ref()), (200, "hello everyone from greeter 1.0.0\n"));
    }

    #[test]
    fn a_config_that_is_no_text_fails_the_start() {
        let refused = Host::start::<Greeter>(b"\xff").expect_err("it refuses");
        assert!(refused.to_string().starts_with("invalid utf-8"), "{refused}");
    }
}
