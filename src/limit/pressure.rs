//! What of an identity's requests stands before its buckets and will stand in the line for the global
//! window before a request that comes now: those that asked earlier go first, whenever their bucket
//! lets them.
//!
//! For predictions only. Each bucket in which somebody waits says how many do, how many of them its
//! slots would let go now, and at what pace the others follow; shards hand the differences on, and
//! the identity keeps the sums.

use std::time::Duration;

/// One bucket's part, or the sum of several.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Pressure {
    /// Requests that wait.
    pub(super) waiting: u32,
    /// Those of them for whom there are slots: they wait for answers to those before them.
    pub(super) ready: u32,
    /// Slots that return, per 1,000 s.
    pub(super) pace: u32,
    pub(super) buckets: u32,
}

/// A bucket's slots come no faster, as far as this goes: no global limit is higher.
const PACE_MAX: u64 = 1_000_000;

impl Pressure {
    pub(super) fn new(waiting: u32, ready: u32, slots: u16, period: Duration) -> Self {
        let millis = u64::try_from(period.as_millis()).unwrap_or(u64::MAX).max(1);
        let pace = u64::from(slots) * 1_000_000 / millis;
        Self {
            waiting,
            ready: ready.min(waiting),
            pace: pace.min(PACE_MAX) as u32,
            buckets: 1,
        }
    }

    /// Puts `new` in the place of `old`, which was added before.
    pub(super) fn replace(&mut self, old: Self, new: Self) {
        self.waiting = self
            .waiting
            .wrapping_add(new.waiting)
            .wrapping_sub(old.waiting);
        self.ready = self.ready.wrapping_add(new.ready).wrapping_sub(old.ready);
        self.pace = self.pace.wrapping_add(new.pace).wrapping_sub(old.pace);
        self.buckets = self
            .buckets
            .wrapping_add(new.buckets)
            .wrapping_sub(old.buckets);
    }

    /// Whether its buckets fill the line whenever slots return. Fewer than a window has slots wait for
    /// their answers now and then, and leave gaps in each period to whoever is there.
    pub(super) const fn fills(self, line: u32, limit: u32) -> bool {
        // The first of a bucket stands in the line already.
        line >= limit || self.buckets >= limit
    }

    /// The sums as they can be. Two workers' differences for one bucket may come in the wrong order: then
    /// one of them lies below zero until the other has come.
    pub(super) const fn settled(self) -> Self {
        const fn at_least_zero(n: u32) -> u32 {
            if n > i32::MAX as u32 { 0 } else { n }
        }
        Self {
            waiting: at_least_zero(self.waiting),
            ready: at_least_zero(self.ready),
            pace: at_least_zero(self.pace),
            buckets: at_least_zero(self.buckets),
        }
    }

    /// How many stand before a request in a line of `line`, of which `limit` go in each `period`.
    pub(super) fn ahead(self, line: u32, limit: u32, period: Duration) -> u32 {
        let all = line.saturating_add(self.waiting);
        let at_once = u64::from(line.saturating_add(self.ready.min(self.waiting)));
        // While they go at the window's pace, more come at the buckets'.
        let goes = u128::from(limit) * 1_000_000 / period.as_millis().max(1);
        let goes = u64::try_from(goes).unwrap_or(u64::MAX);
        match goes.checked_sub(u64::from(self.pace)) {
            None | Some(0) => all,
            Some(rest) => u32::try_from(at_once.saturating_mul(goes) / rest)
                .unwrap_or(u32::MAX)
                .min(all),
        }
    }
}

/// How long a request that came now would wait for its identity's window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Behind {
    /// If its bucket lets it go at once: nobody overtakes whoever finds no line and a free slot.
    pub(super) line: Duration,
    /// If it waits for its bucket: then all go before it that asked before.
    pub(super) others: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn those_whose_buckets_have_slots_stand_before_and_of_the_others_who_comes_in_time() {
        let none = Pressure::default();
        assert_eq!(none.ahead(30, 50, SECOND), 30);
        let ready = Pressure::new(100, 100, 1, SECOND * 1_000);
        assert_eq!(ready.ahead(30, 50, SECOND), 130);
        // Half of what goes is replaced by what comes.
        let slow = Pressure::new(1_000, 0, 25, SECOND);
        assert_eq!(slow.ahead(30, 50, SECOND), 60);
        // More comes than goes: all that waits was there before.
        let fast = Pressure::new(1_000, 0, 100, SECOND);
        assert_eq!(fast.ahead(30, 50, SECOND), 1_030);
    }

    #[test]
    fn differences_that_come_in_the_wrong_order_foretell_nothing_absurd() {
        let (none, one) = (Pressure::default(), Pressure::new(5, 5, 5, SECOND));
        let mut sum = none;
        sum.replace(one, none);
        assert_eq!(sum.settled(), none);
        assert_eq!(sum.settled().ahead(30, 50, SECOND), 30);
        sum.replace(none, one);
        assert_eq!(sum.settled(), none);
    }

    #[test]
    fn a_line_is_filled_by_itself_or_by_as_many_buckets_as_the_window_has_slots() {
        let mut sum = Pressure::default();
        assert!(!sum.fills(49, 50) && sum.fills(50, 50));
        for _ in 0..50 {
            assert!(!sum.fills(20, 50));
            sum.replace(Pressure::default(), Pressure::new(1, 0, 1, SECOND));
        }
        assert!(sum.fills(20, 50));
    }

    #[test]
    fn sums_change_with_their_parts() {
        let (a, b) = (
            Pressure::new(5, 9, 5, SECOND),
            Pressure::new(7, 1, 1, SECOND),
        );
        let mut sum = Pressure::default();
        sum.replace(Pressure::default(), a);
        sum.replace(Pressure::default(), b);
        assert_eq!((sum.waiting, sum.ready, sum.pace), (12, 6, 6_000));
        sum.replace(a, b);
        sum.replace(b, Pressure::default());
        assert_eq!(sum, b);
    }
}
