//! Permits whose requests leave late: the global limit holds all the same, and nobody waits for a
//! slot that came back.

use super::*;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A request of its own channel, so that nothing but the global window holds it.
fn own_channel(slot: u32) -> Ask {
    let mut ask = ask(slot, 1);
    ask.key.major = 1000 + u64::from(slot);
    ask
}

/// A limiter of which `count` slots have just been taken.
fn full(count: u32) -> (Local, Outputs, Vec<Permit>) {
    let (limiter, mut out) = (limiter(), Outputs::new());
    let take = |slot| go(limiter.acquire(ms(1000), &own_channel(slot), &mut out));
    let permits = (0..count).map(take).collect();
    (limiter, out, permits)
}

fn tick_all(limiter: &Local, now: u64, out: &mut Outputs) -> Vec<u32> {
    (0..2).for_each(|shard| limiter.tick(ms(now), shard, out));
    goes(out).iter().map(|(slot, _)| *slot).collect()
}

#[test]
fn a_slot_is_not_given_on_while_its_request_has_not_departed() {
    let (limiter, mut out, mut permits) = full(50);
    for permit in &mut permits {
        limiter.delayed(ms(1000), permit, false, &mut out);
    }
    let _ = limiter.acquire(ms(1001), &own_channel(99), &mut out);
    assert!(tick_all(&limiter, 9_000, &mut out).is_empty());
    for permit in &mut permits {
        limiter.departs(ms(9_000), permit, true, &mut out);
        assert_eq!(permit.sent(), ms(9_000));
    }
    assert!(tick_all(&limiter, 10_249, &mut out).is_empty());
    // Whoever waits is woken, though there was nothing to wake it by before the first departed.
    let due = (0..2).filter_map(|shard| limiter.next_deadline(shard));
    assert_eq!(due.min(), Some(ms(10_252)));
    assert_eq!(tick_all(&limiter, 10_252, &mut out), [99]);
}

#[test]
fn a_request_that_departs_late_without_notice_is_timed_from_then_on() {
    let (limiter, mut out, mut permits) = full(50);
    for permit in &mut permits {
        limiter.departs(ms(1300), permit, true, &mut out);
    }
    let _ = limiter.acquire(ms(1301), &own_channel(99), &mut out);
    assert!(tick_all(&limiter, 2_549, &mut out).is_empty());
    assert_eq!(tick_all(&limiter, 2_552, &mut out), [99]);
}

#[test]
fn a_held_permit_that_comes_back_unsent_frees_its_slot_at_once() {
    let (limiter, mut out, permits) = full(50);
    let mut permits = permits.into_iter();
    let mut gone = permits.next().unwrap();
    limiter.delayed(ms(1000), &mut gone, false, &mut out);
    let _ = limiter.acquire(ms(1001), &own_channel(99), &mut out);
    let _ = limiter.acquire(ms(1001), &own_channel(98), &mut out);
    assert!(goes(&mut out).is_empty());
    limiter.no_answer(ms(1100), gone, false, &mut out);
    assert_eq!(goes(&mut out).len(), 1);
    // One that may have been counted frees it a period later.
    let mut broken = permits.next().unwrap();
    limiter.departs(ms(1100), &mut broken, false, &mut out);
    limiter.no_answer(ms(1900), broken, true, &mut out);
    drop(permits);
    assert_eq!(tick_all(&limiter, 2_252, &mut out), [98]);
}

#[test]
fn an_upload_holds_its_slot_to_its_end_and_an_early_answer_ends_it() {
    for early in [false, true] {
        let (limiter, mut out, mut permits) = full(50);
        let mut upload = permits.pop().unwrap();
        limiter.departs(ms(1001), &mut upload, false, &mut out);
        assert_eq!(upload.sent(), ms(1001));
        for permit in permits {
            limiter.no_answer(ms(1001), permit, false, &mut out);
        }
        let others = (100..149).map(own_channel);
        let _permits: Vec<_> = others
            .map(|ask| go(limiter.acquire(ms(4_000), &ask, &mut out)))
            .collect();
        let _ = limiter.acquire(ms(4_000), &own_channel(99), &mut out);
        assert!(tick_all(&limiter, 4_100, &mut out).is_empty());
        if !early {
            limiter.departed(ms(4_150), &mut upload, &mut out);
        }
        limiter.report(ms(4_200), upload, &plain(200), &mut out);
        assert!(tick_all(&limiter, 5_199, &mut out).is_empty());
        assert_eq!(tick_all(&limiter, 5_200, &mut out), [99]);
    }
}

#[test]
fn a_request_that_is_sent_a_second_time_is_taken_to_be_counted_twice() {
    let settings = Settings {
        global_default: 1,
        ..Settings::default()
    };
    let (limiter, mut out) = (Limiter::<Unlocked>::new(&settings, 1), Outputs::new());
    let mut permit = go(limiter.acquire(ms(1000), &own_channel(1), &mut out));
    limiter.departs(ms(1000), &mut permit, true, &mut out);
    limiter.delayed(ms(1100), &mut permit, true, &mut out);
    limiter.departs(ms(1200), &mut permit, true, &mut out);
    limiter.report(ms(1240), permit, &plain(200), &mut out);
    let _ = limiter.acquire(ms(1250), &own_channel(99), &mut out);
    let ticked = |now, out: &mut Outputs| {
        limiter.tick(ms(now), 0, out);
        goes(out).len()
    };
    assert_eq!((ticked(2_248, &mut out), ticked(2_252, &mut out)), (0, 1));
}

thread_local! {
    static HELD: Cell<bool> = const { Cell::new(false) };
    static TAKEN: Cell<u32> = const { Cell::new(0) };
}

/// Latches that count how often they are taken, and of which only one is at a time.
struct Counted;

struct CountedLatch<T>(RefCell<T>);

impl Latches for Counted {
    type Latch<T> = CountedLatch<T>;
}

impl<T> Latch<T> for CountedLatch<T> {
    fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        assert!(!HELD.replace(true), "no latch is taken within another");
        TAKEN.set(TAKEN.get() + 1);
        let result = f(&mut self.0.borrow_mut());
        HELD.set(false);
        result
    }
}

#[test]
fn a_departure_in_time_takes_no_latch_and_one_that_is_not_counted_never_does() {
    let limiter = Limiter::<Counted>::new(&Settings::default(), 2);
    let mut out = Outputs::new();
    let latches = |work: &mut dyn FnMut()| {
        let before = TAKEN.get();
        work();
        TAKEN.get() - before
    };
    let mut permit = go(limiter.acquire(ms(1000), &own_channel(1), &mut out));
    let in_time = latches(&mut || limiter.departs(ms(1020), &mut permit, true, &mut out));
    assert_eq!((in_time, permit.sent()), (0, ms(1020)));
    let mut permit = go(limiter.acquire(ms(1000), &own_channel(2), &mut out));
    assert_eq!(
        latches(&mut || limiter.delayed(ms(1000), &mut permit, false, &mut out)),
        1
    );
    assert_eq!(
        latches(&mut || limiter.delayed(ms(1000), &mut permit, false, &mut out)),
        0
    );
    assert_eq!(
        latches(&mut || limiter.departs(ms(1010), &mut permit, true, &mut out)),
        1
    );
    let exempt = Ask {
        client: ClientClass::Interaction,
        counts_globally: false,
        ..own_channel(3)
    };
    let mut permit = go(limiter.acquire(ms(1000), &exempt, &mut out));
    let never = latches(&mut || {
        limiter.delayed(ms(1000), &mut permit, false, &mut out);
        limiter.departs(ms(3000), &mut permit, true, &mut out);
    });
    assert_eq!((never, permit.sent()), (0, ms(3000)));
}

/// What may happen to a request at some time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    Departs,
    Arrives,
    Answered { refused: bool, counted: Instant },
    Unanswered { sent: bool },
}

/// Clients that ask again as soon as they are answered, over a network of 10 to 30 ms a way. One in
/// 20 requests waits up to 2 s for a connection, one in 20 is up to 400 ms late without notice, some
/// get lost before they are sent or after.
struct Run {
    limiter: Local,
    out: Outputs,
    /// The limiter is told of departures.
    tells: bool,
    now: Instant,
    chance: u64,
    events: BinaryHeap<Reverse<(Instant, u32, Event)>>,
    permits: Vec<Option<Permit>>,
    /// When Discord counted the requests of the last second.
    counted: VecDeque<Instant>,
    served: u64,
    refused: u64,
}

const CLIENTS: u32 = 120;
const RUN: Duration = Duration::from_secs(60);

impl Run {
    fn new(seed: u64, tells: bool) -> Self {
        Self {
            limiter: limiter(),
            out: Outputs::new(),
            tells,
            now: ms(1000),
            chance: seed,
            events: BinaryHeap::new(),
            permits: (0..CLIENTS).map(|_| None).collect(),
            counted: VecDeque::new(),
            served: 0,
            refused: 0,
        }
    }

    /// A number below `n`.
    fn below(&mut self, n: u64) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.chance ^ (self.chance >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((u128::from(mixed ^ (mixed >> 27)) * u128::from(n)) >> 64) as u64
    }

    fn after_micros(&mut self, micros: u64, client: u32, event: Event) {
        let at = self.now + Duration::from_micros(micros);
        self.events.push(Reverse((at, client, event)));
    }

    fn ask(&mut self, client: u32) {
        match self
            .limiter
            .acquire(self.now, &own_channel(client), &mut self.out)
        {
            Decision::Go(permit) => self.granted(client, permit),
            Decision::Wait => {}
            Decision::Refuse(refusal) => panic!("{refusal:?}"),
        }
    }

    fn granted(&mut self, client: u32, mut permit: Permit) {
        let (dials, late, lost) = (self.below(20) == 0, self.below(20) == 0, self.below(50));
        let wait = if dials {
            if self.tells {
                self.limiter
                    .delayed(self.now, &mut permit, false, &mut self.out);
            }
            self.below(2_000_000)
        } else if late {
            self.below(400_000)
        } else {
            self.below(1_000)
        };
        self.permits[client as usize] = Some(permit);
        let event = if lost == 0 {
            Event::Unanswered { sent: false }
        } else {
            Event::Departs
        };
        self.after_micros(wait, client, event);
    }

    fn happens(&mut self, client: u32, event: Event) {
        let place = client as usize;
        match event {
            Event::Departs => {
                let permit = self.permits[place].as_mut().unwrap();
                if self.tells {
                    self.limiter.departs(self.now, permit, true, &mut self.out);
                }
                let way = 10_000 + self.below(20_000);
                self.after_micros(way, client, Event::Arrives);
            }
            Event::Arrives => {
                let old = |at: &Instant| *at + Duration::from_secs(1) <= self.now;
                while self.counted.front().is_some_and(old) {
                    self.counted.pop_front();
                }
                let refused = self.counted.len() >= 50;
                if !refused {
                    self.counted.push_back(self.now);
                }
                let way = 10_000 + self.below(20_000);
                let event = if self.below(50) == 0 {
                    Event::Unanswered { sent: true }
                } else {
                    let counted = self.now;
                    Event::Answered { refused, counted }
                };
                self.after_micros(way, client, event);
            }
            Event::Answered { refused, counted } => {
                let answer = if refused {
                    self.refused += 1;
                    let mut answer = plain(429);
                    answer.header(b"X-RateLimit-Global", b"true");
                    answer.header(b"Retry-After", b"1");
                    answer
                } else {
                    self.served += 1;
                    // Discord's clock is 10,000 s ahead of ours.
                    let reset = counted.as_nanos() as f64 / 1e9 + 10_005.0;
                    answer(1_000, 999, reset, 5.0)
                };
                let permit = self.permits[place].take().unwrap();
                self.limiter
                    .report(self.now, permit, &answer, &mut self.out);
                self.ask(client);
            }
            Event::Unanswered { sent } => {
                let permit = self.permits[place].take().unwrap();
                self.limiter
                    .no_answer(self.now, permit, sent, &mut self.out);
                self.ask(client);
            }
        }
    }

    fn run(mut self) -> Self {
        (0..CLIENTS).for_each(|client| self.ask(client));
        loop {
            for (client, permit) in goes(&mut self.out) {
                self.granted(client, permit);
            }
            let due = (0..2).filter_map(|shard| self.limiter.next_deadline(shard));
            let due = due.min().unwrap_or(Instant::FAR);
            let next = self.events.peek().map_or(Instant::FAR, |next| next.0.0);
            self.now = self.now.max(due.min(next));
            if self.now > ms(1000) + RUN {
                return self;
            }
            if due <= next {
                (0..2).for_each(|shard| self.limiter.tick(self.now, shard, &mut self.out));
            } else if let Some(Reverse((_, client, event))) = self.events.pop() {
                self.happens(client, event);
            }
        }
    }
}

#[test]
fn requests_that_leave_late_draw_no_global_429_when_the_limiter_is_told() {
    let (mut served, mut blind) = (0, 0);
    for seed in 0..20 {
        let told = Run::new(seed, true).run();
        assert_eq!(told.refused, 0, "seed {seed}");
        served += told.served;
        blind += Run::new(seed, false).run().refused;
    }
    let each = served / 20;
    println!("{each} served in each minute; {blind} refused in 20 when nothing is told");
    assert!(blind > 20, "without a word some are refused: {blind}");
    // Who dials holds a slot meanwhile: a second for one in 20, and that is all that is lost.
    assert!(each > 2_500, "{each}");
}
