//! The identify queue against a model of Discord: many bots, processes that come and go, `/gateway/bot`
//! that answers late, fails or has changed, starts that do not come through weir.
//!
//! A run is one seed. Judged are the IDENTIFYs as Discord sees them, each some time after its answer.

use std::collections::BTreeMap;
use std::time::Duration;

use super::seed::Seed;
use crate::clock::Instant;
use crate::identify::{Ask, Limits, MARGIN, Output, PERIOD, Queues, Settings, Ticket};
use crate::route::identity::Client;

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Bots, half of them with a `max_concurrency` of 1.
    pub bots: u64,
    /// Shards of each, all of which ask at the start.
    pub shards: u64,
    /// The larger `max_concurrency`.
    pub max_concurrency: u32,
    /// Clients that leave while they wait, in a hundred.
    pub leaving: u64,
    /// Starts a day and bot.
    pub total: u32,
    /// Answers of `/gateway/bot` that fail, in a hundred.
    pub failing: u64,
    /// Starts that others make in the name of each bot, at most.
    pub others: u32,
    /// The budget's window.
    pub day: Duration,
}

/// What was wrong, and how much was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// IDENTIFYs that Discord saw.
    pub identified: u64,
    /// Shards whose client left before their turn.
    pub left: u64,
    /// In words, the first few.
    pub wrong: Vec<String>,
}

/// Wrongs that are told in words; more say no more.
const TOLD_MAX: usize = 8;

/// Steps after which a run that has not ended never does.
const STEPS_MAX: u64 = 2_000_000;

/// Longest answer of `/gateway/bot` here.
const FETCH_MS_MAX: u64 = 400;

/// What happens at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    Asks {
        bot: u64,
        shard: u64,
    },
    Leaves {
        ticket: Ticket,
    },
    Identifies {
        bot: u64,
        shard: u64,
    },
    Answers {
        bot: u64,
        remaining: u32,
        reset_ms: u64,
        fails: bool,
    },
    Other {
        bot: u64,
    },
}

/// A bot as Discord sees it.
#[derive(Debug)]
struct Account {
    max_concurrency: u32,
    /// When each key was last used.
    keys: BTreeMap<u32, Instant>,
    remaining: u32,
    reset_at: Instant,
    /// Starts of others that `/gateway/bot` was not asked about since: nobody can know of them.
    unknown: u32,
}

struct Run {
    plan: Plan,
    seed: Seed,
    now: Instant,
    queues: Queues,
    events: BTreeMap<(Instant, u64), Event>,
    counted: u64,
    accounts: Vec<Account>,
    /// Who waits, by key and by when they came: what each key's next must be.
    lines: BTreeMap<(u64, u64), Ticket>,
    verdict: Verdict,
}

/// Runs a plan under a seed until every shard has identified itself or left.
pub fn run(plan: Plan, seed: u64) -> Verdict {
    let start = Instant::from_millis(1_000_000);
    let settings = Settings {
        bots_max: 1_000,
        waiting_per_bot_max: 10_000,
        waiting_max: 100_000,
    };
    let account = |bot: u64| Account {
        max_concurrency: if bot.is_multiple_of(2) {
            1
        } else {
            plan.max_concurrency
        },
        keys: BTreeMap::new(),
        remaining: plan.total,
        reset_at: start + plan.day,
        unknown: 0,
    };
    let mut run = Run {
        plan,
        seed: Seed::new(seed),
        now: start,
        queues: Queues::new(settings),
        events: BTreeMap::new(),
        counted: 0,
        accounts: (0..plan.bots).map(account).collect(),
        lines: BTreeMap::new(),
        verdict: Verdict::default(),
    };
    for bot in 0..plan.bots {
        for shard in 0..plan.shards {
            let at = start + run.seed_ms(2_000);
            run.at(at, Event::Asks { bot, shard });
        }
        for _ in 0..plan.others {
            let at = start + run.seed_ms(plan.day.as_millis() as u64);
            run.at(at, Event::Other { bot });
        }
    }
    run.finish();
    run.verdict
}

impl Run {
    fn seed_ms(&mut self, below: u64) -> Duration {
        Duration::from_millis(self.seed.below(below.max(1)))
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.counted += 1;
        self.events.insert((at, self.counted), event);
    }

    fn wrong(&mut self, what: String) {
        if self.verdict.wrong.len() < TOLD_MAX {
            self.verdict.wrong.push(what);
        }
    }

    fn finish(&mut self) {
        for _ in 0..STEPS_MAX {
            let event = self.events.first_key_value().map(|(&(at, _), _)| at);
            let deadline = self.queues.next_deadline();
            match (event, deadline) {
                (None, None) => break,
                (Some(at), deadline) if deadline.is_none_or(|deadline| at < deadline) => {
                    self.now = self.now.max(at);
                    if let Some(((at, _), event)) = self.events.pop_first() {
                        self.step(at, event);
                    }
                }
                (_, Some(at)) => {
                    self.now = self.now.max(at);
                    // A worker that is busy comes a little late.
                    let late = self.seed_ms(4);
                    self.now += late;
                    self.queues.tick(self.now);
                    if self.queues.next_deadline().is_some_and(|at| at <= self.now) {
                        return self.wrong(format!("a deadline in the past at {:?}", self.now));
                    }
                }
                (Some(_), None) => {}
            }
            self.drain();
        }
        if !self.lines.is_empty() || self.queues.census().waiting > 0 {
            let left = self.lines.len();
            self.wrong(format!("{left} wait for ever"));
        }
    }

    /// `at` is when it happens, perhaps a little before the worker that is busy hears of it.
    fn step(&mut self, at: Instant, event: Event) {
        let now = self.now;
        match event {
            Event::Asks { bot, shard } => self.ask(bot, shard),
            Event::Leaves { ticket } => {
                if self.lines.remove(&(ticket.bot, ticket.seq)).is_some() {
                    self.verdict.left += 1;
                    self.queues.cancel(ticket);
                }
            }
            Event::Identifies { bot, shard } => self.identify(at, bot, shard),
            Event::Answers {
                bot,
                remaining,
                reset_ms,
                fails,
            } => {
                let account = &self.accounts[bot as usize];
                let limits = Limits {
                    max_concurrency: account.max_concurrency,
                    total: self.plan.total,
                    remaining,
                    reset_after: Duration::from_millis(reset_ms),
                };
                if fails {
                    self.queues.failed(now, bot);
                } else {
                    self.queues.told(now, bot, &limits);
                }
            }
            Event::Other { bot } => {
                self.refill(bot);
                let account = &mut self.accounts[bot as usize];
                if account.remaining > 0 {
                    account.remaining -= 1;
                    account.unknown += 1;
                }
            }
        }
    }

    fn ask(&mut self, bot: u64, shard: u64) {
        let ask = Ask {
            bot,
            client: Client::Bot(bot),
            has_token: true,
            shard,
            max_wait: None,
            careful: false,
            waiter: 0,
        };
        match self.queues.ask(self.now, &ask) {
            Ok(ticket) => {
                self.lines.insert((bot, ticket.seq), ticket);
                if self.seed.below(100) < self.plan.leaving {
                    let at = self.now + self.seed_ms(60_000);
                    self.at(at, Event::Leaves { ticket });
                }
            }
            Err(refusal) => self.wrong(format!("refused: {refusal:?}")),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.queues.poll_output() {
            match output {
                Output::Go(ticket) => self.go(ticket),
                Output::Refuse(ticket, refusal) => {
                    self.wrong(format!("refused: {ticket:?} {refusal:?}"));
                }
                Output::Fetch(bot) => self.fetch(bot),
            }
        }
    }

    fn go(&mut self, ticket: Ticket) {
        let max_concurrency = u64::from(self.accounts[ticket.bot as usize].max_concurrency);
        let key = ticket.shard % max_concurrency;
        let line = self.lines.range((ticket.bot, 0)..(ticket.bot, ticket.seq));
        let mut before = line.map(|(_, other)| other.shard);
        if let Some(shard) = before.find(|shard| shard % max_concurrency == key) {
            self.wrong(format!("{ticket:?} overtook shard {shard}"));
        }
        if self.lines.remove(&(ticket.bot, ticket.seq)).is_none() {
            self.wrong(format!("{ticket:?} went and did not wait"));
        }
        // Its client may have left in this moment.
        if self.seed.below(100) < self.plan.leaving / 4 {
            self.queues.unused(self.now, ticket);
            self.verdict.left += 1;
            return;
        }
        self.queues.sent(self.now, ticket);
        let (bot, shard) = (ticket.bot, ticket.shard);
        let way = Duration::from_micros(self.seed.below(MARGIN.as_micros() as u64));
        self.at(self.now + way, Event::Identifies { bot, shard });
    }

    fn refill(&mut self, bot: u64) {
        let (now, plan) = (self.now, self.plan);
        let account = &mut self.accounts[bot as usize];
        while account.reset_at <= now {
            account.reset_at += plan.day;
            account.remaining = plan.total;
            account.unknown = 0;
        }
    }

    fn identify(&mut self, now: Instant, bot: u64, shard: u64) {
        self.refill(bot);
        let account = &mut self.accounts[bot as usize];
        let key = (shard % u64::from(account.max_concurrency)) as u32;
        let last = account.keys.insert(key, now);
        let early = last.is_some_and(|last| now.saturating_duration_since(last) < PERIOD);
        let beyond = account.remaining == 0 && account.unknown == 0;
        if account.remaining == 0 {
            account.unknown = account.unknown.saturating_sub(1);
        }
        account.remaining = account.remaining.saturating_sub(1);
        self.verdict.identified += 1;
        if early {
            self.wrong(format!(
                "shard {shard} of bot {bot} within 5 s of {last:?}, at {now:?}"
            ));
        }
        if beyond {
            self.wrong(format!(
                "shard {shard} of bot {bot} beyond the budget at {now:?}"
            ));
        }
    }

    fn fetch(&mut self, bot: u64) {
        let fails = self.seed.below(100) < self.plan.failing;
        let there = self.seed_ms(FETCH_MS_MAX / 2);
        let back = self.seed_ms(FETCH_MS_MAX / 2);
        // What Discord knows when the question arrives, which is told a while later.
        self.refill(bot);
        let account = &mut self.accounts[bot as usize];
        account.unknown = 0;
        let reset = account.reset_at.saturating_duration_since(self.now);
        let event = Event::Answers {
            bot,
            remaining: account.remaining,
            reset_ms: reset.as_millis() as u64 + 1,
            fails,
        };
        self.at(self.now + there + back, event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: u64 = 24;

    fn seeds(plan: Plan) -> (u64, u64) {
        let (mut identified, mut left) = (0, 0);
        for seed in 0..SEEDS {
            let verdict = run(plan, seed);
            assert_eq!(verdict.wrong, [""; 0], "seed {seed} of {plan:?}");
            identified += verdict.identified;
            left += verdict.left;
        }
        (identified, left)
    }

    const FLEET: Plan = Plan {
        bots: 16,
        shards: 64,
        max_concurrency: 16,
        leaving: 25,
        total: 1_000,
        failing: 0,
        others: 0,
        day: Duration::from_secs(86_400),
    };

    #[test]
    fn sixteen_bots_of_sixty_four_shards_start_in_discords_rhythm() {
        let (identified, left) = seeds(FLEET);
        assert_eq!(identified + left, SEEDS * 16 * 64);
        assert!(left > SEEDS * 16 * 64 / 10, "{left}");
    }

    #[test]
    fn nobody_stays_when_nobody_leaves() {
        let plan = Plan {
            leaving: 0,
            ..FLEET
        };
        assert_eq!(seeds(plan), (SEEDS * 16 * 64, 0));
    }

    #[test]
    fn the_budget_holds_over_days_though_others_start_too() {
        let plan = Plan {
            total: 20,
            others: 6,
            day: Duration::from_secs(3_600),
            ..FLEET
        };
        let (identified, left) = seeds(plan);
        assert_eq!(identified + left, SEEDS * 16 * 64);
    }

    #[test]
    fn a_gateway_that_fails_half_of_the_time_blocks_nobody() {
        let plan = Plan {
            failing: 50,
            ..FLEET
        };
        let (identified, left) = seeds(plan);
        assert_eq!(identified + left, SEEDS * 16 * 64);
    }
}
