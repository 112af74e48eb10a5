//! What nodes of a cluster hand each other: nirn-proxy's three counters, and what it does not tell.

use std::time::Duration;

use super::text::{Family, Kind, Seconds};

/// Upper ends of the histogram's buckets, microseconds and as written. A relayed request takes what
/// Discord takes, so most are between 50 ms and a second; below are answers that the other node makes
/// itself.
const BUCKETS: [(u64, &str); 11] = [
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (10_000, "0.01"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (20_000_000, "20"),
];

/// Counts of relayed requests. The fields are to be counted up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Relay {
    /// Requests that another node answered.
    pub sent: u64,
    /// Requests that another node sent here.
    pub received: u64,
    /// Attempts to have another node answer that failed.
    pub failed: u64,
    /// Requests that went on to another owner, or here, after such a failure.
    pub taken_over: u64,
    /// Shards that were asked for at the node that their bot belongs to.
    pub identifies: u64,
    /// Connections that claimed to be another node's and could not show it.
    pub unproven: u64,
    histogram: [u64; BUCKETS.len() + 1],
    micros: u64,
}

impl Relay {
    /// Counts a request that another node answered `took` after it was sent there.
    pub fn answered(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sent += 1;
        let bucket = BUCKETS.iter().position(|(end, _)| micros <= *end);
        self.histogram[bucket.unwrap_or(BUCKETS.len())] += 1;
        self.micros = self.micros.saturating_add(micros);
    }

    /// Adds the numbers of `other`.
    pub(super) fn merge(&mut self, other: &Self) {
        // Named in full, so that a new field cannot be forgotten here.
        let Self {
            sent,
            received,
            failed,
            taken_over,
            identifies,
            unproven,
            histogram,
            micros,
        } = self;
        *sent += other.sent;
        *received += other.received;
        *failed += other.failed;
        *taken_over += other.taken_over;
        *identifies += other.identifies;
        *unproven += other.unproven;
        *micros = micros.saturating_add(other.micros);
        for (count, more) in histogram.iter_mut().zip(other.histogram) {
            *count += more;
        }
    }

    /// Appends everything to `out` in the text format 0.0.4.
    pub(super) fn encode(&self, out: &mut String) {
        for (name, help, value) in [
            (
                "nirn_proxy_requests_routed_sent",
                "Requests that this node sent to the node that owns their bot",
                self.sent,
            ),
            (
                "nirn_proxy_requests_routed_received",
                "Requests that other nodes sent here",
                self.received,
            ),
            (
                "nirn_proxy_requests_routed_error",
                "Requests that could not be sent to the node that owns their bot",
                self.failed,
            ),
            (
                "weir_relay_taken_over_total",
                "Requests that went on elsewhere after the node that they were routed to failed",
                self.taken_over,
            ),
            (
                "weir_identify_relayed_total",
                "Shards that were asked for at the node that their bot belongs to",
                self.identifies,
            ),
            (
                "weir_relay_unproven_total",
                "Connections that claimed to be another node's and could not show it",
                self.unproven,
            ),
        ] {
            let family = Family {
                name,
                help,
                kind: Kind::Counter,
            };
            family.head(out);
            family.sample(out, "", &[], value);
        }
        let family = Family {
            name: "weir_relay_seconds",
            help: "Seconds from routing a request into another node to the head of its answer",
            kind: Kind::Histogram,
        };
        family.head(out);
        let mut count = 0_u64;
        let ends = BUCKETS.iter().map(|(_, end)| *end).chain(["+Inf"]);
        for (end, alone) in ends.zip(self.histogram) {
            count += alone;
            family.sample(out, "_bucket", &[("le", end)], count);
        }
        family.sample(out, "_sum", &[], Seconds(self.micros));
        family.sample(out, "_count", &[], count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_in_its_bucket_and_all_above() {
        let mut relay = Relay::default();
        relay.answered(Duration::from_millis(1));
        relay.answered(Duration::from_micros(1_001));
        let mut other = Relay::default();
        other.answered(Duration::from_secs(60));
        other.received = 2;
        relay.merge(&other);
        let mut text = String::new();
        relay.encode(&mut text);
        for line in [
            "# TYPE nirn_proxy_requests_routed_sent counter",
            "nirn_proxy_requests_routed_sent 3",
            "nirn_proxy_requests_routed_received 2",
            "nirn_proxy_requests_routed_error 0",
            "weir_relay_seconds_bucket{le=\"0.001\"} 1",
            "weir_relay_seconds_bucket{le=\"0.0025\"} 2",
            "weir_relay_seconds_bucket{le=\"20\"} 2",
            "weir_relay_seconds_bucket{le=\"+Inf\"} 3",
            "weir_relay_seconds_sum 60.002001",
            "weir_relay_seconds_count 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
