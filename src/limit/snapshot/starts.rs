//! The identify queue's part of a snapshot.

use super::record::Record;
use super::times::{self, Times, left};
use super::{Copying, Snapshot, codec};
use crate::clock::Instant;
use crate::route::slot::{SlotSet, some_key_of};
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

/// Starts that stand together with their bot's budget: some 20 bytes each, so that both fit into one part
/// of a hand-over.
const BUNDLE: usize = 512;

/// The shard of a start that stands for all that there may have been: no shard has this number.
const ANY: u64 = u64::MAX;

/// Records that say of all bots of these slots that they may have started. A weir that does not know
/// them takes them for a start of a bot without a budget, which says nothing.
pub(super) fn doubts(slots: &SlotSet) -> impl Iterator<Item = Vec<u8>> + '_ {
    slots.iter().map(|slot| {
        let record = Record::Started {
            bot: some_key_of(slot),
            shard: ANY,
            left_us: 0,
        };
        let mut bytes = Vec::new();
        codec::extend(&mut bytes, &record);
        bytes
    })
}

/// Some bot of the slot of whose bots a record says that.
pub(super) fn doubted(record: &Record) -> Option<u64> {
    match *record {
        Record::Started {
            bot, shard: ANY, ..
        } => Some(bot),
        _ => None,
    }
}

impl Starts {
    /// The budget, and some of what is taken.
    fn records<'a>(
        &'a self,
        base: Instant,
        taken: &'a [(u64, Instant)],
    ) -> impl Iterator<Item = Record> + 'a {
        let bot = self.bot;
        let budget = Record::Starts {
            bot,
            max_concurrency: self.max_concurrency,
            total: self.total,
            remaining: self.remaining,
            reset_left_us: self.reset_at.map(|at| left(base, at)),
        };
        let taken = taken.iter().map(move |&(shard, until)| Record::Started {
            bot,
            shard,
            left_us: left(base, until),
        });
        std::iter::once(budget).chain(taken)
    }

    /// As bytes that stand for themselves.
    pub(super) fn bundles(&self, base: Instant) -> impl Iterator<Item = Vec<u8>> + '_ {
        let none = self.taken.is_empty().then_some(&self.taken[..]);
        let bundles = self.taken.chunks(BUNDLE).chain(none);
        bundles.map(move |taken| {
            let mut bytes = Vec::new();
            for record in self.records(base, taken) {
                codec::extend(&mut bytes, &record);
            }
            bytes
        })
    }

    /// Takes up a record. What was started stands behind its bot's budget; anything else says nothing.
    pub(super) fn gather(all: &mut Vec<Self>, record: &Record, times: Times) {
        match *record {
            Record::Starts {
                bot,
                max_concurrency,
                total,
                remaining,
                reset_left_us,
            } => all.push(Self {
                bot,
                max_concurrency,
                total,
                remaining,
                reset_at: reset_left_us.map(|left_us| times.until(left_us)),
                taken: Vec::new(),
            }),
            Record::Started {
                bot,
                shard,
                left_us,
            } => {
                if let Some(last) = all.last_mut().filter(|last| last.bot == bot) {
                    last.taken.push((shard, times.until(left_us)));
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
}

impl Copying {
    /// Appends what the identify queue keeps; to be called before [`Copying::next`] has ended.
    pub fn starts(&mut self, starts: &[Starts], out: &mut Vec<u8>) {
        let base = self.base;
        let Some(encoder) = &mut self.encoder else {
            return;
        };
        for starts in starts {
            encoder.add(starts.records(base, &starts.taken), out);
        }
    }
}

impl Snapshot {
    /// What the identify queue kept, and whether it let nobody go afterwards. `unix_ms` was read before
    /// `now`.
    pub fn starts(&self, now: Instant, unix_ms: u64) -> (Vec<Starts>, bool) {
        let passed = times::age(self.seal.saved_unix_ms, unix_ms);
        let times = Times::new(now, passed, self.seal.complete);
        let mut all = Vec::new();
        for record in &self.records {
            Starts::gather(&mut all, record, times);
        }
        let complete = self.seal.complete && passed < Duration::MAX;
        (all, complete)
    }
}
