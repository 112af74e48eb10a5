//! Which identities are remembered: made when first met, forgotten when idle, bearers by last use.

use super::{Identities, Identity, NONE, SWEEP_BATCH, SWEEP_PAUSE, key_of};
use crate::clock::Instant;
use crate::limit::ask::{Outputs, Permit};
use crate::limit::global::Window;
use crate::limit::line::Line;
use crate::limit::offset::Offset;
use crate::limit::queue::Queue;
use crate::limit::token::Token;
use std::time::Duration;

/// Bearers looked at to find one that can be forgotten: those at the front were used longest ago, so
/// the first is nearly always one.
const EVICTION_BATCH: usize = 32;

impl Identities {
    pub(super) fn find(&mut self, now: Instant, permit: &Permit, out: &mut Outputs) -> Option<u32> {
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
        let window = self.window(now, key, permit.user_id);
        let number = self.arena.insert(Identity {
            key,
            user_id: permit.user_id,
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
        self.revive(now, number);
        self.agenda.sweep_by(now + SWEEP_PAUSE, out);
        Some(number)
    }

    /// A window of which nothing is used.
    pub(super) fn window(&self, now: Instant, key: u64, user_id: u64) -> Window {
        let limit = self.limit_of(key, user_id);
        let mut window = Window::new(now, limit);
        window.set_limit(limit);
        window
    }

    /// An identity's global limit: what somebody has set, else what was found out, else the default.
    pub(super) fn limit_of(&self, key: u64, user_id: u64) -> u32 {
        let overridden = self.settings.global_overrides.get(&user_id);
        let limit = overridden
            .or_else(|| self.learned_limits.get(&key))
            .copied();
        limit.unwrap_or(self.settings.global_default)
    }

    /// Forgets the bearer that was used least recently, of those that have nothing under way.
    fn evict_bearer(&mut self, now: Instant) {
        let mut next = self.bearer_list.front();
        for _ in 0..EVICTION_BATCH {
            let Some(node) = next else {
                return;
            };
            let number = *self.bearers.get(node);
            if self.is_idle(number, now) {
                return self.forget(number);
            }
            next = self.bearers.after(node);
        }
    }

    pub(super) fn touch_bearer(&mut self, number: u32) {
        let node = self.arena[number].bearer;
        if node != NONE {
            let (mut from, mut to) = (self.bearer_list, Queue::EMPTY);
            self.bearers.transfer(&mut from, &mut to, node);
            // One list: the node goes from wherever it stood to the end.
            self.bearers.transfer(&mut to, &mut from, node);
            self.bearer_list = from;
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

    pub(super) fn sweep(&mut self, now: Instant, batch: u32, idle: Duration) {
        for _ in 0..batch.min(self.arena.end()) {
            let number = self.agenda.sweep_next(self.arena.end());
            let rested = |i: &Identity| now.saturating_duration_since(i.used) >= idle;
            if self.arena.get(number).is_some_and(rested) && self.is_idle(number, now) {
                self.forget(number);
            }
        }
    }
}
