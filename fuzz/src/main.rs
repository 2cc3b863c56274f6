//! The program around libFuzzer: one for all targets, since an instrumented daemon takes long to link. `HOT_FUZZ_TARGET`
//! names the target; the arguments are libFuzzer's. `scripts/fuzz` calls it.
#![no_main]

use std::sync::OnceLock;

use hot_fuzz::{TARGETS, Target};
use libfuzzer_sys::{Corpus, fuzz_target};

static TARGET: OnceLock<&Target> = OnceLock::new();

fn chosen() -> &'static Target {
    let name = std::env::var("HOT_FUZZ_TARGET").unwrap_or_default();
    Target::named(&name).unwrap_or_else(|| {
        let known: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        panic!("HOT_FUZZ_TARGET is {name:?}, expected one of {}", known.join(", "))
    })
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let _let_in = TARGET.get_or_init(chosen).run(input);
    Corpus::Keep
});
