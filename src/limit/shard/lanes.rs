//! Lanes: the unknown routes of an identity and major, and the buckets they may turn out to fall into.
//!
//! A request of a lane may be counted by any bucket that its answers have named so far, its suspects.
//! So it takes a slot in each of them that has one, and gives all back with its answer. It waits for
//! those that have none only if another route has fallen into them before: that a bucket is shared is
//! learned by one 429 at most, and a bucket that is not shared lets nobody wait.

use super::{NONE, Shard};
use crate::clock::Instant;
use crate::limit::ask::Permit;
use crate::limit::bucket::{Kind, Slot};
use smallvec::SmallVec;

/// Buckets that a lane suspects at a time: a channel has about a dozen, and each costs a lookup when
/// an unknown route goes.
const SUSPECTS_MAX: usize = 16;

struct Suspect {
    name_key: u64,
    /// More than one route fell into it.
    shared: bool,
}

/// What a lane's requests may fall into, learned longest ago first.
#[derive(Default)]
pub(super) struct Suspects {
    list: SmallVec<[Suspect; 4]>,
}

impl Suspects {
    /// All of them, to be written down.
    pub(super) fn keep(&self) -> Vec<(u64, bool)> {
        self.list.iter().map(|s| (s.name_key, s.shared)).collect()
    }

    /// Their names.
    pub(super) fn names(&self) -> impl Iterator<Item = u64> {
        self.list.iter().map(|s| s.name_key)
    }

    fn meet(&mut self, name_key: u64, shared: bool) {
        if let Some(suspect) = self.list.iter_mut().find(|s| s.name_key == name_key) {
            suspect.shared |= shared;
            return;
        }
        if self.list.len() >= SUSPECTS_MAX {
            let harmless = self.list.iter().position(|s| !s.shared);
            self.list.remove(harmless.unwrap_or(0));
        }
        self.list.push(Suspect { name_key, shared });
    }
}

/// The buckets in which a permit of a lane holds a slot.
pub(super) type Held = SmallVec<[u32; 4]>;

impl Shard {
    /// An answer to a request of `lane` named a bucket; `shared`: other routes fell into it before.
    pub(super) fn meet(&mut self, lane: u32, name_key: u64, shared: bool) {
        self.lanes.entry(lane).or_default().meet(name_key, shared);
    }

    /// Whether the suspects of `lane` let its next request go.
    pub(super) fn suspects_allow(&self, now: Instant, lane: u32) -> Result<(), Slot> {
        let shared = self.suspects(lane).filter(|suspect| suspect.1);
        let mut latest = None;
        for (bucket, _) in shared {
            match self.buckets[bucket].slot(now, 1) {
                Slot::Now => {}
                Slot::At(at) => latest = latest.max(Some(at)),
                // Its answer makes the lane ask again.
                Slot::AfterAnswer => return Err(Slot::AfterAnswer),
            }
        }
        latest.map_or(Ok(()), |at| Err(Slot::At(at)))
    }

    /// Whether the shared suspects still have a slot for `permit`, which went from a lane; so has
    /// every other permit.
    pub(super) fn suspects_spare(&self, now: Instant, permit: &Permit) -> bool {
        if self.buckets[permit.bucket].kind() != Kind::Lane {
            return true;
        }
        let held = self.held.get(permit.suspects);
        let mut shared = self.suspects(permit.bucket).filter(|suspect| suspect.1);
        shared.all(|(bucket, _)| {
            let holds = held.is_some_and(|held| held.contains(&bucket));
            let b = &self.buckets[bucket];
            let slot = if holds {
                b.slot_of_one(now, 1)
            } else {
                b.slot(now, 1)
            };
            slot == Slot::Now
        })
    }

    /// Takes a slot in each suspect of `lane` that has one, for `permit`.
    pub(super) fn take_suspects(&mut self, now: Instant, lane: u32, permit: &mut Permit) {
        let has_slot = |&(bucket, _): &(u32, bool)| self.buckets[bucket].slot(now, 1) == Slot::Now;
        let held: Held = self.suspects(lane).filter(has_slot).map(|s| s.0).collect();
        if held.is_empty() {
            return;
        }
        for &bucket in &held {
            self.buckets[bucket].take(now, false);
        }
        permit.suspects = self.held.insert(held);
    }

    /// Gives back the slots that a permit holds in suspects, and says where.
    pub(super) fn release_suspects(&mut self, now: Instant, permit: &Permit) -> Held {
        if permit.suspects == NONE {
            return Held::new();
        }
        let held = self.held.remove(permit.suspects).unwrap_or_default();
        for &bucket in &held {
            self.buckets[bucket].release(now, false);
        }
        held
    }

    fn suspects(&self, lane: u32) -> impl Iterator<Item = (u32, bool)> {
        let list = self.lanes.get(&lane).map(|suspects| &suspects.list);
        let all = list.into_iter().flatten();
        all.filter_map(|s| Some((self.index.get(s.name_key)?, s.shared)))
    }

    #[cfg(any(debug_assertions, test))]
    pub(super) fn waits_for_suspect(&self, lane: u32) -> bool {
        self.suspects(lane).any(|(bucket, _)| {
            let suspect = &self.buckets[bucket];
            suspect.in_flight() > 0 || suspect.is(crate::limit::bucket::Bucket::HELD)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_suspects_a_bounded_number_and_shared_buckets_longest() {
        let mut suspects = Suspects::default();
        for name in 1..100 {
            suspects.meet(name, name <= 5);
        }
        assert_eq!(suspects.list.len(), SUSPECTS_MAX);
        let shared = suspects.list.iter().filter(|s| s.shared);
        assert_eq!(
            shared.map(|s| s.name_key).collect::<Vec<_>>(),
            [1, 2, 3, 4, 5]
        );
        assert!(suspects.list.iter().any(|s| s.name_key == 99));
    }
}
