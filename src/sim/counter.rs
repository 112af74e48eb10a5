//! How the model counts: buckets of both kinds, the global limit, hidden limits, invalid requests.

use super::api::Rule;
use crate::clock::Instant;
use std::collections::VecDeque;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const SECOND_NS: u64 = 1_000_000_000;
/// The period over which Discord counts invalid requests, and that of the hidden limits.
pub(super) const TEN_MINUTES: Duration = Duration::from_secs(600);

/// One bucket's count.
#[derive(Clone, Copy, Default)]
pub(super) struct Counter {
    /// Sliding: when it has leaked empty. Fixed: when the window ends.
    until_ns: u64,
    used: u16,
}

/// A bucket after a request was counted or refused.
pub(super) struct State {
    pub(super) limit: u16,
    pub(super) remaining: u16,
    pub(super) reset_after_ns: u64,
    /// The wait for one slot, if refused.
    pub(super) refused_ns: Option<u64>,
}

impl Counter {
    /// All slots are taken; a fixed window ends at `until`.
    pub(super) fn use_up(&mut self, now: Instant, rule: Rule, until: Instant) {
        match rule {
            Rule::Free => {}
            Rule::Sliding { period, .. } => self.until_ns = (now + period).as_nanos(),
            Rule::Fixed { limit, .. } => {
                self.until_ns = until.as_nanos();
                self.used = limit;
            }
        }
    }

    pub(super) fn take(&mut self, now: Instant, rule: Rule) -> Option<State> {
        let now_ns = now.as_nanos();
        match rule {
            Rule::Free => None,
            Rule::Sliding { limit, period } => {
                let slot = period.as_nanos() as u64 / u64::from(limit);
                let full = slot * u64::from(limit);
                let level = self.until_ns.max(now_ns) - now_ns;
                if level + slot > full {
                    return Some(State {
                        limit,
                        remaining: 0,
                        reset_after_ns: level,
                        refused_ns: Some(level + slot - full),
                    });
                }
                self.until_ns = now_ns + level + slot;
                Some(State {
                    limit,
                    remaining: ((full - level - slot) / slot) as u16,
                    reset_after_ns: level + slot,
                    refused_ns: None,
                })
            }
            Rule::Fixed { limit, period } => {
                if self.until_ns <= now_ns {
                    self.until_ns = now_ns + period.as_nanos() as u64;
                    self.used = 0;
                }
                let reset_after_ns = self.until_ns - now_ns;
                let refused = self.used >= limit;
                self.used += u16::from(!refused);
                Some(State {
                    limit,
                    // The limit may have changed meanwhile.
                    remaining: limit.saturating_sub(self.used),
                    reset_after_ns,
                    refused_ns: refused.then_some(reset_after_ns),
                })
            }
        }
    }

    /// The earliest time, not before `now`, at which a request is counted.
    pub(super) fn opens(&self, now: Instant, rule: Rule) -> Instant {
        match rule {
            Rule::Free => now,
            Rule::Sliding { limit, period } => {
                let slot = period.as_nanos() as u64 / u64::from(limit);
                let full = slot * u64::from(limit);
                now.max(Instant::from_nanos(
                    (self.until_ns + slot).saturating_sub(full),
                ))
            }
            Rule::Fixed { limit, .. } if self.used >= limit => {
                now.max(Instant::from_nanos(self.until_ns))
            }
            Rule::Fixed { .. } => now,
        }
    }
}

/// At most `limit` in any period, or in each second of the clock.
#[derive(Default)]
pub(super) struct Window {
    at: VecDeque<Instant>,
}

impl Window {
    /// The global limit; `clock_ns` is what the clock shows at our zero, if its seconds count.
    pub(super) fn take_global(
        &mut self,
        now: Instant,
        limit: usize,
        clock_ns: Option<u64>,
    ) -> bool {
        let opens = self.opens_global(now, limit, clock_ns);
        if opens <= now {
            self.at.push_back(now);
        }
        opens <= now
    }

    pub(super) fn opens_global(
        &mut self,
        now: Instant,
        limit: usize,
        clock_ns: Option<u64>,
    ) -> Instant {
        let phase_ns = clock_ns.unwrap_or(0) % SECOND_NS;
        let second = |at: Instant| (at.as_nanos() + phase_ns) / SECOND_NS;
        while self
            .at
            .front()
            .is_some_and(|&at| at + SECOND <= now || clock_ns.is_some() && second(at) < second(now))
        {
            self.at.pop_front();
        }
        if self.at.len() < limit {
            return now;
        }
        let oldest = self.at[self.at.len() - limit];
        if clock_ns.is_some() {
            Instant::from_nanos((second(oldest) + 1) * SECOND_NS - phase_ns)
        } else {
            oldest + SECOND
        }
    }

    /// A hidden limit of `limit` in ten minutes: the wait, if it is used up.
    pub(super) fn take_hidden(&mut self, now: Instant, limit: usize) -> Result<(), Duration> {
        self.forget(now, TEN_MINUTES);
        if self.at.len() >= limit {
            let opens = self.at[self.at.len() - limit] + TEN_MINUTES;
            return Err(opens.saturating_duration_since(now));
        }
        self.at.push_back(now);
        Ok(())
    }

    /// Counts without a limit; how many there were in the last ten minutes.
    pub(super) fn count(&mut self, now: Instant) -> usize {
        self.forget(now, TEN_MINUTES);
        self.at.push_back(now);
        self.at.len()
    }

    fn forget(&mut self, now: Instant, period: Duration) {
        while self.at.front().is_some_and(|&at| at + period <= now) {
            self.at.pop_front();
        }
    }
}
