//! What is locked now, to be looked at and to be opened by hand: tokens that Discord refused, webhooks
//! that are gone, the breaker.
//!
//! Walks everything that is remembered, a bite at a time, so that no request waits longer for a latch
//! than for one such bite. For people, not for the request path.

use std::time::Duration;

use super::breaker::Passage;
use super::guards::Guards;
use super::identity::Identities;
use super::{Latch, Latches, Limiter, Outputs};
use crate::clock::Instant;

/// Identities or webhooks looked at under one latch: some microseconds.
const BITE: u32 = 256;

/// A token that Discord refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenLock {
    /// Names the lock: a keyed hash, from which no token follows.
    pub key: u64,
    /// The bot's user id; `None` if its token does not tell it, or nobody has used it since a restart.
    pub user_id: Option<u64>,
    /// Until one request may find out; zero if that can be now.
    pub left: Duration,
    /// Such a request is under way.
    pub probing: bool,
    /// Discord was asked about it; if not, it has answered 401 several times and nothing else.
    pub confirmed: bool,
    /// How often it has been found refused.
    pub times: u32,
}

/// A webhook that is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeadWebhook {
    /// Names the memory of it: a keyed hash.
    pub key: u64,
    /// Its id; `None` if nobody has asked for it since a restart.
    pub id: Option<u64>,
    /// Until it is forgotten.
    pub left: Duration,
}

/// Cloudflare's block of the egress address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Until one request may find out; zero if that can be now.
    pub left: Duration,
    /// How often it has been blocked without an answer of Discord's between.
    pub times: u32,
}

/// Which of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// All.
    All,
    /// Those of a bot or a webhook.
    Id(u64),
    /// The one with this key.
    Key(u64),
}

impl Which {
    /// Whether it is this one.
    pub(super) fn is(self, key: u64, id: Option<u64>) -> bool {
        match self {
            Self::All => true,
            Self::Id(wanted) => id == Some(wanted),
            Self::Key(wanted) => key == wanted,
        }
    }
}

impl<L: Latches> Limiter<L> {
    /// The tokens that are locked.
    pub fn locked_tokens(&self, now: Instant) -> Vec<TokenLock> {
        let mut found = Vec::new();
        self.each_bite(|identities, from| identities.locked_tokens(now, from, BITE, &mut found));
        found
    }

    /// Believes these tokens again; says how many were locked.
    pub fn unlock_tokens(&self, now: Instant, which: Which) -> usize {
        let mut opened = 0;
        self.each_bite(|identities, from| {
            identities.unlock_tokens(now, which, from, BITE, &mut opened)
        });
        opened
    }

    /// The webhooks that are known to be gone.
    pub fn dead_webhooks(&self, now: Instant) -> Vec<DeadWebhook> {
        self.guards.with(|guards| guards.dead_webhooks(now))
    }

    /// Forgets that these webhooks are gone; says how many were.
    pub fn forget_webhooks(&self, now: Instant, which: Which) -> usize {
        self.open(now, |guards| guards.forget_webhooks(now, which))
    }

    /// Cloudflare's block, if there is one.
    pub fn block(&self, now: Instant) -> Option<Block> {
        self.guards.with(|guards| guards.block(now))
    }

    /// Forgets Cloudflare's block; says whether there was one.
    pub fn forget_block(&self, now: Instant) -> bool {
        self.open(now, Guards::forget_block)
    }

    /// Invalid answers (401, 403, 429) of the last ten minutes.
    pub fn invalid(&self, now: Instant) -> u32 {
        self.guards.with(|guards| guards.invalid(now))
    }

    /// Sets a bot's global limit, in requests a second from 1, or has it found out again with `None`;
    /// says what was set before.
    pub fn set_override(
        &self,
        now: Instant,
        user_id: u64,
        limit: Option<u32>,
        out: &mut Outputs,
    ) -> Option<u32> {
        let mut before = None;
        for shard in &self.identities {
            before = shard.with(|identities| identities.set_override(user_id, limit));
        }
        self.each_bite(|identities, from| {
            identities.follow_override(now, user_id, from, BITE, out)
        });
        self.drain(now, out);
        before
    }

    fn each_bite(&self, mut bite: impl FnMut(&mut Identities, u32) -> Option<u32>) {
        for shard in &self.identities {
            let mut from = Some(0);
            while let Some(place) = from {
                from = shard.with(|identities| bite(identities, place));
            }
        }
    }

    /// Changes what the guards know.
    fn open<R>(&self, now: Instant, change: impl FnOnce(&mut Guards) -> R) -> R {
        self.guards.with(|guards| {
            let changed = change(guards);
            let guarded = guards.have_a_say(now);
            self.guarded
                .store(guarded, std::sync::atomic::Ordering::Release);
            changed
        })
    }
}

/// What a passage says of how long it is closed.
pub(super) fn left(passage: Passage) -> Duration {
    match passage {
        Passage::Closed(left) => left,
        Passage::Open | Passage::Probe => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests;
