//! The application as a module of Hot.

use axum::Router;
use hot_module::{Context, Error, Tower, TowerModule};

use crate::{Settings, app};

struct Module(Router);

impl TowerModule for Module {
    type Service = Router;

    async fn start(context: Context) -> Result<Self, Error> {
        let settings: Settings = context.config()?;
        Ok(Self(app(settings)))
    }

    fn service(&self) -> Router {
        self.0.clone()
    }
}

hot_module::export!(Tower<Module>, routes = ["/notes", "/files", "/events", "/status"]);

#[cfg(test)]
mod tests {
    use super::Module;
    use hot_module::Tower;
    use hot_module::testing::Host;

    fn host() -> Host {
        Host::start::<Tower<Module>>("token = \"secret\"").expect("it starts")
    }

    #[test]
    fn a_note_is_kept_and_followed() {
        let host = host();
        let mut events = host.request("GET", "/events").open();
        assert_eq!(events.status(), 200);
        let made = host
            .request("POST", "/notes")
            .header("authorization", "Bearer secret")
            .header("content-type", "application/json")
            .body(r#"{"text": "milk"}"#)
            .send();
        assert_eq!((made.status(), made.header("location").as_deref()), (201, Some("/notes/1")));
        let event = events.read().expect("an event");
        assert_eq!(String::from_utf8_lossy(&event), "event: note\nid: 1\ndata: milk\n\n");
        events.cancel();
        assert!(events.wait_end());
        host.stop().expect("nothing is left");
    }

    #[test]
    fn a_config_with_another_key_is_refused() {
        let refused = Host::start::<Tower<Module>>("tokn = \"x\"").expect_err("it refuses");
        assert_eq!(
            refused.to_string(),
            "the config's key `tokn`: unknown field `tokn`, expected `token` (line 1)"
        );
    }
}
