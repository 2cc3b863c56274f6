//! HTTP/2 with prior knowledge.

mod bounds;
pub(crate) mod client;
pub(crate) mod raw;
mod requests;

use hotd::gateway::GatewayConfig;

use crate::host::{Host, Inbox};
use crate::rig::{A, Rig, stable};

fn rig(config: GatewayConfig) -> (Rig, Host, Inbox) {
    let rig = Rig::with(GatewayConfig { threads: 1, ..config });
    let (host, links, inbox) = Host::watched(1);
    rig.attach(A, links);
    rig.serve(vec![stable(A, 10_000)]);
    (rig, host, inbox)
}
