//! hikari's REST limiter, as it behaves: a bucket lets as many be in transit as its limit says, one
//! while it is unknown; those beyond come in one by one, as others leave. A known bucket gains a slot
//! per period (`Reset-After` over what is used) or, told fixed by an equal `Reset` (± 50 ms), all at
//! once. There is no window for the global limit: only a global 429 holds everything back. An
//! exhausted bucket's 429 is sent again at once, other 429s after their wait, if it is below 300 s.

use super::Timers;
use crate::clock::Instant;
use crate::limit::{Answer, Limited, Scope};
use crate::sim::api::Place;
use crate::sim::subject::{Action, Asked, Fate, Subject};
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

/// Waits that are longer are errors to the caller.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// An idle bucket is forgotten about so long after its `Reset`.
const FORGOTTEN_S: f64 = 20.0;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Unknown(u64, usize),
    Real(u64, u64, u64),
}

/// Times are seconds of the server's clock, which hikari reads its own as.
struct Bucket {
    limit: u16,
    remaining: u16,
    period: f64,
    move_at: f64,
    reset_at: f64,
    fixed: bool,
    unknown: bool,
    out_of_sync: bool,
    in_transit: u16,
    /// Beyond the limit; then those that wait for a slot.
    outside: VecDeque<u64>,
    queue: VecDeque<u64>,
    timer: Option<Instant>,
}

impl Bucket {
    fn move_window(&mut self, now: f64) {
        if now < self.move_at || self.out_of_sync && now - self.move_at <= self.period {
            return;
        }
        if self.fixed {
            self.remaining = self.limit;
            self.out_of_sync = true;
            self.move_at = now + self.period;
            return;
        }
        let gain = ((now - self.move_at) / self.period).floor() + 1.0;
        self.remaining = (f64::from(self.remaining) + gain).min(f64::from(self.limit)) as u16;
        if self.remaining == self.limit {
            self.move_at = now + self.period;
            self.out_of_sync = true;
        } else {
            self.move_at += gain * self.period;
        }
    }

    fn update(&mut self, remaining: u16, limit: u16, reset_at: f64, reset_after: f64) {
        if remaining >= limit {
            return;
        }
        let slot = reset_after / f64::from(limit - remaining);
        let next_slot = reset_at - reset_after + slot;
        if self.unknown {
            (self.remaining, self.limit, self.reset_at) = (remaining, limit, reset_at);
            (self.period, self.move_at) = (slot, next_slot);
            (self.out_of_sync, self.unknown) = (false, false);
            return;
        }
        if reset_at < self.reset_at {
            return;
        }
        if !self.out_of_sync {
            let same = (self.reset_at - reset_at).abs() <= 0.05;
            self.out_of_sync = same != self.fixed;
            self.fixed = same;
        }
        self.reset_at = reset_at;
        self.limit = limit;
        self.remaining = self.remaining.min(limit);
        let first = remaining == limit - 1;
        if self.fixed {
            if self.out_of_sync || first {
                (self.period, self.move_at) = (reset_after, reset_at);
                self.out_of_sync = false;
            }
            return;
        }
        let changed = (self.period - slot).abs() > 0.3;
        if self.out_of_sync || first || slot > self.period || changed {
            self.out_of_sync = false;
            (self.period, self.move_at) = (slot, next_slot);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Bucket(usize),
    Global(u64),
    Again(u64),
}

#[derive(Default)]
struct Throttle {
    until: Option<Instant>,
    waiting: VecDeque<u64>,
}

/// See the module's documentation.
pub(in crate::sim) struct Hikari {
    clock_ahead_ns: u64,
    buckets: Vec<Bucket>,
    keys: HashMap<Key, usize>,
    /// Route to the bucket's name, of each bot's client.
    names: HashMap<(u64, usize), u64>,
    /// The bucket that each request entered.
    entered: HashMap<u64, (usize, Asked)>,
    global: HashMap<u64, Throttle>,
    left: HashSet<u64>,
    timers: Timers<Timer>,
}

impl Hikari {
    pub(in crate::sim) fn new(clock_ahead_ns: u64) -> Self {
        Self {
            clock_ahead_ns,
            buckets: Vec::new(),
            keys: HashMap::new(),
            names: HashMap::new(),
            entered: HashMap::new(),
            global: HashMap::new(),
            left: HashSet::new(),
            timers: Timers::default(),
        }
    }

    fn seconds(&self, at: Instant) -> f64 {
        Duration::from_nanos(self.clock_ahead_ns + at.as_nanos()).as_secs_f64()
    }

    fn bucket_for(&mut self, now: Instant, place: Place) -> usize {
        let (bot, major, route) = place;
        let real = self
            .names
            .get(&(bot, route))
            .map(|&name| Key::Real(bot, major, name));
        let now = self.seconds(now);
        if let Some(real) = real
            && let Some(&number) = self.keys.get(&real)
        {
            let b = &self.buckets[number];
            let idle = b.queue.is_empty() && b.outside.is_empty() && b.in_transit == 0;
            if !idle || b.reset_at + FORGOTTEN_S >= now {
                return number;
            }
            self.keys.remove(&real);
        }
        // A route's unknown bucket is one for all channels, until an answer renames it.
        let buckets = &mut self.buckets;
        *self
            .keys
            .entry(Key::Unknown(bot, route))
            .or_insert_with(|| {
                buckets.push(Bucket {
                    limit: 1,
                    remaining: 0,
                    period: 1.0,
                    move_at: now + 1.0,
                    reset_at: now + 1.0,
                    fixed: false,
                    unknown: true,
                    out_of_sync: false,
                    in_transit: 0,
                    outside: VecDeque::new(),
                    queue: VecDeque::new(),
                    timer: None,
                });
                buckets.len() - 1
            })
    }

    fn enter(&mut self, now: Instant, number: usize, id: u64, actions: &mut Vec<Action>) {
        let seconds = self.seconds(now);
        let bucket = &mut self.buckets[number];
        bucket.in_transit += 1;
        if bucket.unknown {
            actions.push(Action::Send(id));
            return;
        }
        bucket.move_window(seconds);
        if !bucket.queue.is_empty() || bucket.remaining == 0 {
            bucket.queue.push_back(id);
            return self.pump(now, number, actions);
        }
        bucket.remaining -= 1;
        self.pass_global(id, actions);
    }

    fn pump(&mut self, now: Instant, number: usize, actions: &mut Vec<Action>) {
        let seconds = self.seconds(now);
        let bucket = &mut self.buckets[number];
        bucket.move_window(seconds);
        let mut freed = Vec::new();
        while bucket.remaining > 0
            && let Some(id) = bucket.queue.pop_front()
        {
            bucket.remaining -= 1;
            freed.push(id);
        }
        if let Some(at) = bucket.timer.take() {
            self.timers.clear(at, Timer::Bucket(number));
        }
        if !bucket.queue.is_empty() {
            // Out of sync, the window does not move before another period.
            let wait = (bucket.move_at - seconds).max(0.0);
            let wait = if wait <= 0.0 {
                bucket.move_at + bucket.period - seconds
            } else {
                wait
            };
            let at = now + Duration::from_secs_f64(wait.max(0.000_1)) + Duration::from_micros(1);
            self.timers.set(at, Timer::Bucket(number));
            bucket.timer = Some(at);
        }
        for id in freed {
            if self.left.remove(&id) {
                self.release(now, number, actions);
            } else {
                self.pass_global(id, actions);
            }
        }
    }

    fn pass_global(&mut self, id: u64, actions: &mut Vec<Action>) {
        let bot = self.entered[&id].1.request.bot;
        let throttle = self.global.entry(bot).or_default();
        if throttle.until.is_some() {
            throttle.waiting.push_back(id);
        } else {
            actions.push(Action::Send(id));
        }
    }

    fn release(&mut self, now: Instant, number: usize, actions: &mut Vec<Action>) {
        let bucket = &mut self.buckets[number];
        bucket.in_transit = bucket.in_transit.saturating_sub(1);
        while let Some(id) = self.buckets[number].outside.pop_front() {
            if !self.left.remove(&id) {
                return self.enter(now, number, id, actions);
            }
        }
    }

    fn start(&mut self, now: Instant, asked: &Asked, actions: &mut Vec<Action>) {
        let number = self.bucket_for(now, asked.request.place());
        let id = asked.request.id;
        self.entered.insert(id, (number, *asked));
        let bucket = &mut self.buckets[number];
        if bucket.in_transit >= bucket.limit {
            bucket.outside.push_back(id);
        } else {
            self.enter(now, number, id, actions);
        }
    }

    fn learn(&mut self, asked: &Asked, answer: &Answer) {
        let h = &answer.headers;
        let (Some(name), Some(reset_ms), Some(reset_after)) = (h.bucket, h.reset_ms, h.reset_after)
        else {
            return;
        };
        let (bot, major, route) = asked.request.place();
        self.names.insert((bot, route), name);
        let real = Key::Real(bot, major, name);
        let number = match self.keys.get(&real) {
            Some(&number) => number,
            None => {
                let renamed = self.keys.remove(&Key::Unknown(bot, route));
                let number = renamed.unwrap_or(self.entered[&asked.request.id].0);
                self.keys.insert(real, number);
                number
            }
        };
        let (remaining, limit) = (h.remaining.unwrap_or(0), h.limit.unwrap_or(1));
        let reset_at = reset_ms as f64 / 1_000.0;
        self.buckets[number].update(remaining, limit, reset_at, reset_after.as_secs_f64());
    }
}

impl Subject for Hikari {
    fn ask(&mut self, now: Instant, asked: &Asked, actions: &mut Vec<Action>) {
        self.start(now, asked, actions);
    }

    fn answered(
        &mut self,
        now: Instant,
        asked: &Asked,
        answer: &Answer,
        actions: &mut Vec<Action>,
    ) -> Fate {
        self.learn(asked, answer);
        let id = asked.request.id;
        let number = self.entered[&id].0;
        self.release(now, number, actions);
        let h = &answer.headers;
        if answer.status != 429 || !answer.body_json || asked.sends >= 30 {
            return Fate::Client;
        }
        if h.scope == Scope::User && h.remaining == Some(0) {
            self.start(now, asked, actions);
            return Fate::Again;
        }
        let Some(wait) = answer.retry_after().filter(|&wait| wait <= WAIT_MAX) else {
            return Fate::Client;
        };
        if answer.limited() == Limited::Global {
            let bot = asked.request.bot;
            let throttle = self.global.entry(bot).or_default();
            if let Some(at) = throttle.until.replace(now + wait) {
                self.timers.clear(at, Timer::Global(bot));
            }
            self.timers.set(now + wait, Timer::Global(bot));
            self.start(now, asked, actions);
        } else {
            self.entered.insert(id, (number, *asked));
            self.timers.set(now + wait, Timer::Again(id));
        }
        Fate::Again
    }

    fn lost(&mut self, now: Instant, asked: &Asked, actions: &mut Vec<Action>) {
        let number = self.entered[&asked.request.id].0;
        self.release(now, number, actions);
    }

    fn leaves(&mut self, _now: Instant, asked: &Asked, _actions: &mut Vec<Action>) {
        self.left.insert(asked.request.id);
    }

    fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Bucket(number) => {
                    self.buckets[number].timer = None;
                    self.pump(now, number, actions);
                }
                Timer::Global(bot) => {
                    let throttle = self.global.entry(bot).or_default();
                    throttle.until = None;
                    let waiting = std::mem::take(&mut throttle.waiting);
                    for id in waiting {
                        if self.left.remove(&id) {
                            let number = self.entered[&id].0;
                            self.release(now, number, actions);
                        } else {
                            actions.push(Action::Send(id));
                        }
                    }
                }
                Timer::Again(id) => {
                    if !self.left.remove(&id) {
                        let asked = self.entered[&id].1;
                        self.start(now, &asked, actions);
                    }
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.timers.next()
    }
}
