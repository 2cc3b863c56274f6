//! Panics in its `start`. In Rust, because a panic is Rust's own way to fail.

use hot_module::{Context, Error, Module, Request, Response};

struct Panics;

impl Module for Panics {
    fn start(context: &Context) -> Result<Self, Error> {
        assert_ne!(context.config_text(), Ok(""), "it can't do without a config");
        Ok(Self)
    }

    fn handle(&self, _: &mut Request) -> Result<Response, Error> {
        Ok(Response::text("probe 1.1.0\n"))
    }
}

hot_module::export!(Panics, name = "probe", version = "1.1.0", routes = ["/probe"]);
