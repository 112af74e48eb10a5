//! What an operator watches weir with: the scrape and its documentation, the dashboard, the alerts.
//!
//! promtool and Prometheus are Debian's (`apt-get install --no-install-recommends prometheus`); without
//! them these tests fail.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, unreachable_pub, reason = "other tests use the rest")]
#[path = "../support/redis.rs"]
mod redis;

mod alerts;
mod counted;
mod dashboard;
mod names;
mod prometheus;
mod promql;
mod stage;

use std::path::PathBuf;

/// A file of this repository.
fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
