//! Which bucket a route has here: lanes for unknown routes, buckets made by hint or by an answer's
//! name, routes that move from one to another or are split off, and the sweep that forgets.

use super::{NONE, PRESSURE_BATCH, PRESSURE_IDLE, SWEEP_BATCH, SWEEP_ROUND, Shard, says_free};
use crate::clock::Instant;
use crate::limit::ask::{BucketKey, Outputs, Permit};
use crate::limit::bucket::{Bucket, Kind};
use crate::limit::headers::Answer;
use crate::limit::learn::{self, Hint};
use std::time::Duration;

impl Shard {
    /// The bucket for a route that has none here yet.
    pub(super) fn place(
        &mut self,
        now: Instant,
        key: &BucketKey,
        hint: Option<Hint>,
        out: &mut Outputs,
    ) -> Option<u32> {
        let declared = self.settings.default_buckets.get(&key.route).copied();
        match hint {
            None if declared.is_some() => {
                let bucket = self.create(now, Kind::Fresh, out)?;
                self.buckets[bucket].widen(declared.unwrap_or(1));
                // Nothing of it can wait or be under way in the lane.
                self.point(learn::route_key(key), bucket);
                Some(bucket)
            }
            None => {
                let lane = learn::lane_key(key);
                match self.index.get(lane) {
                    Some(bucket) => Some(bucket),
                    None => {
                        let bucket = self.create(now, Kind::Lane, out)?;
                        self.buckets[bucket].route_key = lane;
                        self.index.insert(lane, bucket);
                        Some(bucket)
                    }
                }
            }
            Some(hint) => {
                let name = hint
                    .name
                    .filter(|_| !hint.alone)
                    .map(|name| learn::name_key(key, name));
                let bucket = self.named(now, name, out)?;
                let b = &mut self.buckets[bucket];
                b.set(Bucket::ALONE, hint.alone);
                b.hint(hint.kind);
                b.widen(declared.unwrap_or(1));
                // Those who came when nobody knew the route go first.
                self.redirect(key, bucket);
                self.pump_moved(now, out);
                Some(bucket)
            }
        }
    }

    /// The bucket of that name, or a new one.
    pub(super) fn named(
        &mut self,
        now: Instant,
        name: Option<u64>,
        out: &mut Outputs,
    ) -> Option<u32> {
        if let Some(bucket) = name.and_then(|name| self.index.get(name)) {
            return Some(bucket);
        }
        let bucket = self.create(now, Kind::Fresh, out)?;
        if let Some(name) = name {
            self.buckets[bucket].name_key = name;
            self.index.insert(name, bucket);
        }
        Some(bucket)
    }

    pub(super) fn create(&mut self, now: Instant, kind: Kind, out: &mut Outputs) -> Option<u32> {
        if self.buckets.len() >= self.settings.buckets_max {
            self.sweep(now, PRESSURE_BATCH, PRESSURE_IDLE);
            if self.buckets.len() >= self.settings.buckets_max {
                return None;
            }
        }
        let bucket = self.buckets.insert(Bucket::new(kind, now));
        let sweep = now + self.sweep_pause();
        self.agenda.sweep_by(sweep, out);
        Some(bucket)
    }

    /// Lets the route of `key` point to `bucket`, wherever it pointed before, and takes along those
    /// who wait for it there or in the lane.
    pub(super) fn redirect(&mut self, key: &BucketKey, bucket: u32) {
        let route = learn::route_key(key);
        let old = self.index.get(route);
        if old == Some(bucket) {
            return;
        }
        self.point(route, bucket);
        if let Some(old) = old {
            if self.buckets[old].route_key == route {
                self.buckets[old].route_key = 0;
            } else {
                self.index.drop_route(old, route);
            }
            self.buckets[old].set(Bucket::LEFT, true);
            self.move_waiters(old, key.route, bucket);
            self.hold(old, key.route, bucket);
        } else {
            self.leave_lane(key, bucket);
        }
    }

    /// The route of `key`, which was not known until now, is that of `bucket`.
    pub(super) fn leave_lane(&mut self, key: &BucketKey, bucket: u32) {
        if let Some(lane) = self.index.get(learn::lane_key(key)) {
            self.move_waiters(lane, key.route, bucket);
            self.hold(lane, key.route, bucket);
            // A request from there of which nothing was heard may have been for this bucket.
            let paused = self.buckets[lane].paused_until;
            self.buckets[bucket].pause_until(paused);
        }
    }

    /// Enters that the route of this key points to `bucket`, where it did not.
    pub(super) fn point(&mut self, route: u64, bucket: u32) {
        self.index.insert(route, bucket);
        let b = &mut self.buckets[bucket];
        if b.route_key == 0 {
            b.route_key = route;
        } else {
            b.set(Bucket::MORE_ROUTES, true);
            self.index.add_route(bucket, route);
        }
    }

    /// The bucket that an answer speaks of; its route points there from now on.
    pub(super) fn attach(
        &mut self,
        now: Instant,
        permit: &Permit,
        answer: &Answer,
        out: &mut Outputs,
    ) -> Option<u32> {
        let b = &self.buckets[permit.bucket];
        let Some(name) = answer.headers.bucket else {
            if !says_free(answer) {
                // The route may point elsewhere by now, and those behind it wait there.
                let current = self.index.get(learn::route_key(&permit.key));
                return current.or_else(|| (b.kind() != Kind::Lane).then_some(permit.bucket));
            }
            if b.kind() != Kind::Lane {
                self.buckets[permit.bucket].unnamed();
                return Some(permit.bucket);
            }
            let bucket = match self.index.get(learn::route_key(&permit.key)) {
                Some(bucket) => bucket,
                None => self.create(now, Kind::Fresh, out)?,
            };
            self.buckets[bucket].unnamed();
            self.redirect(&permit.key, bucket);
            return Some(bucket);
        };
        let name = learn::name_key(&permit.key, name);
        let own = b.name_key == name && b.kind() != Kind::Lane || b.is(Bucket::ALONE);
        if own && !b.is(Bucket::LEFT) {
            return Some(permit.bucket);
        }
        let current = self.index.get(learn::route_key(&permit.key));
        if let Some(alone) = current.filter(|&current| self.buckets[current].is(Bucket::ALONE)) {
            return Some(alone);
        }
        if self.adopts(permit, name) {
            self.buckets[permit.bucket].name_key = name;
            self.index.insert(name, permit.bucket);
            return Some(permit.bucket);
        }
        let there = self.index.get(name);
        let bucket = self.named(now, Some(name), out)?;
        self.redirect(&permit.key, bucket);
        if self.buckets[permit.bucket].kind() == Kind::Lane {
            let shared = there.is_some() && there != current;
            self.meet(permit.bucket, name, shared);
        }
        Some(bucket)
    }

    /// Whether the bucket of `permit`, which was made for its route alone and has no name yet, is the
    /// first of that name: what is under way from it can stay.
    fn adopts(&self, permit: &Permit, name: u64) -> bool {
        let b = &self.buckets[permit.bucket];
        let fresh = matches!(b.kind(), Kind::Fresh | Kind::Free) && b.name_key == 0;
        fresh && !b.is(Bucket::LEFT) && self.index.get(name).is_none()
    }

    /// Moves those that wait for `route` from one bucket to another, in order.
    pub(super) fn move_waiters(&mut self, from: u32, route: u64, to: u32) {
        let source = self.buckets[from].active;
        if source == NONE || to == from {
            return;
        }
        self.moved.extend([from, to]);
        let mut next = self.actives[source].queue.front();
        while let Some(node) = next {
            next = self.waiters.after(node);
            if self.waiters.get(node).permit.key.route == route {
                let target = self.activate(to);
                let (mut old, mut new) = (self.actives[source].queue, self.actives[target].queue);
                self.waiters.transfer(&mut old, &mut new, node);
                (self.actives[source].queue, self.actives[target].queue) = (old, new);
                let serial = u32::from(self.waiters.get(node).permit.is(Permit::SERIAL));
                self.actives[source].serials -= serial;
                self.actives[target].serials += serial;
                self.waiters.get_mut(node).active = target;
            }
        }
    }

    /// The route of `permit` counts alone: gives it a bucket of its own.
    pub(super) fn split(
        &mut self,
        now: Instant,
        from: u32,
        permit: &Permit,
        answer: &Answer,
        out: &mut Outputs,
    ) -> u32 {
        let Some(bucket) = self.create(now, Kind::Fresh, out) else {
            return from;
        };
        let kind = self.buckets[from].kind();
        self.buckets[bucket].set(Bucket::ALONE, true);
        self.buckets[bucket].hint(kind);
        self.redirect(&permit.key, bucket);
        self.buckets[bucket].answer(
            now,
            permit.sent,
            permit.key.route as u32,
            &answer.headers,
            true,
        );
        bucket
    }

    pub(super) fn sweep_pause(&self) -> Duration {
        // Places, not buckets: the few that are left may stand anywhere among them.
        let rounds = self.buckets.end().div_ceil(SWEEP_BATCH).max(1);
        (SWEEP_ROUND / rounds).clamp(Duration::from_millis(25), Duration::from_secs(60))
    }

    /// Forgets idle buckets among the next `batch`.
    pub(super) fn sweep(&mut self, now: Instant, batch: u32, idle: Duration) {
        for _ in 0..batch.min(self.buckets.end()) {
            let bucket = self.agenda.sweep_next(self.buckets.end());
            let leaves = |b: &Bucket| b.is_idle(now) && b.idle_for(now) >= idle;
            if self.buckets.get(bucket).is_some_and(leaves)
                && let Some(b) = self.buckets.remove(bucket)
            {
                if b.name_key != 0 {
                    self.index.remove(b.name_key);
                }
                if b.kind() == Kind::Lane {
                    self.lanes.remove(&bucket);
                }
                if b.route_key != 0 {
                    self.index.remove(b.route_key);
                }
                if b.is(Bucket::MORE_ROUTES) {
                    self.index.drop_routes(bucket);
                }
            }
        }
    }
}
