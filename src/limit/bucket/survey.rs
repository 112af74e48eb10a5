//! What can be seen of a bucket.

use super::{Bucket, Kind};
use crate::clock::Instant;
use crate::limit::survey::Reading;

impl Bucket {
    /// Its limit and the slots that are free now, as far as a limit is known.
    pub(in crate::limit) fn slots(&self, now: Instant) -> Option<(u16, u16)> {
        let taken = self.in_flight.saturating_add(self.lost);
        let free = match self.kind {
            Kind::Lane | Kind::Fresh | Kind::Free => return None,
            Kind::Careful | Kind::Fixed | Kind::Sliding if self.reset <= now => {
                self.limit.saturating_sub(self.in_flight)
            }
            Kind::Sliding if self.slot_us > 0 => {
                // What was lost is in `reset` already.
                let left = self.reset.saturating_duration_since(now).as_micros();
                let leaking = left.div_ceil(u128::from(self.slot_us));
                let leaking = u16::try_from(leaking).unwrap_or(u16::MAX);
                self.limit
                    .saturating_sub(leaking.saturating_add(self.in_flight))
            }
            Kind::Careful | Kind::Fixed | Kind::Sliding => self.remaining.saturating_sub(taken),
        };
        Some((self.limit, free))
    }

    /// How it is read.
    pub(in crate::limit) const fn reading(&self) -> Reading {
        match self.kind {
            Kind::Lane | Kind::Fresh => Reading::Unknown,
            Kind::Free => Reading::Free,
            Kind::Careful => Reading::Careful,
            Kind::Fixed => Reading::Fixed,
            Kind::Sliding => Reading::Sliding,
        }
    }
}
