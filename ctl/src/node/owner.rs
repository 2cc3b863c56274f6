//! Whose a socket is, for who may not use it.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where the system's own users stand. One of a directory service is told by number.
const USERS: &str = "/etc/passwd";

/// Who may use a socket, and what says so: the socket, or the folder on the way to it that can't be looked into.
#[derive(Debug)]
pub(crate) struct Owner {
    path: PathBuf,
    /// As `sudo -u` takes it: a name, or `#` and a number.
    user: String,
}

impl Owner {
    /// Of the socket at `path`, or of as much of that as can be seen.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let seen = |path: &Path| Some((path.to_owned(), path.metadata().ok()?.uid()));
        let (path, uid) = path.ancestors().find_map(seen)?;
        let users = std::fs::read_to_string(USERS).unwrap_or_default();
        Some(Self { path, user: name(uid, &users).unwrap_or_else(|| format!("#{uid}")) })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, user } = self;
        write!(
            f,
            "{} belongs to user {user} and you are not let in; run hotctl as that user, e.g. `sudo -u '{user}' hotctl \
             status`",
            path.display()
        )
    }
}

/// The name of `uid` in the text of `/etc/passwd`.
fn name(uid: u32, users: &str) -> Option<String> {
    let line = users.lines().find(|line| line.split(':').nth(2).is_some_and(|id| id.parse() == Ok(uid)))?;
    line.split(':').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_name_or_a_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\n\nhot:x:998:998::/var/lib/hotd:/sbin/nologin\n";
        assert_eq!(name(998, users).as_deref(), Some("hot"));
        assert_eq!(name(99, users), None);
        let owner = Owner { path: "/run/hot/hotd.sock".into(), user: "hot".to_owned() };
        let text = owner.to_string();
        assert!(text.starts_with("/run/hot/hotd.sock belongs to user hot and"), "{text}");
        assert!(text.contains("`sudo -u 'hot' hotctl status`"), "{text}");
    }

    #[test]
    fn what_can_be_seen_of_the_path_has_the_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let owner = Owner::of(&folder.path().join("none.sock")).expect("seen");
        assert_eq!(owner.path, folder.path());
    }
}
