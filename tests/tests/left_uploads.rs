//! Thousands of uploads that are under way at once, and all of which are left at once: what they cost, and whom they
//! block.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Result, ensure};
use hot_tests::{Crowd, Door, Holds, Module, Node, Process, WAIT, get, text};

/// Connections, and uploads on each: fewer than one may have calls under way.
const CROWD: (u64, u64) = (50, 60);

/// Uploads that a node has under way at once.
const PLACES: u64 = 16;

/// Bytes that are sent of each.
const SENT: usize = 4096;

/// A crowd of which each upload has a place or was refused.
fn crowd(door: &Door, signature: &[u8]) -> Result<Crowd> {
    let crowd = Crowd::begin(door, signature, CROWD, 100_000, SENT)?;
    let deadline = Instant::now() + WAIT;
    let refused = CROWD.0 * CROWD.1 - PLACES;
    loop {
        let answers = crowd.answers();
        if answers.values().sum::<u64>() >= refused {
            ensure!(answers.len() == 1 && answers.get("too_many_uploads") == Some(&refused), "{answers:?}");
            return Ok(crowd);
        }
        ensure!(Instant::now() < deadline, "of {refused} that have no place were refused: {answers:?}");
        thread::yield_now();
    }
}

/// What `hotd` holds once it has no more descriptors than before.
fn calm(hotd: &Process, descriptors: usize) -> Result<Holds> {
    let deadline = Instant::now() + WAIT;
    loop {
        let holds = hotd.holds()?;
        if holds.descriptors <= descriptors {
            return Ok(holds);
        }
        ensure!(Instant::now() < deadline, "{descriptors} descriptors became {}", holds.descriptors);
        thread::yield_now();
    }
}

/// Bytes in the spool, of at most as many files as there are places.
fn spooled(data: &Path) -> Result<u64> {
    let files: Vec<_> = fs::read_dir(data.join("spool"))?.collect::<Result<_, _>>()?;
    ensure!(files.len() as u64 <= PLACES, "{} files for {PLACES} places", files.len());
    files.iter().map(|file| Ok(file.metadata()?.len())).sum()
}

#[test]
fn thousands_that_are_left_at_once_cost_little_and_block_nobody() -> Result<()> {
    let node = Node::start()?;
    let (door, hotd) = (node.door()?, node.daemon()?.clone());
    let good = Module::new("good").build()?;
    let signature = node.scratch().join("signature");
    node.key().sign("hot-module", &good, &signature)?;
    let signature = fs::read(signature)?;
    // The first one takes what stays with the process anyhow.
    let idle = hotd.holds()?;
    drop(crowd(&door, &signature)?);
    let before = calm(&hotd, idle.descriptors + 2)?;

    // As long as they are there, all places are taken.
    let there = crowd(&door, &signature)?;
    let refused = node.push(&good, &["-o", "json"])?;
    ensure!(refused.code != 0 && refused.stderr.contains("too_many_uploads"), "{refused:?}");
    drop(there);

    // And as others come and go, a good one finds its place between them.
    let (over, waves) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| -> Result<()> {
        let others = scope.spawn(|| -> Result<()> {
            while !over.load(Ordering::Relaxed) {
                drop(crowd(&door, &signature)?);
                waves.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let pushed = pushed_meanwhile(&node, &good, &waves);
        over.store(true, Ordering::Relaxed);
        others.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        pushed
    })?;
    ensure!(get(node.http(), "/probe")?.body().as_ref() == b"probe 1.0.0\n");

    ensure!(spooled(node.data_dir())? <= PLACES * SENT as u64);
    // The push has left a host, with its links.
    let after = calm(&hotd, before.descriptors + 16)?;
    ensure!(after.resident < before.resident + 32 * 1024, "{before:?} became {after:?}");
    node.stop()
}

/// Pushes again as long as there is no place for it, and waits until others have come and gone as well.
fn pushed_meanwhile(node: &Node, good: &Path, waves: &AtomicUsize) -> Result<()> {
    let deadline = Instant::now() + WAIT;
    loop {
        let push = node.hotctl(&["push", text(good)?, "-o", "json"])?;
        if push.code == 0 {
            break;
        }
        ensure!(push.stderr.contains("too_many_uploads"), "{push:?}");
        ensure!(Instant::now() < deadline, "it found no place: {push:?}");
    }
    while waves.load(Ordering::Relaxed) == 0 {
        ensure!(Instant::now() < deadline, "nobody left");
        thread::yield_now();
    }
    Ok(())
}
