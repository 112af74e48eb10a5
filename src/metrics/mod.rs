//! What Prometheus is told: nirn-proxy's metrics under nirn-proxy's names, and weir's own.
//!
//! Each worker owns a [`Table`] and a [`Counters`] and counts without locks; for a scrape they are
//! copied, [merged](Table::merge) and [written](Table::encode) in the text format 0.0.4. The
//! format is written by hand because prometheus-client appends `_total` to every counter, so it
//! cannot say `nirn_proxy_error`, and dashboards made for nirn-proxy must go on working.
//!
//! | metric | labels |
//! |---|---|
//! | `nirn_proxy_error` | |
//! | `nirn_proxy_requests` (histogram, seconds the upstream took) | `method`, `status`, `route`, `clientId` |
//! | `nirn_proxy_open_connections` (requests under way) | `method`, `route` |
//! | `nirn_proxy_requests_routed_sent`, `…_received`, `…_error` (counters) | |
//!
//! Weir's own (`weir_*`, `process_*`) are in `docs/metrics.md`, which a test holds against a scrape. Times
//! are [`Histogram`]s without labels; what labels have values of the sender's choosing is bounded.
//!
//! `status` has the reason phrase (`200 OK`), and is `429 Shared` for a 429 of scope `shared`.
//! `clientId` is a bot's user id, `Bearer`, `NoAuth` or `Unknown`; nirn-proxy says a bot's name
//! there, which it has to ask Discord for.
//!
//! **Cardinality is bounded**, since paths and tokens are the sender's to choose: a table holds at
//! most [`SERIES_MAX`] series. Past three quarters of it new series lose their route, past seven
//! eighths their client too, both becoming `other`; series that exist go on in full.
//!
//! Cost: one hash look-up a record, 13 ns; labels are copied once a series; a full table is written
//! in 6 ms (`cargo bench --bench metrics`).

mod admin;
mod causes;
mod cluster;
mod counters;
mod fleet;
mod forward;
mod gauge;
mod guards;
mod histogram;
mod pool;
mod relay;
mod requests;
mod shown;
mod starts;
mod system;
mod text;
mod tls;

pub use admin::{AdminRefusal, AdminRefused, encode_access};
pub use causes::{Refusal, Retry, Scope};
pub use cluster::Cluster;
pub use counters::Counters;
pub use fleet::{FleetCounters, Standing};
pub use forward::{Forward, ForwardRefusal, HostTally};
pub use gauge::{OPEN_SERIES_MAX, OpenSlot};
pub use guards::encode_guards;
pub use histogram::Histogram;
pub use pool::Pool;
pub use relay::Relay;
pub use requests::{SERIES_MAX, SeriesKey};
pub use shown::Named;
pub use starts::encode_starts;
pub use system::{HandOffs, System, WorkerUse};
pub use tls::{HandshakeFailure, Tls};

use std::time::Duration;

use gauge::OpenRequests;
use requests::Requests;
use text::{Family, Kind};

/// What stands for a label that there was no room for.
const OTHER: &str = "other";

/// nirn-proxy's metrics of one worker, or of all once merged.
#[derive(Clone, Debug)]
pub struct Table {
    errors: u64,
    requests: Requests,
    open: OpenRequests,
}

impl Table {
    /// An empty table, hashing under these seeds.
    pub fn with_seeds(seeds: [u64; 4]) -> Self {
        let [a, b, c, d] = seeds;
        let state = ahash::RandomState::with_seeds(a, b, c, d);
        Self {
            errors: 0,
            requests: Requests::new(state.clone()),
            open: OpenRequests::new(state),
        }
    }

    /// Counts an answered request that took the upstream `elapsed`.
    ///
    /// `labels` gives route and client as they shall be shown; it is asked only when `key` is new.
    pub fn record(
        &mut self,
        key: SeriesKey,
        labels: impl FnOnce() -> (String, String),
        elapsed: Duration,
    ) {
        self.requests.record(key, labels, elapsed);
    }

    /// Counts a request that failed in the proxy.
    pub fn record_error(&mut self) {
        self.errors = self.errors.saturating_add(1);
    }

    /// Counts a request as under way, until [`Table::close`] is called with what is returned.
    ///
    /// `route` is the key of the label that `label` gives; it is asked only when they are new.
    pub fn open(
        &mut self,
        method: &'static str,
        route: u64,
        label: impl FnOnce() -> String,
    ) -> OpenSlot {
        self.open.open(method, route, label)
    }

    /// Ends what [`Table::open`] of the same table began.
    pub fn close(&mut self, slot: OpenSlot) {
        self.open.close(slot);
    }

    /// How many requests are under way.
    pub fn under_way(&self) -> u64 {
        self.open.sum()
    }

    /// Adds the numbers of `other`. The caps do not hold here: what is merged is bounded already,
    /// and a cap would let series change names from scrape to scrape.
    pub fn merge(&mut self, other: &Self) {
        self.errors = self.errors.saturating_add(other.errors);
        self.requests.merge(&other.requests);
        self.open.merge(&other.open);
    }

    /// About how many bytes [`Table::encode`] writes.
    pub fn text_bytes(&self) -> usize {
        // Of a histogram, nine lines of at most some 140 bytes.
        (self.requests.series() + 1) * 9 * 140
    }

    /// Appends everything to `out` in the text format 0.0.4, series sorted by their labels.
    pub fn encode(&self, out: &mut String) {
        let errors = Family {
            name: "nirn_proxy_error",
            help: "Requests that failed in the proxy",
            kind: Kind::Counter,
        };
        errors.head(out);
        errors.sample(out, "", &[], self.errors);
        self.requests.encode(out);
        self.open.encode(out);
    }
}

#[cfg(test)]
mod tests;
