//! All threads of hotd allocate from one arena of glibc (docs/decisions/0015), unless whoever runs it wants it otherwise.

use std::fs;

use anyhow::{Context, Result};
use hot_tests::{Service, get};

/// An arena beside the first one begins at a multiple of this and has this much room, most of it not in use.
const ROOM: usize = 64 << 20;

#[test]
fn threads_have_arenas_of_their_own_only_where_that_is_asked_for() -> Result<()> {
    let mut service = Service::start("", "")?;
    assert_eq!(arenas_beside_the_first(&service)?, 0);
    service.terminate()?;
    service.boot_with(|mut command| {
        command.env("MALLOC_ARENA_MAX", "4");
        Ok(command)
    })?;
    assert!(arenas_beside_the_first(&service)? > 0, "else this finds none that are there");
    service.stop()
}

/// Those of a hotd that has served requests, which its threads for clients answer, and commands, which others do.
fn arenas_beside_the_first(service: &Service) -> Result<usize> {
    for _ in 0..20 {
        assert_eq!(get(service.http(), "/-/live")?.status(), 200);
    }
    service.status()?;
    let maps = fs::read_to_string(format!("/proc/{}/maps", service.daemon()?.pid()))?;
    let mappings = maps.lines().map(|line| mapping(line).with_context(|| format!("found mapping {line:?}")));
    let mappings = mappings.collect::<Result<Vec<_>>>()?;
    // What is in use of it, and what is not yet.
    let is_arena = |pair: &[Mapping]| {
        let [used, rest] = pair else { return false };
        used.start.is_multiple_of(ROOM)
            && used.end == rest.start
            && rest.end == used.start + ROOM
            && rest.closed
    };
    Ok(mappings.windows(2).filter(|pair| is_arena(pair)).count())
}

/// A line of `/proc/PID/maps` (`proc_pid_maps(5)`).
struct Mapping {
    start: usize,
    end: usize,
    /// Nothing may be done there.
    closed: bool,
}

fn mapping(line: &str) -> Option<Mapping> {
    let mut words = line.split(' ');
    let (start, end) = words.next()?.split_once('-')?;
    let [start, end] = [start, end].map(|address| usize::from_str_radix(address, 16).ok());
    Some(Mapping { start: start?, end: end?, closed: words.next()?.starts_with("---") })
}
