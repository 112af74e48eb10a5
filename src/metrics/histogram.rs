//! Times in buckets: what a percentile is read from.
//!
//! ```text
//! 10 µs  17  25  35  50  70  100 µs  …  1 ms  …  100 s  170  250 s   +Inf
//! ```
//! Six buckets a decade, each at most 1.7 times as wide as what lies below it, so a
//! [quantile](Histogram::quantile) is at most that far from the truth. Prometheus is shown every
//! other end, and of each family only those that its times can reach.
//!
//! Cost: some 20 instructions a record, no division and no search: a time's highest bit says which
//! ends lie below, and two comparisons are left. 400 bytes.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::text::{Family, Seconds};

/// Ends of a decade.
const STEPS: [u64; 6] = [10, 17, 25, 35, 50, 70];

/// Ends there are: seven decades from 10 µs on, and 100, 170 and 250 s. Below lies what no request needs,
/// above what no client waits for.
const ENDS: usize = 7 * STEPS.len() + 3;

/// Upper ends of the buckets but the last, nanoseconds; behind them what no time exceeds.
const END: [u64; ENDS + 2] = {
    let mut ends = [u64::MAX; ENDS + 2];
    let mut at = 0;
    while at < ENDS {
        ends[at] = STEPS[at % STEPS.len()] * 1_000 * 10_u64.pow((at / STEPS.len()) as u32);
        at += 1;
    }
    ends
};

/// By how many bits a time has: how many ends lie below all such times.
const BELOW: [u8; 65] = {
    let mut below = [0; 65];
    let mut bits = 1;
    while bits < 65 {
        let least = 1_u64 << (bits - 1);
        let mut at = 0;
        while END[at] < least && at < ENDS {
            at += 1;
        }
        below[bits] = at as u8;
        // The comparisons of `bucket` reach the rest of them.
        let above = at + 2;
        assert!(above >= ENDS || END[above] > least - 1 + least);
        bits += 1;
    }
    below
};

/// The bucket of a time.
const fn bucket(nanos: u64) -> usize {
    let below = BELOW[(u64::BITS - nanos.leading_zeros()) as usize] as usize;
    below + (nanos > END[below]) as usize + (nanos > END[below + 1]) as usize
}

/// How often something took how long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Histogram {
    /// Counts of each bucket alone, the last without upper end.
    counts: [u64; ENDS + 1],
    sum_nanos: u128,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: [0; ENDS + 1],
            sum_nanos: 0,
        }
    }
}

impl Histogram {
    /// Counts what took so many nanoseconds.
    pub fn record(&mut self, nanos: u64) {
        self.counts[bucket(nanos)] += 1;
        self.sum_nanos += u128::from(nanos);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What they took together.
    pub fn sum(&self) -> Duration {
        let nanos = u64::try_from(self.sum_nanos).unwrap_or(u64::MAX);
        Duration::from_nanos(nanos)
    }

    /// The time that `q` (0 to 1) of them did not exceed; `None` if none was counted.
    ///
    /// Interpolated within a bucket as if its times were spread evenly: above 10 µs the result is at
    /// most 1.7 times too long or too short, mostly within a tenth; below 10 µs it is anything up to
    /// that. Above 250 s it is 250 s.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * count as f64;
        let mut before = 0;
        for (at, &alone) in self.counts.iter().enumerate() {
            if alone > 0 && (before + alone) as f64 >= rank {
                let low = if at == 0 { 0 } else { END[at - 1] };
                let high = if at == ENDS { low } else { END[at] };
                let share = ((rank - before as f64) / alone as f64).max(0.0);
                let into = (high - low) as f64 * share;
                return Some(Duration::from_nanos(low + into as u64));
            }
            before += alone;
        }
        Some(Duration::from_nanos(END[ENDS - 1]))
    }

    /// What was counted after `earlier`, a copy of this one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut rest = self.clone();
        for (count, before) in rest.counts.iter_mut().zip(earlier.counts) {
            *count = count.saturating_sub(before);
        }
        rest.sum_nanos = rest.sum_nanos.saturating_sub(earlier.sum_nanos);
        rest
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum_nanos += other.sum_nanos;
    }

    /// Appends it to `out` as `family`, with the ends 1, 2.5 and 5 of each decade that lie in `shown`.
    pub(super) fn encode(&self, family: Family, shown: RangeInclusive<Duration>, out: &mut String) {
        let mut count = 0;
        for (at, alone) in self.counts.iter().enumerate() {
            count += alone;
            let end = Duration::from_nanos(END[at]);
            if at < ENDS && at % 2 == 0 && shown.contains(&end) {
                family.sample(out, "_bucket", &[("le", &seconds(end))], count);
            }
        }
        family.sample(out, "_bucket", &[("le", "+Inf")], count);
        let micros = u64::try_from(self.sum_nanos / 1_000).unwrap_or(u64::MAX);
        family.sample(out, "_sum", &[], Seconds(micros));
        family.sample(out, "_count", &[], count);
    }
}

/// As Prometheus writes a number.
fn seconds(time: Duration) -> String {
    let text = format!("{}.{:09}", time.as_secs(), time.subsec_nanos());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::text::Kind;

    const MS: u64 = 1_000_000;

    /// The bucket by a plain search.
    fn plain(nanos: u64) -> usize {
        END[..ENDS]
            .iter()
            .position(|end| nanos <= *end)
            .unwrap_or(ENDS)
    }

    #[test]
    fn a_time_on_an_end_lies_below_it() {
        assert_eq!(END[0], 10_000);
        assert_eq!(END[ENDS - 1], 250_000_000_000);
        for (at, &end) in END[..ENDS].iter().enumerate() {
            assert_eq!((bucket(end), bucket(end + 1)), (at, at + 1));
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, ENDS));
    }

    #[test]
    fn ends_grow_by_no_more_than_what_is_promised() {
        for pair in END[..ENDS].windows(2) {
            assert!(
                pair[0] < pair[1] && pair[1] * 10 <= pair[0] * 17,
                "{pair:?}"
            );
        }
    }

    #[test]
    fn a_quantile_lies_where_its_share_of_the_times_ends() {
        let mut times = Histogram::default();
        assert_eq!(times.quantile(0.5), None);
        for ms in 1..=1_000 {
            times.record(ms * MS);
        }
        for (q, ms) in [(0.01, 10), (0.5, 500), (0.9, 900), (0.99, 990)] {
            let found = times.quantile(q).unwrap().as_millis() as i64;
            assert!((found - ms).abs() <= ms / 10 + 1, "{q}: {found}");
        }
        assert_eq!(times.quantile(2.0), times.quantile(1.0));
        assert!(times.quantile(f64::NAN).is_some());
        times.record(u64::MAX);
        assert_eq!(times.quantile(1.0), Some(Duration::from_secs(250)));
    }

    #[test]
    fn what_came_since_is_told_apart_and_merged_back() {
        let mut times = Histogram::default();
        times.record(MS);
        let before = times.clone();
        times.record(3 * MS);
        times.record(4 * MS);
        let mut since = times.since(&before);
        assert_eq!((since.count(), since.sum()), (2, Duration::from_millis(7)));
        since.merge(&before);
        assert_eq!(since, times);
    }

    #[test]
    fn what_is_written_counts_up_over_the_ends_that_are_shown() {
        let family = Family {
            name: "t",
            help: "h",
            kind: Kind::Histogram,
        };
        let mut times = Histogram::default();
        for micros in [5, 1_000, 1_700, 3_000, 900_000] {
            times.record(micros * 1_000);
        }
        let mut out = String::new();
        let shown = Duration::from_millis(1)..=Duration::from_millis(10);
        times.encode(family, shown, &mut out);
        let expected = "t_bucket{le=\"0.001\"} 2\nt_bucket{le=\"0.0025\"} 3\n\
                        t_bucket{le=\"0.005\"} 4\nt_bucket{le=\"0.01\"} 4\nt_bucket{le=\"+Inf\"} 5\n\
                        t_sum 0.905705\nt_count 5\n";
        assert_eq!(out, expected);
        assert_eq!(seconds(Duration::from_micros(10)), "0.00001");
        assert_eq!(seconds(Duration::from_secs(100)), "100");
    }

    proptest! {
        #[test]
        fn the_bucket_is_the_one_a_search_finds(nanos: u64, bits in 0_u32..64) {
            let nanos = nanos >> bits;
            prop_assert_eq!(bucket(nanos), plain(nanos));
        }

        #[test]
        fn a_quantile_is_within_its_promise(
            mut micros in prop::collection::vec(11_u64..200_000_000, 1..60),
            q in 0.0_f64..=1.0,
        ) {
            let mut times = Histogram::default();
            for &one in &micros {
                times.record(one * 1_000);
            }
            micros.sort_unstable();
            let rank = (q * micros.len() as f64).ceil() as usize;
            let truth = micros[rank.clamp(1, micros.len()) - 1] as f64;
            let found = times.quantile(q).unwrap().as_nanos() as f64 / 1_000.0;
            prop_assert!(found <= truth * 1.7 + 1.0 && found >= truth / 1.7 - 1.0,
                "{found} instead of {truth}");
        }
    }
}
