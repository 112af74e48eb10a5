//! The global window of one identity: at most `limit` requests counted in any period of one second.
//!
//! Discord counts a request when it arrives, which lies between our sending it and its answer. A
//! slot may be used again one period after that. What is known of the arrival decides when:
//! before the answer, a request is taken to arrive at most [`ARRIVAL_MAX`] after it was sent; with
//! the answer, no later than that; and if the answer carries the server's time, exactly then.
//! A global 429 shows that something was underestimated: it widens a margin, which shrinks again.
//!
//! Releases are counted in a ring of 4 ms steps, so a request costs O(1) and a window of 500/s is no
//! larger than one of 50/s: about 1 KiB.

use super::pressure::Pressure;
use crate::clock::Instant;
use std::time::Duration;

/// The period of Discord's global limit.
pub(super) const PERIOD: Duration = Duration::from_secs(1);
/// A request without an answer yet is taken to have arrived at most this long after it was sent:
/// a new TLS connection over an ocean.
const ARRIVAL_MAX: Duration = Duration::from_millis(250);
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

/// See the module's documentation.
pub(super) struct Window {
    limit: u32,
    used: u32,
    /// Steps up to and including this one have been released.
    step: u32,
    margin_ns: u32,
    margin_since: Instant,
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
            step: step_of(now),
            margin_ns: 0,
            margin_since: now,
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
        let step = step_not_before(now + PERIOD + ARRIVAL_MAX + self.margin(now));
        self.used += 1;
        self.releases[step as usize % STEPS] += 1;
        Some(step)
    }

    /// The request was counted no later than at `arrival`, as we send: its slot returns one period
    /// later, if that is sooner.
    pub(super) fn settle(&mut self, now: Instant, slot: u32, arrival: Instant) {
        self.release_at(
            now,
            slot,
            step_not_before(arrival + PERIOD + self.margin(now)),
        );
    }

    /// The request was never sent.
    pub(super) fn give_back(&mut self, now: Instant, slot: u32) {
        self.release_at(now, slot, step_of(now));
    }

    /// The window let a request through that Discord refused.
    pub(super) fn widen(&mut self, now: Instant) {
        let margin = (self.margin(now) * 2).max(MARGIN_STEP).min(MARGIN_MAX);
        self.margin_ns = margin.as_nanos() as u32;
        self.margin_since = now;
    }

    /// When the next slot returns, if all are in use.
    pub(super) fn next_release(&mut self, now: Instant) -> Option<Instant> {
        self.advance(now);
        if self.used < self.limit {
            return None;
        }
        let ahead = (1..=STEPS as u32)
            .find(|ahead| self.releases[self.step.wrapping_add(*ahead) as usize % STEPS] > 0)?;
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
        let free = self.limit.saturating_sub(self.used - gone.min(self.used));
        let Some(beyond) = ahead.checked_sub(free) else {
            return Duration::ZERO;
        };
        let margin = self.margin(from);
        let cycles = beyond / self.limit;
        let mut left = beyond % self.limit;
        // A slot of which the answer is still to come returns sooner than is promised now.
        let settled = step_not_before(from + PERIOD + margin).wrapping_sub(present);
        let early = (ARRIVAL_MAX.saturating_sub(lag).as_nanos() as u64 / STEP_NS) as u32;
        let step = (1..STEPS as u32).find(|&ahead| {
            let mut returns = 0;
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

    fn release(&self, step: u32) -> u32 {
        u32::from(self.releases[step as usize % STEPS])
    }

    fn margin(&self, now: Instant) -> Duration {
        let halvings =
            now.saturating_duration_since(self.margin_since).as_secs() / MARGIN_HALF_LIFE.as_secs();
        Duration::from_nanos(u64::from(self.margin_ns) >> halvings.min(63))
    }

    fn release_at(&mut self, now: Instant, slot: u32, step: u32) {
        self.advance(now);
        let (held, wanted) = (
            slot.wrapping_sub(self.step) as i32,
            step.wrapping_sub(self.step) as i32,
        );
        if held <= 0 || wanted >= held {
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
        let held: u32 = self.releases.iter().map(|&n| u32::from(n)).sum();
        assert_eq!(held, self.used, "every slot in use has its release");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn slots_return_one_period_after_arrival_and_never_before() {
        let mut window = Window::new(ms(1000), 2);
        let a = window.take(ms(1000)).unwrap();
        let b = window.take(ms(1000)).unwrap();
        assert!(window.take(ms(1100)).is_none());
        window.settle(ms(1040), a, ms(1020));
        assert_eq!(window.next_release(ms(1050)), Some(ms(2020)));
        assert!(window.take(ms(2019)).is_none());
        assert!(window.take(ms(2020)).is_some());
        assert!(window.take(ms(2020)).is_none());
        // No answer: the slowest arrival is assumed.
        assert_eq!(window.next_release(ms(2021)), Some(ms(2252)));
        assert!(window.take(ms(2252)).is_some());
        window.settle(ms(2300), b, ms(2300));
        window.check_invariants();
        assert!(window.take(ms(60_000)).is_some() && window.used == 1);
    }

    #[test]
    fn a_slot_that_was_not_used_returns_at_once() {
        let mut window = Window::new(ms(1000), 1);
        let slot = window.take(ms(1000)).unwrap();
        window.give_back(ms(1001), slot);
        assert!(window.take(ms(1001)).is_some());
        window.check_invariants();
    }

    #[test]
    fn the_margin_grows_with_each_global_429_and_shrinks_again() {
        let mut window = Window::new(ms(1000), 1);
        window.widen(ms(1000));
        window.widen(ms(1000));
        let slot = window.take(ms(1000)).unwrap();
        window.settle(ms(1020), slot, ms(1020));
        assert_eq!(window.next_release(ms(1020)), Some(ms(2060)));
        (0..20).for_each(|_| window.widen(ms(1000)));
        assert_eq!(window.margin(ms(1000)), MARGIN_MAX);
        assert_eq!(window.margin(ms(61_000)), MARGIN_MAX / 2);
        assert!(window.margin(ms(3_601_000)) < Duration::from_micros(1));
    }
}
