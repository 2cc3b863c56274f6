//! The order of steps that `docs/durability.md` promises, held against a trace.
//!
//! Two kinds of rules: those of every file and folder at any time ([`check`]'s first part), and for each call the chain
//! of steps that must come before its answer, each begun after the one before had ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::trace::{Did, Step};

/// The database of the history.
const DATABASE: &str = "index/db";

/// A step that a call must take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Something is written to the file.
    Write(PathBuf),
    /// File or folder are put on the disk.
    Sync(PathBuf),
    /// The file gets its name.
    Rename(PathBuf, PathBuf),
    /// The name goes away.
    Remove(PathBuf),
    /// The caller hears that it is done.
    Answer,
}

/// A call and its chain of steps.
#[derive(Clone, Debug)]
pub struct Call {
    /// What was asked for, for messages.
    pub name: String,
    /// Which caller it was, from 0.
    pub caller: usize,
    /// In this order.
    pub chain: Vec<Wanted>,
}

impl Wanted {
    /// The four steps that put a small file in place.
    pub fn small(path: &str) -> Vec<Self> {
        let (path, unfinished) = (PathBuf::from(path), PathBuf::from(format!("{path}.tmp")));
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        vec![
            Self::Write(unfinished.clone()),
            Self::Sync(unfinished.clone()),
            Self::Rename(unfinished, path),
            Self::Sync(folder),
        ]
    }

    /// The two steps that take a file away for good.
    pub fn gone(path: &str) -> Vec<Self> {
        let path = PathBuf::from(path);
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        vec![Self::Remove(path), Self::Sync(folder)]
    }

    fn is(&self, did: &Did, caller: usize) -> bool {
        match (self, did) {
            (Self::Write(wanted), Did::Write(path, ..))
            | (Self::Sync(wanted), Did::Sync(path))
            | (Self::Remove(wanted), Did::Remove(path)) => wanted == path,
            (Self::Rename(from, to), Did::Rename(old, new)) => (from, to) == (old, new),
            (Self::Answer, Did::Reply(number)) => *number == caller,
            _ => false,
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::Write(path) => format!("write {}", shown(path)),
            Self::Sync(path) => format!("fsync {}", shown(path)),
            Self::Rename(from, to) => format!("rename {} to {}", shown(from), shown(to)),
            Self::Remove(path) => format!("remove {}", shown(path)),
            Self::Answer => "the acknowledgement".to_owned(),
        }
    }
}

/// Checks a whole trace. For each call the places of the steps that are its chain.
///
/// # Errors
/// A step is missing or out of order; the text names it.
pub fn check(steps: &[Step], calls: &[Call]) -> Result<Vec<Vec<usize>>> {
    let mut files = Files::default();
    for step in steps {
        files.step(step)?;
    }
    files.end()?;
    calls.iter().map(|call| chain(steps, call)).collect()
}

/// Finds a call's chain, up to the answer.
fn chain(steps: &[Step], call: &Call) -> Result<Vec<usize>> {
    let name = &call.name;
    let accepted = steps.iter().position(|step| step.did == Did::Accept(call.caller));
    let mut last = accepted.with_context(|| format!("{name}: nobody called"))?;
    let mut upto = steps.len();
    if call.chain.contains(&Wanted::Answer) {
        let answered = steps.iter().position(|step| step.did == Did::Reply(call.caller));
        upto = answered.with_context(|| format!("{name}: found no {}", Wanted::Answer.sentence()))? + 1;
    }
    let mut found = Vec::new();
    for (place, wanted) in call.chain.iter().enumerate() {
        let ended = steps[last].ended;
        let after = |step: &Step| step.began > ended && wanted.is(&step.did, call.caller);
        let next = steps[..upto].iter().position(after).with_context(|| {
            let before = place
                .checked_sub(1)
                .map_or_else(|| "the call".to_owned(), |before| call.chain[before].sentence());
            let wanted = wanted.sentence();
            format!("{name}: found no `{wanted}` after `{before}` and before the acknowledgement")
        })?;
        found.push(next);
        last = next;
    }
    Ok(found)
}

/// What the steps so far left to be done, by path.
#[derive(Debug, Default)]
struct Files {
    /// Files that were made and have not got their names: bytes written, and where the last write and fsync ended.
    open: BTreeMap<PathBuf, Open>,
    /// Names that came or went, and whether the folder was put on the disk since: where that had ended.
    names: BTreeMap<PathBuf, Name>,
    /// Where each thread had last put the database on the disk.
    database: BTreeMap<u32, (usize, usize)>,
}

#[derive(Debug, Default)]
struct Open {
    bytes: u64,
    written: Option<usize>,
    synced: bool,
}

#[derive(Debug)]
struct Name {
    changed: usize,
    synced: Option<usize>,
}

impl Files {
    fn step(&mut self, step: &Step) -> Result<()> {
        match &step.did {
            Did::Create(path) if in_records(path) => {
                ensure!(!self.open.contains_key(path), "{} is made anew and never got its name", shown(path));
                let becomes = path.with_extension("");
                if let Some(Name { synced: None, .. }) = self.names.get(&becomes) {
                    bail!("{} is written again before its folder was put on the disk", shown(&becomes));
                }
                self.open.insert(path.clone(), Open::default());
            }
            Did::Create(path) if path.starts_with("spool") => {
                self.open.insert(path.clone(), Open::default());
            }
            Did::Write(path, at, length) => {
                if let Some(open) = self.open.get_mut(path) {
                    let at = at.unwrap_or(open.bytes);
                    ensure!(
                        at == open.bytes,
                        "{} has a gap: after {} bytes byte {at} is written",
                        shown(path),
                        open.bytes
                    );
                    open.bytes += length;
                    open.written = Some(step.ended);
                    open.synced = false;
                }
            }
            Did::Sync(path) => self.sync(path, step),
            Did::Rename(from, to) => {
                // What is put in place again after an error, or moved aside, was on the disk before.
                if let Some(open) = self.open.remove(from) {
                    let (from, to) = (shown(from), shown(to));
                    ensure!(open.written.is_some(), "{to} gets its name, and nothing was written to {from}");
                    ensure!(
                        open.synced,
                        "{to} gets its name before its bytes are on the disk (fsync {from})"
                    );
                } else {
                    ensure!(!in_records(to), "{} gets its name, and was not written", shown(to));
                }
                self.names.insert(to.clone(), Name { changed: step.ended, synced: None });
            }
            Did::Remove(path) => {
                if path.starts_with("rollouts") {
                    self.forget_rollout(path, step)?;
                }
                self.open.remove(path);
                self.names.insert(path.clone(), Name { changed: step.ended, synced: None });
            }
            Did::Create(_) | Did::Accept(_) | Did::Reply(_) => {}
        }
        Ok(())
    }

    fn sync(&mut self, path: &Path, step: &Step) {
        if path == Path::new(DATABASE) {
            self.database.insert(step.thread, (step.began, step.ended));
        }
        if let Some(open) = self.open.get_mut(path)
            && open.written.is_some_and(|written| written < step.began)
        {
            open.synced = true;
        }
        for (name, state) in &mut self.names {
            if name.parent() == Some(path) && state.changed < step.began {
                state.synced = state.synced.or(Some(step.ended));
            }
        }
    }

    /// The end of a rollout is on the disk, then in the history, which is on the disk; then its file may go.
    fn forget_rollout(&self, path: &Path, step: &Step) -> Result<()> {
        let written = self.names.get(path).and_then(|name| name.synced);
        let written = written.with_context(|| format!("{} goes before it is on the disk", shown(path)))?;
        // sled has threads of its own that sync now and then, which is no promise.
        let (began, ended) = self.database.get(&step.thread).copied().unwrap_or_default();
        ensure!(
            began > written && ended < step.began,
            "{} goes before the history that has it is on the disk (fsync {DATABASE})",
            shown(path)
        );
        Ok(())
    }

    fn end(&self) -> Result<()> {
        if let Some(path) = self.open.keys().find(|path| in_records(path)) {
            bail!("{} never got its name", shown(path));
        }
        let is_kept = |name: &Path| in_records(name) || name.starts_with("artifacts");
        let unsynced = self.names.iter().find(|(name, state)| is_kept(name) && state.synced.is_none());
        if let Some((name, _)) = unsynced {
            bail!("the name {} was changed, and its folder never put on the disk", shown(name));
        }
        Ok(())
    }
}

/// A record, or one that is being written.
fn in_records(path: &Path) -> bool {
    let folders = ["modules", "rollouts", "configs"];
    let is_json = |path: &Path| {
        path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with(".json"))
            || path.extension().is_some_and(|extension| extension == "json")
    };
    folders.iter().any(|folder| path.starts_with(folder)) || is_json(path)
}

fn shown(path: &Path) -> String {
    if path.as_os_str().is_empty() { "the data folder".to_owned() } else { path.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record that is put in place while the history syncs by itself, then the end of a rollout.
    const GOOD: &str = r#"3 accept4(4<socket:[1]>, {sa_family=AF_UNIX}, [110 => 2], SOCK_CLOEXEC) = 5<socket:[2]>
7 openat(AT_FDCWD</x>, "/d/rollouts/r1.json.tmp", O_RDWR|O_CREAT|O_TRUNC|O_CLOEXEC, 0600) = 6</d/rollouts/r1.json.tmp>
7 pwrite64(6</d/rollouts/r1.json.tmp>, "{\"format\":1,\"kind\":\"rollout\""..., 1533, 0) = 1533
7 fsync(6</d/rollouts/r1.json.tmp> <unfinished ...>
9 fsync(8</d/index/db>) = 0
7 <... fsync resumed>) = 0
7 rename("/d/rollouts/r1.json.tmp", "/d/rollouts/r1.json") = 0
7 fsync(6</d/rollouts>) = 0
7 pwrite64(8</d/index/db>, "\33\207\25\21\n"..., 1819, 11840) = 1819
7 fsync(9</d/index/db>) = 0
7 unlink("/d/rollouts/r1.json") = 0
7 fsync(6</d/rollouts>) = 0
3 writev(5<socket:[2]>, [{iov_base="\0\0\1\1\4\0\0\0\1\210", iov_len=10}], 1) = 10
"#;

    fn call() -> Call {
        let chain =
            [Wanted::small("rollouts/r1.json"), Wanted::gone("rollouts/r1.json"), vec![Wanted::Answer]];
        Call { name: "the end of a rollout".to_owned(), caller: 0, chain: chain.concat() }
    }

    fn said(text: &str) -> String {
        let steps = crate::trace::steps(text, Path::new("/d")).unwrap();
        check(&steps, &[call()]).err().map(|error| error.to_string()).unwrap_or_default()
    }

    fn without(line: &str) -> String {
        assert_eq!(GOOD.matches(line).count(), 1, "{line}");
        GOOD.replace(line, "")
    }

    #[test]
    fn a_good_trace_is_good() {
        assert_eq!(said(GOOD), "");
    }

    #[test]
    fn each_step_that_is_missing_is_named() {
        let pwrite = GOOD.lines().nth(2).unwrap().to_owned() + "\n";
        for (line, expected) in [
            (&*pwrite, "nothing was written to rollouts/r1.json.tmp"),
            ("7 fsync(9</d/index/db>) = 0\n", "goes before the history that has it is on the disk"),
            (
                "7 rename(\"/d/rollouts/r1.json.tmp\", \"/d/rollouts/r1.json\") = 0\n",
                "goes before it is on the disk",
            ),
            ("7 unlink(\"/d/rollouts/r1.json\") = 0\n", "found no `remove rollouts/r1.json`"),
        ] {
            let said = said(&without(line));
            assert!(said.contains(expected), "without {line}: {said}");
        }
    }

    #[test]
    fn an_fsync_that_began_before_the_write_ended_does_not_count() {
        let early = GOOD
            .replace("7 fsync(9</d/index/db>) = 0\n", "")
            .replace("7 rename(", "7 fsync(9</d/index/db>) = 0\n7 rename(");
        assert!(said(&early).contains("before the history"), "{}", said(&early));
    }
}
