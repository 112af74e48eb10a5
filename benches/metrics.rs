//! What it costs to count an answered request, and to write a full table for a scrape.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use weir::metrics::{SERIES_MAX, SeriesKey, Table};

fn key(route: u64) -> SeriesKey {
    SeriesKey {
        method: "GET",
        status: 200,
        shared: false,
        route,
        client: 392_827_169_497_284_619,
    }
}

fn metrics(c: &mut Criterion) {
    let mut table = Table::with_seeds([1, 2, 3, 4]);
    for route in 0..SERIES_MAX as u64 {
        table.record(
            key(route),
            || (format!("/{route}"), "9".to_owned()),
            Duration::ZERO,
        );
    }
    let mut route = 0;
    c.bench_function("record", |b| {
        b.iter(|| {
            route = (route + 1) % 200;
            let elapsed = black_box(Duration::from_millis(120));
            table.record(key(route), || (String::new(), String::new()), elapsed);
        });
    });
    c.bench_function("encode_full", |b| {
        b.iter(|| {
            let mut out = String::new();
            table.encode(&mut out);
            out.len()
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = metrics
}
criterion_main!(benches);
