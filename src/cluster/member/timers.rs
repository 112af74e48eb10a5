//! foca's timers, in the order in which they fall due.

use super::Node;
use crate::clock::Instant;
use foca::Timer;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// See the module's documentation. Stale timers are told by foca itself.
#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Due>>,
    pushed: u64,
}

impl Timers {
    pub(super) fn push(&mut self, at: Instant, timer: Timer<Node>) {
        self.pushed += 1;
        let order = self.pushed;
        self.heap.push(Reverse(Due { at, timer, order }));
    }

    /// The next one, if it is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer<Node>> {
        self.heap.peek().filter(|due| due.0.at <= now)?;
        self.heap.pop().map(|due| due.0.timer)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|due| due.0.at)
    }
}

struct Due {
    at: Instant,
    timer: Timer<Node>,
    order: u64,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        // Of those due together, foca's own order: an indirect probe goes before the next round.
        let same_time = self.timer.cmp(&other.timer);
        let order = self.order.cmp(&other.order);
        self.at.cmp(&other.at).then(same_time).then(order)
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}
