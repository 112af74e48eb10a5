//! What can be seen of a shard's buckets.

use std::time::Duration;

use super::{Active, Shard};
use crate::clock::Instant;
use crate::limit::ask::{BucketKey, Permit};
use crate::limit::bucket::{Ahead, Slot};
use crate::limit::learn;
use crate::limit::survey::{BucketSight, Opens};

impl Shard {
    /// Buckets in which somebody waits, and all that are tracked.
    pub(in crate::limit) fn sizes(&self) -> (usize, usize) {
        (self.actives.len(), self.buckets.len())
    }

    /// Shows each bucket in which somebody waits, of the places from `from`, `batch` of them, with its
    /// identity and the key of the request in front; and where to go on.
    pub(in crate::limit) fn survey(
        &self,
        now: Instant,
        from: u32,
        batch: u32,
        mut show: impl FnMut(u64, BucketKey, BucketSight),
    ) -> Option<u32> {
        let (places, next) = self.actives.bite(from, batch);
        for active in places.filter_map(|place| self.actives.get(place)) {
            if let Some(front) = active.queue.front() {
                let permit = &self.waiters.get(front).permit;
                let serial = permit.is(Permit::SERIAL);
                show(
                    active.identity,
                    permit.key,
                    self.sight(now, active.bucket, serial, Some(active)),
                );
            }
        }
        next
    }

    /// What can be seen of the bucket that requests of this key fall into.
    pub(in crate::limit) fn sight_of(&self, now: Instant, key: &BucketKey) -> Option<BucketSight> {
        let bucket = self.index.get(learn::route_key(key))?;
        let active = self.actives.get(self.buckets[bucket].active);
        Some(self.sight(now, bucket, false, active))
    }

    fn sight(
        &self,
        now: Instant,
        bucket: u32,
        serial: bool,
        active: Option<&Active>,
    ) -> BucketSight {
        let b = &self.buckets[bucket];
        let waiting = active.map_or(0, |active| active.queue.len());
        let last = active.filter(|_| waiting > 0).map(|active| {
            // Whether the last one is serial takes a walk to find out; most wait with their like.
            let serial = active.serials > 0;
            let ahead = Ahead {
                waiting: waiting - 1,
                serial: active.serials.saturating_sub(u32::from(serial)),
            };
            self.predict(now, bucket, ahead, serial)
        });
        BucketSight {
            slots: b.slots(now),
            reading: b.reading(),
            under_way: b.in_flight(),
            waiting,
            opens: match self.may_go(now, bucket, serial) {
                Ok(()) | Err(Slot::Now) => Opens::In(Duration::ZERO),
                Err(Slot::At(at)) => Opens::In(at.saturating_duration_since(now)),
                Err(Slot::AfterAnswer) => Opens::AfterAnswer,
            },
            last_in: last.unwrap_or_default(),
            paused: b.paused_until > now,
        }
    }
}
