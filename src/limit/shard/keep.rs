//! A shard's buckets over a restart: copied a few at a time, and taken back when they are asked for.

use super::lanes::Suspects;
use super::{IDLE, Shard};
use crate::clock::Instant;
use crate::limit::ask::{Ask, BucketKey, ClientClass, Outputs, Permit};
use crate::limit::bucket::{Bucket, Kind};
use crate::limit::identity::HOLD;
use crate::limit::learn::{self, Hint};
use crate::limit::snapshot::{BucketRecord, More, Record, Times};
use crate::route::slot::SlotSet;
use smallvec::SmallVec;

/// Slots that this node got a moment ago, of which whoever had them has not told yet.
pub(super) struct Awaited {
    slots: SlotSet,
    until: Instant,
}

impl Shard {
    /// Copies what the places from `from` hold, `batch` of them; and where to go on.
    pub(in crate::limit) fn copy(
        &self,
        base: Instant,
        from: u32,
        batch: u32,
        into: &mut Vec<Record>,
    ) -> Option<u32> {
        let (places, next) = self.buckets.bite(from, batch);
        for place in places {
            let Some(b) = self.buckets.get(place) else {
                continue;
            };
            let Some(mut record) = b.keep(base) else {
                continue;
            };
            let routes = if b.is(Bucket::MORE_ROUTES) {
                self.index.more_routes(place).to_vec()
            } else {
                Vec::new()
            };
            let suspects = match b.kind() {
                Kind::Lane => self.lanes.get(&place).map_or_else(Vec::new, Suspects::keep),
                Kind::Fresh | Kind::Free | Kind::Careful | Kind::Fixed | Kind::Sliding => {
                    Vec::new()
                }
            };
            if b.kind() == Kind::Lane && suspects.is_empty() && record.paused_left_us == 0 {
                continue;
            }
            if !routes.is_empty() || !suspects.is_empty() {
                record.more = Some(Box::new(More { routes, suspects }));
            }
            into.push(Record::Bucket(record));
        }
        next
    }

    /// Adds what another node knows of a bucket to what is known here; `false` if nothing is.
    pub(in crate::limit) fn take_over(
        &mut self,
        now: Instant,
        record: &BucketRecord,
        times: Times,
    ) -> bool {
        let by_name = (record.name_key != 0)
            .then(|| self.index.get(record.name_key))
            .flatten();
        let by_route = || record.routes().find_map(|route| self.index.get(route));
        let Some(bucket) = by_name.or_else(by_route) else {
            return false;
        };
        let other_name = self.buckets[bucket].name_key;
        if by_name.is_none() && other_name != 0 && other_name != record.name_key {
            // Its route has moved on since.
            return true;
        }
        self.buckets[bucket].stricter(now, &Bucket::revive(now, record, times));
        if self.buckets[bucket].kind() == Kind::Lane && record.kind.0 == Kind::Lane {
            for &(name_key, shared) in record.suspects() {
                self.meet(bucket, name_key, shared);
            }
        }
        true
    }

    /// Somebody else may have used the buckets of these slots: of the places from `from`, `batch` of
    /// them, and where to go on.
    pub(in crate::limit) fn doubt(
        &mut self,
        now: Instant,
        slots: &SlotSet,
        from: u32,
        batch: u32,
    ) -> Option<u32> {
        if from == 0 {
            self.awaits(now, slots);
        }
        let (places, next) = self.buckets.bite(from, batch);
        for place in places {
            if let Some(b) = self.buckets.get_mut(place)
                && slots.holds(b.name_key.max(b.route_key))
            {
                b.doubt(now);
            }
        }
        next
    }

    /// Whoever had these slots tells what it knows of them within a moment.
    fn awaits(&mut self, now: Instant, slots: &SlotSet) {
        let mut slots = slots.clone();
        if let Some(before) = &self.awaited
            && before.until > now
        {
            slots.add_all(&before.slots);
        }
        let until = now + HOLD;
        self.awaited = Some(Box::new(Awaited { slots, until }));
    }

    /// A request falls into this bucket of which nobody has told yet, though somebody may: if its identity
    /// has no window that holds it, the bucket does. An interaction's first answer is due within three
    /// seconds and nearly always the only one, so that nobody has anything to tell.
    #[cold]
    pub(super) fn hold_for_word(&mut self, now: Instant, ask: &Ask, bucket: u32) {
        let Some(awaited) = &self.awaited else {
            return;
        };
        let (until, is_awaited) = (awaited.until, awaited.slots.holds(ask.key.identity));
        if until <= now {
            self.awaited = None;
        } else if is_awaited && matches!(ask.client, ClientClass::Webhook { .. }) {
            self.buckets[bucket].pause_until(until);
        }
    }

    /// Somebody else may have used the bucket that a request would fall into.
    pub(in crate::limit) fn doubt_one(&mut self, now: Instant, key: &BucketKey) {
        if let Some(bucket) = self.index.get(learn::route_key(key)) {
            self.buckets[bucket].doubt(now);
        }
    }

    /// Of a permit whose route is not known, the names that its lane suspects and of which nothing is
    /// known here; `None` if its route is known.
    pub(in crate::limit) fn unknown(&self, permit: &Permit) -> Option<SmallVec<[u64; 4]>> {
        let is_lane = self.buckets[permit.bucket].kind() == Kind::Lane;
        if !is_lane || self.index.get(learn::route_key(&permit.key)).is_some() {
            return None;
        }
        let suspects = self.lanes.get(&permit.bucket);
        let names = suspects.into_iter().flat_map(Suspects::names);
        Some(
            names
                .filter(|name| self.index.get(*name).is_none())
                .collect(),
        )
    }

    /// What was told belongs to the route of a permit of a lane: those who wait for that in the lane
    /// wait there from now on.
    pub(in crate::limit) fn is_told(
        &mut self,
        now: Instant,
        permit: &Permit,
        hint: Option<Hint>,
        told: &[(BucketRecord, Times)],
        out: &mut Outputs,
    ) {
        for (record, times) in told {
            self.adopt(now, record, *times, out);
        }
        match (self.index.get(learn::route_key(&permit.key)), hint) {
            (Some(bucket), _) => self.leave_lane(&permit.key, bucket),
            (None, Some(_)) => {
                self.place(now, &permit.key, hint, out);
            }
            (None, None) => {}
        }
        self.pump_moved(now, out);
        self.check_invariants();
    }

    /// Makes the bucket of a record, unless answers have named one since that does as well.
    pub(in crate::limit) fn adopt(
        &mut self,
        now: Instant,
        record: &BucketRecord,
        times: Times,
        out: &mut Outputs,
    ) {
        let is_lane = record.kind.0 == Kind::Lane;
        if is_lane && record.name_key != 0 {
            return;
        }
        let known = |key: u64| self.index.get(key).is_some();
        let superseded = if record.name_key == 0 {
            record.routes().any(known)
        } else {
            known(record.name_key)
        };
        if superseded || !Bucket::is_worth_keeping(now, record, times, IDLE) {
            return;
        }
        let Some(bucket) = self.create(now, Kind::Fresh, out) else {
            return;
        };
        self.buckets[bucket] = Bucket::revive(now, record, times);
        if record.name_key != 0 {
            self.buckets[bucket].name_key = record.name_key;
            self.index.insert(record.name_key, bucket);
        }
        for route in record.routes() {
            if self.index.get(route).is_none() {
                self.point(route, bucket);
            }
        }
        if is_lane {
            for &(name_key, shared) in record.suspects() {
                self.meet(bucket, name_key, shared);
            }
        }
    }
}
