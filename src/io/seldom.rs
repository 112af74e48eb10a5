//! Saying something that may happen a million times, now and then.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Instant;

/// How often the same is said: an attack of hours is a page of log.
const PAUSE: Duration = Duration::from_secs(30);

/// Something that is said when it happens first, and then once in half a minute at most; or as often
/// as a person can read, if each time is another's.
pub struct Seldom {
    /// When it was said first of those that count as one.
    said: Cell<Option<Instant>>,
    /// How often it may be said within a pause, and has been.
    burst: u32,
    spent: Cell<u32>,
    unsaid: Cell<u64>,
}

impl Default for Seldom {
    fn default() -> Self {
        Self::with_burst(1)
    }
}

impl Seldom {
    /// Something that is said so often within half a minute.
    pub const fn with_burst(burst: u32) -> Self {
        Self {
            said: Cell::new(None),
            burst,
            spent: Cell::new(0),
            unsaid: Cell::new(0),
        }
    }

    /// It happened. If it is to be said: how often it has happened, unsaid, since it was said last.
    pub fn happened(&self, now: Instant) -> Option<u64> {
        let said = self.said.get();
        if said.is_none_or(|said| now.saturating_duration_since(said) >= PAUSE) {
            self.said.set(Some(now));
            self.spent.set(0);
        }
        if self.spent.get() >= self.burst {
            self.unsaid.set(self.unsaid.get() + 1);
            return None;
        }
        self.spent.set(self.spent.get() + 1);
        Some(self.unsaid.take())
    }
}

/// The same for several threads. Its lock is taken when the thing happens, and then only.
#[derive(Default)]
pub struct SharedSeldom(Mutex<Seldom>);

impl SharedSeldom {
    /// Something that is said so often within half a minute.
    pub const fn with_burst(burst: u32) -> Self {
        Self(Mutex::new(Seldom::with_burst(burst)))
    }

    /// See [`Seldom::happened`].
    pub fn happened(&self, now: Instant) -> Option<u64> {
        let seldom = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seldom.happened(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_no_more_until_the_pause_is_over() {
        let seldom = Seldom::default();
        let start = Instant::ZERO + PAUSE;
        assert_eq!(seldom.happened(start), Some(0));
        assert_eq!(seldom.happened(start), None);
        assert_eq!(seldom.happened(start + PAUSE / 2), None);
        assert_eq!(seldom.happened(start + PAUSE), Some(2));
        assert_eq!(seldom.happened(start + PAUSE), None);
        assert_eq!(seldom.happened(start + PAUSE * 3), Some(1));
        assert_eq!(seldom.happened(start + PAUSE * 5), Some(0));
    }

    #[test]
    fn a_burst_is_said_in_full_and_what_is_beyond_it_is_counted() {
        let seldom = SharedSeldom::with_burst(3);
        let said = |at| (0..5).map(|_| seldom.happened(at)).collect::<Vec<_>>();
        let start = Instant::ZERO;
        assert_eq!(said(start), [Some(0), Some(0), Some(0), None, None]);
        assert_eq!(said(start + PAUSE / 2), [None; 5]);
        assert_eq!(said(start + PAUSE), [Some(7), Some(0), Some(0), None, None]);
    }
}
