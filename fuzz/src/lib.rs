//! What strangers can send us, thrown at the code that reads it.
//!
//! Each [`Target`] is one door at which foreign bytes become types, and the properties that hold for all bytes. Its
//! function has two callers: libFuzzer (`make fuzz`, the program of this crate), and `tests/replay.rs`, which runs it
//! over the inputs in `corpus/` with every `make test`. A finding leaves its input there.
//!
//! Beyond what a target says of itself, none may panic, and none may hold more memory than [`Target::heap`] allows.
#![forbid(unsafe_code)]

mod artifact;
mod daemon;
mod heap;
mod wire;

/// A door for foreign bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of it and of its folder in `corpus/`.
    pub name: &'static str,
    /// Bytes of memory that one input may hold at once, for each of its own bytes and besides.
    pub heap: (usize, usize),
    run: fn(&[u8]) -> bool,
}

const KIB: usize = 1024;

/// All targets.
pub const TARGETS: [Target; 10] = [
    // Twice the file; besides, what the metadata costs to parse (artifact/tests/hostile measures it).
    Target { name: "elf", heap: (2, 512 * KIB), run: artifact::elf },
    // A TOML document has a node for every few bytes, and some 300 KiB of tables at most.
    Target { name: "metadata", heap: (256, 384 * KIB), run: artifact::metadata },
    Target { name: "signature", heap: (16, 64 * KIB), run: artifact::signature },
    // Besides, the machine's time zones, which are read once.
    Target { name: "signers", heap: (64, 4096 * KIB), run: artifact::signers },
    Target { name: "revoked", heap: (64, 64 * KIB), run: artifact::revoked },
    // A frame's announced length is reserved before it comes, up to the largest payload; twice, once for each side.
    Target { name: "frames", heap: (64, 2048 * KIB), run: wire::frames },
    Target { name: "control", heap: (16, 64 * KIB), run: wire::control },
    Target { name: "request", heap: (64, 256 * KIB), run: daemon::request },
    Target { name: "response", heap: (64, 256 * KIB), run: daemon::response },
    // Besides, what a filter for the log compiles once.
    Target { name: "config", heap: (512, 4096 * KIB), run: daemon::config },
];

impl Target {
    /// The target of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Tries one input. Answers whether it was let in; panics if a property does not hold, and ends the process if
    /// more memory was asked for than is allowed.
    #[must_use]
    pub fn run(&self, input: &[u8]) -> bool {
        let (each, besides) = self.heap;
        heap::within(each * input.len() + besides, || (self.run)(input))
    }
}
