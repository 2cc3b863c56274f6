//! What a module gets at its start, and its config as a type.

use core::str::Utf8Error;

/// What a module gets at its start.
#[derive(Debug, Clone)]
pub struct Context {
    config: &'static [u8],
}

impl Context {
    pub(super) const fn new(config: &'static [u8]) -> Self {
        Self { config }
    }

    /// The release's config as it was pushed; empty if there is none.
    #[must_use]
    pub const fn config_bytes(&self) -> &'static [u8] {
        self.config
    }

    /// The release's config as text; empty if there is none.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub const fn config_text(&self) -> Result<&'static str, Utf8Error> {
        core::str::from_utf8(self.config)
    }

    /// The release's config as a type: TOML, or JSON if it begins with `{` (with the feature `json`). No config is an
    /// empty table, so that a type whose every field has a default is at its defaults.
    ///
    /// ```
    /// #[derive(serde::Deserialize)]
    /// #[serde(deny_unknown_fields)]
    /// struct Settings {
    ///     #[serde(default = "everyone")]
    ///     default_name: String,
    /// }
    ///
    /// fn everyone() -> String {
    ///     "world".into()
    /// }
    ///
    /// fn start(context: &hot_module::Context) -> Result<Settings, hot_module::Error> {
    ///     Ok(context.config()?)
    /// }
    /// ```
    ///
    /// # Errors
    /// A [`ConfigError`] that names the key, and what was found and expected there.
    #[cfg(feature = "config")]
    pub fn config<T: serde::de::DeserializeOwned>(&self) -> Result<T, super::ConfigError> {
        super::config::parse(self.config)
    }
}
