//! How the guards stand, for whoever watches.

use std::time::Duration;

use super::{Latch, Latches, Limiter};
use crate::clock::Instant;

/// What protects the egress address and Discord, and what it has done since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Guarded {
    /// Invalid answers (401, 403, 429) of the last ten minutes, and up to ten seconds more.
    pub invalid: u32,
    /// So many of them, and nothing is sent: [`BUDGET`](super::BUDGET).
    pub invalid_max: u32,
    /// Cloudflare blocks the egress address: how long until one request finds out whether it still does.
    pub blocked_for: Option<Duration>,
    /// Webhooks that are remembered as dead.
    pub webhooks_dead: usize,
    /// Webhooks that were found dead.
    pub webhooks_died: u64,
    /// Cloudflare's blocks.
    pub blocks: Blocks,
    /// Tokens locked after a 401.
    pub tokens: Locks,
}

/// Cloudflare's blocks since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Blocks {
    /// Blocks that began.
    pub began: u64,
    /// Times that one went on when it was tried whether it had ended.
    pub went_on: u64,
    /// Blocks that ended.
    pub ended: u64,
}

/// Locks of tokens since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Locks {
    /// Tokens that were locked.
    pub locked: u64,
    /// Times that a locked token was refused once more when it was tried.
    pub refused_again: u64,
    /// Tokens that were let go again.
    pub released: u64,
}

impl Locks {
    /// A token was refused, or not; it was `barred` `before` and is `now`.
    pub(super) fn note(&mut self, before: bool, now: bool, refused: bool) {
        match (before, now) {
            (false, true) => self.locked += 1,
            (true, false) => self.released += 1,
            (true, true) if refused => self.refused_again += 1,
            (true, true) | (false, false) => {}
        }
    }

    fn add(&mut self, other: Self) {
        self.locked += other.locked;
        self.refused_again += other.refused_again;
        self.released += other.released;
    }
}

impl<L: Latches> Limiter<L> {
    /// How the guards stand. Looks at every webhook that is remembered as dead (at most 16,384), and at
    /// each shard's counts.
    pub fn guarded(&self, now: Instant) -> Guarded {
        let mut guarded = self.guards.with(|guards| guards.stand(now));
        for shard in &self.identities {
            guarded.tokens.add(shard.with(|shard| shard.locks()));
        }
        guarded
    }
}
