//! The global window of one identity: at most `limit` requests counted in any period of one second.
//!
//! Discord counts a request when it arrives, which lies between our sending it and its answer. A
//! slot may be used again one period after that. What is known of the arrival decides when:
//! before the answer, a request is taken to arrive at most [`ARRIVAL_MAX`] after it was sent; with
//! the answer, no later than that came; and if the answer carries the server's time, exactly then,
//! even if that is later than was assumed.
//!
//! A slot is given before its request is sent, and the time in between is no part of the way: a new
//! connection is dialled, a place among the connections or a client's body is waited for. Whoever
//! knows of such a delay holds the slot ([`Window::hold`]) until the request departs
//! ([`Window::depart`]). One that was late without notice, by more than [`LATE`], does both at once.
//! So a slot comes back after its request was counted, however long that took to leave. A slot that
//! has come back before it is held is taken again, and the window is over its limit until others
//! have returned.
//!
//! A global 429 shows that something was underestimated: it widens a margin, which shrinks again.
//!
//! Releases are counted in a ring of 4 ms steps, so a request costs O(1) and a window of 500/s is no
//! larger than one of 50/s: about 1 KiB.

mod keep;
mod survey;

use super::pressure::Pressure;
use crate::clock::Instant;
use std::time::Duration;

/// The period of Discord's global limit.
pub(super) const PERIOD: Duration = Duration::from_secs(1);
/// A request without an answer yet is taken to have arrived at most this long after it was sent:
/// half a round trip around the world, and a lost packet sent again.
const ARRIVAL_MAX: Duration = Duration::from_millis(250);
/// A request that departs so long after its slot was given is told to the window. A tenth of
/// [`ARRIVAL_MAX`] that is spent before the way begins leaves the way enough; a worker that is not
/// starved needs a hundredth of this.
pub(super) const LATE: Duration = Duration::from_millis(25);
/// The margin's first step after a global 429; it doubles with each further one.
const MARGIN_STEP: Duration = Duration::from_millis(20);
/// The margin grows no further: by then half of the limit is given away, and the cause is another
/// process that uses the same token.
const MARGIN_MAX: Duration = Duration::from_millis(500);
/// The margin halves after this long without a global 429.
const MARGIN_HALF_LIFE: Duration = Duration::from_secs(60);
const STEP_NS: u64 = 4_000_000;
const STEPS: usize = 512;

const _: () = assert!(
    PERIOD.as_nanos() + ARRIVAL_MAX.as_nanos() + MARGIN_MAX.as_nanos()
        < (STEPS as u128 - 2) * STEP_NS as u128,
    "the ring holds every slot's release"
);
const _: () = assert!(
    LATE.as_nanos() * 10 <= ARRIVAL_MAX.as_nanos(),
    "the way has most of the time"
);

/// See the module's documentation.
pub(super) struct Window {
    limit: u32,
    /// Slots in use: those with a release in the ring, and the held ones. At most `u16::MAX`, so that
    /// no step of the ring overflows.
    used: u32,
    /// Slots in use that have no release yet.
    held: u32,
    /// Steps up to and including this one have been released.
    step: u32,
    margin_ns: u32,
    margin_since: Instant,
    /// In which step so many slots return that nobody took: they may have been used elsewhere.
    careful: Option<(u32, u16)>,
    releases: Box<[u16; STEPS]>,
}

fn step_of(at: Instant) -> u32 {
    (at.as_nanos() / STEP_NS) as u32
}

fn step_not_before(at: Instant) -> u32 {
    at.as_nanos().div_ceil(STEP_NS) as u32
}

impl Window {
    pub(super) fn new(now: Instant, limit: u32) -> Self {
        let releases = Box::new([0; STEPS]);
        Self {
            limit,
            used: 0,
            held: 0,
            step: step_of(now),
            margin_ns: 0,
            margin_since: now,
            careful: None,
            releases,
        }
    }

    pub(super) fn set_limit(&mut self, limit: u32) {
        self.limit = limit.clamp(1, u32::from(u16::MAX));
    }

    /// Takes a slot, if there is one; the number names it to [`Self::settle`].
    pub(super) fn take(&mut self, now: Instant) -> Option<u32> {
        self.advance(now);
        if self.used >= self.limit {
            return None;
        }
        self.used += 1;
        Some(self.promise(now))
    }

    /// The request of `slot` waits before it is sent: the slot stays in use until [`Self::depart`].
    /// If it has returned meanwhile, it is taken again, beyond the limit if need be; so is a further
    /// one for a request that was sent `before` and may have been counted. `false` if there is no
    /// room for that.
    pub(super) fn hold(&mut self, now: Instant, slot: u32, before: bool) -> bool {
        self.advance(now);
        if !before && slot.wrapping_sub(self.step) as i32 > 0 {
            self.releases[slot as usize % STEPS] -= 1;
        } else if self.used < u32::from(u16::MAX) {
            self.used += 1;
        } else {
            return false;
        }
        self.held += 1;
        true
    }

    /// The request of a held slot is sent now. The number names the slot again.
    pub(super) fn depart(&mut self, now: Instant) -> u32 {
        self.advance(now);
        self.held -= 1;
        self.promise(now)
    }

    /// The request was answered. If the answer tells when it was counted, as we send, its slot returns
    /// one period after that; if not, one period from now, if that is sooner than was promised.
    pub(super) fn settle(&mut self, now: Instant, slot: u32, arrival: Option<Instant>) {
        let step = step_not_before(arrival.unwrap_or(now) + PERIOD + self.margin(now));
        self.release_at(now, slot, step, arrival.is_some());
    }

    /// The request was never sent.
    pub(super) fn give_back(&mut self, now: Instant, slot: u32) {
        self.release_at(now, slot, step_of(now), false);
    }

    /// The window let a request through that Discord refused.
    pub(super) fn widen(&mut self, now: Instant) {
        let margin = (self.margin(now) * 2).max(MARGIN_STEP).min(MARGIN_MAX);
        self.margin_ns = margin.as_nanos() as u32;
        self.margin_since = now;
    }

    /// When there will be a free slot, if there is none. `None` also while too many are held.
    pub(super) fn next_release(&mut self, now: Instant) -> Option<Instant> {
        self.advance(now);
        // More than one must return if the limit was lowered, or a slot taken beyond it.
        let mut missing = (self.used + 1).checked_sub(self.limit).filter(|&n| n > 0)?;
        let ahead = (1..=STEPS as u32).find(|&ahead| {
            missing = missing.saturating_sub(self.release(self.step.wrapping_add(ahead)));
            missing == 0
        })?;
        // The step's number wraps, and another worker's clock reading may have been a bit later.
        let lead = i64::from(self.step.wrapping_sub(step_of(now)) as i32) + i64::from(ahead);
        let step = (now.as_nanos() / STEP_NS).saturating_add_signed(lead);
        Some(Instant::from_nanos(step * STEP_NS))
    }

    pub(super) const fn limit(&self) -> u32 {
        self.limit
    }

    /// How many go before a request that joins a line of `line` now, with that pressure before it.
    pub(super) fn ahead(&self, now: Instant, line: u32, pressure: Pressure, lag: Duration) -> u32 {
        pressure.ahead(line, self.limit, PERIOD + self.margin(now) + lag)
    }

    /// How long the request behind `ahead` others would wait at `from`, if each is counted `lag` after
    /// it went.
    pub(super) fn predicted_wait(&self, from: Instant, ahead: u32, lag: Duration) -> Duration {
        let present = step_of(from).max(self.step);
        let gone: u32 = (1..=present.wrapping_sub(self.step).min(STEPS as u32))
            .map(|ahead| self.release(self.step.wrapping_add(ahead)))
            .sum();
        let busy = self.used - gone.min(self.used);
        let free = self.limit.saturating_sub(busy);
        let Some(beyond) = ahead.checked_sub(free) else {
            return Duration::ZERO;
        };
        let margin = self.margin(from);
        let cycles = beyond / self.limit;
        let mut left = busy.saturating_sub(self.limit) + beyond % self.limit;
        // A slot of which the answer is still to come returns sooner than is promised now.
        let settled = step_not_before(from + PERIOD + margin).wrapping_sub(present);
        // One that is held departs at any moment.
        let held_until = step_not_before(from + PERIOD + margin + lag).wrapping_sub(present);
        let held_until = held_until.min(STEPS as u32 - 1);
        let early = (ARRIVAL_MAX.saturating_sub(lag).as_nanos() as u64 / STEP_NS) as u32;
        let step = (1..STEPS as u32).find(|&ahead| {
            let mut returns = if ahead == held_until { self.held } else { 0 };
            if ahead <= settled {
                returns += self.release(present.wrapping_add(ahead));
            }
            if ahead + early > settled && ahead + early < STEPS as u32 {
                returns += self.release(present.wrapping_add(ahead + early));
            }
            let found = returns > left;
            left = left.saturating_sub(returns);
            found
        });
        let first = Duration::from_nanos(u64::from(step.unwrap_or(0)) * STEP_NS);
        first + (PERIOD + margin + lag).saturating_mul(cycles)
    }

    /// Enters the release of a slot in use whose request is sent now and not answered yet.
    fn promise(&mut self, now: Instant) -> u32 {
        let step = step_not_before(now + PERIOD + ARRIVAL_MAX + self.margin(now));
        self.releases[step as usize % STEPS] += 1;
        step
    }

    fn release(&self, step: u32) -> u32 {
        u32::from(self.releases[step as usize % STEPS])
    }

    fn margin(&self, now: Instant) -> Duration {
        let halvings =
            now.saturating_duration_since(self.margin_since).as_secs() / MARGIN_HALF_LIFE.as_secs();
        Duration::from_nanos(u64::from(self.margin_ns) >> halvings.min(63))
    }

    /// Moves a release that has not come yet to `step`; to a later one only if that is `certain`.
    fn release_at(&mut self, now: Instant, slot: u32, step: u32, certain: bool) {
        self.advance(now);
        let (promised, wanted) = (
            slot.wrapping_sub(self.step) as i32,
            step.wrapping_sub(self.step) as i32,
        );
        if promised <= 0 || wanted >= promised && !certain {
            return;
        }
        self.releases[slot as usize % STEPS] -= 1;
        if wanted <= 0 {
            self.used -= 1;
        } else {
            self.releases[step as usize % STEPS] += 1;
        }
    }

    fn advance(&mut self, now: Instant) {
        let present = step_of(now);
        let behind = present.wrapping_sub(self.step) as i32;
        if behind <= 0 {
            return;
        }
        if self.used > 0 {
            for ahead in 1..=behind.min(STEPS as i32) as u32 {
                let releases = &mut self.releases[self.step.wrapping_add(ahead) as usize % STEPS];
                self.used -= u32::from(*releases);
                *releases = 0;
            }
        }
        self.step = present;
    }

    #[cfg(any(debug_assertions, test))]
    pub(super) fn check_invariants(&self) {
        let promised: u32 = self.releases.iter().map(|&n| u32::from(n)).sum();
        assert_eq!(
            promised + self.held,
            self.used,
            "every slot in use has its release or is held"
        );
    }
}

#[cfg(test)]
mod tests;
