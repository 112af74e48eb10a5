//! A shard of identities: their global windows, their pauses and the lock after a 401.
//!
//! The second stage of a request: it holds a slot of its bucket and is about to be sent. Those that
//! find the window full wait in one line per identity, in the order in which they asked. An idle identity costs about 1.3 KiB, most of it the window.

mod departure;

use super::arena::Arena;
use super::ask::{Output, Outputs, Permit, Reason, Refusal, Ticket};
use super::breaker::Passage;
use super::global::Window;
use super::headers::{Answer, Limited};
use super::learn::KeyMap;
use super::line::{Line, Lines};
use super::offset::Offset;
use super::pressure::{Behind, Pressure};
use super::queue::{Nodes, Queue};
use super::settings::Settings;
use super::timer::{TimerKey, Wheel};
use super::token::Token;
use crate::clock::Instant;
use std::time::Duration;

const NONE: u32 = u32::MAX;
/// An identity that nobody used for so long is forgotten.
const IDLE: Duration = Duration::from_secs(600);
/// How often idle identities are looked for.
const SWEEP_PAUSE: Duration = Duration::from_secs(60);
/// Identities that one sweep looks at; each that goes gives back its window's memory.
const SWEEP_BATCH: u32 = 512;

/// While the budget of invalid requests shrinks, so many requests of a token go before its first
/// answer: enough to begin with, and a fleet's dead tokens cost few of the 10,000.
const UNPROVEN_WIDTH: u32 = 3;

struct Identity {
    key: u64,
    window: Window,
    offset: Offset,
    line: Line,
    timer: Option<(TimerKey, Instant)>,
    paused_until: Instant,
    sampled: Instant,
    used: Instant,
    token: Token,
    /// Its token worked, or it has none.
    proven: bool,
    in_flight: u32,
    /// The node in the list of bearers by last use, or `u32::MAX`.
    bearer: u32,
}

impl Identity {
    /// Requests that may be under way together.
    fn width(&self, wary: bool) -> u32 {
        if self.token.is_doubtful() {
            1
        } else if wary && !self.proven {
            UNPROVEN_WIDTH
        } else {
            u32::MAX
        }
    }
}

/// What became of a request in this stage.
pub(super) enum Step {
    Ready(Permit),
    Waits,
    /// The permit still holds its bucket's slot.
    Refused(Permit, Refusal),
}

/// See the module's documentation.
pub(super) struct Identities {
    number: u16,
    settings: Settings,
    max_bearers: usize,
    map: KeyMap<u32>,
    /// Global limits that were found out.
    learned_limits: KeyMap<u32>,
    arena: Arena<Identity>,
    lines: Lines,
    /// Of those in whose buckets somebody waits.
    pressures: KeyMap<Pressure>,
    /// Bearers, least recently used first.
    bearers: Nodes<u32>,
    bearer_list: Queue,
    wheel: Wheel<u32>,
    sweep_hand: u32,
    sweep_at: Instant,
    announced: Instant,
    /// The budget of invalid requests shrinks.
    wary: bool,
}

impl Identities {
    pub(super) fn new(number: u16, settings: &Settings, shards: usize) -> Self {
        Self {
            number,
            settings: settings.clone(),
            max_bearers: settings.max_bearers.div_ceil(shards).max(1),
            map: KeyMap::default(),
            learned_limits: KeyMap::default(),
            arena: Arena::new(),
            lines: Lines::new(),
            pressures: KeyMap::default(),
            bearers: Nodes::new(),
            bearer_list: Queue::EMPTY,
            wheel: Wheel::new(Instant::ZERO),
            sweep_hand: 0,
            sweep_at: Instant::FAR,
            announced: Instant::FAR,
            wary: false,
        }
    }

    /// A request is about to be sent.
    pub(super) fn take(
        &mut self,
        now: Instant,
        ticket: Ticket,
        mut permit: Permit,
        wary: bool,
        out: &mut Outputs,
    ) -> Step {
        self.wary = wary;
        let Some(number) = self.find(now, &permit, out) else {
            let retry_after = Duration::from_secs(1);
            return Step::Refused(
                permit,
                Refusal {
                    reason: Reason::TooManyTracked,
                    retry_after,
                },
            );
        };
        permit.identity = number;
        if let Some(retry_after) = self.locked(now, number, &mut permit) {
            return Step::Refused(
                permit,
                Refusal {
                    reason: Reason::Unauthorized,
                    retry_after,
                },
            );
        }
        if permit.is(Permit::BEARER) {
            self.touch_bearer(number);
        }
        let identity = &mut self.arena[number];
        identity.used = now;
        if identity.line.is_empty()
            && identity.in_flight < identity.width(wary)
            && identity.paused_until <= now
            && let Some(tick) = identity.window.take(now)
        {
            identity.in_flight += 1;
            permit.global_tick = tick;
            permit.sent = now;
            return Step::Ready(permit);
        }
        self.lines.join(&mut identity.line, ticket, permit);
        self.pump(now, number, out);
        Step::Waits
    }

    /// How long a request that came now would wait here.
    pub(super) fn predicted_wait(&mut self, now: Instant, key: u64) -> Behind {
        let Some(number) = self.map.get(&key_of(key)).copied() else {
            return Behind::default();
        };
        let identity = &self.arena[number];
        let from = now.max(identity.paused_until);
        let pause = from.saturating_duration_since(now);
        let (line, lag) = (identity.line.len(), identity.offset.lateness(1));
        let pressure = self.pressures.get(&key_of(key)).copied();
        let pressure = pressure.unwrap_or_default();
        let window = &identity.window;
        let wait = |ahead| pause + window.predicted_wait(from, ahead, lag);
        let others = wait(window.ahead(from, line, pressure, lag));
        let goes = line == 0 && wait(0).is_zero();
        Behind {
            line: if goes || !pressure.fills(line, window.limit()) {
                wait(line)
            } else {
                others
            },
            others,
        }
    }

    /// More or fewer of the identity's requests wait in one of its buckets.
    pub(super) fn press(&mut self, identity: u64, old: Pressure, new: Pressure) {
        let pressure = self.pressures.entry(key_of(identity)).or_default();
        pressure.replace(old, new);
        if *pressure == Pressure::default() {
            self.pressures.remove(&key_of(identity));
        }
    }

    /// An answer came for a permit that passed here.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        permit: &Permit,
        answer: &Answer,
        out: &mut Outputs,
    ) {
        let number = permit.identity;
        let identity = &mut self.arena[number];
        identity.used = now;
        identity.in_flight = identity.in_flight.saturating_sub(1);
        identity.proven |= !matches!(answer.status, 401 | 429 | 500..);
        let limited = answer.limited();
        if limited == Limited::Global {
            identity.window.widen(now);
            let wait = answer.retry_after().unwrap_or(super::global::PERIOD);
            identity.paused_until = identity.paused_until.max(now + wait);
        }
        let headers = &answer.headers;
        identity
            .offset
            .timed(now.saturating_duration_since(permit.sent));
        let mut arrival = None;
        if let (Some(reset), Some(after)) = (headers.reset_ms, headers.reset_after)
            && let Some(counted) = reset.checked_sub(after.as_millis() as u64)
            && limited == Limited::No
            && !headers.whole_seconds
        {
            let idle = now.saturating_duration_since(identity.sampled);
            let _same_clock = identity.offset.sample(counted, permit.sent, now, idle);
            identity.sampled = now;
            arrival = identity
                .offset
                .aim(counted)
                .map(|aim| aim.clamp(permit.sent, now));
        }
        let slot = identity.slot(now, permit);
        identity.window.settle(now, slot, arrival);
        if permit.is(Permit::AUTHORIZED) && !self.settings.disable_401_lock {
            let (lock, probe) = (
                self.settings.unauthorized_lock,
                permit.is(Permit::LOCK_PROBE),
            );
            if self.arena[number]
                .token
                .judge(now, answer.status, probe, lock)
            {
                let identity = permit.key.identity;
                out.list.push_back(Output::Confirm {
                    identity,
                    key: permit.key,
                });
            }
        }
        self.pump(now, number, out);
    }

    /// A permit that passed here got no answer.
    pub(super) fn no_answer(
        &mut self,
        now: Instant,
        permit: &Permit,
        sent: bool,
        out: &mut Outputs,
    ) {
        let identity = &mut self.arena[permit.identity];
        identity.in_flight = identity.in_flight.saturating_sub(1);
        let slot = identity.slot(now, permit);
        if !sent {
            identity.window.give_back(now, slot);
        }
        if permit.is(Permit::LOCK_PROBE) {
            identity.token.probe_lost(now);
        }
        self.pump(now, permit.identity, out);
    }

    /// A client left while it waited here; its permit still holds its bucket's slot.
    pub(super) fn cancel(
        &mut self,
        now: Instant,
        ticket: Ticket,
        out: &mut Outputs,
    ) -> Option<Permit> {
        let number = self.lines.identity_of(ticket)?;
        let waiter = self.lines.leave(&mut self.arena[number].line, ticket)?;
        self.pump(now, number, out);
        Some(waiter.permit)
    }

    /// `GET /users/@me` with the identity's token was answered: `valid` unless with a 401.
    pub(super) fn confirmed(&mut self, now: Instant, identity: u64, valid: bool) {
        let Some(number) = self.map.get(&key_of(identity)).copied() else {
            return;
        };
        self.arena[number]
            .token
            .confirmed(now, valid, self.settings.unauthorized_lock);
    }

    /// The identity's global limit was found out; it stays known when the identity is forgotten.
    pub(super) fn set_limit(&mut self, now: Instant, identity: u64, limit: u32, out: &mut Outputs) {
        let known = self.learned_limits.contains_key(&key_of(identity));
        if known || self.learned_limits.len() < self.settings.identities_max {
            self.learned_limits.insert(key_of(identity), limit);
        }
        if let Some(number) = self.map.get(&key_of(identity)).copied() {
            self.arena[number].window.set_limit(limit);
            self.pump(now, number, out);
        }
    }

    pub(super) fn tick(&mut self, now: Instant, out: &mut Outputs) {
        self.announced = Instant::ZERO;
        while let Some(number) = self.wheel.pop(now) {
            self.arena[number].timer = None;
            self.pump(now, number, out);
        }
        if now >= self.sweep_at {
            self.sweep(now, SWEEP_BATCH, IDLE);
            self.sweep_at = if self.arena.len() == 0 {
                Instant::FAR
            } else {
                now + SWEEP_PAUSE
            };
        }
    }

    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        let at = self
            .wheel
            .next_deadline()
            .unwrap_or(Instant::FAR)
            .min(self.sweep_at);
        self.announced = at;
        (at < Instant::FAR).then_some(at)
    }

    /// Requests waiting, identities tracked, requests under way.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let under_way = self.arena.iter().map(|(_, i)| i.in_flight as usize).sum();
        (self.lines.len(), self.arena.len(), under_way)
    }

    fn find(&mut self, now: Instant, permit: &Permit, out: &mut Outputs) -> Option<u32> {
        let key = key_of(permit.key.identity);
        if let Some(&number) = self.map.get(&key) {
            return Some(number);
        }
        let bearer = permit.is(Permit::BEARER);
        if bearer && self.bearer_list.len() as usize >= self.max_bearers {
            self.evict_bearer(now);
        }
        if self.arena.len() >= self.settings.identities_max {
            self.sweep(now, SWEEP_BATCH, Duration::ZERO);
            if self.arena.len() >= self.settings.identities_max {
                return None;
            }
        }
        let overridden = self.settings.global_overrides.get(&permit.user_id);
        let limit = overridden
            .or_else(|| self.learned_limits.get(&key))
            .copied();
        let limit = limit.unwrap_or(self.settings.global_default);
        let mut window = Window::new(now, limit);
        window.set_limit(limit);
        let number = self.arena.insert(Identity {
            key,
            window,
            offset: Offset::default(),
            line: Line::default(),
            timer: None,
            paused_until: Instant::ZERO,
            sampled: now,
            used: now,
            token: Token::Good,
            proven: !permit.is(Permit::AUTHORIZED),
            in_flight: 0,
            bearer: NONE,
        });
        if bearer {
            self.arena[number].bearer = self.bearers.push_back(&mut self.bearer_list, number);
        }
        self.map.insert(key, number);
        if self.sweep_at == Instant::FAR {
            self.sweep_at = now + SWEEP_PAUSE;
            self.announce(self.sweep_at, out);
        }
        Some(number)
    }

    /// Forgets the bearer that was used least recently and has nothing under way.
    fn evict_bearer(&mut self, now: Instant) {
        let Some(node) = self.bearer_list.front() else {
            return;
        };
        let number = *self.bearers.get(node);
        if self.is_idle(number, now) {
            self.forget(number);
        }
    }

    fn touch_bearer(&mut self, number: u32) {
        let node = self.arena[number].bearer;
        if node != NONE {
            let (mut from, mut to) = (self.bearer_list, Queue::EMPTY);
            self.bearers.transfer(&mut from, &mut to, node);
            // One list: the node goes from wherever it stood to the end.
            self.bearers.transfer(&mut to, &mut from, node);
            self.bearer_list = from;
        }
    }

    /// If the identity is locked: for how long. One probe passes when the lock has run out.
    fn locked(&mut self, now: Instant, number: u32, permit: &mut Permit) -> Option<Duration> {
        if !permit.is(Permit::AUTHORIZED) {
            return None;
        }
        match self.arena[number].token.pass(now) {
            Passage::Open => None,
            Passage::Probe => {
                permit.flags |= Permit::LOCK_PROBE;
                None
            }
            Passage::Closed(wait) => Some(wait),
        }
    }

    fn pump(&mut self, now: Instant, number: u32, out: &mut Outputs) {
        let wary = self.wary;
        loop {
            let identity = &mut self.arena[number];
            if identity.line.is_empty() {
                break;
            }
            if identity.paused_until > now || identity.in_flight >= identity.width(wary) {
                break;
            }
            let Some(tick) = identity.window.take(now) else {
                break;
            };
            let Some(waiter) = self.lines.pop(&mut identity.line) else {
                break;
            };
            identity.in_flight += 1;
            let mut permit = waiter.permit;
            permit.global_tick = tick;
            out.granted.push_back((waiter.ticket, permit));
        }
        self.arm(now, number, out);
        self.check_invariants(number);
    }

    fn arm(&mut self, now: Instant, number: u32, out: &mut Outputs) {
        let identity = &mut self.arena[number];
        let wake = if identity.line.is_empty() {
            None
        } else if identity.paused_until > now {
            Some(identity.paused_until)
        } else if identity.in_flight >= identity.width(self.wary) {
            // The answer to what is under way wakes them.
            None
        } else {
            identity.window.next_release(now)
        };
        if identity.timer.map(|(_, at)| at) == wake {
            return;
        }
        if let Some((key, _)) = identity.timer.take() {
            self.wheel.cancel(key);
        }
        if let Some(at) = wake {
            identity.timer = Some((self.wheel.insert(at, number), at));
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

    fn is_idle(&self, number: u32, now: Instant) -> bool {
        self.arena.get(number).is_some_and(|identity| {
            let locked = identity.token.is_locked(now);
            identity.in_flight == 0
                && identity.line.is_empty()
                && identity.paused_until <= now
                && !locked
        })
    }

    fn forget(&mut self, number: u32) {
        if let Some(identity) = self.arena.remove(number) {
            self.map.remove(&identity.key);
            if identity.bearer != NONE {
                self.bearers.remove(&mut self.bearer_list, identity.bearer);
            }
        }
    }

    fn sweep(&mut self, now: Instant, batch: u32, idle: Duration) {
        for _ in 0..batch.min(self.arena.end()) {
            self.sweep_hand = if self.sweep_hand >= self.arena.end() {
                0
            } else {
                self.sweep_hand
            };
            let number = self.sweep_hand;
            self.sweep_hand += 1;
            let rested = |i: &Identity| now.saturating_duration_since(i.used) >= idle;
            if self.arena.get(number).is_some_and(rested) && self.is_idle(number, now) {
                self.forget(number);
            }
        }
    }

    #[cfg(not(any(debug_assertions, test)))]
    #[inline(always)]
    fn check_invariants(&self, _number: u32) {}

    #[cfg(any(debug_assertions, test))]
    fn check_invariants(&self, number: u32) {
        let identity = &self.arena[number];
        identity.window.check_invariants();
        self.lines.check_invariants();
        assert!(
            identity.line.is_empty() || identity.timer.is_some() || identity.in_flight > 0,
            "whoever waits will be woken"
        );
        assert!(
            identity.timer.is_none() || !identity.line.is_empty(),
            "an identity has a timer only while somebody waits"
        );
        assert_eq!(
            self.map.len(),
            self.arena.len(),
            "every identity can be found"
        );
    }
}

/// Identities are hashes already, but not all of their bits need be good.
const fn key_of(identity: u64) -> u64 {
    super::learn::fold(identity ^ 0x9e37_79b9_7f4a_7c15, 0xe703_7ed1_a0b4_28db)
}
