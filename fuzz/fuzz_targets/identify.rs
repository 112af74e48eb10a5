//! Any sequence of operations on the identify queue, over few bots and shards, with a `/gateway/bot`
//! that says anything, late or never.
//!
//! - `check_invariants` holds after every step (fuzz builds have debug assertions).
//! - No two shards of a key go within [`SPACING`] of each other's answer, whatever `max_concurrency`
//!   was before.
//! - Shards of a key go in the order in which they came.
//! - No more go than `/gateway/bot` said, until what it called the reset.
//! - Each shard that waits gets one verdict, and one whose client left gets none; who is refused was
//!   given a patience.
//! - After a tick the next deadline lies ahead; in the end nobody waits for ever.
//!
//! # Input
//! Text that can be written by hand: a letter for the operation, then a digit for each choice, in the
//! order of [`World::step`]. Any other byte stands for one of these; blanks are skipped.
//! `a000 a010 w50000 t3` asks for two shards, tells what Discord said, and lets time pass.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::time::Duration;
use weir::clock::Instant;
use weir::identify::{Ask, Limits, Output, Queues, Reason, SPACING, Settings, Ticket};
use weir::route::identity::Client;

/// More operations find nothing that these do not, and cost time.
const OPS_MAX: usize = 256;
/// Ticks that may pass before everybody who waits has a verdict: each needs a few, and readings of the
/// budget lie between.
const TICKS_MAX: usize = 100_000;
const STEPS_MS: [u64; 8] = [0, 1, 6, 900, 2_500, 5_020, 61_000, 90_000_000];
const CONCURRENCIES: [u32; 8] = [0, 1, 2, 3, 4, 16, 1_000, u32::MAX];
const STARTS: [u32; 8] = [0, 1, 2, 3, 10, 100, 1_000, u32::MAX];
const RESETS_MS: [u64; 4] = [0, 3_000, 100_000, u64::MAX];

fuzz_target!(|bytes: &[u8]| {
    let mut world = World::new();
    let mut input = Input { bytes };
    for _ in 0..OPS_MAX {
        let Some(letter) = input.letter() else {
            break;
        };
        world.step(letter, &mut input);
        world.deliver();
    }
    world.come_to_rest();
});

struct Input<'i> {
    bytes: &'i [u8],
}

impl Input<'_> {
    fn letter(&mut self) -> Option<u8> {
        loop {
            let (&byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            if byte != b' ' && byte != b'\n' {
                return Some(byte);
            }
        }
    }

    /// A choice below `choices`; the first when there is no more input.
    fn digit(&mut self, choices: usize) -> usize {
        usize::from(self.letter().unwrap_or(b'0') % 48) % choices
    }
}

/// What is known of a bot.
struct Known {
    max_concurrency: u64,
    /// Starts that may still go before the reset, if Discord has told.
    left: Option<(u32, Instant)>,
    /// Shards that went, and when their answer left.
    went: Vec<(u64, Instant)>,
}

struct World {
    queues: Queues,
    now: Instant,
    waiting: BTreeMap<u64, (Ticket, bool)>,
    /// Let go, and nothing heard of them yet.
    going: Vec<Ticket>,
    bots: Vec<Known>,
    asking: Vec<u64>,
}

impl World {
    fn new() -> Self {
        let known = || Known {
            max_concurrency: 1,
            left: None,
            went: Vec::new(),
        };
        Self {
            queues: Queues::new(Settings {
                bots_max: 3,
                waiting_per_bot_max: 24,
                waiting_max: 40,
            }),
            now: Instant::from_millis(100_000_000),
            waiting: BTreeMap::new(),
            going: Vec::new(),
            // As many as are kept: one that is forgotten is a new one.
            bots: (0..3).map(|_| known()).collect(),
            asking: Vec::new(),
        }
    }

    fn step(&mut self, letter: u8, input: &mut Input<'_>) {
        match letter & 15 {
            // `c`: a client leaves
            3 => {
                let at = input.digit(24);
                let seq = self.waiting.keys().nth(at).copied();
                if let Some((ticket, _)) = seq.and_then(|seq| self.waiting.remove(&seq)) {
                    self.queues.cancel(ticket);
                }
            }
            // `t`: time passes, with ticks when they are due; `l`: without
            4 => self.pass(Duration::from_millis(STEPS_MS[input.digit(8)])),
            12 => self.now += Duration::from_millis(STEPS_MS[input.digit(8)]),
            // `w`: Discord tells
            7 => {
                let bot = input.digit(3);
                let limits = Limits {
                    max_concurrency: CONCURRENCIES[input.digit(8)],
                    total: STARTS[input.digit(8)],
                    remaining: STARTS[input.digit(8)],
                    reset_after: Duration::from_millis(RESETS_MS[input.digit(4)]),
                };
                self.tell(bot, &limits);
            }
            // `f`: it does not
            6 => {
                let bot = input.digit(3) as u64;
                self.asking.retain(|asking| *asking != bot);
                self.queues.failed(self.now, bot);
            }
            // `s`: an answer leaves, or `u`, its client was gone
            5 if !self.going.is_empty() => {
                let ticket = self.going.remove(0);
                self.queues.unused(self.now, ticket);
                if let Some((left, _)) = &mut self.bots[ticket.bot as usize].left {
                    *left = left.saturating_add(1);
                }
            }
            2 | 8 => self.send(),
            _ => self.ask(input),
        }
    }

    fn tell(&mut self, bot: usize, limits: &Limits) {
        let known = &mut self.bots[bot];
        if self
            .queues
            .census()
            .bots
            .iter()
            .all(|b| b.client != client(bot as u64))
        {
            return;
        }
        self.asking.retain(|asking| *asking != bot as u64);
        known.max_concurrency = u64::from(limits.max_concurrency.max(1));
        let left = limits.remaining.min(limits.total.max(1));
        known.left = Some((
            left,
            self.now + limits.reset_after.min(Duration::from_secs(86_400)),
        ));
        self.queues.told(self.now, bot as u64, limits);
    }

    fn ask(&mut self, input: &mut Input<'_>) {
        let bot = input.digit(3) as u64;
        let (shard, manner) = (input.digit(12) as u64, input.digit(6));
        let ask = Ask {
            bot,
            client: client(bot),
            has_token: bot > 0,
            shard: shard * [1, 1_000_003][usize::from(bot > 1)],
            max_wait: [None, Some(Duration::ZERO), Some(Duration::from_secs(7))][manner % 3],
            careful: manner >= 3,
            waiter: 0,
        };
        match self.queues.ask(self.now, &ask) {
            Ok(ticket) => {
                self.waiting
                    .insert(ticket.seq, (ticket, ask.max_wait.is_some()));
            }
            Err(refusal) => {
                let too_long = refusal.reason == Reason::TooLong;
                assert!(!too_long || Some(refusal.retry_after) > ask.max_wait);
            }
        }
    }

    /// The oldest of the answers that are to leave does.
    fn send(&mut self) {
        if self.going.is_empty() {
            return;
        }
        let ticket = self.going.remove(0);
        self.queues.sent(self.now, ticket);
        self.bots[ticket.bot as usize]
            .went
            .push((ticket.shard, self.now));
    }

    fn deliver(&mut self) {
        while let Some(output) = self.queues.poll_output() {
            match output {
                Output::Go(ticket) => self.goes(ticket),
                Output::Refuse(ticket, refusal) => {
                    let (_, bounded) = self.waiting.remove(&ticket.seq).expect("it waits");
                    assert!(bounded && refusal.reason == Reason::TooLong);
                }
                Output::Fetch(bot) => {
                    assert!(bot > 0, "it has no token");
                    self.asking.push(bot);
                }
            }
        }
    }

    fn goes(&mut self, ticket: Ticket) {
        assert!(
            self.waiting.remove(&ticket.seq).is_some(),
            "only who waits goes, once"
        );
        let now = self.now;
        let known = &mut self.bots[ticket.bot as usize];
        let key = |shard: u64| shard % known.max_concurrency;
        let same = |shard: u64| key(shard) == key(ticket.shard);
        let early = |&(shard, at): &(u64, Instant)| same(shard) && at + SPACING > now;
        assert!(!known.went.iter().any(early), "{ticket:?} goes early");
        let mut before = self
            .waiting
            .range(..ticket.seq)
            .map(|(_, (other, _))| other);
        let overtaken = |other: &Ticket| {
            other.bot == ticket.bot
                && other.shard % known.max_concurrency == ticket.shard % known.max_concurrency
        };
        assert!(!before.any(overtaken), "{ticket:?} overtakes");
        if let Some((left, reset_at)) = &mut known.left {
            assert!(
                *left > 0 || *reset_at <= now,
                "{ticket:?} goes beyond the budget"
            );
            *left = left.saturating_sub(1);
            if *reset_at <= now {
                known.left = None;
            }
        }
        self.going.push(ticket);
    }

    fn tick(&mut self) {
        self.queues.tick(self.now);
        self.deliver();
        let next = self.queues.next_deadline();
        assert!(
            next.is_none_or(|at| at > self.now),
            "a deadline in the past"
        );
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..TICKS_MAX {
            match self.queues.next_deadline() {
                Some(at) if at <= end => {
                    self.now = self.now.max(at);
                    self.tick();
                }
                _ => break,
            }
        }
        self.now = end;
    }

    /// All answers leave, Discord says nothing more, and time goes on until nobody waits.
    fn come_to_rest(&mut self) {
        for _ in 0..TICKS_MAX {
            while !self.going.is_empty() {
                self.send();
            }
            for bot in std::mem::take(&mut self.asking) {
                self.queues.failed(self.now, bot);
                self.deliver();
            }
            if self.waiting.is_empty() {
                break;
            }
            let at = self
                .queues
                .next_deadline()
                .expect("somebody wakes who waits");
            self.now = self.now.max(at);
            self.tick();
        }
        assert!(self.waiting.is_empty(), "nobody waits for ever");
        assert_eq!(self.queues.census().waiting, 0);
    }
}

fn client(bot: u64) -> Client {
    Client::Bot(bot + 10)
}
