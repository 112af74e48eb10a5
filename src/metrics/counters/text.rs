//! The counters as Prometheus reads them.

use std::time::Duration;

use super::{Counters, INVALID};
use crate::error::{self, Side};
use crate::metrics::causes::{Refusal, Retry, Scope};
use crate::metrics::text::{Family, Kind};

impl Counters {
    /// Appends everything to `out` in the text format 0.0.4.
    pub fn encode(&self, out: &mut String) {
        let gauge = |name, help| Family {
            name,
            help,
            kind: Kind::Gauge,
        };
        gauge(
            "weir_requests_waiting",
            "Requests that wait for a rate limit now",
        )
        .one(out, self.waiting.max(0));
        gauge(
            "weir_client_connections",
            "Connections of clients that are open now",
        )
        .one(out, self.clients.max(0));
        self.encode_plain(out);
        self.encode_times(out);
        self.encode_causes(out);
        self.pool.encode(out);
        self.tls.encode(out);
        self.relay.encode(out);
    }

    fn encode_plain(&self, out: &mut String) {
        for (name, help, value) in [
            (
                "weir_requests_waited_total",
                "Requests that had to wait for a rate limit, once for each wait",
                self.waited,
            ),
            (
                "weir_429s_avoided_total",
                "Requests held back from a limit that was used up, an estimate of 429s avoided",
                self.held_back,
            ),
            (
                "weir_client_connections_accepted_total",
                "Connections of clients that were accepted",
                self.clients_accepted,
            ),
        ] {
            let kind = Kind::Counter;
            Family { name, help, kind }.one(out, value);
        }
    }

    fn encode_times(&self, out: &mut String) {
        let seconds = Duration::from_secs_f64;
        for (name, help, times, shown) in [
            (
                "weir_queue_wait_seconds",
                "How long requests waited for a rate limit before they were sent; 0 if they did not",
                &self.queue_wait,
                seconds(0.001)..=seconds(250.0),
            ),
            (
                "weir_added_seconds",
                "From a request's head to its first byte to Discord, without the wait for limits",
                &self.added,
                seconds(0.000_01)..=seconds(5.0),
            ),
            (
                "weir_upstream_seconds",
                "From a request's first byte to Discord to the head of the answer, each attempt by itself",
                &self.upstream,
                seconds(0.001)..=seconds(100.0),
            ),
        ] {
            let kind = Kind::Histogram;
            let family = Family { name, help, kind };
            family.head(out);
            times.encode(family, shown, out);
        }
    }

    fn encode_causes(&self, out: &mut String) {
        let refused = Refusal::LABELS.iter().zip(self.refused);
        by(
            out,
            (
                "weir_refused_total",
                "Requests and connections that weir refused, with the status that it answered",
            ),
            refused.map(|((reason, status), count)| {
                ([("status", *status), ("reason", *reason)], count)
            }),
        );
        let limited = Scope::LABELS.iter().zip(self.upstream_429);
        by(
            out,
            (
                "weir_upstream_429_total",
                "429s of Discord by whose limit it was, handed to the client or absorbed and sent again",
            ),
            limited.flat_map(|(scope, counts)| {
                let outcomes = ["passed", "absorbed"].into_iter().zip(counts);
                outcomes.map(|(outcome, count)| ([("scope", *scope), ("outcome", outcome)], count))
            }),
        );
        let kind = Kind::Counter;
        let retries = Retry::LABELS.into_iter().zip(self.retried);
        Family {
            name: "weir_retries_total",
            help: "Requests sent once more: after a 429, or because a pooled connection was dead",
            kind,
        }
        .by(out, "cause", &retries.collect::<Vec<_>>());
        let invalid = INVALID.iter().map(|(_, label)| *label).zip(self.invalid);
        Family {
            name: "weir_invalid_requests_total",
            help: "Answers that Discord counts as invalid requests of the egress IP",
            kind,
        }
        .by(out, "status", &invalid.collect::<Vec<_>>());
        let errors = error::Kind::ALL.iter().zip(self.errors);
        by(
            out,
            (
                "weir_errors_total",
                "Exchanges that went wrong, and on whose side: client, upstream, or us",
            ),
            errors.map(|(kind, count)| {
                let side = match kind.side() {
                    Side::Client => "client",
                    Side::Upstream => "upstream",
                    Side::Us => "us",
                };
                ([("kind", kind.label()), ("side", side)], count)
            }),
        );
    }
}

/// Writes a counter with a sample for each set of labels.
fn by<'l, const N: usize>(
    out: &mut String,
    (name, help): (&'static str, &'static str),
    samples: impl Iterator<Item = ([(&'l str, &'l str); N], u64)>,
) {
    let kind = Kind::Counter;
    let family = Family { name, help, kind };
    family.head(out);
    for (labels, value) in samples {
        family.sample(out, "", &labels, value);
    }
}
