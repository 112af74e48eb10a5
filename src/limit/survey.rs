//! What an operator sees of the limiter: who waits, for what, until when.
//!
//! ```text
//! blocked    the buckets in which somebody waits, those with most waiting first
//! sight      one bucket, by a request's key
//! senders    identities: their global windows, pauses and locks, the busiest first
//! ```
//! Nothing here changes anything, and nothing is kept for it: the request path does not know of it. A
//! look takes each latch for [`BITE`] places at a time, and looks at no more than [`PLACES_MAX`] of a
//! table; what lies beyond is counted and not shown. A shard that somebody holds is passed over.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::learn;
use super::{BucketKey, Guarded, Latch, Latches, Limiter};
use crate::clock::Instant;

/// Places of a table that are looked at while its latch is held: some microseconds.
pub const BITE: u32 = 128;

/// Places of one table that a look goes through: as many buckets with a queue, or identities, as a page
/// can say anything of, in less than a millisecond.
pub const PLACES_MAX: u32 = 8_192;

/// When the next request of a bucket may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opens {
    /// After this time, by what is known now; zero: it may go.
    In(Duration),
    /// When an answer comes to a request that is under way.
    AfterAnswer,
}

/// How a bucket is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// Not known yet: its requests go one at a time.
    Unknown,
    /// Without a limit of its own.
    Free,
    /// All slots return at once.
    Fixed,
    /// One slot returns after the other.
    Sliding,
    /// Fixed or sliding: not told apart yet.
    Careful,
}

/// What can be seen of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BucketSight {
    /// Its limit and the slots that are free now; `None` while no limit is known.
    pub slots: Option<(u16, u16)>,
    /// How it is read.
    pub reading: Reading,
    /// Requests under way.
    pub under_way: u16,
    /// Requests that wait.
    pub waiting: u32,
    /// When the next may go.
    pub opens: Opens,
    /// When the last of those that wait will have gone, by what is known now; zero if nobody waits. An
    /// estimate, and of this bucket alone: the global window may take longer.
    pub last_in: Duration,
    /// A 429 closed it.
    pub paused: bool,
}

/// The buckets in which somebody waits.
#[derive(Clone, Debug, Default)]
pub struct Blocked {
    /// Those with most waiting, each under the key of the request in front.
    pub top: Vec<(BucketKey, BucketSight)>,
    /// How many there are.
    pub buckets: usize,
    /// How many buckets are tracked, those in which nobody waits among them.
    pub tracked: usize,
    /// Requests that wait in those that were looked at, by identity (of [`sender_key`]).
    pub by_sender: BTreeMap<u64, u32>,
    /// Shards that somebody held for too long.
    pub held: usize,
}

/// What Discord made of an identity's token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenSight {
    /// Nothing speaks against it.
    Good,
    /// A 401 came: its requests go one at a time.
    Doubtful,
    /// Refused: nothing is sent for so long, then one request finds out.
    Locked(Duration),
}

/// What can be seen of an identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SenderSight {
    /// Of [`sender_key`].
    pub key: u64,
    /// The bot's user id; `None` if its token does not tell it.
    pub user_id: Option<u64>,
    /// It is a bearer token.
    pub is_bearer: bool,
    /// Requests a second.
    pub limit: u32,
    /// Slots of the running window in use.
    pub used: u32,
    /// Requests that wait for the window.
    pub waiting: u32,
    /// Requests under way.
    pub under_way: u32,
    /// A 429 closed it for so long; zero if not.
    pub paused: Duration,
    /// Its token.
    pub token: TokenSight,
}

/// Identities that were looked at.
#[derive(Clone, Debug, Default)]
pub struct Senders {
    /// The busiest, by what waits and what the window holds.
    pub top: Vec<SenderSight>,
    /// Those whose token is locked, those that are locked longest first.
    pub locked: Vec<SenderSight>,
    /// How many locked ones there are among those that were looked at.
    pub locked_count: usize,
    /// How many are tracked.
    pub tracked: usize,
    /// Shards that somebody held for too long.
    pub held: usize,
}

/// What an identity is called here.
pub const fn sender_key(identity: u64) -> u64 {
    learn::identity_key(identity)
}

impl<L: Latches> Limiter<L> {
    /// How the guards stand; `None` if somebody holds them.
    pub fn guards_seen(&self, now: Instant) -> Option<Guarded> {
        self.guards.with_soon(|guards| guards.stand(now))
    }

    /// The buckets in which somebody waits, `most` of them.
    pub fn blocked(&self, now: Instant, most: usize) -> Blocked {
        let mut blocked = Blocked::default();
        for shard in &self.shards {
            let mut from = Some(0);
            while let Some(place) = from.filter(|&place| place < PLACES_MAX) {
                let next = shard.with_soon(|shard| {
                    if place == 0 {
                        let (queues, tracked) = shard.sizes();
                        blocked.buckets += queues;
                        blocked.tracked += tracked;
                    }
                    shard.survey(now, place, BITE, |identity, key, sight| {
                        *blocked.by_sender.entry(sender_key(identity)).or_default() +=
                            sight.waiting;
                        blocked.top.push((key, sight));
                    })
                });
                let Some(next) = next else {
                    blocked.held += 1;
                    break;
                };
                from = next;
                let rank = |(key, sight): &(BucketKey, BucketSight)| (Reverse(sight.waiting), *key);
                keep_first(&mut blocked.top, most, rank);
            }
        }
        blocked
    }

    /// What can be seen of the bucket that requests of this key fall into; `None` if none is tracked, or
    /// somebody holds it.
    pub fn sight(&self, now: Instant, key: &BucketKey) -> Option<BucketSight> {
        let shard = &self.shards[self.shard_of(key)];
        shard.with_soon(|shard| shard.sight_of(now, key)).flatten()
    }

    /// Identities: `most` of the busiest, and as many of those that are locked. `waits` are those that
    /// wait in their buckets, of [`Blocked::by_sender`].
    pub fn senders(&self, now: Instant, most: usize, waits: &BTreeMap<u64, u32>) -> Senders {
        let mut senders = Senders::default();
        let rank = |sight: &SenderSight| {
            let waiting = sight.waiting + waits.get(&sight.key).copied().unwrap_or_default();
            (
                Reverse(waiting),
                Reverse(sight.used),
                Reverse(sight.under_way),
                sight.key,
            )
        };
        let left = |sight: &SenderSight| match sight.token {
            TokenSight::Locked(left) => (Reverse(left), sight.key),
            TokenSight::Good | TokenSight::Doubtful => (Reverse(Duration::ZERO), sight.key),
        };
        for shard in &self.identities {
            let mut from = Some(0);
            while let Some(place) = from.filter(|&place| place < PLACES_MAX) {
                let next = shard.with_soon(|identities| {
                    if place == 0 {
                        senders.tracked += identities.counts_tracked();
                    }
                    identities.survey(now, place, BITE, |sight| {
                        if matches!(sight.token, TokenSight::Locked(_)) {
                            senders.locked_count += 1;
                            senders.locked.push(sight);
                        }
                        senders.top.push(sight);
                    })
                });
                let Some(next) = next else {
                    senders.held += 1;
                    break;
                };
                from = next;
                keep_first(&mut senders.top, most, rank);
                keep_first(&mut senders.locked, most, left);
            }
        }
        senders
    }
}

/// Sorts, and leaves the first of them.
fn keep_first<T, K: Ord>(list: &mut Vec<T>, most: usize, rank: impl FnMut(&T) -> K) {
    list.sort_by_cached_key(rank);
    list.truncate(most);
}

#[cfg(test)]
mod tests;
