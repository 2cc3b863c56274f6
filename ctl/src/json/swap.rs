//! The shape of a swap.

use hot_proto::v1;
use serde::Serialize;

use super::{ReleaseJson, rounded, time};

/// How traffic left an instance for good.
#[derive(Debug, Serialize)]
pub(crate) struct SwapJson {
    node: String,
    from: Option<ReleaseJson>,
    from_instance: u64,
    to: Option<ReleaseJson>,
    to_instance: u64,
    flipped: Option<String>,
    /// Microseconds from the start of the flip to the new weights.
    flip_us: u64,
    /// Microseconds from the start of the flip to the last pick of the old instance; null when none was picked after.
    last_pick_us: Option<u64>,
    in_flight: u64,
    given_after: u64,
    finished: u64,
    errors: u64,
    aborted: u64,
    timeouts: u64,
    lost: u64,
    sent_again: u64,
    cancelled: u64,
    still_in_flight: u64,
    /// Milliseconds, null when something was still in flight.
    drained_ms: Option<u64>,
    /// Milliseconds.
    window_ms: u64,
    before: WindowJson,
    during: WindowJson,
    after: WindowJson,
    cut_short: String,
}

#[derive(Debug, Serialize)]
struct WindowJson {
    requests: u64,
    /// Milliseconds, null without requests.
    p99_ms: Option<f64>,
}

impl From<v1::Swap> for SwapJson {
    fn from(swap: v1::Swap) -> Self {
        Self {
            node: swap.node,
            from: swap.from.map(ReleaseJson::from),
            from_instance: swap.from_instance,
            to: swap.to.map(ReleaseJson::from),
            to_instance: swap.to_instance,
            flipped: time(swap.flipped),
            flip_us: swap.flip_us,
            last_pick_us: swap.last_pick_us,
            in_flight: swap.in_flight,
            given_after: swap.given_after,
            finished: swap.finished,
            errors: swap.errors,
            aborted: swap.aborted,
            timeouts: swap.timeouts,
            lost: swap.lost,
            sent_again: swap.sent_again,
            cancelled: swap.cancelled,
            still_in_flight: swap.still_in_flight,
            drained_ms: swap.drained_ms,
            window_ms: swap.window_ms,
            before: swap.before.into(),
            during: swap.during.into(),
            after: swap.after.into(),
            cut_short: swap.cut_short,
        }
    }
}

impl From<Option<v1::SwapWindow>> for WindowJson {
    fn from(window: Option<v1::SwapWindow>) -> Self {
        let window = window.unwrap_or_default();
        Self { requests: window.requests, p99_ms: window.p99_ms.map(rounded) }
    }
}
