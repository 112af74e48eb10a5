//! What the queues keep over a restart: each bot's budget, and which keys were taken until when.

use super::bot::Bot;
use super::budget::{Budget, Limits};
use super::{Queues, SPACING};
use crate::clock::Instant;
use crate::limit::snapshot::Starts;

impl Queues {
    /// What is to be kept, as it is at `base`. Who waits is not: he asks again.
    pub fn keep(&self, base: Instant) -> Vec<Starts> {
        let of_bot = |(&bot, known): (&u64, &Bot)| known.keep(bot, base);
        self.bots.iter().map(of_bot).collect()
    }

    /// Takes up what an earlier process kept; to be called before anybody asks. If it is not
    /// `complete`, that went on letting shards go, nobody knows which: all keys are taken then.
    pub fn restore(&mut self, now: Instant, kept: Vec<Starts>, complete: bool) {
        if !complete {
            self.closed_until = now + SPACING;
        }
        for starts in kept.into_iter().take(self.settings.bots_max) {
            let limits = Limits {
                max_concurrency: starts.max_concurrency,
                total: starts.total,
                remaining: starts.remaining,
                reset_after: std::time::Duration::ZERO,
            };
            let reset_at = starts.reset_at.unwrap_or(Instant::FAR);
            let mut bot = Bot::new(self.closed_until);
            bot.budget = Budget::restored(&limits, reset_at);
            for (shard, until) in starts.taken {
                bot.remember(shard, until.min(now + SPACING));
            }
            self.bots.insert(starts.bot, bot);
        }
    }
}
