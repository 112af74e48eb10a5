//! What other nodes have told of lately, and with whom there was care: neither is doubted again so soon.
//!
//! A node that gets slots is careful with them, unless their owner has told it what it knows of them;
//! often that comes before the word that the slots are this node's now.

use std::time::Duration;

use ahash::AHashMap;

use crate::clock::Instant;
use crate::limit::{BucketKey, Latches, Limiter, route_key};
use crate::route::slot::SlotSet;

/// What was told of a slot so lately is not doubted.
const TOLD_FOR: Duration = Duration::from_secs(2);

/// Identities of other nodes', and their buckets, that there was care with lately. Past them all are
/// forgotten, and there is care with them again: as many as come here in two seconds of a busy node.
const CARED_MAX: usize = 16_384;

/// What may be otherwise than it is known here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Care {
    /// How much of the identity's window is used.
    pub identity: bool,
    /// How full the request's bucket is.
    pub bucket: bool,
}

impl Care {
    /// Takes it.
    pub fn take<L: Latches>(self, now: Instant, limiter: &Limiter<L>, key: &BucketKey) {
        if self.identity {
            limiter.be_careful_of(now, key.identity);
        }
        if self.bucket {
            limiter.doubt(now, key);
        }
    }
}

/// See the module's documentation.
#[derive(Default)]
pub struct Told {
    slots: SlotSet,
    until: Instant,
    /// Identities and buckets, and until when.
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

    /// What care is due with a request of another node's identity; it counts as taken.
    pub fn care(&mut self, now: Instant, key: &BucketKey) -> Care {
        if self.until > now && self.slots.holds(key.identity) {
            return Care::default();
        }
        Care {
            identity: self.is_new(now, key.identity),
            bucket: self.is_new(now, route_key(key)),
        }
    }

    fn is_new(&mut self, now: Instant, key: u64) -> bool {
        if self.cared.get(&key).is_some_and(|until| *until > now) {
            return false;
        }
        if self.cared.len() >= CARED_MAX {
            self.cared.clear();
        }
        self.cared.insert(key, now + TOLD_FOR);
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
    fn there_is_care_with_an_identity_and_each_bucket_once_in_two_seconds_unless_it_was_told_of() {
        let mut told = Told::default();
        let mut care = |ms: u64, identity: u64, major: u64| {
            let key = BucketKey {
                identity,
                major,
                route: 1,
            };
            let care = told.care(at(ms), &key);
            (care.identity, care.bucket)
        };
        assert_eq!(care(1, 8 << 32, 1), (true, true));
        assert_eq!(care(1_000, 8 << 32, 1), (false, false));
        assert_eq!(care(1_000, 8 << 32, 2), (false, true), "another bucket");
        assert_eq!(care(1_000, 8 << 32 | 1, 1), (true, true));
        assert_eq!(care(2_001, 8 << 32, 2), (true, false));
        told.tell(at(3_000), &[8, 9].into_iter().collect());
        told.forget(&[9].into_iter().collect());
        let mut care = |ms: u64, identity: u64| {
            let key = BucketKey {
                identity,
                major: 7,
                route: 1,
            };
            told.care(at(ms), &key)
        };
        assert_eq!(care(4_999, 8 << 32), Care::default());
        assert!(care(4_999, 9 << 32).bucket, "it was lost since");
        assert!(care(5_000, 8 << 32).bucket);
        for identity in 0..3 * CARED_MAX as u64 {
            care(9_000, identity);
        }
        assert!(told.cared.len() <= CARED_MAX);
    }
}
