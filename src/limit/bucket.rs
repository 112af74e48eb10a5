//! One bucket's state: what it may send now, and what an answer teaches about it.
//!
//! # Readings
//! Discord has two kinds of buckets (DISCORD's chapter on headers). A **fixed** window gives all its slots back at
//! `Reset`. A **sliding** one leaks: each request moves `Reset` later by one `slot`, and a request is
//! allowed while `Reset` is at most `(limit − 1) · slot` away. Until two answers have told them
//! apart, the **careful** reading holds, which is safe under both: what `Remaining` promised, then
//! nothing before `Reset`, then the full limit.
//!
//! They are told apart by proof, not by likelihood: if an answer was counted while an earlier
//! answer's window still ran, a fixed window must show the same `Reset` (± 50 ms) and a sliding one
//! must not. Answers for different routes prove little of the kind, since two routes of one name
//! may still count alone: a sliding bucket, when one took exactly the next slot of the other; and
//! that one counts alone, when they contradict both readings.
//!
//! `Reset` values of two clocks say nothing about each other: an answer whose clock is not that of
//! the answers before ([`Offset::sample`]) proves nothing, and is read by its `Reset-After`. The
//! same holds for `Reset` in whole seconds. A higher limit is believed when two answers in a row
//! told one; until then the known one holds, and the answer proves nothing.
//!
//! # Requests under way
//! An answer cannot know of requests that were counted after it. So every request that is under
//! way is taken as not yet in `Remaining`, and as possibly counted only this very moment. Both are
//! the worst case, so a slot computed here exists, in whatever order requests and answers travel.
//!
//! # Order of answers
//! An answer to a request that was sent after the newest answer had come is newer. Between others
//! `Reset` decides, then `Remaining`: the server's own order. An older answer changes nothing. Where
//! two clocks leave the order open, the least of both holds.
//!
//! # Cost
//! 88 bytes; no allocation; a decision is a handful of comparisons.

mod handover;
mod keep;
mod predict;
mod reading;
mod survey;

pub(super) use predict::Ahead;
pub(super) use reading::Learned;

use super::offset::Offset;
use crate::clock::Instant;
use std::time::Duration;

/// A window that ends sooner than this after an answer was counted proves nothing about `Reset`
/// values that come later: it may have ended meanwhile.
const WINDOW_END_MS: i32 = 100;
/// `Reset-After` is given in milliseconds; a slot computed from it may be off by one.
const ROUNDING_US: u64 = 1_000;
/// The least length that is assumed of a window that a request without an answer may have opened.
const UNKNOWN_WINDOW: Duration = Duration::from_secs(1);

/// So many answers in a row without headers show that a route which had a bucket has none any more:
/// by chance, one answer in ten without, that happens once in 10^8.
const UNNAMED_MAX: u16 = 8;

/// See [`tick`].
const TICK_BITS: u32 = 16;
/// Stands for a route where more than one is meant. One that has this number is taken for several,
/// which only costs a wait.
const SEVERAL_ROUTES: u32 = u32::MAX;

/// How a bucket's headers are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// The lane of routes whose bucket is not known yet.
    Lane,
    /// Nothing is known of how full the bucket is: one request asks, or as many as were declared.
    Fresh,
    /// The route has no limit of its own, as far as its answers told.
    Free,
    /// Fixed or sliding, not told apart yet.
    Careful,
    /// All slots return at `Reset`.
    Fixed,
    /// One slot returns after the other.
    Sliding,
}

/// When the next request may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    Now,
    /// Not before.
    At(Instant),
    /// Only an answer to a request under way can tell.
    AfterAnswer,
}

/// A bucket. Times of the wall are milliseconds modulo 2^32: a bucket lives 10 idle minutes, they
/// wrap in 49 days.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    /// Under this key the index knows the bucket by its name. 0: it has none.
    pub(super) name_key: u64,
    /// Under this key the index knows the bucket by its first route. 0: none.
    pub(super) route_key: u64,
    /// When the window ends or the bucket has leaked empty, by our clock, never too early.
    reset: Instant,
    /// No request before, whatever the slots say: a 429 asked for it.
    pub(super) paused_until: Instant,
    offset: Offset,
    /// Length of a slot if sliding, microseconds; never more than the true one, 0: not known.
    slot_us: u32,
    /// The longest `Reset-After` seen, milliseconds: the length of a fixed window, or less.
    window_ms: u32,
    /// The server's `Reset` of the newest answer.
    reset_server_ms: u32,
    /// When the newest answer was taken in, in [`tick`]s.
    newest: u32,
    /// When the bucket was last asked or answered.
    used_ms: u32,
    /// Low half of the route that the newest answer was for; in a lane, that is
    /// under way, or [`SEVERAL_ROUTES`].
    newest_route: u32,
    /// The queue of those that wait here, or `u32::MAX`.
    pub(super) active: u32,
    /// The limit; while it is not known: how many requests go together.
    limit: u16,
    /// `Remaining` of the newest answer.
    remaining: u16,
    /// Requests without an answer since that may have been counted.
    lost: u16,
    in_flight: u16,
    kind: Kind,
    /// What the bucket's kind is to be after its first answer.
    hinted: Kind,
    flags: u8,
}

fn wall_ms(at: Instant) -> u32 {
    (at.as_nanos() / 1_000_000) as u32
}

/// Time in steps of 65.5 µs, shorter than any way there and back, modulo 2^32 (78 h).
const fn tick(at: Instant) -> u32 {
    (at.as_nanos() >> TICK_BITS) as u32
}

/// `a − b` of times modulo 2^32.
const fn since(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

impl Bucket {
    pub(super) fn new(kind: Kind, now: Instant) -> Self {
        Self {
            name_key: 0,
            route_key: 0,
            reset: Instant::ZERO,
            paused_until: Instant::ZERO,
            offset: Offset::default(),
            slot_us: 0,
            window_ms: 0,
            reset_server_ms: 0,
            newest: tick(now),
            used_ms: wall_ms(now),
            newest_route: 0,
            active: u32::MAX,
            limit: 1,
            remaining: 1,
            lost: 0,
            in_flight: 0,
            kind,
            hinted: Kind::Careful,
            flags: 0,
        }
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) const fn in_flight(&self) -> u16 {
        self.in_flight
    }

    /// A request that must not be overtaken is under way.
    pub(super) const SERIAL: u8 = 1;
    /// The window was guessed: no answer tells of a request that may have opened it.
    pub(super) const GUESSED: u8 = 4;
    /// More routes than `route_key` point here; the index knows them.
    pub(super) const MORE_ROUTES: u8 = 2;
    /// Its route was seen to count alone: its bucket's name says nothing.
    pub(super) const ALONE: u8 = 8;
    /// Fresh, and one answer named no bucket: one more, and its route has none.
    pub(super) const BARE: u8 = 16;
    /// A route that pointed here points elsewhere now; answers to it may still come.
    pub(super) const LEFT: u8 = 32;
    /// The newest answer told a higher limit than the one before: believed if the next one does too.
    pub(super) const RISING: u8 = 128;
    /// Requests of a route that points here since lately are under way from where it pointed before.
    pub(super) const HELD: u8 = 64;

    pub(super) const fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) const fn set(&mut self, flag: u8, on: bool) {
        self.flags = if on {
            self.flags | flag
        } else {
            self.flags & !flag
        };
    }

    /// Nothing under way, nobody waiting, no window running and no pause: forgetting it loses
    /// nothing but its name.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.in_flight == 0
            && !self.is(Self::HELD)
            && self.active == u32::MAX
            && self.reset <= now
            && self.paused_until <= now
    }

    pub(super) fn idle_for(&self, now: Instant) -> Duration {
        Duration::from_millis(since(wall_ms(now), self.used_ms).max(0) as u64)
    }

    /// When the next request may go; `lane_width` requests of a lane go together.
    pub(super) fn slot(&self, now: Instant, lane_width: u16) -> Slot {
        if self.paused_until > now {
            return Slot::At(self.paused_until);
        }
        if self.is(Self::HELD) {
            return Slot::AfterAnswer;
        }
        let width = match self.kind {
            Kind::Free => return Slot::Now,
            Kind::Lane => lane_width,
            Kind::Fresh => self.limit,
            Kind::Careful | Kind::Fixed | Kind::Sliding if self.reset <= now => self.limit,
            Kind::Careful | Kind::Fixed | Kind::Sliding => return self.slot_in_window(now),
        };
        if self.in_flight < width {
            Slot::Now
        } else {
            Slot::AfterAnswer
        }
    }

    /// When one of those that hold a slot may go, as far as the others and what was learned since allow.
    pub(super) fn slot_of_one(&self, now: Instant, lane_width: u16) -> Slot {
        let mut others = self.clone();
        others.in_flight = others.in_flight.saturating_sub(1);
        others.slot(now, lane_width)
    }

    fn slot_in_window(&self, now: Instant) -> Slot {
        let used = self.in_flight.saturating_add(self.lost);
        if self.remaining > used {
            return Slot::Now;
        }
        if self.in_flight >= self.limit {
            return Slot::AfterAnswer;
        }
        let at = match self.kind {
            Kind::Sliding => {
                // What was lost is in `reset` already.
                let left = self.limit - self.in_flight - 1;
                let ahead = u64::from(left) * u64::from(self.slot_us) * 1000;
                Instant::from_nanos(self.reset.as_nanos().saturating_sub(ahead))
            }
            Kind::Lane | Kind::Fresh | Kind::Free | Kind::Careful | Kind::Fixed => self.reset,
        };
        if at <= now { Slot::Now } else { Slot::At(at) }
    }

    /// It is of use now.
    pub(super) fn touch(&mut self, now: Instant) {
        self.used_ms = wall_ms(now);
    }

    /// A request goes.
    pub(super) fn take(&mut self, now: Instant, serial: bool) {
        self.in_flight = self.in_flight.saturating_add(1);
        if serial {
            self.set(Self::SERIAL, true);
        }
        self.touch(now);
    }

    /// In a lane: the route that goes.
    pub(super) fn take_unknown(&mut self, route: u64) {
        let route = route as u32;
        self.newest_route = if self.in_flight == 0 || self.newest_route == route {
            route
        } else {
            SEVERAL_ROUTES
        };
    }

    /// Whether a request of `route` may be under way from here; `false` is certain.
    pub(super) fn may_have_under_way(&self, route: u64) -> bool {
        let others = self.kind == Kind::Lane
            && self.newest_route != route as u32
            && self.newest_route != SEVERAL_ROUTES;
        self.in_flight > 0 && !others
    }

    /// A request came back, one way or the other.
    pub(super) fn release(&mut self, now: Instant, serial: bool) {
        debug_assert!(self.in_flight > 0, "a permit was given back twice");
        self.in_flight = self.in_flight.saturating_sub(1);
        if serial {
            self.set(Self::SERIAL, false);
        }
        self.touch(now);
    }

    /// A request was sent, but no answer says whether it was counted (already released): it counts
    /// until an answer comes to a request that was sent later, or until the window ends.
    pub(super) fn count_lost(&mut self, now: Instant) {
        match self.kind {
            Kind::Lane | Kind::Free => return,
            Kind::Fresh => {
                self.lost = self.lost.saturating_add(1);
                self.newest = tick(now);
                return;
            }
            Kind::Careful | Kind::Fixed | Kind::Sliding => {}
        }
        if self.reset <= now {
            self.remaining = self.limit;
            self.lost = 0;
        }
        self.lost = self.lost.saturating_add(1);
        self.newest = tick(now);
        let ends_soon = self.reset <= now + Duration::from_millis(WINDOW_END_MS as u64);
        if self.kind != Kind::Fixed {
            let slot = Duration::from_micros(u64::from(self.slot_us) + ROUNDING_US);
            self.reset = self.reset.max(now) + slot;
        }
        if self.kind != Kind::Sliding && (ends_soon || self.is(Self::GUESSED)) {
            // It may have opened the next window.
            self.set(Self::GUESSED, true);
            let window = Duration::from_millis(u64::from(self.window_ms));
            self.reset = self.reset.max(now + window.max(UNKNOWN_WINDOW));
        }
    }

    /// As [`Self::count_lost`], for a request of which nothing was heard at all. Where nothing is known of
    /// the limit either, it may have taken the only slot of a window that has just begun: reactions have
    /// one in 250 ms.
    pub(super) fn unheard(&mut self, now: Instant) {
        self.count_lost(now);
        if matches!(self.kind, Kind::Lane | Kind::Fresh) {
            self.pause(now, UNKNOWN_WINDOW);
        }
    }

    /// No request before `now + wait`.
    pub(super) fn pause(&mut self, now: Instant, wait: Duration) {
        self.pause_until(now + wait);
    }

    /// No request before.
    pub(super) fn pause_until(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(until);
    }

    /// A 429 came although a slot should have been there: whatever was concluded is doubtful, but for
    /// what it says itself. A fixed window asks to wait for its `Reset`, a sliding one for its
    /// `next_slot` (discord-api-docs #7680).
    fn distrust(&mut self, next_slot: bool) {
        self.offset.distrust();
        match self.kind {
            Kind::Sliding if next_slot => {}
            Kind::Fixed | Kind::Sliding => self.kind = Kind::Careful,
            Kind::Lane | Kind::Fresh | Kind::Free | Kind::Careful => {}
        }
    }

    /// An answer that would have named a bucket if there were one named none. Headers can be missing
    /// now and then (discord-api-docs #3803): the second such answer frees the route; if its bucket
    /// was named elsewhere, it takes [`UNNAMED_MAX`] in a row.
    pub(super) fn unnamed(&mut self) {
        if self.kind != Kind::Fresh {
            return;
        }
        let again = self.is(Self::BARE) && self.name_key == 0;
        if again || self.lost >= UNNAMED_MAX {
            self.kind = Kind::Free;
            self.lost = 0;
        }
        self.set(Self::BARE, true);
    }

    /// So many requests go before the first answer; no longer true once it has come.
    pub(super) fn widen(&mut self, width: u16) {
        if self.kind == Kind::Fresh {
            self.limit = self.limit.max(width);
        }
    }

    /// An answer to a request that went from here took so long.
    pub(super) fn timed(&mut self, trip: Duration) {
        self.offset.timed(trip);
    }

    /// What other buckets of this name turned out to be; believed once its first answer has come.
    pub(super) fn hint(&mut self, kind: Kind) {
        match kind {
            Kind::Fixed | Kind::Sliding => self.hinted = kind,
            Kind::Free => self.set(Self::BARE, true),
            Kind::Lane | Kind::Fresh | Kind::Careful => {}
        }
    }
}

#[cfg(test)]
mod tests;
