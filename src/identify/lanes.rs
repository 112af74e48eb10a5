//! How the day's budget is shared among the lines of many keys, found without a walk along them: for
//! foretelling one wait where thousands wait and the budget does not suffice for all.
//!
//! A key's waiting shards go at `at`, `at + SPACING`, … So how many of all lines go up to a time is a
//! division for each line, and when the last start of a day is taken a binary search over times.
//!
//! **Cost.** A pass over who waits to count them, 5 ns each, then 64 divisions for each line and day.

use super::SPACING;
use super::bot::Bot;
use super::budget::Budget;
use crate::clock::Instant;

/// Resets after which nobody waits any more; who would go after them is told that time. A year, as the
/// longest wait that can be asked for.
const RESETS_MAX: usize = 366;

/// [`SPACING`] in nanoseconds.
const STEP: u64 = SPACING.as_nanos() as u64;

/// One key's line.
struct Lane {
    /// Its first, as an index of [`Lanes::seqs`].
    first: usize,
    /// The one behind its last, the same.
    end: usize,
    /// When its first goes, in nanoseconds.
    at: u64,
}

/// All lines of a bot.
pub(super) struct Lanes {
    /// Who waits, line by line.
    seqs: Vec<u64>,
    lanes: Vec<Lane>,
}

impl Lane {
    /// How many go up to `time`.
    fn gone_by(&self, time: u64) -> usize {
        let Some(since) = time.checked_sub(self.at) else {
            return 0;
        };
        let gone = usize::try_from(since / STEP).unwrap_or(usize::MAX);
        gone.saturating_add(1).min(self.end - self.first)
    }

    /// When the one goes that has so many in front.
    fn time_of(&self, ahead: usize) -> u64 {
        self.at.saturating_add(STEP.saturating_mul(ahead as u64))
    }
}

impl Lanes {
    pub(super) fn new(bot: &Bot, now: Instant) -> Self {
        let seqs = bot.lines.keys().map(|&(_, seq)| seq).collect();
        let mut lanes: Vec<Lane> = Vec::new();
        let mut key = None;
        for (index, (&(of, _), waiter)) in bot.lines.iter().enumerate() {
            match lanes.last_mut() {
                Some(lane) if key == Some(of) => lane.end = index + 1,
                _ => lanes.push(Lane {
                    first: index,
                    end: index + 1,
                    at: bot.free_at(of).max(waiter.from).max(now).as_nanos(),
                }),
            }
            key = Some(of);
        }
        Self { seqs, lanes }
    }

    /// When whoever has this number goes.
    pub(super) fn foretell(mut self, seq: u64, budget: &Budget) -> Instant {
        let place = self.seqs.iter().position(|other| *other == seq);
        let of_place = |place| {
            let holds = |lane: &Lane| (lane.first..lane.end).contains(&place);
            Some((place, self.lanes.iter().position(holds)?))
        };
        let Some((place, own)) = place.and_then(of_place) else {
            return Instant::FAR;
        };
        let mut left = usize::try_from(budget.remaining).unwrap_or(usize::MAX);
        let total = usize::try_from(budget.total).unwrap_or(usize::MAX);
        let mut day = Instant::ZERO;
        let mut reset_at = budget.reset_at;
        for _ in 0..RESETS_MAX {
            let goes = self.go(left);
            let lane = &self.lanes[own];
            let ahead = place - lane.first;
            if ahead < goes[own] {
                return Instant::from_nanos(lane.time_of(ahead));
            }
            if reset_at == Instant::FAR {
                // The window begins with its first start.
                let first = self.lanes.iter().map(|lane| lane.at).min();
                reset_at = Budget::window_after(Instant::from_nanos(first.unwrap_or(0)));
            }
            day = reset_at.max(day);
            for (lane, goes) in self.lanes.iter_mut().zip(goes) {
                lane.at = lane.time_of(goes).max(day.as_nanos());
                lane.first += goes;
            }
            reset_at = Budget::window_after(day);
            left = total;
        }
        day
    }

    /// How many of each line go if so many may; of those whose turn comes at once, whoever came first.
    fn go(&self, left: usize) -> Vec<usize> {
        if left == 0 {
            return vec![0; self.lanes.len()];
        }
        let gone_by = |time| -> usize { self.lanes.iter().map(|lane| lane.gone_by(time)).sum() };
        let last = |lane: &Lane| lane.time_of(lane.end - lane.first);
        let (mut from, mut to) = (0, self.lanes.iter().map(last).max().unwrap_or(0));
        while from < to {
            let middle = from + (to - from) / 2;
            if gone_by(middle) >= left {
                to = middle;
            } else {
                from = middle + 1;
            }
        }
        let mut goes: Vec<_> = self.lanes.iter().map(|lane| lane.gone_by(to)).collect();
        let beyond = goes.iter().sum::<usize>().saturating_sub(left);
        let last_at = |(index, lane): (usize, &Lane)| {
            let ahead = goes[index].checked_sub(1)?;
            (lane.time_of(ahead) == to).then(|| (self.seqs[lane.first + ahead], index))
        };
        let mut at_last: Vec<_> = self.lanes.iter().enumerate().filter_map(last_at).collect();
        at_last.sort_unstable();
        for &(_, index) in at_last.iter().rev().take(beyond) {
            goes[index] -= 1;
        }
        goes
    }
}
