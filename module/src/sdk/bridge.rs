//! The `log` crate's records, and by way of them `tracing`'s events, in the module's log.

use super::{Level, log};
use std::format;

/// Sends what is logged with the `log` crate to the module's log, up to `most`. Call it in `start`. A second call, and one
/// after another logger was installed, changes only the level.
///
/// Events of `tracing` come along if the module enables `tracing`'s feature `log` and installs no subscriber.
///
/// ```
/// hot_module::log_to_host(log::LevelFilter::Info);
/// log::info!("listening to {} topics", 3);
/// ```
pub fn log_to_host(most: ::log::LevelFilter) {
    // An error says that there is a logger, which is then this one or one that the module chose.
    drop(::log::set_logger(&Bridge));
    ::log::set_max_level(most);
}

struct Bridge;

impl ::log::Log for Bridge {
    fn enabled(&self, _: &::log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &::log::Record<'_>) {
        let level = match record.level() {
            ::log::Level::Error => Level::Error,
            ::log::Level::Warn => Level::Warn,
            ::log::Level::Info => Level::Info,
            ::log::Level::Debug | ::log::Level::Trace => Level::Debug,
        };
        log(level, &format!("{}: {}", record.target(), record.args()));
    }

    fn flush(&self) {}
}
