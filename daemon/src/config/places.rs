//! Whether the places that a config names can be used by the user who asks: looked at, and nothing made in them.
//!
//! It says what a start would stumble over, one sentence each. What only a start can find (who has the store, whether
//! hot-spawn answers) it leaves to that.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::{Config, Mistake};
use crate::store::{FolderError, check_folder};

/// The lines of the config that name the places, or could.
#[derive(Debug)]
pub(super) struct PlaceLines {
    pub data_dir: usize,
    pub control: usize,
    pub spawn: usize,
    pub access_log: usize,
}

/// What is wrong with the places of a config.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub mistakes: Vec<Mistake>,
    /// What this user can't tell.
    pub notes: Vec<Mistake>,
}

/// What there is at a path.
enum Found {
    There(Metadata),
    /// Nothing, and this is the nearest folder above that is there.
    Nothing {
        nearest: PathBuf,
    },
}

/// Looks at the places of a config whose file has these mistakes already: of a key that has one, nothing more is said.
pub(super) fn check(config: &Config, file: &Path, lines: &PlaceLines, said: &[Mistake]) -> Places {
    let mut places = Places::default();
    let mistake = |line: usize, key: &str, text: String| Mistake {
        file: file.to_owned(),
        line,
        text: format!("{key}: {text}"),
    };
    // A key that is not there has the line of its table, or the first one: others may be there, too.
    let is_said = |line: usize, key: &str| {
        let of_key = format!("{key}: ");
        let is_of = |mistake: &Mistake| mistake.line == line && mistake.text.starts_with(&of_key);
        said.iter().any(|mistake| mistake.file == file && is_of(mistake))
    };
    if !is_said(lines.data_dir, "data_dir") {
        match data_folder(&config.data_dir) {
            Ok(()) => {}
            Err(Trouble::Wrong(text)) => places.mistakes.push(mistake(lines.data_dir, "data_dir", text)),
            Err(Trouble::Unknown(text)) => places.notes.push(mistake(lines.data_dir, "data_dir", text)),
        }
    }
    let others = [
        (lines.control, "[grpc] socket", control_socket(&config.grpc.socket)),
        (lines.spawn, "[spawn] socket", spawn_socket(config.spawn.socket())),
        (lines.access_log, "[http] access_log", access_log(config.http.gateway.access_log.as_deref())),
    ];
    for (line, key, found) in others {
        if let Err(text) = found
            && !is_said(line, key)
        {
            places.mistakes.push(mistake(line, key, text));
        }
    }
    places
}

/// What is to say of a place.
enum Trouble {
    /// It can't be used.
    Wrong(String),
    /// Whether it can be used, only another user can tell.
    Unknown(String),
}

/// It is made where it lacks, with those above it.
fn data_folder(path: &Path) -> Result<(), Trouble> {
    let nearest = match look(path).map_err(Trouble::Wrong)? {
        Found::There(_) => return check_folder(path).map_err(|error| of_folder(&error)),
        Found::Nothing { nearest } => nearest,
    };
    may_make_in(&nearest).map_err(|why| {
        let (path, nearest) = (path.display(), nearest.display());
        Trouble::Wrong(format!(
            "{path} is not there, and {} can't make it in {nearest} ({why}), expected a folder that is there or can be made; \
             make it and give it to the user who runs hotd (`chown`), or name another one",
            me()
        ))
    })
}

fn of_folder(error: &FolderError) -> Trouble {
    match error {
        // Root looks after the configs of services that run as others.
        FolderError::Foreign { path, owner, user: 0 } => Trouble::Unknown(format!(
            "{} belongs to user {owner}, and root can't tell whether that one may use it; where hotd runs as user {owner}, \
             check as that user (`sudo -u '#{owner}' hotd --config FILE --check`), else name another folder",
            path.display()
        )),
        error => Trouble::Wrong(crate::describe(error)),
    }
}

/// hotd makes it, in a folder that is there.
fn control_socket(path: &Path) -> Result<(), String> {
    let found = look(path)?;
    must_be_socket(path, &found)?;
    let folder = folder_of(path, &found, "hotd")?;
    may_make_in(folder).map_err(|why| {
        format!(
            "{} can't make a socket in {} ({why}), expected a folder that the user who runs hotd may write to; give it to \
             that user (`chown`), or name another one",
            me(),
            folder.display()
        )
    })
}

/// hot-spawn makes it, and may not have yet.
fn spawn_socket(path: &Path) -> Result<(), String> {
    let found = look(path)?;
    must_be_socket(path, &found)?;
    folder_of(path, &found, "hot-spawn")?;
    match found {
        Found::Nothing { .. } => Ok(()),
        Found::There(_) => may(path, Access::WRITE_OK).map_err(|why| {
            format!(
                "{} can't connect to {} ({why}), expected a socket of the user who runs hotd; start hot-spawn with \
                 `--owner USER`, which gives it to that one, and check as that one",
                me(),
                path.display()
            )
        }),
    }
}

/// hotd makes it where it lacks, and goes on at its end.
fn access_log(path: Option<&Path>) -> Result<(), String> {
    let Some(path) = path else { return Ok(()) };
    let found = look(path)?;
    let shown = path.display();
    let why = match &found {
        Found::There(there) if there.is_dir() => {
            return Err(format!(
                "{shown} is a folder, expected a file or a name that is free; name a file in it"
            ));
        }
        Found::There(_) => may(path, Access::WRITE_OK),
        Found::Nothing { .. } => may_make_in(folder_of(path, &found, "hotd")?),
    };
    why.map_err(|why| {
        format!(
            "{} can't write {shown} ({why}), expected a file that the user who runs hotd may write to or make; give it to that \
             user (`chown`), or name another one",
            me()
        )
    })
}

fn must_be_socket(path: &Path, found: &Found) -> Result<(), String> {
    match found {
        Found::There(there) if !there.file_type().is_socket() => Err(format!(
            "{} is {}, expected a socket or a name that is free; move it away, or name another path",
            path.display(),
            kind(there)
        )),
        Found::There(_) | Found::Nothing { .. } => Ok(()),
    }
}

/// The folder of a file, which nobody makes.
fn folder_of<'a>(path: &'a Path, found: &Found, whose: &str) -> Result<&'a Path, String> {
    let folder = path.parent().unwrap_or(path);
    match found {
        Found::Nothing { nearest } if nearest != folder => Err(format!(
            "its folder {} is not there, expected one in which {whose} can make it; make the folder and give it to the user who \
             runs {whose} (`chown`), or name another one",
            folder.display()
        )),
        Found::Nothing { .. } | Found::There(_) => Ok(folder),
    }
}

/// What is at `path`; if that can't be told, what is in the way.
fn look(path: &Path) -> Result<Found, String> {
    let error = match fs::metadata(path) {
        Ok(found) => return Ok(Found::There(found)),
        Err(error) => error,
    };
    let mut above = path.ancestors().skip(1);
    let nearest = above.find_map(|above| Some((above, fs::metadata(above).ok()?)));
    let shown = path.display();
    let Some((nearest, found)) = nearest else { return Err(format!("{shown} can't be looked at: {error}")) };
    let within = nearest.display();
    if !found.is_dir() {
        let kind = kind(&found);
        return Err(format!(
            "{shown} can't be: {within} is {kind}, expected a folder; move it away, or name another path"
        ));
    }
    match error.kind() {
        ErrorKind::NotFound => Ok(Found::Nothing { nearest: nearest.to_owned() }),
        ErrorKind::PermissionDenied => Err(format!(
            "{} can't look into {within} to find {shown}, expected a folder that the user who runs hotd may look into; let that \
             user in (`chmod`, `chown`), check as that user, or name another path",
            me()
        )),
        _ => Err(format!("{shown} can't be looked at: {error}; name another path")),
    }
}

fn kind(found: &Metadata) -> &'static str {
    if found.is_dir() {
        "a folder"
    } else if found.is_file() {
        "a file"
    } else {
        "neither a file nor a folder"
    }
}

fn may_make_in(folder: &Path) -> io::Result<()> {
    may(folder, Access::WRITE_OK | Access::EXEC_OK)
}

fn may(path: &Path, wanted: Access) -> io::Result<()> {
    Ok(access(path, wanted)?)
}

/// Who asks.
fn me() -> String {
    format!("user {}", rustix::process::geteuid().as_raw())
}
