//! Tokens that are locked, and limits that somebody sets, looked at and changed by hand: a bite of the
//! shard at a time.

use super::{Identities, Identity};
use crate::clock::Instant;
use crate::limit::ask::Outputs;
use crate::limit::locks::{TokenLock, Which};
use crate::limit::snapshot::{IdentityRecord, Times, TokenRecord, left};
use crate::limit::token::Token;
use std::time::Duration;

impl Identities {
    /// Adds the tokens that are locked, of the places from `from`, `batch` of them; and where to go on.
    pub(in crate::limit) fn locked_tokens(
        &self,
        now: Instant,
        from: u32,
        batch: u32,
        found: &mut Vec<TokenLock>,
    ) -> Option<u32> {
        let (places, next) = self.arena.bite(from, batch);
        let met = places.filter_map(|place| self.arena.get(place));
        found.extend(met.filter_map(|identity| identity.lock(now)));
        // Those that were not met since a restart are on a shelf beside.
        let shelf = self.restored.as_deref().map(|restored| &restored.shelf);
        let shelved = shelf.map(|shelf| shelf.bite(from, batch));
        let Some((bite, next_shelved)) = shelved else {
            return next;
        };
        found.extend(bite.filter_map(|(record, times)| lock_of(record, now, *times)));
        next.max(next_shelved)
    }

    /// Believes these tokens again, of the places from `from`, `batch` of them; and where to go on.
    pub(in crate::limit) fn unlock_tokens(
        &mut self,
        now: Instant,
        which: Which,
        from: u32,
        batch: u32,
        opened: &mut usize,
    ) -> Option<u32> {
        let (places, next) = self.arena.bite(from, batch);
        for place in places {
            if let Some(identity) = self.arena.get_mut(place)
                && let Some(lock) = identity.lock(now)
                && which.is(lock.key, lock.user_id)
            {
                identity.token = Token::Good;
                self.locks.released += 1;
                *opened += 1;
            }
        }
        let Some(restored) = self.restored.as_deref_mut() else {
            return next;
        };
        let count = std::cell::Cell::new(0);
        let next_shelved = restored.shelf.change(from, batch, |(record, times)| {
            if let Some(lock) = lock_of(record, now, *times)
                && which.is(lock.key, None)
            {
                record.token = TokenRecord::Good;
                count.set(count.get() + 1);
            }
        });
        self.locks.released += count.get() as u64;
        *opened += count.get();
        next.max(next_shelved)
    }

    /// Sets what a bot's global limit is, for those that are met from now on; says what was set before.
    pub(in crate::limit) fn set_override(
        &mut self,
        user_id: u64,
        limit: Option<u32>,
    ) -> Option<u32> {
        let overrides = &mut self.settings.global_overrides;
        match limit {
            Some(limit) => overrides.insert(user_id, limit.max(1)),
            None => overrides.remove(&user_id),
        }
    }

    /// The same for those that are known, of the places from `from`, `batch` of them; and where to go
    /// on.
    pub(in crate::limit) fn follow_override(
        &mut self,
        now: Instant,
        user_id: u64,
        from: u32,
        batch: u32,
        out: &mut Outputs,
    ) -> Option<u32> {
        let (places, next) = self.arena.bite(from, batch);
        for place in places {
            if let Some(identity) = self.arena.get(place)
                && identity.user_id == user_id
            {
                let limit = self.limit_of(identity.key, user_id);
                self.arena[place].window.set_limit(limit);
                self.pump(now, place, out);
            }
        }
        next
    }
}

impl Identity {
    fn lock(&self, now: Instant) -> Option<TokenLock> {
        let (until, times, confirmed, probing) = match self.token {
            Token::Good | Token::Trusted(_) | Token::Doubtful { .. } => return None,
            Token::Locked {
                until,
                times,
                confirmed,
            } => (until, times, confirmed, false),
            Token::Probing {
                times, confirmed, ..
            } => (now, times, confirmed, true),
        };
        Some(TokenLock {
            key: self.key,
            user_id: (self.user_id != 0).then_some(self.user_id),
            left: until.saturating_duration_since(now),
            probing,
            confirmed,
            times,
        })
    }
}

/// The lock of a token that nobody has used since a restart.
fn lock_of(record: &IdentityRecord, now: Instant, times: Times) -> Option<TokenLock> {
    match record.token {
        TokenRecord::Good | TokenRecord::Trusted { .. } | TokenRecord::Doubtful { .. } => None,
        TokenRecord::Locked {
            left_us,
            times: locks,
            confirmed,
        } => Some(TokenLock {
            key: record.key,
            user_id: None,
            left: Duration::from_micros(left(now, times.until(left_us))),
            probing: false,
            confirmed,
            times: locks,
        }),
    }
}
