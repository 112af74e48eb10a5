//! `nirn_proxy_requests`: how long the upstream took, by method, status, route and client.
//!
//! A record is found by its [`SeriesKey`], which is hashed numbers alone. Behind the keys stand
//! the labels: two keys with the same labels (the classes of one route text) are one series, since
//! Prometheus refuses a scrape that holds a series twice.

use std::collections::HashMap;
use std::time::Duration;

use ahash::RandomState;

use super::OTHER;
use super::text::{Family, Kind, Seconds, status_label};

/// Series of one table. 8,192 are some 6 MB of text a scrape, about what Prometheus takes of one
/// target without complaint; a fleet of 100 bots on 15 routes with 3 methods and statuses has half.
pub const SERIES_MAX: usize = 8_192;
/// Series that show their route: three quarters, so that a flood of paths leaves room.
const WITH_ROUTE_MAX: usize = SERIES_MAX / 4 * 3;
/// Series that show their client: seven eighths, so that a flood of tokens leaves room.
const WITH_CLIENT_MAX: usize = SERIES_MAX / 8 * 7;
/// Keys that lead to series. Twice the series, because several keys may lead to one; a key past
/// that is looked up by its labels, which is slower and nothing worse.
const KEYS_MAX: usize = SERIES_MAX * 2;

const _: () = assert!(WITH_ROUTE_MAX < WITH_CLIENT_MAX && WITH_CLIENT_MAX < SERIES_MAX - 1);

/// Upper ends of the histogram's buckets, nirn-proxy's.
const BUCKETS: [(Duration, &str); 6] = [
    (Duration::from_millis(100), "0.1"),
    (Duration::from_millis(250), "0.25"),
    (Duration::from_millis(1_000), "1"),
    (Duration::from_millis(2_500), "2.5"),
    (Duration::from_millis(5_000), "5"),
    (Duration::from_millis(20_000), "20"),
];

const FAMILY: Family = Family {
    name: "nirn_proxy_requests",
    help: "Seconds that the upstream took to answer requests",
    kind: Kind::Histogram,
};

/// What a record is counted under.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SeriesKey {
    /// The method's name; one of few, so that methods cannot be flooded.
    pub method: &'static str,
    /// The answer's status code.
    pub status: u16,
    /// Whether a 429 was of scope `shared`.
    pub shared: bool,
    /// A number for the route's label: equal labels, equal numbers.
    pub route: u64,
    /// A number for the client's label: equal labels, equal numbers.
    pub client: u64,
}

/// The labels of one series.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Labels {
    route: String,
    client: String,
    method: &'static str,
    /// 0 for a series of all statuses that there was no room for.
    status: u16,
    shared: bool,
}

#[derive(Clone, Copy, Default, Debug)]
struct Histogram {
    /// Counts of each bucket alone, the last without upper end.
    counts: [u64; BUCKETS.len() + 1],
    sum_micros: u64,
}

impl Histogram {
    fn observe(&mut self, elapsed: Duration) {
        let bucket = BUCKETS
            .iter()
            .position(|(end, _)| elapsed <= *end)
            .unwrap_or(BUCKETS.len());
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }

    fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
    }
}

/// All series of a table.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    /// Invariant: every value is an index into `histograms`; at most [`KEYS_MAX`].
    by_key: HashMap<SeriesKey, usize, RandomState>,
    /// Invariant: a bijection onto the indices of `histograms`.
    by_labels: HashMap<Labels, usize, RandomState>,
    histograms: Vec<Histogram>,
}

impl Requests {
    pub(super) fn new(state: RandomState) -> Self {
        Self {
            by_key: HashMap::with_hasher(state.clone()),
            by_labels: HashMap::with_hasher(state),
            histograms: Vec::new(),
        }
    }

    pub(super) fn record(
        &mut self,
        key: SeriesKey,
        labels: impl FnOnce() -> (String, String),
        elapsed: Duration,
    ) {
        let series = match self.by_key.get(&key) {
            Some(&series) => series,
            None => {
                let (route, client) = labels();
                self.admit(key, route, client)
            }
        };
        self.histograms[series].observe(elapsed);
    }

    /// The series for a key that is not known yet.
    #[cold]
    fn admit(&mut self, key: SeriesKey, route: String, client: String) -> usize {
        let SeriesKey { method, status, .. } = key;
        // Only a 429's label says that it is shared.
        let shared = key.shared && status == 429;
        let mut labels = Labels {
            route,
            client,
            method,
            status,
            shared,
        };
        let mut series = self.by_labels.get(&labels).copied();
        if series.is_none() && self.histograms.len() >= WITH_ROUTE_MAX {
            labels.route = OTHER.to_owned();
            series = self.by_labels.get(&labels).copied();
        }
        if series.is_none() && self.histograms.len() >= WITH_CLIENT_MAX {
            labels.client = OTHER.to_owned();
            series = self.by_labels.get(&labels).copied();
        }
        if series.is_none() && self.histograms.len() >= SERIES_MAX - 1 {
            // Only an upstream that makes up statuses comes here; the last series takes them all.
            labels = Labels {
                method: OTHER,
                status: 0,
                shared: false,
                ..labels
            };
        }
        let series = series.unwrap_or_else(|| self.of_labels(labels));
        if self.by_key.len() < KEYS_MAX {
            self.by_key.insert(key, series);
        }
        series
    }

    fn of_labels(&mut self, labels: Labels) -> usize {
        *self.by_labels.entry(labels).or_insert_with(|| {
            self.histograms.push(Histogram::default());
            self.histograms.len() - 1
        })
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (labels, &theirs) in &other.by_labels {
            let ours = match self.by_labels.get(labels) {
                Some(&ours) => ours,
                None => self.of_labels(labels.clone()),
            };
            self.histograms[ours].add(&other.histograms[theirs]);
        }
    }

    /// How many answers each series has had, by its status.
    pub(super) fn by_status(&self) -> impl Iterator<Item = (u16, u64)> {
        self.by_labels.iter().map(|(labels, &series)| {
            let count = self.histograms[series].counts.iter().sum();
            (labels.status, count)
        })
    }

    pub(super) fn series(&self) -> usize {
        self.histograms.len()
    }

    pub(super) fn encode(&self, out: &mut String) {
        FAMILY.head(out);
        let mut sorted: Vec<_> = self.by_labels.iter().collect();
        sorted.sort_unstable_by_key(|(labels, _)| *labels);
        for (labels, &series) in sorted {
            let status = status_label(labels.status, labels.shared);
            let mut shown = [
                ("clientId", labels.client.as_str()),
                ("method", labels.method),
                ("route", &labels.route),
                ("status", &status),
                ("le", ""),
            ];
            let histogram = &self.histograms[series];
            let mut count = 0_u64;
            let ends = BUCKETS.iter().map(|(_, end)| *end).chain(["+Inf"]);
            for (end, alone) in ends.zip(histogram.counts) {
                count = count.saturating_add(alone);
                shown[4].1 = end;
                FAMILY.sample(out, "_bucket", &shown, count);
            }
            FAMILY.sample(out, "_sum", &shown[..4], Seconds(histogram.sum_micros));
            FAMILY.sample(out, "_count", &shown[..4], count);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.by_labels.len(), self.histograms.len());
        assert!(self.by_key.len() <= KEYS_MAX);
        self.histograms.len()
    }
}
