//! What it costs to find out what limits a request: route, identity and keys.
//!
//! `cargo bench --bench route`; to be read against what `weir::route` promises.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use weir::route::{Keys, RouteText, classify, identity};

const BOT: &[u8] = b"Bot MzkyODI3MTY5NDk3Mjg0NjE5.Gabcde.0123456789abcdefghijklmnopqrstuvwxyzAB";
const WEBHOOK_TOKEN: &str = "VSOzAqY1OZFF5WJVtbIzFtmjGupk-84Hn0A_ZzToF_CHsPIeCk0Q9Uok_mjxR0dNtApI";

fn route(c: &mut Criterion) {
    let webhook = format!("/api/v10/webhooks/392827169497284619/{WEBHOOK_TOKEN}?wait=true");
    let interaction_token = format!(
        "aW50ZXJhY3Rpb246MTEwMzA0OTQyMDkzMDU2ODMyMjpz{}",
        "c3Nz".repeat(40)
    );
    let callback =
        format!("/api/v10/interactions/1103049420930568322/{interaction_token}/callback");
    let follow_up = format!("/api/v10/webhooks/392827169497284619/{interaction_token}");
    let mut text = RouteText::default();
    let keys = Keys::with_seeds([1, 2, 3, 4]);
    for (name, target) in [
        ("message", "/api/v10/channels/203039963636301824/messages"),
        (
            "member_role",
            "/api/v10/guilds/103039963636301824/members/392827169497284619/roles/872712150509047809",
        ),
        ("webhook", &webhook),
        ("callback", &callback),
        ("follow_up", &follow_up),
    ] {
        c.bench_function(name, |b| {
            b.iter(|| {
                let method = black_box(b"POST");
                let target = black_box(target.as_bytes());
                let route = classify(method, target, 1_700_000_000_000, &mut text);
                keys.bucket_key(&route, &identity::parse(Some(black_box(BOT))), method)
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = route
}
criterion_main!(benches);
