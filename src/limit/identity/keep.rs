//! Identities over a restart: copied a few at a time, taken back when they are met again, since only
//! a request tells what its identity is (a bearer, or a bot whose limit somebody has set).

use super::{IDLE, Identities, Identity};
use crate::clock::Instant;
use crate::limit::pressure::Behind;
use crate::limit::snapshot::{IdentityRecord, Record, Shelf, Times, TokenRecord, ago, left};
use crate::limit::token::Token;
use std::time::Duration;

/// What was restored, or handed over.
#[derive(Default)]
pub(super) struct Restored {
    pub(super) shelf: Shelf<(IdentityRecord, Times)>,
}

impl Identities {
    /// Copies the limits that were found out.
    pub(in crate::limit) fn copy_limits(
        &self,
        from: u32,
        batch: u32,
        into: &mut Vec<Record>,
    ) -> Option<u32> {
        let limits = self.learned_limits.iter();
        let bite = limits.skip(from as usize).take(batch as usize);
        into.extend(bite.map(|(&identity, &limit)| Record::Limit { identity, limit }));
        (((from + batch) as usize) < self.learned_limits.len()).then_some(from + batch)
    }

    /// Copies what the places from `from` hold, `batch` of them; and where to go on.
    pub(in crate::limit) fn copy(
        &mut self,
        base: Instant,
        from: u32,
        batch: u32,
        into: &mut Vec<Record>,
    ) -> Option<u32> {
        let (places, next) = self.arena.bite(from, batch);
        for place in places {
            if let Some(identity) = self.arena.get_mut(place) {
                into.push(Record::Identity(identity.keep(base)));
            }
        }
        next
    }

    /// The same of those that were restored and not met since.
    pub(in crate::limit) fn copy_restored(
        &self,
        base: Instant,
        from: u32,
        batch: u32,
        into: &mut Vec<Record>,
    ) -> Option<u32> {
        let Restored { shelf } = self.restored.as_deref()?;
        let (bite, next) = shelf.bite(from, batch);
        for (record, times) in bite.filter(|(record, times)| record.is_worth_keeping(base, *times))
        {
            let mut record = record.clone();
            record.rebase(base, *times);
            into.push(Record::Identity(record));
        }
        next
    }

    /// Takes in a limit that was found out.
    pub(in crate::limit) fn revive_limit(&mut self, key: u64, limit: u32) {
        if self.learned_limits.len() < self.settings.identities_max {
            self.learned_limits.insert(key, limit.max(1));
        }
    }

    /// Puts a record up until its identity is met.
    pub(in crate::limit) fn restore(&mut self, record: IdentityRecord, times: Times) {
        let restored = self.restored.get_or_insert_default();
        if restored.shelf.len() < self.settings.identities_max {
            let key = record.key;
            restored.shelf.put(std::iter::once(key), (record, times));
        }
    }

    /// Forgets, of what was restored and not met, what would be forgotten by now if it had been.
    pub(in crate::limit) fn sweep_restored(
        &mut self,
        now: Instant,
        from: u32,
        batch: u32,
    ) -> Option<u32> {
        let Restored { shelf } = self.restored.as_deref_mut()?;
        let next = shelf.sweep(from, batch, |(record, times)| {
            record.is_worth_keeping(now, *times)
        });
        if shelf.len() == 0 {
            self.restored = None;
        }
        next
    }

    /// How long the first request of an identity that was restored would wait.
    pub(super) fn restored_wait(&self, now: Instant, key: u64, user_id: u64) -> Behind {
        let restored = self.restored.as_deref();
        let Some((record, times)) = restored.and_then(|restored| restored.shelf.get(key)) else {
            return Behind::default();
        };
        let mut window = self.window(now, key, user_id);
        window.revive(now, &record.window, *times);
        let from = now.max(times.until(record.paused_left_us));
        let pause = from.saturating_duration_since(now);
        let wait = pause + window.predicted_wait(from, 0, Duration::ZERO);
        Behind {
            line: wait,
            others: wait,
        }
    }

    /// The identity that was met just now is what it was before the restart, or elsewhere.
    pub(super) fn revive(&mut self, now: Instant, number: u32) {
        let restored = self.restored.as_deref_mut();
        let key = self.arena[number].key;
        match restored.and_then(|restored| restored.shelf.take(key)) {
            Some((record, times)) => {
                self.arena[number].revive(now, &record, times);
                self.be_careful_with(now, number, Some(times.taken_in()));
            }
            None => self.be_careful_with(now, number, None),
        }
    }
}

impl Identity {
    fn keep(&mut self, base: Instant) -> IdentityRecord {
        let token = match self.token {
            Token::Good => TokenRecord::Good,
            Token::Trusted(until) => TokenRecord::Trusted {
                left_us: left(base, until),
            },
            Token::Doubtful { ask_at, refused } => TokenRecord::Doubtful {
                ask_left_us: left(base, ask_at),
                refused,
            },
            Token::Locked {
                until,
                times,
                confirmed,
            } => TokenRecord::Locked {
                left_us: left(base, until),
                times,
                confirmed,
            },
            // Nobody will hear the probe's answer: another may go.
            Token::Probing {
                times, confirmed, ..
            } => TokenRecord::Locked {
                left_us: 0,
                times,
                confirmed,
            },
        };
        IdentityRecord {
            key: self.key,
            window: self.window.keep(base),
            paused_left_us: left(base, self.paused_until),
            used_ago_us: ago(base, self.used),
            token,
            proven: self.proven,
        }
    }

    /// Adds a record to what is known.
    pub(super) fn revive(&mut self, now: Instant, record: &IdentityRecord, times: Times) {
        self.window.revive(now, &record.window, times);
        self.paused_until = self.paused_until.max(times.until(record.paused_left_us));
        self.proven |= record.proven;
        let token = match record.token {
            TokenRecord::Good => Token::Good,
            TokenRecord::Trusted { left_us } => Token::Trusted(times.until(left_us)),
            TokenRecord::Doubtful {
                ask_left_us,
                refused,
            } => Token::Doubtful {
                ask_at: times.until(ask_left_us),
                refused,
            },
            TokenRecord::Locked {
                left_us,
                times: locks,
                confirmed,
            } => Token::Locked {
                until: times.until(left_us),
                times: locks,
                confirmed,
            },
        };
        self.token = self.token.stricter(token);
    }
}

impl IdentityRecord {
    fn is_worth_keeping(&self, now: Instant, times: Times) -> bool {
        let locked = match self.token {
            TokenRecord::Locked { left_us, .. } => times.until(left_us) > now,
            TokenRecord::Good | TokenRecord::Trusted { .. } | TokenRecord::Doubtful { .. } => false,
        };
        let paused = times.until(self.paused_left_us) > now;
        locked || paused || times.rested(now, self.used_ago_us) < IDLE
    }

    /// The same as it is at `base`, after another restart.
    pub(super) fn rebase(&mut self, base: Instant, times: Times) {
        let rest = |left_us: &mut u64| *left_us = left(base, times.until(*left_us));
        rest(&mut self.paused_left_us);
        self.window.returns.iter_mut().for_each(|(us, _)| rest(us));
        self.window.returns.retain(|&(us, _)| us > 0);
        match &mut self.token {
            TokenRecord::Good => {}
            TokenRecord::Trusted { left_us }
            | TokenRecord::Doubtful {
                ask_left_us: left_us,
                ..
            }
            | TokenRecord::Locked { left_us, .. } => rest(left_us),
        }
        let aged = |ago_us| micros(times.rested(base, ago_us));
        self.used_ago_us = aged(self.used_ago_us);
        self.window.margin_ago_us = aged(self.window.margin_ago_us);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
