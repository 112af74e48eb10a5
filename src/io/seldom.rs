//! Saying something that may happen a million times, now and then.

use std::cell::Cell;
use std::time::Duration;

use crate::clock::Instant;

/// How often the same is said: an attack of hours is a page of log.
const PAUSE: Duration = Duration::from_secs(30);

/// Something that is said when it happens first, and then once in half a minute at most.
#[derive(Default)]
pub struct Seldom {
    said: Cell<Option<Instant>>,
    unsaid: Cell<u64>,
}

impl Seldom {
    /// It happened. If it is to be said: how often it has happened, unsaid, since it was said last.
    pub fn happened(&self, now: Instant) -> Option<u64> {
        let said = self.said.get();
        if said.is_some_and(|said| now.saturating_duration_since(said) < PAUSE) {
            self.unsaid.set(self.unsaid.get() + 1);
            return None;
        }
        self.said.set(Some(now));
        Some(self.unsaid.take())
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
}
