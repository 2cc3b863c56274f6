//! Where a request goes: the pick, and the bounded wait for one.
//!
//! A pick happens while this thread's table is locked, and a new table is published to each thread under that lock.
//! So when a publication is over, no thread picks from the old table any more, and the stamp of the last pick of an
//! instance that it took out is earlier.

use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use hot_wire::data::HeadError;
use tokio::time::timeout_at;

use super::limits::{Full, Permit};
use super::routes::{Module, Target};
use super::table::Backend;
use crate::gateway::hop::Link;
use crate::gateway::thread::Thread;
use crate::supervisor::InstanceId;

/// How often a request that waits for a backend looks by itself: a link that was full says nothing when it no longer
/// is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub(in crate::gateway) struct Wish<'a> {
    pub(in crate::gateway) host: Option<&'a str>,
    pub(in crate::gateway) path: &'a str,
    pub(in crate::gateway) choice: Choice<'a>,
    /// When it came, if that was before now.
    pub(in crate::gateway) arrived: Option<Instant>,
}

/// Which instance it may be.
#[derive(Debug, Clone, Copy)]
pub(in crate::gateway) enum Choice<'a> {
    /// One by weight, and stable if that one is not ready.
    ByWeight,
    /// Of this release, by number or version.
    Pinned(&'a str),
    /// Stable, or who serves where there is none, but not the instance that the request was lost with.
    Stable { lost: Option<InstanceId> },
}

impl Wish<'_> {
    /// Neither who was drawn nor stable is ready: it waits for stable. Drawn again at each look, all that wait would end
    /// at the candidate.
    fn was_drawn(&mut self) {
        if matches!(self.choice, Choice::ByWeight) {
            self.choice = Choice::Stable { lost: None };
        }
    }

    pub(in crate::gateway) fn is_for_stable(&self) -> bool {
        matches!(self.choice, Choice::Stable { .. })
    }
}

/// An instance for a request, and the leave to use it.
#[derive(Debug)]
pub(in crate::gateway) struct Placed {
    pub(in crate::gateway) module: Arc<Module>,
    pub(in crate::gateway) link: Rc<Link>,
    pub(in crate::gateway) permit: Permit,
    pub(in crate::gateway) release: u64,
    pub(in crate::gateway) at: Instant,
    /// When the request came.
    pub(in crate::gateway) arrived: Instant,
    /// It was picked by weight, not pinned.
    pub(in crate::gateway) counted: bool,
}

/// Why a request goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gateway) enum Refusal {
    /// No module has a route for the path.
    NoRoute,
    /// The module has no instance of the release that the request is pinned to.
    NoRelease(String),
    /// As many requests wait as may.
    QueueFull(String),
    /// Waited in vain for one of those in flight to end.
    Busy(String),
    /// Waited in vain for an instance.
    NoBackend(String),
    /// Waited in vain for the first table.
    NoTable,
    /// With what is added to it, the head is larger than what can be passed on.
    Head(HeadError),
}

/// The result of one look.
enum Look {
    Placed(Placed),
    Refused(Refusal),
    NoTable,
    /// As many requests of the module are in flight as may be.
    Full(Arc<Module>),
    /// No instance is ready.
    NotReady(Arc<Module>),
}

impl Thread {
    /// An instance, if one is ready; `None`: [`Thread::place`] waits for one, with the wish as it is then.
    pub(in crate::gateway) fn place_now(
        self: &Rc<Self>,
        wish: &mut Wish<'_>,
    ) -> Option<Result<Placed, Refusal>> {
        match self.look(*wish, None) {
            Look::Placed(placed) => Some(Ok(placed)),
            Look::Refused(refusal) => Some(Err(refusal)),
            Look::NoTable | Look::Full(_) => None,
            Look::NotReady(_) => {
                wish.was_drawn();
                None
            }
        }
    }

    /// Finds an instance, at once if there is one and waiting if there is none.
    pub(in crate::gateway) async fn place(self: &Rc<Self>, mut wish: Wish<'_>) -> Result<Placed, Refusal> {
        match self.place_now(&mut wish) {
            Some(placed) => placed,
            None => {
                let arrived = wish.arrived.unwrap_or_else(Instant::now);
                // Boxed: what only a wait needs would make the future of each request larger.
                Box::pin(self.wait(Wish { arrived: Some(arrived), ..wish }, arrived)).await
            }
        }
    }

    async fn wait(self: &Rc<Self>, mut wish: Wish<'_>, arrived: Instant) -> Result<Placed, Refusal> {
        let patience = Instant::now() + self.config().max_wait;
        let mut permit = None;
        loop {
            let mut changed = pin!(self.changed().notified());
            // Enlisted before the look, so that no change between the two is missed.
            changed.as_mut().enable();
            let until = |module: &Module| patience.min(arrived + module.table.deadline);
            match self.look(wish, permit.take()) {
                Look::Placed(placed) => return Ok(placed),
                Look::Refused(refusal) => return Err(refusal),
                Look::NoTable => {
                    let waited = timeout_at(patience.into(), changed).await;
                    waited.map_err(|_elapsed| Refusal::NoTable)?;
                }
                Look::Full(module) => {
                    let queued = module.gate.queue().map_err(|Full| queue_full(&module))?;
                    let entered = timeout_at(until(&module).into(), queued.enter()).await;
                    permit = Some(entered.map_err(|_elapsed| Refusal::Busy(name(&module)))?);
                }
                Look::NotReady(module) => {
                    wish.was_drawn();
                    let unready = module.gate.queue_unready().map_err(|Full| queue_full(&module))?;
                    let until = until(&module);
                    if Instant::now() >= until {
                        return Err(Refusal::NoBackend(name(&module)));
                    }
                    let look = until.min(Instant::now() + LOOK_EVERY);
                    // Either way it is time to look again.
                    drop(timeout_at(look.into(), changed).await);
                    let entered = timeout_at(until.into(), unready.into_queued().enter()).await;
                    permit = Some(entered.map_err(|_elapsed| Refusal::NoBackend(name(&module)))?);
                }
            }
        }
    }

    /// One look at the table as it is now. `permit` is kept if it is of the right module.
    fn look(self: &Rc<Self>, wish: Wish<'_>, permit: Option<Permit>) -> Look {
        let table = self.table().lock().unwrap_or_else(PoisonError::into_inner);
        let Some(routes) = &*table else { return Look::NoTable };
        let Some(target) = routes.find(wish.host, wish.path) else { return Look::Refused(Refusal::NoRoute) };
        let module = &target.module;
        let kept = permit.filter(|permit| Arc::ptr_eq(permit.gate(), &module.gate));
        let Some(permit) = kept.or_else(|| module.gate.try_enter()) else {
            return Look::Full(Arc::clone(module));
        };
        let chosen = match wish.choice {
            Choice::Pinned(wanted) => match module.release(wanted) {
                Some(backend) => self.ready(backend),
                None => return Look::Refused(Refusal::NoRelease(name(module))),
            },
            Choice::Stable { lost } => self.stable(target, lost),
            Choice::ByWeight => self.ready(target.draw()).or_else(|| self.stable(target, None)),
        };
        let Some((backend, link)) = chosen else { return Look::NotReady(Arc::clone(module)) };
        let at = Instant::now();
        let counted = !matches!(wish.choice, Choice::Pinned(_));
        if counted {
            link.recorder().picked(at);
        }
        Look::Placed(Placed {
            release: backend.release,
            module: Arc::clone(module),
            link,
            permit,
            at,
            arrived: wish.arrived.unwrap_or(at),
            counted,
        })
    }

    /// Nothing while stable is not ready, even if a candidate is: that one gets its share and no more.
    fn stable<'t>(
        self: &Rc<Self>,
        target: &'t Target,
        lost: Option<InstanceId>,
    ) -> Option<(&'t Backend, Rc<Link>)> {
        target
            .instead()
            .filter(|backend| Some(backend.instance) != lost)
            .find_map(|backend| self.ready(backend))
    }

    fn ready<'t>(self: &Rc<Self>, backend: &'t Backend) -> Option<(&'t Backend, Rc<Link>)> {
        let link = self.link(backend.instance)?;
        link.is_ready().then_some((backend, link))
    }
}

fn queue_full(module: &Module) -> Refusal {
    Refusal::QueueFull(name(module))
}

fn name(module: &Module) -> String {
    module.table.module.clone()
}
