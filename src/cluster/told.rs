//! What other nodes have told of lately, and with whom there was care: neither is doubted again so soon.
//!
//! A node that gets slots is careful with them, unless their owner has told it what it knows of them;
//! often that comes before the word that the slots are this node's now.

use std::time::Duration;

use ahash::AHashMap;

use crate::clock::Instant;
use crate::route::slot::SlotSet;

/// What was told of a slot so lately is not doubted.
const TOLD_FOR: Duration = Duration::from_secs(2);

/// Identities of other nodes' that there was care with lately. Past them all are forgotten, and there
/// is care with them again.
const CARED_MAX: usize = 4_096;

/// See the module's documentation.
#[derive(Default)]
pub struct Told {
    slots: SlotSet,
    until: Instant,
    /// Identities, and until when.
    cared: AHashMap<u64, Instant>,
}

impl Told {
    /// Another node has told what it knows of these slots.
    pub fn tell(&mut self, now: Instant, slots: &SlotSet) {
        if self.until <= now {
            self.slots = SlotSet::EMPTY;
        }
        self.slots.add_all(slots);
        self.until = now + TOLD_FOR;
    }

    /// These slots are others' now: what was told of them before says nothing of what those let go.
    pub fn forget(&mut self, slots: &SlotSet) {
        self.slots.remove_all(slots);
    }

    /// Takes those that were told of lately out of `slots`.
    pub fn spare(&self, now: Instant, slots: &mut SlotSet) {
        if self.until > now {
            slots.remove_all(&self.slots);
        }
    }

    /// Whether care is due with an identity of another node's; it counts as taken.
    pub fn needs_care(&mut self, now: Instant, identity: u64) -> bool {
        if self.until > now && self.slots.holds(identity) {
            return false;
        }
        if self.cared.get(&identity).is_some_and(|until| *until > now) {
            return false;
        }
        if self.cared.len() >= CARED_MAX {
            self.cared.clear();
        }
        self.cared.insert(identity, now + TOLD_FOR);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn what_was_told_of_is_not_doubted_for_two_seconds() {
        let (mut told, slots) = (Told::default(), [1, 2].into_iter().collect());
        told.tell(at(0), &slots);
        told.tell(at(1_000), &[3].into_iter().collect());
        let doubted = |ms| {
            let mut slots: SlotSet = (0..5).collect();
            told.spare(at(ms), &mut slots);
            slots
        };
        assert_eq!(doubted(2_999), [0, 4].into_iter().collect());
        assert_eq!(doubted(3_000).len(), 5);
        told.tell(at(3_000), &[4].into_iter().collect());
        let mut slots: SlotSet = (0..5).collect();
        told.spare(at(3_001), &mut slots);
        assert_eq!(slots.len(), 4, "what was told of long ago is forgotten");
    }

    #[test]
    fn there_is_care_with_an_identity_once_in_two_seconds_unless_it_was_told_of() {
        let mut told = Told::default();
        told.tell(at(0), &[7].into_iter().collect());
        assert!(!told.needs_care(at(1), 7 << 32));
        told.tell(at(0), &[9].into_iter().collect());
        told.forget(&[9].into_iter().collect());
        assert!(told.needs_care(at(1), 9 << 32), "it was lost since");
        assert!(told.needs_care(at(1), 8 << 32));
        assert!(!told.needs_care(at(2_000), 8 << 32));
        assert!(told.needs_care(at(2_001), 8 << 32 | 1));
        assert!(told.needs_care(at(2_001), 8 << 32));
        assert!(told.needs_care(at(2_001), 7 << 32));
        for identity in 0..3 * CARED_MAX as u64 {
            told.needs_care(at(5_000), identity);
            assert!(told.cared.len() <= CARED_MAX);
        }
    }
}
