//! What the bots see, and what they would have seen without a proxy.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::mock::clock::Clock;
use crate::mock::limits::Cause;
use crate::mock::route::Method;
use crate::mock::settings::Settings;
use crate::mock::world::{Reply, Request, World};

/// Counts of one demonstration.
#[derive(Debug)]
pub struct Tally {
    clock: Clock,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Discord as it would have judged what the bots send.
    shadow: World,
    present: Tick,
    latency_us: Histogram<u64>,
}

/// What happened until now; latencies are those of the last second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tick {
    /// Time since the start.
    pub elapsed: Duration,
    /// Requests sent.
    pub sent: u64,
    /// Requests sent and not answered.
    pub waiting: u64,
    /// Answers with a status below 400.
    pub succeeded: u64,
    /// 429s that the bots got.
    pub refused: u64,
    /// Other answers, and connections that failed.
    pub failed: u64,
    /// Requests that would have drawn a 429 had they gone to Discord when they were sent.
    pub avoided: u64,
    /// Half of the answers came within this time.
    pub p50: Duration,
    /// 99 of 100 answers came within this time.
    pub p99: Duration,
}

impl Tally {
    /// Nothing has happened yet; the limits are those of `settings`.
    pub fn new(settings: Settings) -> Self {
        // Three digits up to a minute; wider latencies are counted as that.
        let latency_us = Histogram::new_with_bounds(1, 60_000_000, 3)
            .unwrap_or_else(|_| unreachable!("the bounds are constants"));
        let shadow = World::new(
            Settings {
                faults: Vec::new(),
                log_entries: 0,
                ..settings
            },
            0,
        );
        let inner = Inner {
            shadow,
            present: Tick::default(),
            latency_us,
        };
        Self {
            clock: Clock::start(),
            inner: Mutex::new(inner),
        }
    }

    /// A bot sends this request now.
    pub fn sent(&self, method: Method, target: &str, authorization: &str, json: &str) -> Instant {
        let request = Request {
            method,
            target,
            authorization,
            source: std::net::Ipv4Addr::LOCALHOST.into(),
            json: json.as_bytes(),
            body_bytes: json.len() as u64,
            connection: (0, 0),
        };
        let now_ns = self.clock.now_ns();
        let unix_ms = self.clock.unix_ns(now_ns, 0) / 1_000_000;
        let mut inner = self.lock();
        let refused = match inner.shadow.judge(now_ns, unix_ms, &request).reply {
            // A ban would follow from the refusals before it; it is not what a proxy avoids.
            Reply::Limited(cause, _) => cause != Cause::Cloudflare,
            Reply::Serve(_) | Reply::Error(..) => false,
        };
        inner.present.avoided += u64::from(refused);
        inner.present.sent += 1;
        inner.present.waiting += 1;
        Instant::now()
    }

    /// A bot has its answer; `None` when there was none.
    pub fn answered(&self, sent: Instant, status: Option<u16>) {
        let took_us = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut inner = self.lock();
        inner.latency_us.saturating_record(took_us.max(1));
        let present = &mut inner.present;
        present.waiting -= 1;
        match status {
            Some(429) => present.refused += 1,
            Some(status) if status < 400 => present.succeeded += 1,
            Some(_) | None => present.failed += 1,
        }
    }

    /// What happened until now. Begins a new second of latencies.
    pub fn tick(&self, elapsed: Duration) -> Tick {
        let mut inner = self.lock();
        let at = |q| Duration::from_micros(inner.latency_us.value_at_quantile(q));
        let tick = Tick {
            elapsed,
            p50: at(0.5),
            p99: at(0.99),
            ..inner.present
        };
        inner.latency_us.reset();
        tick
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_beyond_the_bucket_are_those_that_were_avoided() {
        let tally = Tally::new(Settings::default());
        let target = "/api/v10/channels/203039963636301824/messages";
        let sent: Vec<Instant> = (0..8)
            .map(|_| tally.sent(Method::Post, target, "Bot x", "{}"))
            .collect();
        tally.answered(sent[0], Some(200));
        tally.answered(sent[1], Some(429));
        tally.answered(sent[2], None);
        let tick = tally.tick(Duration::ZERO);
        assert_eq!((tick.sent, tick.avoided, tick.waiting), (8, 3, 5));
        assert_eq!((tick.succeeded, tick.refused, tick.failed), (1, 1, 1));
        assert!(tick.p99 >= tick.p50 && tick.p50 > Duration::ZERO);
    }
}
