//! What it costs to read the heads of a request and its answer, and to write them for the other
//! side.
//!
//! `cargo bench --bench http1`; the heads are those of `heads`.

mod heads;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use heads::Limits;
use weir::http1::{ClientSide, Method, Parse, Version, parse_request, parse_response};

const CHANNEL: u64 = 203_039_963_636_301_824;

fn request_heads(c: &mut Criterion) {
    for (name, bytes) in [("GET", heads::get(CHANNEL)), ("POST", heads::post(CHANNEL))] {
        c.bench_function(&format!("request head, {name}: parse"), |b| {
            b.iter(|| matches!(parse_request(black_box(&bytes)), Parse::Complete(_)));
        });
        let Parse::Complete(head) = parse_request(&bytes) else {
            panic!("it is whole");
        };
        let mut out = Vec::with_capacity(4_096);
        c.bench_function(&format!("request head, {name}: rewrite"), |b| {
            b.iter(|| {
                out.clear();
                black_box(&head).encode(black_box(b"discord.com"), &mut out);
                out.len()
            });
        });
    }
}

fn answer_head(c: &mut Criterion) {
    let bytes = heads::answer(Limits {
        remaining: 4,
        reset_ms: 1_767_225_600_000,
    });
    c.bench_function("answer head: parse", |b| {
        b.iter(|| {
            let parsed = parse_response(black_box(&bytes), Method::Get);
            matches!(parsed, Parse::Complete(_))
        });
    });
    let Parse::Complete(head) = parse_response(&bytes, Method::Get) else {
        panic!("it is whole");
    };
    let side = ClientSide {
        version: Version::Http11,
        keep_alive: true,
    };
    let mut out = Vec::with_capacity(4_096);
    c.bench_function("answer head: rewrite", |b| {
        b.iter(|| {
            out.clear();
            black_box(&head).encode(black_box(side), &mut out)
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = request_heads, answer_head
}
criterion_main!(benches);
