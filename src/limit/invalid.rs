//! The budget of invalid requests: 10,000 answers of 401, 403 or 429 (not `shared`) in 10 minutes
//! get the egress address banned for about an hour.
//!
//! Counted over the process in steps of ten seconds, sliding; the oldest step leaves as a whole, so
//! the count is never too low by the step's length.

use super::snapshot::{Record, Times, ago};
use crate::clock::Instant;
use std::time::Duration;

/// Stop here: 500 below Discord's 10,000, for what is under way and what others of this address send.
pub const BUDGET: u32 = 9_500;
const STEP_S: u64 = 10;
/// Ten minutes, and the step that is being filled.
const STEPS: usize = 61;

/// See the module's documentation.
pub(super) struct Invalid {
    counts: [u32; STEPS],
    total: u32,
    step: u64,
}

impl Invalid {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            counts: [0; STEPS],
            total: 0,
            step: step_of(now),
        }
    }

    /// An invalid answer came.
    pub(super) fn count(&mut self, now: Instant) {
        self.advance(now);
        self.counts[self.step as usize % STEPS] += 1;
        self.total += 1;
    }

    /// Invalid answers of the last ten minutes, and up to ten seconds more.
    pub(super) fn total(&mut self, now: Instant) -> u32 {
        self.advance(now);
        self.total
    }

    /// If the budget is spent: how long until some of it returns.
    pub(super) fn spent(&mut self, now: Instant) -> Option<Duration> {
        self.advance(now);
        if self.total < BUDGET {
            return None;
        }
        let mut excess = self.total - BUDGET;
        for ahead in 1..=STEPS as u64 {
            let leaving = self.counts[(self.step + ahead) as usize % STEPS];
            if leaving > excess {
                let at = Instant::from_nanos((self.step + ahead) * STEP_S * 1_000_000_000);
                return Some(at.saturating_duration_since(now));
            }
            excess -= leaving;
        }
        Some(Duration::from_secs(STEP_S * STEPS as u64))
    }

    /// What was counted, to be written down.
    pub(super) fn keep(&mut self, base: Instant, into: &mut Vec<Record>) {
        self.advance(base);
        for behind in 0..(STEPS as u64).min(self.step + 1) {
            let step = self.step - behind;
            let count = self.counts[step as usize % STEPS];
            if count > 0 {
                // The latest that it can have been.
                let end = Instant::from_nanos((step + 1) * STEP_S * 1_000_000_000 - 1);
                let ago_us = ago(base, end);
                into.push(Record::Invalid { ago_us, count });
            }
        }
    }

    /// Takes in a step that was written down.
    pub(super) fn revive(&mut self, now: Instant, ago_us: u64, count: u32, times: Times) {
        self.advance(now);
        let step = step_of(times.since(ago_us));
        // A count that somebody made up stops nothing for longer than a true one.
        let count = count.min(BUDGET.saturating_sub(self.total));
        if step <= self.step && self.step - step < STEPS as u64 {
            self.counts[step as usize % STEPS] += count;
            self.total += count;
        }
    }

    fn advance(&mut self, now: Instant) {
        let present = step_of(now);
        for step in (self.step + 1)..=present.min(self.step + STEPS as u64) {
            let count = &mut self.counts[step as usize % STEPS];
            self.total -= *count;
            *count = 0;
        }
        self.step = self.step.max(present);
    }
}

fn step_of(at: Instant) -> u64 {
    at.as_nanos() / (STEP_S * 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(s: u64) -> Instant {
        Instant::from_millis(s * 1000)
    }

    #[test]
    fn the_budget_is_spent_at_9500_and_returns_after_ten_minutes() {
        let mut invalid = Invalid::new(s(0));
        (0..BUDGET - 1).for_each(|_| invalid.count(s(15)));
        assert_eq!(invalid.spent(s(15)), None);
        invalid.count(s(25));
        assert_eq!(invalid.spent(s(25)), Some(Duration::from_secs(595)));
        assert!(invalid.spent(s(615)).is_some());
        assert_eq!(invalid.spent(s(620)), None);
        assert_eq!(invalid.total(s(620)), 1);
        assert_eq!(invalid.total(s(100_000)), 0);
    }
}
