//! Bots that change hands between the nodes of a cluster: what goes along, and care with what does not.
//!
//! ```text
//! lost ─▶ nobody goes here any more ─▶ keep_of ┄┄ take_over ─▶ told_of: goes on where it stopped
//!                                                 nobody tells ─▶ the bot's first waits CARE
//! ```
//! A bot that goes over as planned costs its shards no time: the new owner has its last starts and its
//! budget, and reads the budget anew beside. Of two that know something, the **stricter** holds.

use super::bot::Bot;
use super::budget::{Budget, Limits};
use super::{Queues, SPACING};
use crate::clock::Instant;
use crate::limit::snapshot::Starts;
use crate::route::slot::SlotSet;
use ahash::AHashSet;
use std::time::Duration;

/// What was told of a slot so lately is not doubted: longer than anybody doubts after a change.
const TOLD_FOR: Duration = Duration::from_secs(10);

/// Starts of one bot that are taken over; beyond them all its keys count as taken. As many as the
/// largest bots may make in 5 s (a `max_concurrency` of 16 for each 100,000 guilds or so), hundredfold.
const TAKEN_MAX: usize = 16_384;

/// How long after this node got a bot of which nobody tells its first shards are held back a turn, as
/// who had it may have let some go: nodes hear of a change within two seconds of each other, and a turn has
/// five.
const DOUBTED_FOR: Duration = Duration::from_secs(7);

const _: () = assert!(TOLD_FOR.as_millis() > DOUBTED_FOR.as_millis());

/// Slots for a while.
#[derive(Clone, Debug, Default)]
struct Lately {
    slots: SlotSet,
    until: Instant,
}

impl Lately {
    /// Those that it still is.
    fn now(&self, now: Instant) -> &SlotSet {
        if now < self.until {
            &self.slots
        } else {
            &SlotSet::EMPTY
        }
    }

    fn add(&mut self, now: Instant, slots: &SlotSet, lasts: Duration) {
        let mut all = self.now(now).clone();
        all.add_all(slots);
        self.slots = all;
        self.until = now + lasts;
    }
}

/// What is known of slots that changed hands.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Another node has told of them.
    told: Lately,
    /// This node got them, and nobody has told of them.
    doubted: Lately,
}

impl Moves {
    /// Whether care is due with a bot; `careful`: somebody says so who cannot know what was told.
    pub(super) fn needs_care(&self, now: Instant, bot: u64, careful: bool) -> bool {
        let is_told = self.told.now(now).holds(bot);
        self.doubted.now(now).holds(bot) || careful && !is_told
    }
}

impl Queues {
    /// Another node owns the bots of these slots from now on: it is told of those that went here until
    /// now, and none goes for a while, unless somebody tells of them.
    pub fn lost(&mut self, now: Instant, slots: &SlotSet) {
        self.moves.told.slots.remove_all(slots);
        self.each_of(slots, |bot| bot.be_careful(now));
    }

    /// The bots of these slots are this node's from now on.
    pub fn gained(&mut self, now: Instant, slots: &SlotSet) {
        let mut doubted = slots.clone();
        doubted.remove_all(self.moves.told.now(now));
        self.moves.doubted.add(now, &doubted, DOUBTED_FOR);
        // One that was lost lately rests since then, and may have been served elsewhere meanwhile.
        self.each_of(&doubted, |bot| bot.doubt(now));
    }

    /// Of these slots, those of which this node itself does not know what was let go.
    pub fn doubted(&self, now: Instant, slots: &SlotSet) -> SlotSet {
        let mut doubted = self.moves.doubted.now(now).clone();
        doubted.keep_all(slots);
        doubted
    }

    /// What its new owner is to be told of the bots of these slots, as it is at `base`.
    pub fn keep_of(&self, base: Instant, slots: &SlotSet) -> Vec<Starts> {
        let theirs = self.bots.iter().filter(|(bot, _)| slots.holds(**bot));
        theirs.map(|(&bot, known)| known.keep(bot, base)).collect()
    }

    /// Another node tells what it knows of some bots. Those for whom there is no room are left out.
    pub fn take_over(&mut self, now: Instant, told: Vec<Starts>) {
        for starts in told {
            let id = starts.bot;
            if !self.bots.contains_key(&id) && self.make_room(now).is_err() {
                continue;
            }
            let closed_until = self.closed_until;
            let new = || Bot::new(closed_until);
            self.bots.entry(id).or_insert_with(new).add(now, starts);
            // Whose key is taken now is planned anew.
            self.turn(now, id);
        }
    }

    /// Another node has told all that it knows of these slots.
    pub fn told_of(&mut self, now: Instant, slots: &SlotSet) {
        self.moves.told.add(now, slots, TOLD_FOR);
        self.moves.doubted.slots.remove_all(slots);
        self.each_of(slots, |bot| bot.spare(now));
    }

    fn each_of(&mut self, slots: &SlotSet, change: impl Fn(&mut Bot)) {
        let ids = self.bots.keys().copied();
        let ids: Vec<u64> = ids.filter(|id| slots.holds(*id)).collect();
        for id in ids {
            if let Some(bot) = self.bots.get_mut(&id) {
                change(bot);
                self.rearm(id);
            }
        }
    }
}

impl Bot {
    /// What is to be kept of it.
    pub(super) fn keep(&self, bot: u64, base: Instant) -> Starts {
        let budget = &self.budget;
        Starts {
            bot,
            max_concurrency: budget.max_concurrency,
            total: budget.total,
            remaining: budget.remaining,
            reset_at: (budget.reset_at < Instant::FAR).then_some(budget.reset_at),
            taken: self.fresh(base).collect(),
        }
    }

    /// Adds what another node knows of it.
    fn add(&mut self, now: Instant, starts: Starts) {
        let limits = Limits {
            max_concurrency: starts.max_concurrency,
            total: starts.total,
            remaining: starts.remaining,
            reset_after: Duration::ZERO,
        };
        let before = self.budget.max_concurrency;
        let reset_at = starts.reset_at.unwrap_or(Instant::FAR);
        self.budget.add(now, &Budget::restored(&limits, reset_at));
        if self.budget.max_concurrency != before {
            self.rekey();
        }
        if starts.taken.len() > TAKEN_MAX {
            self.closed_until = self.closed_until.max(now + SPACING);
        }
        // A shard that is told of twice was let go once.
        let known: AHashSet<u64> = self.fresh(now).map(|(shard, _)| shard).collect();
        for (shard, until) in starts.taken.into_iter().take(TAKEN_MAX) {
            let until = until.min(now + SPACING);
            if known.contains(&shard) {
                self.take_until(shard, until);
            } else {
                self.remember(shard, until);
            }
        }
    }
}
