//! What is measured: a load, and who has to bear it.

use super::peers::Peer;
use super::traffic::Fleet;

/// Connections of the scenarios that vary something else.
pub(super) const CONNECTIONS: usize = 64;

/// One kind of measurement.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Scenario {
    /// Every connection sends when it has its answer: saturation.
    Closed {
        /// Connections held open.
        connections: usize,
    },
    /// A constant rate, as a share of what weir answers at most with 64 connections.
    Open {
        /// In percent.
        percent: u32,
    },
    /// A closed loop over 10,000 buckets.
    Buckets,
    /// A closed loop before an upstream that ends a connection after so many requests.
    Churn {
        /// Requests.
        life: u64,
    },
    /// Many connections that have made one request each.
    Idle {
        /// Connections held open.
        connections: usize,
    },
}

impl Scenario {
    /// All, in the order in which a round goes through them.
    pub(super) fn list(connections: &[usize], idle: usize, life: u64) -> Vec<Self> {
        let closed = connections
            .iter()
            .map(|&connections| Self::Closed { connections });
        let open = [5, 50, 100].map(|percent| Self::Open { percent });
        let rest = [
            Self::Buckets,
            Self::Churn { life },
            Self::Idle { connections: idle },
        ];
        closed.chain(open).chain(rest).collect()
    }

    /// Its name in tables, in files and for `--only`.
    pub(super) fn name(self) -> String {
        match self {
            Self::Closed { connections } => format!("closed-{connections}"),
            Self::Open { percent } => format!("open-{percent}"),
            Self::Buckets => format!("buckets-{}", Fleet::LARGE.buckets()),
            Self::Churn { .. } => "churn".to_owned(),
            Self::Idle { connections } => format!("idle-{connections}"),
        }
    }

    /// What it is, in a sentence.
    pub(super) fn describe(self) -> String {
        match self {
            Self::Closed { connections } => {
                format!("closed loop, {connections} connections, as fast as they get answers")
            }
            Self::Open { percent } => format!(
                "open loop, {CONNECTIONS} connections, {percent} % of the rate that weir reaches in \
                 the closed loop; latency counts from the intended time"
            ),
            Self::Buckets => format!(
                "closed loop, {CONNECTIONS} connections, {} buckets",
                Fleet::LARGE.buckets()
            ),
            Self::Churn { life } => format!(
                "closed loop, {CONNECTIONS} connections; the upstream ends each of its own after \
                 {life} requests, half more or less"
            ),
            Self::Idle { connections } => {
                format!("{connections} connections that made one request each and stay")
            }
        }
    }

    /// Whether it asks something of this peer.
    pub(super) fn concerns(self, peer: Peer) -> bool {
        match self {
            Self::Closed { .. } => !matches!(peer, Peer::Direct | Peer::DirectApart),
            Self::Open { percent: 100 } => {
                matches!(
                    peer,
                    Peer::Weir | Peer::Weir2 | Peer::Nginx2 | Peer::Haproxy2
                )
            }
            Self::Open { .. } => true,
            Self::Buckets => matches!(peer, Peer::Weir | Peer::WeirEpoll | Peer::Weir2),
            Self::Churn { .. } => matches!(peer, Peer::Weir | Peer::Nginx | Peer::Haproxy),
            // The floor has neither a pool nor a limiter: what it keeps for a connection says nothing.
            Self::Idle { .. } => !matches!(
                peer,
                Peer::Relay
                    | Peer::Direct
                    | Peer::DirectApart
                    | Peer::Nginx2
                    | Peer::Haproxy2
                    | Peer::WeirRelayed
            ),
        }
    }

    /// Whose requests are sent.
    pub(super) fn fleet(self) -> Fleet {
        match self {
            Self::Buckets => Fleet::LARGE,
            Self::Closed { .. } | Self::Open { .. } | Self::Churn { .. } | Self::Idle { .. } => {
                Fleet::USUAL
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own_and_concerns_weir() {
        let list = Scenario::list(&[64, 8, 256], 10_000, 2000);
        let mut names: Vec<_> = list.iter().map(|s| s.name()).collect();
        assert!(names.contains(&"closed-8".to_owned()) && names.contains(&"open-5".to_owned()));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), list.len());
        assert!(list.iter().all(|s| s.concerns(Peer::Weir)));
    }
}
