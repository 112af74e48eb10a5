//! Any sequence of operations on the limiter, over few keys and with hostile answers.
//!
//! - `check_invariants` holds after every step (fuzz builds have debug assertions).
//! - Every request that waits gets exactly one verdict, a permit or a refusal; one whose client
//!   left gets none.
//! - Requests of one key go in the order in which they came, and of those that change something
//!   one at a time.
//! - No refusal names a wait beyond [`WAIT_MAX`]; after a tick the next deadline lies ahead.
//! - When everything was given back and time goes on, nobody waits for ever, and the census shows
//!   nobody waiting and nothing under way.
//!
//! # Input
//! Text that can be written by hand: a letter for the operation, then a digit for each choice, in
//! the order of the fields of [`Op`]. Any other byte stands for one of these; blanks are skipped. The
//! first two digits are [`Shape`]. `00 a000000 t3 r0 013340` asks, lets time pass, and reports the
//! answer.

#![no_main]

mod limiter_answer;

use libfuzzer_sys::arbitrary::{self, Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use limiter_answer::{Digits, Reply};
use std::collections::BTreeMap;
use std::time::Duration;
use weir::clock::Instant;
use weir::limit::{
    Ask, BucketKey, ClientClass, Decision, Limiter, Output, Outputs, Permit, Refusal, Settings,
    Ticket, Unlocked, Verdict,
};

/// More operations find nothing that these do not, and cost time.
const OPS_MAX: usize = 256;
/// Ticks that may pass before everybody who waits has a verdict: the longest waits of the answers
/// here, for as many requests, with the sweeps in between.
const TICKS_MAX: usize = 100_000;
/// Every operation may have put one request in front, each for the longest window of the answers
/// here, 600 s; locks and pauses of the breaker are shorter.
const WAIT_MAX: Duration = Duration::from_secs(600 * (OPS_MAX as u64 + 1));
/// Steps of time: below and above the limiter's own (4 ms), windows, idle times.
const STEPS_MS: [u64; 8] = [0, 1, 5, 50, 400, 1_500, 30_000, 700_000];

/// How the limiter is set up.
#[derive(Debug)]
struct Shape {
    settings: Settings,
    shards: usize,
}

impl Arbitrary<'_> for Shape {
    fn arbitrary(u: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let (caps, flags) = (u.digit(3)?, u.digit(8)?);
        let mut settings = Settings {
            allow_concurrent: flags & 1 != 0,
            disable_401_lock: flags & 2 != 0,
            ..Settings::default()
        };
        if flags & 4 != 0 {
            settings.default_bucket = 3;
        }
        match caps {
            0 => {}
            1 => {
                settings.global_default = 2;
                settings.waiting_per_bucket_max = 2;
                settings.waiting_max = 4;
            }
            _ => {
                settings.global_default = 1;
                settings.buckets_max = 2;
                settings.identities_max = 2;
                settings.max_bearers = 1;
            }
        }
        let shards = 1 + usize::from(caps > 0);
        Ok(Self { settings, shards })
    }
}

/// One thing that happens. A choice among requests counts from the oldest, around.
#[derive(Debug)]
enum Op {
    /// `a`, identity, major, route, changes something, patience, lag of the clock
    Ask([usize; 6]),
    /// `r`, request, reply
    Report(usize, Reply),
    /// `p`, request, reply: puts it back, if the limiter knows when it may go again
    Requeue(usize, Reply),
    /// `n`, request, sent
    NoAnswer(usize, bool),
    /// `h`, request, sent before: it has to wait for a connection
    Delayed(usize, bool),
    /// `o`, request, how much: its first byte goes, or all of it, or the last byte
    Departs(usize, usize),
    /// `c`, request
    Cancel(usize),
    /// `t`, step: the shards' owners tick in time
    Time(usize),
    /// `l`, step: they are late
    Late(usize),
    /// `k`, shard: a tick that nobody asked for
    Tick(usize),
    /// `v`, identity, valid
    Confirmed(usize, bool),
    /// `g`, identity, limit
    GlobalLimit(usize, usize),
}

impl Arbitrary<'_> for Op {
    fn arbitrary(u: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        // The low half of the letter's byte, so that nearly every byte is an operation.
        Ok(match u.letter()? & 15 {
            2 | 10 => Self::Report(u.digit(12)?, Reply::arbitrary(u)?),
            3 => Self::Cancel(u.digit(12)?),
            4 | 13 => Self::Time(u.digit(8)?),
            12 => Self::Late(u.digit(8)?),
            11 => Self::Tick(u.digit(2)?),
            6 => Self::Confirmed(u.digit(6)?, u.digit(2)? > 0),
            7 => Self::GlobalLimit(u.digit(6)?, u.digit(8)?),
            14 => Self::NoAnswer(u.digit(12)?, u.digit(2)? > 0),
            8 => Self::Delayed(u.digit(12)?, u.digit(2)? > 0),
            15 => Self::Departs(u.digit(12)?, u.digit(3)?),
            0 => Self::Requeue(u.digit(12)?, Reply::arbitrary(u)?),
            _ => Self::Ask([
                u.digit(6)?,
                u.digit(2)?,
                u.digit(4)?,
                u.digit(2)?,
                u.digit(3)?,
                u.digit(3)?,
            ]),
        })
    }
}

#[derive(Debug)]
struct Scenario {
    shape: Shape,
    ops: Vec<Op>,
}

impl Arbitrary<'_> for Scenario {
    fn arbitrary(u: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let shape = Shape::arbitrary(u)?;
        let mut ops = Vec::new();
        while !u.is_empty() && ops.len() < OPS_MAX {
            ops.push(Op::arbitrary(u)?);
        }
        Ok(Self { shape, ops })
    }
}

fuzz_target!(|scenario: Scenario| {
    let mut world = World::new(&scenario.shape);
    for op in &scenario.ops {
        world.step(op);
        world.deliver();
    }
    world.come_to_rest();
});

/// A request that waits or is under way.
struct Request {
    ask: Ask,
    /// It was put back: its place is in front of those that came later, not behind.
    again: bool,
}

struct World {
    limiter: Limiter<Unlocked>,
    one_at_a_time: bool,
    out: Outputs,
    now: Instant,
    asked: u32,
    /// By ticket, so oldest first.
    waiting: BTreeMap<u32, Request>,
    under_way: BTreeMap<u32, (Ask, Permit)>,
    /// The youngest request of each key that went.
    gone: BTreeMap<BucketKey, u32>,
    /// When each shard's owner wakes.
    armed: Vec<Instant>,
}

impl World {
    fn new(shape: &Shape) -> Self {
        Self {
            limiter: Limiter::new(&shape.settings, shape.shards),
            one_at_a_time: !shape.settings.allow_concurrent,
            out: Outputs::new(),
            now: Instant::from_millis(1_000),
            asked: 0,
            waiting: BTreeMap::new(),
            under_way: BTreeMap::new(),
            gone: BTreeMap::new(),
            armed: vec![Instant::FAR; shape.shards],
        }
    }

    fn step(&mut self, op: &Op) {
        let now = self.now;
        match op {
            Op::Ask(choices) => self.ask(choices),
            Op::Report(which, reply) => {
                if let Some((_, permit)) = self.take_under_way(*which) {
                    let answer = reply.answer(now);
                    self.limiter.report(now, permit, &answer, &mut self.out);
                }
            }
            Op::Requeue(which, reply) => {
                let answer = reply.answer(now);
                if answer.verdict() == Verdict::Pass {
                    return;
                }
                if let Some((ask, permit)) = self.take_under_way(*which) {
                    let again = true;
                    self.waiting.insert(ask.ticket.slot, Request { ask, again });
                    self.limiter
                        .requeue(now, permit, &answer, &ask, &mut self.out);
                }
            }
            Op::NoAnswer(which, sent) => {
                if let Some((_, permit)) = self.take_under_way(*which) {
                    self.limiter.no_answer(now, permit, *sent, &mut self.out);
                }
            }
            Op::Delayed(which, before) => {
                let ticket = choose(&self.under_way, *which);
                if let Some((_, permit)) = ticket.and_then(|t| self.under_way.get_mut(&t)) {
                    self.limiter.delayed(now, permit, *before, &mut self.out);
                }
            }
            Op::Departs(which, part) => {
                let ticket = choose(&self.under_way, *which);
                if let Some((_, permit)) = ticket.and_then(|t| self.under_way.get_mut(&t)) {
                    match part {
                        0 | 1 => self.limiter.departs(now, permit, *part > 0, &mut self.out),
                        _ => self.limiter.departed(now, permit, &mut self.out),
                    }
                }
            }
            Op::Cancel(which) => self.cancel(*which),
            Op::Time(step) => self.pass_time(now + Duration::from_millis(STEPS_MS[*step])),
            Op::Late(step) => {
                self.now = now + Duration::from_millis(STEPS_MS[*step]);
                (0..self.armed.len()).for_each(|shard| self.tick(shard));
            }
            Op::Tick(shard) => self.tick(*shard % self.armed.len()),
            Op::Confirmed(identity, valid) => {
                self.limiter.confirmed(now, *identity as u64, *valid);
            }
            Op::GlobalLimit(identity, limit) => {
                let (identity, limit) = (*identity as u64, 1 + *limit as u32 * 3);
                self.limiter
                    .set_global_limit(now, identity, limit, &mut self.out);
            }
        }
    }

    fn ask(&mut self, &[identity, major, route, serial, patience, lag]: &[usize; 6]) {
        self.asked += 1;
        let client = match identity {
            0 | 1 => ClientClass::Bot {
                user_id: Some(identity as u64),
            },
            2 => ClientClass::Bearer,
            3 => ClientClass::Anonymous,
            4 => ClientClass::Webhook { id: None },
            _ => ClientClass::Interaction,
        };
        let ask = Ask {
            ticket: Ticket {
                worker: 0,
                slot: self.asked,
                generation: 0,
            },
            key: BucketKey {
                identity: identity as u64,
                major: major as u64,
                route: route as u64,
            },
            client,
            counts_globally: !matches!(
                client,
                ClientClass::Webhook { .. } | ClientClass::Interaction
            ),
            serial: serial > 0,
            max_wait: [None, Some(Duration::ZERO), Some(Duration::from_secs(2))][patience],
        };
        // Workers read the clock once a turn, so one of them may be a little behind another.
        let lag_ns = [0, 100_000, 6_000_000][lag];
        let now = Instant::from_nanos(self.now.as_nanos() - lag_ns);
        match self.limiter.acquire(now, &ask, &mut self.out) {
            Decision::Go(permit) => self.goes(&Request { ask, again: false }, permit),
            Decision::Wait => {
                let again = false;
                self.waiting.insert(ask.ticket.slot, Request { ask, again });
            }
            Decision::Refuse(refusal) => check_refusal(&refusal),
        }
    }

    fn cancel(&mut self, which: usize) {
        let Some(ticket) = choose(&self.waiting, which) else {
            return;
        };
        if let Some(Request { ask, .. }) = self.waiting.remove(&ticket) {
            self.limiter
                .cancel(self.now, &ask.key, ask.ticket, &mut self.out);
        }
    }

    fn take_under_way(&mut self, which: usize) -> Option<(Ask, Permit)> {
        choose(&self.under_way, which).and_then(|ticket| self.under_way.remove(&ticket))
    }

    /// A request has its permit.
    fn goes(&mut self, request: &Request, permit: Permit) {
        let Request { ask, again } = *request;
        assert_eq!(permit.key(), ask.key);
        if !again {
            let last = self.gone.insert(ask.key, ask.ticket.slot).unwrap_or(0);
            assert!(last < ask.ticket.slot, "{last} overtook {ask:?}");
        }
        if self.one_at_a_time && ask.serial {
            let mut others = self.under_way.values();
            let other = others.find(|(other, _)| other.serial && other.key == ask.key);
            assert!(other.is_none(), "{other:?} is under way beside {ask:?}");
        }
        self.under_way.insert(ask.ticket.slot, (ask, permit));
    }

    /// Takes the outputs as a shell does.
    fn deliver(&mut self) {
        while let Some(output) = self.out.pop() {
            match output {
                Output::Go { ticket, permit } => {
                    let request = self.waiting.remove(&ticket.slot);
                    self.goes(
                        &request.expect("only who waits gets a permit, once"),
                        permit,
                    );
                }
                Output::Refuse { ticket, refusal } => {
                    let request = self.waiting.remove(&ticket.slot);
                    assert!(request.is_some(), "only who waits is refused, once");
                    check_refusal(&refusal);
                }
                Output::Deadline { shard, at } => self.armed[shard] = self.armed[shard].min(at),
                Output::Confirm { .. } => {}
            }
        }
    }

    /// The owner of the shard wakes.
    fn tick(&mut self, shard: usize) {
        self.limiter.tick(self.now, shard, &mut self.out);
        self.deliver();
        let next = self.limiter.next_deadline(shard);
        assert!(
            next.is_none_or(|at| at > self.now),
            "a deadline in the past"
        );
        self.armed[shard] = next.unwrap_or(Instant::FAR);
    }

    /// Ticks each shard in time until `end`.
    fn pass_time(&mut self, end: Instant) {
        while let Some(shard) = self.next_shard().filter(|&shard| self.armed[shard] <= end) {
            self.now = self.now.max(self.armed[shard]);
            self.tick(shard);
        }
        self.now = end;
    }

    fn next_shard(&self) -> Option<usize> {
        (0..self.armed.len()).min_by_key(|&shard| self.armed[shard])
    }

    /// Everything is given back, and time goes on until nobody waits.
    fn come_to_rest(&mut self) {
        for _ in 0..TICKS_MAX {
            while let Some((_, permit)) = self.take_under_way(0) {
                self.limiter
                    .no_answer(self.now, permit, false, &mut self.out);
                self.deliver();
            }
            let Some(shard) = self.next_shard().filter(|_| !self.waiting.is_empty()) else {
                break;
            };
            assert!(
                self.armed[shard] < Instant::FAR,
                "nobody will wake who waits"
            );
            self.now = self.now.max(self.armed[shard]);
            self.tick(shard);
        }
        assert!(self.waiting.is_empty(), "nobody waits for ever");
        let census = self.limiter.census(self.now);
        let waiting = (census.waiting_for_bucket, census.waiting_for_global);
        assert_eq!((waiting, census.under_way), ((0, 0), 0));
    }
}

/// The ticket of request number `which`, around.
fn choose<T>(requests: &BTreeMap<u32, T>, which: usize) -> Option<u32> {
    requests.keys().nth(which % requests.len().max(1)).copied()
}

fn check_refusal(refusal: &Refusal) {
    assert!(refusal.retry_after <= WAIT_MAX, "{refusal:?}");
}
