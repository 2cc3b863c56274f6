//! Work of which only so much is done at once, however many callers ask for it.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Whose turn it is; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Semaphore>);

impl Turns {
    /// As many at once as there are cores, and two where there is one: it may wait for the disk.
    pub(super) fn per_core() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self(Arc::new(Semaphore::new(cores.max(2))))
    }

    /// As [`crate::blocking`], once it is its turn. Work that nobody waits for any more keeps its turn until it is done.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        // It is never closed, which would be the only error.
        let turn = Arc::clone(&self.0).acquire_owned().await.ok();
        crate::blocking(move || {
            let done = work();
            drop(turn);
            done
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_call_that_is_cancelled_keeps_its_turn_until_its_work_is_done() {
        let turns = Turns(Arc::new(Semaphore::new(1)));
        let (begun, has_begun) = oneshot::channel();
        let (end, may_end) = mpsc::channel();
        let call = turns.run(move || {
            begun.send(()).unwrap();
            may_end.recv().unwrap();
        });
        tokio::select! {
            () = call => panic!("it waits"),
            begun = has_begun => begun.unwrap(),
        }
        assert_eq!(turns.0.available_permits(), 0, "its work goes on");
        end.send(()).unwrap();
        assert_eq!(turns.run(|| 2).await, 2);
        assert_eq!(turns.0.available_permits(), 1);
    }
}
