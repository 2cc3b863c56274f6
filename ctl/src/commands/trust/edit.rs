//! The text of a file of allowed signers with one line more or fewer, and putting it in place whole.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use hot_artifact::trust::{Listed, Says, listing};

use crate::failure::Failure;

/// The text with a line behind its last.
pub(super) fn with_line(text: &str, line: &str) -> String {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{end}{line}\n")
}

/// What is taken away.
#[derive(Debug, Clone, Copy)]
pub(super) enum What<'a> {
    Principal(&'a str),
    Fingerprint(&'a str),
}

/// The text without that, and how many lines it was in. A line with more principals keeps those; comments stay.
pub(super) fn without(text: &str, what: What<'_>) -> (String, usize) {
    let listed = listing(text);
    let of = |line: usize| listed.iter().find(|listed| listed.line == line);
    let mut changed = 0;
    let mut kept: Vec<String> = Vec::new();
    for (number, line) in (1..).zip(text.split('\n')) {
        match of(number).and_then(|listed| change(line, listed, what)) {
            None => kept.push(line.to_owned()),
            Some(change) => {
                changed += 1;
                kept.extend(change);
            }
        }
    }
    (kept.join("\n"), changed)
}

/// What becomes of a line that has what is taken away: nothing, or the line for the others. `None`: it has not.
fn change(line: &str, listed: &Listed, what: What<'_>) -> Option<Option<String>> {
    match what {
        What::Fingerprint(fingerprint) => {
            let key = match &listed.says {
                Says::Allows(of) => Some(&of.key),
                Says::Nothing { key, .. } => key.as_ref(),
                Says::Mistake { .. } => None,
            };
            key.filter(|key| key.fingerprint() == fingerprint).map(|_| None)
        }
        What::Principal(principal) => {
            if matches!(listed.says, Says::Mistake { .. }) {
                return None;
            }
            let names = line.trim_start_matches([' ', '\t']).split([' ', '\t']).next()?;
            let others: Vec<&str> = names.split(',').filter(|name| *name != principal).collect();
            if others.len() == names.split(',').count() {
                return None;
            }
            Some((!others.is_empty()).then(|| line.replacen(names, &others.join(","), 1)))
        }
    }
}

/// Puts a text in the place of a file, whole or not at all, with the file's permissions.
pub(super) fn replace(file: &Path, text: &str) -> Result<(), Failure> {
    put(file, text).map_err(|error| {
        let sentence = format!("{} can't be written: {error}; it is as it was", file.display());
        Failure::failed("file.not_written", sentence)
    })
}

fn put(file: &Path, text: &str) -> io::Result<()> {
    // A symbolic link stays one: what it leads to is replaced.
    let file = fs::canonicalize(file).unwrap_or_else(|_missing| file.to_owned());
    let folder =
        file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = Unfinished(folder.join(name));
    let mut written = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&fresh.0)?;
    if let Ok(metadata) = fs::metadata(&file) {
        written.set_permissions(Permissions::from_mode(metadata.permissions().mode()))?;
    }
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    fs::rename(&fresh.0, &file)?;
    File::open(folder)?.sync_all()
}

/// A file that goes away unless it got its name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Once it has its name there is nothing here any more.
        drop(fs::remove_file(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hot_artifact::signature::{PublicKey, generate_key};

    #[test]
    fn lines_come_and_go_and_comments_stay() {
        let (one, two) =
            (generate_key("one").expect("a key").public, generate_key("two").expect("a key").public);
        let options = "namespaces=\"hot-module\"";
        let text = with_line("# ours\nanna,berta namespaces=\"hot-module\" ", &one);
        let text = text.replacen(" \n", " ", 1);
        let text = with_line(&text, &format!("anna {options} {two}"));
        let (without_anna, changed) = without(&text, What::Principal("anna"));
        assert_eq!(changed, 2);
        assert_eq!(without_anna, format!("# ours\nberta {options} {one}\n"));
        let fingerprint = PublicKey::from_openssh(&one).expect("a key").fingerprint();
        let (rest, changed) = without(&text, What::Fingerprint(&fingerprint));
        assert_eq!((rest, changed), (format!("# ours\nanna {options} {two}\n"), 1));
        assert_eq!(without(&text, What::Principal("carla")), (text.clone(), 0));
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_permissions() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("signers"), folder.path().join("link"));
        replace(&file, "one\n").expect("writes");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("sets");
        std::os::unix::fs::symlink(&file, &link).expect("links");
        replace(&link, "two\n").expect("writes");
        assert_eq!(fs::read_to_string(&file).expect("reads"), "two\n");
        assert_eq!(fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).expect("is there").is_symlink());
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 2, "nothing else is left");
        assert!(replace(Path::new("/nonexistent/signers"), "x").is_err());
    }
}
