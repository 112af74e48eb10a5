//! What can be seen of a global window.

use super::{STEPS, Window, step_of};
use crate::clock::Instant;

impl Window {
    /// Slots in use now.
    pub(in crate::limit) fn in_use(&self, now: Instant) -> u32 {
        let passed = step_of(now).wrapping_sub(self.step) as i32;
        let passed = u32::try_from(passed).unwrap_or(0).min(STEPS as u32);
        let returned: u32 = (1..=passed)
            .map(|ahead| self.release(self.step.wrapping_add(ahead)))
            .sum();
        self.used.saturating_sub(returned)
    }
}
