//! How often a node reads the bytes of a push, counted by the kernel: once to hold them in sealed memory and once to hash
//! them there, although it verifies them when they are let in, before they are rolled out and when they are loaded.

use std::fs;

use anyhow::{Context, Result, ensure};
use hot_tests::{Module, Node};

/// What a process has read and written so far by `read`, `write` and their like, bytes: files, but not what comes and goes
/// by `recv` and `send`.
fn moved(pid: i32) -> Result<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let figure = |name: &str| -> Result<u64> {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        Ok(value.with_context(|| format!("no {name} in {text}"))?.parse()?)
    };
    Ok((figure("rchar")?, figure("wchar")?))
}

#[test]
fn the_bytes_of_a_push_are_held_from_the_check_to_the_load() -> Result<()> {
    let node = Node::start()?;
    let file = Module::new("large").number("MIB", 4).build()?;
    let size = fs::metadata(&file)?.len();
    let pid = node.daemon()?.pid();
    // In halves of the file: what else is read and written meanwhile is far less.
    let halves = |from: u64, to: u64| ((to - from) * 2).div_ceil(size);

    let before = moved(pid)?;
    node.push(&file, &["--steps", "100%", "--bake", "100ms"])?.expect(0)?;
    let pushed = moved(pid)?;
    let (read, written) = (halves(before.0, pushed.0), halves(before.1, pushed.1));
    ensure!(read <= 5, "{read} halves of the file were read, expected those of the file and of the memory");
    ensure!(written <= 5, "{written} halves were written, expected those of the file and of the memory");

    // Of what was loaded nothing is held: whatever comes later is read from the disk, and so verified.
    node.hotctl(&["restart", "probe"])?.expect(0)?;
    let restarted = moved(pid)?;
    let (read, written) = (halves(pushed.0, restarted.0), halves(pushed.1, restarted.1));
    ensure!(read >= 4 && written >= 2, "{read} halves were read and {written} written: not from the disk");
    node.stop()
}
