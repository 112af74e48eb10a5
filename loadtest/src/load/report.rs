//! What came of a load.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Latencies beyond this are counted as this, in nanoseconds: a minute.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// Counts and latencies of one run.
#[derive(Clone, Debug)]
pub struct LoadReport {
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests that ended without an answer: resets, early ends, no answer in time.
    pub errors: u64,
    /// Connections made again after one was lost.
    pub reconnects: u64,
    /// Open loop: requests whose time came while no connection was free.
    pub delayed: u64,
    /// Bytes of answers.
    pub bytes_in: u64,
    /// How long was measured.
    pub elapsed: Duration,
    /// Nanoseconds from the intended time (open loop) or the sending (closed loop) to the end of
    /// the answer.
    pub latency_ns: Histogram<u64>,
}

impl LoadReport {
    pub(super) fn new() -> Self {
        // Three digits between 1 µs and a minute: about 200 KiB.
        let latency_ns = Histogram::new_with_bounds(1000, LATENCY_MAX_NS, 3);
        Self {
            statuses: BTreeMap::new(),
            errors: 0,
            reconnects: 0,
            delayed: 0,
            bytes_in: 0,
            elapsed: Duration::ZERO,
            latency_ns: latency_ns.unwrap_or_else(|_| unreachable!("the bounds are constants")),
        }
    }

    pub(super) fn answered(&mut self, status: u16, took: Duration) {
        *self.statuses.entry(status).or_default() += 1;
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.latency_ns
            .saturating_record(took.clamp(1000, LATENCY_MAX_NS));
    }

    /// Answers of any status.
    pub fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.answers() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The latency that this share of the requests did not exceed, in microseconds.
    pub fn latency_us(&self, quantile: f64) -> f64 {
        self.latency_ns.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// The report as JSON.
    pub fn to_json(&self) -> Value {
        let statuses: serde_json::Map<String, Value> = self
            .statuses
            .iter()
            .map(|(s, n)| (s.to_string(), (*n).into()))
            .collect();
        json!({
            "answers": self.answers(),
            "statuses": statuses,
            "errors": self.errors,
            "reconnects": self.reconnects,
            "delayed": self.delayed,
            "bytes_in": self.bytes_in,
            "elapsed_s": self.elapsed.as_secs_f64(),
            "rate": self.rate(),
            "latency_us": {
                "p50": self.latency_us(0.5),
                "p90": self.latency_us(0.9),
                "p99": self.latency_us(0.99),
                "p999": self.latency_us(0.999),
                "max": self.latency_ns.max() as f64 / 1000.0,
            },
        })
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (answers, elapsed) = (self.answers(), self.elapsed.as_secs_f64());
        writeln!(
            f,
            "{answers} answers in {elapsed:.2} s: {:.0} a second",
            self.rate()
        )?;
        for (status, n) in &self.statuses {
            writeln!(f, "  {status}: {n}")?;
        }
        let Self {
            errors,
            reconnects,
            delayed,
            ..
        } = self;
        writeln!(
            f,
            "  errors: {errors}, reconnects: {reconnects}, delayed: {delayed}"
        )?;
        write!(f, "latency in µs:")?;
        for (name, q) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
            write!(f, " {name} {:.0}", self.latency_us(q))?;
        }
        write!(f, " max {:.0}", self.latency_ns.max() as f64 / 1000.0)
    }
}
