//! What changes hands when a node of a cluster loses slots and another gets them.
//!
//! ```text
//! Limiter ── Cut::next, bites of records up to some bytes ──▶ wire ──▶ Limiter::take_over
//!                                    nobody sends them, or not yet ──▶ Limiter::be_careful
//! ```
//!
//! The same records as in a state file, of some slots alone, back to back. Times count from when they
//! were copied, and on the other side from when they arrive: what they took on the way makes waits
//! longer by as much. **Merging** is to the stricter: slots of global windows add up, since Discord counted
//! what both sent; pauses and locks last until the later end; a bucket is as empty as the emptier of
//! the two says. So a part that comes twice, late or from somebody who knows less does no harm.
//!
//! A bot's starts at the gateway go along, for the identify queue: those of one bot stand together in a part.
//! What belongs to the address and not to an identity stays: the budget of invalid requests, the
//! offenders, Cloudflare's block, the window of requests without a token.
//!
//! Both nodes must hash alike: same seeds, and what [`Keys::probe`](crate::route::Keys::probe) says.

use super::codec::{self, Broken};
use super::starts;
use super::{BITE, BucketRecord, IDLE, More, Record, Restored, Stage, Starts, Times};
use crate::clock::Instant;
use crate::limit::bucket::Bucket;
use crate::limit::{BucketKey, Latch, Latches, Limiter, learn};
use crate::route::slot::{SlotSet, slot_of};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;

/// Routes and suspects that a record of two may name: twice what any was seen to have.
const LISTED_MAX: usize = 64;

/// A copy of what a limiter knows of some slots: [`Cut::next`] until it says that there is no more.
pub struct Cut {
    slots: SlotSet,
    base: Instant,
    stage: Stage,
    records: Vec<Record>,
    pending: VecDeque<Vec<u8>>,
}

impl Cut {
    /// A copy of what is known from `base` on. What is known of routes is everybody's and goes along.
    pub const fn begin(base: Instant, slots: SlotSet) -> Self {
        Self {
            slots,
            base,
            stage: Stage::Hints(0),
            records: Vec::new(),
            pending: VecDeque::new(),
        }
    }

    /// What the identify queue knows of bots of these slots goes along, before all else.
    /// Of the bots of `doubted` slots it does not know all itself.
    pub fn with_starts(mut self, starts: &[Starts], doubted: &SlotSet) -> Self {
        let base = self.base;
        self.pending.extend(starts::doubts(doubted));
        self.pending
            .extend(starts.iter().flat_map(|starts| starts.bundles(base)));
        self
    }

    /// Appends records, at most `room` bytes of them; a single record that is larger is left out.
    /// `false`: these were the last. `pause` is called between bites, each of which takes one latch for
    /// a moment.
    pub fn next<L: Latches>(
        &mut self,
        limiter: &Limiter<L>,
        room: usize,
        out: &mut Vec<u8>,
        mut pause: impl FnMut(),
    ) -> bool {
        let end = out.len() + room;
        loop {
            while let Some(record) = self.pending.pop_front() {
                if record.len() > room {
                    continue;
                }
                if out.len() + record.len() > end {
                    self.pending.push_front(record);
                    return true;
                }
                out.extend_from_slice(&record);
            }
            if matches!(self.stage, Stage::Done) {
                return false;
            }
            self.stage = self.stage.copy(limiter, self.base, &mut self.records);
            let slots = &self.slots;
            let records = self.records.drain(..);
            let records = records.filter(|record| changes_hands(record, slots));
            self.pending.extend(records.map(|record| {
                let mut bytes = Vec::new();
                codec::extend(&mut bytes, &record);
                bytes
            }));
            pause();
        }
    }
}

/// Whether a record is of one of these slots, or of all.
fn changes_hands(record: &Record, slots: &SlotSet) -> bool {
    match record {
        Record::Hint(_) => true,
        Record::Limit { identity, .. } | Record::DeadWebhook { identity, .. } => {
            slots.holds(*identity)
        }
        Record::Identity(identity) => slots.holds(identity.key),
        Record::Bucket(bucket) => bucket.is_of(slots),
        Record::Starts { bot, .. } | Record::Started { bot, .. } => slots.holds(*bot),
        Record::Breaker { .. }
        | Record::Invalid { .. }
        | Record::Offence(_)
        | Record::End { .. } => false,
    }
}

/// How much was taken over.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TakenOver {
    /// Records that were taken in.
    pub records: usize,
    /// Records of other slots, or of what belongs to an address.
    pub strange: usize,
    /// What is the identify queue's.
    pub starts: Vec<Starts>,
    /// The slots of whose bots the teller does not know all starts.
    pub doubted: SlotSet,
}

impl<L: Latches> Limiter<L> {
    /// Takes in what another node knows of `slots`, to the stricter. `complete`: it sends nothing for
    /// them any more.
    ///
    /// # Errors
    /// The bytes are no records; whatever stood before is taken in.
    pub fn take_over(
        &self,
        now: Instant,
        slots: &SlotSet,
        bytes: &[u8],
        complete: bool,
    ) -> Result<TakenOver, Broken> {
        let times = Times::told(now, complete);
        let mut taken = TakenOver::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (record, after) = postcard::take_from_bytes(rest).map_err(|_| Broken::Malformed)?;
            rest = after;
            if !changes_hands(&record, slots) {
                taken.strange += 1;
                continue;
            }
            taken.records += 1;
            match record {
                Record::Hint(hint) => self.hints.with(|hints| hints.revive(&hint)),
                Record::Limit { identity, limit } => self
                    .identity_of_key(identity)
                    .with(|ids| ids.take_over_limit(identity, limit)),
                Record::Identity(record) => self
                    .identity_of_key(record.key)
                    .with(|ids| ids.take_over(now, record, times)),
                Record::DeadWebhook { .. } => {
                    let guarded = self
                        .guards
                        .with(|guards| guards.revive(now, &record, times));
                    self.guarded.store(guarded, Ordering::Release);
                }
                Record::Bucket(bucket) if !bucket.is_sound() => return Err(Broken::Malformed),
                Record::Bucket(bucket) => self.take_over_bucket(now, bucket, times),
                record @ (Record::Starts { .. } | Record::Started { .. }) => {
                    match starts::doubted(&record) {
                        Some(bot) => taken.doubted.add_all(&[slot_of(bot)].into_iter().collect()),
                        None => Starts::gather(&mut taken.starts, &record, times),
                    }
                }
                Record::Breaker { .. }
                | Record::Invalid { .. }
                | Record::Offence(_)
                | Record::End { .. } => {}
            }
        }
        Ok(taken)
    }

    /// This node got `slots`, and what was sent for them before is not known: identities of theirs have
    /// half of their window for the first period, and one request of each bucket asks how full it is.
    /// What is [taken over](Self::take_over) afterwards is added. `pause` is called between bites.
    pub fn be_careful(&self, now: Instant, slots: &SlotSet, mut pause: impl FnMut()) {
        for identities in &self.identities {
            let mut from = Some(0);
            while let Some(place) = from {
                from = identities.with(|ids| ids.be_careful(now, slots, place, BITE));
                pause();
            }
        }
        for shard in &self.shards {
            let mut from = Some(0);
            while let Some(place) = from {
                from = shard.with(|shard| shard.doubt(now, slots, place, BITE));
                pause();
            }
        }
        let mut from = self.restoring.load(Ordering::Acquire).then_some(0);
        while let Some(place) = from {
            from = self.restored.with(|restored| {
                let Restored { shelf } = restored.as_deref_mut()?;
                shelf.change(place, BITE, |(record, times)| {
                    if record.is_of(slots) {
                        *times = times.doubted();
                    }
                })
            });
            pause();
        }
    }

    /// The same for one identity that is not this node's, of which a request has come all the same. In
    /// place, without a look at all the others: of its buckets [those are doubted](Self::doubt) that are
    /// asked for.
    pub fn be_careful_of(&self, now: Instant, identity: u64) {
        self.identity(identity)
            .with(|ids| ids.be_careful_of(now, learn::identity_key(identity)));
    }

    /// One request of the bucket that this one would fall into asks how full it is.
    pub fn doubt(&self, now: Instant, key: &BucketKey) {
        self.shards[self.shard_of(key)].with(|shard| shard.doubt_one(now, key));
        if !self.restoring.load(Ordering::Acquire) {
            return;
        }
        let hint = self.hints.with(|hints| hints.get(key.route));
        let name = hint.and_then(|hint| hint.name);
        let name = name.map(|name| learn::name_key(key, name));
        self.restored.with(|restored| {
            let Some(Restored { shelf }) = restored.as_deref_mut() else {
                return;
            };
            for key in [learn::route_key(key), learn::lane_key(key)]
                .into_iter()
                .chain(name)
            {
                if let Some((_, times)) = shelf.get_mut(key) {
                    *times = times.doubted();
                }
            }
        });
    }

    /// Whichever shard knows the bucket adds it; else it stands on the shelf until it is asked for.
    fn take_over_bucket(&self, now: Instant, record: BucketRecord, times: Times) {
        let known = |shard: &L::Latch<_>| {
            shard
                .with(|shard: &mut crate::limit::shard::Shard| shard.take_over(now, &record, times))
        };
        if self.shards.iter().any(known) || !Bucket::is_worth_keeping(now, &record, times, IDLE) {
            return;
        }
        let max = self.buckets_max;
        self.restored.with(|restored| {
            let Restored { shelf } = &mut **restored.get_or_insert_default();
            let keys: SmallVec<[u64; 4]> = record.keys().collect();
            let known = keys.iter().find_map(|key| shelf.take(*key));
            let both = match known {
                Some((known, known_times)) => {
                    let complete = times.complete() && known_times.complete();
                    let both = known.and(now, known_times, &record, times);
                    (both, Times::told(now, complete))
                }
                None => (record, times),
            };
            if shelf.len() < max {
                let keys: SmallVec<[u64; 4]> = both.0.keys().collect();
                shelf.put(keys.into_iter(), both);
            }
        });
        self.restoring.store(true, Ordering::Release);
    }
}

impl BucketRecord {
    fn is_of(&self, slots: &SlotSet) -> bool {
        self.keys().next().is_some_and(|key| slots.holds(key))
    }

    /// What both say, to the stricter, as of `now`.
    fn and(self, now: Instant, times: Times, other: &Self, other_times: Times) -> Self {
        let mut bucket = Bucket::revive(now, &self, times);
        bucket.stricter(now, &Bucket::revive(now, other, other_times));
        bucket.name_key = self.name_key;
        bucket.route_key = self.route_key;
        let Some(mut both) = bucket.keep(now) else {
            return self;
        };
        both.used_ago_us = 0;
        let mut more = self.more.map_or_else(More::default, |more| *more);
        for route in other.routes().filter(|route| *route != self.route_key) {
            if !more.routes.contains(&route) && more.routes.len() < LISTED_MAX {
                more.routes.push(route);
            }
        }
        for suspect in other.suspects() {
            let known = more.suspects.iter().any(|(name, _)| *name == suspect.0);
            if !known && more.suspects.len() < LISTED_MAX {
                more.suspects.push(*suspect);
            }
        }
        let listed = !more.routes.is_empty() || !more.suspects.is_empty();
        both.more = listed.then(|| Box::new(more));
        both
    }
}

#[cfg(test)]
mod tests;
