//! The forward proxy's numbers, by host and by the reason of a refusal.
//!
//! | metric | labels |
//! |---|---|
//! | `weir_forward_connections` (upstream connections now) | `host` |
//! | `weir_forward_waiting` (clients that wait for a slot) | `host` |
//! | `weir_forward_opened_total` | `host` |
//! | `weir_forward_rejected_total` (over the cap) | `host` |
//! | `weir_forward_waited_total` (had to wait) | `host` |
//! | `weir_forward_bytes_total` | `host`, `direction`: `sent` to it or `received` |
//! | `weir_forward_clients` (connections to the forward proxy) | |
//! | `weir_forward_refused_total` (whatever was not served) | `reason` |
//!
//! With Redis, also what [`FleetCounters`] says; the table above is of this proxy alone all the same.
//!
//! Hosts are the sender's to choose, so only so many are named; the others are `other` together.

use super::OTHER;
use super::fleet::FleetCounters;
use super::text::{Family, Kind};

/// What one host has had.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HostTally {
    /// Connections now.
    pub active: u64,
    /// Clients that wait for one now.
    pub waiting: u64,
    /// Connections that were opened.
    pub opened: u64,
    /// Refused for the cap, at once or after waiting.
    pub refused: u64,
    /// Had to wait.
    pub waited: u64,
    /// Bytes sent to it.
    pub sent_bytes: u64,
    /// Bytes received from it.
    pub received_bytes: u64,
}

impl HostTally {
    /// So many of those that were taken for connections wait for one.
    pub fn wait_instead(&mut self, count: u64) {
        let count = count.min(self.active);
        self.active -= count;
        self.waiting += count;
    }

    /// Adds another host's.
    pub fn add(&mut self, other: &Self) {
        self.active += other.active;
        self.waiting += other.waiting;
        self.opened += other.opened;
        self.refused += other.refused;
        self.waited += other.waited;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
    }
}

/// Why the forward proxy did not serve somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForwardRefusal {
    /// The host has as many connections as it may.
    Full,
    /// No slot came free in time.
    WaitedTooLong,
    /// Too many wait, or too many hosts have connections.
    Bound,
    /// The limiter that is shared with other proxies is out of reach.
    Shared,
    /// The rules do not allow that host or address.
    Forbidden,
    /// No or wrong credentials.
    Unauthorized,
    /// The client's address is not allowed.
    Address,
    /// No place for another client.
    ConnectionsFull,
    /// The request could not be understood.
    Malformed,
    /// The host has no address.
    Dns,
    /// The host did not accept.
    Unreachable,
    /// The host did not accept in time.
    ConnectTimeout,
    /// The host closed or broke the exchange.
    Broken,
    /// The proxy is ending.
    Draining,
}

impl ForwardRefusal {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Full,
        Self::WaitedTooLong,
        Self::Bound,
        Self::Shared,
        Self::Forbidden,
        Self::Unauthorized,
        Self::Address,
        Self::ConnectionsFull,
        Self::Malformed,
        Self::Dns,
        Self::Unreachable,
        Self::ConnectTimeout,
        Self::Broken,
        Self::Draining,
    ];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::WaitedTooLong => "waited_too_long",
            Self::Bound => "bound",
            Self::Shared => "shared",
            Self::Forbidden => "forbidden",
            Self::Unauthorized => "unauthorized",
            Self::Address => "address",
            Self::ConnectionsFull => "connections_full",
            Self::Malformed => "malformed",
            Self::Dns => "dns",
            Self::Unreachable => "unreachable",
            Self::ConnectTimeout => "connect_timeout",
            Self::Broken => "broken",
            Self::Draining => "draining",
        }
    }
}

/// The numbers of one forward proxy.
#[derive(Debug)]
pub struct Forward<'a> {
    /// Of each host that is named.
    pub hosts: &'a [(&'a str, HostTally)],
    /// Of all others together.
    pub others: HostTally,
    /// Connections of clients now.
    pub clients: u64,
    /// How often, by [`ForwardRefusal::ALL`].
    pub refused: [u64; ForwardRefusal::ALL.len()],
    /// Of the fleet, if caps are shared.
    pub fleet: Option<FleetCounters>,
}

impl Forward<'_> {
    /// Appends everything to `out` in the text format 0.0.4.
    pub fn encode(&self, out: &mut String) {
        let gauge = |name, help| Family {
            name,
            help,
            kind: Kind::Gauge,
        };
        let counter = |name, help| Family {
            name,
            help,
            kind: Kind::Counter,
        };
        type Of = fn(&HostTally) -> u64;
        let by_host: [(Family, Of); 5] = [
            (
                gauge(
                    "weir_forward_connections",
                    "Connections of the forward proxy to a host now",
                ),
                |tally| tally.active,
            ),
            (
                gauge(
                    "weir_forward_waiting",
                    "Clients of the forward proxy that wait for a connection to a host now",
                ),
                |tally| tally.waiting,
            ),
            (
                counter(
                    "weir_forward_opened_total",
                    "Connections that the forward proxy opened to a host",
                ),
                |tally| tally.opened,
            ),
            (
                counter(
                    "weir_forward_rejected_total",
                    "Connections that the forward proxy refused because a host has as many as it may",
                ),
                |tally| tally.refused,
            ),
            (
                counter(
                    "weir_forward_waited_total",
                    "Clients of the forward proxy that had to wait for a connection to a host",
                ),
                |tally| tally.waited,
            ),
        ];
        for (family, of) in by_host {
            family.head(out);
            for (host, tally) in self.all() {
                family.sample(out, "", &[("host", host)], of(&tally));
            }
        }
        let bytes = counter(
            "weir_forward_bytes_total",
            "Bytes that the forward proxy sent to a host and received from it",
        );
        bytes.head(out);
        for (host, tally) in self.all() {
            for (direction, count) in [
                ("sent", tally.sent_bytes),
                ("received", tally.received_bytes),
            ] {
                let labels = [("host", host), ("direction", direction)];
                bytes.sample(out, "", &labels, count);
            }
        }
        let clients = gauge(
            "weir_forward_clients",
            "Connections of clients to the forward proxy now",
        );
        clients.head(out);
        clients.sample(out, "", &[], self.clients);
        let refused = counter(
            "weir_forward_refused_total",
            "Connections and requests that the forward proxy did not serve",
        );
        refused.head(out);
        for (reason, count) in ForwardRefusal::ALL.iter().zip(self.refused) {
            refused.sample(out, "", &[("reason", reason.as_str())], count);
        }
        if let Some(fleet) = &self.fleet {
            fleet.encode(out);
        }
    }

    fn all(&self) -> impl Iterator<Item = (&str, HostTally)> {
        let others = std::iter::once((OTHER, self.others));
        self.hosts.iter().copied().chain(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Standing;

    #[test]
    fn hosts_are_named_and_the_rest_is_other() {
        let tally = |active| HostTally {
            active,
            sent_bytes: 7,
            ..HostTally::default()
        };
        let mut refused = [0; ForwardRefusal::ALL.len()];
        refused[ForwardRefusal::Forbidden as usize] = 3;
        let mut out = String::new();
        let forward = Forward {
            hosts: &[("a.example", tally(2))],
            others: tally(1),
            clients: 5,
            refused,
            fleet: Some(FleetCounters {
                full: 4,
                standing: Standing::Shared,
                fleet: 3,
                foreign: 1,
                ..FleetCounters::default()
            }),
        };
        forward.encode(&mut out);
        for line in [
            "# TYPE weir_forward_connections gauge",
            "weir_forward_connections{host=\"a.example\"} 2",
            "weir_forward_connections{host=\"other\"} 1",
            "weir_forward_bytes_total{host=\"a.example\",direction=\"sent\"} 7",
            "weir_forward_clients 5",
            "weir_forward_refused_total{reason=\"forbidden\"} 3",
            "weir_forward_refused_total{reason=\"draining\"} 0",
            "weir_forward_redis_asks_total{outcome=\"full\"} 4",
            "weir_forward_redis_standing{standing=\"shared\"} 1",
            "weir_forward_redis_standing{standing=\"away\"} 0",
            "weir_forward_redis_proxies{kind=\"weir\"} 2",
            "weir_forward_redis_proxies{kind=\"dprl\"} 1",
        ] {
            assert!(out.lines().any(|found| found == line), "{line}\n{out}");
        }
    }

    #[test]
    fn every_reason_has_its_place_and_its_own_label() {
        let mut seen = std::collections::BTreeSet::new();
        for (at, reason) in ForwardRefusal::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, at);
            assert!(seen.insert(reason.as_str()));
        }
    }
}
