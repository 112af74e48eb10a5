//! What became of every request, and what is wrong with it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Wrongs that are told in full; of the others, how many there were.
const TOLD_MAX: usize = 20;

/// Counts of all clients.
#[derive(Debug)]
pub(super) struct Tally {
    inner: Mutex<Inner>,
    pace: Mutex<Instant>,
    interval: Duration,
}

#[derive(Debug)]
struct Inner {
    counts: Counts,
    took_us: Histogram<u64>,
}

/// What happened until now.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Requests that were sent, wholly or in part.
    pub sent: u64,
    /// The upstream's answers by status.
    pub upstream: BTreeMap<u16, u64>,
    /// weir's own answers by status.
    pub own: BTreeMap<u16, u64>,
    /// Requests whose client left before it had the whole answer, by how it left.
    pub left: BTreeMap<&'static str, u64>,
    /// Answers that broke off in their body, seen as such.
    pub broken: u64,
    /// The longest that an answer took.
    pub longest: Duration,
    /// What must not be.
    pub wrongs: Vec<String>,
    /// How many of those.
    pub wrong: u64,
}

impl Counts {
    /// Requests that have an end.
    pub fn ended(&self) -> u64 {
        let sum = |map: &BTreeMap<u16, u64>| map.values().sum::<u64>();
        sum(&self.upstream) + sum(&self.own) + self.left.values().sum::<u64>()
    }
}

impl Tally {
    /// Nothing has happened; clients are to keep to `rate` requests a second.
    pub(super) fn new(rate: f64) -> Self {
        // Three digits up to a minute; longer ones are counted as that.
        let took_us = Histogram::new_with_bounds(1, 60_000_000, 3)
            .unwrap_or_else(|_| unreachable!("the bounds are constants"));
        Self {
            inner: Mutex::new(Inner {
                counts: Counts::default(),
                took_us,
            }),
            pace: Mutex::new(Instant::now()),
            interval: Duration::from_secs_f64(1.0 / rate.max(0.1)),
        }
    }

    /// Waits until one more request may be sent. What could not be sent in time is let go, but for
    /// a tenth of a second: a pause is not followed by a flood.
    pub(super) fn pace(&self) {
        let now = Instant::now();
        let due = {
            let mut next = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            let due = (*next).max(now.checked_sub(Duration::from_millis(100)).unwrap_or(now));
            *next = due + self.interval;
            due
        };
        std::thread::sleep(due.saturating_duration_since(now));
    }

    pub(super) fn sent(&self) {
        self.lock().counts.sent += 1;
    }

    /// An answer has come, by weir itself or from the upstream.
    pub(super) fn answered(&self, status: u16, own: bool, took: Duration) {
        let mut inner = self.lock();
        let counts = &mut inner.counts;
        let by = if own {
            &mut counts.own
        } else {
            &mut counts.upstream
        };
        *by.entry(status).or_default() += 1;
        counts.longest = counts.longest.max(took);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        inner.took_us.saturating_record(took.max(1));
    }

    pub(super) fn left(&self, how: &'static str) {
        *self.lock().counts.left.entry(how).or_default() += 1;
    }

    pub(super) fn broken(&self) {
        self.lock().counts.broken += 1;
    }

    pub(super) fn wrong(&self, what: String) {
        let counts = &mut self.lock().counts;
        counts.wrong += 1;
        if counts.wrongs.len() < TOLD_MAX {
            counts.wrongs.push(what);
        }
    }

    /// What happened until now, and the time that a share `q` of answers took at most.
    pub(super) fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// The time within which the share `q` of answers came.
    pub(super) fn quantile(&self, q: f64) -> Duration {
        Duration::from_micros(self.lock().took_us.value_at_quantile(q))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_by_an_answer_or_by_its_client() {
        let tally = Tally::new(1000.0);
        for _ in 0..4 {
            tally.sent();
        }
        tally.answered(200, false, Duration::from_millis(2));
        tally.answered(429, true, Duration::from_millis(9));
        tally.left("half a head");
        let counts = tally.counts();
        assert_eq!((counts.sent, counts.ended()), (4, 3));
        assert_eq!(counts.longest, Duration::from_millis(9));
    }

    #[test]
    fn the_pace_is_kept_and_a_pause_is_not_made_up_for() {
        let tally = Tally::new(1000.0);
        std::thread::sleep(Duration::from_millis(400));
        let begin = Instant::now();
        for _ in 0..200 {
            tally.pace();
        }
        // A hundred of them are overdue, the others take a millisecond each.
        assert!(
            begin.elapsed() >= Duration::from_millis(90),
            "{:?}",
            begin.elapsed()
        );
    }
}
