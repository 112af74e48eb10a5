//! What is noted only while somebody looks, and what lookers share.
//!
//! A look turns watching on for some seconds; workers hear of it by a nudge and count which buckets are asked
//! for. When nobody looks, a request pays for one test of a flag of its own worker.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Instant;
use crate::route::BucketKey;
use crate::status::{Hot, Names, Past};

/// A look keeps watching on for so long: some times as long as a page waits between two.
const ON_FOR: Duration = Duration::from_secs(5);

/// See the module's documentation.
pub struct Watch {
    /// When watching ends, nanoseconds of the clock.
    until: AtomicU64,
    /// What each worker counts. Its own worker locks it for each request while it is watched, a look once.
    hot: Box<[Noted]>,
    /// What keys stand for. A worker locks them for a request that has to wait.
    names: Mutex<Names>,
    /// What the last look found, and what looks before it did. Held for the time of a look: one at a time.
    looks: Mutex<Looks>,
}

/// On cache lines of its own: each worker writes its own.
#[derive(Default)]
#[repr(align(128))]
struct Noted(Mutex<Hot>);

/// What looks leave to each other.
#[derive(Default)]
pub struct Looks {
    /// What earlier ones saw.
    pub past: Past,
    /// The last document, and when it was made.
    pub last: Option<(Instant, String)>,
}

impl Watch {
    /// Nobody looks.
    pub fn new(workers: usize) -> Self {
        Self {
            until: AtomicU64::new(0),
            hot: (0..workers).map(|_| Noted::default()).collect(),
            names: Mutex::default(),
            looks: Mutex::default(),
        }
    }

    /// Whether somebody looks.
    pub fn is_on(&self, now: Instant) -> bool {
        now.as_nanos() < self.until.load(Ordering::Relaxed)
    }

    /// Somebody looks. False if nobody did before: then workers have to be told.
    pub fn begin(&self, now: Instant) -> bool {
        let until = (now + ON_FOR).as_nanos();
        self.until.swap(until, Ordering::Relaxed) > now.as_nanos()
    }

    /// A worker has met a request of this bucket. True if its name is to be told.
    pub fn note(&self, worker: usize, key: BucketKey) -> bool {
        self.hot
            .get(worker)
            .is_some_and(|noted| noted.lock().note(key))
    }

    /// What workers have counted since the last call, and since when.
    pub fn take_hot(&self, now: Instant) -> (Vec<(BucketKey, u32)>, Instant) {
        let mut all = Vec::new();
        let mut from = now;
        for noted in &self.hot {
            let (counts, since) = noted.lock().take(now);
            all.extend(counts);
            from = from.min(since);
        }
        (all, from)
    }

    /// What keys stand for; lock it for a moment only.
    pub fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One look at a time.
    pub fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Noted {
    fn lock(&self) -> MutexGuard<'_, Hot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watching_ends_some_time_after_the_last_look() {
        let watch = Watch::new(1);
        let now = Instant::from_millis(1_000);
        assert!(!watch.is_on(now));
        assert!(!watch.begin(now), "nobody looked before");
        assert!(watch.is_on(now + ON_FOR / 2));
        assert!(watch.begin(now + ON_FOR / 2));
        assert!(watch.is_on(now + ON_FOR));
        assert!(!watch.is_on(now + ON_FOR * 2));
        assert!(!watch.begin(now + ON_FOR * 2));
    }

    #[test]
    fn what_workers_note_is_taken_together() {
        let watch = Watch::new(2);
        let key = BucketKey {
            identity: 1,
            major: 2,
            route: 3,
        };
        assert!(watch.note(0, key) && watch.note(1, key) && !watch.note(1, key));
        let now = Instant::from_millis(5);
        let (mut counts, _) = watch.take_hot(now);
        counts.sort_unstable();
        assert_eq!(counts, [(key, 1), (key, 2)]);
        assert_eq!(watch.take_hot(now + ON_FOR), (Vec::new(), now));
    }
}
