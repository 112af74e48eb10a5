//! What the limiter costs a request: acquire and report, without latches' contention.
//!
//! Run with `cargo bench --bench limiter`. Numbers and the machine they come from are in PERF.md.

use criterion::{Criterion, criterion_group, criterion_main};
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::time::Duration;
use weir::clock::Instant;
use weir::limit::snapshot::{Copying, Seal, Snapshot};
use weir::limit::{
    Answer, Ask, BucketKey, ClientClass, Decision, Latch, Latches, Limiter, Outputs, Settings,
    Ticket, Unlocked,
};

fn ask(major: u64) -> Ask {
    Ask {
        ticket: Ticket {
            worker: 0,
            slot: 0,
            generation: 0,
        },
        key: BucketKey {
            identity: major % 64,
            major,
            route: 1,
        },
        client: ClientClass::Bot { user_id: None },
        counts_globally: true,
        serial: true,
        max_wait: None,
    }
}

fn reset(now: Instant) -> String {
    format!("{:.3}", (now.as_nanos() + 6_000_000_000) as f64 / 1e9)
}

fn answer(reset: &str) -> Answer {
    let mut answer = Answer::new(200);
    for (name, value) in [
        ("date", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ("content-type", "application/json"),
        ("x-ratelimit-bucket", "80c17d2f203122d936070c88c8d10f33"),
        ("x-ratelimit-limit", "1000"),
        ("x-ratelimit-remaining", "999"),
        ("x-ratelimit-reset", reset),
        ("x-ratelimit-reset-after", "5.000"),
        ("via", "1.1 google"),
        ("server", "cloudflare"),
    ] {
        answer.header(name.as_bytes(), value.as_bytes());
    }
    answer
}

struct Bench {
    limiter: Limiter<Unlocked>,
    out: Outputs,
    now: Instant,
    next: u64,
    buckets: u64,
}

impl Bench {
    fn new(buckets: u64) -> Self {
        let settings = Settings {
            global_default: 60_000,
            ..Settings::default()
        };
        let limiter = Limiter::new(&settings, 8);
        let now = Instant::from_millis(1_000_000);
        let mut bench = Self {
            limiter,
            out: Outputs::new(),
            now,
            next: 0,
            buckets,
        };
        for _ in 0..buckets {
            bench.exchange(&answer(&reset(now)));
        }
        bench
    }

    fn exchange(&mut self, answer: &Answer) {
        // A stride that visits the buckets in no order the cache could guess.
        self.next = (self.next + 7_919) % self.buckets;
        let now = self.now;
        match self
            .limiter
            .acquire(now, black_box(&ask(self.next)), &mut self.out)
        {
            Decision::Go(permit) => {
                self.limiter.report(
                    now + Duration::from_millis(40),
                    permit,
                    answer,
                    &mut self.out,
                );
            }
            other => panic!("{other:?}"),
        }
        while self.out.pop().is_some() {}
        self.now += Duration::from_micros(20);
    }
}

fn limiter(c: &mut Criterion) {
    c.bench_function("headers of an answer", |b| {
        let reset = reset(Instant::from_millis(1_000_000));
        b.iter(|| answer(black_box(&reset)));
    });
    for buckets in [1, 1_000, 1_000_000] {
        let mut bench = Bench::new(buckets);
        let answer = answer(&reset(bench.now));
        c.bench_function(&format!("acquire and report, {buckets} buckets"), |b| {
            b.iter(|| bench.exchange(&answer));
        });
    }
}

/// Lets so many requests wait, each in a bucket of its own that is empty for an hour.
fn waiting(bench: &mut Bench, count: u64) {
    let mut empty = answer(&reset(bench.now + Duration::from_secs(3_600)));
    for (name, value) in [
        ("x-ratelimit-bucket", "e"),
        ("x-ratelimit-limit", "1"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset-after", "3600.000"),
    ] {
        empty.header(name.as_bytes(), value.as_bytes());
    }
    for n in 0..count {
        let mut ask = ask(10_000_000 + n);
        ask.key.route = 2;
        ask.ticket.slot = n as u32 + 1;
        let Decision::Go(permit) = bench.limiter.acquire(bench.now, &ask, &mut bench.out) else {
            panic!("nobody is before it");
        };
        bench
            .limiter
            .report(bench.now, permit, &empty, &mut bench.out);
        let decision = bench.limiter.acquire(bench.now, &ask, &mut bench.out);
        assert!(matches!(decision, Decision::Wait));
        while bench.out.pop().is_some() {}
        bench.now += Duration::from_micros(20);
    }
}

fn waiters(c: &mut Criterion) {
    for count in [0, 1_000, 100_000] {
        let mut bench = Bench::new(1_000);
        waiting(&mut bench, count);
        let answer = answer(&reset(bench.now));
        c.bench_function(&format!("acquire and report beside {count} waiters"), |b| {
            b.iter(|| bench.exchange(&answer));
        });
        let mut bench = Bench::new(1_000);
        waiting(&mut bench, count + 1);
        let mut late = ask(10_000_000);
        late.key.route = 2;
        c.bench_function(&format!("wait and leave beside {count} waiters"), |b| {
            b.iter(|| {
                let decision = bench.limiter.acquire(bench.now, &late, &mut bench.out);
                assert!(matches!(decision, Decision::Wait));
                bench
                    .limiter
                    .cancel(bench.now, &late.key, late.ticket, &mut bench.out);
                while bench.out.pop().is_some() {}
            });
        });
    }
}

/// The longest tick, for a mean hides it: while nothing is old, and while all is forgotten.
#[expect(clippy::print_stdout, reason = "what criterion cannot report")]
fn sweep(_: &mut Criterion) {
    for (what, idle) in [("looks", 60), ("forgets", 600)] {
        let mut bench = Bench::new(1_000_000);
        bench.now += Duration::from_secs(idle);
        let (mut ticks, mut longest, mut all) = (0, Duration::ZERO, Duration::ZERO);
        while ticks < 2_000 && bench.limiter.census(bench.now).buckets > 0 {
            for shard in 0..bench.limiter.shards() {
                let Some(next) = bench.limiter.next_deadline(shard) else {
                    continue;
                };
                bench.now = bench.now.max(next);
                let begin = std::time::Instant::now();
                bench.limiter.tick(bench.now, shard, &mut bench.out);
                let took = begin.elapsed();
                (ticks, all, longest) = (ticks + 1, all + took, longest.max(took));
                while bench.out.pop().is_some() {}
            }
        }
        println!(
            "a sweep that {what}: {:?} on average, {longest:?} at most, of {ticks}",
            all / ticks.max(1)
        );
    }
}

/// The longest hold of a latch while all is copied for a snapshot, with tables as full as they get,
/// and what it takes to have it all again.
#[expect(clippy::print_stdout, reason = "what criterion cannot report")]
fn copy(_: &mut Criterion) {
    let mut bench = Bench::new(1_000_000);
    let forbidden = Answer::new(403);
    for identity in 0..30_000 {
        let mut ask = ask(20_000_000 + identity);
        ask.key.identity = 1_000_000 + identity.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (now, out) = (bench.now, &mut bench.out);
        if let Decision::Go(permit) = bench.limiter.acquire(now, &ask, out) {
            bench.limiter.report(now, permit, &forbidden, out);
        }
        bench
            .limiter
            .set_global_limit(now, ask.key.identity, 50, out);
        while bench.out.pop().is_some() {}
    }
    let seal = Seal {
        seeds: [0; 4],
        probe: 0,
        saved_unix_ms: 0,
        complete: true,
    };
    let mut holds = Vec::new();
    let (mut bytes, mut piece) = (Vec::new(), Vec::new());
    let mut copying = Copying::begin(bench.now, &seal, &mut piece);
    loop {
        let begin = std::time::Instant::now();
        let more = copying.next(&bench.limiter, &mut piece);
        holds.push(begin.elapsed());
        bytes.append(&mut piece);
        if !more {
            break;
        }
    }
    let all: Duration = holds.iter().sum();
    holds.sort();
    let of = holds.len();
    println!(
        "a bite of a copy, with its encoding: {:?} on average, {:?} at the 99th percent, {:?} at most, of {of}; \
         {all:?} and {} bytes in all",
        all / of as u32,
        holds[of * 99 / 100],
        holds[of - 1],
        bytes.len()
    );
    let begin = std::time::Instant::now();
    let snapshot = Snapshot::open(&bytes, |_| 0).expect("what was written");
    let limiter: Limiter<Unlocked> = Limiter::new(&Settings::default(), 4);
    let counts = snapshot.restore(&limiter, bench.now, 0);
    println!("all of it restored: {counts:?} in {:?}", begin.elapsed());
}

/// Latches that tell how long the longest use took.
enum Timed {}

struct TimedLatch<T>(RefCell<T>);

thread_local! {
    static LONGEST: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static USES: Cell<u32> = const { Cell::new(0) };
}

impl Latches for Timed {
    type Latch<T> = TimedLatch<T>;
}

impl<T> Latch<T> for TimedLatch<T> {
    fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.0.borrow_mut();
        let began = std::time::Instant::now();
        let result = f(&mut value);
        LONGEST.set(LONGEST.get().max(began.elapsed()));
        USES.set(USES.get() + 1);
        result
    }
}

/// What the status page's look at a full limiter takes, and how long it holds a shard.
#[expect(clippy::print_stdout, reason = "what criterion cannot report")]
fn look(_: &mut Criterion) {
    const BOTS: u64 = 8_000;
    const QUEUES: u64 = 32_000;
    let limiter = Limiter::<Timed>::new(&Settings::default(), 4);
    let now = Instant::from_millis(1_000_000);
    let mut out = Outputs::new();
    for major in 0..QUEUES {
        for slot in 0..3 {
            let mut ask = ask(major);
            ask.key.identity = major % BOTS;
            ask.ticket.slot = u32::try_from(major).unwrap_or(0) * 3 + slot;
            if let Decision::Go(permit) = limiter.acquire(now, &ask, &mut out) {
                drop(permit);
            }
        }
        while out.pop().is_some() {}
    }
    for turn in 1..=5 {
        LONGEST.set(Duration::ZERO);
        USES.set(0);
        let began = std::time::Instant::now();
        let blocked = limiter.blocked(now, 20);
        let senders = limiter.senders(now, 20, &blocked.by_sender);
        let took = began.elapsed();
        println!(
            "look {turn}: {} queues and {} bots of 4 workers in {took:?}; a shard is held {} times, {:?} at most",
            blocked.buckets,
            senders.tracked,
            USES.get(),
            LONGEST.get()
        );
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = limiter, waiters, sweep, copy, look
}
criterion_main!(benches);
