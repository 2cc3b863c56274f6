//! What a new module consists of. Pure: names in, files out.
//!
//! The files in `templates/` are modules as they stand, with the name `module-name`; a new one differs in that name (and,
//! in Rust, in where the SDK is) alone.

use std::fmt;

use hot_artifact::ModuleName;

use super::sdk::Sdk;

/// The name that the templates have.
const NAME: &str = "module-name";
/// The same as Cargo writes it in the name of a library.
const LIBRARY: &str = "module_name";
/// Where the template in Rust has the SDK.
const SDK: &str = "\"../../../../../../module\"";

/// A language that there is a template for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Language {
    /// With the SDK's crate, built by cargo
    #[default]
    Rust,
    /// C11, built by make
    C,
    /// C++17, built by make
    Cpp,
}

impl Language {
    /// As `--lang` takes it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Cpp => "cpp",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::C => "C",
            Self::Cpp => "C++",
        })
    }
}

/// A new module.
#[derive(Debug)]
pub(super) struct Template {
    /// Each path once.
    pub files: Vec<File>,
    /// What to type to have it serve.
    pub next: Vec<String>,
}

/// A file of it.
#[derive(Debug)]
pub(super) struct File {
    /// Below the module's folder.
    pub path: &'static str,
    pub text: String,
}

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("templates/", $path))
    };
}

macro_rules! header {
    ($name:literal) => {
        (concat!("include/", $name), include_str!(concat!("../../../../module/include/", $name)))
    };
}

/// A module in Rust, which finds its SDK there.
pub(super) fn rust(name: &ModuleName, sdk: &Sdk) -> Template {
    let library = name.as_str().replace('-', "_");
    let mut files = fill(
        name,
        &[
            ("Cargo.toml", template!("rust/Cargo.toml")),
            ("src/lib.rs", template!("rust/src/lib.rs")),
            ("README.md", template!("rust/README.md")),
            (".gitignore", template!("rust/gitignore")),
        ],
    );
    for file in &mut files {
        file.text = file.text.replace(SDK, sdk.as_toml()).replace(LIBRARY, &library);
    }
    let build = ["cargo test".to_owned(), "cargo build --release".to_owned()];
    Template { files, next: next(name, &build, &format!("target/release/lib{library}.so")) }
}

/// A module in C, with the headers that it needs.
pub(super) fn c(name: &ModuleName) -> Template {
    let files = [
        ("Makefile", template!("c/Makefile")),
        ("module.c", template!("c/module.c")),
        ("test.c", template!("c/test.c")),
        ("README.md", template!("c/README.md")),
        (".gitignore", template!("native/gitignore")),
    ];
    native(name, fill(name, &files), &[])
}

/// A module in C++, with the headers that it needs.
pub(super) fn cpp(name: &ModuleName) -> Template {
    let files = [
        ("Makefile", template!("cpp/Makefile")),
        ("module.cpp", template!("cpp/module.cpp")),
        ("test.cpp", template!("cpp/test.cpp")),
        ("README.md", template!("cpp/README.md")),
        (".gitignore", template!("native/gitignore")),
    ];
    native(name, fill(name, &files), &[header!("hot_module.hpp")])
}

fn native(name: &ModuleName, mut files: Vec<File>, headers: &[(&'static str, &str)]) -> Template {
    let common = [
        header!("hot_module.h"),
        header!("hot_testing.h"),
        header!("hot_testing_services.h"),
        header!("hot_testing_state.h"),
    ];
    // As they are: they do not know the module's name.
    files.extend(common.iter().chain(headers).map(|&(path, text)| File { path, text: text.to_owned() }));
    Template { files, next: next(name, &["make test".to_owned()], &format!("{name}.so")) }
}

fn fill(name: &ModuleName, files: &[(&'static str, &str)]) -> Vec<File> {
    files.iter().map(|&(path, text)| File { path, text: text.replace(NAME, name.as_str()) }).collect()
}

fn next(name: &ModuleName, build: &[String], file: &str) -> Vec<String> {
    let mut next = vec![format!("cd {name}")];
    next.extend_from_slice(build);
    next.push(format!("hotctl push {file}"));
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn all(name: &str) -> [Template; 3] {
        let name: ModuleName = name.parse().expect("a name");
        [rust(&name, &Sdk::at(Path::new("/opt/h\"ot/module")).expect("UTF-8")), c(&name), cpp(&name)]
    }

    #[test]
    fn the_name_is_everywhere_and_the_templates_own_nowhere() {
        for template in all("big-shop-2") {
            let paths: BTreeSet<&str> = template.files.iter().map(|file| file.path).collect();
            assert_eq!(paths.len(), template.files.len(), "each path once");
            assert!(template.files.iter().any(|file| file.text.contains("/big-shop-2")));
            for file in &template.files {
                assert!(!file.text.contains(NAME) && !file.text.contains(LIBRARY), "{}", file.path);
                assert!(!file.text.contains(SDK), "{}", file.path);
            }
        }
    }

    #[test]
    fn a_library_has_its_name_as_cargo_writes_it() {
        let [rust, ..] = all("big-shop");
        assert_eq!(rust.next.last().map(String::as_str), Some("hotctl push target/release/libbig_shop.so"));
        let manifest = rust.files.iter().find(|file| file.path == "Cargo.toml").expect("a manifest");
        assert!(manifest.text.contains("name = \"big-shop\""), "{}", manifest.text);
        assert_eq!(manifest.text.matches(r#"path = "/opt/h\"ot/module""#).count(), 2, "{}", manifest.text);
    }

    /// A header that another includes is copied along.
    #[test]
    fn what_is_included_is_there() {
        for template in all("shop") {
            let paths: BTreeSet<&str> = template.files.iter().map(|file| file.path).collect();
            for file in &template.files {
                for line in file.text.lines().filter_map(|line| line.strip_prefix("#include \"hot_")) {
                    let header = format!("include/hot_{}", line.trim_end_matches('"'));
                    assert!(paths.contains(header.as_str()), "{} includes {header}", file.path);
                }
            }
        }
    }

    #[test]
    fn four_commands_or_fewer_after_new() {
        for template in all("shop") {
            assert!(template.next.len() <= 4, "{:?}", template.next);
        }
    }
}
