//! How each step was answered, for whoever drives the module to ask.

use crate::{host, steps};
use hot_module::abi::{self, Exchange};
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

static REPORT: Mutex<String> = Mutex::new(String::new());

/// Notes that the step of this name was answered so. One that is not in the list fails.
pub(crate) fn step(name: &str, found: impl Into<i64>) {
    let found = found.into();
    let listed = steps::steps().find(|step| name.split('.').next() == Some(step.name));
    let is_expected = listed.is_some_and(|step| value(step.expected) == Some(found));
    let mut report = report();
    let noted = if is_expected {
        writeln!(report, "{name}: ok")
    } else {
        writeln!(report, "{name}: FAILED, {found} was not expected")
    };
    noted.expect("a string takes everything");
}

/// As [`step`], of a number of bytes or times.
pub(crate) fn step_count(name: &str, found: usize) {
    step(name, i64::try_from(found).unwrap_or(i64::MAX));
}

/// Answers with all steps since the last report.
pub(crate) fn tell(x: Exchange) {
    let text = std::mem::take(&mut *report());
    host::answer(x, text.as_bytes());
}

/// What a word of the list stands for.
fn value(word: &str) -> Option<i64> {
    let status = match word {
        "HOT_OK" => abi::OK,
        "HOT_ENDED" => abi::ENDED,
        "HOT_STATE" => abi::STATE,
        "HOT_INVALID" => abi::INVALID,
        "HOT_CANCELLED" => abi::CANCELLED,
        "HOT_WOULD_BLOCK" => abi::WOULD_BLOCK,
        "HOT_TOO_LARGE" => abi::TOO_LARGE,
        "HOT_NOT_FOUND" => abi::NOT_FOUND,
        number => return number.parse().ok(),
    };
    Some(i64::from(status))
}

fn report() -> MutexGuard<'static, String> {
    REPORT.lock().unwrap_or_else(PoisonError::into_inner)
}
