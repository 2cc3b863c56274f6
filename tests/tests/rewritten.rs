//! The file changes between check and load: somebody writes into the store all the time, and still nothing runs that was
//! not checked.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::Result;
use hot_tests::{Marker, Module, Node, text};

/// Writes `evil` over every artifact and upload in the store, in place, and then what was there, in turn; gives how often.
fn rewrite(data: &Path, evil: &[u8], stop: &AtomicBool, writes: &AtomicU64) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        for folder in ["artifacts", "spool"] {
            for entry in fs::read_dir(data.join(folder))? {
                let path = entry?.path();
                let is_file =
                    path.extension().is_some_and(|extension| extension == "so" || extension == "part");
                // It may be gone, or not be whole yet: then there is nothing to write over.
                let Some(good) = fs::read(&path).ok().filter(|good| is_file && good.len() == evil.len())
                else {
                    continue;
                };
                let Ok(file) = File::options().write(true).open(&path) else { continue };
                file.write_all_at(evil, 0)?;
                thread::yield_now();
                // What was read may have been evil already.
                if good != evil {
                    file.write_all_at(&good, 0)?;
                }
                writes.fetch_add(1, Ordering::Relaxed);
                // Most loads find it as it was, and some do not.
                (0..rand::random_range(0..500)).for_each(|_| thread::yield_now());
            }
        }
    }
    Ok(())
}

#[test]
fn only_what_was_checked_runs_while_the_store_is_written_to() -> Result<()> {
    let node = Node::start()?;
    let (marker, constructed) = (Marker::new("rewritten")?, Marker::path("rewritten"));
    let constructed = text(&constructed)?;
    // As long as the others, and as good a module: it has only not been pushed.
    let nowhere = "/".repeat(constructed.len());
    let evil = fs::read(Module::new("good").version("6.6.6").text("CONSTRUCTED", constructed).build()?)?;
    let versions: Vec<String> = (0..6).map(|patch| format!("1.0.{patch}")).collect();
    let build = |version: &str| Module::new("good").version(version).text("CONSTRUCTED", &nowhere).build();
    for version in &versions {
        assert_eq!(fs::metadata(build(version)?)?.len(), evil.len() as u64, "files of one length");
    }
    node.push(&build("1.0.0")?, &[])?.expect(0)?;

    let (stop, writes) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut came = vec!["probe 1.0.0\n".to_owned()];
    let mut loaded = 0;
    thread::scope(|scope| {
        let rewriting = scope.spawn(|| rewrite(node.data_dir(), &evil, &stop, &writes));
        let mut trying = || -> Result<()> {
            for version in &versions[1..] {
                let pushed = node.push(&build(version)?, &["--steps", "100%", "--bake", "100ms"])?;
                // Let in and loaded, loaded wrongly and taken back, or not let in at all.
                assert!(matches!(pushed.code, 0 | 1 | 3 | 4), "{pushed:?}");
                came.push(format!("probe {version}\n"));
                for _ in 0..5 {
                    let restarted = node.hotctl(&["restart", "probe"])?;
                    if restarted.code == 0 {
                        loaded += 1;
                    } else {
                        // It was loaded wrongly, which is said of this one.
                        let refused = restarted.expect(1)?;
                        let sentence = refused.sentence()?;
                        let says = "the old one goes on serving: it was refused";
                        assert!(sentence.contains(says), "{sentence}");
                    }
                    let reply = hot_tests::get(node.http(), "/probe")?;
                    let body = String::from_utf8_lossy(reply.body()).into_owned();
                    assert!(reply.status() == 200 && came.contains(&body), "{} {body:?}", reply.status());
                    assert!(!marker.ran(), "code that was not checked has run");
                }
            }
            Ok(())
        };
        let tried = trying();
        stop.store(true, Ordering::Relaxed);
        rewriting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        tried
    })?;
    assert!(loaded > 0, "nothing was loaded meanwhile");
    assert!(writes.load(Ordering::Relaxed) > 100, "the store was hardly written to: {writes:?}");
    assert!(!marker.ran(), "code that was not checked has run");
    node.stop()
}
