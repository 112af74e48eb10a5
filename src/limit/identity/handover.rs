//! Identities that change hands between the nodes of a cluster.

use super::{Identities, Identity};
use crate::clock::Instant;
use crate::limit::snapshot::{IdentityRecord, Times, TokenRecord};
use crate::route::slot::{SlotSet, slot_of};
use std::time::Duration;

/// For so long after a node got slots, it is careful with identities of theirs that it meets: what was
/// sent elsewhere before is no longer in any window by then.
const CAREFUL_FOR: Duration = Duration::from_secs(2);

/// For so long after that it waits to be told of them: whoever had them and lives sends what it knows
/// as soon as it hears of the change. Webhooks, which have no window here,
/// wait in their buckets.
pub(in crate::limit) const HOLD: Duration = Duration::from_millis(150);

/// Slots that this node got a moment ago, and nothing of what was sent for them before.
pub(super) struct Careful {
    slots: SlotSet,
    /// What was told of them before says nothing of what was sent since.
    since: Instant,
    hold_until: Instant,
    until: Instant,
}

impl Identities {
    /// Identities of these slots may have been served elsewhere until now. Those that are met within the
    /// next moment wait for what is told of them, and then have half of their window unless something
    /// was; of those that are known already, the `batch` from `from` on, and where to go on.
    pub(in crate::limit) fn be_careful(
        &mut self,
        now: Instant,
        slots: &SlotSet,
        from: u32,
        batch: u32,
    ) -> Option<u32> {
        if from == 0 {
            self.remember_care(now, slots);
        }
        let (places, next) = self.arena.bite(from, batch);
        for place in places {
            if let Some(identity) = self.arena.get_mut(place)
                && slots.holds(identity.key)
            {
                identity.be_careful(now, now + HOLD);
            }
        }
        next
    }

    /// Care with these slots lasts from now on; that with others that has not ended goes on as long.
    fn remember_care(&mut self, now: Instant, slots: &SlotSet) {
        let mut slots = slots.clone();
        if let Some(before) = &self.careful
            && before.until > now
        {
            slots.add_all(&before.slots);
        }
        self.careful = Some(Box::new(Careful {
            slots,
            since: now,
            hold_until: now + HOLD,
            until: now + CAREFUL_FOR,
        }));
    }

    /// The same as [`Self::be_careful`] for one identity.
    pub(in crate::limit) fn be_careful_of(&mut self, now: Instant, key: u64) {
        match self.map.get(&key).copied() {
            Some(number) => self.arena[number].be_careful(now, now + HOLD),
            None => self.remember_care(now, &[slot_of(key)].into_iter().collect()),
        }
    }

    /// An identity was met of which nobody told anything, or not since then.
    pub(super) fn be_careful_with(&mut self, now: Instant, number: u32, told: Option<Instant>) {
        let Some(careful) = &self.careful else {
            return;
        };
        if careful.until <= now {
            self.careful = None;
        } else if careful.slots.holds(self.arena[number].key)
            && told.is_none_or(|told| told < careful.since)
        {
            let hold_until = careful.hold_until;
            self.arena[number].be_careful(now, hold_until);
        }
    }

    /// Another node tells what it knows of an identity: added to what is known here.
    pub(in crate::limit) fn take_over(
        &mut self,
        now: Instant,
        record: IdentityRecord,
        times: Times,
    ) {
        if let Some(number) = self.map.get(&record.key).copied() {
            self.arena[number].window.is_told(now);
            self.arena[number].revive(now, &record, times);
            self.check_invariants(number);
            return;
        }
        let shelved = self.restored.as_deref_mut();
        match shelved.and_then(|restored| restored.shelf.take(record.key)) {
            Some((mut known, known_times)) => {
                known.rebase(now, known_times);
                known.add(now, record, times);
                let complete = known_times.complete() && times.complete();
                self.restore(known, Times::told(now, complete));
            }
            None => self.restore(record, times),
        }
    }

    /// A global limit that another node found out; the lower one holds.
    pub(in crate::limit) fn take_over_limit(&mut self, key: u64, limit: u32) {
        let known = self.learned_limits.get(&key).copied();
        self.revive_limit(key, known.map_or(limit, |known| known.min(limit)));
    }
}

impl IdentityRecord {
    /// Adds what another node knows of the same identity to a record of `now`.
    fn add(&mut self, now: Instant, mut other: Self, times: Times) {
        other.rebase(now, times);
        self.window.returns.append(&mut other.window.returns);
        if other.window.margin_us > self.window.margin_us {
            self.window.margin_us = other.window.margin_us;
            self.window.margin_ago_us = other.window.margin_ago_us;
        }
        self.paused_left_us = self.paused_left_us.max(other.paused_left_us);
        self.used_ago_us = self.used_ago_us.min(other.used_ago_us);
        self.proven |= other.proven;
        if Identity::strictness(&other.token) > Identity::strictness(&self.token) {
            self.token = other.token;
        }
    }
}

impl Identity {
    fn be_careful(&mut self, now: Instant, hold_until: Instant) {
        let from = hold_until.max(now);
        self.paused_until = self.paused_until.max(from);
        self.window.be_careful(now, from);
    }

    fn strictness(token: &TokenRecord) -> (u8, u64) {
        match *token {
            TokenRecord::Good => (0, 0),
            TokenRecord::Trusted { left_us } => (1, left_us),
            TokenRecord::Doubtful { refused, .. } => (2, u64::from(refused)),
            TokenRecord::Locked { left_us, .. } => (3, left_us),
        }
    }
}
