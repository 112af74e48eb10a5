//! What a bot may start in a day, and when `/gateway/bot` is asked about it.
//!
//! ```text
//!            hold, at most PATIENCE              own count: told − granted
//! first ask ─────▶ fetch ─▶ told ─▶ grant … grant ─▶ low: fetch ─▶ told … ─▶ 0 ─▶ reset: fetch, hold
//!                    └────▶ failed: 1 at a time, 1,000 a day; asked again after a pause
//! ```
//! Starts that do not come through weir use up the same budget, so the own count is only believed for
//! a while: it is read again at the reset, when it is low, and after ten minutes; and never more often
//! than the pauses here say.

use std::time::Duration;

use crate::clock::Instant;

/// How long nobody goes because `/gateway/bot` has not answered yet. Discord answers within some
/// hundred milliseconds; a connection that a lost packet delays by a second is still waited for.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What every bot has a day at the least (Discord docs, events/gateway, "Identifying").
const LEAST_TOTAL: u32 = 1_000;

/// The window that the budget is for (Discord docs, events/gateway).
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Pause between two readings while the budget is low.
const REREAD_LOW: Duration = Duration::from_secs(60);
/// The same while it is not, or used up.
const REREAD: Duration = Duration::from_secs(600);
/// Longest pause after failures, which doubles from [`REREAD_LOW`].
const FAILED_MAX: Duration = REREAD;
/// Shortest pause before a reading at a reset; it doubles up to [`REREAD_LOW`] while resets follow one
/// another as they never do, so that an answer that makes no sense is not asked for in a loop.
const RESET_PAUSE: Duration = Duration::from_secs(1);

/// An IDENTIFY may still be on its way this long after it was granted, and so be missing in what
/// `/gateway/bot` says.
const SETTLED: Duration = Duration::from_secs(10);
/// One that was granted this long before the reset may count after it.
const ASTRIDE: Duration = Duration::from_secs(1);

/// An answer that has not come after this long does not come.
const LOST: Duration = Duration::from_secs(60);

/// What `/gateway/bot` says (Discord docs, "Session Start Limit Object").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// IDENTIFYs allowed in 5 s, each with another `shard % max_concurrency`; 0 is read as 1.
    pub max_concurrency: u32,
    /// Starts in a day.
    pub total: u32,
    /// Of which are left.
    pub remaining: u32,
    /// Until they are `total` again.
    pub reset_after: Duration,
}

/// A bot's budget.
#[derive(Debug)]
pub(super) struct Budget {
    /// At least 1.
    pub(super) max_concurrency: u32,
    /// At least 1.
    pub(super) total: u32,
    /// Invariant: at most `total`.
    pub(super) remaining: u32,
    /// When `remaining` is `total` again; `FAR` while a window has not begun.
    pub(super) reset_at: Instant,
    /// When the window began, as far as it is known.
    began: Instant,
    /// Nobody goes before.
    pub(super) held_until: Option<Instant>,
    /// `/gateway/bot` was asked and has not answered.
    asking: Option<Instant>,
    /// When it was asked last.
    asked: Option<Instant>,
    /// It has answered since this process began.
    is_read: bool,
    /// Another node has told of it, so that nobody is held for what `/gateway/bot` says.
    is_told: bool,
    failures: u32,
    /// Resets that followed one another within ten minutes.
    hasty: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            max_concurrency: 1,
            total: LEAST_TOTAL,
            remaining: LEAST_TOTAL,
            reset_at: Instant::FAR,
            began: Instant::ZERO,
            held_until: None,
            asking: None,
            asked: None,
            is_read: false,
            is_told: false,
            failures: 0,
            hasty: 0,
        }
    }
}

impl Budget {
    /// What an earlier process knew; it is read again at the first ask.
    pub(super) fn restored(limits: &Limits, reset_at: Instant) -> Self {
        let total = limits.total.max(1);
        Self {
            max_concurrency: limits.max_concurrency.max(1),
            total,
            remaining: limits.remaining.min(total),
            reset_at,
            ..Self::default()
        }
    }

    /// Adds what another node knew of the same bot: what lets fewer go.
    pub(super) fn add(&mut self, now: Instant, other: &Self) {
        let known = self.is_read || self.is_told;
        // What went here, of what was assumed.
        let spent = self.total.saturating_sub(self.remaining);
        if !known || now >= self.reset_at {
            self.max_concurrency = other.max_concurrency;
            self.total = other.total;
            let spent = if known { 0 } else { spent };
            self.remaining = other.remaining.saturating_sub(spent);
            self.reset_at = other.reset_at;
            self.began = Instant::ZERO;
        } else {
            self.max_concurrency = self.max_concurrency.min(other.max_concurrency);
            self.total = self.total.min(other.total);
            self.remaining = self.remaining.min(other.remaining).min(self.total);
            if other.reset_at < Instant::FAR {
                self.reset_at = other.reset_at;
            }
        }
        self.is_told = true;
        self.held_until = None;
    }

    /// Somebody asks, or somebody's turn may have come: begins the next window if this one is over.
    /// `astride` were granted around the reset. Whether `/gateway/bot` is to be asked.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        has_token: bool,
        astride: impl FnOnce(Instant) -> u32,
    ) -> bool {
        if self.held_until.is_some_and(|until| until <= now) {
            self.held_until = None;
        }
        let may_ask = has_token && !self.is_asking(now);
        if now >= self.reset_at {
            return self.reset(now, may_ask, astride);
        }
        if !may_ask {
            return false;
        }
        if !self.is_read && self.rested(now) {
            if self.failures == 0 && !self.is_told {
                self.held_until = Some(now + PATIENCE);
            }
            return self.ask(now);
        }
        false
    }

    fn reset(&mut self, now: Instant, may_ask: bool, astride: impl FnOnce(Instant) -> u32) -> bool {
        let was_empty = self.remaining == 0;
        if may_ask && was_empty {
            let pause = (RESET_PAUSE * (1 << self.hasty.min(6))).min(REREAD_LOW);
            let since = |asked| now.saturating_duration_since(asked);
            if let Some(asked) = self.asked
                && since(asked) < pause
            {
                self.reset_at = asked + pause;
                return false;
            }
            let hasty = self.asked.is_some_and(|asked| since(asked) < REREAD);
            self.hasty = if hasty { self.hasty + 1 } else { 0 };
            self.held_until = Some(now + PATIENCE);
        }
        self.began = self.reset_at;
        let astride = astride(before(self.began, ASTRIDE));
        self.remaining = self.total.saturating_sub(astride);
        // The next window begins with its first start.
        self.reset_at = if astride > 0 {
            self.began + DAY
        } else {
            Instant::FAR
        };
        may_ask && (was_empty || self.rested(now)) && self.ask(now)
    }

    /// A shard was let go.
    pub(super) fn spend(&mut self, now: Instant) {
        self.remaining = self.remaining.saturating_sub(1);
        if self.reset_at == Instant::FAR {
            self.reset_at = now + DAY;
        }
    }

    /// One that was let go did not go.
    pub(super) fn give_back(&mut self) {
        self.remaining = self.remaining.saturating_add(1).min(self.total);
    }

    /// Somebody else may have used some of it: it is read again when somebody goes next.
    pub(super) fn doubt(&mut self) {
        self.asked = self.asked.map(|_| Instant::ZERO);
    }

    /// Shards were let go, or wait in vain: whether the budget is to be read again.
    pub(super) fn wants_reading(&mut self, now: Instant, has_token: bool) -> bool {
        let due = self.reread_at().is_some_and(|at| at <= now);
        has_token && !self.is_asking(now) && due && self.ask(now)
    }

    /// When the budget is to be read again, if somebody goes or waits for it then.
    pub(super) fn reread_at(&self) -> Option<Instant> {
        let pause = match self.failures {
            0 if self.remaining == 0 => REREAD,
            0 if self.is_low() => REREAD_LOW,
            0 => REREAD,
            _ => self.failed_pause(),
        };
        self.asked.map(|asked| asked + pause)
    }

    fn is_low(&self) -> bool {
        // So that what others start within a minute does not use it up unseen.
        self.remaining <= (self.total / 10).max(self.max_concurrency.saturating_mul(2))
    }

    fn failed_pause(&self) -> Duration {
        let doubled = REREAD_LOW * (1 << self.failures.saturating_sub(1).min(8));
        doubled.min(FAILED_MAX)
    }

    fn rested(&self, now: Instant) -> bool {
        let pause = if self.failures > 0 {
            self.failed_pause()
        } else {
            REREAD_LOW
        };
        self.asked.is_none_or(|asked| asked + pause <= now)
    }

    pub(super) fn is_asking(&self, now: Instant) -> bool {
        self.asking.is_some_and(|asked| now < asked + LOST)
    }

    fn ask(&mut self, now: Instant) -> bool {
        self.asking = Some(now);
        self.asked = Some(now);
        true
    }

    /// `/gateway/bot` has answered; `unseen` counts what was granted from a moment on.
    pub(super) fn told(
        &mut self,
        now: Instant,
        limits: &Limits,
        unseen: impl FnOnce(Instant) -> u32,
    ) {
        let asked = self.asking.take().unwrap_or(now);
        let settled = before(asked, SETTLED).max(before(self.began, ASTRIDE));
        self.max_concurrency = limits.max_concurrency.max(1);
        self.total = limits.total.max(1);
        let remaining = limits.remaining.min(self.total);
        self.remaining = remaining.saturating_sub(unseen(settled));
        self.reset_at = now + limits.reset_after.min(DAY);
        self.held_until = None;
        self.is_read = true;
        self.failures = 0;
    }

    /// `/gateway/bot` cannot be had: what is known holds on.
    pub(super) fn failed(&mut self) {
        self.asking = None;
        self.held_until = None;
        self.failures = self.failures.saturating_add(1);
    }

    /// When the next window begins, counted from the end of the one that ends at `reset_at`.
    pub(super) fn window_after(reset_at: Instant) -> Instant {
        reset_at + DAY
    }
}

fn before(at: Instant, by: Duration) -> Instant {
    let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
    Instant::from_nanos(at.as_nanos().saturating_sub(by))
}
