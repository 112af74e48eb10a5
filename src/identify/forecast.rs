//! When who waits will go, if nobody leaves and `/gateway/bot` tells nothing new.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::SPACING;
use super::bot::{Bot, Waiter};
use super::budget::Budget;
use super::lanes::Lanes;
use crate::clock::Instant;

/// What becomes of somebody in the course of a walk through the lines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Goes,
    /// Out of the line: it costs nothing.
    Leaves,
}

impl Bot {
    /// When whoever waits at `place` will go.
    pub(super) fn foretell(&self, now: Instant, place: (u32, u64)) -> Instant {
        let left = usize::try_from(self.budget.remaining).unwrap_or(usize::MAX);
        if self.waiting() <= left {
            return self.by_key_alone(now, place);
        }
        Lanes::new(self, now).foretell(place.1, &self.budget)
    }

    /// The same where the budget suffices for all who wait.
    fn by_key_alone(&self, now: Instant, (key, seq): (u32, u64)) -> Instant {
        let line = self.lines.range((key, 0)..=(key, seq));
        let mut at = self.free_at(key).max(now);
        for (position, (_, waiter)) in line.enumerate() {
            if position > 0 {
                at += SPACING;
            }
            at = at.max(waiter.from);
        }
        at
    }

    /// Those who will not go before their clients' patience ends, and when they would.
    pub(super) fn too_late(&self, now: Instant) -> Vec<((u32, u64), Instant)> {
        let mut late = Vec::new();
        self.walk(now, |place, waiter, at| {
            if waiter.until < at {
                late.push((place, at));
                return Step::Leaves;
            }
            Step::Goes
        });
        late
    }

    /// Goes through all lines in the order of time.
    fn walk(&self, now: Instant, mut each: impl FnMut((u32, u64), &Waiter, Instant) -> Step) {
        let mut heads = BinaryHeap::new();
        self.heads(|place, at| heads.push(Reverse((at.max(now), place.1, place.0))));
        let (mut left, mut reset_at) = (self.budget.remaining, self.budget.reset_at);
        let mut day = now;
        while let Some(Reverse((due, seq, key))) = heads.pop() {
            if left == 0 {
                // A window that has not begun is not used up.
                day = reset_at.max(day);
                left = self.budget.total;
                reset_at = Budget::window_after(day);
            }
            let at = due.max(day);
            let place = (key, seq);
            let step = each(place, &self.lines[&place], at);
            let next = match step {
                Step::Leaves => due,
                Step::Goes => {
                    left -= 1;
                    at + SPACING
                }
            };
            let behind = self.lines.range((key, seq + 1)..=(key, u64::MAX)).next();
            if let Some((&(_, seq), waiter)) = behind {
                heads.push(Reverse((next.max(waiter.from), seq, key)));
            }
        }
    }
}
