//! `nirn_proxy_open_connections`: requests under way, by method and route.

use std::collections::HashMap;

use ahash::RandomState;

use super::OTHER;
use super::text::{Family, Kind};

/// Series of one table: some ten methods on 200 routes. Past that the route is `other`.
pub const OPEN_SERIES_MAX: usize = 2_048;

const FAMILY: Family = Family {
    name: "nirn_proxy_open_connections",
    help: "Requests of clients that are under way",
    kind: Kind::Gauge,
};

/// A request that was counted as under way; to be given back to the table it came from.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "what is not closed counts as open for ever"]
pub struct OpenSlot(usize);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Labels {
    method: &'static str,
    route: String,
}

/// All series of a table. They stay at 0 when nothing is under way, as nirn-proxy's do.
#[derive(Clone, Debug)]
pub(super) struct OpenRequests {
    /// Invariant: every value is an index into `counts`; at most [`OPEN_SERIES_MAX`].
    by_key: HashMap<(&'static str, u64), usize, RandomState>,
    /// Invariant: a bijection onto the indices of `counts`.
    by_labels: HashMap<Labels, usize, RandomState>,
    counts: Vec<u64>,
}

impl OpenRequests {
    pub(super) fn new(state: RandomState) -> Self {
        Self {
            by_key: HashMap::with_hasher(state.clone()),
            by_labels: HashMap::with_hasher(state),
            counts: Vec::new(),
        }
    }

    pub(super) fn open(
        &mut self,
        method: &'static str,
        route: u64,
        label: impl FnOnce() -> String,
    ) -> OpenSlot {
        let series = match self.by_key.get(&(method, route)) {
            Some(&series) => series,
            None => self.admit(method, route, label()),
        };
        self.counts[series] = self.counts[series].saturating_add(1);
        OpenSlot(series)
    }

    #[cold]
    fn admit(&mut self, method: &'static str, route: u64, label: String) -> usize {
        if self.by_key.len() >= OPEN_SERIES_MAX {
            return self.of_labels(Labels {
                method,
                route: OTHER.to_owned(),
            });
        }
        let series = self.of_labels(Labels {
            method,
            route: label,
        });
        self.by_key.insert((method, route), series);
        series
    }

    fn of_labels(&mut self, labels: Labels) -> usize {
        *self.by_labels.entry(labels).or_insert_with(|| {
            self.counts.push(0);
            self.counts.len() - 1
        })
    }

    #[expect(clippy::needless_pass_by_value, reason = "a slot is closed once")]
    pub(super) fn close(&mut self, slot: OpenSlot) {
        if let Some(count) = self.counts.get_mut(slot.0) {
            *count = count.saturating_sub(1);
        }
    }

    pub(super) fn sum(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (labels, &theirs) in &other.by_labels {
            let ours = self.of_labels(labels.clone());
            self.counts[ours] = self.counts[ours].saturating_add(other.counts[theirs]);
        }
    }

    pub(super) fn encode(&self, out: &mut String) {
        FAMILY.head(out);
        let mut sorted: Vec<_> = self.by_labels.iter().collect();
        sorted.sort_unstable_by_key(|(labels, _)| *labels);
        for (Labels { method, route }, &series) in sorted {
            let shown = [("method", *method), ("route", route.as_str())];
            FAMILY.sample(out, "", &shown, self.counts[series]);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.by_labels.len(), self.counts.len());
        self.counts.len()
    }
}
