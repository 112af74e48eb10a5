//! A shard: the buckets of some (identity, major) pairs, those that wait in them, and their timers.
//!
//! A request finds its bucket with one lookup; its answer needs none, the permit knows the place.
//! Whoever waits is a node of a queue; a bucket has a queue and a timer only while somebody waits.

use super::arena::Arena;
use super::ask::{Ask, BucketKey, Output, Outputs, Permit, Reason, Refusal, Ticket};
use super::bucket::{Bucket, Kind, Learned, Slot};
use super::headers::{Answer, Limited};
use super::learn::{self, Hint, Index};
use super::queue::{Nodes, Queue};
use super::settings::Settings;
use super::timer::{TimerKey, Wheel};
use crate::clock::Instant;
use ahash::AHasher;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::time::Duration;

const NONE: u32 = u32::MAX;
/// A bucket that nobody used for so long is forgotten: longer than nearly every window of Discord's.
const IDLE: Duration = Duration::from_secs(600);
/// Buckets that one sweep looks at: some tens of microseconds.
const SWEEP_BATCH: u32 = 1_024;
/// All buckets are looked at once in this time.
const SWEEP_ROUND: Duration = Duration::from_secs(120);
/// Buckets looked at to make room for a new one when all places are taken.
const PRESSURE_BATCH: u32 = 64;
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
    timer: Option<(TimerKey, Instant)>,
}

/// A bucket that waits for what is under way from another: its newest answer does not know of it.
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
    wheel: Wheel<u32>,
    /// Lanes in which somebody waits; nonzero makes answers look for theirs.
    lanes_waiting: u32,
    serial: u32,
    holds: Vec<Hold>,
    /// Buckets between which waiters were moved, to be pumped before the call ends.
    moved: Vec<u32>,
    sweep_hand: u32,
    sweep_at: Instant,
    /// The deadline that the owner knows of.
    announced: Instant,
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
            wheel: Wheel::new(Instant::ZERO),
            lanes_waiting: 0,
            serial: 0,
            holds: Vec::new(),
            moved: Vec::new(),
            sweep_hand: 0,
            sweep_at: Instant::FAR,
            announced: Instant::FAR,
        }
    }

    /// A request asks for its slot. `hint` is what the process knows of its route, once asked.
    pub(super) fn acquire(
        &mut self,
        now: Instant,
        ask: &Ask,
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
        let mut permit = Permit::for_ask(ask, now);
        if self.settings.allow_concurrent {
            permit.flags &= !Permit::SERIAL;
        }
        permit.shard = self.number;
        if self.buckets[bucket].active == NONE
            && let Ok(suspect) = self.may_go(now, bucket, permit.is(Permit::SERIAL))
        {
            self.take(now, bucket, suspect, &mut permit);
            return Step::Ready(permit);
        }
        self.enqueue(now, bucket, ask, permit, out)
    }

    /// The answer to a permit's request. What was learned of its route comes back.
    pub(super) fn report(
        &mut self,
        now: Instant,
        permit: &Permit,
        answer: &Answer,
        out: &mut Outputs,
    ) -> Option<Hint> {
        let (target, hint) = self.take_in(now, permit, answer, out);
        self.after_release(now, permit, out);
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
        let (target, hint) = self.take_in(now, permit, answer, out);
        let bucket = target.unwrap_or(permit.bucket);
        let active = self.activate(bucket);
        let mut again = Permit::for_ask(ask, now);
        again.shard = self.number;
        again.flags = again.flags & !Permit::SERIAL | permit.flags & Permit::SERIAL;
        let waiter = Waiter {
            ticket: ask.ticket,
            permit: again,
            active,
        };
        let node = self
            .waiters
            .push_front(&mut self.actives[active].queue, waiter);
        self.tickets.insert(ask.ticket, node);
        self.after_release(now, permit, out);
        self.pump_others(now, permit.bucket, Some(bucket), out);
        self.check_invariants();
        hint
    }

    /// Learns from an answer; nobody moves yet.
    fn take_in(
        &mut self,
        now: Instant,
        permit: &Permit,
        answer: &Answer,
        out: &mut Outputs,
    ) -> (Option<u32>, Option<Hint>) {
        self.release(now, permit);
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
        self.release(now, permit);
        if sent {
            self.buckets[permit.bucket].count_lost(now);
        }
        self.after_release(now, permit, out);
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
        self.waiters.remove(&mut self.actives[active].queue, node);
        let bucket = self.actives[active].bucket;
        if was_front || self.actives[active].queue.is_empty() {
            self.pump(now, bucket, out);
        }
        self.check_invariants();
        true
    }

    /// Deals with all deadlines up to `now`.
    pub(super) fn tick(&mut self, now: Instant, out: &mut Outputs) {
        // Whatever is armed meanwhile, the owner asks for the next deadline afterwards.
        self.announced = Instant::ZERO;
        while let Some(active) = self.wheel.pop(now) {
            self.actives[active].timer = None;
            let bucket = self.actives[active].bucket;
            self.pump(now, bucket, out);
        }
        if now >= self.sweep_at {
            self.sweep(now, SWEEP_BATCH, IDLE);
            self.sweep_at = if self.buckets.len() == 0 {
                Instant::FAR
            } else {
                now + self.sweep_pause()
            };
        }
        self.check_invariants();
    }

    /// When to tick next; the owner knows it from now on.
    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        let at = self
            .wheel
            .next_deadline()
            .unwrap_or(Instant::FAR)
            .min(self.sweep_at);
        self.announced = at;
        (at < Instant::FAR).then_some(at)
    }

    /// Requests waiting, buckets tracked, requests under way.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let under_way = self
            .buckets
            .iter()
            .map(|(_, b)| usize::from(b.in_flight()))
            .sum();
        (self.waiters.len(), self.buckets.len(), under_way)
    }

    /// Whether the next request of `bucket` may go; if so, with the suspect it also needs a slot of.
    fn may_go(&self, now: Instant, bucket: u32, serial: bool) -> Result<u32, Slot> {
        let b = &self.buckets[bucket];
        if serial && b.is(Bucket::SERIAL) {
            return Err(Slot::AfterAnswer);
        }
        match b.slot(now, self.settings.default_bucket) {
            Slot::Now if b.kind() == Kind::Lane => self.suspect_allows(now, b),
            Slot::Now => Ok(NONE),
            wait => Err(wait),
        }
    }

    /// An unknown route may fall into the bucket that was learned last. It takes a slot there too;
    /// if there is none, it waits only once that has happened before.
    fn suspect_allows(&self, now: Instant, lane: &Bucket) -> Result<u32, Slot> {
        let Some(suspect) = (lane.name_key != 0)
            .then(|| self.index.get(lane.name_key))
            .flatten()
        else {
            return Ok(NONE);
        };
        match self.buckets[suspect].slot(now, 1) {
            Slot::Now => Ok(suspect),
            wait if lane.is(Bucket::SUSPICIOUS) => Err(wait),
            Slot::At(_) | Slot::AfterAnswer => Ok(NONE),
        }
    }

    fn take(&mut self, now: Instant, bucket: u32, suspect: u32, permit: &mut Permit) {
        self.buckets[bucket].take(now, permit.is(Permit::SERIAL));
        if suspect != NONE {
            self.buckets[suspect].take(now, false);
        }
        if self.buckets[bucket].kind() == Kind::Lane {
            self.buckets[bucket].take_unknown(permit.key.route);
        }
        self.serial = self.serial.wrapping_add(1);
        permit.serial = self.serial;
        permit.bucket = bucket;
        permit.suspect = suspect;
        permit.sent = now;
    }

    fn release(&mut self, now: Instant, permit: &Permit) {
        self.buckets[permit.bucket].release(now, permit.is(Permit::SERIAL));
        if permit.suspect != NONE {
            self.buckets[permit.suspect].release(now, false);
        }
        if !self.holds.is_empty() {
            self.release_holds(permit);
        }
    }

    /// If a request of `route` may be under way from `from`: lets `to` wait until all is back that is.
    fn hold(&mut self, from: u32, route: u64, to: u32) {
        let left = self.buckets[from].in_flight();
        let may = self.buckets[from].may_have_under_way(route);
        if may && self.buckets[to].kind() != Kind::Free {
            let serial = self.serial;
            self.holds.push(Hold {
                from,
                to,
                serial,
                left,
            });
            self.buckets[to].set(Bucket::HELD, true);
        }
    }

    fn release_holds(&mut self, permit: &Permit) {
        let (holds, buckets, moved) = (&mut self.holds, &mut self.buckets, &mut self.moved);
        for hold in holds.iter_mut() {
            let meant = (hold.serial.wrapping_sub(permit.serial) as i32) >= 0;
            if meant && (hold.from == permit.bucket || hold.from == permit.suspect) {
                hold.left -= 1;
                if hold.left == 0 {
                    buckets[hold.to].set(Bucket::HELD, false);
                    moved.push(hold.to);
                }
            }
        }
        holds.retain(|hold| hold.left > 0);
        holds
            .iter()
            .for_each(|hold| buckets[hold.to].set(Bucket::HELD, true));
    }

    fn after_release(&mut self, now: Instant, permit: &Permit, out: &mut Outputs) {
        // The lane first: it waits only if it may need a slot of the bucket that is released here.
        if self.lanes_waiting > 0
            && let Some(lane) = self.index.get(learn::lane_key(&permit.key))
            && lane != permit.bucket
        {
            self.pump(now, lane, out);
        }
        self.pump(now, permit.bucket, out);
        if permit.suspect != NONE {
            self.pump(now, permit.suspect, out);
        }
    }

    /// Pumps the bucket that an answer spoke of, if it is not the permit's, and those between which
    /// waiters moved.
    fn pump_others(&mut self, now: Instant, own: u32, target: Option<u32>, out: &mut Outputs) {
        if let Some(bucket) = target.filter(|&bucket| bucket != own) {
            self.pump(now, bucket, out);
        }
        self.pump_moved(now, out);
    }

    fn pump_moved(&mut self, now: Instant, out: &mut Outputs) {
        while let Some(bucket) = self.moved.pop() {
            self.pump(now, bucket, out);
        }
    }

    fn enqueue(
        &mut self,
        now: Instant,
        bucket: u32,
        ask: &Ask,
        permit: Permit,
        out: &mut Outputs,
    ) -> Step {
        let b = &self.buckets[bucket];
        let ahead = self
            .actives
            .get(b.active)
            .map_or(0, |active| active.queue.len());
        let wait = b.predicted_wait(now, ahead);
        if ask.max_wait.is_some_and(|max| wait > max) {
            return refused(Reason::TooLong, wait);
        }
        if ahead >= self.settings.waiting_per_bucket_max {
            return refused(Reason::QueueFull, wait);
        }
        if self.waiters.len() >= self.settings.waiting_max {
            return refused(Reason::TooManyWaiting, wait);
        }
        let active = self.activate(bucket);
        let waiter = Waiter {
            ticket: ask.ticket,
            permit,
            active,
        };
        let node = self
            .waiters
            .push_back(&mut self.actives[active].queue, waiter);
        self.tickets.insert(ask.ticket, node);
        if ahead == 0 {
            self.pump(now, bucket, out);
        }
        self.check_invariants();
        Step::Waits
    }

    /// The queue of `bucket`, made if it has none.
    fn activate(&mut self, bucket: u32) -> u32 {
        if self.buckets[bucket].active == NONE {
            let active = self.actives.insert(Active {
                bucket,
                queue: Queue::EMPTY,
                timer: None,
            });
            self.buckets[bucket].active = active;
            self.lanes_waiting += u32::from(self.buckets[bucket].kind() == Kind::Lane);
        }
        self.buckets[bucket].active
    }

    /// Lets go whoever may go, and arms the timer for the next.
    fn pump(&mut self, now: Instant, bucket: u32, out: &mut Outputs) {
        let active = self.buckets[bucket].active;
        if active == NONE {
            return;
        }
        let mut wake = None;
        while let Some(node) = self.actives[active].queue.front() {
            let serial = self.waiters.get(node).permit.is(Permit::SERIAL);
            match self.may_go(now, bucket, serial) {
                Ok(suspect) => {
                    let Some(waiter) = self.waiters.remove(&mut self.actives[active].queue, node)
                    else {
                        break;
                    };
                    self.tickets.remove(&waiter.ticket);
                    let mut permit = waiter.permit;
                    self.take(now, bucket, suspect, &mut permit);
                    out.ready.push_back((waiter.ticket, permit));
                }
                Err(slot) => {
                    if let Slot::At(at) = slot {
                        wake = Some(at);
                    }
                    break;
                }
            }
        }
        self.arm(active, wake, out);
        if self.actives[active].queue.is_empty() {
            self.buckets[bucket].active = NONE;
            self.actives.remove(active);
            self.lanes_waiting -= u32::from(self.buckets[bucket].kind() == Kind::Lane);
        }
    }

    fn arm(&mut self, active: u32, wake: Option<Instant>, out: &mut Outputs) {
        let timer = &mut self.actives[active].timer;
        if timer.map(|(_, at)| at) == wake {
            return;
        }
        if let Some((key, _)) = timer.take() {
            self.wheel.cancel(key);
        }
        if let Some(at) = wake {
            *timer = Some((self.wheel.insert(at, active), at));
            self.announce(at, out);
        }
    }

    fn announce(&mut self, at: Instant, out: &mut Outputs) {
        if at < self.announced {
            self.announced = at;
            out.list.push_back(Output::Deadline {
                shard: usize::from(self.number),
                at,
            });
        }
    }

    /// The bucket for a route that has none here yet.
    fn place(
        &mut self,
        now: Instant,
        key: &BucketKey,
        hint: Option<Hint>,
        out: &mut Outputs,
    ) -> Option<u32> {
        match hint {
            None => {
                let lane = learn::lane_key(key);
                match self.index.get(lane) {
                    Some(bucket) => Some(bucket),
                    None => {
                        let bucket = self.create(now, Kind::Lane, out)?;
                        self.buckets[bucket].route_key = lane;
                        self.index.insert(lane, bucket);
                        Some(bucket)
                    }
                }
            }
            Some(hint) => {
                let name = hint
                    .name
                    .filter(|_| !hint.alone)
                    .map(|name| learn::name_key(key, name));
                let bucket = self.named(now, name, out)?;
                let b = &mut self.buckets[bucket];
                b.set(Bucket::ALONE, hint.alone);
                b.hint(hint.kind);
                // Those who came when nobody knew the route go first.
                self.redirect(key, bucket);
                self.pump_moved(now, out);
                Some(bucket)
            }
        }
    }

    /// The bucket of that name, or a new one.
    fn named(&mut self, now: Instant, name: Option<u64>, out: &mut Outputs) -> Option<u32> {
        if let Some(bucket) = name.and_then(|name| self.index.get(name)) {
            return Some(bucket);
        }
        let bucket = self.create(now, Kind::Fresh, out)?;
        if let Some(name) = name {
            self.buckets[bucket].name_key = name;
            self.index.insert(name, bucket);
        }
        Some(bucket)
    }

    fn create(&mut self, now: Instant, kind: Kind, out: &mut Outputs) -> Option<u32> {
        if self.buckets.len() >= self.settings.buckets_max {
            self.sweep(now, PRESSURE_BATCH, Duration::ZERO);
            if self.buckets.len() >= self.settings.buckets_max {
                return None;
            }
        }
        let bucket = self.buckets.insert(Bucket::new(kind, now));
        if self.sweep_at == Instant::FAR {
            self.sweep_at = now + self.sweep_pause();
            self.announce(self.sweep_at, out);
        }
        Some(bucket)
    }

    /// Lets the route of `key` point to `bucket`, wherever it pointed before, and takes along those
    /// who wait for it there or in the lane.
    fn redirect(&mut self, key: &BucketKey, bucket: u32) {
        let route = learn::route_key(key);
        let old = self.index.insert(route, bucket);
        if old == Some(bucket) {
            return;
        }
        if let Some(old) = old {
            if self.buckets[old].route_key == route {
                self.buckets[old].route_key = 0;
            } else {
                self.index.drop_route(old, route);
            }
            self.buckets[old].set(Bucket::LEFT, true);
            self.move_waiters(old, key.route, bucket);
            self.hold(old, key.route, bucket);
        } else if let Some(lane) = self.index.get(learn::lane_key(key)) {
            self.move_waiters(lane, key.route, bucket);
            self.hold(lane, key.route, bucket);
        }
        let b = &mut self.buckets[bucket];
        if b.route_key == 0 {
            b.route_key = route;
        } else {
            b.set(Bucket::MORE_ROUTES, true);
            self.index.add_route(bucket, route);
        }
    }

    /// The bucket that an answer speaks of; its route points there from now on.
    fn attach(
        &mut self,
        now: Instant,
        permit: &Permit,
        answer: &Answer,
        out: &mut Outputs,
    ) -> Option<u32> {
        let b = &self.buckets[permit.bucket];
        let Some(name) = answer.headers.bucket else {
            if !says_free(answer) {
                return (b.kind() != Kind::Lane).then_some(permit.bucket);
            }
            if b.kind() != Kind::Lane {
                self.buckets[permit.bucket].set_free();
                return Some(permit.bucket);
            }
            let bucket = match self.index.get(learn::route_key(&permit.key)) {
                Some(bucket) => bucket,
                None => self.create(now, Kind::Free, out)?,
            };
            self.redirect(&permit.key, bucket);
            return Some(bucket);
        };
        let name = learn::name_key(&permit.key, name);
        let own = b.name_key == name && b.kind() != Kind::Lane || b.is(Bucket::ALONE);
        if own && !b.is(Bucket::LEFT) {
            return Some(permit.bucket);
        }
        let current = self.index.get(learn::route_key(&permit.key));
        if let Some(alone) = current.filter(|&current| self.buckets[current].is(Bucket::ALONE)) {
            return Some(alone);
        }
        let bucket = self.named(now, Some(name), out)?;
        self.redirect(&permit.key, bucket);
        let lane = &mut self.buckets[permit.bucket];
        if lane.kind() == Kind::Lane {
            lane.set(Bucket::SUSPICIOUS, lane.name_key == name);
            lane.name_key = name;
        }
        Some(bucket)
    }

    /// Moves those that wait for `route` from one bucket to another, in order.
    fn move_waiters(&mut self, from: u32, route: u64, to: u32) {
        let source = self.buckets[from].active;
        if source == NONE || to == from {
            return;
        }
        self.moved.extend([from, to]);
        let mut next = self.actives[source].queue.front();
        while let Some(node) = next {
            next = self.waiters.after(node);
            if self.waiters.get(node).permit.key.route == route {
                let target = self.activate(to);
                let (mut old, mut new) = (self.actives[source].queue, self.actives[target].queue);
                self.waiters.transfer(&mut old, &mut new, node);
                (self.actives[source].queue, self.actives[target].queue) = (old, new);
                self.waiters.get_mut(node).active = target;
            }
        }
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
            Limited::No if b.kind() == Kind::Free => {}
            Limited::No => {
                if b.answer(now, permit.sent, route, headers, true) == Learned::CountsAlone {
                    return self.split(now, bucket, permit, answer, out);
                }
            }
            Limited::User => {
                if b.kind() != Kind::Free {
                    b.answer(now, permit.sent, route, headers, false);
                    b.distrust();
                }
                b.pause(now, wait);
            }
            Limited::SubLimit | Limited::Unexplained => {
                if b.kind() != Kind::Free {
                    b.answer(now, permit.sent, route, headers, false);
                }
            }
            Limited::Shared => {
                b.count_lost(now);
                b.pause(now, wait.min(SHARED_PAUSE_MAX));
            }
            Limited::Global => b.count_lost(now),
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

    /// The route of `permit` counts alone: gives it a bucket of its own.
    fn split(
        &mut self,
        now: Instant,
        from: u32,
        permit: &Permit,
        answer: &Answer,
        out: &mut Outputs,
    ) -> u32 {
        let Some(bucket) = self.create(now, Kind::Fresh, out) else {
            return from;
        };
        let kind = self.buckets[from].kind();
        self.buckets[bucket].set(Bucket::ALONE, true);
        self.buckets[bucket].hint(kind);
        self.redirect(&permit.key, bucket);
        self.buckets[bucket].answer(
            now,
            permit.sent,
            permit.key.route as u32,
            &answer.headers,
            true,
        );
        bucket
    }

    fn sweep_pause(&self) -> Duration {
        let rounds = u32::try_from(self.buckets.len())
            .unwrap_or(u32::MAX)
            .div_ceil(SWEEP_BATCH)
            .max(1);
        (SWEEP_ROUND / rounds).clamp(Duration::from_millis(100), Duration::from_secs(60))
    }

    /// Forgets idle buckets among the next `batch`.
    fn sweep(&mut self, now: Instant, batch: u32, idle: Duration) {
        for _ in 0..batch.min(self.buckets.end()) {
            self.sweep_hand = if self.sweep_hand >= self.buckets.end() {
                0
            } else {
                self.sweep_hand
            };
            let bucket = self.sweep_hand;
            self.sweep_hand += 1;
            let leaves = |b: &Bucket| b.is_idle(now) && b.idle_for(now) >= idle;
            if self.buckets.get(bucket).is_some_and(leaves)
                && let Some(b) = self.buckets.remove(bucket)
            {
                if b.name_key != 0 && b.kind() != Kind::Lane {
                    self.index.remove(b.name_key);
                }
                if b.route_key != 0 {
                    self.index.remove(b.route_key);
                }
                if b.is(Bucket::MORE_ROUTES) {
                    self.index.drop_routes(bucket);
                }
            }
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
            self.wheel.len() <= self.actives.len(),
            "only buckets with waiters have timers"
        );
        // The rest costs time in proportion to what is held; a sample of the states will do.
        if self.actives.len() > 64 {
            return;
        }
        let mut waiting = 0;
        for (number, active) in self.actives.iter() {
            waiting += active.queue.len() as usize;
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
                    || self.waits_for_suspect(b),
                "whoever waits will be woken: {b:?}"
            );
        }
        assert_eq!(waiting, self.waiters.len(), "every waiter is in a queue");
    }

    #[cfg(any(debug_assertions, test))]
    fn waits_for_suspect(&self, lane: &Bucket) -> bool {
        lane.kind() == Kind::Lane
            && self
                .index
                .get(lane.name_key)
                .is_some_and(|suspect| self.buckets[suspect].in_flight() > 0)
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
