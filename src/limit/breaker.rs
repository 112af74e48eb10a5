//! The breaker: what to do when Cloudflare blocks this egress address.
//!
//! A 429 that Discord itself did not send stops everything until its `Retry-After`, or for a minute.
//! Then one probe goes; an answer from Discord closes the breaker, another block doubles the wait.

use super::guarded::Blocks;
use super::snapshot::{Record, Times, left};
use crate::clock::Instant;
use std::time::Duration;

/// The pause if Cloudflare names none (discord-api-docs #5810).
const PAUSE: Duration = Duration::from_secs(60);
/// The pause grows no longer: a ban lasts about an hour, and a probe each ten minutes does no harm.
const PAUSE_ESCALATED_MAX: Duration = Duration::from_secs(600);
/// A probe without an answer for so long is given up, and another may go.
const PROBE_PATIENCE: Duration = Duration::from_secs(30);

/// Whether a request may go upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Passage {
    Open,
    /// It may go, and its answer decides.
    Probe,
    Closed(Duration),
}

/// See the module's documentation.
pub(super) struct Breaker {
    /// `None`: no block is known.
    blocked_until: Option<Instant>,
    probe_since: Option<Instant>,
    blocks: u32,
    seen: Blocks,
}

impl Breaker {
    pub(super) const fn new() -> Self {
        Self {
            blocked_until: None,
            probe_since: None,
            blocks: 0,
            seen: Blocks {
                began: 0,
                went_on: 0,
                ended: 0,
            },
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.blocked_until.is_none()
    }

    /// Asks for one request; [`Passage::Probe`] must be followed by [`Self::answered`],
    /// [`Self::blocked`] or [`Self::probe_lost`].
    pub(super) fn pass(&mut self, now: Instant) -> Passage {
        let passage = self.peek(now);
        if passage == Passage::Probe {
            self.probe_since = Some(now);
        }
        passage
    }

    /// What [`Self::pass`] would answer.
    pub(super) fn peek(&self, now: Instant) -> Passage {
        let Some(until) = self.blocked_until else {
            return Passage::Open;
        };
        if now < until {
            return Passage::Closed(until.saturating_duration_since(now));
        }
        if let Some(since) = self
            .probe_since
            .filter(|&since| now < since + PROBE_PATIENCE)
        {
            let patience = (since + PROBE_PATIENCE).saturating_duration_since(now);
            return Passage::Closed(patience.min(Duration::from_secs(1)));
        }
        Passage::Probe
    }

    /// Cloudflare blocked a request; for how long nothing goes from now on, if that is news.
    pub(super) fn blocked(
        &mut self,
        now: Instant,
        retry_after: Option<Duration>,
        probe: bool,
    ) -> Option<Duration> {
        // Answers to what was under way when the block began tell nothing new.
        if self.blocked_until.is_some() && !probe {
            return None;
        }
        let escalated = PAUSE
            .saturating_mul(1 << self.blocks.min(8))
            .min(PAUSE_ESCALATED_MAX);
        let pause = retry_after.unwrap_or(Duration::ZERO).max(
            if self.blocks > 0 || retry_after.is_none() {
                escalated
            } else {
                Duration::from_secs(1)
            },
        );
        match self.blocked_until {
            None => self.seen.began += 1,
            Some(_) => self.seen.went_on += 1,
        }
        self.blocks += 1;
        self.blocked_until = Some(now + pause);
        self.probe_since = None;
        Some(pause)
    }

    /// How often in a row it was blocked.
    pub(super) const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Discord itself answered a probe.
    pub(super) fn answered(&mut self) {
        let mut seen = self.seen;
        seen.ended += u64::from(self.blocked_until.is_some());
        *self = Self {
            seen,
            ..Self::new()
        };
    }

    /// If there is a block: how long until a probe goes.
    pub(super) fn blocked_for(&self, now: Instant) -> Option<Duration> {
        self.blocked_until
            .map(|until| until.saturating_duration_since(now))
    }

    /// What became of blocks since the start.
    pub(super) const fn seen(&self) -> Blocks {
        self.seen
    }

    /// The probe got no answer; another may go.
    pub(super) fn probe_lost(&mut self) {
        self.probe_since = None;
    }

    /// The block, to be written down.
    pub(super) fn keep(&self, base: Instant) -> Option<Record> {
        let blocks = self.blocks;
        self.blocked_until.map(|until| Record::Breaker {
            left_us: left(base, until),
            blocks,
        })
    }

    /// Takes in a block that was written down: a probe goes before anything else.
    pub(super) fn revive(&mut self, left_us: u64, blocks: u32, times: Times) {
        self.blocked_until = Some(times.until(left_us));
        self.blocks = blocks;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(s: u64) -> Instant {
        Instant::from_millis(s * 1000)
    }

    #[test]
    fn one_probe_goes_after_the_block_and_decides() {
        let mut breaker = Breaker::new();
        assert_eq!(breaker.pass(s(0)), Passage::Open);
        breaker.blocked(s(0), Some(Duration::from_secs(30)), false);
        breaker.blocked(s(1), None, false);
        assert_eq!(
            breaker.pass(s(10)),
            Passage::Closed(Duration::from_secs(20))
        );
        assert_eq!(breaker.pass(s(30)), Passage::Probe);
        assert_eq!(breaker.pass(s(31)), Passage::Closed(Duration::from_secs(1)));
        assert_eq!(breaker.blocked_for(s(10)), Some(Duration::from_secs(20)));
        breaker.blocked(s(31), Some(Duration::from_secs(9)), true);
        breaker.answered();
        breaker.answered();
        assert_eq!(breaker.pass(s(31)), Passage::Open);
        assert!(breaker.is_open());
        assert_eq!(breaker.blocked_for(s(31)), None);
        let seen = Blocks {
            began: 1,
            went_on: 1,
            ended: 1,
        };
        assert_eq!(breaker.seen(), seen);
    }

    #[test]
    fn repeated_blocks_escalate_and_a_lost_probe_is_replaced() {
        let mut breaker = Breaker::new();
        breaker.blocked(s(0), None, false);
        assert_eq!(breaker.pass(s(60)), Passage::Probe);
        breaker.blocked(s(60), None, true);
        assert_eq!(
            breaker.pass(s(179)),
            Passage::Closed(Duration::from_secs(1))
        );
        assert_eq!(breaker.pass(s(180)), Passage::Probe);
        breaker.probe_lost();
        assert_eq!(breaker.pass(s(181)), Passage::Probe);
        assert_eq!(breaker.pass(s(212)), Passage::Probe);
    }
}
