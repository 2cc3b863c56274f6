//! What runs although its signer counts no more, or is kept although it failed.

use std::collections::BTreeMap;
use std::sync::Arc;

use hot_artifact::trust::Trust;
use hot_rollout::{Cause, Module, ReleaseNumber, Weight};

use super::Agent;
use super::slot::Slot;

impl Agent {
    /// Takes back the candidate, and lets the standby go, where whoever signed it may not any more; the standby also where
    /// it failed as stable and is quarantined since. Stable is left alone: it serves until it is to be loaded again,
    /// because without it nothing would.
    pub(super) fn review(&self, slots: &mut BTreeMap<Module, Slot>, module: &Module, trust: &Arc<Trust>) {
        let Some(slot) = slots.get_mut(module) else { return };
        let refused = |release: ReleaseNumber| {
            let error = self.shared.parts.ledger.still_signed(module, release, trust).err()?;
            Some(Cause::Refused { text: error.to_string() })
        };
        // One that still serves, until stable is ready, is as good as stable.
        let standby = slot.orders.standby().filter(|release| slot.weight(*release) == Weight::ZERO);
        let failed = |release| {
            let text = self.shared.parts.ledger.quarantined(module, release)?;
            Some(Cause::Refused { text })
        };
        let standby =
            standby.and_then(|release| Some((release, refused(release).or_else(|| failed(release))?)));
        let candidate = slot.orders.candidate().and_then(refused);
        if let Some((release, cause)) = standby {
            slot.orders.dismiss_standby();
            let text = format!("release {release} of {module} is no instant way back any more: it {cause}");
            self.tell("standby.dismissed", module, text);
            self.reconcile(slots, module);
            self.keep_later(module);
            self.shared.note_change();
        }
        if let Some(cause) = candidate {
            self.take_back(slots, module, cause);
            self.shared.note_change();
        }
    }
}
