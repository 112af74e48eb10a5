//! What an answer teaches a bucket: its new state, its kind, the length of its slots, and whether
//! the route that was answered belongs here at all.

use super::{Bucket, Kind, ROUNDING_US, TICK_BITS, WINDOW_END_MS, since, tick, wall_ms};
use crate::clock::Instant;
use crate::limit::headers::RateLimitHeaders;
use std::time::Duration;

/// Two `Reset` values of one fixed window differ by no more (observed by hikari).
const SAME_RESET_MS: i32 = 50;

/// What an answer showed beyond the bucket's new state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::limit) enum Learned {
    Nothing,
    /// The route that was just answered does not share this bucket's counter.
    CountsAlone,
}

/// An answer beside what was known when it came.
struct Seen {
    /// Its request was sent after the newest answer had come.
    newer: bool,
    /// How much later its `Reset` is than the newest answer's, milliseconds.
    moved: i32,
    /// How long the newest answer's window still ran when it was counted, milliseconds.
    old_window_left: i32,
    /// The newest answer was for the same route.
    own_route: bool,
    remaining: u16,
    /// It took a slot.
    counted: bool,
}

impl Bucket {
    /// Takes in the headers of an answer to a request sent at `sent` (already released). `counted`:
    /// it was not a 429, so it took a slot.
    pub(in crate::limit) fn answer(
        &mut self,
        now: Instant,
        sent: Instant,
        route: u32,
        headers: &RateLimitHeaders,
        counted: bool,
    ) -> Learned {
        self.touch(now);
        let (Some(limit), Some(remaining), Some(reset_after)) =
            (headers.limit, headers.remaining, headers.reset_after)
        else {
            self.count_lost(now);
            return Learned::Nothing;
        };
        self.offset.timed(now.saturating_duration_since(sent));
        let known = matches!(self.kind, Kind::Careful | Kind::Fixed | Kind::Sliding);
        let told = limit;
        let limit = self.believed(told, known);
        let believed = limit == told;
        let remaining = remaining.min(limit);
        let ticks = since(tick(now), self.newest).max(0) as u64;
        let idle = Duration::from_nanos(ticks << TICK_BITS);
        let mut reset = now + reset_after + Duration::from_micros(ROUNDING_US);
        let fine = !headers.whole_seconds;
        let reset_ms = headers
            .reset_ms
            .filter(|&ms| fine && ms > reset_after.as_millis() as u64);
        let mut same_clock = fine;
        if let Some(ms) = reset_ms {
            let counted_ms = ms - reset_after.as_millis() as u64;
            same_clock = self.offset.sample(counted_ms, sent, now, idle);
            reset = self.offset.aim(ms).map_or(reset, |aimed| aimed.min(reset));
        }
        // A server that gives no clock is read by ours.
        let server_reset = reset_ms.map_or_else(|| wall_ms(reset), |ms| ms as u32);
        let counted_at = server_reset.wrapping_sub(reset_after.as_millis() as u32);

        let same_limit = known && limit == self.limit;
        let comparable = same_limit && same_clock && believed;
        let seen = Seen {
            newer: !known && self.lost == 0 || since(tick(sent), self.newest) >= 0,
            moved: since(server_reset, self.reset_server_ms),
            old_window_left: if comparable {
                since(self.reset_server_ms, counted_at)
            } else {
                0
            },
            own_route: route == self.newest_route,
            remaining,
            counted,
        };
        if !same_limit && known {
            self.slot_us = 0;
            self.window_ms = 0;
        }
        if self.counts_alone(&seen) {
            return Learned::CountsAlone;
        }
        self.tell_apart(&seen, limit, reset_after);
        if comparable && !seen.newer && seen.moved < -SAME_RESET_MS {
            return Learned::Nothing;
        }
        if fine && believed {
            self.learn_slot(limit - remaining, reset_after);
        }
        self.window_ms = self.window_ms.max(reset_after.as_millis() as u32);
        let same_window = comparable && seen.moved.abs() <= SAME_RESET_MS;
        let order_unknown = !seen.newer && (same_window || same_limit && !same_clock);
        let doubtful = !believed && self.reset > now;
        if seen.newer {
            self.lost = 0;
        } else if self.lost > 0 && self.kind != Kind::Fixed {
            // What was lost may have been counted after this one.
            let slot = Duration::from_micros(u64::from(self.slot_us) + ROUNDING_US);
            reset = self.reset.max(reset + slot * u32::from(self.lost));
        }
        if seen.old_window_left > 0 && !seen.own_route || order_unknown || doubtful {
            // Two routes may yet turn out to count alone: until then the least of both holds, as it
            // does of an answer whose limit is not believed.
            self.remaining = self.remaining.min(remaining);
            self.reset = self.reset.max(reset);
        } else {
            self.remaining = remaining;
            self.reset = reset;
        }
        if !(same_window && self.kind == Kind::Careful) {
            // While undecided, the first `Reset` of the window stays: small steps add up to proof.
            self.reset_server_ms = server_reset;
        }
        self.limit = limit;
        self.set(Self::GUESSED, false);
        self.newest = tick(now);
        self.newest_route = route;
        if !known {
            self.kind = self.hinted;
        }
        Learned::Nothing
    }

    /// The limit, as one answer tells it: a lower one holds at once, a higher one when it was told twice
    /// in a row, for values that make no sense do occur.
    fn believed(&mut self, told: u16, known: bool) -> u16 {
        let rises = known && told > self.limit;
        let doubtful = rises && !self.is(Self::RISING);
        self.set(Self::RISING, doubtful);
        if doubtful { self.limit } else { told }
    }

    /// Takes in a 429 of the bucket itself, which asks for a pause of `wait` (already released). It
    /// took no slot.
    pub(in crate::limit) fn refused(
        &mut self,
        now: Instant,
        sent: Instant,
        route: u32,
        headers: &RateLimitHeaders,
        wait: Duration,
    ) {
        let was_fixed = self.kind == Kind::Fixed;
        let told = headers.limit.is_some() && headers.remaining.is_some();
        let reset_after = headers.reset_after.filter(|_| told);
        let known = matches!(self.kind, Kind::Careful | Kind::Fixed | Kind::Sliding);
        let until = now + wait;
        if reset_after.is_some() || !known {
            self.answer(now, sent, route, headers, false);
        } else {
            // One slot is there after the pause; its request's answer tells of the others.
            self.touch(now);
            let window = Duration::from_millis(u64::from(self.window_ms));
            self.remaining = 1;
            self.lost = 0;
            self.reset = self.reset.max(until + window);
            self.newest = tick(now);
            self.set(Self::GUESSED, true);
        }
        let half = Duration::from_micros(u64::from(self.slot_us / 2) + ROUNDING_US);
        let fine = reset_after.filter(|_| !headers.whole_seconds);
        self.distrust(fine.is_some_and(|after| wait + half <= after));
        // A hidden limit may say any wait; the next slot of a full bucket is at most one slot away.
        let slots = u32::from(self.limit.max(1));
        let next = fine.is_some_and(|after| {
            wait <= after / slots + Duration::from_micros(ROUNDING_US) && slots > 1
        });
        if next && self.kind == Kind::Careful && self.hinted != Kind::Fixed && !was_fixed {
            self.kind = Kind::Sliding;
        }
        self.pause(now, wait);
    }

    /// Whether an answer proves that its route has a counter of its own. In a shared one, `Reset`
    /// would have moved by a slot at least (sliding), or `Remaining` fallen and `Reset` stayed (fixed).
    fn counts_alone(&self, seen: &Seen) -> bool {
        let proves = seen.counted && seen.newer && !seen.own_route && self.lost == 0;
        if !proves || seen.old_window_left <= WINDOW_END_MS {
            return false;
        }
        let slot_ms = (self.slot_us / 1000) as i32;
        let backwards = seen.moved < -SAME_RESET_MS;
        let between = seen.moved > SAME_RESET_MS && seen.moved < slot_ms - SAME_RESET_MS;
        let stays = seen.moved.abs() <= SAME_RESET_MS && slot_ms > 2 * SAME_RESET_MS;
        backwards || between || stays && seen.remaining >= self.remaining
    }

    /// Fixed or sliding? Judges an answer that was counted while the window of the newest one still
    /// ran, and for the same route: two that count alone prove nothing about each other, unless the
    /// second took exactly the next slot of the first.
    fn tell_apart(&mut self, seen: &Seen, limit: u16, reset_after: Duration) {
        if !seen.counted || seen.old_window_left <= WINDOW_END_MS {
            return;
        }
        if !seen.own_route {
            let slot_ms = (self.slot_us / 1000) as i32;
            let next = seen.newer && self.lost == 0 && seen.remaining + 1 == self.remaining;
            if next && slot_ms > 3 * SAME_RESET_MS && (seen.moved - slot_ms).abs() <= SAME_RESET_MS
            {
                self.kind = Kind::Sliding;
            }
            return;
        }
        if seen.moved > SAME_RESET_MS {
            self.kind = Kind::Sliding;
            return;
        }
        let fallen = u64::from(self.remaining.saturating_sub(seen.remaining));
        let slot_ms = reset_after.as_millis() as u64 / u64::from((limit - seen.remaining).max(1));
        if seen.moved.abs() <= SAME_RESET_MS && fallen * slot_ms > 2 * SAME_RESET_MS as u64 {
            self.kind = Kind::Fixed;
        }
    }

    /// `Reset-After` of a sliding bucket lies between `used − 1` and `used` slots.
    fn learn_slot(&mut self, used: u16, reset_after: Duration) {
        let Some(used) = std::num::NonZeroU64::new(u64::from(used)) else {
            return;
        };
        let micros = reset_after.as_micros() as u64;
        let at_least = micros.saturating_sub(ROUNDING_US) / used;
        let at_most = (micros + ROUNDING_US) / (used.get() - 1).max(1);
        if u64::from(self.slot_us) < at_least || u64::from(self.slot_us) > at_most {
            self.slot_us = u32::try_from(at_least).unwrap_or(u32::MAX);
        }
    }
}
