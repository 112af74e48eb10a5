//! Between a permit and the departure of its request: the global slot is held.
//!
//! Each step pumps: holding a slot looks at the window at a new time, and a departure is what those
//! wait for who found nothing but held slots.

use super::{Identities, Identity};
use crate::clock::Instant;
use crate::limit::ask::{Outputs, Permit};

impl Identities {
    /// The permit's request cannot be sent yet. `before`: it was sent once, and will be again.
    pub(in crate::limit) fn delayed(
        &mut self,
        now: Instant,
        permit: &mut Permit,
        before: bool,
        out: &mut Outputs,
    ) {
        let window = &mut self.arena[permit.identity].window;
        if window.hold(now, permit.global_tick, before) {
            permit.flags |= Permit::HELD;
        }
        self.pump(now, permit.identity, out);
    }

    /// The permit's request is sent now, later than its slot was given out for.
    pub(in crate::limit) fn departed(
        &mut self,
        now: Instant,
        permit: &mut Permit,
        out: &mut Outputs,
    ) {
        let window = &mut self.arena[permit.identity].window;
        if permit.is(Permit::HELD) || window.hold(now, permit.global_tick, false) {
            permit.global_tick = window.depart(now);
            permit.flags &= !Permit::HELD;
        }
        self.pump(now, permit.identity, out);
    }
}

impl Identity {
    /// The slot of a permit that comes back. If it is still held, its request may be on its way all
    /// the same, as an upload is that breaks off: it departed now at the latest.
    pub(super) fn slot(&mut self, now: Instant, permit: &Permit) -> u32 {
        if permit.is(Permit::HELD) {
            self.window.depart(now)
        } else {
            permit.global_tick
        }
    }
}
