//! One bot's queue: a line for each key, what was granted lately, the budget.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::budget::{Budget, Limits};
use super::{Ask, CARE, GATHER, Output, Reason, Refusal, SPACING, Ticket};
use crate::clock::Instant;
use crate::route::identity::Client;

/// Grants are remembered for this long after their answer, for what `/gateway/bot` may not have counted yet. At least
/// [`SPACING`].
const REMEMBERED: Duration = Duration::from_secs(15);

/// A wait that was foretold is true within this, or within 5 %; who was let in is not refused for
/// less.
const FORETOLD_WITHIN: Duration = Duration::from_millis(50);

/// A shard that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) shard: u64,
    pub(super) waiter: u32,
    asked: Instant,
    /// The round it is part of goes then at the earliest.
    pub(super) from: Instant,
    /// Its client does not wait longer; `FAR` if it waits for ever.
    pub(super) until: Instant,
}

/// A shard that was let go lately.
#[derive(Clone, Copy, Debug)]
struct Granted {
    seq: u64,
    shard: u64,
    asked: Instant,
    at: Instant,
    sent: bool,
}

/// One bot.
#[derive(Debug, Default)]
pub(super) struct Bot {
    /// What metrics call it; `None` until it asks.
    pub(super) client: Option<Client>,
    /// Where it stands in the agenda.
    pub(super) armed: Option<Instant>,
    pub(super) budget: Budget,
    pub(super) has_token: bool,
    /// Who waits, by key and by when they came. Invariant: the key is the shard's under the budget's
    /// `max_concurrency`.
    pub(super) lines: BTreeMap<(u32, u64), Waiter>,
    /// Those of them that do not wait for ever: until when, ticket, key.
    patience: BTreeSet<(Instant, u64, u32)>,
    /// Until when each key is taken; one that is not here is free.
    pub(super) taken: BTreeMap<u32, Instant>,
    /// Oldest first, but for those that were sent late.
    granted: VecDeque<Granted>,
    /// All keys are taken until then: nobody knows what an earlier process let go.
    pub(super) closed_until: Instant,
    /// The same: another node may have let some go. That node may say which.
    careful_until: Instant,
    /// When the round that gathers now goes.
    round: Instant,
    used: Instant,
    next: Option<Instant>,
}

impl Bot {
    /// One whose keys are all taken until then.
    pub(super) fn new(closed_until: Instant) -> Self {
        Self {
            closed_until,
            ..Self::default()
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn remaining(&self) -> u32 {
        self.budget.remaining
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// When one of those who wait goes, or gives up.
    pub(super) fn place_free_at(&self, now: Instant) -> Instant {
        let patience = self.patience.first().map_or(Instant::FAR, |first| first.0);
        if self.budget.remaining == 0 && self.budget.held_until.is_none() {
            return self.budget.reset_at.min(patience);
        }
        self.next.unwrap_or(now)
    }

    /// Whether it can be forgotten without anybody going too early.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.lines.is_empty()
            && !self.budget.is_asking(now)
            && self.closed_until.max(self.careful_until) <= now
            && self.taken.values().all(|until| *until <= now)
    }

    /// Who is missed least comes first: what can be asked about again, then what is longest unused.
    pub(super) fn dearness(&self) -> (bool, Instant) {
        (!self.has_token, self.used)
    }

    pub(super) fn key(&self, shard: u64) -> u32 {
        // Below a 32-bit number.
        (shard % u64::from(self.budget.max_concurrency)) as u32
    }

    pub(super) fn ask(
        &mut self,
        now: Instant,
        ask: &Ask,
        ticket: Ticket,
        out: &mut VecDeque<Output>,
    ) -> Result<(), Refusal> {
        self.client = Some(ask.client);
        self.has_token = ask.has_token;
        self.used = now;
        self.budget_turn(now, ask.bot, out);
        if self.round <= now {
            self.round = now + GATHER;
        }
        let place = (self.key(ask.shard), ticket.seq);
        let mut waiter = Waiter {
            shard: ask.shard,
            waiter: ask.waiter,
            asked: now,
            from: self.round,
            until: Instant::FAR,
        };
        self.lines.insert(place, waiter);
        if let Some(max_wait) = ask.max_wait {
            // What is being read decides: until then nobody's wait is known, see `review`.
            let at = match self.budget.held_until {
                Some(_) => now,
                None => self.foretell(now, place),
            };
            let wait = at.saturating_duration_since(now);
            // Whoever waits for nothing but its round goes at once.
            if wait > max_wait + GATHER {
                self.lines.remove(&place);
                // Or it would never be, if nobody wants to wait until the reset.
                if self.budget.wants_reading(now, self.has_token) {
                    out.push_back(Output::Fetch(ask.bot));
                }
                return Err(Refusal {
                    reason: Reason::TooLong,
                    retry_after: wait,
                });
            }
            let until = now + max_wait + max_wait / 20 + FORETOLD_WITHIN;
            waiter.until = until;
            self.lines.insert(place, waiter);
            self.patience.insert((until, ticket.seq, place.0));
        }
        self.plan_for(now, place);
        Ok(())
    }

    /// Whether it waited.
    pub(super) fn cancel(&mut self, ticket: &Ticket) -> bool {
        self.remove((self.key(ticket.shard), ticket.seq)).is_some()
    }

    fn remove(&mut self, place: (u32, u64)) -> Option<Waiter> {
        let waiter = self.lines.remove(&place)?;
        self.patience.remove(&(waiter.until, place.1, place.0));
        if self.lines.is_empty() {
            self.next = None;
        }
        Some(waiter)
    }

    /// The answer has left; how long it was waited for. `None` if that is known.
    pub(super) fn sent(&mut self, now: Instant, ticket: &Ticket) -> Option<Duration> {
        let mut latest_first = self.granted.iter_mut().rev();
        let granted = latest_first.find(|granted| granted.seq == ticket.seq && !granted.sent)?;
        granted.sent = true;
        granted.at = granted.at.max(now);
        let (at, asked) = (granted.at, granted.asked);
        self.take(self.key(ticket.shard), at);
        // The next of its key goes later than was planned.
        self.plan(now);
        Some(at.saturating_duration_since(asked))
    }

    pub(super) fn unused(&mut self, ticket: &Ticket) {
        let of_ticket = |granted: &Granted| granted.seq == ticket.seq && !granted.sent;
        if let Some(at) = self.granted.iter().rposition(of_ticket) {
            self.granted.remove(at);
            self.budget.give_back();
            self.retake();
        }
    }

    fn take(&mut self, key: u32, at: Instant) {
        let until = self.taken.entry(key).or_default();
        *until = (*until).max(at + SPACING);
    }

    /// Finds out anew which keys are taken.
    fn retake(&mut self) {
        self.taken.clear();
        for at in 0..self.granted.len() {
            let Granted { shard, at, .. } = self.granted[at];
            self.take(self.key(shard), at);
        }
    }

    pub(super) fn told(&mut self, now: Instant, limits: &Limits) {
        let before = self.budget.max_concurrency;
        let granted = &self.granted;
        let unseen = |from| count(granted.iter().filter(|granted| granted.at >= from));
        self.budget.told(now, limits, unseen);
        if self.budget.max_concurrency != before {
            self.rekey();
        }
    }

    /// Lines up everybody by their keys under a new `max_concurrency`, first come first served.
    pub(super) fn rekey(&mut self) {
        self.patience.clear();
        for ((_, seq), waiter) in std::mem::take(&mut self.lines) {
            let key = self.key(waiter.shard);
            self.lines.insert((key, seq), waiter);
            if waiter.until < Instant::FAR {
                self.patience.insert((waiter.until, seq, key));
            }
        }
        self.retake();
    }

    pub(super) fn failed(&mut self) {
        self.budget.failed();
    }

    /// Refuses those who would now wait longer than they accept.
    pub(super) fn review(&mut self, now: Instant, id: u64, out: &mut VecDeque<Output>) {
        if self.patience.is_empty() {
            return;
        }
        for (place, at) in self.too_late(now) {
            self.refuse(now, id, place, at, out);
        }
    }

    fn refuse(
        &mut self,
        now: Instant,
        id: u64,
        place: (u32, u64),
        at: Instant,
        out: &mut VecDeque<Output>,
    ) {
        if let Some(waiter) = self.remove(place) {
            let refusal = Refusal {
                reason: Reason::TooLong,
                retry_after: at.saturating_duration_since(now),
            };
            out.push_back(Output::Refuse(ticket(id, place.1, &waiter), refusal));
        }
    }

    fn budget_turn(&mut self, now: Instant, id: u64, out: &mut VecDeque<Output>) {
        let granted = &self.granted;
        let astride = |from| count(granted.iter().filter(|granted| granted.at >= from));
        if self.budget.turn(now, self.has_token, astride) {
            out.push_back(Output::Fetch(id));
        }
    }

    /// Does what is due: lets go who may, refuses whose patience is at its end.
    pub(super) fn turn(&mut self, now: Instant, id: u64, out: &mut VecDeque<Output>) {
        if !self.lines.is_empty() {
            let was_held = self.budget.held_until.is_some();
            self.budget_turn(now, id, out);
            if was_held && self.budget.held_until.is_none() {
                self.review(now, id, out);
            }
            self.release(now, id, out);
        }
        while let Some(&(until, seq, key)) = self.patience.first()
            && until <= now
        {
            let at = self.foretell(now, (key, seq));
            self.refuse(now, id, (key, seq), at, out);
        }
        self.forget(now);
        self.plan(now);
    }

    fn release(&mut self, now: Instant, id: u64, out: &mut VecDeque<Output>) {
        if self.budget.held_until.is_none() {
            let mut due = Vec::new();
            self.heads(|place, at| {
                if at <= now {
                    due.push(place);
                }
            });
            let left = usize::try_from(self.budget.remaining).unwrap_or(usize::MAX);
            if due.len() > left {
                // Whoever came first, or one key could use up every day's budget.
                due.sort_unstable_by_key(|&(_, seq)| seq);
                due.truncate(left);
                due.sort_unstable();
            }
            let goes = !due.is_empty();
            for place in due {
                self.let_go(now, id, place, out);
            }
            if goes && self.budget.remaining == 0 {
                // Those who came later and whose keys were free took what was meant for others.
                self.review(now, id, out);
            }
        }
        if self.budget.wants_reading(now, self.has_token) {
            out.push_back(Output::Fetch(id));
        }
    }

    fn let_go(&mut self, now: Instant, id: u64, place: (u32, u64), out: &mut VecDeque<Output>) {
        if let Some(waiter) = self.remove(place) {
            self.budget.spend(now);
            self.take(place.0, now);
            self.used = now;
            self.granted.push_back(Granted {
                seq: place.1,
                shard: waiter.shard,
                asked: waiter.asked,
                at: now,
                sent: false,
            });
            out.push_back(Output::Go(ticket(id, place.1, &waiter)));
        }
    }

    /// Calls `each` for the first of every line, by key, with when it may go as far as its key is
    /// concerned.
    pub(super) fn heads(&self, mut each: impl FnMut((u32, u64), Instant)) {
        let mut head = self.lines.first_key_value();
        while let Some((&place, waiter)) = head {
            each(place, self.free_at(place.0).max(waiter.from));
            let next = place.0.checked_add(1).map(|key| (key, 0));
            head = next.and_then(|next| self.lines.range(next..).next());
        }
    }

    pub(super) fn free_at(&self, key: u32) -> Instant {
        let taken = self.taken.get(&key).copied().unwrap_or_default();
        taken.max(self.closed_until).max(self.careful_until)
    }

    /// Another node may have let some go, or may let some go now.
    pub(super) fn be_careful(&mut self, now: Instant) {
        self.careful_until = self.careful_until.max(now + CARE);
        self.plan(now);
    }

    /// The same of one that is here already: its budget is read again, too.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.budget.doubt();
        self.be_careful(now);
    }

    /// It has said which.
    pub(super) fn spare(&mut self, now: Instant) {
        self.careful_until = Instant::ZERO;
        self.plan(now);
    }

    fn forget(&mut self, now: Instant) {
        while let Some(granted) = self.granted.front()
            && granted.sent
            && granted.at + REMEMBERED <= now
        {
            self.granted.pop_front();
        }
        self.taken.retain(|_, until| *until > now);
    }

    /// Says when its turn comes.
    fn plan(&mut self, now: Instant) {
        self.next = None;
        if self.lines.is_empty() {
            return;
        }
        let mut first = Instant::FAR;
        self.heads(|_, at| first = first.min(at));
        self.next = Some(self.gated(now, first));
    }

    /// The same after somebody has come to `place`.
    fn plan_for(&mut self, now: Instant, place: (u32, u64)) {
        let waiter = &self.lines[&place];
        let at = self.gated(now, self.free_at(place.0).max(waiter.from));
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// When there is something to do, if the first may go at `first` as far as its key is concerned.
    fn gated(&self, now: Instant, first: Instant) -> Instant {
        let budget = &self.budget;
        let first = match budget.held_until {
            Some(until) => until,
            None if budget.remaining == 0 => match budget.reread_at() {
                Some(at) if self.has_token && !budget.is_asking(now) => budget.reset_at.min(at),
                _ => budget.reset_at,
            },
            None => first,
        };
        let patience = self.patience.first().map_or(Instant::FAR, |first| first.0);
        first.min(patience)
    }

    #[cfg(debug_assertions)]
    pub(super) fn check_invariants(&self) {
        let budget = &self.budget;
        assert!(budget.remaining <= budget.total && budget.max_concurrency > 0);
        assert!(self.next.is_some() || self.lines.is_empty());
        let mut last = None;
        self.heads(|place, _| {
            assert_eq!(place.0, self.key(self.lines[&place].shard));
            assert!(last < Some(place.0));
            last = Some(place.0);
        });
        if let Some((until, seq, key)) = self.patience.first() {
            assert_eq!(self.lines[&(*key, *seq)].until, *until);
        }
        assert!(self.patience.len() <= self.lines.len());
    }

    /// Grants whose key is still taken, and what is left of that.
    pub(super) fn fresh(&self, base: Instant) -> impl Iterator<Item = (u64, Instant)> + '_ {
        let until = |granted: &Granted| (granted.shard, granted.at + SPACING);
        let all = self.granted.iter().map(until);
        all.filter(move |(_, until)| *until > base)
    }

    /// The key of this shard is taken until then.
    pub(super) fn take_until(&mut self, shard: u64, until: Instant) {
        self.take(self.key(shard), granted_at(until));
    }

    /// Remembers a grant of an earlier process, after which its key is taken until then.
    pub(super) fn remember(&mut self, shard: u64, until: Instant) {
        let at = granted_at(until);
        self.granted.push_back(Granted {
            seq: u64::MAX,
            shard,
            asked: at,
            at,
            sent: true,
        });
        self.take(self.key(shard), at);
    }
}

/// When a shard was let go whose key is taken until then.
fn granted_at(until: Instant) -> Instant {
    let spacing = u64::try_from(SPACING.as_nanos()).unwrap_or(u64::MAX);
    Instant::from_nanos(until.as_nanos().saturating_sub(spacing))
}

fn ticket(bot: u64, seq: u64, waiter: &Waiter) -> Ticket {
    Ticket {
        bot,
        shard: waiter.shard,
        seq,
        waiter: waiter.waiter,
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

const _: () = assert!(REMEMBERED.as_millis() >= SPACING.as_millis());
