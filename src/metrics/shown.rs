//! The numbers by name, for those who show them otherwise than Prometheus does. What is 0 is left out.

use std::collections::BTreeMap;

use super::causes::{Refusal, Scope};
use super::counters::Counters;
use super::tls::Tls;
use super::{Requests, Table};
use crate::error::{self, Side};

/// Counts by name.
pub type Named = BTreeMap<String, u64>;

fn named<'n>(counts: impl Iterator<Item = (&'n str, u64)>) -> Named {
    let some = counts.filter(|(_, count)| *count > 0);
    some.map(|(name, count)| (name.to_owned(), count)).collect()
}

impl Table {
    /// Answers of the upstream by class of status: `2xx` and so on; `other` for what has none.
    pub fn answered(&self) -> Named {
        self.requests.by_class()
    }
}

impl Requests {
    fn by_class(&self) -> Named {
        let mut classes = [0; 6];
        for (status, count) in self.by_status() {
            classes[usize::from(status / 100).min(6) % 6] += count;
        }
        let names = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];
        named(names.into_iter().zip(classes))
    }
}

impl Counters {
    /// Refusals by reason.
    pub fn refused_by_reason(&self) -> Named {
        let labels = Refusal::LABELS.iter().map(|(label, _)| *label);
        named(labels.zip(self.refused))
    }

    /// 429s of the upstream by scope, those that were absorbed among them.
    pub fn limited_by_scope(&self) -> Named {
        let counts = self.upstream_429.iter().map(|both| both.iter().sum());
        named(Scope::LABELS.into_iter().zip(counts))
    }

    /// Requests that were sent once more, for whatever reason.
    pub fn retried_in_all(&self) -> u64 {
        self.retried.iter().sum()
    }

    /// What went wrong, by kind; of one side alone, or of all.
    pub fn errors_of(&self, side: Option<Side>) -> Named {
        let all = error::Kind::ALL.into_iter().zip(self.errors);
        let of_side = all.filter(|(kind, _)| side.is_none_or(|side| kind.side() == side));
        named(of_side.map(|(kind, count)| (kind.label(), count)))
    }
}

impl Tls {
    /// Handshakes that came to nothing, for whatever reason.
    pub fn failed_in_all(&self) -> u64 {
        self.failed.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::{Retry, SeriesKey};

    fn of<const N: usize>(counts: [(&str, u64); N]) -> Named {
        counts.map(|(name, count)| (name.to_owned(), count)).into()
    }

    #[test]
    fn answers_are_told_by_class() {
        let mut table = Table::with_seeds([1; 4]);
        for (status, route) in [
            (200, 1),
            (204, 1),
            (204, 2),
            (429, 1),
            (502, 1),
            (0, 1),
            (999, 1),
        ] {
            let key = SeriesKey {
                method: "GET",
                status,
                shared: false,
                route,
                client: 1,
            };
            let labels = || (route.to_string(), "1".to_owned());
            table.record(key, labels, Duration::from_millis(1));
        }
        let expected = of([("2xx", 3), ("4xx", 1), ("5xx", 1), ("other", 2)]);
        assert_eq!(table.answered(), expected);
    }

    #[test]
    fn what_happened_is_told_by_name_and_what_did_not_is_left_out() {
        let mut counters = Counters::default();
        counters.refuse(Refusal::BucketFull);
        counters.receive_429(Scope::Shared, false);
        counters.receive_429(Scope::Shared, true);
        counters.retry(Retry::Stale);
        counters.fail(error::Kind::ClientGone);
        counters.fail(error::Kind::Dns);
        assert_eq!(counters.refused_by_reason(), of([("bucket_full", 1)]));
        assert_eq!(counters.limited_by_scope(), of([("shared", 2)]));
        assert_eq!(counters.retried_in_all(), 2);
        assert_eq!(counters.errors_of(None).len(), 2);
        let dns = error::Kind::Dns.label();
        assert_eq!(counters.errors_of(Some(Side::Upstream)), of([(dns, 1)]));
    }
}
