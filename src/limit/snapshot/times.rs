//! Times across a restart: the monotonic clock ends with its process, so a snapshot counts from the
//! moment at which it was taken, and whoever restores it says how much later that is.

use crate::clock::Instant;
use std::time::Duration;

/// A wall clock that went back by no more was corrected while weir was down; one that went back
/// further says nothing of how long that was.
const CLOCK_BACK_MAX: Duration = Duration::from_secs(10);
/// The wall clock is read in milliseconds, at the end and at the beginning.
const ROUNDING: Duration = Duration::from_millis(2);
/// The kernel slews a wall clock by at most 500 ppm (adjtimex(2)): of the time down, this part.
const SLEW_PART: u32 = 2_000;
/// Nothing lasts longer: twice the longest pause that the limiter believes (a window may begin when a
/// pause ends), against a file that somebody made up.
const LEFT_MAX: Duration = Duration::from_secs(2 * super::super::PAUSE_MAX.as_secs());

/// Microseconds from `base` until `at`, rounded up; 0 if it has passed.
pub(in crate::limit) fn left(base: Instant, at: Instant) -> u64 {
    at.as_nanos()
        .saturating_sub(base.as_nanos())
        .div_ceil(1_000)
}

/// Microseconds from `at` until `base`, rounded down; 0 if it is still to come.
pub(in crate::limit) fn ago(base: Instant, at: Instant) -> u64 {
    base.as_nanos().saturating_sub(at.as_nanos()) / 1_000
}

/// How long ago a snapshot was taken, by the wall clock. `Duration::MAX` if that cannot be known,
/// since the clock was set back: whatever had a time is over then.
pub(super) fn age(saved_unix_ms: u64, unix_ms: u64) -> Duration {
    match unix_ms.checked_sub(saved_unix_ms) {
        Some(ms) => Duration::from_millis(ms),
        None if saved_unix_ms - unix_ms <= CLOCK_BACK_MAX.as_millis() as u64 => Duration::ZERO,
        None => Duration::MAX,
    }
}

/// Turns a snapshot's times into instants of this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::limit) struct Times {
    /// When it was restored.
    now: Instant,
    /// How long before that it was taken.
    passed: Duration,
    /// Nothing was sent in between.
    complete: bool,
}

impl Times {
    pub(super) const fn new(now: Instant, passed: Duration, complete: bool) -> Self {
        Self {
            now,
            passed,
            complete,
        }
    }

    /// What a process that still runs says now.
    pub(in crate::limit) const fn told(now: Instant, complete: bool) -> Self {
        Self::new(now, Duration::ZERO, complete)
    }

    /// The same, but that it went on sending.
    pub(in crate::limit) const fn doubted(self) -> Self {
        Self {
            complete: false,
            ..self
        }
    }

    /// When this process took it in.
    pub(in crate::limit) const fn taken_in(self) -> Instant {
        self.now
    }

    /// Whether the snapshot was the last word of its process; otherwise that went on sending.
    pub(in crate::limit) const fn complete(self) -> bool {
        self.complete
    }

    /// What lay `left_us` ahead of the snapshot, a bit late rather than early; the time of the restart
    /// if it has passed.
    pub(in crate::limit) fn until(self, left_us: u64) -> Instant {
        let left = Duration::from_micros(left_us).min(LEFT_MAX);
        match left.checked_sub(self.passed) {
            Some(left) if !left.is_zero() => self.now + left + ROUNDING + self.passed / SLEW_PART,
            _ => self.now,
        }
    }

    /// What lay `ago_us` before the snapshot.
    pub(in crate::limit) fn since(self, ago_us: u64) -> Instant {
        let ago = Duration::from_micros(ago_us).saturating_add(self.passed);
        let nanos = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
        Instant::from_nanos(self.now.as_nanos().saturating_sub(nanos))
    }

    /// How long before `now` that was.
    pub(in crate::limit) fn rested(self, now: Instant, ago_us: u64) -> Duration {
        let since_restart = now.saturating_duration_since(self.now);
        Duration::from_micros(ago_us)
            .saturating_add(self.passed)
            .saturating_add(since_restart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(3_600_000);

    #[test]
    fn the_age_is_what_the_wall_clock_says_unless_it_was_set_back() {
        assert_eq!(age(1_000, 4_500), Duration::from_millis(3_500));
        assert_eq!(age(5_000, 4_500), Duration::ZERO);
        assert_eq!(age(50_000, 4_500), Duration::MAX);
    }

    #[test]
    fn what_was_to_come_comes_no_earlier_and_hardly_later() {
        let base = Instant::from_millis(77_000);
        let left_us = left(base, base + Duration::from_nanos(4_000_000_001));
        assert_eq!(left_us, 4_000_001);
        let times = Times::new(NOW, Duration::from_secs(3), true);
        let late = times
            .until(left_us)
            .saturating_duration_since(NOW + Duration::from_secs(1));
        assert!(late >= ROUNDING && late < ROUNDING * 3, "{late:?}");
        assert_eq!(times.until(3_000_000), NOW);
        assert_eq!(times.until(0), NOW);
    }

    #[test]
    fn nothing_made_up_lasts_for_ever() {
        let times = Times::new(NOW, Duration::ZERO, true);
        assert!(times.until(u64::MAX) <= NOW + LEFT_MAX + ROUNDING);
        assert_eq!(times.since(u64::MAX), Instant::ZERO);
    }

    #[test]
    fn of_an_unknown_age_everything_is_over() {
        let times = Times::new(NOW, Duration::MAX, true);
        assert_eq!(times.until(86_400_000_000), NOW);
        assert_eq!(times.since(0), Instant::ZERO);
        assert_eq!(times.rested(NOW, 5), Duration::MAX);
    }
}
