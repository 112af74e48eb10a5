//! Which buckets are asked for most, counted only while somebody looks.
//!
//! Counting every bucket always would cost every request something. So a worker counts while there is
//! somebody to be told: exactly, by the bucket's key, up to [`HOT_MAX`] of them between two looks; what is
//! busy is met early, so that it is hardly among those that are left out. 32 bytes for each.

use ahash::RandomState;
use std::collections::HashMap;

use crate::clock::Instant;
use crate::route::BucketKey;

/// Buckets counted by one worker between two looks: at one look a second, more than a worker serves in
/// an ordinary second.
pub const HOT_MAX: usize = 2_048;

/// What one worker has counted since the last look.
#[derive(Default)]
pub struct Hot {
    counts: HashMap<BucketKey, u32, RandomState>,
    since: Instant,
}

impl Hot {
    /// A request. True if its bucket is new here, so that its name may be.
    pub fn note(&mut self, key: BucketKey) -> bool {
        if let Some(count) = self.counts.get_mut(&key) {
            *count += 1;
            return false;
        }
        let fits = self.counts.len() < HOT_MAX;
        if fits {
            self.counts.insert(key, 1);
        }
        fits
    }

    /// Takes what was counted, and since when; counting begins anew.
    pub fn take(&mut self, now: Instant) -> (Vec<(BucketKey, u32)>, Instant) {
        let since = std::mem::replace(&mut self.since, now);
        (self.counts.drain().collect(), since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(route: u64) -> BucketKey {
        BucketKey {
            identity: 1,
            major: 2,
            route,
        }
    }

    #[test]
    fn what_was_asked_for_is_counted_once_and_then_anew() {
        let mut hot = Hot::default();
        assert!(hot.note(key(1)));
        assert!(!hot.note(key(1)));
        assert!(hot.note(key(2)));
        let at = Instant::from_millis(7);
        let (mut counts, since) = hot.take(at);
        counts.sort_unstable();
        assert_eq!(counts, [(key(1), 2), (key(2), 1)]);
        assert_eq!(since, Instant::ZERO);
        assert!(hot.note(key(1)), "new again");
        assert_eq!(hot.take(Instant::FAR), (vec![(key(1), 1)], at));
    }

    #[test]
    fn there_is_an_end_to_what_is_counted() {
        let mut hot = Hot::default();
        for route in 0..HOT_MAX as u64 {
            assert!(hot.note(key(route)));
        }
        assert!(!hot.note(key(u64::MAX)));
        assert!(!hot.note(key(3)));
        let (counts, _) = hot.take(Instant::ZERO);
        assert_eq!(counts.len(), HOT_MAX);
        assert!(counts.contains(&(key(3), 2)));
    }
}
