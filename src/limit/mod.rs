//! The limiter: decides for every request whether it goes now, waits, or is refused.
//!
//! ```text
//!            ┌ breaker, budget ┐   ┌ bucket ────────────┐   ┌ identity ───────────┐
//! acquire ──▶│ egress closed?  │──▶│ slot, order, lane  │──▶│ lock, global window │──▶ Go
//!            └─ per process ───┘   └ shard of the key ──┘   └ shard of the token ─┘
//!                                     ▲  waiters, timers       ▲  waiters, timers
//! report ─────────────────────────────┴────────────────────────┘
//! ```
//!
//! It is a pure composition: bytes of headers and time come in, decisions come out. State is split
//! over shards, each behind a [`Latch`], which are mutexes in production and cells in the
//! simulation; no latch is ever taken while another is held, so every interleaving of workers is an
//! interleaving of the steps below. A shard's timers belong to one owner, who calls
//! [`Limiter::tick`]; everything else may be called from any worker.
//!
//! A request takes a slot of its bucket first and of the identity's global window last, immediately
//! before it is sent. Slots that come free go to waiters in the order in which they came. Who had to
//! stand in line for the window is then asked once more whether its bucket still has the slot, and
//! goes back to where it stood if not.
//!
//! A permit's global slot is timed from when its request departs: the shell says so
//! ([`Limiter::departs`]), and before, if the permit has to wait for a connection
//! ([`Limiter::delayed`]).
//!
//! Cost: a request on a known bucket takes two latches and two map lookups, its answer two latches
//! and none; one that stood in line for the window takes a latch more, and so does each change of
//! how many wait in a bucket. 160 bytes for a tracked bucket, 1.3 KiB for an identity.

mod agenda;
mod arena;
mod ask;
mod breaker;
mod bucket;
mod global;
mod guarded;
mod guards;
mod headers;
mod identity;
mod invalid;
mod latch;
mod learn;
mod line;
mod locks;
mod notice;
mod offenders;
mod offset;
mod pressure;
mod queue;
mod settings;
mod shard;
pub mod snapshot;
pub mod survey;
pub mod timer;
mod token;

pub use ask::{
    Ask, BucketKey, ClientClass, Decision, Output, Outputs, Permit, Reason, Refusal, Ticket,
};
pub use guarded::{Blocks, Guarded, Locks};
pub use headers::{
    Answer, LIMIT_MAX, Limited, PAUSE_MAX, RateLimitHeaders, Scope, Verdict, bucket_hash,
};
pub use invalid::BUDGET;
pub use latch::{Latch, Latches, Unlocked};
pub use learn::{HINTS_MAX, route_key};
pub use locks::{Block, DeadWebhook, TokenLock, Which};
pub use notice::Notice;
pub use settings::{
    GLOBAL_DEFAULT, MAX_BEARERS, MAX_BUCKETS, MAX_IDENTITIES, MAX_WAITING, MAX_WAITING_PER_BUCKET,
    Settings,
};

use crate::clock::Instant;
use guards::Guards;
use identity::Identities;
use learn::Hints;
use shard::Shard;
use std::sync::atomic::{AtomicBool, Ordering};

/// How much the limiter holds; all zero when everything has come to rest and was forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Census {
    /// Requests that wait for a slot of their bucket.
    pub waiting_for_bucket: usize,
    /// Requests that wait for their identity's global window.
    pub waiting_for_global: usize,
    /// Permits given out and not given back.
    pub under_way: usize,
    /// Buckets tracked, lanes included.
    pub buckets: usize,
    /// Identities tracked.
    pub identities: usize,
    /// Invalid answers (401, 403, 429) counted in the last ten minutes.
    pub invalid: u32,
}

/// See the module's documentation.
pub struct Limiter<L: Latches> {
    shards: Vec<L::Latch<Shard>>,
    identities: Vec<L::Latch<Identities>>,
    hints: L::Latch<Hints>,
    guards: L::Latch<Guards>,
    /// A guard has something to say; spares every request the guards' latch while none has.
    guarded: AtomicBool,
    /// So many invalid answers came that tokens which never worked go a few at a time.
    wary: AtomicBool,
    /// Buckets that a process before this one knew and nobody has asked for yet.
    restored: L::Latch<Option<Box<snapshot::Restored>>>,
    /// There are such; spares others the latch.
    restoring: AtomicBool,
    /// Buckets that all shards together track.
    buckets_max: usize,
}

impl<L: Latches> Limiter<L> {
    /// A limiter over `shards` shards (1 to 65,535; one a worker).
    pub fn new(settings: &Settings, shards: usize) -> Self {
        let shards = shards.clamp(1, usize::from(u16::MAX));
        let shard = |n| Latch::new(Shard::new(n as u16, settings));
        let identities = |n| Latch::new(Identities::new(n as u16, settings, shards));
        Self {
            shards: (0..shards).map(shard).collect(),
            identities: (0..shards).map(identities).collect(),
            hints: Latch::new(Hints::default()),
            guards: Latch::new(Guards::new()),
            guarded: AtomicBool::new(false),
            wary: AtomicBool::new(false),
            restored: Latch::new(None),
            restoring: AtomicBool::new(false),
            buckets_max: settings.buckets_max.saturating_mul(shards),
        }
    }

    /// Shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The shard of a key; its owner handles the waiting and the timers.
    pub fn shard_of(&self, key: &BucketKey) -> usize {
        learn::shard_of(key, self.shards.len())
    }

    /// A request asks to be sent.
    pub fn acquire(&self, now: Instant, ask: &Ask, out: &mut Outputs) -> Decision {
        if self.guarded.load(Ordering::Acquire)
            && let Some(refusal) = self.guards.with(|guards| guards.refuses(now, ask))
        {
            return Decision::Refuse(refusal);
        }
        let mut behind = pressure::Behind::default();
        if ask.max_wait.is_some() && ask.counts_globally {
            let identity = ask.key.identity;
            behind = self
                .identity(identity)
                .with(|ids| ids.predicted_wait(now, identity, ask.client.user_id()));
        }
        let shard = &self.shards[self.shard_of(&ask.key)];
        let mut step = shard.with(|shard| shard.acquire(now, ask, behind, None, out));
        if matches!(step, shard::Step::Unknown) {
            let hint = self.hints.with(|hints| hints.get(ask.key.route));
            let restored = self.claim(&ask.key, hint);
            step = shard.with(|shard| {
                for (record, times) in restored.iter().flatten() {
                    shard.adopt(now, record, *times, out);
                }
                shard.acquire(now, ask, behind, Some(hint), out)
            });
            if let Some(claim) = restored.filter(|claim| !claim.is_empty()) {
                self.claimed(&claim);
            }
        }
        let decision = match step {
            // Others who waited for the same route were let go by this very ask: they go first.
            shard::Step::Ready(permit) if !out.ready.is_empty() => {
                out.ready.push_back((ask.ticket, permit));
                Decision::Wait
            }
            shard::Step::Ready(permit) => self.send(now, ask.ticket, permit, out),
            shard::Step::Refused(refusal) => Decision::Refuse(refusal),
            shard::Step::Waits | shard::Step::Unknown => Decision::Wait,
        };
        self.drain(now, out);
        decision
    }

    /// The permit's request cannot be sent at once: a connection is dialled first, a place or the
    /// rest of a body is waited for. Its global slot stays in use until it departs, however long that
    /// takes. `before`: it was sent already and may have been counted, and will be once more.
    pub fn delayed(&self, now: Instant, permit: &mut Permit, before: bool, out: &mut Outputs) {
        if permit.is(Permit::GLOBAL) && !permit.is(Permit::HELD) {
            let identity = self.identity(permit.key.identity);
            identity.with(|identities| identities.delayed(now, permit, before, out));
            self.drain(now, out);
        }
    }

    /// The first byte of the permit's request is about to be written, and if `whole` the last one
    /// with it; if not, [`Self::departed`] follows. Takes no latch for one that leaves in time.
    pub fn departs(&self, now: Instant, permit: &mut Permit, whole: bool, out: &mut Outputs) {
        let late = now.saturating_duration_since(permit.sent) > global::LATE;
        permit.sent = permit.sent.max(now);
        if !whole {
            self.delayed(now, permit, false, out);
        } else if late || permit.is(Permit::HELD) {
            self.departed(now, permit, out);
        }
    }

    /// The last byte of the permit's request is about to be written.
    pub fn departed(&self, now: Instant, permit: &mut Permit, out: &mut Outputs) {
        if permit.is(Permit::GLOBAL) {
            let identity = self.identity(permit.key.identity);
            identity.with(|identities| identities.departed(now, permit, out));
            self.drain(now, out);
        }
    }

    /// The answer to a permit's request has come.
    #[expect(clippy::needless_pass_by_value, reason = "a permit is given back once")]
    pub fn report(&self, now: Instant, permit: Permit, answer: &Answer, out: &mut Outputs) {
        self.take_in(now, &permit, answer, out);
        let shard = &self.shards[usize::from(permit.shard)];
        let hint = shard.with(|shard| shard.report(now, &permit, answer, out));
        self.learn(&permit, hint);
        self.drain(now, out);
    }

    /// The answer is a 429 that the shell absorbs ([`Answer::verdict`]): takes it in as
    /// [`Self::report`] does, and puts the request back to the front of its bucket, before anyone
    /// else can pass. An output with the ask's ticket follows.
    #[expect(clippy::needless_pass_by_value, reason = "a permit is given back once")]
    pub fn requeue(
        &self,
        now: Instant,
        permit: Permit,
        answer: &Answer,
        ask: &Ask,
        out: &mut Outputs,
    ) {
        self.take_in(now, &permit, answer, out);
        let shard = &self.shards[usize::from(permit.shard)];
        let hint = shard.with(|shard| shard.requeue(now, &permit, answer, ask, out));
        self.learn(&permit, hint);
        self.drain(now, out);
    }

    /// No answer will come for a permit; `sent`: the request may have reached Discord.
    #[expect(clippy::needless_pass_by_value, reason = "a permit is given back once")]
    pub fn no_answer(&self, now: Instant, permit: Permit, sent: bool, out: &mut Outputs) {
        self.give_back(now, &permit, sent, out);
        self.drain(now, out);
    }

    /// The client of a waiting request left. Its ticket may still appear in outputs that were made
    /// before.
    pub fn cancel(&self, now: Instant, key: &BucketKey, ticket: Ticket, out: &mut Outputs) {
        let shard = &self.shards[self.shard_of(key)];
        if !shard.with(|shard| shard.cancel(now, ticket, out)) {
            let identity = self.identity(key.identity);
            if let Some(permit) = identity.with(|ids| ids.cancel(now, ticket, out)) {
                shard.with(|shard| shard.no_answer(now, &permit, false, out));
            }
        }
        self.drain(now, out);
    }

    /// The deadline of a shard has come. To be called by its owner, who must ask for
    /// [`Self::next_deadline`] right afterwards: until then no earlier one is announced.
    pub fn tick(&self, now: Instant, shard: usize, out: &mut Outputs) {
        self.shards[shard].with(|shard| shard.tick(now, out));
        self.identities[shard].with(|identities| identities.tick(now, out));
        self.drain(now, out);
    }

    /// When to tick the shard next. Only earlier deadlines are announced from then on.
    pub fn next_deadline(&self, shard: usize) -> Option<Instant> {
        let bucket = self.shards[shard].with(Shard::next_deadline);
        let identity = self.identities[shard].with(Identities::next_deadline);
        bucket.into_iter().chain(identity).min()
    }

    /// The result of what [`Output::Confirm`] asked for: `valid` unless the answer was a 401. Says what
    /// a person should hear of it.
    pub fn confirmed(&self, now: Instant, identity: u64, valid: bool) -> Option<Notice> {
        if !valid {
            self.guards.with(|guards| guards.count_invalid(now));
        }
        self.identity(identity)
            .with(|identities| identities.confirmed(now, identity, valid))
    }

    /// An identity's global limit was found out (requests per second, at least 1).
    pub fn set_global_limit(&self, now: Instant, identity: u64, limit: u32, out: &mut Outputs) {
        self.identity(identity)
            .with(|identities| identities.set_limit(now, identity, limit, out));
        self.drain(now, out);
    }

    /// Counts what is held. Walks all buckets: for tests and rare status reports.
    pub fn census(&self, now: Instant) -> Census {
        let mut census = Census::default();
        for shard in &self.shards {
            let (waiting, buckets, under_way) = shard.with(|shard| shard.counts());
            census.waiting_for_bucket += waiting;
            census.buckets += buckets;
            census.under_way += under_way;
        }
        for shard in &self.identities {
            let (waiting, identities, _) = shard.with(|shard| shard.counts());
            census.waiting_for_global += waiting;
            census.identities += identities;
        }
        census.invalid = self.guards.with(|guards| guards.invalid(now));
        census
    }

    fn identity(&self, identity: u64) -> &L::Latch<Identities> {
        &self.identities[learn::shard_of_identity(identity, self.identities.len())]
    }

    /// The shard of an identity of which only the key is known.
    fn identity_of_key(&self, key: u64) -> &L::Latch<Identities> {
        &self.identities[learn::shard_of_identity_key(key, self.identities.len())]
    }

    /// How careful one has to be may have changed.
    fn look_at_level(&self, now: Instant) {
        let level = self.guards.with(|guards| guards.level(now));
        self.wary
            .store(level > offenders::Level::Calm, Ordering::Release);
    }

    /// The stages behind the bucket.
    fn send(
        &self,
        now: Instant,
        ticket: Ticket,
        mut permit: Permit,
        out: &mut Outputs,
    ) -> Decision {
        if permit.is(Permit::GLOBAL) {
            let identity = self.identity(permit.key.identity);
            let wary = self.wary.load(Ordering::Acquire);
            match identity.with(|ids| ids.take(now, ticket, permit, wary, out)) {
                identity::Step::Ready(ready) => permit = ready,
                identity::Step::Waits => return Decision::Wait,
                identity::Step::Refused(permit, refusal) => {
                    let shard = &self.shards[usize::from(permit.shard)];
                    shard.with(|shard| shard.no_answer(now, &permit, false, out));
                    return Decision::Refuse(refusal);
                }
            }
        }
        self.pass_guards(now, permit, out)
    }

    fn pass_guards(&self, now: Instant, mut permit: Permit, out: &mut Outputs) -> Decision {
        if self.guarded.load(Ordering::Acquire)
            && let Some(refusal) = self.guards.with(|guards| guards.pass(now, &mut permit))
        {
            self.give_back(now, &permit, false, out);
            return Decision::Refuse(refusal);
        }
        Decision::Go(permit)
    }

    /// Moves those whose bucket let them go through the later stages, until nobody moves.
    fn drain(&self, now: Instant, out: &mut Outputs) {
        loop {
            if let Some((identity, old, new)) = out.pressures.pop_front() {
                self.identity(identity)
                    .with(|identities| identities.press(identity, old, new));
                continue;
            }
            if let Some((ticket, permit, refusal)) = out.barred.pop_front() {
                let shard = &self.shards[usize::from(permit.shard)];
                shard.with(|shard| shard.no_answer(now, &permit, false, out));
                out.list.push_back(Output::Refuse { ticket, refusal });
                continue;
            }
            let decided = if let Some((ticket, mut permit)) = out.granted.pop_front() {
                let shard = &self.shards[usize::from(permit.shard)];
                self.look_again(now, &permit, out);
                if shard.with(|shard| shard.recall(now, ticket, &permit, out)) {
                    let identity = self.identity(permit.key.identity);
                    identity.with(|identities| identities.no_answer(now, &permit, false, out));
                    continue;
                }
                permit.sent = now;
                (ticket, self.pass_guards(now, permit, out))
            } else if let Some((ticket, permit)) = out.ready.pop_front() {
                let shard = &self.shards[usize::from(permit.shard)];
                if self.look_again(now, &permit, out)
                    && shard.with(|shard| shard.recall(now, ticket, &permit, out))
                {
                    continue;
                }
                (ticket, self.send(now, ticket, permit, out))
            } else {
                return;
            };
            match decided {
                (ticket, Decision::Go(permit)) => out.list.push_back(Output::Go { ticket, permit }),
                (ticket, Decision::Refuse(refusal)) => {
                    out.list.push_back(Output::Refuse { ticket, refusal });
                }
                (_, Decision::Wait) => {}
            }
        }
    }

    /// What an answer tells the identity and the guards.
    fn take_in(&self, now: Instant, permit: &Permit, answer: &Answer, out: &mut Outputs) {
        if permit.is(Permit::GLOBAL) {
            let identity = self.identity(permit.key.identity);
            identity.with(|identities| identities.answered(now, permit, answer, out));
        }
        let guarded = self.guarded.load(Ordering::Acquire);
        if guarded || permit.is(Permit::PROBE) || Guards::concerns(permit, answer) {
            self.guards.with(|guards| {
                // Inside, so that a later finding is not overwritten by an earlier one.
                self.guarded
                    .store(guards.answered(now, permit, answer, out), Ordering::Release);
                let wary = guards.level(now) > offenders::Level::Calm;
                self.wary.store(wary, Ordering::Release);
            });
        }
    }

    fn learn(&self, permit: &Permit, hint: Option<learn::Hint>) {
        if let Some(hint) = hint {
            self.hints.with(|hints| hints.learn(permit.key.route, hint));
        }
    }

    fn give_back(&self, now: Instant, permit: &Permit, sent: bool, out: &mut Outputs) {
        if permit.is(Permit::GLOBAL) {
            let identity = self.identity(permit.key.identity);
            identity.with(|identities| identities.no_answer(now, permit, sent, out));
        }
        if permit.is(Permit::PROBE) {
            self.guards.with(Guards::probe_lost);
        }
        let shard = &self.shards[usize::from(permit.shard)];
        shard.with(|shard| shard.no_answer(now, permit, sent, out));
    }
}

#[cfg(test)]
mod tests;
