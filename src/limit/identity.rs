//! A shard of identities: their global windows, their pauses and the lock after a 401.
//!
//! The second stage of a request: it holds a slot of its bucket and is about to be sent. Those that
//! find the window full wait in one line per identity, in the order in which they asked. An idle
//! identity costs about 1.3 KiB, most of it the window.

mod departure;
mod handover;
mod keep;
mod locks;
mod memory;
mod survey;

use super::agenda::{Agenda, Timer};
use super::arena::Arena;
use super::ask::{Output, Outputs, Permit, Reason, Refusal, Ticket};
use super::breaker::Passage;
use super::global::Window;
use super::guarded::Locks;
use super::headers::{Answer, Limited};
use super::learn::{KeyMap, identity_key as key_of};
use super::line::{Line, Lines};
use super::notice::Notice;
use super::offset::Offset;
use super::pressure::{Behind, Pressure};
use super::queue::{Nodes, Queue};
use super::settings::Settings;
use super::token::Token;
use crate::clock::Instant;
use handover::Careful;
pub(super) use handover::HOLD;
use keep::Restored;
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
    /// The bot's user id, 0 if unknown.
    user_id: u64,
    window: Window,
    offset: Offset,
    line: Line,
    timer: Timer,
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

impl Identity {
    /// What a person should hear of how its token stands, which stood so `before`.
    fn notice(&self, now: Instant, before: Token) -> Option<Notice> {
        let user_id = (self.user_id != 0).then_some(self.user_id);
        match (before.is_barred(), self.token) {
            (
                false,
                Token::Locked {
                    until, confirmed, ..
                },
            ) => Some(Notice::TokenLocked {
                user_id,
                wait: until.saturating_duration_since(now),
                confirmed,
            }),
            (true, Token::Good | Token::Trusted(_)) => Some(Notice::TokenWorks { user_id }),
            (
                false,
                Token::Good | Token::Trusted(_) | Token::Doubtful { .. } | Token::Probing { .. },
            )
            | (true, Token::Doubtful { .. } | Token::Locked { .. } | Token::Probing { .. }) => None,
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
    agenda: Agenda,
    /// What became of tokens.
    locks: Locks,
    /// The budget of invalid requests shrinks.
    wary: bool,
    /// What a process before this one knew, until they are met again.
    restored: Option<Box<Restored>>,
    /// Whose limits somebody else may have used who did not say.
    careful: Option<Box<Careful>>,
}

impl Identities {
    pub(super) fn new(number: u16, settings: &Settings, shards: usize) -> Self {
        Self {
            settings: settings.clone(),
            max_bearers: settings.max_bearers.div_ceil(shards).max(1),
            map: KeyMap::default(),
            learned_limits: KeyMap::default(),
            arena: Arena::new(),
            lines: Lines::new(),
            pressures: KeyMap::default(),
            bearers: Nodes::new(),
            bearer_list: Queue::EMPTY,
            agenda: Agenda::new(number),
            locks: Locks::default(),
            wary: false,
            restored: None,
            careful: None,
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
    pub(super) fn predicted_wait(&mut self, now: Instant, key: u64, user_id: u64) -> Behind {
        let Some(number) = self.map.get(&key_of(key)).copied() else {
            return self.restored_wait(now, key_of(key), user_id);
        };
        let identity = &self.arena[number];
        let from = now.max(identity.paused_until);
        let pause = from.saturating_duration_since(now);
        let (line, lag) = (identity.line.len(), identity.offset.lateness(1));
        let pressure = self.pressures.get(&key_of(key)).copied();
        let pressure = pressure.unwrap_or_default().settled();
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
            let token = &mut self.arena[number].token;
            let before = *token;
            let doubtful = token.judge(now, answer.status, probe, lock);
            let refused = probe && answer.status == 401;
            self.locks
                .note(before.is_barred(), token.is_barred(), refused);
            if doubtful {
                let identity = permit.key.identity;
                out.list.push_back(Output::Confirm {
                    identity,
                    key: permit.key,
                });
            }
            if let Some(notice) = self.arena[number].notice(now, before) {
                out.notices.push(notice);
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
    pub(super) fn confirmed(&mut self, now: Instant, identity: u64, valid: bool) -> Option<Notice> {
        let number = self.map.get(&key_of(identity)).copied()?;
        let identity = &mut self.arena[number];
        let before = identity.token;
        let lock = self.settings.unauthorized_lock;
        identity.token.confirmed(now, valid, lock);
        let barred = identity.token.is_barred();
        self.locks.note(before.is_barred(), barred, false);
        identity.notice(now, before)
    }

    /// The identity's global limit was found out; it stays known when the identity is forgotten.
    pub(super) fn set_limit(&mut self, now: Instant, identity: u64, limit: u32, out: &mut Outputs) {
        let known = self.learned_limits.contains_key(&key_of(identity));
        if known || self.learned_limits.len() < self.settings.identities_max {
            self.learned_limits.insert(key_of(identity), limit);
        }
        if let Some(number) = self.map.get(&key_of(identity)).copied() {
            let user_id = self.arena[number].user_id;
            // What somebody has set holds over what was found out.
            let limit = self
                .settings
                .global_overrides
                .get(&user_id)
                .copied()
                .unwrap_or(limit);
            self.arena[number].window.set_limit(limit);
            self.pump(now, number, out);
        }
    }

    pub(super) fn tick(&mut self, now: Instant, out: &mut Outputs) {
        self.agenda.wake();
        while let Some(number) = self.agenda.pop(now) {
            self.arena[number].timer = None;
            self.pump(now, number, out);
        }
        if self.agenda.sweeps(now) {
            self.sweep(now, SWEEP_BATCH, IDLE);
            if self.arena.len() > 0 {
                self.agenda.sweep_by(now + SWEEP_PAUSE, out);
            }
        }
    }

    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        self.agenda.next()
    }

    /// What became of tokens since the start.
    pub(super) const fn locks(&self) -> Locks {
        self.locks
    }

    /// Requests waiting, identities tracked, requests under way.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let under_way = self.arena.iter().map(|(_, i)| i.in_flight as usize).sum();
        (self.lines.len(), self.arena.len(), under_way)
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
            if let Some(retry_after) = identity.token.closed_for(now)
                && self
                    .lines
                    .first(&identity.line)
                    .is_some_and(|permit| permit.is(Permit::AUTHORIZED))
            {
                // Locked since it stood in line, or told of since.
                if let Some(waiter) = self.lines.pop(&mut identity.line) {
                    let refusal = Refusal {
                        reason: Reason::Unauthorized,
                        retry_after,
                    };
                    out.barred
                        .push_back((waiter.ticket, waiter.permit, refusal));
                }
                continue;
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
            if permit.is(Permit::AUTHORIZED) && identity.token.pass(now) == Passage::Probe {
                permit.flags |= Permit::LOCK_PROBE;
            }
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
        self.agenda.set(&mut identity.timer, wake, number, out);
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

#[cfg(test)]
mod tests;
