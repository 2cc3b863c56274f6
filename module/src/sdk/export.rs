//! The macro that turns a type into a module.

/// Makes `$module`, a [`Module`](crate::Module) or another [`RawModule`](crate::RawModule), what this `cdylib` exports: its
/// table and its metadata note.
///
/// Name and version are those of the Cargo package unless given. Keys: `name`, `version` (constant `&str`), `routes` (an
/// array of path prefixes; none is a background module), `lines` (further lines of TOML metadata).
///
/// ```
/// struct Hello;
///
/// impl hot_module::Module for Hello {
///     fn start(_: &hot_module::Context) -> Result<Self, hot_module::Error> {
///         Ok(Self)
///     }
///
///     fn handle(&self, _: &mut hot_module::Request) -> Result<hot_module::Response, hot_module::Error> {
///         Ok(hot_module::Response::text("hello\n"))
///     }
/// }
///
/// hot_module::export!(Hello, version = "1.0.0", routes = ["/hello"]);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export {
    (@value routes, $value:expr) => { &$value };
    (@value $key:ident, $value:expr) => { $value };
    ($module:ty $(, $key:ident = $value:expr)* $(,)?) => {
        const _: () = {
            const METADATA: $crate::note::Metadata<'static> = {
                let base = $crate::note::Metadata {
                    name: ::core::env!("CARGO_PKG_NAME"),
                    version: ::core::env!("CARGO_PKG_VERSION"),
                    routes: &[],
                    lines: "",
                };
                $(let base = $crate::note::Metadata { $key: $crate::export!(@value $key, $value), ..base };)*
                base
            };

            // Exported as well as used: the linker drops an unexported static of a cdylib in spite of `used`.
            #[used]
            #[unsafe(export_name = "hot_module_note")]
            #[unsafe(link_section = ".note.hot")]
            pub static NOTE: $crate::note::Note<{ METADATA.content_size() }> = METADATA.note();

            #[used]
            #[unsafe(export_name = "hot_module")]
            pub static TABLE: $crate::abi::Table = $crate::table::<$module>();
        };
    };
}
