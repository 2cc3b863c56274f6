//! Removes folders with whatever a module put into them: it follows no link, goes in no other file system, needs no
//! memory for depth, and its work is bounded.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

/// Entries that one removal looks at: this process has one thread, which others wait for.
const MOST: usize = 100_000;

/// Removes `name` from `parent`, with all that is in it if it is a folder. [`Errno::FBIG`]: it has more in it than is
/// removed at once.
pub(crate) fn remove(parent: impl AsFd, name: &CString) -> Result<(), Errno> {
    let parent = parent.as_fd();
    match rustix::fs::unlinkat(parent, name.as_c_str(), AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error),
    }
    match rustix::fs::unlinkat(parent, name.as_c_str(), AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        done => return done,
    }
    empty(&enter(parent, name)?)?;
    rustix::fs::unlinkat(parent, name.as_c_str(), AtFlags::REMOVEDIR)
}

/// Removes all that is in `top`. Folders with something in them are moved up into `top` first, so that none is ever
/// deeper than one step: a module may have made them deeper than paths and open files go.
fn empty(top: &OwnedFd) -> Result<(), Errno> {
    let mut left = MOST;
    let mut moved = 0u64;
    loop {
        let names = entries(top, &mut left)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            if !remove_plain(top, &name)? {
                let folder = enter(top, &name)?;
                for inner in entries(&folder, &mut left)? {
                    if !remove_plain(&folder, &inner)? {
                        // Not to be entered by us otherwise, where we are not root.
                        enter(&folder, &inner)?;
                        move_up(&folder, &inner, top, &mut moved)?;
                    }
                }
                rustix::fs::unlinkat(top, name.as_c_str(), AtFlags::REMOVEDIR)?;
            }
        }
    }
}

/// Removes a file, a link or an empty folder; `false`: it is a folder with something in it.
fn remove_plain(folder: &OwnedFd, name: &CString) -> Result<bool, Errno> {
    match rustix::fs::unlinkat(folder, name.as_c_str(), AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        done => return done.map(|()| true),
    }
    match rustix::fs::unlinkat(folder, name.as_c_str(), AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        done => done.map(|()| true),
    }
}

/// Moves `name` from `folder` to `top`, under a name that nothing has there.
fn move_up(folder: &OwnedFd, name: &CString, top: &OwnedFd, moved: &mut u64) -> Result<(), Errno> {
    loop {
        *moved += 1;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(folder, name.as_c_str(), top, format!("moved-{moved}"), flags) {
            // A module can't have made more of these names than it has entries.
            Err(Errno::EXIST) if *moved < 2 * MOST as u64 => {}
            done => return done,
        }
    }
}

/// The names in a folder, at most as many as are `left`, which become fewer.
fn entries(folder: &OwnedFd, left: &mut usize) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if [c".", c".."].contains(&entry.file_name()) {
            continue;
        }
        *left = left.checked_sub(1).ok_or(Errno::FBIG)?;
        names.push(entry.file_name().to_owned());
    }
    Ok(names)
}

/// Opens a folder, which a link to one is not. Its owner, whom we may be, can have forbidden it to himself.
fn enter(parent: impl AsFd, name: &CString) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Not as root, whom no mode keeps out: only root has to reckon with a link that comes in between.
    if !rustix::process::geteuid().is_root() {
        rustix::fs::chmodat(parent.as_fd(), name.as_c_str(), Mode::RWXU, AtFlags::empty())?;
    }
    rustix::fs::openat(parent, name.as_c_str(), flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn all_goes_and_nothing_beyond_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "").unwrap();
        let gone = folder.path().join("gone");
        let deep = (0..300).fold(gone.clone(), |path, _| path.join("moved-1"));
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir_all(gone.join("wide/moved-2/x")).unwrap();
        fs::write(deep.join("file"), "").unwrap();
        std::os::unix::fs::symlink(&kept, gone.join("link")).unwrap();
        std::os::unix::fs::symlink(&kept, deep.join("link")).unwrap();
        fs::set_permissions(gone.join("wide"), fs::Permissions::from_mode(0o000)).unwrap();

        let parent =
            rustix::fs::open(folder.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        remove(&parent, &CString::new("gone").unwrap()).unwrap();
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
        assert!(kept.join("file").exists());
        remove(&parent, &CString::new("gone").unwrap()).unwrap();
    }
}
