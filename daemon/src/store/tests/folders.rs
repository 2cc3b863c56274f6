//! Folders that are not ours to use.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use super::kit::*;
use crate::store::{FolderError, OpenError, Store};

fn refused(path: &std::path::Path) -> FolderError {
    match Store::open(path, options()) {
        Err(OpenError::Folder(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_second_hotd_is_told_which_process_has_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let error = refused(folder.path());
    assert!(matches!(error, FolderError::InUse { pid: Some(pid), .. } if pid == std::process::id()));
    let expected = format!(
        "the data folder {} is in use by another hotd (process {}); stop that one first, or name another folder",
        folder.path().display(),
        std::process::id()
    );
    assert_eq!(error.to_string(), expected);
    // A handle holds it as well as the first one.
    let second = store.clone();
    drop(store);
    refused(folder.path());
    drop(second);
    open(folder.path());
}

#[test]
fn a_folder_is_made_with_those_above_it_and_may_be_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("x/y/store");
    open(&deep);
    assert_eq!(fs::metadata(&deep).unwrap().permissions().mode() & 0o777, 0o700);
    let link = folder.path().join("link");
    symlink(&deep, &link).unwrap();
    open(&link);
}

#[test]
fn what_is_no_folder_or_open_to_all_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(matches!(refused(&file), FolderError::NoFolder { .. }));
    let below = refused(&file.join("below")).to_string();
    assert!(
        below.contains("can't be made: Not a directory") && below.contains("is a file, expected"),
        "{below}"
    );
    let open_to_all = folder.path().join("open");
    fs::create_dir(&open_to_all).unwrap();
    fs::set_permissions(&open_to_all, Permissions::from_mode(0o1777)).unwrap();
    assert!(matches!(refused(&open_to_all), FolderError::Open { mode: 0o1777, .. }));
    assert_eq!(fs::read_dir(&open_to_all).unwrap().count(), 0, "nothing was changed");
}

#[test]
fn a_folder_of_another_user_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let user = rustix::process::geteuid().as_raw();
    let (foreign, owner) = if user == 0 {
        let foreign = folder.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        chown(&foreign, Some(12345), None).unwrap();
        (foreign, 12345)
    } else {
        // A folder that is root's on every machine, and closed to others.
        ("/usr".into(), 0)
    };
    let error = refused(&foreign);
    assert!(
        matches!(error, FolderError::Foreign { owner: found, user: we, .. } if (found, we) == (owner, user))
    );
    assert!(
        error.to_string().contains(&format!("belongs to user {owner}, and this hotd runs as user {user}"))
    );
    assert!(user != 0 || fs::read_dir(&foreign).unwrap().count() == 0, "nothing was changed");
}

#[test]
fn a_folder_that_can_not_be_written_is_refused() {
    // Permissions do not bind root, and what does (a read-only mount) is not to be had everywhere.
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root may write everywhere");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o500)).unwrap();
    assert!(matches!(refused(folder.path()), FolderError::ReadOnly { .. }));
    let missing = refused(&folder.path().join("data")).to_string();
    assert!(missing.contains("can't be made: Permission denied") && missing.contains("`chown`"), "{missing}");
}

#[test]
fn what_the_system_says_comes_with_a_way_out() {
    let source = || std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem);
    let path = std::path::PathBuf::from("/data");
    let expected =
        ": read-only filesystem or storage medium; mount its file system for writing, or name another folder";
    let errors = [
        FolderError::Make { path: path.clone(), source: source() },
        FolderError::ReadOnly { path, source: source() },
    ];
    for (error, what) in errors.iter().zip(["made", "written"]) {
        assert_eq!(crate::describe(error), format!("the data folder /data can't be {what}{expected}"));
    }
}
