//! How bodies flow: bytes that tell their place, and where a sender stops that nobody reads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Bytes that tell their place, so that one that is lost, doubled or moved is seen.
pub(crate) fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| u8::try_from(at % 251).expect("below 251")).collect()
}

/// What the kernel keeps of a connection at most, on the side that sends.
pub(crate) fn kernels_most() -> usize {
    let sizes = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_wmem").expect("Linux tells it");
    sizes.split_whitespace().last().and_then(|most| most.parse().ok()).expect("three numbers")
}

/// How far a sender came, who says so in `sent`, when it has stopped. It has when it sends nothing for as long as a hundred
/// looks take; an error here would be to see it stop too early, and that the rest comes is for the caller to check.
pub(crate) fn stopped_at(sent: &AtomicUsize) -> usize {
    let (mut last, mut same) = (0, 0);
    while same < 100 {
        std::thread::sleep(Duration::from_millis(2));
        let now = sent.load(Ordering::SeqCst);
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}
