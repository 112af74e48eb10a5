//! What the limiter costs a request: acquire and report, without latches' contention.
//!
//! Run with `cargo bench --bench limiter`. Numbers and the machine they come from are in PERF.md.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use weir::clock::Instant;
use weir::limit::{
    Answer, Ask, BucketKey, ClientClass, Decision, Limiter, Outputs, Settings, Ticket, Unlocked,
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

criterion_group!(benches, limiter);
criterion_main!(benches);
