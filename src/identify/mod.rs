//! The identify queue: when which shard of which bot may IDENTIFY at Discord's gateway.
//!
//! ```text
//! ask ─▶ bot ─▶ key = shard % max_concurrency ─▶ line, first come first served ─▶ Output::Go
//!                        │ one of a key every 5 s, keys of a round in order
//!                        └ and no more a day than `session_start_limit` leaves (`budget`)
//! ```
//! A pure state machine of all bots' queues: time and what `/gateway/bot` says come in, who may go
//! comes out. It is asked ([`Queues::ask`]), told when somebody leaves or has gone, and ticked at
//! [`Queues::next_deadline`]; after each call [`Queues::poll_output`] is drained.
//!
//! **Rules** (Discord docs, events/gateway, "Max Concurrency" and "Session Start Limit Object"): one
//! IDENTIFY of a key in 5 s, counted here from the moment at which the answer left, with a [`MARGIN`]
//! for what the way of two answers may differ by. Who asks within the same [`GATHER`] goes in one
//! round, by key. Where the day's budget does not suffice for a round, those who came first go.
//!
//! **A bot that was not met before** waits up to [`PATIENCE`] for `/gateway/bot`, since its budget may
//! be used up and using it over costs its token. If that fails or takes longer, Discord's least holds:
//! a `max_concurrency` of 1 and 1,000 starts a day. So it does for who asks without a token.
//!
//! **Cost.** Some 60 bytes for each shard that waits. Asking and leaving cost a look-up in a tree; a
//! round costs one for each key that somebody waits in. Foretelling a wait, which `max_wait` takes, costs a
//! pass over the key's line, and over all lines where the day's budget may end before (`lanes`).

mod bot;
mod budget;
mod forecast;
mod keep;
mod lanes;
mod moves;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use ahash::AHashMap;

use self::bot::Bot;
pub use self::budget::{Limits, PATIENCE};
use crate::clock::Instant;
use crate::route::identity::Client;

/// How often one key may IDENTIFY (Discord docs, events/gateway).
pub const PERIOD: Duration = Duration::from_secs(5);

/// What is added to it: two answers and the IDENTIFYs that follow them take different times on their
/// way, on one network by less than this.
pub const MARGIN: Duration = Duration::from_millis(20);

/// Time between two of a key.
pub const SPACING: Duration = PERIOD.saturating_add(MARGIN);

/// How long the shards of a bot are held back that another queue may have let some go of until now, or
/// lets go for a moment yet: nodes do not hear at once that it is another's.
pub const CARE: Duration = SPACING.saturating_add(Duration::from_millis(500));

/// How long who asks waits for others who ask at once, so that they go as one round in order: what a
/// fleet's processes, started together, differ by on one network.
pub const GATHER: Duration = Duration::from_millis(5);

/// Upper bounds of the waits that a histogram tells apart, in seconds: two rounds, minutes, hours.
pub const WAIT_BUCKETS: [u32; 8] = [1, 6, 11, 30, 60, 300, 1_800, 7_200];

/// How much is kept. Each bound has its [`Reason`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Bots.
    pub bots_max: usize,
    /// Shards of one bot that wait.
    pub waiting_per_bot_max: usize,
    /// Shards of all bots that wait.
    pub waiting_max: usize,
}

/// What is asked for one shard.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Whose shard it is: the keyed hash of its `Authorization`.
    pub bot: u64,
    /// What metrics call it.
    pub client: Client,
    /// Whether `/gateway/bot` can be asked for it: it has a token.
    pub has_token: bool,
    /// The shard's id.
    pub shard: u64,
    /// The longest wait that its client accepts.
    pub max_wait: Option<Duration>,
    /// Another queue may have let shards of this bot go until now: if none wait or went here lately,
    /// and [nobody told](Queues::told_of) of it, the first goes [`CARE`] from now.
    pub careful: bool,
    /// What the caller knows the request by.
    pub waiter: u32,
}

/// A shard that waits, or has just been let go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket {
    /// [`Ask::bot`].
    pub bot: u64,
    /// [`Ask::shard`].
    pub shard: u64,
    /// Orders all tickets by when they were asked for.
    pub seq: u64,
    /// [`Ask::waiter`].
    pub waiter: u32,
}

/// Why a shard may not wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It would wait longer than its client accepts.
    TooLong,
    /// [`Settings::waiting_per_bot_max`] of its bot wait.
    BotFull,
    /// [`Settings::waiting_max`] wait.
    WaitingFull,
    /// [`Settings::bots_max`] are known, and none of them is idle.
    BotsFull,
}

impl Reason {
    /// All, in the order of declaration.
    pub const ALL: [Self; 4] = [
        Self::TooLong,
        Self::BotFull,
        Self::WaitingFull,
        Self::BotsFull,
    ];

    /// Its label in the metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::TooLong => "wait_too_long",
            Self::BotFull => "bot_full",
            Self::WaitingFull => "waiting_full",
            Self::BotsFull => "bots_full",
        }
    }
}

/// A shard is not let in, or has waited too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// When it would have gone; at a bound, when the next place is free.
    pub retry_after: Duration,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// The shard may IDENTIFY. [`Queues::sent`] or [`Queues::unused`] follows.
    Go(Ticket),
    /// It may not wait any longer; the ticket is void.
    Refuse(Ticket, Refusal),
    /// `/gateway/bot` is to be asked for this bot. [`Queues::told`] or [`Queues::failed`] follows.
    Fetch(u64),
}

/// The queues of all bots.
#[derive(Debug)]
pub struct Queues {
    settings: Settings,
    bots: AHashMap<u64, Bot>,
    /// When which bot's turn comes; one entry for each that has something to wait for.
    agenda: BTreeSet<(Instant, u64)>,
    out: VecDeque<Output>,
    /// Invariant: the sum of what waits in each bot.
    waiting: usize,
    next_seq: u64,
    granted: u64,
    /// By [`Reason`].
    refused: [u64; Reason::ALL.len()],
    waits: Waits,
    /// Nobody goes before: see [`Queues::restore`].
    closed_until: Instant,
    moves: moves::Moves,
}

/// A histogram of waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Waits {
    /// Waits up to each of [`WAIT_BUCKETS`], and longer ones; not cumulative.
    pub counts: [u64; WAIT_BUCKETS.len() + 1],
    /// All waits together, in microseconds.
    pub micros: u64,
}

impl Waits {
    fn record(&mut self, wait: Duration) {
        let up_to = |most: &u32| wait <= Duration::from_secs((*most).into());
        let at = WAIT_BUCKETS.iter().position(up_to);
        self.counts[at.unwrap_or(WAIT_BUCKETS.len())] += 1;
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        self.micros = self.micros.saturating_add(micros);
    }
}

/// What can be told about the queues.
#[derive(Clone, Debug)]
pub struct Census {
    /// Shards that wait.
    pub waiting: usize,
    /// Shards that were let go, ever.
    pub granted: u64,
    /// Shards that were refused, by [`Reason::ALL`].
    pub refused: [u64; Reason::ALL.len()],
    /// How long those had waited.
    pub waits: Waits,
    /// The bots that asked.
    pub bots: Vec<BotCensus>,
}

/// What can be told about one bot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BotCensus {
    /// What metrics call it.
    pub client: Client,
    /// Its shards that wait.
    pub waiting: usize,
    /// Its starts that the day still allows.
    pub remaining: u32,
}

/// How one bot stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// What metrics call it.
    pub client: Client,
    /// Its shards that wait.
    pub waiting: usize,
    /// Its starts that the day still allows.
    pub remaining: u32,
    /// Its starts that a day allows.
    pub total: u32,
    /// Shards that may start together.
    pub max_concurrency: u32,
    /// Until all starts are there again; `None`: not known.
    pub resets_in: Option<Duration>,
    /// Until the next of those who wait goes; `None` if nobody waits.
    pub next_in: Option<Duration>,
}

impl Queues {
    /// Nobody waits.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            bots: AHashMap::new(),
            agenda: BTreeSet::new(),
            out: VecDeque::new(),
            waiting: 0,
            next_seq: 0,
            granted: 0,
            refused: [0; Reason::ALL.len()],
            waits: Waits::default(),
            closed_until: Instant::ZERO,
            moves: moves::Moves::default(),
        }
    }

    /// Asks for a shard.
    ///
    /// # Errors
    /// A bound is met, or the wait would be too long.
    pub fn ask(&mut self, now: Instant, ask: &Ask) -> Result<Ticket, Refusal> {
        let asked = self.try_ask(now, ask);
        if let Err(refusal) = asked {
            self.refused[refusal.reason as usize] += 1;
        }
        asked
    }

    fn try_ask(&mut self, now: Instant, ask: &Ask) -> Result<Ticket, Refusal> {
        if self.waiting >= self.settings.waiting_max {
            let next = self.agenda.first().map_or(now, |&(at, _)| at);
            return Err(refusal(Reason::WaitingFull, now, next));
        }
        if !self.bots.contains_key(&ask.bot) {
            self.make_room(now)?;
        }
        let per_bot_max = self.settings.waiting_per_bot_max;
        let closed_until = self.closed_until;
        let new = || Bot::new(closed_until);
        let bot = self.bots.entry(ask.bot).or_insert_with(new);
        let begins = bot.is_idle(now) || ask.careful && bot.waiting() == 0;
        if begins && self.moves.needs_care(now, ask.bot, ask.careful) {
            bot.be_careful(now);
        }
        if bot.waiting() >= per_bot_max {
            let next = bot.place_free_at(now);
            return Err(refusal(Reason::BotFull, now, next));
        }
        let ticket = Ticket {
            bot: ask.bot,
            shard: ask.shard,
            seq: self.next_seq,
            waiter: ask.waiter,
        };
        self.next_seq += 1;
        let asked = bot.ask(now, ask, ticket, &mut self.out);
        if asked.is_ok() {
            self.waiting += 1;
        }
        self.rearm(ask.bot);
        asked.map(|()| ticket)
    }

    /// The client left while its shard waited. Nothing happens if it does not wait any more.
    pub fn cancel(&mut self, ticket: Ticket) {
        let bot = self.bots.get_mut(&ticket.bot);
        if bot.is_some_and(|bot| bot.cancel(&ticket)) {
            self.waiting -= 1;
            self.rearm(ticket.bot);
        }
    }

    /// The answer to a shard that was let go has left: from here on it may IDENTIFY.
    pub fn sent(&mut self, now: Instant, ticket: Ticket) {
        if let Some(bot) = self.bots.get_mut(&ticket.bot)
            && let Some(waited) = bot.sent(now, &ticket)
        {
            self.granted += 1;
            self.waits.record(waited);
            self.rearm(ticket.bot);
        }
    }

    /// A shard was let go, but its client was gone before a byte of the answer left: it costs nothing.
    pub fn unused(&mut self, now: Instant, ticket: Ticket) {
        if let Some(bot) = self.bots.get_mut(&ticket.bot) {
            bot.unused(&ticket);
            self.turn(now, ticket.bot);
        }
    }

    /// `/gateway/bot` has answered.
    pub fn told(&mut self, now: Instant, bot: u64, limits: &Limits) {
        if let Some(known) = self.bots.get_mut(&bot) {
            known.told(now, limits);
            self.reviewed(now, bot);
        }
    }

    /// `/gateway/bot` cannot be had.
    pub fn failed(&mut self, now: Instant, bot: u64) {
        if let Some(known) = self.bots.get_mut(&bot) {
            known.failed();
            self.reviewed(now, bot);
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        while let Some(&(at, bot)) = self.agenda.first()
            && at <= now
        {
            self.turn(now, bot);
        }
    }

    /// When [`Self::tick`] has something to do, unless something else happens first.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.agenda.first().map(|&(at, _)| at)
    }

    /// The next thing to be done; after each call of another method until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.out.pop_front();
        if let Some(Output::Refuse(_, refusal)) = output {
            self.refused[refusal.reason as usize] += 1;
        }
        output
    }

    /// Shards of this bot that wait.
    pub fn waiting_of(&self, bot: u64) -> usize {
        self.bots.get(&bot).map_or(0, Bot::waiting)
    }

    /// What can be told now.
    pub fn census(&self) -> Census {
        let of_bot = |bot: &Bot| {
            Some(BotCensus {
                client: bot.client?,
                waiting: bot.waiting(),
                remaining: bot.remaining(),
            })
        };
        Census {
            waiting: self.waiting,
            granted: self.granted,
            refused: self.refused,
            waits: self.waits,
            bots: self.bots.values().filter_map(of_bot).collect(),
        }
    }

    /// How each bot stands that asked.
    pub fn standings(&self, now: Instant) -> Vec<Standing> {
        let of_bot = |bot: &Bot| {
            let budget = &bot.budget;
            let next = bot.next().filter(|_| bot.waiting() > 0);
            Some(Standing {
                client: bot.client?,
                waiting: bot.waiting(),
                remaining: budget.remaining,
                total: budget.total,
                max_concurrency: budget.max_concurrency,
                resets_in: (budget.reset_at != Instant::FAR)
                    .then(|| budget.reset_at.saturating_duration_since(now)),
                next_in: next.map(|next| next.saturating_duration_since(now)),
            })
        };
        self.bots.values().filter_map(of_bot).collect()
    }

    /// Forgets a bot that nobody waits for if there are as many as there may be: of those that can be
    /// asked about again, the one that is longest unused.
    fn make_room(&mut self, now: Instant) -> Result<(), Refusal> {
        if self.bots.len() < self.settings.bots_max {
            return Ok(());
        }
        let idle = self.bots.iter().filter(|(_, bot)| bot.is_idle(now));
        let oldest = idle
            .min_by_key(|(_, bot)| bot.dearness())
            .map(|(&id, _)| id);
        match oldest {
            Some(id) => {
                self.bots.remove(&id);
                Ok(())
            }
            None => Err(refusal(Reason::BotsFull, now, now + SPACING)),
        }
    }

    /// What is known of a bot has changed, and with it how long its shards wait.
    fn reviewed(&mut self, now: Instant, id: u64) {
        if let Some(bot) = self.bots.get_mut(&id) {
            let before = bot.waiting();
            bot.review(now, id, &mut self.out);
            self.waiting -= before - bot.waiting();
            self.turn(now, id);
        }
    }

    fn turn(&mut self, now: Instant, id: u64) {
        if let Some(bot) = self.bots.get_mut(&id) {
            let before = bot.waiting();
            bot.turn(now, id, &mut self.out);
            self.waiting -= before - bot.waiting();
            self.rearm(id);
        }
    }

    fn rearm(&mut self, id: u64) {
        if let Some(bot) = self.bots.get_mut(&id) {
            let next = bot.next();
            let armed = std::mem::replace(&mut bot.armed, next);
            if armed != next {
                self.agenda.extend(next.map(|at| (at, id)));
                if let Some(at) = armed {
                    self.agenda.remove(&(at, id));
                }
            }
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// Panics if the state contradicts itself.
    #[cfg(debug_assertions)]
    pub fn check_invariants(&self) {
        /// More bots than this are not all looked at after every step.
        const LOOKED_AT: usize = 32;
        if self.bots.len() <= LOOKED_AT {
            let waiting: usize = self.bots.values().map(Bot::waiting).sum();
            assert_eq!(self.waiting, waiting);
            let armed = self.bots.values().filter(|bot| bot.armed.is_some());
            assert_eq!(self.agenda.len(), armed.count());
            self.bots.values().for_each(Bot::check_invariants);
        }
    }
}

fn refusal(reason: Reason, now: Instant, until: Instant) -> Refusal {
    Refusal {
        reason,
        retry_after: until.saturating_duration_since(now),
    }
}

#[cfg(test)]
mod tests;
