//! What happens when, and how long the network takes.

use crate::clock::Instant;
use crate::limit::Answer;
use crate::sim::seed::Seed;
use std::time::Duration;

/// The network between weir and Discord.
#[derive(Clone, Copy, Debug)]
pub(in crate::sim) struct Network {
    pub(in crate::sim) delay_min: Duration,
    pub(in crate::sim) delay_max: Duration,
    /// Of 1,000 requests, so many never arrive, and of 1,000 answers, so many.
    pub(in crate::sim) loss_permille: u64,
}

impl Network {
    /// How long a leg of a request's way takes that is sent for the `sends`-th time, and whether it
    /// is lost on it; `chance` is the run's.
    pub(in crate::sim) fn way(
        &self,
        chance: u64,
        id: u64,
        sends: u32,
        leg: u64,
    ) -> (Duration, bool) {
        let mut chance = chance_of(chance, id, sends, leg);
        let delay = chance.duration(self.delay_min, self.delay_max);
        (delay, chance.permille(self.loss_permille))
    }
}

/// The chance of a request's own: the same for every limiter.
pub(super) const fn chance_of(chance: u64, id: u64, sends: u32, leg: u64) -> Seed {
    let number = id << 20 | (sends as u64) << 4 | leg;
    Seed::new(Seed::new(chance ^ number).next())
}

/// What happens at some time.
#[derive(Debug)]
pub(super) enum Event {
    Ask(u64),
    Arrives(u64),
    Answered(u64, Box<Answer>),
    Lost(u64),
    Leaves(u64),
    Tick,
    Confirmed(u64),
    /// The limiter's process takes nobody in any more.
    Drains,
    /// It ends, and the next one starts.
    Restarts,
}

pub(super) struct Scheduled(pub(super) Instant, pub(super) u64, pub(super) Event);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}
