//! module-name: answers `/module-name` with a greeting, and sends back what is posted to `/module-name/echo`.

use hot_module::{Context, Error, Level, Module, Request, Response, StatusError};

struct App {
    greeting: String,
}

impl Module for App {
    /// The config is the greeting; without one it is "hello". What this fails with is the reason of a push that fails.
    fn start(context: &Context) -> Result<Self, Error> {
        let greeting = match context.config_text()? {
            "" => "hello",
            text if text.contains('\n') => {
                return Err("the config is the greeting: found several lines, expected one".into());
            }
            text => text,
        };
        hot_module::log(
            Level::Info,
            concat!("module-name ", env!("CARGO_PKG_VERSION"), " starts"),
        );
        Ok(Self {
            greeting: greeting.to_owned(),
        })
    }

    /// Called from many threads at once. An error or a panic becomes a 500 and a line in the log.
    fn handle(&self, request: &mut Request) -> Result<Response, Error> {
        match request.path() {
            "/module-name" => {
                let name = request.param("name").unwrap_or("world".into());
                let version = env!("CARGO_PKG_VERSION");
                Ok(Response::text(format!(
                    "{} {name} from module-name {version}\n",
                    self.greeting
                )))
            }
            "/module-name/echo" => Ok(echo()),
            _ => Err(StatusError::new(404, "there is no such page").into()),
        }
    }
}

/// Piece by piece: never more than one is in memory.
fn echo() -> Response {
    Response::stream(|reader, writer| {
        while let Some(piece) = reader.read()? {
            writer.write(piece)?;
        }
        Ok(())
    })
}

hot_module::export!(App, routes = ["/module-name"]);

/// Tests without a daemon, by a host within this process.
#[cfg(test)]
mod tests {
    use super::App;
    use hot_module::testing::Host;

    #[test]
    fn it_greets() {
        let host = Host::start::<App>("good day").expect("it starts");
        let answer = host.get("/module-name?name=Ada");
        assert_eq!(answer.text(), "good day Ada from module-name 0.1.0\n");
        assert_eq!(
            answer.header("content-type").as_deref(),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(host.get("/module-name/nowhere").status(), 404);
        host.stop().expect("it stops");
    }

    #[test]
    fn it_echoes_piece_by_piece() {
        let host = Host::start::<App>("").expect("it starts");
        let mut call = host.request("POST", "/module-name/echo").open();
        assert!(call.write("one"));
        assert_eq!(call.read().as_deref(), Some(&b"one"[..])); // before the rest is sent
        assert!(call.write("two"));
        assert_eq!(call.finish().text(), "two");
        host.stop().expect("it stops");
    }

    #[test]
    fn it_refuses_a_config_of_several_lines() {
        let error = Host::start::<App>("two\nlines").expect_err("it does not start");
        assert!(
            error
                .to_string()
                .contains("found several lines, expected one"),
            "{error}"
        );
    }
}
