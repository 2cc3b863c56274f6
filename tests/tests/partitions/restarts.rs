//! Every node at once.

use anyhow::Result;
use hot_tests::alone;

use crate::rig::{NODES, Rig, WHOLE, good};

/// The power fails for all nodes in the first step of a rollout, and comes back.
#[test]
fn of_every_node_at_once() -> Result<()> {
    alone(|| {
        let mut rig = Rig::start("")?;
        rig.push_first_step(0, &good("1.1.0"), "5s")?;
        for node in 0..NODES {
            rig.fleet.node(node).power_off()?;
        }
        rig.allow(WHOLE);
        for node in 0..NODES {
            rig.fleet.node(node).power_on()?;
        }
        rig.said(0, "an end", |module| ["done", "rolled_back"].contains(&module.phase.as_str()))?;
        rig.lose_nothing(100)?;
        rig.push(1, &good("1.2.0"), &["--steps", "20%,100%", "--bake", "2s", "--detach"])?.expect(0)?;
        rig.allow(WHOLE);
        rig.phase(1, "done")?;
        rig.all_serve("1.2.0")?;
        rig.takes_back(2, "1.3.0", "1.2.0")?;
        rig.end(&(0..NODES).collect::<Vec<_>>())
    })
}
