//! The oracle: what Discord saw and what it had to refuse.
//!
//! Every 429 is a violation of somebody's; `OracleReport::violations` counts those that the answers
//! foretold (bucket and global), and `unforetold` those that no header shows (shared, hidden).
//! Recording costs a few additions; the report is made when asked for.

mod log;
mod once;
mod order;

pub use log::{Arrival, Log};
pub use once::{Once, OnceReport};
pub use order::{Disorder, Order, OrderReport, Tag};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::limits::Cause;

/// Counts of one method and template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateReport {
    /// Requests of this kind.
    pub requests: u64,
    /// Those that were processed: not refused, not struck by a fault before.
    pub accepted: u64,
    /// 429s by cause.
    pub refused: BTreeMap<Cause, u64>,
}

/// What happened to connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// Accepted.
    pub opened: u64,
    /// Open at present.
    pub open: u64,
    /// The most that were open at once.
    pub open_max: u64,
    /// Full TLS handshakes.
    pub tls_full: u64,
    /// Resumed TLS handshakes.
    pub tls_resumed: u64,
    /// Connections that ended before their handshake did.
    pub tls_failed: u64,
    /// Requests that were not the first on their connection.
    pub requests_on_reused: u64,
    /// The most requests on one connection.
    pub requests_max: u64,
    /// Bytes of bodies received.
    pub body_bytes_in: u64,
    /// Bytes of bodies sent.
    pub body_bytes_out: u64,
}

/// Everything the oracle can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OracleReport {
    /// Time since start or the last reset, in milliseconds.
    pub elapsed_ms: u64,
    /// Requests that arrived, control requests aside.
    pub requests: u64,
    /// Answers by status; 0 stands for none.
    pub statuses: BTreeMap<u16, u64>,
    /// 429s that the headers foretold: causes `bucket` and `global`.
    pub violations: u64,
    /// 429s that nothing foretold: causes `shared` and `hidden`.
    pub unforetold: u64,
    /// All 429s by cause.
    pub refused: BTreeMap<Cause, u64>,
    /// By method and template.
    pub templates: BTreeMap<String, TemplateReport>,
    /// Requests by bot user id (or `other`).
    pub bots: BTreeMap<String, u64>,
    /// 401, 403 and 429 (scope `shared` aside).
    pub invalid: u64,
    /// The most invalid requests that one address has in its window now.
    pub invalid_in_window: u64,
    /// Addresses banned.
    pub bans: u64,
    /// Requests of banned addresses.
    pub banned_requests: u64,
    /// Requests that were no HTTP, or HTTP that nobody should send.
    pub malformed: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Those that struck, by name.
    pub struck: BTreeMap<String, u64>,
    /// Which named requests were processed, and how often.
    pub once: OnceReport,
    /// Order per lane.
    pub order: OrderReport,
    /// Connections.
    pub connections: ConnectionReport,
}

/// One judged request.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// Index of method and template.
    pub op: usize,
    /// Status answered, zero for none.
    pub status: u16,
    /// Why it was refused.
    pub refused: Option<Cause>,
    /// Whether it was processed.
    pub accepted: bool,
}

/// Counts as they grow.
#[derive(Debug, Default)]
pub struct Oracle {
    /// Connection counts, kept by the server.
    pub connections: ConnectionReport,
    /// Order per lane.
    pub order: Order,
    /// The last arrivals.
    pub log: Log,
    /// Requests of banned addresses.
    pub banned_requests: u64,
    /// Addresses banned.
    pub bans: u64,
    /// Invalid requests.
    pub invalid: u64,
    /// Malformed requests.
    pub malformed: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Those, by name.
    pub struck: BTreeMap<String, u64>,
    /// Which named requests were processed.
    pub once: Once,
    requests: u64,
    statuses: BTreeMap<u16, u64>,
    ops: Vec<TemplateReport>,
}

impl Oracle {
    /// Counts one request.
    pub fn record(&mut self, judged: Judged) {
        self.requests += 1;
        *self.statuses.entry(judged.status).or_default() += 1;
        if self.ops.len() <= judged.op {
            self.ops.resize_with(judged.op + 1, TemplateReport::default);
        }
        let op = &mut self.ops[judged.op];
        op.requests += 1;
        op.accepted += u64::from(judged.accepted);
        if let Some(cause) = judged.refused {
            *op.refused.entry(cause).or_default() += 1;
        }
    }

    /// Forgets all but the connections that are open and how much is logged.
    pub fn clear(&mut self) {
        let mut log = std::mem::take(&mut self.log);
        log.clear();
        let open = self.connections.open;
        let connections = ConnectionReport {
            open,
            open_max: open,
            ..Default::default()
        };
        *self = Self {
            connections,
            log,
            ..Self::default()
        };
    }

    /// The report; `names[i]` names op `i`.
    pub fn report<'a>(&self, names: impl Iterator<Item = &'a str>) -> OracleReport {
        let mut refused: BTreeMap<Cause, u64> = BTreeMap::new();
        for (cause, n) in self.ops.iter().flat_map(|op| &op.refused) {
            *refused.entry(*cause).or_default() += n;
        }
        let sum = |causes: &[Cause]| causes.iter().filter_map(|c| refused.get(c)).sum();
        let seen = names.zip(&self.ops).filter(|(_, op)| op.requests > 0);
        OracleReport {
            elapsed_ms: 0,
            requests: self.requests,
            statuses: self.statuses.clone(),
            violations: sum(&[Cause::Bucket, Cause::Global]),
            unforetold: sum(&[Cause::Shared, Cause::Hidden]),
            templates: seen
                .map(|(name, op)| (name.to_owned(), op.clone()))
                .collect(),
            bots: BTreeMap::new(),
            invalid: self.invalid,
            invalid_in_window: 0,
            bans: self.bans,
            banned_requests: self.banned_requests,
            malformed: self.malformed,
            faults: self.faults,
            struck: self.struck.clone(),
            once: self.once.report().clone(),
            order: self.order.report(),
            connections: self.connections.clone(),
            refused,
        }
    }
}
