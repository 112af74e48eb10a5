//! The network between nodes: delay, loss of datagrams, and who can reach whom.

use crate::sim::seed::Seed;
use std::time::Duration;

/// The longest way of a datagram that is not lost.
const DELAY_MAX: Duration = Duration::from_millis(4);
const DELAY_MIN: Duration = Duration::from_micros(100);

/// See the module's documentation.
pub(super) struct Net {
    /// Of 1,000 datagrams, so many are lost.
    pub(super) loss_permille: u64,
    /// Nodes of different parts cannot reach each other.
    parts: Vec<u8>,
}

impl Net {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            loss_permille: 0,
            parts: vec![0; nodes],
        }
    }

    pub(super) fn reaches(&self, a: usize, b: usize) -> bool {
        self.parts[a] == self.parts[b]
    }

    /// Cuts the nodes of a random half, at least one, off from the others.
    pub(super) fn cut(&mut self, chance: &mut Seed) {
        let odd = chance.below(self.parts.len() as u64) as usize;
        for (n, part) in self.parts.iter_mut().enumerate() {
            *part = u8::from(n == odd || chance.permille(400));
        }
    }

    pub(super) fn heal(&mut self) {
        self.parts.fill(0);
    }

    pub(super) fn delay(chance: &mut Seed) -> Duration {
        chance.duration(DELAY_MIN, DELAY_MAX)
    }

    /// When a datagram arrives, if it does.
    pub(super) fn datagram(&self, from: usize, to: usize, chance: &mut Seed) -> Option<Duration> {
        let lost = chance.permille(self.loss_permille);
        let delay = Self::delay(chance);
        (self.reaches(from, to) && !lost).then_some(delay)
    }
}
