//! What earlier looks saw, so that a look can tell of the last minute and not of the last month.
//!
//! Kept are samples of at most [`SPAN`], one a second: 30 KiB when somebody has looked for a minute, and
//! nothing before anybody has.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{Latency, Percentiles, Recent};
use crate::clock::Instant;
use crate::metrics::Histogram;

/// Percentiles and recent counts are of so long.
const SPAN: Duration = Duration::from_secs(60);

/// Looks that follow each other faster than this leave one sample.
const STEP: Duration = Duration::from_millis(900);

/// Counts since the start, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// From a request's first byte to Discord to the head of the answer.
    pub upstream: Histogram,
    /// Waiting for limits.
    pub queue: Histogram,
    /// What weir added.
    pub added: Histogram,
    /// Refusals by reason.
    pub refused: BTreeMap<String, u64>,
    /// What went wrong with Discord, by kind.
    pub errors: BTreeMap<String, u64>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Past {
    /// Oldest first. Invariant: at most one is older than [`SPAN`] at the last look.
    samples: VecDeque<(Instant, Sample)>,
}

impl Past {
    /// Takes in a sample, and tells what lies between it and the one a minute before: the oldest, if nobody
    /// has looked for so long, and the start, if nobody has looked at all.
    pub fn look(&mut self, now: Instant, started: Instant, sample: Sample) -> (Latency, Recent) {
        let is_old = |at: Instant| now.saturating_duration_since(at) >= SPAN;
        while self.samples.get(1).is_some_and(|(at, _)| is_old(*at)) {
            self.samples.pop_front();
        }
        let nothing = Sample::default();
        let (from, before) = match self.samples.front() {
            Some((at, before)) => (*at, before),
            None => (started, &nothing),
        };
        let over = now.saturating_duration_since(from);
        let over_ms = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
        let latency = Latency {
            over_ms,
            upstream: percentiles(&sample.upstream.since(&before.upstream)),
            queue: percentiles(&sample.queue.since(&before.queue)),
            added: percentiles(&sample.added.since(&before.added)),
        };
        // What happened before anybody looked may be long past.
        let recent = if self.samples.is_empty() {
            Recent::default()
        } else {
            Recent {
                over_ms,
                refused: grown(&sample.refused, &before.refused),
                errors: grown(&sample.errors, &before.errors),
            }
        };
        let last = self.samples.back().map(|(at, _)| *at);
        if last.is_none_or(|last| now.saturating_duration_since(last) >= STEP) {
            self.samples.push_back((now, sample));
        }
        (latency, recent)
    }
}

fn percentiles(times: &Histogram) -> Percentiles {
    let ms = |q| {
        let time = times.quantile(q)?;
        // Microseconds are more than a bucket tells.
        Some(time.as_micros() as f64 / 1_000.0)
    };
    Percentiles {
        count: times.count(),
        p50_ms: ms(0.5),
        p90_ms: ms(0.9),
        p99_ms: ms(0.99),
    }
}

fn grown(now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let more = now.iter().filter_map(|(name, count)| {
        let before = before.get(name).copied().unwrap_or_default();
        let more = count.saturating_sub(before);
        (more > 0).then(|| (name.clone(), more))
    });
    more.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(second: u64) -> Instant {
        Instant::from_millis(second * 1_000)
    }

    /// So many requests, each of which took so long, beside those of `before`.
    fn sample(before: &Sample, requests: u64, took_ms: u64) -> Sample {
        let mut sample = before.clone();
        for _ in 0..requests {
            sample.upstream.record(took_ms * MS);
        }
        *sample.refused.entry("bucket_full".to_owned()).or_default() += requests;
        sample
    }

    #[test]
    fn the_first_look_tells_of_all_since_the_start_and_of_nothing_recent() {
        let mut past = Past::default();
        let sample = sample(&Sample::default(), 10, 50);
        let (latency, recent) = past.look(at(100), at(40), sample);
        assert_eq!(latency.over_ms, 60_000);
        assert_eq!(latency.upstream.count, 10);
        let p50 = latency.upstream.p50_ms.unwrap();
        assert!((30.0..=70.0).contains(&p50), "{p50}");
        assert_eq!(latency.queue.p50_ms, None);
        assert!(recent.refused.is_empty());
    }

    #[test]
    fn later_looks_tell_of_the_minute_before() {
        let mut past = Past::default();
        let mut seen = Sample::default();
        for second in 0..200 {
            seen = sample(&seen, 1, if second < 100 { 50 } else { 500 });
            let (latency, recent) = past.look(at(second), at(0), seen.clone());
            if second >= 60 {
                assert_eq!((latency.over_ms, latency.upstream.count), (60_000, 60));
                assert_eq!(recent.refused, [("bucket_full".to_owned(), 60)]);
            }
            assert!(past.samples.len() <= 62);
        }
        let (latency, _) = past.look(at(200), at(0), seen);
        assert!(latency.upstream.p50_ms.unwrap() > 300.0);
    }

    #[test]
    fn hasty_looks_leave_one_sample_a_second() {
        let mut past = Past::default();
        for n in 0..1_000 {
            let now = at(10) + Duration::from_millis(n);
            let _seen = past.look(now, at(0), Sample::default());
        }
        assert_eq!(past.samples.len(), 2);
    }

    #[test]
    fn who_looks_again_after_an_hour_is_told_of_that_hour() {
        let mut past = Past::default();
        let first = sample(&Sample::default(), 5, 50);
        let _seen = past.look(at(0), at(0), first.clone());
        let (latency, recent) = past.look(at(3_600), at(0), sample(&first, 7, 50));
        assert_eq!((latency.over_ms, latency.upstream.count), (3_600_000, 7));
        assert_eq!(recent.over_ms, 3_600_000);
    }
}
