//! Panics on one request of two. In Rust, because a panic is Rust's own way to fail; the other bad modules are in C.

use std::sync::atomic::{AtomicU64, Ordering};

use hot_module::{Context, Error, Module, Request, Response};

struct Panics {
    served: AtomicU64,
}

impl Module for Panics {
    fn start(_context: &Context) -> Result<Self, Error> {
        Ok(Self { served: AtomicU64::new(0) })
    }

    fn handle(&self, _: &mut Request) -> Result<Response, Error> {
        let served = self.served.fetch_add(1, Ordering::Relaxed);
        assert!(served.is_multiple_of(2), "request {served} is one too many");
        Ok(Response::text("probe 1.1.0\n"))
    }
}

hot_module::export!(Panics, name = "probe", version = "1.1.0", routes = ["/probe"]);
