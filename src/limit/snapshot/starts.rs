//! The identify queue's part of a snapshot.

use super::record::Record;
use super::times::{self, Times, left};
use super::{Copying, Snapshot};
use crate::clock::Instant;
use ahash::AHashMap;
use std::time::Duration;

/// A bot's starts at the gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Starts {
    /// The keyed hash of its `Authorization`.
    pub bot: u64,
    /// IDENTIFYs allowed in 5 s.
    pub max_concurrency: u32,
    /// Starts in a day.
    pub total: u32,
    /// Of which were left.
    pub remaining: u32,
    /// When they are `total` again; `None` if the window has not begun.
    pub reset_at: Option<Instant>,
    /// Shards that were let go lately, and until when that takes their keys.
    pub taken: Vec<(u64, Instant)>,
}

impl Copying {
    /// Appends what the identify queue keeps; to be called before [`Copying::next`] has ended.
    pub fn starts(&mut self, starts: &[Starts], out: &mut Vec<u8>) {
        let base = self.base;
        let Some(encoder) = &mut self.encoder else {
            return;
        };
        for starts in starts {
            let bot = starts.bot;
            let budget = Record::Starts {
                bot,
                max_concurrency: starts.max_concurrency,
                total: starts.total,
                remaining: starts.remaining,
                reset_left_us: starts.reset_at.map(|at| left(base, at)),
            };
            let taken = starts.taken.iter().map(|&(shard, until)| Record::Started {
                bot,
                shard,
                left_us: left(base, until),
            });
            encoder.add(std::iter::once(budget).chain(taken), out);
        }
    }
}

impl Snapshot {
    /// What the identify queue kept, and whether it let nobody go afterwards. `unix_ms` was read before
    /// `now`.
    pub fn starts(&self, now: Instant, unix_ms: u64) -> (Vec<Starts>, bool) {
        let passed = times::age(self.seal.saved_unix_ms, unix_ms);
        let times = Times::new(now, passed, self.seal.complete);
        let mut places = AHashMap::new();
        let mut all = Vec::new();
        for record in &self.records {
            match *record {
                Record::Starts {
                    bot,
                    max_concurrency,
                    total,
                    remaining,
                    reset_left_us,
                } => {
                    places.insert(bot, all.len());
                    all.push(Starts {
                        bot,
                        max_concurrency,
                        total,
                        remaining,
                        reset_at: reset_left_us.map(|left_us| times.until(left_us)),
                        taken: Vec::new(),
                    });
                }
                Record::Started {
                    bot,
                    shard,
                    left_us,
                } => {
                    if let Some(&at) = places.get(&bot) {
                        all[at].taken.push((shard, times.until(left_us)));
                    }
                }
                Record::Hint(_)
                | Record::Limit { .. }
                | Record::Identity(_)
                | Record::Breaker { .. }
                | Record::Invalid { .. }
                | Record::DeadWebhook { .. }
                | Record::Offence(_)
                | Record::Bucket(_)
                | Record::End { .. } => {}
            }
        }
        let complete = self.seal.complete && passed < Duration::MAX;
        (all, complete)
    }
}
