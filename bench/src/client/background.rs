//! Load on a thread of its own, beside which something else happens.

use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

use super::{Order, Plan, Seen, run};
use crate::cpu::{self, Side};

/// Load that runs until it is stopped, on the load's core.
#[derive(Debug)]
pub(crate) struct Background {
    orders: Sender<Order>,
    thread: JoinHandle<Result<()>>,
}

impl Background {
    /// Starts it.
    pub(crate) fn start(plan: Plan) -> Self {
        let (orders, taken) = channel();
        let thread = thread::spawn(move || {
            cpu::pin(Side::Load)?;
            run(&plan, &taken)
        });
        Self { orders, thread }
    }

    /// What was seen since it began, or since the last time.
    pub(crate) fn cut(&self) -> Result<Seen> {
        let (reply, seen) = sync_channel(1);
        self.orders.send(Order::Cut(reply)).context("the load has ended")?;
        seen.recv().context("the load has ended")
    }

    /// Ends it, and gives what was seen since the last time. In an open loop all that was due has been answered or failed.
    pub(crate) fn stop(self) -> Result<Seen> {
        let (reply, seen) = sync_channel(1);
        // It may have ended by itself; then joining says why.
        drop(self.orders.send(Order::Stop(reply)));
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        seen.recv().context("the load has ended before its time")
    }
}
