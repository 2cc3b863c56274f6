//! Logs: `tracing` to stderr, as the config says. Metrics are not here yet.

use std::io::IsTerminal as _;

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};
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
        source: FilterError,
    },
    /// Logs are set up already.
    #[error("logging was set up twice in one process")]
    Twice(#[source] TryInitError),
}

/// Why a text is no filter.
#[derive(Debug, Error)]
pub enum FilterError {
    /// It is empty.
    #[error("it is empty")]
    Empty,
    /// A directive ends in no level.
    #[error("`{0}` has no level")]
    NoLevel(String),
    /// It does not parse.
    #[error(transparent)]
    Syntax(#[from] ParseError),
}

/// Sets up logging for the whole process. Call it once, first.
///
/// # Errors
/// When `HOT_LOG` is no filter, or logging is set up already.
pub fn init(log: &Log) -> Result<(), TelemetryError> {
    let filter = chosen(log, std::env::var(FILTER_VARIABLE).ok().as_deref())?;
    let colour =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    subscriber(log.format, filter, colour, std::io::stderr).try_init().map_err(TelemetryError::Twice)
}

fn chosen(log: &Log, variable: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let text = variable.filter(|text| !text.is_empty()).unwrap_or(&log.level);
    filter(text).map_err(|source| TelemetryError::Filter { found: text.to_owned(), source })
}

/// The filter that `text` describes: a level, or levels by target.
///
/// # Errors
/// When it is none. Stricter than `EnvFilter`, which takes a misspelt level for the name of a target, and then logs
/// nothing else.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, FilterError> {
    if text.split(',').all(|directive| directive.trim().is_empty()) {
        return Err(FilterError::Empty);
    }
    // A comma between the brackets of a span is no end of a directive: those are left to `EnvFilter` alone.
    let directives = text.split(',').filter(|_| !text.contains('['));
    for directive in directives.map(str::trim).filter(|directive| !directive.is_empty()) {
        let level = directive.rsplit_once('=').map_or(directive, |(_target, level)| level);
        if level.is_empty() || level.parse::<LevelFilter>().is_err() {
            return Err(FilterError::NoLevel(directive.to_owned()));
        }
    }
    // `EnvFilter` parts them at each comma too, and counts characters as if there were no space in front: it takes other
    // parts of the text for names than are meant, or panics within one.
    let trimmed: Vec<&str> = text.split(',').map(str::trim).collect();
    // A value of a field is a value and no pattern: an automaton is made of a pattern, which may take any amount of memory.
    Ok(EnvFilter::builder().with_regex(false).parse(trimmed.join(","))?)
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

    /// Found by fuzzing: with a space in front, places in the text were off by one, and within a character.
    #[test]
    fn spaces_around_a_directive_change_nothing() {
        for text in [
            " x[aaaa\u{38f}]=debug",
            "info, x[\u{38f}\u{38f}aaaa\u{38f}\u{38f}]=debug ",
            "info , hotd = debug",
        ] {
            let trimmed: Vec<&str> = text.split(',').map(str::trim).collect();
            let as_text =
                |text: &str| filter(text).map(|filter| filter.to_string()).map_err(|error| error.to_string());
            assert_eq!(as_text(text), as_text(&trimmed.join(",")), "{text:?}");
        }
        assert_eq!(filter("info, x[span]=debug").unwrap().to_string(), "info,x[span]=debug");
    }

    fn logged(format: LogFormat, level: &str, variable: Option<&str>) -> String {
        let lines = Lines::default();
        let log = Log { level: level.to_owned(), format };
        let writer = lines.clone();
        let subscriber = subscriber(format, chosen(&log, variable).unwrap(), false, move || writer.clone());
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
        assert!(chosen(&log, Some("hotd=loud")).is_err());
    }

    #[test]
    fn a_misspelt_level_is_no_target() {
        for good in ["info", "WARN", "off", "info,hotd::gateway=debug", "hotd=trace", "hotd[span{a=1}]=info"]
        {
            assert!(filter(good).is_ok(), "{good}");
        }
        for wrong in ["", " ", ",", "inof", "loud", "info,hotd", "hotd=loud", "hotd="] {
            assert!(filter(wrong).is_err(), "{wrong:?}");
        }
    }
}
