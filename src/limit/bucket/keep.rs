//! A bucket over a restart: what of it is written down, and the bucket made of that.
//!
//! Whatever the old process knew the new one knows, but for the estimate of the server's clock, which
//! is tied to the monotonic one: the first answer begins it anew, and until then `Reset` is taken to
//! be where it was seen last.

use super::{Bucket, Kind, tick, wall_ms};
use crate::clock::Instant;
use crate::limit::snapshot::{BucketRecord, Code, Times, left};
use crate::limit::{LIMIT_MAX, headers};
use std::time::Duration;

/// Flags that say something of the bucket; the others are of requests under way.
const KEPT: u8 = Bucket::GUESSED | Bucket::ALONE | Bucket::BARE | Bucket::RISING;

impl Bucket {
    /// What is known at `base`. `None` if nothing is that a new bucket would not know.
    pub(in crate::limit) fn keep(&self, base: Instant) -> Option<BucketRecord> {
        let mut b = self.clone();
        // Nobody will hear their answers.
        for _ in 0..std::mem::take(&mut b.in_flight) {
            b.count_lost(base);
        }
        match b.kind {
            Kind::Fresh if b.paused_until <= base && b.lost == 0 && !b.is(Self::BARE) => {
                return None;
            }
            Kind::Lane if b.route_key == 0 => return None,
            _ if b.name_key == 0 && b.route_key == 0 => return None,
            Kind::Lane | Kind::Fresh | Kind::Free | Kind::Careful | Kind::Fixed | Kind::Sliding => {
            }
        }
        let used_ago_ms = wall_ms(base).wrapping_sub(b.used_ms) as i32;
        Some(BucketRecord {
            name_key: b.name_key,
            route_key: b.route_key,
            reset_left_us: left(base, b.reset),
            paused_left_us: left(base, b.paused_until),
            used_ago_us: used_ago_ms.max(0) as u64 * 1_000,
            slot_us: b.slot_us,
            window_ms: b.window_ms,
            reset_server_ms: b.reset_server_ms,
            newest_route: b.newest_route,
            limit: b.limit,
            remaining: b.remaining,
            lost: b.lost,
            kind: Code(b.kind),
            hinted: Code(b.hinted),
            flags: b.flags & KEPT,
            more: None,
        })
    }

    /// The bucket of a record, without its keys.
    pub(in crate::limit) fn revive(now: Instant, record: &BucketRecord, times: Times) -> Self {
        let mut b = Self::new(record.kind.0, now);
        b.reset = times.until(record.reset_left_us);
        b.paused_until = times.until(record.paused_left_us);
        b.newest = tick(now);
        b.slot_us = record.slot_us;
        b.window_ms = u32::try_from(headers::PAUSE_MAX.as_millis())
            .map_or(record.window_ms, |max| record.window_ms.min(max));
        b.reset_server_ms = record.reset_server_ms;
        b.newest_route = record.newest_route;
        b.limit = record.limit.clamp(1, LIMIT_MAX);
        b.remaining = record.remaining.min(b.limit);
        b.lost = record.lost;
        b.hinted = match record.hinted.0 {
            kind @ (Kind::Fixed | Kind::Sliding) => kind,
            Kind::Lane | Kind::Fresh | Kind::Free | Kind::Careful => Kind::Careful,
        };
        // A lane belongs to no route, so no answer is its own.
        b.flags = match b.kind {
            Kind::Lane => 0,
            Kind::Fresh | Kind::Free | Kind::Careful | Kind::Fixed | Kind::Sliding => {
                record.flags & KEPT
            }
        };
        if b.kind == Kind::Fresh || !times.complete() && b.may_have_changed(now) {
            b.ask_anew();
        }
        b
    }

    /// Whether the process that wrote it may have used slots of which nothing is written.
    pub(super) fn may_have_changed(&self, now: Instant) -> bool {
        let closed = self.reset > now && self.remaining <= self.lost;
        match self.kind {
            Kind::Careful | Kind::Fixed | Kind::Sliding => !closed,
            Kind::Lane | Kind::Fresh | Kind::Free => false,
        }
    }

    /// One request finds out how full it is; what kind it is stays known.
    pub(super) fn ask_anew(&mut self) {
        match self.kind {
            Kind::Fixed | Kind::Sliding => self.hinted = self.kind,
            Kind::Lane | Kind::Fresh | Kind::Free | Kind::Careful => {}
        }
        self.kind = Kind::Fresh;
        self.limit = 1;
        self.remaining = 1;
    }

    /// Whether a record is worth a place: something of it still runs, or it was in use not `idle` ago.
    pub(in crate::limit) fn is_worth_keeping(
        now: Instant,
        record: &BucketRecord,
        times: Times,
        idle: Duration,
    ) -> bool {
        times.rested(now, record.used_ago_us) < idle
            || times.until(record.reset_left_us) > now
            || times.until(record.paused_left_us) > now
    }
}
