//! A shard: the buckets of some (identity, major) pairs, those that wait in them, and their timers.
//!
//! A request finds its bucket with one lookup; its answer needs none, the permit knows the place.
//! Whoever waits is a node of a queue; a bucket has a queue and a timer only while somebody waits.

mod flow;
mod keep;
mod lanes;
mod places;
mod survey;

use super::agenda::{Agenda, Timer};
use super::arena::Arena;
use super::ask::{Ask, Outputs, Permit, Reason, Refusal, Ticket};
use super::bucket::{Bucket, Kind, Learned};
use super::headers::{Answer, Limited};
use super::learn::{self, Hint, Index};
use super::offset::Trip;
use super::pressure::{Behind, Pressure};
use super::queue::{Nodes, Queue};
use super::settings::Settings;
use crate::clock::Instant;
use ahash::AHasher;
use flow::Stand;
use keep::Awaited;
use lanes::{Held, Suspects};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::time::Duration;

const NONE: u32 = u32::MAX;
/// A bucket that nobody used for so long is forgotten: longer than nearly every window of Discord's.
const IDLE: Duration = Duration::from_secs(600);
/// Buckets that one sweep looks at: 5 µs if all stay, 100 µs if all go (benches/limiter.rs).
const SWEEP_BATCH: u32 = 512;
/// All buckets are looked at once in this time.
const SWEEP_ROUND: Duration = Duration::from_secs(120);
/// Buckets looked at to make room for a new one when all places are taken.
const PRESSURE_BATCH: u32 = 64;
/// What makes room then was not used at this very moment: the step that asks for room may still
/// need the buckets that it has just released or taught.
const PRESSURE_IDLE: Duration = Duration::from_millis(1);
/// A shared limit's `Retry-After` may overstate (discord-api-docs #7816): after this long, one asks again.
const SHARED_PAUSE_MAX: Duration = Duration::from_secs(10);

struct Waiter {
    ticket: Ticket,
    permit: Permit,
    active: u32,
}

/// What a bucket has only while somebody waits in it.
struct Active {
    bucket: u32,
    queue: Queue,
    /// How many of the queue go one at a time.
    serials: u32,
    timer: Timer,
    /// Whose requests its window counts, and what it was told of them.
    identity: u64,
    pressure: Pressure,
}

/// A bucket that waits for what is under way from another: its newest answer does not know of it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Hold {
    from: u32,
    to: u32,
    /// Permits of `from` up to this one are meant.
    serial: u32,
    left: u16,
}

/// What became of an ask.
pub(super) enum Step {
    /// It holds its slot and goes on to the next stage.
    Ready(Permit),
    Waits,
    Refused(Refusal),
    /// The route is not known here: look it up in the hints and ask again.
    Unknown,
}

/// See the module's documentation.
pub(super) struct Shard {
    number: u16,
    settings: Settings,
    index: Index,
    buckets: Arena<Bucket>,
    actives: Arena<Active>,
    waiters: Nodes<Waiter>,
    tickets: HashMap<Ticket, u32, BuildHasherDefault<AHasher>>,
    agenda: Agenda,
    /// Lanes in which somebody waits; nonzero makes answers look for theirs.
    lanes_waiting: u32,
    /// What each lane's requests may fall into.
    lanes: HashMap<u32, Suspects, BuildHasherDefault<AHasher>>,
    /// The slots that permits of lanes hold in suspects.
    held: Arena<Held>,
    serial: u32,
    turns: u32,
    /// When the last request asked, by the latest clock reading so far.
    asked: Instant,
    /// What answers take, whatever bucket they are for.
    trip: Trip,
    holds: Vec<Hold>,
    /// Buckets between which waiters were moved, to be pumped before the call ends.
    moved: Vec<u32>,
    /// What others are about to tell of.
    awaited: Option<Box<Awaited>>,
}

impl Shard {
    pub(super) fn new(number: u16, settings: &Settings) -> Self {
        Self {
            number,
            settings: settings.clone(),
            index: Index::new(),
            buckets: Arena::new(),
            actives: Arena::new(),
            waiters: Nodes::new(),
            tickets: HashMap::default(),
            agenda: Agenda::new(number),
            lanes_waiting: 0,
            lanes: HashMap::default(),
            held: Arena::new(),
            serial: 0,
            turns: 0,
            asked: Instant::ZERO,
            trip: Trip::default(),
            holds: Vec::new(),
            moved: Vec::new(),
            awaited: None,
        }
    }

    /// A request asks for its slot. `hint` is what the process knows of its route, once asked;
    /// `behind`: how long it would wait for its identity's window, however soon its slot comes.
    pub(super) fn acquire(
        &mut self,
        now: Instant,
        ask: &Ask,
        behind: Behind,
        hint: Option<Option<Hint>>,
        out: &mut Outputs,
    ) -> Step {
        let bucket = match (self.index.get(learn::route_key(&ask.key)), hint) {
            (Some(bucket), _) => bucket,
            (None, None) => return Step::Unknown,
            (None, Some(hint)) => match self.place(now, &ask.key, hint, out) {
                Some(bucket) => bucket,
                None => return refused(Reason::TooManyTracked, Duration::from_secs(1)),
            },
        };
        if self.awaited.is_some() {
            self.hold_for_word(now, ask, bucket);
        }
        let mut permit = Permit::for_ask(ask, now);
        if self.settings.allow_concurrent {
            permit.flags &= !Permit::SERIAL;
        }
        permit.shard = self.number;
        self.turns = self.turns.wrapping_add(1);
        permit.turn = self.turns;
        // Who came later asked later here, though its worker's clock reading is a little older: the
        // queues are in the order of coming, and what returns to them looks at when it asked.
        self.asked = self.asked.max(now);
        permit.asked = self.asked;
        if self.buckets[bucket].active == NONE
            && self.may_go(now, bucket, permit.is(Permit::SERIAL)).is_ok()
        {
            if ask.max_wait.is_some_and(|max| behind.line > max) {
                return refused(Reason::TooLong, behind.line);
            }
            self.take(now, bucket, &mut permit);
            return Step::Ready(permit);
        }
        self.enqueue(now, bucket, ask, permit, behind, out)
    }

    /// The answer to a permit's request. What was learned of its route comes back.
    pub(super) fn report(
        &mut self,
        now: Instant,
        permit: &Permit,
        answer: &Answer,
        out: &mut Outputs,
    ) -> Option<Hint> {
        let held = self.release(now, permit);
        let (target, hint) = self.take_in(now, permit, answer, out);
        self.after_release(now, permit, &held, out);
        self.pump_others(now, permit.bucket, target, out);
        self.check_invariants();
        hint
    }

    /// As [`Self::report`], for a 429 that is absorbed: its request goes to the front of its bucket
    /// before anyone moves. It has waited once, so no cap applies.
    pub(super) fn requeue(
        &mut self,
        now: Instant,
        permit: &Permit,
        answer: &Answer,
        ask: &Ask,
        out: &mut Outputs,
    ) -> Option<Hint> {
        let held = self.release(now, permit);
        let (target, hint) = self.take_in(now, permit, answer, out);
        let bucket = target.unwrap_or(permit.bucket);
        self.stand(bucket, ask.ticket, permit.again(), Stand::First);
        self.after_release(now, permit, &held, out);
        self.pump_others(now, permit.bucket, Some(bucket), out);
        self.check_invariants();
        hint
    }

    /// Learns from an answer whose permit is released; nobody moves yet.
    fn take_in(
        &mut self,
        now: Instant,
        permit: &Permit,
        answer: &Answer,
        out: &mut Outputs,
    ) -> (Option<u32>, Option<Hint>) {
        let trip = now.saturating_duration_since(permit.sent);
        self.trip.add(trip);
        if self.buckets[permit.bucket].kind() == Kind::Lane {
            self.buckets[permit.bucket].timed(trip);
        }
        let before = self.buckets[permit.bucket].kind();
        let Some(bucket) = self.attach(now, permit, answer, out) else {
            self.apply_without_bucket(now, permit, answer);
            return (None, None);
        };
        let bucket = self.apply(now, bucket, permit, answer, out);
        let b = &self.buckets[bucket];
        let changed = bucket != permit.bucket || b.kind() != before;
        let told = answer.headers.bucket.is_some() || b.kind() == Kind::Free;
        let hint = (changed && told).then(|| Hint {
            name: answer.headers.bucket,
            kind: b.kind(),
            alone: b.is(Bucket::ALONE),
        });
        (Some(bucket), hint)
    }

    /// No answer came; `sent`: the request may have reached Discord and been counted.
    pub(super) fn no_answer(
        &mut self,
        now: Instant,
        permit: &Permit,
        sent: bool,
        out: &mut Outputs,
    ) {
        let held = self.release(now, permit);
        if sent {
            self.buckets[permit.bucket].unheard(now);
            for &bucket in &held {
                self.buckets[bucket].unheard(now);
            }
            // Its route may have been found to belong elsewhere while it was under way.
            let current = self.index.get(learn::route_key(&permit.key));
            if let Some(current) = current.filter(|&current| current != permit.bucket) {
                self.buckets[current].unheard(now);
            }
        }
        self.after_release(now, permit, &held, out);
        self.pump_moved(now, out);
        self.check_invariants();
    }

    /// A waiting client left. `false`: it does not wait here.
    pub(super) fn cancel(&mut self, now: Instant, ticket: Ticket, out: &mut Outputs) -> bool {
        let Some(node) = self.tickets.remove(&ticket) else {
            return false;
        };
        let active = self.waiters.get(node).active;
        let was_front = self.actives[active].queue.front() == Some(node);
        if let Some(waiter) = self.waiters.remove(&mut self.actives[active].queue, node) {
            self.actives[active].serials -= u32::from(waiter.permit.is(Permit::SERIAL));
        }
        let bucket = self.actives[active].bucket;
        if was_front || self.actives[active].queue.is_empty() {
            self.pump(now, bucket, out);
        } else {
            self.press(now, active, out);
        }
        self.check_invariants();
        true
    }

    /// Deals with all deadlines up to `now`.
    pub(super) fn tick(&mut self, now: Instant, out: &mut Outputs) {
        self.agenda.wake();
        while let Some(active) = self.agenda.pop(now) {
            self.actives[active].timer = None;
            let bucket = self.actives[active].bucket;
            self.pump(now, bucket, out);
        }
        if self.agenda.sweeps(now) {
            self.sweep(now, SWEEP_BATCH, IDLE);
            if self.buckets.len() > 0 {
                self.agenda.sweep_by(now + self.sweep_pause(), out);
            }
        }
        self.check_invariants();
    }

    /// When to tick next; the owner knows it from now on.
    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        self.agenda.next()
    }

    /// Requests waiting, buckets tracked, requests under way.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let slots: usize = self
            .buckets
            .iter()
            .map(|(_, b)| usize::from(b.in_flight()))
            .sum();
        let of_suspects: usize = self.held.iter().map(|(_, held)| held.len()).sum();
        (self.waiters.len(), self.buckets.len(), slots - of_suspects)
    }

    /// Teaches `bucket` what the answer says; the bucket it said it of, after a split another.
    fn apply(
        &mut self,
        now: Instant,
        bucket: u32,
        permit: &Permit,
        answer: &Answer,
        out: &mut Outputs,
    ) -> u32 {
        let route = permit.key.route as u32;
        let headers = &answer.headers;
        let wait = answer.retry_after().unwrap_or_default();
        let b = &mut self.buckets[bucket];
        match answer.limited() {
            Limited::No => {
                if b.answer(now, permit.sent, route, headers, true) == Learned::CountsAlone {
                    return self.split(now, bucket, permit, answer, out);
                }
            }
            Limited::User => b.refused(now, permit.sent, route, headers, wait),
            Limited::SubLimit | Limited::Unexplained => {
                b.answer(now, permit.sent, route, headers, false);
            }
            Limited::Shared => {
                b.count_lost(now);
                b.pause(now, wait.min(SHARED_PAUSE_MAX));
            }
            Limited::Global => {
                b.count_lost(now);
                if !permit.is(Permit::GLOBAL) {
                    // Counted all the same, for a token that came along (discord-api-docs #4142):
                    // nobody else's wait keeps this one back.
                    b.pause(now, wait);
                }
            }
            Limited::Cloudflare => {}
        }
        bucket
    }

    fn apply_without_bucket(&mut self, now: Instant, permit: &Permit, answer: &Answer) {
        let wait = answer.retry_after().unwrap_or_default();
        let b = &mut self.buckets[permit.bucket];
        match answer.limited() {
            Limited::User => b.pause(now, wait),
            Limited::Shared => b.pause(now, wait.min(SHARED_PAUSE_MAX)),
            Limited::No
            | Limited::SubLimit
            | Limited::Unexplained
            | Limited::Global
            | Limited::Cloudflare => {}
        }
    }

    #[cfg(not(any(debug_assertions, test)))]
    #[inline(always)]
    fn check_invariants(&self) {}

    #[cfg(any(debug_assertions, test))]
    fn check_invariants(&self) {
        assert_eq!(
            self.tickets.len(),
            self.waiters.len(),
            "every waiter can be cancelled"
        );
        assert!(
            self.moved.is_empty(),
            "whoever was moved is looked after in the same step"
        );
        assert!(
            self.agenda.timers() <= self.actives.len(),
            "only buckets with waiters have timers"
        );
        if self.lanes.len() <= 64 {
            let no_lane = |&&bucket: &&u32| {
                let b = self.buckets.get(bucket);
                b.is_none_or(|b| b.kind() != Kind::Lane)
            };
            let other = self.lanes.keys().find(no_lane);
            assert_eq!(other, None, "only lanes have suspects");
        }
        // The rest costs time in proportion to what is held; a sample of the states will do.
        if self.actives.len() > 64 {
            return;
        }
        let mut waiting = 0;
        for (number, active) in self.actives.iter() {
            waiting += active.queue.len() as usize;
            assert!(
                active.serials <= active.queue.len(),
                "only who waits is counted"
            );
            let b = &self.buckets[active.bucket];
            assert_eq!(b.active, number, "a queue and its bucket know each other");
            assert!(
                !active.queue.is_empty(),
                "a bucket without waiters has no queue"
            );
            assert!(
                active.timer.is_some()
                    || b.in_flight() > 0
                    || b.is(Bucket::HELD)
                    || b.kind() == Kind::Lane && self.waits_for_suspect(active.bucket),
                "whoever waits will be woken: {b:?}"
            );
        }
        assert_eq!(waiting, self.waiters.len(), "every waiter is in a queue");
    }
}

const fn refused(reason: Reason, retry_after: Duration) -> Step {
    Step::Refused(Refusal {
        reason,
        retry_after,
    })
}

/// Whether an answer without a bucket's name shows that its route has none: Discord's limiter stands
/// before what makes these statuses, and names a bucket if there is one. 401, 403, 429 and 5xx may
/// come from before it.
fn says_free(answer: &Answer) -> bool {
    !matches!(answer.status, 401 | 403 | 429 | 500..)
}
