//! Which idle connection goes out next, and when one has idled too long. Pure.
//!
//! Last in, first out: the connection used most recently is the least likely to have been closed
//! by the other side and the most likely to be in the processor's caches, and the ones that a
//! burst needed grow old at the bottom until they expire.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Instant;

/// The idle connections of one worker.
#[derive(Debug)]
pub struct Pool<C> {
    /// Oldest first. Invariant: `since` never decreases from front to back.
    idle: VecDeque<Idle<C>>,
    idle_timeout: Duration,
    idle_max: usize,
}

#[derive(Debug)]
struct Idle<C> {
    since: Instant,
    connection: C,
}

impl<C> Pool<C> {
    /// An empty pool that keeps up to `idle_max` connections for `idle_timeout` each.
    pub fn new(idle_max: usize, idle_timeout: Duration) -> Self {
        Self {
            idle: VecDeque::new(),
            idle_timeout,
            idle_max,
        }
    }

    /// The connection that went idle last, if it has not idled too long, and since when it idles.
    pub fn take(&mut self, now: Instant) -> Option<(C, Instant)> {
        let last = self.idle.pop_back()?;
        (last.since + self.idle_timeout > now).then_some((last.connection, last.since))
    }

    /// Keeps a connection for later; returns the one that has to go for it at the bound.
    pub fn put(&mut self, now: Instant, connection: C) -> Option<C> {
        let evicted = if self.idle.len() >= self.idle_max {
            self.idle.pop_front()
        } else {
            None
        };
        if self.idle_max > 0 {
            self.idle.push_back(Idle {
                since: now,
                connection,
            });
            return evicted.map(|idle| idle.connection);
        }
        Some(connection)
    }

    /// Removes one connection that has idled too long.
    pub fn expire(&mut self, now: Instant) -> Option<C> {
        let oldest = self.idle.front()?;
        if oldest.since + self.idle_timeout > now {
            return None;
        }
        self.idle.pop_front().map(|idle| idle.connection)
    }

    /// When [`Pool::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.idle
            .front()
            .map(|oldest| oldest.since + self.idle_timeout)
    }

    /// How many connections idle.
    pub fn len(&self) -> usize {
        self.idle.len()
    }

    /// Whether none idles.
    pub fn is_empty(&self) -> bool {
        self.idle.is_empty()
    }

    /// Removes them all.
    pub fn clear(&mut self) {
        self.idle.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    #[test]
    fn the_connection_used_last_goes_out_first() {
        let mut pool = Pool::new(4, TIMEOUT);
        for id in 0..3 {
            assert_eq!(pool.put(Instant::from_millis(id), id), None);
        }
        let now = Instant::from_millis(10);
        assert_eq!(
            [(); 4].map(|()| pool.take(now)),
            [
                Some((2, Instant::from_millis(2))),
                Some((1, Instant::from_millis(1))),
                Some((0, Instant::ZERO)),
                None
            ]
        );
    }

    #[test]
    fn at_the_bound_the_oldest_leaves() {
        let mut pool = Pool::new(2, TIMEOUT);
        assert_eq!(pool.put(Instant::ZERO, 1), None);
        assert_eq!(pool.put(Instant::ZERO, 2), None);
        assert_eq!(pool.put(Instant::ZERO, 3), Some(1));
        assert_eq!(pool.len(), 2);
        assert_eq!(Pool::new(0, TIMEOUT).put(Instant::ZERO, 9), Some(9));
    }

    #[test]
    fn one_that_idled_too_long_expires_and_is_never_handed_out() {
        let mut pool = Pool::new(4, TIMEOUT);
        pool.put(Instant::ZERO, 1);
        pool.put(Instant::from_millis(1_000), 2);
        assert_eq!(pool.next_deadline(), Some(Instant::from_millis(60_000)));
        assert_eq!(pool.expire(Instant::from_millis(59_999)), None);
        assert_eq!(pool.expire(Instant::from_millis(60_000)), Some(1));
        assert_eq!(pool.expire(Instant::from_millis(60_000)), None);
        assert_eq!(pool.take(Instant::from_millis(61_000)), None);
    }
}
