//! Where a module in Rust gets the crate `hot-module` from. It is not published: it comes with this program.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// A folder with the crate `hot-module`, as a string of TOML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sdk(String);

/// Why there is none.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum SdkError {
    /// The folder that was named is none.
    #[error(
        "{} is not the crate hot-module: expected a Cargo.toml with that name; name `module` of a checkout, or \
         share/hot/module of an installation", .0.display()
    )]
    Named(PathBuf),
    /// Nothing was named and nothing found.
    #[error(
        "the crate hot-module was not found beside hotctl; name it, e.g. `hotctl new NAME --sdk ~/hot/module` with a \
         checkout of Hot in ~/hot, or run `make install` there, which puts it beside hotctl; with --lang c or cpp none is \
         needed"
    )]
    NotFound,
    /// A path that TOML can't hold.
    #[error("{} is not UTF-8, and Cargo.toml must be; move the crate hot-module to another folder", .0.display())]
    NotText(PathBuf),
}

impl Sdk {
    /// The folder, which is not looked at.
    pub(super) fn at(folder: &Path) -> Result<Self, SdkError> {
        let text = folder.to_str().ok_or_else(|| SdkError::NotText(folder.to_owned()))?;
        let mut quoted = String::from("\"");
        for c in text.chars() {
            match c {
                '"' | '\\' => quoted.extend(['\\', c]),
                c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
                c => quoted.push(c),
            }
        }
        quoted.push('"');
        Ok(Self(quoted))
    }

    /// In quotation marks, with what must be escaped.
    pub(super) fn as_toml(&self) -> &str {
        &self.0
    }
}

/// The folder that was named; else the one that `make install` put beside `program`; else that of the checkout that
/// `program` was built in.
pub(super) fn find(named: Option<&Path>, program: Option<&Path>) -> Result<Sdk, SdkError> {
    if let Some(folder) = named {
        let whole = folder.canonicalize().ok().filter(|folder| is_crate(folder));
        return Sdk::at(&whole.ok_or_else(|| SdkError::Named(folder.to_owned()))?);
    }
    let program = program.and_then(|program| program.canonicalize().ok()).ok_or(SdkError::NotFound)?;
    let installed = program.ancestors().nth(2).map(|prefix| prefix.join("share/hot/module"));
    let built = program.ancestors().skip(1).map(|folder| folder.join("module"));
    Sdk::at(&installed.into_iter().chain(built).find(|folder| is_crate(folder)).ok_or(SdkError::NotFound)?)
}

fn is_crate(folder: &Path) -> bool {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml"));
    manifest.is_ok_and(|text| text.lines().any(|line| line == "name = \"hot-module\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crate of that name below `root`.
    fn crate_at(root: &Path, path: &str, name: &str) -> PathBuf {
        let folder = root.join(path);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("Cargo.toml"), format!("[package]\nname = \"{name}\"\n")).expect("writes");
        folder
    }

    #[test]
    fn the_installed_one_goes_before_that_of_a_checkout() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path().canonicalize().expect("is there");
        let program = root.join("a/target/debug/hotctl");
        std::fs::create_dir_all(program.parent().expect("a folder")).expect("a folder");
        std::fs::write(&program, "").expect("writes");
        assert_eq!(find(None, Some(&program)), Err(SdkError::NotFound));
        crate_at(&root, "a/target/module", "another");
        let checkout = crate_at(&root, "a/module", "hot-module");
        assert_eq!(find(None, Some(&program)), Sdk::at(&checkout));
        let installed = crate_at(&root, "a/target/share/hot/module", "hot-module");
        assert_eq!(find(None, Some(&program)), Sdk::at(&installed));
    }

    #[test]
    fn what_was_named_must_be_it() {
        let root = tempfile::tempdir().expect("a folder");
        let other = crate_at(root.path(), "other", "greeter");
        assert_eq!(find(Some(&other), None), Err(SdkError::Named(other)));
        let right = crate_at(root.path(), "right", "hot-module").canonicalize().expect("is there");
        assert_eq!(find(Some(&root.path().join("other/../right")), None), Sdk::at(&right));
    }

    #[test]
    fn a_path_is_written_as_toml_has_it() {
        assert_eq!(Sdk::at(Path::new("/a \"b\"\\c\n")).expect("UTF-8").as_toml(), r#""/a \"b\"\\c\u000A""#);
    }
}
