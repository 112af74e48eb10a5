//! When a request that has to wait would go, for refusals that come at once and tell the truth.
//!
//! Known are the bucket's slots, who waits, and how long answers take. Not known are answers that
//! change the limits, clients that leave, and the next requests; nobody behind delays one before.

use super::{Bucket, Kind, wall_ms};
use crate::clock::Instant;
use crate::limit::pressure::Pressure;
use std::time::Duration;

/// Who stands before a request.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::limit) struct Ahead {
    /// Requests that wait.
    pub(in crate::limit) waiting: u32,
    /// Those of them that go one at a time.
    pub(in crate::limit) serial: u32,
}

/// A round trip of which nothing is known: a new connection to the next data centre.
const TRIP_UNKNOWN: Duration = Duration::from_millis(100);

impl Bucket {
    /// How long a request behind `ahead` would wait. `lane_width`: as for `slot`; `trip`: what
    /// answers take elsewhere, for a bucket that had none.
    pub(in crate::limit) fn predicted_wait(
        &self,
        now: Instant,
        ahead: Ahead,
        serial: bool,
        lane_width: u16,
        trip: Option<Duration>,
    ) -> Duration {
        let from = now.max(self.paused_until);
        let pause = from.saturating_duration_since(now);
        let trip = self.offset.trip().or(trip).unwrap_or(TRIP_UNKNOWN);
        let age = Duration::from_millis(u64::from(wall_ms(from).wrapping_sub(self.used_ms)));
        let under_way = if self.in_flight > 0 {
            trip.saturating_sub(age)
        } else {
            Duration::ZERO
        };
        let one_by_one = self.one_by_one(ahead, serial, trip, under_way);
        let before = u64::from(ahead.waiting) + u64::from(self.in_flight);
        let slots = match self.kind {
            Kind::Free => Duration::ZERO,
            Kind::Lane => rounds(before, lane_width, trip, under_way),
            // The first answers tell how many may follow; their number is not known before.
            Kind::Fresh if before < u64::from(self.limit) => Duration::ZERO,
            Kind::Fresh => under_way.max(rounds(u64::from(ahead.waiting), self.limit, trip, trip)),
            Kind::Sliding => self.sliding_wait(from, ahead.waiting, trip, under_way),
            Kind::Careful | Kind::Fixed => self.fixed_wait(from, ahead, serial, trip, under_way),
        };
        pause + slots.max(one_by_one)
    }

    /// What those that wait mean for others of their identity.
    pub(in crate::limit) fn pressure(
        &self,
        now: Instant,
        ahead: Ahead,
        lane_width: u16,
        trip: Option<Duration>,
    ) -> Pressure {
        let trip = self.offset.trip().or(trip).unwrap_or(TRIP_UNKNOWN);
        let slot = Duration::from_micros(u64::from(self.slot_us));
        let left = self.reset.saturating_duration_since(now);
        let used = self.in_flight.saturating_add(self.lost);
        let (free, slots, period) = match self.kind {
            Kind::Free if ahead.serial > 0 => (1, 1, trip),
            Kind::Free => (u16::MAX, 1, trip),
            Kind::Lane => (1, lane_width, trip),
            Kind::Fresh => (1, self.limit, trip),
            Kind::Sliding if !slot.is_zero() => {
                let leaking = left.as_nanos().div_ceil(slot.as_nanos());
                let leaking = u16::try_from(leaking).unwrap_or(u16::MAX);
                let level = leaking.saturating_add(self.in_flight);
                let free = self.limit.saturating_sub(level);
                (free, 1, slot)
            }
            Kind::Sliding | Kind::Careful | Kind::Fixed => {
                let free = if left.is_zero() {
                    self.limit
                } else {
                    self.remaining
                };
                let window = Duration::from_millis(u64::from(self.window_ms));
                (free.saturating_sub(used), self.limit, window)
            }
        };
        let one_by_one = ahead.serial > 0 && trip > period / u32::from(slots.max(1));
        let (slots, period) = if one_by_one {
            (1, trip)
        } else {
            (slots, period)
        };
        Pressure::new(ahead.waiting, u32::from(free), slots, period)
    }

    /// Requests that change something wait for each other's answers.
    fn one_by_one(
        &self,
        ahead: Ahead,
        serial: bool,
        trip: Duration,
        under_way: Duration,
    ) -> Duration {
        let busy = if self.is(Self::SERIAL) {
            under_way
        } else {
            Duration::ZERO
        };
        match (serial, ahead.serial) {
            (true, before) => busy + trip.saturating_mul(before),
            (false, 0) => Duration::ZERO,
            (false, before) => busy + trip.saturating_mul(before - 1),
        }
    }

    fn sliding_wait(
        &self,
        from: Instant,
        waiting: u32,
        trip: Duration,
        under_way: Duration,
    ) -> Duration {
        let mut slot = Duration::from_micros(u64::from(self.slot_us));
        if self.limit == 1 {
            // Each slot begins only when the one before was counted.
            slot += self.offset.lateness(1);
        }
        let full = slot.saturating_mul(self.limit.into());
        // All that is under way had a slot: what would overfill the bucket is in `reset` already, its
        // answers come later than one that was counted after it.
        let level =
            self.reset.saturating_duration_since(from) + slot.saturating_mul(self.in_flight.into());
        let behind = slot.saturating_mul(waiting.saturating_add(1));
        let leaked = level.min(full).saturating_add(behind).saturating_sub(full);
        let before = u64::from(waiting) + u64::from(self.in_flight);
        // No more than the limit are ever under way.
        leaked.max(rounds(before, self.limit, trip, under_way))
    }

    fn fixed_wait(
        &self,
        from: Instant,
        ahead: Ahead,
        serial: bool,
        trip: Duration,
        under_way: Duration,
    ) -> Duration {
        let limit = u64::from(self.limit.max(1));
        // After a refusal that told nothing else, one request goes, and its answer tells of a window
        // that it opened: nobody else's use is known that lasts longer.
        let asks = self.is(Self::GUESSED) && self.lost == 0;
        let left = if asks {
            Duration::ZERO
        } else {
            self.reset.saturating_duration_since(from)
        };
        let promised = if left.is_zero() {
            limit
        } else {
            u64::from(self.remaining)
        };
        // All that is under way had a slot: what goes beyond `Remaining` is in it already.
        let used = (u64::from(self.in_flight) + u64::from(self.lost)).min(promised);
        let n = u64::from(ahead.waiting) + used;
        let Some(beyond) = n.checked_sub(promised) else {
            return match (asks, n, self.in_flight) {
                (false, ..) | (true, 0, _) => Duration::ZERO,
                (true, _, 0) => trip,
                (true, ..) => under_way,
            };
        };
        let together = if serial { 1 } else { self.limit };
        let window =
            Duration::from_millis(u64::from(self.window_ms)) + self.offset.lateness(together);
        // A window begins when its first request is counted, half a trip after it went.
        let first = if left.is_zero() {
            let age = u64::from(wall_ms(from).wrapping_sub(self.used_ms));
            let begun = if self.in_flight > 0 { age } else { 0 };
            (window + trip / 2).saturating_sub(Duration::from_millis(begun))
        } else {
            left
        };
        let windows = u32::try_from(beyond / limit).unwrap_or(u32::MAX);
        let place = if serial { (beyond % limit) as u32 } else { 0 };
        first
            .saturating_add(window.saturating_mul(windows))
            .saturating_add(trip.saturating_mul(place))
    }
}

/// The wait behind `before` requests of which `width` are under way at a time; those that are now
/// end after `under_way`.
fn rounds(before: u64, width: u16, trip: Duration, under_way: Duration) -> Duration {
    match u32::try_from(before / u64::from(width.max(1))).unwrap_or(u32::MAX) {
        0 => Duration::ZERO,
        rounds => under_way.saturating_add(trip.saturating_mul(rounds - 1)),
    }
}
