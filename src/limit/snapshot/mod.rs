//! What the limiter has learned, over a restart of its process.
//!
//! ```text
//! Limiter ── Copying::next, a few places of one shard at a time ──▶ bytes ── the shell's file
//! Limiter ◀── Snapshot::restore ── Snapshot::open: all of it, or Broken ──── bytes
//! ```
//!
//! Kept are: which bucket a route belongs to and of what kind it is; each bucket's limit, period and
//! what remains of it until when; the slots of global windows that are in use, pauses and limits that
//! were found out; locked tokens; the budget of invalid requests and who spent it, Cloudflare's block,
//! dead webhooks; and the identify queue's budgets and last grants. Not kept are requests that wait or
//! are under way (the latter count as sent), and how far Discord's clock is from ours, which two answers
//! tell anew.
//!
//! **What the bytes tell.** No token, path, id or name is in them: all keys are 64-bit keyed hashes or
//! mixes of such. The hash's seeds are in them too, without which the keys would mean nothing after
//! the restart. So whoever reads them learns how many bots, webhooks and buckets there were and how
//! busy they are, and can find out whether a token that he holds already was among them. A token
//! cannot be computed from 64 bits, nor guessed: it carries more than 200 bits that are random.
//! Whoever knows the seeds could also choose paths that collide in the tables; hence only the owner
//! may read them.
//!
//! **Cost.** A copy holds a latch for [`BITE`] places of one table at a time . With a million buckets
//! and 30,000 offenders that was 22 µs of CPU on average and 0.43 ms at most, encoding included, of 4,229
//! such; 95 ms and 47 MB in all (`cargo bench --bench limiter` shows the wall's time). Restoring it takes
//! 1.5 s, before anybody is served.
//! Restored buckets stand aside until they are asked for (see `shelf`): a request of a route that its
//! shard has not met looks there, and no other one does.

mod codec;
mod cut;
mod record;
mod shelf;
mod starts;
mod times;

pub use codec::{BYTES_MAX, Broken, Seal};
pub use cut::{Cut, TakenOver};
pub(super) use record::{
    BucketRecord, Code, HintRecord, IdentityRecord, More, OffenceRecord, Record, TokenRecord,
    WindowRecord,
};
pub(super) use shelf::Shelf;
pub use starts::Starts;
pub(super) use times::{Times, ago, left};

use super::ask::{BucketKey, Outputs, Permit};
use super::bucket::{Bucket, Kind};
use super::learn::{self, Hint};
use super::{Latch, Latches, Limiter};
use crate::clock::Instant;
use codec::Encoder;
use smallvec::SmallVec;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Places of a shard that are copied while its latch is held.
pub const BITE: u32 = 256;
/// As long as an idle bucket is remembered.
const IDLE: Duration = Duration::from_secs(600);

/// A snapshot that was read and makes sense throughout.
#[derive(Debug)]
pub struct Snapshot {
    seal: Seal,
    records: Vec<Record>,
}

impl Snapshot {
    /// Reads a snapshot. `probe` says what hashes under the given seeds make of what
    /// [`Seal::probe`] was made of.
    ///
    /// # Errors
    /// See [`Broken`]; nothing of it is to be used then.
    pub fn open(bytes: &[u8], probe: impl FnOnce([u64; 4]) -> u64) -> Result<Self, Broken> {
        let (seal, rest) = codec::open(bytes)?;
        if probe(seal.seeds) != seal.probe {
            return Err(Broken::OtherHash);
        }
        let mut records = Vec::new();
        codec::records(rest, |record| records.push(record))?;
        Ok(Self { seal, records })
    }

    /// What the snapshot is sealed with.
    pub const fn seal(&self) -> &Seal {
        &self.seal
    }

    /// Teaches a limiter that was not used yet, with whatever number of shards. `unix_ms` was read
    /// before `now`. How much it was taught.
    pub fn restore<L: Latches>(
        self,
        limiter: &Limiter<L>,
        now: Instant,
        unix_ms: u64,
    ) -> RestoredCounts {
        let passed = times::age(self.seal.saved_unix_ms, unix_ms);
        let times = Times::new(now, passed, self.seal.complete);
        let mut counts = RestoredCounts {
            age: passed,
            complete: self.seal.complete,
            ..RestoredCounts::default()
        };
        let mut restored = Restored::default();
        let (mut guarded, buckets_max) = (false, limiter.buckets_max);
        for record in self.records {
            match record {
                Record::Hint(hint) => {
                    limiter.hints.with(|hints| hints.revive(&hint));
                    counts.routes += 1;
                }
                Record::Limit { identity, limit } => limiter
                    .identity_of_key(identity)
                    .with(|identities| identities.revive_limit(identity, limit)),
                Record::Identity(record) => {
                    counts.identities += 1;
                    limiter
                        .identity_of_key(record.key)
                        .with(|identities| identities.restore(record, times));
                }
                Record::Bucket(record) => {
                    let useful = Bucket::is_worth_keeping(now, &record, times, IDLE);
                    if useful && restored.shelf.len() < buckets_max {
                        counts.buckets += 1;
                        let keys: SmallVec<[u64; 4]> = record.keys().collect();
                        restored.shelf.put(keys.into_iter(), (record, times));
                    }
                }
                record @ (Record::Breaker { .. }
                | Record::Invalid { .. }
                | Record::DeadWebhook { .. }
                | Record::Offence(_)) => {
                    guarded = limiter
                        .guards
                        .with(|guards| guards.revive(now, &record, times));
                }
                // The identify queue takes its own: `Snapshot::starts`.
                Record::Starts { .. } | Record::Started { .. } | Record::End { .. } => {}
            }
        }
        limiter.guarded.store(guarded, Ordering::Release);
        limiter.look_at_level(now);
        let restoring = restored.shelf.len() > 0;
        if restoring {
            limiter
                .restored
                .with(|place| *place = Some(Box::new(restored)));
        }
        limiter.restoring.store(restoring, Ordering::Release);
        counts
    }
}

/// How much was restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RestoredCounts {
    /// Routes of which it is known what bucket they have.
    pub routes: usize,
    /// Buckets.
    pub buckets: usize,
    /// Identities.
    pub identities: usize,
    /// How long ago the snapshot was taken; `Duration::MAX` if the clock was set back since.
    pub age: Duration,
    /// The process that took it sent nothing afterwards.
    pub complete: bool,
}

/// Buckets that were restored, or handed over, and not asked for yet.
#[derive(Default)]
pub(super) struct Restored {
    shelf: Shelf<(BucketRecord, Times)>,
}

/// What a request may need of what was restored: the bucket of its route, or its lane and what that
/// suspects.
pub(super) type Claim = SmallVec<[(BucketRecord, Times); 1]>;

impl Restored {
    fn claim(&self, key: &BucketKey, hint: Option<Hint>) -> Claim {
        let mut claim = Claim::new();
        let route = learn::route_key(key);
        let name = hint.and_then(|hint| hint.name.filter(|_| !hint.alone));
        let named = || self.shelf.get(learn::name_key(key, name?));
        if let Some(bucket) = self.shelf.get(route).or_else(named) {
            claim.push(bucket.clone());
        } else if hint.is_none()
            && let Some(lane) = self.shelf.get(learn::lane_key(key))
        {
            claim.push(lane.clone());
            let suspects = lane.0.suspects().iter();
            claim.extend(suspects.filter_map(|&(name, _)| self.shelf.get(name).cloned()));
        }
        claim
    }
}

impl<L: Latches> Limiter<L> {
    /// What was restored for this key, if anything was; it is to be adopted by the key's shard, and
    /// then [claimed](Self::claimed).
    pub(super) fn claim(&self, key: &BucketKey, hint: Option<Hint>) -> Option<Claim> {
        if !self.restoring.load(Ordering::Acquire) {
            return None;
        }
        self.restored
            .with(|restored| Some(restored.as_ref()?.claim(key, hint)))
    }

    /// A request that waited goes as one of an unknown route. If its route has been told of meanwhile, it
    /// stands in the bucket that was told of; whether anything was.
    pub(super) fn look_again(&self, now: Instant, permit: &Permit, out: &mut Outputs) -> bool {
        if !self.restoring.load(Ordering::Acquire) {
            return false;
        }
        let shard = &self.shards[usize::from(permit.shard)];
        let Some(suspects) = shard.with(|shard| shard.unknown(permit)) else {
            return false;
        };
        let hint = self.hints.with(|hints| hints.get(permit.key.route));
        let told = self.restored.with(|restored| {
            let restored = restored.as_ref()?;
            let mut told = restored.claim(&permit.key, hint);
            let suspects = suspects.iter();
            told.extend(suspects.filter_map(|name| restored.shelf.get(*name).cloned()));
            Some(told)
        });
        let Some(told) = told.filter(|told| !told.is_empty()) else {
            return false;
        };
        shard.with(|shard| shard.is_told(now, permit, hint, &told, out));
        self.claimed(&told);
        true
    }

    /// The shard has it now. Only now is it taken down: whoever asked at the same time must have
    /// found it as well.
    pub(super) fn claimed(&self, claim: &Claim) {
        self.restored.with(|restored| {
            if let Some(restored) = restored {
                for key in claim.iter().flat_map(|(record, _)| record.keys()) {
                    restored.shelf.take(key);
                }
            }
        });
    }

    /// Forgets, of what was restored and nobody asked for, what would be forgotten by now if somebody
    /// had. To be called every minute or so; `pause` is called between bites.
    pub fn sweep_restored(&self, now: Instant, mut pause: impl FnMut()) {
        for identities in &self.identities {
            let mut from = Some(0);
            while let Some(place) = from {
                from = identities.with(|ids| ids.sweep_restored(now, place, BITE));
                pause();
            }
        }
        let mut from = self.restoring.load(Ordering::Acquire).then_some(0);
        while let Some(place) = from {
            from = self.restored.with(|restored| {
                let Restored { shelf } = restored.as_deref_mut()?;
                shelf.sweep(place, BITE, |(record, times)| {
                    Bucket::is_worth_keeping(now, record, *times, IDLE)
                })
            });
            pause();
        }
        let is_empty = |restored: &mut Option<Box<Restored>>| {
            let empty = restored.as_ref().is_some_and(|r| r.shelf.len() == 0);
            if empty { restored.take() } else { None }
        };
        // Dropped where nobody waits for it.
        if let Some(empty) = self.restored.with(is_empty) {
            self.restoring.store(false, Ordering::Release);
            drop(empty);
        }
    }
}

/// A snapshot being taken: [`Copying::next`] until it says that it was the last.
pub struct Copying {
    encoder: Option<Encoder>,
    base: Instant,
    stage: Stage,
    records: Vec<Record>,
}

#[derive(Clone, Copy)]
enum Stage {
    Hints(u32),
    Guards(u32),
    Limits(usize, u32),
    Identities(usize, u32),
    RestoredIdentities(usize, u32),
    Buckets(usize, u32),
    RestoredBuckets(u32),
    Done,
}

impl Stage {
    /// Copies the next bite, and says where to go on. Takes one latch, for a moment.
    fn copy<L: Latches>(self, limiter: &Limiter<L>, base: Instant, into: &mut Vec<Record>) -> Self {
        let shards = limiter.shards.len();
        let each = |shard: usize, next: Option<u32>, stage: fn(usize, u32) -> Stage| match next {
            Some(place) => Some(stage(shard, place)),
            None if shard + 1 < shards => Some(stage(shard + 1, 0)),
            None => None,
        };
        match self {
            Stage::Hints(place) => {
                match limiter.hints.with(|hints| hints.keep(place, BITE, into)) {
                    Some(place) => Stage::Hints(place),
                    None => Stage::Guards(0),
                }
            }
            Stage::Guards(place) => {
                match limiter
                    .guards
                    .with(|guards| guards.keep(base, place, BITE, into))
                {
                    Some(place) => Stage::Guards(place),
                    None => Stage::Limits(0, 0),
                }
            }
            Stage::Limits(shard, place) => {
                let next = limiter.identities[shard].with(|ids| ids.copy_limits(place, BITE, into));
                each(shard, next, Stage::Limits).unwrap_or(Stage::Identities(0, 0))
            }
            Stage::Identities(shard, place) => {
                let next = limiter.identities[shard].with(|ids| ids.copy(base, place, BITE, into));
                each(shard, next, Stage::Identities).unwrap_or(Stage::RestoredIdentities(0, 0))
            }
            Stage::RestoredIdentities(shard, place) => {
                let next = limiter.identities[shard]
                    .with(|ids| ids.copy_restored(base, place, BITE, into));
                each(shard, next, Stage::RestoredIdentities).unwrap_or(Stage::Buckets(0, 0))
            }
            Stage::Buckets(shard, place) => {
                let next = limiter.shards[shard].with(|s| s.copy(base, place, BITE, into));
                each(shard, next, Stage::Buckets).unwrap_or(Stage::RestoredBuckets(0))
            }
            Stage::RestoredBuckets(place) => {
                let copy = |restored: &mut Option<Box<Restored>>| {
                    let Restored { shelf } = restored.as_deref()?;
                    let (bite, next) = shelf.bite(place, BITE);
                    let worth = |(r, times): &&(BucketRecord, Times)| {
                        Bucket::is_worth_keeping(base, r, *times, IDLE)
                    };
                    into.extend(
                        bite.filter(worth)
                            .map(|(record, times)| Record::Bucket(record.rebased(base, *times))),
                    );
                    next
                };
                match limiter.restored.with(copy) {
                    Some(place) => Stage::RestoredBuckets(place),
                    None => Stage::Done,
                }
            }
            Stage::Done => Stage::Done,
        }
    }
}

impl Copying {
    /// Begins a snapshot of what is known from `base` on; `seal.saved_unix_ms` was read after it.
    pub fn begin(base: Instant, seal: &Seal, out: &mut Vec<u8>) -> Self {
        Self {
            encoder: Some(Encoder::begin(seal, out)),
            base,
            stage: Stage::Hints(0),
            records: Vec::new(),
        }
    }

    /// Appends the next piece to `out`; `false` after the last. Takes one latch, for a moment.
    pub fn next<L: Latches>(&mut self, limiter: &Limiter<L>, out: &mut Vec<u8>) -> bool {
        self.stage = self.stage.copy(limiter, self.base, &mut self.records);
        let Some(encoder) = &mut self.encoder else {
            return false;
        };
        if !encoder.add(self.records.drain(..), out) {
            self.stage = Stage::Done;
        }
        if matches!(self.stage, Stage::Done)
            && let Some(encoder) = self.encoder.take()
        {
            encoder.end(out);
            return false;
        }
        true
    }
}

impl BucketRecord {
    /// The same as it is at `base`, after another restart.
    fn rebased(&self, base: Instant, times: Times) -> Self {
        let rest = |left_us| left(base, times.until(left_us));
        let used = times.rested(base, self.used_ago_us).as_micros();
        let mut record = self.clone();
        record.reset_left_us = rest(self.reset_left_us);
        record.paused_left_us = rest(self.paused_left_us);
        record.used_ago_us = u64::try_from(used).unwrap_or(u64::MAX);
        let closed = record.reset_left_us > 0 && self.remaining <= self.lost;
        if !times.complete() && !closed && !matches!(self.kind.0, Kind::Lane | Kind::Free) {
            // Nobody knows what was sent before the first restart.
            record.hinted = match self.kind.0 {
                kind @ (Kind::Fixed | Kind::Sliding) => Code(kind),
                Kind::Lane | Kind::Fresh | Kind::Free | Kind::Careful => self.hinted,
            };
            record.kind = Code(Kind::Fresh);
        }
        record
    }
}

#[cfg(test)]
mod tests;
