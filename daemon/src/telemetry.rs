//! Logs: `tracing` to stderr, as the config says. Metrics are not here yet.

use std::io::IsTerminal as _;

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::{Log, LogFormat};

/// The variable that comes before the config's level.
pub const FILTER_VARIABLE: &str = "HOT_LOG";

/// Why nothing would be logged.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// `HOT_LOG` is no filter.
    #[error(
        "{FILTER_VARIABLE}=\"{found}\" is not a log filter; write a level, or levels by target like \"info,hotd::gateway=debug\""
    )]
    Filter {
        /// What it is.
        found: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logs are set up already.
    #[error("logging was set up twice in one process")]
    Twice(#[source] TryInitError),
}

/// Sets up logging for the whole process. Call it once, first.
///
/// # Errors
/// When `HOT_LOG` is no filter, or logging is set up already.
pub fn init(log: &Log) -> Result<(), TelemetryError> {
    let filter = filter(log, std::env::var(FILTER_VARIABLE).ok().as_deref())?;
    let colour =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    subscriber(log.format, filter, colour, std::io::stderr).try_init().map_err(TelemetryError::Twice)
}

fn filter(log: &Log, variable: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let text = variable.filter(|text| !text.is_empty()).unwrap_or(&log.level);
    EnvFilter::try_new(text).map_err(|source| TelemetryError::Filter { found: text.to_owned(), source })
}

/// Lines of text with the level and the target, or JSON objects with all fields at the top.
fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    colour: bool,
    writer: W,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer);
            Box::new(registry.with(layer))
        }
        LogFormat::Text => {
            let layer = tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(writer);
            Box::new(registry.with(layer))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: &str, variable: Option<&str>) -> String {
        let lines = Lines::default();
        let log = Log { level: level.to_owned(), format };
        let writer = lines.clone();
        let subscriber = subscriber(format, filter(&log, variable).unwrap(), false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(module = "greeter", "started");
            tracing::debug!("detail");
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn text_is_plain_and_json_is_json() {
        let text = logged(LogFormat::Text, "info", None);
        assert!(
            text.contains("INFO") && text.contains("started") && text.contains("module=\"greeter\""),
            "{text}"
        );
        assert!(!text.contains('\u{1b}') && !text.contains("detail"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json, "info", None)).unwrap();
        assert_eq!((json["message"].as_str(), json["module"].as_str()), (Some("started"), Some("greeter")));
    }

    #[test]
    fn the_variable_comes_before_the_config() {
        assert!(logged(LogFormat::Text, "info", Some("debug")).contains("detail"));
        assert!(logged(LogFormat::Text, "debug", Some("")).contains("detail"));
        let log = Log { level: "info".to_owned(), format: LogFormat::Text };
        assert!(filter(&log, Some("hotd=loud")).is_err());
    }
}
